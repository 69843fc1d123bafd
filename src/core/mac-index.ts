/**
 * MAC -> small integer, for every frame: open addressing over 32-bit words, linear probing, nothing allocated but
 * when it grows. A MAC comes as its two halves (wire/mac.ts), since a 48-bit number is no small integer.
 *
 *   slot: | high 16 bits | low 32 bits | value | unused |     value NONE = the slot is free
 */

/** What `get` says of a MAC that is not there. Values are >= 0. */
export const NONE = -1;

const SLOT_WORDS = 4;
const VALUE = 2;
const MIN_SLOTS = 16;

export class MacIndex {
  #slots = new Int32Array(0);
  #mask = 0;
  #size = 0;

  constructor() {
    this.#resize(MIN_SLOTS);
  }

  get size(): number {
    return this.#size;
  }

  get(high: number, low: number): number {
    const slots = this.#slots;
    for (let slot = hash(high, low) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * SLOT_WORDS;
      const value = slots[at + VALUE];
      if (value === NONE || (slots[at + 1] === low && slots[at] === high)) return value;
    }
  }

  /** Adds the MAC or changes its value. */
  set(high: number, low: number, value: number): void {
    // Half full at most: a probe of a MAC that is not there then looks at two slots on average.
    if ((this.#size + 1) * 2 > this.#mask + 1) this.#resize((this.#mask + 1) * 2);
    this.#put(high, low, value);
  }

  delete(high: number, low: number): boolean {
    const slots = this.#slots;
    let hole = hash(high, low) & this.#mask;
    for (; ; hole = (hole + 1) & this.#mask) {
      const at = hole * SLOT_WORDS;
      if (slots[at + VALUE] === NONE) return false;
      if (slots[at + 1] === low && slots[at] === high) break;
    }
    this.#size--;
    // Move back what probed past the hole, so that no probe ends early and no tombstone is needed.
    for (let slot = (hole + 1) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * SLOT_WORDS;
      if (slots[at + VALUE] === NONE) break;
      const home = hash(slots[at], slots[at + 1]) & this.#mask;
      if (((slot - home) & this.#mask) < ((slot - hole) & this.#mask)) continue;
      slots.copyWithin(hole * SLOT_WORDS, at, at + SLOT_WORDS);
      hole = slot;
    }
    slots[hole * SLOT_WORDS + VALUE] = NONE;
    return true;
  }

  clear(): void {
    this.#slots = new Int32Array(0);
    this.#resize(MIN_SLOTS);
  }

  #put(high: number, low: number, value: number): void {
    const slots = this.#slots;
    for (let slot = hash(high, low) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * SLOT_WORDS;
      const free = slots[at + VALUE] === NONE;
      if (!free && (slots[at + 1] !== low || slots[at] !== high)) continue;
      if (free) this.#size++;
      slots[at] = high;
      slots[at + 1] = low;
      slots[at + VALUE] = value;
      return;
    }
  }

  #resize(count: number): void {
    const old = this.#slots;
    this.#slots = new Int32Array(count * SLOT_WORDS).fill(NONE);
    this.#mask = count - 1;
    this.#size = 0;
    for (let at = 0; at < old.length; at += SLOT_WORDS) {
      if (old[at + VALUE] !== NONE) this.#put(old[at], old[at + 1], old[at + VALUE]);
    }
  }
}

/** Multiplicative mixing; the upper bits are the good ones, so they are folded down. */
export function hash(high: number, low: number): number {
  const mixed = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}
