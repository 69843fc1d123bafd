/**
 * The addresses that a port may send from. They are prefixes, stored as words and masks, so that a frame is
 * compared in place. A port has a few dozen at most in practice, and the one found last is tried first.
 */
import { readSigned32 } from '../../wire/bytes.js';
import { isV4, type Prefix, toBytes, V6_BYTES } from '../../wire/ip.js';

const V4_WORDS = 1;
const V6_WORDS = 4;

export class AllowedAddresses {
  readonly #v4: PrefixTable;
  readonly #v6: PrefixTable;

  constructor(prefixes: readonly Prefix[]) {
    this.#v4 = new PrefixTable(
      prefixes.filter(({ ip }) => isV4(ip)),
      V4_WORDS,
    );
    this.#v6 = new PrefixTable(
      prefixes.filter(({ ip }) => !isV4(ip)),
      V6_WORDS,
    );
  }

  /** Returns whether the IPv4 address in the four bytes at `at` is allowed. */
  hasV4(bytes: Uint8Array, at: number): boolean {
    return this.#v4.has(bytes, at);
  }

  /** Returns whether the IPv6 address in the sixteen bytes at `at` is allowed. */
  hasV6(bytes: Uint8Array, at: number): boolean {
    return this.#v6.has(bytes, at);
  }
}

/** Rows of `words` address words, followed by the same number of mask words. */
class PrefixTable {
  readonly #words: number;
  readonly #rows: Int32Array;
  #last = 0;

  constructor(prefixes: readonly Prefix[], words: number) {
    this.#words = words;
    this.#rows = Int32Array.from(
      prefixes.flatMap(({ ip, bits }) => {
        const bytes = toBytes(ip).subarray(V6_BYTES - 4 * words);
        const masks = Array.from({ length: words }, (_, index) => maskWord(bits - 32 * index));
        return [...masks.map((mask, index) => readSigned32(bytes, 4 * index) & mask), ...masks];
      }),
    );
  }

  has(bytes: Uint8Array, at: number): boolean {
    const row = 2 * this.#words;
    if (this.#last < this.#rows.length && this.#matches(this.#last, bytes, at)) return true;
    for (let base = 0; base < this.#rows.length; base += row) {
      if (!this.#matches(base, bytes, at)) continue;
      this.#last = base;
      return true;
    }
    return false;
  }

  #matches(base: number, bytes: Uint8Array, at: number): boolean {
    for (let word = 0; word < this.#words; word++) {
      const found = readSigned32(bytes, at + 4 * word) & this.#rows[base + this.#words + word];
      if (found !== this.#rows[base + word]) return false;
    }
    return true;
  }
}

/** A mask of the leading `bits` bits of a word; `bits` may be below 0 or above 32. */
function maskWord(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}
