// How one input is made out of others.

/** Larger ones find nothing that smaller ones do not, and are slow. */
export const MAX_BYTES = 4096;

const EDGES = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 20, 31, 32, 40, 63, 64, 127, 128, 254, 255];

/** xorshift32: the same seed gives the same run. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  /** 0 to sides - 1. */
  roll(sides: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % sides;
  }
}

/** Each number as its bytes, one to four, and each word: what the code under test compares with. */
export function wordsOf(dictionary: Iterable<string | number>): Uint8Array[] {
  const words: Uint8Array[] = [];
  for (const word of dictionary) {
    if (typeof word === 'string') words.push(Buffer.from(word));
    else if (word > 0xff && word <= 0xffff) words.push(Uint8Array.of(word >> 8, word & 0xff));
    else if (word > 0xffff && word <= 0xffff_ffff)
      words.push(Uint8Array.of(word >>> 24, (word >> 16) & 0xff, (word >> 8) & 0xff, word & 0xff));
    else if (word >= 0 && word <= 0xff) words.push(Uint8Array.of(word));
  }
  return words;
}

export function mutate(
  parent: Uint8Array,
  other: Uint8Array,
  words: readonly Uint8Array[],
  dice: Dice,
): Uint8Array {
  let bytes: Uint8Array = parent.slice();
  for (let times = 1 + dice.roll(4); times > 0; times--) bytes = once(bytes, other, words, dice);
  return bytes.length > MAX_BYTES ? bytes.slice(0, MAX_BYTES) : bytes;
}

function once(bytes: Uint8Array, other: Uint8Array, words: readonly Uint8Array[], dice: Dice): Uint8Array {
  const { length } = bytes;
  if (length === 0) return Uint8Array.of(dice.roll(256));
  const at = dice.roll(length);
  switch (dice.roll(11)) {
    case 0:
      bytes[at] ^= 1 << dice.roll(8);
      return bytes;
    case 1:
      bytes[at] = dice.roll(256);
      return bytes;
    case 2:
      bytes[at] = EDGES[dice.roll(EDGES.length)];
      return bytes;
    case 3:
      bytes[at] += dice.roll(2) === 0 ? 1 + dice.roll(16) : -1 - dice.roll(16);
      return bytes;
    case 4: // a field of two bytes
      bytes[at] = dice.roll(4) === 0 ? dice.roll(256) : 0;
      if (at + 1 < length) bytes[at + 1] = EDGES[dice.roll(EDGES.length)];
      return bytes;
    case 5:
      return bytes.slice(0, at);
    case 6:
      return spliced(bytes, at, Math.min(length - at, 1 + dice.roll(16)), bytes.subarray(0, 0));
    case 7: // some of it twice
      return spliced(bytes, at, 0, bytes.slice(at, at + 1 + dice.roll(16)));
    case 8: {
      const word = words.length === 0 ? Uint8Array.of(0) : words[dice.roll(words.length)];
      return spliced(bytes, at, dice.roll(2) === 0 ? 0 : Math.min(word.length, length - at), word);
    }
    case 9: {
      const from = dice.roll(other.length + 1);
      return spliced(
        bytes,
        at,
        dice.roll(2) === 0 ? length - at : 0,
        other.slice(from, from + 1 + dice.roll(200)),
      );
    }
    default:
      return spliced(
        bytes,
        at,
        0,
        Uint8Array.from({ length: 1 + dice.roll(8) }, () => dice.roll(256)),
      );
  }
}

function spliced(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  const result = new Uint8Array(bytes.length - remove + insert.length);
  result.set(bytes.subarray(0, at));
  result.set(insert, at);
  result.set(bytes.subarray(at + remove), at + insert.length);
  return result;
}
