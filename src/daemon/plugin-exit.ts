/**
 * A plugin cannot end varpd: `process.exit` and `process.abort` out of its code throw, and the error is its own trouble like
 * any other. This guards against habits, not malice: a plugin has the rights of the process it runs in.
 */
import { runningPlugin } from './plugin-host.js';

/** Returns the real exit, for the daemon itself. */
export function forbidPluginExit(): (status: number) => never {
  const exit = process.exit.bind(process);
  const abort = process.abort.bind(process);
  const guarded =
    <Args extends unknown[]>(name: string, real: (...args: Args) => never) =>
    (...args: Args): never => {
      if (runningPlugin.getStore() === undefined) return real(...args);
      throw new Error(`called process.${name}, which plugins may not`);
    };
  process.exit = guarded('exit', exit);
  process.abort = guarded('abort', abort);
  return exit;
}
