/** Divides long work on the control thread into slices. Between two slices the thread does other work, such as lookups. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** A lookup waits for one slice at most. Shorter slices would cost too many turns of the event loop. */
const SLICE_MS = 4;

/** Runs the work to its end, and pauses at the first `yield` after each slice. Rejects when the signal is aborted. */
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

/** Runs the work to its end without a pause. */
export function atOnce<T>(work: Generator<undefined, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
