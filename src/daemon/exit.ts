/**
 * The end of the process. Node's waits for each thread to come round, and one in a system call or in a plugin's endless
 * loop never does. There is nothing to wait for: what varpd wants done at its end is done before.
 */
import { leaveNow } from '../dgram-extra/index.js';

/** Before anybody replaces it. */
const exit = process.exit.bind(process);
let hasBegun = false;

/** What `process.exit` calls last. */
export interface ReallyExit {
  reallyExit: (status?: number) => never;
}

/** From now on `process.exit` ends the process whatever its threads do. Its listeners are called as ever. */
export function makeExitCertain(): void {
  // The last thing that process.exit calls; test tools replace it too.
  (process as unknown as ReallyExit).reallyExit = (status = 0) => leaveNow(status);
}

/** The one way by which varpd ends itself, also when plugins are loaded. */
export function endProcess(status: number): never {
  hasBegun = true;
  return exit(status);
}

/** varpd itself has called `endProcess`. */
export const isEnding = (): boolean => hasBegun;
