/**
 * Hash tables with slots of four words: open addressing, linear probing, and no allocation except to grow.
 * MacIndex and AddressTable are such tables. A key is words, so that no frame needs a number above 32 bits or
 * a text.
 *
 * A free slot is all zero. At most half of the slots are taken, so that a probe for a missing key looks at
 * two slots on average. Code that changes a table is here. Each table searches by code of its own, since
 * every frame makes a search: there the size of a slot is a literal (`<< 2`, `+ 4`), since V8 reads an
 * imported constant from memory each time.
 */

export const SLOT_WORDS = 4;
/** The number of slots of a table is a power of two. */
export const MIN_SLOTS = 16;

/** Returns the hash of the key of the slot at `at`. */
export type HashAt = (words: Int32Array, at: number) => number;

/** Returns the slot where the search for a key with this hash begins. */
function home(slots: Int32Array, hash: number): number {
  return (hash << 2) & (slots.length - 1);
}

/** Returns the slot where a search goes on. */
function next(slots: Int32Array, at: number): number {
  return (at + SLOT_WORDS) & (slots.length - 1);
}

function isFree(slots: Int32Array, at: number): boolean {
  return (slots[at] | slots[at + 1] | slots[at + 2] | slots[at + 3]) === 0;
}

/** Removes the slot at `at`. Later slots of the same probe sequence move back, so that no probe ends early
 * and no tombstone is needed. */
export function removeAt(slots: Int32Array, at: number, hashAt: HashAt): void {
  const last = slots.length - 1;
  let hole = at;
  for (let from = next(slots, at); !isFree(slots, from); from = next(slots, from)) {
    const begin = home(slots, hashAt(slots, from));
    if (((from - begin) & last) < ((from - hole) & last)) continue;
    copySlot(slots, hole, slots, from);
    hole = from;
  }
  slots[hole] = slots[hole + 1] = slots[hole + 2] = slots[hole + 3] = 0;
}

/** Inserts a copy of the slot at `at` of `from`. The table has room and does not have the key. */
export function insert(slots: Int32Array, from: Int32Array, at: number, hashAt: HashAt): void {
  let to = home(slots, hashAt(from, at));
  while (!isFree(slots, to)) to = next(slots, to);
  copySlot(slots, to, from, at);
}

/** Inserts copies of all slots of `from`. The table has room and has none of the keys. */
export function refill(slots: Int32Array, from: Int32Array, hashAt: HashAt): void {
  for (let at = 0; at < from.length; at += SLOT_WORDS) if (!isFree(from, at)) insert(slots, from, at, hashAt);
}

function copySlot(slots: Int32Array, at: number, from: Int32Array, fromAt: number): void {
  slots[at] = from[fromAt];
  slots[at + 1] = from[fromAt + 1];
  slots[at + 2] = from[fromAt + 2];
  slots[at + 3] = from[fromAt + 3];
}
