/**
 * Finds the row of a key: a hash table over a column of keys of one, two or four 32-bit words, eight bytes a row beside
 * the column itself. A Map would take 40 bytes a row and stop the thread for 100 ms whenever a large one grows.
 */

export const NONE = -1;

export class KeyIndex {
  /** Row after row. */
  readonly keys: Uint32Array;
  readonly #words: number;
  /** Row + 1, 0 = free. At most half of them are taken, so a search ends soon. */
  readonly #slots: Int32Array;
  readonly #mask: number;
  /** Nobody can choose addresses so that they meet. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32) | 0;
  /** Slots looked at for the unluckiest key so far. */
  longestSearch = 0;

  /** Empty: the rows are there, `add` makes them findable. */
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

  /** NONE, or the row that has the same key already. */
  add(row: number): number {
    const slot = this.#search(this.keys, row * this.#words);
    if (this.#slots[slot] !== 0) return this.#slots[slot] - 1;
    this.#slots[slot] = row + 1;
    return NONE;
  }

  /** The row with the key that stands at `at`, or NONE. */
  find(key: Uint32Array, at = 0): number {
    return this.#slots[this.#search(key, at)] - 1;
  }

  /** The slot that has the key, or the free one where it would be. */
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
