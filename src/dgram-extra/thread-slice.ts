/** The slice of a thread: for how long it runs before others of its priority do. */
import { addon } from './addon.js';

/** The shortest slice that the kernel takes. */
const SLICE_MICROSECONDS = 100;

/**
 * Gives the calling thread the shortest slice, so that it runs sooner when it wakes, also while other threads of this process keep
 * all processors busy. Without the right to do so, and before Linux 6.12, the slice stays as it is. Never throws.
 */
export function shortenSlice(): void {
  addon.threadSlice(SLICE_MICROSECONDS);
}
