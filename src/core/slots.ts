/**
 * Tables of slots of four words: open addressing, linear probing, nothing allocated but when they grow. MacIndex and
 * AddressTable are such tables. A key comes in words, so that no frame needs a number above 32 bits or a text.
 *
 * A free slot is all zero. At most half of the slots are taken: a probe of a key that is not there then looks at two on
 * average. What changes a table is here. The search for a key is each table's own, since every frame makes one; there the size
 * of a slot is a literal (`<< 2`, `+ 4`), since V8 reads an imported constant from memory each time.
 */

export const SLOT_WORDS = 4;
/** A table has a power of two of slots. */
export const MIN_SLOTS = 16;

/** The hash of the key of the slot at `at`. */
export type HashAt = (words: Int32Array, at: number) => number;

/** The slot where a search begins for a key of this hash. */
function home(slots: Int32Array, hash: number): number {
  return (hash << 2) & (slots.length - 1);
}

/** The slot where it goes on. */
function next(slots: Int32Array, at: number): number {
  return (at + SLOT_WORDS) & (slots.length - 1);
}

function isFree(slots: Int32Array, at: number): boolean {
  return (slots[at] | slots[at + 1] | slots[at + 2] | slots[at + 3]) === 0;
}

/** Takes out the slot at `at`. What probed past the hole moves back, so that no probe ends early and no tombstone is needed. */
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

/** Puts the slot at `at` of `from` in. Its key is not in the table, which has room. */
export function insert(slots: Int32Array, from: Int32Array, at: number, hashAt: HashAt): void {
  let to = home(slots, hashAt(from, at));
  while (!isFree(slots, to)) to = next(slots, to);
  copySlot(slots, to, from, at);
}

/** All that is in `from` goes in. There is room for it, and nothing of it is in the table. */
export function refill(slots: Int32Array, from: Int32Array, hashAt: HashAt): void {
  for (let at = 0; at < from.length; at += SLOT_WORDS) if (!isFree(from, at)) insert(slots, from, at, hashAt);
}

function copySlot(slots: Int32Array, at: number, from: Int32Array, fromAt: number): void {
  slots[at] = from[fromAt];
  slots[at + 1] = from[fromAt + 1];
  slots[at + 2] = from[fromAt + 2];
  slots[at + 3] = from[fromAt + 3];
}
