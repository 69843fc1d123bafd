/**
 * A plugin cannot end varpd: what would end the process throws, and the error is the plugin's own trouble like any other.
 * varpd itself ends by `endProcess` alone, so whoever calls these is a plugin, or something that it brought along, even
 * where nobody can tell whose code is running. This guards against habits, not malice: a plugin has the rights of the
 * process it runs in.
 */
import { isEnding } from '../exit.js';
import { signed } from './plugin-context.js';

/** Those that end the process that calls them. Not all are in the types, nor in every Node. */
const ENDS = ['exit', 'abort', 'reallyExit', 'execve'] as const;

type Call = (...args: unknown[]) => unknown;

/** From now on, whoever calls. */
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

/** kill(2): itself, its process group, everybody. Another group may be one that a plugin has started. */
function reachesItself(pid: unknown): boolean {
  const target = Number(pid);
  return [process.pid, -process.pid, 0, -1].includes(target);
}

function refusal(what: string): Error {
  return signed(new Error(`called ${what}, which plugins may not`));
}
