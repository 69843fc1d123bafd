// Time that the simulation makes: a heap of events, and the globals of JavaScript that tell the time or wait, for as long as it
// is installed. So the code of varpd waits for its deadlines and pauses as ever, and no real time passes.
//
// Events of one moment happen in the order in which they were made, and all promises settle before time goes on.
import { randomFrom } from './random.js';

/** Moments are this far apart: what happens within is one moment, which saves the simulation most of its turns. */
const GRAIN_MS = 0.25;

interface Event {
  readonly atMs: number;
  readonly order: number;
  /** Undefined: it was called off. */
  run: (() => void) | undefined;
}

const real = { setImmediate };

export class Clock {
  nowMs = 0;
  readonly #heap: Event[] = [];
  #order = 0;
  /** Events so far. */
  count = 0;

  /** Runs `run` once, `afterMs` from now. */
  after(afterMs: number, run: () => void): Event {
    const atMs = Math.ceil((this.nowMs + Math.max(0, afterMs)) / GRAIN_MS) * GRAIN_MS;
    const event: Event = { atMs, order: this.#order++, run };
    this.#push(event);
    return event;
  }

  at(atMs: number, run: () => void): Event {
    return this.after(atMs - this.nowMs, run);
  }

  /** Lets time pass until nothing is left to happen, or until `untilMs`. */
  async run(untilMs = Infinity): Promise<void> {
    await settled();
    for (;;) {
      const event = this.#heap.at(0);
      if (event === undefined || event.atMs > untilMs) {
        // What has happened last may have set a timer that is due before `untilMs`.
        await settled();
        if (this.#heap.at(0) === event) break;
        continue;
      }
      if (event.atMs > this.nowMs) {
        await settled();
        if (this.#heap[0] !== event) continue;
        this.nowMs = event.atMs;
      }
      this.#pop();
      if (event.run === undefined) continue;
      this.count++;
      event.run();
    }
    if (untilMs < Infinity) this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** Makes this the time of the whole process, with numbers drawn from `seed`. Returns what ends that. */
  install(seed: number): () => void {
    const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis;
    const kept = { setTimeout, clearTimeout, setInterval, clearInterval };
    const { random } = Math;
    // `now` is inherited: what is put before it is taken away again.
    performance.now = () => this.nowMs;
    Math.random = randomFrom(seed);
    const timer =
      (again: boolean) =>
      (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
        new Timer(
          this,
          () => {
            run(...args);
          },
          ms,
          again,
        );
    const stop = (timer: unknown): void => {
      if (timer instanceof Timer) timer.stop();
    };
    Object.assign(globalThis, {
      setTimeout: timer(false),
      setInterval: timer(true),
      clearTimeout: stop,
      clearInterval: stop,
    });
    return () => {
      Object.assign(globalThis, kept);
      Math.random = random;
      delete (performance as { now?: unknown }).now;
    };
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(heap[parent], event)) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (isBefore(last, heap[child])) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = (one: Event, other: Event): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);

/** Every promise that can settle has settled. */
const settled = (): Promise<void> =>
  new Promise((resolve) => {
    real.setImmediate(resolve);
  });

/** What `setTimeout` and `setInterval` return. */
class Timer {
  #event: Event;

  constructor(clock: Clock, run: () => void, ms: number, again: boolean) {
    const turn = (): void => {
      if (again) this.#event = clock.after(Math.max(1, ms), turn);
      run();
    };
    this.#event = clock.after(Math.max(1, ms), turn);
  }

  stop(): void {
    this.#event.run = undefined;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
