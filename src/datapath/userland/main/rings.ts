/**
 * The rings with which datapath threads read (dgram-extra/ring.h). A process that has limited its system calls can make
 * none, so they are made first, one for each thread that this machine has a use for, and their descriptors are left to each
 * process that this one becomes. A thread without one reads its frames one by one.
 */
import { availableParallelism } from 'node:os';
import { isAnonymous, openRing, type Ring, RING_WORDS, setInheritable } from '../../../dgram-extra/index.js';
import { MAX_QUEUES } from '../../../model/overlay-specs.js';

let rings: readonly Ring[] = [];
/** Of which no thread has one. */
let free: Ring[] = [];

/** What the process before has left (`leaveRings`), or rings of our own, where this process may make them. */
export function openRings(left?: string): void {
  const inherited = (left ?? '')
    .split(',')
    .map(readRing)
    .filter((ring) => ring !== undefined);
  rings = inherited.length > 0 ? inherited : makeRings();
  for (const { fd } of rings) setInheritable(fd, false);
  free = [...rings];
}

function makeRings(): Ring[] {
  const count = Math.min(MAX_QUEUES, availableParallelism());
  return Array.from({ length: count }, openRing).filter((ring) => ring !== undefined);
}

function readRing(text: string): Ring | undefined {
  const [fd, ...params] = text.split(':').map(Number);
  const isWhole = params.length === RING_WORDS && params.every((word) => Number.isSafeInteger(word));
  return isWhole && isAnonymous(fd, '[io_uring]') ? { fd, params: Int32Array.from(params) } : undefined;
}

/** For the process that this one is about to become, or starts to be the daemon: each ring's descriptor and what the kernel has said of
 * it. Undefined where there is none. */
export function leaveRings(): string | undefined {
  if (rings.length === 0) return undefined;
  for (const { fd } of rings) setInheritable(fd, true);
  return rings.map(({ fd, params }) => [fd, ...params].join(':')).join(',');
}

/** For one thread alone, until it has ended. */
export const takeRing = (): Ring | undefined => free.shift();

export function returnRing(ring: Ring | undefined): void {
  if (ring !== undefined) free.push(ring);
}
