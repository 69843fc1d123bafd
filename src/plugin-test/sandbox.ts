/**
 * The surroundings of a plugin under test: a clock that stands still (virtual-clock.ts), and watches over what it opens
 * (leaks.ts) and what it says and does (watched.ts).
 */
import { fileURLToPath } from 'node:url';

import { systemErrorText } from '../daemon/system-error.js';
import { forbidExit, runForbidden } from './exits.js';
import { HandleWatch } from './leaks.js';
import { type Quiet, untilQuiet } from './quiet.js';
import { VirtualClock } from './virtual-clock.js';
import { Watch } from './watched.js';

/** Virtual time after which nothing is waited for. */
const NO_ANSWER_MS = 3_600_000;
/** The directory of varpd: the timers that varpd itself has set are not the plugin's. */
const VARPD = fileURLToPath(new URL('../', import.meta.url));

export class Sandbox {
  readonly watch = new Watch((code) => this.inside(code));
  readonly #clock: VirtualClock;
  readonly #handles = new HandleWatch();
  readonly #quiet: Quiet;
  readonly #allowExit = forbidExit();
  readonly #onTime: (nowMs: number) => void;

  /** `pump` moves frames and messages, and returns whether any moved. `onTime` is told the virtual time when it has moved. */
  constructor(pump: () => boolean, onTime: (nowMs: number) => void) {
    this.#onTime = onTime;
    this.#clock = new VirtualClock((error) => {
      this.watch.note('timer', `a timer of the plugin has thrown: ${systemErrorText(error)}`);
    });
    this.#quiet = {
      pump: () => this.inside(pump),
      held: (ms) => {
        this.watch.held('a turn', ms);
      },
      work: () => this.#handles.work,
      calls: () => this.watch.open.length,
      silent: new Set(),
    };
  }

  /** Virtual time since the sandbox was made, in milliseconds. */
  get nowMs(): number {
    return this.#clock.nowMs;
  }

  /** Runs code of the plugin, or code that calls it. */
  inside<T>(code: () => T): T {
    return this.#clock.run(() => this.#handles.run(() => runForbidden(this.#onExit, code)));
  }

  /** Resolves when nothing more happens without virtual time. */
  async settle(): Promise<void> {
    await untilQuiet(this.#quiet, () => false);
  }

  /** Resolves once `isDone`. Virtual time moves on when nothing else happens. Returns false when nothing is left to wait for. */
  async until(isDone: () => boolean): Promise<boolean> {
    const limitMs = this.#clock.nowMs + NO_ANSWER_MS;
    while (!(await untilQuiet(this.#quiet, isDone))) {
      const { nextMs } = this.#clock;
      if (nextMs === undefined || nextMs > limitMs) return false;
      this.#moveTo(nextMs);
    }
    return true;
  }

  /** The result of work that may need virtual time. */
  async finish<T>(work: () => T | Promise<T>): Promise<T> {
    const state = { isDone: false };
    const done = (async () => await this.inside(work))().finally(() => {
      state.isDone = true;
    });
    done.catch(() => undefined);
    await this.until(() => state.isDone);
    return done;
  }

  /** Moves virtual time on by so many milliseconds. Timers run in their order, and after each everything comes to rest. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#clock.nowMs + ms;
    await this.settle();
    for (let { nextMs } = this.#clock; nextMs !== undefined && nextMs <= endMs; { nextMs } = this.#clock) {
      this.#moveTo(nextMs);
      await this.settle();
    }
    this.#moveTo(endMs);
    await this.settle();
  }

  /** Lists everything that the plugin has open, each with the place in the source. */
  left(): readonly string[] {
    const timers = this.#clock.pending.map((place) => `a timer, set at ${place}`);
    const calls = this.watch.open.map((name) => `a call of ${name} that has not returned`);
    return [...timers, ...this.#handles.open, ...calls].filter((line) => !line.includes(` at ${VARPD}`));
  }

  readonly #onExit = (call: string): void => {
    this.watch.note('exit', `the plugin has called ${call}, which ends its process`);
  };

  end(): void {
    this.#allowExit();
    this.#clock.end();
    this.#handles.end();
  }

  #moveTo(ms: number): void {
    this.#clock.moveTo(ms);
    this.#onTime(this.#clock.nowMs);
    this.#quiet.pump();
  }
}
