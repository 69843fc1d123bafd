/** Divides long work of a plugin into slices. Between two slices its process answers lookups. */
import { setImmediate as nextTurn } from 'node:timers/promises';

const SLICE_MS = 4;
/** Steps between two looks at the clock. */
const STEPS = 64;

/** Calls `step` for every item, and pauses after each slice. Rejects when the signal is aborted. */
export async function inSlices<T>(
  items: Iterable<T>,
  step: (item: T) => void,
  signal?: AbortSignal,
): Promise<void> {
  let endMs = performance.now() + SLICE_MS;
  let steps = 0;
  for (const item of items) {
    step(item);
    if (++steps % STEPS !== 0 || performance.now() < endMs) continue;
    await nextTurn();
    signal?.throwIfAborted();
    endMs = performance.now() + SLICE_MS;
  }
}
