/** A clock that runs while the thread could run: a busy host does not make a plugin slow. */
import { openSync, readSync } from 'node:fs';

import { realNowMs } from './virtual-clock.js';

/** Time on a processor and time of waiting for one, both in nanoseconds, of the thread that opens it (proc(5)). */
const FILE = '/proc/thread-self/schedstat';
const NS_PER_MS = 1e6;

const bytes = Buffer.alloc(64);
const descriptor = ((): number | undefined => {
  try {
    return openSync(FILE, 'r');
  } catch {
    // The kernel does not tell it, or is another one than Linux.
    return undefined;
  }
})();

function waitedMs(): number {
  if (descriptor === undefined) return 0;
  const [, waitedNs] = bytes
    .toString('latin1', 0, readSync(descriptor, bytes, 0, bytes.length, 0))
    .split(' ');
  return Number(waitedNs) / NS_PER_MS;
}

/** Milliseconds: the real time less that in which the thread waited for a processor. */
export const threadNowMs = (): number => realNowMs() - waitedMs();
