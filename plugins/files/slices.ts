/** Long work on the control thread, in slices: whoever asks for something in between is answered. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** A lookup waits for one slice at most; shorter ones spend the time on turns of the event loop. */
const SLICE_MS = 4;

/** Runs to the end, with a pause at the next `yield` once a slice is over. Rejects when the signal is aborted. */
export async function inSlices<T>(work: Generator<undefined, T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    signal?.throwIfAborted();
    const endMs = performance.now() + SLICE_MS;
    do {
      const step = work.next();
      if (step.done === true) return step.value;
    } while (performance.now() < endMs);
    await nextTurn();
  }
}

/** The same without a pause. */
export function atOnce<T>(work: Generator<undefined, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
