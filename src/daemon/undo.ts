/** Making several changes as if they were one: when a later one fails, the earlier ones are taken back. */

type Step = () => unknown;

export class UndoStack {
  readonly #steps: Step[] = [];

  /** How to take back what was just done. May return a promise; may fail, which is reported and stops nothing. */
  push(step: Step): void {
    this.#steps.push(step);
  }

  /** Last done, first undone. */
  async unwind(report: (error: unknown) => void): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        report(error);
      }
    }
  }
}

/** All of `work`, or nothing of it: rejects with its error, after undoing. */
export async function allOrNothing<T>(
  work: (undo: UndoStack) => Promise<T>,
  report: (error: unknown) => void,
): Promise<T> {
  const undo = new UndoStack();
  try {
    return await work(undo);
  } catch (error) {
    await undo.unwind(report);
    throw error;
  }
}

/** One at a time, in the order asked for. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
