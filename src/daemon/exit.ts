/**
 * The end of the process. `process.exit` of Node waits for all threads, and a thread in a system call may never
 * end. Here nothing is waited for: varpd has done all work of its end before.
 */
import { leaveNow } from '../dgram-extra/index.js';

/** The function that `process.exit` calls last. */
export interface ReallyExit {
  reallyExit: (status?: number) => never;
}

/** From now on `process.exit` ends the process whatever its threads do. Its listeners are called as ever. */
export function makeExitCertain(): void {
  // Test tools replace `reallyExit` too.
  (process as unknown as ReallyExit).reallyExit = (status = 0) => leaveNow(status);
}

/** The only way by which varpd ends itself. */
export function endProcess(status: number): never {
  return process.exit(status);
}
