/**
 * A clock that stands still until a test moves it, for the code of a plugin and for the part of varpd that calls it.
 *
 * The clock holds for code that runs inside it (`run`), and for everything that this code starts: its timers, promises and
 * listeners. There `setTimeout`, `setInterval`, their forms in node:timers and node:timers/promises, `AbortSignal.timeout`,
 * `Date` and `performance.now` have virtual time. All other code of the process, the test and its runner, keeps the real
 * time. Timers that Node itself starts, as for a connection, are real as well.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import nodeTimers from 'node:timers';
import timersPromises from 'node:timers/promises';
import { syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';

import { placeOf } from './places.js';

type Callback = (...args: unknown[]) => void;

const inside = new AsyncLocalStorage<VirtualClock>();

/** The functions that are replaced while a clock runs. */
const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  Date: globalThis.Date,
  now: performance.now.bind(performance),
  signalTimeout: AbortSignal.timeout.bind(AbortSignal),
  sleep: timersPromises.setTimeout,
};

/** The real time, whatever clock the caller is in: a monotonic clock, in milliseconds. */
export const realNowMs = (): number => real.now();

/** Waits in real time. */
export const realSleep = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    real.setTimeout(resolve, ms);
  });

/** A timer of a virtual clock: the part of Node's Timeout that programs use. */
class VirtualTimer {
  dueMs: number;

  constructor(
    readonly clock: VirtualClock,
    readonly call: () => void,
    readonly delayMs: number,
    readonly repeats: boolean,
    /** Place of the call that has set the timer. */
    readonly place: string,
  ) {
    this.dueMs = clock.nowMs + delayMs;
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

  refresh(): this {
    this.dueMs = this.clock.nowMs + this.delayMs;
    this.clock.add(this);
    return this;
  }

  close(): this {
    this.clock.remove(this);
    return this;
  }
}

export class VirtualClock {
  #nowMs = 0;
  readonly #epochMs = real.Date.now();
  readonly #timers = new Set<VirtualTimer>();
  /** Gets what a timer of the plugin has thrown. */
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
    install();
  }

  /** Milliseconds since the clock was made. */
  get nowMs(): number {
    return this.#nowMs;
  }

  get epochNowMs(): number {
    return this.#epochMs + this.#nowMs;
  }

  /** Runs code inside the clock. */
  run<T>(code: () => T): T {
    return inside.run(this, code);
  }

  /** Places of the calls that have set the timers which are still to come. */
  get pending(): readonly string[] {
    return [...this.#timers].map(({ place }) => place);
  }

  /** Time of the next timer; undefined without one. */
  get nextMs(): number | undefined {
    let nextMs: number | undefined;
    for (const { dueMs } of this.#timers) if (nextMs === undefined || dueMs < nextMs) nextMs = dueMs;
    return nextMs;
  }

  /** Moves the time to `ms`, which is not before now, and calls the timers that are due by then. */
  moveTo(ms: number): void {
    this.#nowMs = Math.max(this.#nowMs, ms);
    const due = [...this.#timers].filter(({ dueMs }) => dueMs <= this.#nowMs);
    for (const timer of due.sort((one, other) => one.dueMs - other.dueMs)) {
      if (!this.#timers.has(timer)) continue;
      if (timer.repeats) timer.dueMs = this.#nowMs + Math.max(1, timer.delayMs);
      else this.#timers.delete(timer);
      try {
        timer.call();
      } catch (error) {
        this.#onError(error);
      }
    }
  }

  add(timer: VirtualTimer): void {
    this.#timers.add(timer);
  }

  remove(timer: VirtualTimer): void {
    this.#timers.delete(timer);
  }

  /** The timers that are left are never called. The real functions are back once the last clock has ended. */
  end(): void {
    this.#timers.clear();
    uninstall();
  }
}

let installed = 0;

/** The clock of the caller; undefined outside of one, and for timers that Node sets for itself. */
function clockOf(place: string | undefined): VirtualClock | undefined {
  return place === undefined || place.startsWith('node:') ? undefined : inside.getStore();
}

function setVirtual(repeats: boolean) {
  const fallback = repeats ? real.setInterval : real.setTimeout;
  const set = (callback: Callback, ms?: number, ...args: unknown[]): unknown => {
    if (inside.getStore() === undefined) return fallback(callback, ms, ...args);
    const place = placeOf(set);
    const clock = clockOf(place);
    if (clock === undefined || place === undefined) return fallback(callback, ms, ...args);
    // Timers of Node are called in the asynchronous context of the call that has set them.
    const call = AsyncLocalStorage.bind(() => {
      callback(...args);
    });
    const timer = new VirtualTimer(clock, call, Math.max(1, Number(ms) || 1), repeats, place);
    clock.add(timer);
    return timer;
  };
  // util.promisify(setTimeout)
  return repeats ? set : Object.assign(set, { [promisify.custom]: sleep });
}

function clearVirtual(fallback: (timer: NodeJS.Timeout | undefined) => void) {
  return (timer: unknown): void => {
    if (timer instanceof VirtualTimer) timer.close();
    else fallback(timer as NodeJS.Timeout | undefined);
  };
}

/** setTimeout of node:timers/promises. */
function sleep<T>(ms?: number, value?: T, options: { signal?: AbortSignal; ref?: boolean } = {}): Promise<T> {
  const clock = inside.getStore();
  if (clock === undefined) return real.sleep<T>(ms, value, options);
  const place = placeOf(sleep) ?? '';
  return new Promise((resolve, reject) => {
    const { signal } = options;
    const timer = new VirtualTimer(
      clock,
      () => {
        signal?.removeEventListener('abort', abort);
        resolve(value as T);
      },
      Math.max(1, Number(ms) || 1),
      false,
      place,
    );
    const abort = (): void => {
      timer.close();
      reject(abortError(signal));
    };
    if (signal?.aborted === true) {
      abort();
      return;
    }
    signal?.addEventListener('abort', abort, { once: true });
    clock.add(timer);
  });
}

/** The error of Node for a timer that its signal has ended. */
function abortError(signal: AbortSignal | undefined): Error {
  const cause: unknown = signal?.reason;
  return Object.assign(new Error('The operation was aborted', { cause }), {
    name: 'AbortError',
    code: 'ABORT_ERR',
  });
}

function signalTimeout(ms: number): AbortSignal {
  const clock = inside.getStore();
  if (clock === undefined) return real.signalTimeout(ms);
  const controller = new AbortController();
  const abort = (): void => {
    controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
  };
  // A signal that nothing waits for is no leak, as its real timer keeps no process alive.
  const timer = new VirtualTimer(clock, abort, ms, false, '');
  clock.add(timer);
  return controller.signal;
}

const VirtualDate: DateConstructor = new Proxy(real.Date, {
  construct: (target, args: unknown[], newTarget): object => {
    const clock = inside.getStore();
    const given = args.length === 0 && clock !== undefined ? [clock.epochNowMs] : args;
    return Reflect.construct(target, given, newTarget === VirtualDate ? target : newTarget) as object;
  },
  get: (target, name) =>
    name === 'now'
      ? () => inside.getStore()?.epochNowMs ?? real.Date.now()
      : (Reflect.get(target, name) as unknown),
});

function install(): void {
  if (installed++ > 0) return;
  const timers = {
    setTimeout: setVirtual(false),
    setInterval: setVirtual(true),
    clearTimeout: clearVirtual(real.clearTimeout),
    clearInterval: clearVirtual(real.clearInterval),
  };
  Object.assign(globalThis, timers, { Date: VirtualDate });
  Object.assign(nodeTimers, timers);
  Object.assign(timersPromises, { setTimeout: sleep });
  Object.assign(AbortSignal, { timeout: signalTimeout });
  performance.now = () => inside.getStore()?.nowMs ?? real.now();
  syncBuiltinESMExports();
}

function uninstall(): void {
  if (--installed > 0) return;
  const { setTimeout, clearTimeout, setInterval, clearInterval } = real;
  const timers = { setTimeout, clearTimeout, setInterval, clearInterval };
  Object.assign(globalThis, timers, { Date: real.Date });
  Object.assign(nodeTimers, timers);
  Object.assign(timersPromises, { setTimeout: real.sleep });
  Object.assign(AbortSignal, { timeout: real.signalTimeout });
  performance.now = real.now;
  syncBuiltinESMExports();
}
