/** Long work on the control thread, in slices: whoever asks for something in between is answered. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** A question of a datapath thread waits for one slice at most. */
const SLICE_MS = 2;

/** To the end, with a pause at the next `yield` once a slice is over; or until it has become needless, which is told to
 * the work as a `return`. */
export async function inSlices(work: Generator<undefined, void>, isNeedless: () => boolean): Promise<void> {
  while (!isNeedless()) {
    const endMs = performance.now() + SLICE_MS;
    do if (work.next().done === true) return;
    while (performance.now() < endMs);
    await nextTurn();
  }
  work.return();
}
