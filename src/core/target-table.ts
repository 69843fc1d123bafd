/**
 * The target table: inner destination MAC -> destination.
 *
 *            insert                answer: target
 *   (none) ---------> PENDING ------------------------> VALID
 *     ^                  |  answer: drop                  |
 *     |                  +---------------> DROP           | ttl ends, next frame asks again
 *     +---- invalidate, ttl, eviction -------+------------+
 *
 * An entry is a row of 8 words; a hit needs half a cache line:
 *
 *   | state | destination | expiry tick | used tick | newer | older | MAC high | MAC low |
 *
 * After a restart the entries of the previous process are there again, VALID and stale. A stale entry is
 * used. Its first use causes a question, and the answer replaces it.
 *
 * The table has two bounds: one for known entries (VALID, or DROP for ever, which only the operator sets) and
 * one for entries that were only asked about (PENDING, or DROP for a while). The least recently used entry
 * makes room for a new one of its kind. So a scan of the network for MACs that no station has evicts no known
 * entry.
 *
 * All entries can be expired at once, whatever their number: an entry settled in an earlier generation counts
 * as absent. Its row is removed later, some at a time (Overlay.sweep).
 *
 * The origin of an entry, and the time when it was settled or asked about, are in arrays of their own, since
 * no frame needs them.
 *
 * Time is passed in, in ticks of 10 ms. "Recently used" is exact to RECENT_TICKS: an entry moves to the head
 * of its list at most once in that time, so that a hit on a busy entry costs one comparison.
 */
import { highOf, lowOf, type MacAddress } from '../wire/mac.js';
import { MacIndex, NONE } from './mac-index.js';

export const FREE = 0;
export const PENDING = 1;
export const VALID = 2;
export const DROP = 3;

/** Ticks are 32-bit and compared by their difference, which is right for 248 days. A ttl ends within half of
 * that time, and `age` is called within the other half. */
export const TICK_MS = 10;
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
const EXPIRY = 2;
const USED = 3;
const NEWER = 4;
const OLDER = 5;
const HIGH = 6;
const LOW = 7;

/** Added to a state: the entry never expires. */
const FOR_EVER = 4;
/** Added to VALID: the entry is from before a restart. It may be used, and its use causes a question. */
const STALE = 8;
const STATE_MASK = 3;
/** The bits above these have the generation in which a VALID or DROP entry was settled. */
const FLAGS_MASK = 15;
const NEXT_GENERATION = 16;

/** 1 s: as precise as an operator needs when a table is full. */
const RECENT_TICKS = 100;

const FIRST_ROWS = 64;

/** A plugin has answered, or pushed the target; an operator has set it; or it is from before a restart. */
export const ORIGINS = ['plugin', 'pushed', 'set', 'restored'] as const;
export type Origin = (typeof ORIGINS)[number];
/** Added to the number of an origin: no frame has used the entry. */
const UNUSED = 4;
const ORIGIN_MASK = 3;
/** Times longer ago than this, 124 days, are not told apart. */
const MAX_AGO_TICKS = 0x3fff_ffff;

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
  readonly #onStale: (row: number) => void;
  readonly #index = new MacIndex();
  #rows = new Int32Array(FIRST_ROWS * ROW_WORDS);
  /** For each row: the tick since which it is as it is. */
  #since = new Int32Array(FIRST_ROWS);
  #origins = new Uint8Array(FIRST_ROWS);
  /** Number of rows handed out so far. Free rows among them are chained through OLDER. */
  #used = 0;
  #free = NONE;
  #generation = 0;

  /** `onEvict` is called for each entry that makes room, while it can still be read. `onStale` is called for
   * each stale entry that is used, at most once in RECENT_TICKS. */
  constructor(
    maxKnown: number,
    maxAsked: number,
    onEvict: (row: number) => void,
    onStale: (row: number) => void = () => undefined,
  ) {
    this.#known = emptyList(maxKnown);
    this.#asked = emptyList(maxAsked);
    this.#onEvict = onEvict;
    this.#onStale = onStale;
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

  /** Returns the state of a row. A VALID or DROP entry that has expired counts as FREE, as if it were not
   * there. */
  state(row: number, nowTick: number): number {
    const word = this.#rows[row * ROW_WORDS + STATE];
    if (word === PENDING) return PENDING;
    if ((word & ~FLAGS_MASK) !== this.#generation) return FREE;
    if (word & FOR_EVER) return word & STATE_MASK;
    return ((this.#rows[row * ROW_WORDS + EXPIRY] - nowTick) | 0) > 0 ? word & STATE_MASK : FREE;
  }

  /** Returns whether the table says where this MAC lives, or that it lives nowhere. */
  knows(mac: MacAddress, nowTick: number): boolean {
    const row = this.find(highOf(mac), lowOf(mac));
    const state = row === NONE ? FREE : this.state(row, nowTick);
    return state === VALID || state === DROP;
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
    this.#origins[row] &= ~UNUSED;
    const list = this.#listOf(at);
    this.#unlink(at, list);
    this.#linkNewest(row, list);
    if (this.#rows[at + STATE] & STALE) this.#onStale(row);
  }

  /** Adds a PENDING entry for a MAC that has no entry. Returns its row. */
  insert(high: number, low: number, nowTick: number): number {
    const row = this.#takeRow();
    const at = row * ROW_WORDS;
    this.#rows[at + STATE] = PENDING;
    this.#rows[at + DESTINATION] = NOWHERE;
    this.#rows[at + USED] = nowTick;
    this.#since[row] = nowTick;
    this.#origins[row] = 0;
    this.#rows[at + HIGH] = high;
    this.#rows[at + LOW] = low;
    this.#index.set(high, low, row);
    this.#admit(row);
    return row;
  }

  /** Notes that no frame has used the entry, which has just been inserted. */
  markUnused(row: number, nowTick: number): void {
    this.#rows[row * ROW_WORDS + USED] = nowTick - RECENT_TICKS;
    this.#origins[row] |= UNUSED;
  }

  /** Makes an entry VALID or DROP. ttlMs Infinity = for ever. */
  settle(
    row: number,
    state: typeof VALID | typeof DROP,
    destination: number,
    ttlMs: number,
    nowTick: number,
    origin: Origin,
  ): void {
    const at = row * ROW_WORDS;
    this.#since[row] = nowTick;
    this.#origins[row] = (this.#origins[row] & UNUSED) | ORIGINS.indexOf(origin);
    this.#rows[at + DESTINATION] = destination;
    this.#rows[at + EXPIRY] = nowTick + Math.ceil(Math.min(ttlMs, MAX_TTL_MS) / TICK_MS);
    this.#setState(row, (ttlMs === Infinity ? state | FOR_EVER : state) | this.#generation);
  }

  /** Makes an entry VALID for ever, and stale. The next `touch` calls `onStale`. */
  settleStale(row: number, destination: number, nowTick: number): void {
    this.settle(row, VALID, destination, Infinity, nowTick, 'restored');
    this.#rows[row * ROW_WORDS + STATE] |= STALE;
    this.markUnused(row, nowTick);
  }

  isStale(row: number): boolean {
    return (this.#rows[row * ROW_WORDS + STATE] & STALE) !== 0;
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
    this.#rows[at + EXPIRY] = other.#rows[from + EXPIRY];
    this.#rows[at + USED] = other.#rows[from + USED];
    const generation = other.isOver(otherRow) ? this.#generation - NEXT_GENERATION : this.#generation;
    this.#setState(row, (other.#rows[from + STATE] & FLAGS_MASK) | generation);
  }

  /** Returns whether a frame has used the entry since it was inserted. */
  wasUsed(row: number): boolean {
    return (this.#origins[row] & UNUSED) === 0;
  }

  /** Returns where a VALID or DROP entry came from. */
  origin(row: number): Origin {
    return ORIGINS[this.#origins[row] & ORIGIN_MASK];
  }

  /** Returns the ticks since a VALID or DROP entry was settled, or a PENDING one inserted or reopened. */
  ageTicks(row: number, nowTick: number): number {
    return Math.max(0, (nowTick - this.#since[row]) | 0);
  }

  /** Returns the ticks until the entry expires; Infinity for one that is PENDING or never expires. */
  leftTicks(row: number, nowTick: number): number {
    const at = row * ROW_WORDS;
    if (this.#rows[at + STATE] === PENDING || this.#rows[at + STATE] & FOR_EVER) return Infinity;
    return Math.max(0, (this.#rows[at + EXPIRY] - nowTick) | 0);
  }

  /** Makes an entry PENDING again, since its question is asked again. */
  reopen(row: number, nowTick: number): void {
    this.#since[row] = nowTick;
    this.#rows[row * ROW_WORDS + DESTINATION] = NOWHERE;
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
      if (isAllOver || ((rows[at + EXPIRY] - nowTick) | 0) < 0) rows[at + EXPIRY] = nowTick;
      const row = at / ROW_WORDS;
      if (isAllOver || isLongAgo(rows[at + USED], nowTick)) rows[at + USED] = (nowTick - MAX_AGO_TICKS) | 0;
      if (isAllOver || isLongAgo(this.#since[row], nowTick)) this.#since[row] = (nowTick - MAX_AGO_TICKS) | 0;
    }
  }

  #takeRow(): number {
    if (this.#free !== NONE) {
      const row = this.#free;
      this.#free = this.#rows[row * ROW_WORDS + OLDER];
      return row;
    }
    if (this.#used * ROW_WORDS === this.#rows.length) {
      this.#rows = twice(this.#rows, Int32Array);
      this.#since = twice(this.#since, Int32Array);
      this.#origins = twice(this.#origins, Uint8Array);
    }
    return this.#used++;
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

/** A time that seems to lie ahead is so long ago that the ticks have overflowed. */
function isLongAgo(tick: number, nowTick: number): boolean {
  const ago = (nowTick - tick) | 0;
  return ago < 0 || ago > MAX_AGO_TICKS;
}

function twice<T extends Int32Array | Uint8Array>(array: T, Kind: new (length: number) => T): T {
  const grown = new Kind(array.length * 2);
  grown.set(array);
  return grown;
}
