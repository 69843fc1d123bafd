/** Long work on the control thread, in slices, so that other requests are answered in between. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Length of a slice: a question of a datapath thread waits for one at most. */
const SLICE_MS = 2;

/** Runs the work to its end, with a pause at the first `yield` after each slice. If the work has become
 * needless, ends it with `return`. */
export async function inSlices(work: Generator<undefined, void>, isNeedless: () => boolean): Promise<void> {
  while (!isNeedless()) {
    const endMs = performance.now() + SLICE_MS;
    do if (work.next().done === true) return;
    while (performance.now() < endMs);
    await nextTurn();
  }
  work.return();
}
