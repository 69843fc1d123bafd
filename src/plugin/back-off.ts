/**
 * Pauses between attempts to reach a service that many hosts use.
 *
 * When a store restarts, thousands of hosts lose it in the same moment. If each tried again after the same pause, they
 * would all come back in the same moment, and again after the next pause. So a pause grows with each failure, and a
 * random part of it spreads the hosts over the whole pause.
 */

/** Below this part of its ceiling a pause is never: one host alone must not try again at once. */
const LEAST_PART = 0.1;

export interface BackOffOptions {
  /** Ceiling of the pause after the first failure. Default 1 s. */
  readonly firstMs?: number;
  /** Highest ceiling. Default 60 s. */
  readonly maxMs?: number;
  /** Returns a number from 0 to 1, exclusive. Default `Math.random`. */
  readonly random?: () => number;
}

/**
 * One series of attempts. The ceiling of the pause doubles with each failure, up to `maxMs`. The pause itself is a random
 * part of the ceiling, from a tenth to the whole of it.
 *
 *   const backOff = new BackOff();
 *   setTimeout(connect, backOff.next());     after a failure
 *   backOff.reset();                         once the connection has proven good, not as soon as it is open
 */
export class BackOff {
  readonly #firstMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #ceilingMs: number;

  constructor({ firstMs = 1000, maxMs = 60_000, random = () => Math.random() }: BackOffOptions = {}) {
    if (!(firstMs > 0 && maxMs >= firstMs && maxMs < Infinity))
      throw new RangeError(
        `back-off from ${firstMs} to ${maxMs} ms: 0 < firstMs <= maxMs < Infinity was expected`,
      );
    this.#firstMs = firstMs;
    this.#maxMs = maxMs;
    this.#random = random;
    this.#ceilingMs = firstMs;
  }

  /** Notes a failure. Returns the pause before the next attempt, in ms. */
  next(): number {
    const pauseMs = spread(this.#ceilingMs, this.#random);
    this.#ceilingMs = Math.min(this.#maxMs, 2 * this.#ceilingMs);
    return pauseMs;
  }

  /** The ceiling of the next pause, in ms. */
  get ceilingMs(): number {
    return this.#ceilingMs;
  }

  /** Makes the next pause a first one. */
  reset(): void {
    this.#ceilingMs = this.#firstMs;
  }
}

/** Returns a random time from a tenth of `ms` to `ms`: for work that all hosts would do in the same moment otherwise. */
export function spread(ms: number, random: () => number = () => Math.random()): number {
  return ms * (LEAST_PART + (1 - LEAST_PART) * random());
}
