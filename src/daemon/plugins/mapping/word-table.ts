/**
 * A hash table of rows of 32-bit words: keys of a fixed number of words, each with a value. A row takes its words
 * and no object, so that a million rows cost the garbage collector nothing.
 *
 * The rows are spread over parts, each a table of its own that grows by itself. So no change, and no step over one
 * part, takes longer than a millisecond, however large the whole is. A Map that grows to a million rows stops its
 * thread for 100 ms.
 */

/** At four million rows a part has 16,384, and to double it takes less than a millisecond. */
export const PARTS = 256;
const PART_BITS = 8;
const FIRST_SLOTS = 8;

export class WordTable {
  size = 0;
  readonly #keyWords: number;
  readonly #slotWords: number;
  /** Slots of each part. The first word of a value is never 0; in a free slot it is. */
  readonly #parts: (Uint32Array | undefined)[] = new Array<Uint32Array | undefined>(PARTS);
  readonly #counts = new Uint32Array(PARTS);
  /** Random, so that the author of a table cannot choose keys that collide. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32) | 0;

  constructor(keyWords: number, valueWords: number) {
    this.#keyWords = keyWords;
    this.#slotWords = keyWords + valueWords;
  }

  /** Copies the value of the key into `value`. Returns false, and copies nothing, when there is no such key. */
  get(key: Uint32Array, value: Uint32Array, at = 0): boolean {
    const hash = this.#hash(key, at);
    const slots = this.#parts[hash & (PARTS - 1)];
    if (slots === undefined) return false;
    const slot = this.#find(slots, hash, key, at);
    if (slots[slot + this.#keyWords] === 0) return false;
    this.#copyValue(slots, slot, value);
    return true;
  }

  /** Sets the value of a key. Returns whether the key is new; otherwise copies its value of before into `before`. */
  set(key: Uint32Array, value: Uint32Array, before: Uint32Array): boolean {
    const hash = this.#hash(key, 0);
    const part = hash & (PARTS - 1);
    const slots = this.#withRoom(part);
    const slot = this.#find(slots, hash, key, 0);
    const isNew = slots[slot + this.#keyWords] === 0;
    if (isNew) {
      for (let word = 0; word < this.#keyWords; word++) slots[slot + word] = key[word];
      this.#counts[part]++;
      this.size++;
    } else this.#copyValue(slots, slot, before);
    for (let word = this.#keyWords; word < this.#slotWords; word++)
      slots[slot + word] = value[word - this.#keyWords];
    return isNew;
  }

  /** Removes a key. Returns false when there is none; otherwise copies its value into `before`. */
  remove(key: Uint32Array, before: Uint32Array): boolean {
    const hash = this.#hash(key, 0);
    const part = hash & (PARTS - 1);
    const slots = this.#parts[part];
    if (slots === undefined) return false;
    const slot = this.#find(slots, hash, key, 0);
    if (slots[slot + this.#keyWords] === 0) return false;
    this.#copyValue(slots, slot, before);
    this.#close(slots, slot);
    this.#counts[part]--;
    this.size--;
    return true;
  }

  /** Calls `visit` for each row of a part: its words begin at `at`, the key first. `visit` must not change the table. */
  visit(part: number, visit: (words: Uint32Array, at: number) => void): void {
    const slots = this.#parts[part];
    if (slots === undefined) return;
    for (let at = 0; at < slots.length; at += this.#slotWords)
      if (slots[at + this.#keyWords] !== 0) visit(slots, at);
  }

  #copyValue(slots: Uint32Array, slot: number, value: Uint32Array): void {
    for (let word = this.#keyWords; word < this.#slotWords; word++)
      value[word - this.#keyWords] = slots[slot + word];
  }

  /** Returns the offset of the key's slot, or of the free slot where the key belongs. */
  #find(slots: Uint32Array, hash: number, key: Uint32Array, at: number): number {
    let slot = this.#home(slots, hash);
    while (slots[slot + this.#keyWords] !== 0 && !this.#isAt(slots, slot, key, at))
      slot = slot + this.#slotWords === slots.length ? 0 : slot + this.#slotWords;
    return slot;
  }

  #home(slots: Uint32Array, hash: number): number {
    const mask = slots.length / this.#slotWords - 1;
    return ((hash >>> PART_BITS) & mask) * this.#slotWords;
  }

  #isAt(slots: Uint32Array, slot: number, key: Uint32Array, at: number): boolean {
    for (let word = 0; word < this.#keyWords; word++) if (slots[slot + word] !== key[at + word]) return false;
    return true;
  }

  /** Returns the slots of a part, grown if another row would make it more than three quarters full. */
  #withRoom(part: number): Uint32Array {
    const slots = this.#parts[part];
    const slotWords = this.#slotWords;
    if (slots !== undefined && (this.#counts[part] + 1) * 4 * slotWords <= slots.length * 3) return slots;
    const grown = new Uint32Array(slots === undefined ? FIRST_SLOTS * slotWords : 2 * slots.length);
    this.#parts[part] = grown;
    if (slots !== undefined)
      for (let at = 0; at < slots.length; at += slotWords)
        if (slots[at + this.#keyWords] !== 0) {
          const slot = this.#find(grown, this.#hash(slots, at), slots, at);
          for (let word = 0; word < slotWords; word++) grown[slot + word] = slots[at + word];
        }
    return grown;
  }

  /** Frees a slot, and moves rows behind it up, so that none is out of reach of its search. */
  #close(slots: Uint32Array, slot: number): void {
    const slotWords = this.#slotWords;
    const { length } = slots;
    let free = slot;
    for (
      let at = (slot + slotWords) % length;
      slots[at + this.#keyWords] !== 0;
      at = (at + slotWords) % length
    ) {
      const home = this.#home(slots, this.#hash(slots, at));
      // The row may move up unless its home lies between the free slot and its own.
      if ((at - home + length) % length < (at - free + length) % length) continue;
      slots.copyWithin(free, at, at + slotWords);
      free = at;
    }
    slots.fill(0, free, free + slotWords);
  }

  /** The mixing steps of MurmurHash3. */
  #hash(key: Uint32Array, at: number): number {
    let hash = this.#seed;
    for (let word = 0; word < this.#keyWords; word++) {
      hash = Math.imul(hash ^ key[at + word], 0x85eb_ca6b);
      hash ^= hash >>> 13;
      hash = Math.imul(hash, 0xc2b2_ae35);
      hash ^= hash >>> 16;
    }
    return hash;
  }
}
