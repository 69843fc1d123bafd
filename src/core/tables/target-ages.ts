/**
 * The age of targets: until when each may be used once it is no longer fresh, and when the plugin is asked about it.
 *
 *   answer ------------ ask tick ---- fresh end ------------- stale end -->
 *           fresh                                   stale                gone
 *
 * With staleMs the stale end is fixed. Without it, it is the fresh end, and moves: while the plugin is asked, and each
 * time that asking has failed, to KEPT_MS later. So a target in use stays in use as long as the plugin is in
 * trouble, and one that is not in use ends.
 *
 * The ask tick is before the fresh end by the lead, a quarter of the ttl: that leaves time for several attempts, and a
 * station that has moved is found by the fresh end. At most LEAD_MS.most: more would only cause more questions. At least
 * LEAD_MS.least, the time in which a plugin must answer by default, but at most half of the ttl, so that short ttls do
 * not cause questions without a pause. Each lead is shortened at random by up to three quarters, so that targets that
 * were set together are not asked about together.
 */
import { grown } from './target-history.js';
import { TICK_MS } from './ticks.js';

const LEAD_MS = { least: 1000, most: 60_000 } as const;

/** Pauses after attempts that have failed: each is twice the one before. */
const RETRY_MS = { first: 1000, most: 32_000 } as const;
/** Pause if too many questions are open. */
const BUSY_MS = 1000;

/** Time for which a target without staleMs is kept after its fresh end, for the case that asking fails, and after each
 * failure. Traffic of the last hour is better sent to where its station was than dropped; a station that was silent for
 * longer has probably no traffic to lose. */
export const KEPT_MS = 3_600_000;
const KEPT_TICKS = KEPT_MS / TICK_MS;

/** Flag of an age: it has a staleMs. */
const IS_BOUNDED = 1;

/** Times of an answer. ttlMs Infinity = fresh for ever. */
export interface AnswerAge {
  readonly ttlMs: number;
  readonly staleMs?: number | undefined;
}

export class TargetAges {
  readonly #random: () => number;
  #staleEnds: Int32Array;
  #askTicks: Int32Array;
  #failures: Uint8Array;
  #flags: Uint8Array;

  /** `random` returns numbers from 0 to below 1. */
  constructor(rows: number, random: () => number) {
    this.#random = random;
    this.#staleEnds = new Int32Array(rows);
    this.#askTicks = new Int32Array(rows);
    this.#failures = new Uint8Array(rows);
    this.#flags = new Uint8Array(rows);
  }

  /** Makes room for so many rows. */
  grow(rows: number): void {
    this.#staleEnds = grown(this.#staleEnds, new Int32Array(rows));
    this.#askTicks = grown(this.#askTicks, new Int32Array(rows));
    this.#failures = grown(this.#failures, new Uint8Array(rows));
    this.#flags = grown(this.#flags, new Uint8Array(rows));
  }

  /** Begins the age of a target that is fresh for `ttlTicks`. `staleTicks` undefined: without staleMs. */
  begin(row: number, nowTick: number, ttlTicks: number, staleTicks: number | undefined): void {
    this.#staleEnds[row] = nowTick + ttlTicks + (staleTicks ?? 0);
    this.#flags[row] = staleTicks === undefined ? 0 : IS_BOUNDED;
    this.#failures[row] = 0;
    const quarter = Math.min(Math.max(ttlTicks / 4, LEAD_MS.least / TICK_MS), LEAD_MS.most / TICK_MS);
    const lead = Math.min(quarter, ttlTicks / 2) * (1 - 0.75 * this.#random());
    this.#askTicks[row] = nowTick + ttlTicks - Math.ceil(lead);
  }

  /** Makes the age one without staleMs. Its stale end stays until the plugin has been asked. */
  unbound(row: number): void {
    this.#flags[row] = 0;
  }

  /** Whether the target may be used although it is not fresh. */
  isUsable(row: number, nowTick: number): boolean {
    return ((this.#staleEnds[row] - nowTick) | 0) > 0;
  }

  /** Returns the ticks until the stale end; undefined without staleMs. */
  staleEndTicks(row: number, nowTick: number): number | undefined {
    if ((this.#flags[row] & IS_BOUNDED) === 0) return undefined;
    return Math.max(0, (this.#staleEnds[row] - nowTick) | 0);
  }

  /** Whether a target that may not be used any more is kept for the case that asking fails. `freshEnd`: the tick. */
  isKept(row: number, freshEnd: number, nowTick: number): boolean {
    return (this.#flags[row] & IS_BOUNDED) === 0 && ((freshEnd + KEPT_TICKS - nowTick) | 0) > 0;
  }

  /** Returns the tick at which the plugin is to be asked. */
  askTick(row: number): number {
    return this.#askTicks[row];
  }

  /** Notes that the plugin is asked: without staleMs the target may be used until the answer. */
  asked(row: number, nowTick: number): void {
    if ((this.#flags[row] & IS_BOUNDED) === 0) this.#staleEnds[row] = nowTick + KEPT_TICKS;
  }

  /** Notes that the plugin cannot be asked now. Returns the tick of the next attempt. */
  postponed(row: number, nowTick: number): number {
    return (this.#askTicks[row] = nowTick + this.#spread(BUSY_MS));
  }

  /** Notes that asking has failed: it is tried again after a pause, and without staleMs the target stays. */
  failed(row: number, nowTick: number): void {
    this.asked(row, nowTick);
    const pauseMs = Math.min(RETRY_MS.first * 2 ** this.#failures[row], RETRY_MS.most);
    if (this.#failures[row] < 255) this.#failures[row]++;
    this.#askTicks[row] = nowTick + this.#spread(pauseMs);
  }

  /** Gives a row the age of a row of `other`. */
  imitate(row: number, other: TargetAges, otherRow: number): void {
    this.#staleEnds[row] = other.#staleEnds[otherRow];
    this.#askTicks[row] = other.#askTicks[otherRow];
    this.#failures[row] = other.#failures[otherRow];
    this.#flags[row] = other.#flags[otherRow];
  }

  /** Keeps a stale end of long ago from seeming to lie ahead (TargetTable.age). */
  age(row: number, nowTick: number, isAllOver: boolean): void {
    if (isAllOver || ((this.#staleEnds[row] - nowTick) | 0) < 0) this.#staleEnds[row] = nowTick;
    if (isAllOver || ((this.#askTicks[row] - nowTick) | 0) < 0) this.#askTicks[row] = nowTick;
  }

  /** Returns a pause of this length in ticks, or at random of up to twice that length. */
  #spread(pauseMs: number): number {
    return Math.ceil((pauseMs / TICK_MS) * (1 + this.#random()));
  }
}
