/**
 * The io_uring rings with which datapath threads read (dgram-extra/ring.h). A process that has limited its
 * system calls cannot make rings. So they are made first, one for each thread that this machine can use, and
 * their descriptors are inherited by each process that this one becomes. A thread without a ring reads its
 * frames one by one.
 */
import { availableParallelism } from 'node:os';
import { isAnonymous, openRing, type Ring, RING_WORDS, setInheritable } from '../../../dgram-extra/index.js';
import { MAX_QUEUES } from '../../../model/overlay-specs.js';

let rings: readonly Ring[] = [];
/** Rings that no thread has. */
let free: Ring[] = [];

/** Takes the rings that the previous process left (`leaveRings`), or makes new ones if this process may. */
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

/** Returns the rings as text for the process that this one is about to become, or that it starts as the
 * daemon: for each ring its descriptor and the kernel's parameters. Undefined if there is none. */
export function leaveRings(): string | undefined {
  if (rings.length === 0) return undefined;
  for (const { fd } of rings) setInheritable(fd, true);
  return rings.map(({ fd, params }) => [fd, ...params].join(':')).join(',');
}

/** Takes a ring for one thread, until that thread has ended. */
export const takeRing = (): Ring | undefined => free.shift();

export function returnRing(ring: Ring | undefined): void {
  if (ring !== undefined) free.push(ring);
}
