/** Makes several changes as if they were one: when a later one fails, the earlier ones are taken back. */
import { asOverlayError } from '../model/errors.js';
import type { Log } from './log.js';

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

/** Report for `allOrNothing`: logs a change that could not be taken back. */
export function undoFailed(log: Pick<Log, 'error'>): (error: unknown) => void {
  return (error) => {
    log.error('undo', `cannot take back a change: ${asOverlayError(error).message}`);
  };
}

/** Runs work for one key in the order of the calls; work for different keys runs side by side. */
export class KeyedQueue {
  readonly #last = new Map<string, Promise<unknown>>();
  #frozen: Promise<void> | undefined;

  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    if (this.#frozen !== undefined) return new Promise(() => undefined);
    const before = this.#last.get(key) ?? Promise.resolve();
    const result = before.then(work);
    const last = result
      .catch(() => undefined)
      .then(() => {
        if (this.#last.get(key) === last) this.#last.delete(key);
      });
    this.#last.set(key, last);
    return result;
  }

  /** Resolves when no work is under way; no further work begins. */
  freeze(): Promise<void> {
    this.#frozen ??= Promise.all(this.#last.values()).then(() => undefined);
    return this.#frozen;
  }
}
