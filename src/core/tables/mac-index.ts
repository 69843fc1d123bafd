/**
 * Map of MACs to small integers, used for every frame. A MAC is passed as two halves (wire/mac.ts), since a
 * 48-bit number is no small integer.
 *
 *   slot: | high 16 bits | low 32 bits | ~value | 0 |     (slots.ts)
 *
 * A table that grows is not copied at once, since a million MACs would hold up the frames for a tenth of a second. The
 * slots of the smaller table move into the larger one, a few with every change. Until all have moved, a MAC that the
 * larger table lacks is looked for in the smaller one. A slot there is GONE when it has
 * moved, or when its MAC was deleted or set again: it still leads a search on to the slots behind it.
 */
import { type HashAt, insert, MIN_SLOTS, removeAt, SLOT_WORDS } from './slots.js';

/** Result of `get` if the MAC is not in the index. Values are >= 0. */
export const NONE = -1;

/** Word of a slot with the value. It is 0, which is ~NONE, in a free slot. */
const VALUE = 2;
/** VALUE of a slot of the smaller table that is not in force. A value in force is negative there. */
const GONE = 1;
/** Slots that move with a change. With two, the last would move just before the larger table is full. */
const MOVED_SLOTS = 8;

const hashAt: HashAt = (words, at) => hash(words[at], words[at + 1]);

export class MacIndex {
  #slots = new Int32Array(MIN_SLOTS * SLOT_WORDS);
  #size = 0;
  /** The smaller table, while its slots move. */
  #smaller: Int32Array | undefined;
  /** The first word of the smaller table that has not moved. */
  #moved = 0;

  get size(): number {
    return this.#size;
  }

  get(high: number, low: number): number {
    const value = this.#slots[find(this.#slots, high, low) + VALUE];
    return value === 0 && this.#smaller !== undefined ? getMoving(this.#smaller, high, low) : ~value;
  }

  /** Adds the MAC or changes its value. */
  set(high: number, low: number, value: number): void {
    if ((this.#size + 1) * 2 * SLOT_WORDS > this.#slots.length) this.#grow();
    const isMoving = this.#smaller !== undefined && this.#leave(high, low);
    const slots = this.#slots;
    const at = find(slots, high, low);
    if (slots[at + VALUE] === 0 && !isMoving) this.#size++;
    slots[at] = high;
    slots[at + 1] = low;
    slots[at + VALUE] = ~value;
    this.#move();
  }

  delete(high: number, low: number): boolean {
    const at = find(this.#slots, high, low);
    if (this.#slots[at + VALUE] !== 0) removeAt(this.#slots, at, hashAt);
    else if (!this.#leave(high, low)) return false;
    this.#size--;
    this.#move();
    return true;
  }

  clear(): void {
    this.#slots = new Int32Array(MIN_SLOTS * SLOT_WORDS);
    this.#smaller = undefined;
    this.#size = 0;
  }

  /** The larger table has room for as many more as the smaller one has. By then all slots have moved. */
  #grow(): void {
    this.#smaller = this.#slots;
    this.#moved = 0;
    this.#slots = new Int32Array(2 * this.#slots.length);
  }

  /** Moves a few slots of the smaller table. */
  #move(): void {
    const smaller = this.#smaller;
    if (smaller === undefined) return;
    const end = Math.min(this.#moved + MOVED_SLOTS * SLOT_WORDS, smaller.length);
    for (let at = this.#moved; at < end; at += SLOT_WORDS) {
      if (smaller[at + VALUE] >= 0) continue; // free, or gone
      insert(this.#slots, smaller, at, hashAt);
      smaller[at + VALUE] = GONE;
    }
    this.#moved = end;
    if (end === smaller.length) this.#smaller = undefined;
  }

  /** Has the smaller table no longer have the MAC. Returns whether it had it. */
  #leave(high: number, low: number): boolean {
    const smaller = this.#smaller;
    if (smaller === undefined) return false;
    const at = find(smaller, high, low);
    if (smaller[at + VALUE] >= 0) return false;
    smaller[at + VALUE] = GONE;
    return true;
  }
}

/** Returns the offset of the slot of the MAC, or of the free slot where the MAC would be. */
function find(slots: Int32Array, high: number, low: number): number {
  const last = slots.length - 1;
  let at = (hash(high, low) << 2) & last;
  while (slots[at + VALUE] !== 0 && (slots[at + 1] !== low || slots[at] !== high)) at = (at + 4) & last;
  return at;
}

function getMoving(smaller: Int32Array, high: number, low: number): number {
  const value = smaller[find(smaller, high, low) + VALUE];
  return value === GONE ? NONE : ~value;
}

/** Multiplicative mixing: the upper bits are mixed best, so they are folded down. */
export function hash(high: number, low: number): number {
  const mixed = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
