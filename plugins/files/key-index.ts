/**
 * Finds the row of a key. The index is a hash table over a column of keys, each of one, two or four 32-bit words. The
 * table takes eight bytes a row beside the column. A Map would take 40 bytes a row, and a large one would stop the
 * thread for 100 ms whenever it grows.
 */

export const NONE = -1;

export class KeyIndex {
  /** The keys of all rows, one after the other. */
  readonly keys: Uint32Array;
  readonly #words: number;
  /** Row + 1; 0 = the slot is free. At most half of the slots are taken, so a search ends soon. */
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** Random, so that the author of a file cannot choose addresses that collide. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32) | 0;
  /** The longest search so far, in slots. */
  longestSearch = 0;

  /** Makes an index without rows. `keys` has the keys already, and `add` puts a row into the index. */
  constructor(keys: Uint32Array, words: number) {
    this.keys = keys;
    this.#words = words;
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, (2 * keys.length) / words)));
    this.#slots = new Int32Array(size);
    this.#mask = size - 1;
  }

  get rows(): number {
    return this.keys.length / this.#words;
  }

  /** Adds a row and returns NONE. If the index has a row with the same key already, returns that row and adds nothing. */
  add(row: number): number {
    const slot = this.#search(this.keys, row * this.#words);
    if (this.#slots[slot] !== 0) return this.#slots[slot] - 1;
    this.#slots[slot] = row + 1;
    return NONE;
  }

  /** Returns the row of the key that begins at `at` in `key`, or NONE. */
  find(key: Uint32Array, at = 0): number {
    return this.#slots[this.#search(key, at)] - 1;
  }

  /**
   * Returns a `find` for keys that mostly come in the order of the rows, as those of another version of the same file do. It
   * looks first at the row behind the one found last: that needs no hash, and reads memory in order.
   */
  finder(): (key: Uint32Array, at: number) => number {
    let next = 0;
    return (key, at) => {
      const row = next < this.rows && this.#isAt(next, key, at) ? next : this.find(key, at);
      if (row !== NONE) next = row + 1;
      return row;
    };
  }

  /** Returns the slot of the key, or the free slot where the key belongs. */
  #search(key: Uint32Array, at: number): number {
    let slot = this.#hash(key, at) & this.#mask;
    let looked = 1;
    for (; this.#slots[slot] !== 0 && !this.#isAt(this.#slots[slot] - 1, key, at); looked++)
      slot = (slot + 1) & this.#mask;
    if (looked > this.longestSearch) this.longestSearch = looked;
    return slot;
  }

  #isAt(row: number, key: Uint32Array, at: number): boolean {
    const own = row * this.#words;
    for (let word = 0; word < this.#words; word++) if (this.keys[own + word] !== key[at + word]) return false;
    return true;
  }

  /** The mixing steps of MurmurHash3. */
  #hash(key: Uint32Array, at: number): number {
    let hash = this.#seed;
    for (let word = 0; word < this.#words; word++) {
      hash = Math.imul(hash ^ key[at + word], 0x85eb_ca6b);
      hash ^= hash >>> 13;
      hash = Math.imul(hash, 0xc2b2_ae35);
      hash ^= hash >>> 16;
    }
    return hash;
  }
}
