/** Makes several changes as if they were one: when a later one fails, the earlier ones are taken back. */

type Step = () => unknown;

export class UndoStack {
  readonly #steps: Step[] = [];

  /**
   * Adds a step that takes back the change just made. It may return a promise. It may fail, which is reported
   * and stops nothing.
   */
  push(step: Step): void {
    this.#steps.push(step);
  }

  /** Takes the changes back, the last one first. */
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

/** Does all of `work`, or nothing of it: rejects with its error, after undoing. */
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
