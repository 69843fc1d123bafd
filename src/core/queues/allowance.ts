/** A token bucket: an amount per second, and a burst on top. Time is the clock of its datapath thread. */
import { TICK_MS } from '../tables/target-table.js';

export interface Rate {
  readonly perSecond: number;
  /** The amount that may be taken at once after a pause. */
  readonly burst: number;
}

export class Allowance {
  readonly #clock: { readonly nowTick: number };
  readonly #perTick: number;
  readonly #burst: number;
  #left: number;
  #tick: number;

  constructor(clock: { readonly nowTick: number }, { perSecond, burst }: Rate) {
    this.#clock = clock;
    this.#perTick = (perSecond * TICK_MS) / 1000;
    this.#burst = burst;
    this.#left = burst;
    this.#tick = clock.nowTick;
  }

  /** Returns one that has as much left, and takes nothing from this one. */
  copy(): Allowance {
    const perSecond = (this.#perTick * 1000) / TICK_MS;
    const copy = new Allowance(this.#clock, { perSecond, burst: this.#burst });
    copy.imitate(this);
    return copy;
  }

  /** Has as much left as `other`, which is of the same rate, from now on. */
  imitate(other: Allowance): void {
    this.#left = other.#left;
    this.#tick = other.#tick;
  }

  /** Takes `amount` if all of it is left, else nothing. Returns whether it was taken. */
  take(amount = 1): boolean {
    const { nowTick } = this.#clock;
    if (nowTick !== this.#tick) {
      const passed = Math.max(0, (nowTick - this.#tick) | 0);
      this.#left = Math.min(this.#burst, this.#left + passed * this.#perTick);
      this.#tick = nowTick;
    }
    if (amount > this.#left) return false;
    this.#left -= amount;
    return true;
  }
}
