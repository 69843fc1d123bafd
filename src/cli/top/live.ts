/** `dladm top` on a terminal: reads at an interval, draws, obeys keys, and goes on when varpd does not answer. */
import type { ReadStream, WriteStream } from 'node:tty';

import { layout, type News } from './layout.js';
import { rateSample } from './sample.js';
import { Screen } from './screen.js';
import { press, type Shown, type State, viewOf } from './state.js';
import type { Sample } from './views.js';

/** A reading takes time of varpd's control thread. With very many overlays, readings are further apart. */
const SHARE_OF_VARPD = 0.1;
/** Without an answer for so long, the screen says so. */
const SILENCE_MS = 3000;
const TICK_MS = 1000;

export interface Live {
  readonly state: State;
  /** The reading from before the terminal is taken over. */
  readonly first: Sample;
  readonly input: ReadStream;
  readonly output: WriteStream;
  /** Ends after so many readings. */
  readonly count: number;
  /** Reads what these choices show. Gives up when the signal is given. */
  read(state: State, signal: AbortSignal): Promise<Sample>;
  /** The sentence about an error of `read`; undefined = a defect of dladm. */
  problemOf(error: unknown): string | undefined;
}

/** The end: the signal that ended top, or null. */
type End = NodeJS.Signals | null;

interface Outcome {
  readonly end: (signal: End) => void;
  readonly fail: (error: Error) => void;
}

/** Resolves when the terminal has been given back. */
export function runLive(live: Live): Promise<End> {
  return new Promise<End>((resolve, reject) => {
    const top = new Top(live, {
      end: (signal) => {
        top.stop();
        resolve(signal);
      },
      fail: (error) => {
        top.stop();
        reject(error);
      },
    });
    top.start();
  });
}

class Top {
  readonly #live: Live;
  readonly #fail: Outcome['fail'];
  readonly #end: Outcome['end'];
  readonly #screen: Screen;
  readonly #stopped = new AbortController();
  #state: State;
  #news: Omit<News, 'everySeconds'>;
  #shown: Shown = { rows: [], pageRows: 1 };
  /** The last reading with varpd's own rates. Undefined after a failure: varpd may count from zero since then. */
  #before: { readonly sample: Sample; readonly ms: number } | undefined;
  #readings = 1;
  /** The last two readings: a single slow answer means nothing. */
  #tookMs: readonly [number, number] = [0, 0];
  /** Time when the reading began that is under way. */
  #askedMs: number | undefined;
  #next: NodeJS.Timeout | undefined;
  readonly #tick: NodeJS.Timeout;

  constructor(live: Live, { end, fail }: Outcome) {
    const { state, first, input, output } = live;
    this.#live = live;
    this.#state = state;
    this.#end = end;
    this.#fail = fail;
    this.#before = { sample: first, ms: performance.now() };
    this.#news = { sample: first, at: clock(), problem: null };
    this.#screen = new Screen(input, output, {
      key: this.#guarded((name: string) => {
        this.#press(name);
      }),
      redraw: this.#guarded(() => {
        this.#draw();
      }),
      end,
    });
    this.#tick = setInterval(
      this.#guarded(() => {
        this.#draw();
      }),
      TICK_MS,
    );
  }

  start(): void {
    this.#guarded(() => {
      this.#screen.open();
      this.#ended();
      this.#schedule(this.#everyMs);
    })();
  }

  stop(): void {
    this.#stopped.abort();
    clearInterval(this.#tick);
    clearTimeout(this.#next);
    this.#screen.close();
  }

  /** An error in a callback ends top, after the terminal has been given back. */
  #guarded<A extends unknown[]>(act: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      try {
        act(...args);
      } catch (error) {
        this.#fail(error as Error);
      }
    };
  }

  get #everyMs(): number {
    return Math.max(this.#state.intervalSeconds * 1000, Math.min(...this.#tookMs) / SHARE_OF_VARPD);
  }

  #ended(): void {
    if (this.#readings >= this.#live.count) this.#end(null);
  }

  #schedule(afterMs: number): void {
    clearTimeout(this.#next);
    if (this.#stopped.signal.aborted || this.#state.isPaused || this.#askedMs !== undefined) return;
    this.#next = setTimeout(() => {
      this.#read().catch(this.#fail);
    }, afterMs);
  }

  async #read(): Promise<void> {
    const askedMs = performance.now();
    const asked = this.#state;
    this.#askedMs = askedMs;
    try {
      const sample = await this.#live.read(asked, this.#stopped.signal);
      if (!this.#state.isPaused) this.#accept(sample, askedMs);
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      const problem = this.#live.problemOf(error);
      if (problem === undefined) throw error;
      this.#before = undefined;
      this.#news = { ...this.#news, problem };
    } finally {
      this.#askedMs = undefined;
    }
    this.#draw();
    this.#ended();
    this.#schedule(showsMore(this.#state, asked) ? 0 : this.#everyMs);
  }

  #accept(sample: Sample, askedMs: number): void {
    const ms = performance.now();
    this.#tookMs = [this.#tookMs[1], ms - askedMs];
    const before = this.#before;
    this.#before = { sample, ms };
    const rated = rateSample(sample, before?.sample, (ms - (before?.ms ?? 0)) / 1000);
    this.#news = { sample: rated, at: clock(), problem: null };
    this.#readings++;
  }

  #press(name: string): void {
    const before = this.#state;
    this.#state = press(before, name, this.#shown);
    if (this.#state.isOver) {
      this.#end(null);
      return;
    }
    const { isPaused, intervalSeconds } = this.#state;
    if (isPaused !== before.isPaused || showsMore(this.#state, before)) this.#schedule(0);
    else if (intervalSeconds !== before.intervalSeconds) this.#schedule(this.#everyMs);
    this.#draw();
  }

  #draw(): void {
    if (this.#stopped.signal.aborted) return;
    const silentMs = performance.now() - (this.#askedMs ?? Infinity);
    const problem =
      silentMs > SILENCE_MS
        ? `no answer from varpd for ${Math.floor(silentMs / 1000)} s`
        : this.#news.problem;
    const everySeconds = this.#everyMs / 1000;
    const screenful = layout(this.#state, { ...this.#news, everySeconds, problem }, this.#screen.size);
    this.#shown = screenful;
    this.#screen.draw(screenful.lines);
  }
}

/** Whether a reading for `before` lacks rows that are shown now. */
function showsMore(now: State, before: State): boolean {
  return viewOf(now).hasPeers === true && viewOf(before) !== viewOf(now);
}

function clock(): string {
  return new Date().toTimeString().slice(0, 8);
}
