/**
 * Spares a store that does not answer. After a few failures in a row questions fail at once, with the last sentence, and one
 * question at a time finds out whether the store is back. Frames of unknown MACs do not wait for a dead store then.
 */
import { BackOff } from '../../src/plugin/index.js';
import type { StoreHealth } from './health.js';
import { StoreTrouble } from './trouble.js';

/** Failures in a row before the gate closes. One answer that is lost is no outage. */
const FAILURES = 3;
/** The pauses of a closed gate. 10,000 hosts at 10 s are some 1800 questions a second. */
const BACK_OFF = { firstMs: 500, maxMs: 10_000 };

export class Gate {
  readonly #now: () => number;
  readonly #health: StoreHealth;
  readonly #onTrouble: (trouble: StoreTrouble) => void;
  readonly #backOff = new BackOff(BACK_OFF);
  #failures = 0;
  #trouble: StoreTrouble | undefined;
  #closedUntilMs = 0;

  constructor(now: () => number, health: StoreHealth, onTrouble: (trouble: StoreTrouble) => void) {
    this.#now = now;
    this.#health = health;
    this.#onTrouble = onTrouble;
  }

  /** Rejects as the question does, or with the last trouble while the gate is closed. */
  async pass<T>(question: () => Promise<T>): Promise<T> {
    if (this.#trouble !== undefined && this.#now() < this.#closedUntilMs) throw this.#trouble;
    // The others wait for the result of this one.
    if (this.#trouble !== undefined) this.#closedUntilMs = this.#now() + this.#backOff.ceilingMs;
    try {
      const value = await question();
      this.#failures = 0;
      this.#trouble = undefined;
      this.#backOff.reset();
      this.#health.restore('store');
      return value;
    } catch (error) {
      if (error instanceof StoreTrouble) this.#fail(error);
      throw error;
    }
  }

  #fail(trouble: StoreTrouble): void {
    this.#health.degrade('store', trouble.message);
    this.#onTrouble(trouble);
    if (!trouble.isOutage || (++this.#failures < FAILURES && trouble.retryAfterMs === 0)) return;
    this.#trouble = trouble;
    this.#closedUntilMs = this.#now() + Math.max(this.#backOff.next(), trouble.retryAfterMs);
  }
}
