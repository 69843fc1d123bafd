/**
 * The alarms of a datapath thread: work that is due at a time and not because of a frame. Each overlay has one, for the
 * earliest of its targets that the plugin is to be asked about (refresher.ts).
 */
import { NONE } from '../tables/mac-index.js';
import { TickHeap } from '../tables/tick-heap.js';
import { TICK_MS } from '../tables/ticks.js';

/** Alarms of one turn: some 0.2 ms. */
const MAX_WAKES = 64;
/** Longest wait, since epoll takes 32 bits of milliseconds. */
const MAX_WAIT_MS = 3_600_000;

/** Does what is due. */
export interface Sleeper {
  /** Does one bounded piece of work. Sets the next alarm if there is more. */
  wake(nowTick: number): void;
}

export class Alarms {
  readonly #due = new TickHeap();
  readonly #sleepers: (Sleeper | undefined)[] = [];
  readonly #free: number[] = [];

  /** Returns the number of the sleeper's alarm. */
  add(sleeper: Sleeper): number {
    const number = this.#free.pop() ?? this.#sleepers.length;
    this.#sleepers[number] = sleeper;
    return number;
  }

  remove(number: number): void {
    this.#due.delete(number);
    this.#sleepers[number] = undefined;
    this.#free.push(number);
  }

  /** Sets the alarm to this tick; undefined: to none. */
  set(number: number, tick: number | undefined): void {
    if (tick === undefined) this.#due.delete(number);
    else this.#due.set(number, tick);
  }

  isDue(nowTick: number): boolean {
    const { first } = this.#due;
    return first !== NONE && ((this.#due.tick(first) - nowTick) | 0) <= 0;
  }

  /** Returns the milliseconds until the next alarm; -1 if there is none. */
  waitMs(nowTick: number): number {
    const { first } = this.#due;
    if (first === NONE) return -1;
    return Math.min(Math.max(0, (this.#due.tick(first) - nowTick) | 0) * TICK_MS, MAX_WAIT_MS);
  }

  /** Wakes the sleepers that are due, as many as one turn may: the others are still due. */
  run(nowTick: number): void {
    for (let wakes = 0; wakes < MAX_WAKES && this.isDue(nowTick); wakes++) {
      const { first } = this.#due;
      this.#due.delete(first);
      this.#sleepers[first]?.wake(nowTick);
    }
  }
}
