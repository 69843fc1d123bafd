/**
 * Calls of one instance in their order. A short call is carried out at once. A long one takes slices of the control
 * thread, and the calls behind it wait for it.
 */
import { inSlices } from '../mapping/slices.js';

/** A list that waits is some hundred rows, and as objects costs the garbage collector as much as so many short calls. */
const LONG_CALLS = 128;

export class CallOrder {
  #last: Promise<unknown> | undefined;
  #waiting = 0;

  /** Number of calls that are not carried out yet; a long one counts as LONG_CALLS. A caller that makes very many should
   * wait while it is large. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Carries out a short call: now, or behind the calls that wait. `fail` gets the error of a call that had to wait. */
  short(call: () => void, fail: (error: unknown) => void): void {
    if (this.#last === undefined) call();
    else this.#behind(() => Promise.resolve().then(call)).catch(fail);
  }

  /** Carries out a long call behind the calls that wait. Rejects with what it throws. */
  long<T>(work: () => Generator<undefined, T>): Promise<T> {
    return this.#behind(() => inSlices(work()), LONG_CALLS);
  }

  /** Carries out a call that has slices of its own. */
  own<T>(call: () => Promise<T>): Promise<T> {
    return this.#behind(call);
  }

  #behind<T>(call: () => Promise<T>, weight = 1): Promise<T> {
    this.#waiting += weight;
    const done = (this.#last ?? Promise.resolve()).then(call);
    const last = done
      .catch(() => undefined)
      .then(() => {
        this.#waiting -= weight;
        if (this.#last === last) this.#last = undefined;
      });
    this.#last = last;
    return done;
  }
}
