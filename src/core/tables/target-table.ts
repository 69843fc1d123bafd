/**
 * The target table: inner destination MAC -> destination.
 *
 *            insert                answer: target            fresh end
 *   (none) ---------> PENDING -----------------------> VALID ----------> STALE
 *     ^                 ^ |  answer: drop                                 |
 *     |                 | +---------------> DROP                          | stale end
 *     +- invalidate, ---|---- ttl -----------'                            |
 *        eviction       `---- next frame ---------------------------------'
 *
 * An entry is a row of 8 words; a hit needs half a cache line:
 *
 *   | state | destination | fresh end | used tick | newer | older | MAC high | MAC low |
 *
 * A STALE entry is used while the plugin is asked about it, and while asking fails (target-ages.ts). After a restart
 * the entries of the previous process are there again, STALE: the first use causes a question.
 *
 * An entry past its stale end is PENDING from the next frame on. It may keep its destinations meanwhile, for the case
 * that asking fails.
 *
 * The table has two bounds: one for known entries (VALID, or DROP for ever, which only the operator sets) and
 * one for entries that were only asked about (PENDING, or DROP for a while). The least recently used entry
 * makes room for a new one of its kind. So a scan of the network for MACs that no station has evicts no known
 * entry.
 *
 * All entries can be expired at once, whatever their number: an entry settled in an earlier generation counts
 * as absent. Its row is removed later, some at a time (Overlay.sweep).
 *
 * The origin of an entry, and the time when it was settled or asked about, are elsewhere (target-history.ts), since
 * no frame needs them.
 *
 * Time is passed in, in ticks of 10 ms. "Recently used" is exact to RECENT_TICKS: an entry moves to the head
 * of its list at most once in that time, so that a hit on a busy entry costs one comparison.
 */
import { MacIndex, NONE } from './mac-index.js';
import { type AnswerAge, TargetAges } from './target-ages.js';
import { grown, type Origin, TargetHistory } from './target-history.js';
import { isLongAgo, MAX_AGO_TICKS, TICK_MS } from './ticks.js';

export type { Origin } from './target-history.js';
export { TICK_MS } from './ticks.js';

export const FREE = 0;
export const PENDING = 1;
export const VALID = 2;
export const DROP = 3;
/** A VALID entry that is not fresh, and may be used. */
export const STALE = 4;

/** Whether frames are sent to a target in this state. */
export const isUsable = (state: number): boolean => state === VALID || state === STALE;

/** Ticks are right for 248 days. An age, stale time included, ends within half of that time, and `age` is called within
 * the other half. */
export const MAX_TTL_MS = 0x3fff_ffff * TICK_MS;
/** 31 days. */
export const AGE_EVERY_MS = 0x1000_0000 * TICK_MS;

/** `destination` of an entry without one. */
export const NOWHERE = -1;
/** `destination` of an entry with more than one: they are in `floods`. */
export const FLOOD = -2;
/** `destination` of a MAC that lives at this host, and the slot of this overlay's own endpoint. */
export const HERE = -3;

const ROW_WORDS = 8;
const STATE = 0;
const DESTINATION = 1;
const FRESH_END = 2;
const USED = 3;
const NEWER = 4;
const OLDER = 5;
const HIGH = 6;
const LOW = 7;

/** Added to a state: the entry never expires. */
const FOR_EVER = 4;
const STATE_MASK = 3;
/** The bits above these have the generation in which a VALID or DROP entry was settled. */
const FLAGS_MASK = 7;
const NEXT_GENERATION = 8;
/** 1 s: as precise as an operator needs when a table is full. */
const RECENT_TICKS = 100;
const FIRST_ROWS = 64;
/** A table with so many rows gets room for all it may have: to copy many more would hold up the frames. */
const JUMP_ROWS = 16_384;

/** Entries in order of use. */
interface UseList {
  readonly max: number;
  size: number;
  newest: number;
  oldest: number;
}
const emptyList = (max: number): UseList => ({ max, size: 0, newest: NONE, oldest: NONE });

export class TargetTable {
  readonly #known: UseList;
  readonly #asked: UseList;
  readonly #onEvict: (row: number) => void;
  readonly #onUse: (row: number) => void;
  readonly ages: TargetAges;
  readonly history = new TargetHistory(FIRST_ROWS);
  readonly #index = new MacIndex();
  #rows = new Int32Array(FIRST_ROWS * ROW_WORDS);
  /** Number of rows handed out so far. Free rows among them are chained through OLDER. */
  #used = 0;
  #free = NONE;
  #generation = 0;

  /** `onEvict` is called for each entry that makes room, while it can still be read. `onUse` is called for
   * the first use of a target with a ttl after it was settled, and at most once in RECENT_TICKS from then on.
   * `random` as for TargetAges. */
  constructor(
    maxKnown: number,
    maxAsked: number,
    onEvict: (row: number) => void,
    onUse: (row: number) => void = () => undefined,
    random: () => number = () => 0,
  ) {
    this.#known = emptyList(maxKnown);
    this.#asked = emptyList(maxAsked);
    this.#onEvict = onEvict;
    this.#onUse = onUse;
    this.ages = new TargetAges(FIRST_ROWS, random);
  }

  get size(): number {
    return this.#index.size;
  }

  /** Every entry is in a row below this one. */
  get end(): number {
    return this.#used;
  }

  /** Returns the row of this MAC, whatever its state, or NONE. A row is valid until its entry is removed or
   * evicted. */
  find(high: number, low: number): number {
    return this.#index.get(high, low);
  }

  /** Returns the state of a row. An entry with its time over counts as FREE, as if it were not there. */
  state(row: number, nowTick: number): number {
    const word = this.#rows[row * ROW_WORDS + STATE];
    if (word === PENDING) return PENDING;
    if ((word & ~FLAGS_MASK) !== this.#generation) return FREE;
    if (word & FOR_EVER) return word & STATE_MASK;
    if (((this.#rows[row * ROW_WORDS + FRESH_END] - nowTick) | 0) > 0) return word & STATE_MASK;
    return (word & STATE_MASK) === VALID && !this.isGroup(row) && this.ages.isUsable(row, nowTick)
      ? STALE
      : FREE;
  }

  /** Whether the entry is about a group MAC. A question about such a MAC needs a frame, so the entry is never STALE. */
  isGroup(row: number): boolean {
    return (this.#rows[row * ROW_WORDS + HIGH] & 0x0100) !== 0;
  }

  /** Whether an entry that is not used any more has destinations for the case that asking fails. */
  isKept(row: number, nowTick: number): boolean {
    const at = row * ROW_WORDS;
    const word = this.#rows[at + STATE];
    if ((word & STATE_MASK) !== VALID || this.isOver(row) || word & FOR_EVER) return false;
    return this.ages.isUsable(row, nowTick) || this.ages.isKept(row, this.#rows[at + FRESH_END], nowTick);
  }

  destination(row: number): number {
    return this.#rows[row * ROW_WORDS + DESTINATION];
  }

  macHigh(row: number): number {
    return this.#rows[row * ROW_WORDS + HIGH];
  }

  macLow(row: number): number {
    return this.#rows[row * ROW_WORDS + LOW];
  }

  /** Marks the entry as used now. */
  touch(row: number, nowTick: number): void {
    const at = row * ROW_WORDS;
    if (((nowTick - this.#rows[at + USED]) | 0) < RECENT_TICKS) return;
    this.#rows[at + USED] = nowTick;
    this.history.used(row);
    const list = this.#listOf(at);
    this.#unlink(at, list);
    this.#linkNewest(row, list);
    if ((this.#rows[at + STATE] & (STATE_MASK | FOR_EVER)) === VALID) this.#onUse(row);
  }

  /** Adds a PENDING entry for a MAC that has no entry. Returns its row. */
  insert(high: number, low: number, nowTick: number): number {
    const row = this.#takeRow();
    const at = row * ROW_WORDS;
    this.#rows[at + STATE] = PENDING;
    this.#rows[at + DESTINATION] = NOWHERE;
    this.#rows[at + USED] = nowTick;
    this.history.inserted(row, nowTick);
    this.#rows[at + HIGH] = high;
    this.#rows[at + LOW] = low;
    this.#index.set(high, low, row);
    this.#admit(row);
    return row;
  }

  /** Notes that no frame has used the entry, which has just been inserted. */
  markUnused(row: number, nowTick: number): void {
    this.#rows[row * ROW_WORDS + USED] = nowTick - RECENT_TICKS;
    this.history.markUnused(row);
  }

  /** Makes an entry VALID or DROP. The next use of a VALID one with a ttl calls `onUse`. */
  settle(
    row: number,
    state: typeof VALID | typeof DROP,
    destination: number,
    { ttlMs, staleMs }: AnswerAge,
    nowTick: number,
    origin: Origin,
  ): void {
    const at = row * ROW_WORDS;
    this.history.settled(row, nowTick, origin);
    this.#rows[at + DESTINATION] = destination;
    const ttlTicks = Math.ceil(Math.min(ttlMs, MAX_TTL_MS) / TICK_MS);
    this.#rows[at + FRESH_END] = nowTick + ttlTicks;
    if (ttlMs !== Infinity && state === VALID) {
      const mostTicks = MAX_TTL_MS / TICK_MS - ttlTicks;
      const staleTicks =
        staleMs === undefined ? undefined : Math.min(Math.ceil(staleMs / TICK_MS), mostTicks);
      this.ages.begin(row, nowTick, ttlTicks, staleTicks);
      this.#forgetUse(at, nowTick);
    }
    this.#setState(row, (ttlMs === Infinity ? state | FOR_EVER : state) | this.#generation);
  }

  /** Makes an entry STALE, for `staleMs` or, if that is undefined, until the plugin has been asked. The next use calls
   * `onUse`. */
  settleStale(row: number, destination: number, staleMs: number | undefined, nowTick: number): void {
    this.settle(row, VALID, destination, { ttlMs: 0, staleMs: staleMs ?? Infinity }, nowTick, 'restored');
    if (staleMs === undefined) this.ages.unbound(row);
    this.markUnused(row, nowTick);
  }

  /** Notes that asking about a target with a ttl has failed: it may be used. The next use calls `onUse`. */
  failed(row: number, nowTick: number): void {
    if (this.#rows[row * ROW_WORDS + STATE] & FOR_EVER) return;
    this.ages.failed(row, nowTick);
    this.#forgetUse(row * ROW_WORDS, nowTick);
    this.#setState(row, VALID | this.#generation);
  }

  /** Expires all VALID and DROP entries; `isOver` tells which those are. */
  expireAll(): void {
    this.#generation = (this.#generation + NEXT_GENERATION) | 0;
  }

  /** Returns whether `expireAll` has expired the entry, so that it is to be removed. */
  isOver(row: number): boolean {
    const word = this.#rows[row * ROW_WORDS + STATE];
    return word !== FREE && word !== PENDING && (word & ~FLAGS_MASK) !== this.#generation;
  }

  /** Returns the ticks since the entry was used, exact to RECENT_TICKS. */
  idleTicks(row: number, nowTick: number): number {
    return Math.max(0, (nowTick - this.#rows[row * ROW_WORDS + USED]) | 0);
  }

  /** Gives an entry the state and the times of an entry of `other`. */
  imitate(row: number, other: TargetTable, otherRow: number, destination: number): void {
    const [at, from] = [row * ROW_WORDS, otherRow * ROW_WORDS];
    this.#rows[at + DESTINATION] = destination;
    this.#rows[at + FRESH_END] = other.#rows[from + FRESH_END];
    this.ages.imitate(row, other.ages, otherRow);
    this.#rows[at + USED] = other.#rows[from + USED];
    this.history.imitate(row, other.history, otherRow);
    const generation = other.isOver(otherRow) ? this.#generation - NEXT_GENERATION : this.#generation;
    this.#setState(row, (other.#rows[from + STATE] & FLAGS_MASK) | generation);
  }

  /** Returns the ticks until the fresh end; Infinity for an entry that is PENDING or fresh for ever. */
  leftTicks(row: number, nowTick: number): number {
    const at = row * ROW_WORDS;
    if (this.#rows[at + STATE] === PENDING || this.#rows[at + STATE] & FOR_EVER) return Infinity;
    return Math.max(0, (this.#rows[at + FRESH_END] - nowTick) | 0);
  }

  /** Returns the time for which a target may be used after its fresh end; undefined for any other entry, and without
   * staleMs. */
  staleMs(row: number, nowTick: number): number | undefined {
    const word = this.#rows[row * ROW_WORDS + STATE];
    if ((word & (STATE_MASK | FOR_EVER)) !== VALID) return undefined;
    const endTicks = this.ages.staleEndTicks(row, nowTick);
    return endTicks === undefined ? undefined : (endTicks - this.leftTicks(row, nowTick)) * TICK_MS;
  }

  /** Makes an entry PENDING again, since its question is asked again. `isKept`: it keeps its destinations. */
  reopen(row: number, nowTick: number, isKept: boolean): void {
    this.history.reopened(row, nowTick);
    if (!isKept) this.#rows[row * ROW_WORDS + DESTINATION] = NOWHERE;
    this.#setState(row, PENDING);
  }

  remove(row: number): void {
    const at = row * ROW_WORDS;
    this.#index.delete(this.#rows[at + HIGH], this.#rows[at + LOW]);
    this.#unlink(at, this.#listOf(at));
    this.#rows[at + STATE] = FREE;
    this.#rows[at + OLDER] = this.#free;
    this.#free = row;
  }

  /**
   * Keeps times of long ago from seeming recent when ticks overflow. To be called every AGE_EVERY_MS; after a
   * longer pause, before anything else. `sinceMs`: time since the last call.
   */
  age(nowTick: number, sinceMs: number): void {
    // Every entry was settled before the pause began, and has expired in it.
    const isAllOver = sinceMs > AGE_EVERY_MS + MAX_TTL_MS;
    const rows = this.#rows;
    for (let at = 0; at < this.#used * ROW_WORDS; at += ROW_WORDS) {
      if (isAllOver || ((rows[at + FRESH_END] - nowTick) | 0) < 0) rows[at + FRESH_END] = nowTick;
      const row = at / ROW_WORDS;
      this.ages.age(row, nowTick, isAllOver);
      if (isAllOver || isLongAgo(rows[at + USED], nowTick)) rows[at + USED] = (nowTick - MAX_AGO_TICKS) | 0;
      this.history.age(row, nowTick, isAllOver);
    }
  }

  /** Makes the next use call `onUse`. */
  #forgetUse(at: number, nowTick: number): void {
    if (((nowTick - this.#rows[at + USED]) | 0) < RECENT_TICKS)
      this.#rows[at + USED] = nowTick - RECENT_TICKS;
  }

  #takeRow(): number {
    if (this.#free !== NONE) {
      const row = this.#free;
      this.#free = this.#rows[row * ROW_WORDS + OLDER];
      return row;
    }
    if (this.#used * ROW_WORDS === this.#rows.length) this.#grow();
    return this.#used++;
  }

  /** Rows that no entry has had take no memory. An entry gets its row before another makes room: one row more. */
  #grow(): void {
    const twice = 2 * this.#used;
    const count = twice < JUMP_ROWS ? twice : Math.max(twice, this.#known.max + this.#asked.max + 1);
    this.#rows = grown(this.#rows, new Int32Array(count * ROW_WORDS));
    this.history.grow(count);
    this.ages.grow(count);
  }

  #listOf(at: number): UseList {
    const flags = this.#rows[at + STATE] & FLAGS_MASK;
    return flags === VALID || flags >= FOR_EVER ? this.#known : this.#asked;
  }

  /** Sets a state. An entry that changes lists becomes the newest of the other list. */
  #setState(row: number, state: number): void {
    const at = row * ROW_WORDS;
    const before = this.#listOf(at);
    this.#rows[at + STATE] = state;
    if (this.#listOf(at) === before) return;
    this.#unlink(at, before);
    this.#admit(row);
  }

  /** Adds an entry to its list. If the list is full, its oldest entry makes room. */
  #admit(row: number): void {
    const list = this.#listOf(row * ROW_WORDS);
    if (list.size >= list.max) {
      const { oldest } = list;
      this.#onEvict(oldest);
      this.remove(oldest);
    }
    this.#linkNewest(row, list);
  }

  #linkNewest(row: number, list: UseList): void {
    const at = row * ROW_WORDS;
    this.#rows[at + NEWER] = NONE;
    this.#rows[at + OLDER] = list.newest;
    if (list.newest === NONE) list.oldest = row;
    else this.#rows[list.newest * ROW_WORDS + NEWER] = row;
    list.newest = row;
    list.size++;
  }

  #unlink(at: number, list: UseList): void {
    const newer = this.#rows[at + NEWER];
    const older = this.#rows[at + OLDER];
    if (newer === NONE) list.newest = older;
    else this.#rows[newer * ROW_WORDS + OLDER] = older;
    if (older === NONE) list.oldest = newer;
    else this.#rows[older * ROW_WORDS + NEWER] = newer;
    list.size--;
  }
}
