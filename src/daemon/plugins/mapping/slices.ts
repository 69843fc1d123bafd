/**
 * Long work for plugins on the control thread, in slices. All plugins share them: a turn of the event loop has one
 * slice, whatever the number of plugins with work, so that a lookup of another overlay waits for one slice at most.
 */

/** Length of a slice. Shorter ones would cost too many turns of the event loop. */
const SLICE_MS = 2;

/** Takes one step of a work. Returns true when the work is over. */
type Step = () => boolean;

const waiting: Step[] = [];

/** Runs the work to its end; a pause is possible at each `yield`. Rejects with what the work throws. */
export function inSlices<T>(work: Generator<undefined, T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail: (error: unknown) => void = reject;
    waiting.push(() => {
      try {
        const step = work.next();
        if (step.done === true) resolve(step.value);
        return step.done === true;
      } catch (error) {
        fail(error);
        return true;
      }
    });
    if (waiting.length === 1) setImmediate(slice);
  });
}

/** Steps of the first work until the time is over; the works behind it get what is left of the time. */
function slice(): void {
  const endMs = performance.now() + SLICE_MS;
  do if (waiting[0]()) waiting.shift();
  while (waiting.length > 0 && performance.now() < endMs);
  const unfinished = waiting.shift();
  if (unfinished === undefined) return;
  waiting.push(unfinished);
  setImmediate(slice);
}
