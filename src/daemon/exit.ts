/**
 * The end of the process. `process.exit` of Node waits for all threads, and a thread in a system call or in a
 * plugin's endless loop never ends. Here nothing is waited for: varpd has done all work of its end before.
 */
import { leaveNow } from '../dgram-extra/index.js';

/** Taken before a plugin can replace it. */
const exit = process.exit.bind(process);
let hasBegun = false;

/** The function that `process.exit` calls last. */
export interface ReallyExit {
  reallyExit: (status?: number) => never;
}

/** From now on `process.exit` ends the process whatever its threads do. Its listeners are called as ever. */
export function makeExitCertain(): void {
  // Test tools replace `reallyExit` too.
  (process as unknown as ReallyExit).reallyExit = (status = 0) => leaveNow(status);
}

/** The only way by which varpd ends itself, also when plugins are loaded. */
export function endProcess(status: number): never {
  hasBegun = true;
  return exit(status);
}

/** Whether varpd itself has called `endProcess`. */
export const isEnding = (): boolean => hasBegun;
