/** Changes of the daemon one after the other, and the report of one that could not be taken back (model/undo.ts). */
import { inBackground } from '../model/background.js';
import { asOverlayError } from '../model/errors.js';
import type { Log } from './log.js';

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

  /** Work for `to` that comes from now on waits for the work that `from` has now. */
  follow(to: string, from: string): void {
    const before = this.#last.get(from);
    inBackground(
      `work after that of ${from}`,
      this.run(to, () => Promise.resolve(before)),
    );
  }

  /** Resolves when no work is under way; no further work begins. */
  freeze(): Promise<void> {
    this.#frozen ??= Promise.all(this.#last.values()).then(() => undefined);
    return this.#frozen;
  }
}
