/**
 * Map of MACs to small integers, used for every frame. A MAC is passed as two halves (wire/mac.ts), since a
 * 48-bit number is no small integer.
 *
 *   slot: | high 16 bits | low 32 bits | ~value | 0 |     (slots.ts)
 */
import { type HashAt, MIN_SLOTS, refill, removeAt, SLOT_WORDS } from './slots.js';

/** Result of `get` if the MAC is not in the index. Values are >= 0. */
export const NONE = -1;

/** Word of a slot with the value. It is 0, which is ~NONE, in a free slot. */
const VALUE = 2;

const hashAt: HashAt = (words, at) => hash(words[at], words[at + 1]);

export class MacIndex {
  #slots = new Int32Array(MIN_SLOTS * SLOT_WORDS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(high: number, low: number): number {
    return ~this.#slots[this.#find(high, low) + VALUE];
  }

  /** Adds the MAC or changes its value. */
  set(high: number, low: number, value: number): void {
    if ((this.#size + 1) * 2 * SLOT_WORDS > this.#slots.length) this.#grow();
    const at = this.#find(high, low);
    const slots = this.#slots;
    if (slots[at + VALUE] === 0) this.#size++;
    slots[at] = high;
    slots[at + 1] = low;
    slots[at + VALUE] = ~value;
  }

  delete(high: number, low: number): boolean {
    const at = this.#find(high, low);
    if (this.#slots[at + VALUE] === 0) return false;
    this.#size--;
    removeAt(this.#slots, at, hashAt);
    return true;
  }

  clear(): void {
    this.#slots = new Int32Array(MIN_SLOTS * SLOT_WORDS);
    this.#size = 0;
  }

  /** Returns the offset of the slot of the MAC, or of the free slot where the MAC would be. */
  #find(high: number, low: number): number {
    const slots = this.#slots;
    const last = slots.length - 1;
    let at = (hash(high, low) << 2) & last;
    while (slots[at + VALUE] !== 0 && (slots[at + 1] !== low || slots[at] !== high)) at = (at + 4) & last;
    return at;
  }

  #grow(): void {
    const grown = new Int32Array(2 * this.#slots.length);
    refill(grown, this.#slots, hashAt);
    this.#slots = grown;
  }
}

/** Multiplicative mixing: the upper bits are mixed best, so they are folded down. */
export function hash(high: number, low: number): number {
  const mixed = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
