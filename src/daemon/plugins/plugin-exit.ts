/**
 * A plugin cannot end varpd. A call that would end the process throws instead, and the error is the plugin's
 * own trouble like any other. varpd itself ends by `endProcess` alone, so every other caller is a plugin or a
 * package of one, even where its context is unknown. This guards against habits, not malice: a plugin has the
 * rights of the process that it runs in.
 */
import { isEnding } from '../exit.js';
import { signed } from './plugin-context.js';

/** Functions that end the calling process. Not all are in the types, nor in every Node. */
const ENDS = ['exit', 'abort', 'reallyExit', 'execve'] as const;

type Call = (...args: unknown[]) => unknown;

/** From now on these calls throw, in every context. */
export function forbidPluginExit(): void {
  const calls = process as unknown as Record<string, Call | undefined>;
  for (const name of ENDS) {
    const real = calls[name]?.bind(process);
    if (real === undefined) continue;
    calls[name] = (...args) => {
      if (isEnding()) return real(...args);
      throw refusal(`process.${name}`);
    };
  }
  const kill = process.kill.bind(process);
  process.kill = (pid, signal) => {
    if (reachesItself(pid) && signal !== 0) throw refusal('process.kill with its own process');
    return kill(pid, signal);
  };
}

/**
 * Whether a signal to `pid` reaches this process (kill(2)): its own id, its process group, or all processes.
 * Another group may be one that a plugin has started.
 */
function reachesItself(pid: unknown): boolean {
  const target = Number(pid);
  return [process.pid, -process.pid, 0, -1].includes(target);
}

function refusal(what: string): Error {
  return signed(new Error(`called ${what}, which a plugin must not do`));
}
