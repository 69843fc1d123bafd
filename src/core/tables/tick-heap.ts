/**
 * Keys, small whole numbers, in the order of their ticks: a binary heap, with the place of each key, so that a key can be
 * moved and deleted. It allocates only to grow. Ticks are compared by their difference, as everywhere in core.
 */
import { NONE } from './mac-index.js';

const FIRST_KEYS = 16;

export class TickHeap {
  /** The keys at 2n + 1 and 2n + 2 come no earlier than the one at n. */
  #keys = new Int32Array(FIRST_KEYS);
  #size = 0;
  /** By key: its place in the heap plus 1; 0 = it is not there. */
  #places = new Int32Array(FIRST_KEYS);
  /** By key. */
  #ticks = new Int32Array(FIRST_KEYS);

  get size(): number {
    return this.#size;
  }

  has(key: number): boolean {
    return key < this.#places.length && this.#places[key] > 0;
  }

  /** The key with the earliest tick; NONE if there is no key. */
  get first(): number {
    return this.#size === 0 ? NONE : this.#keys[0];
  }

  /** The tick of a key that is there. */
  tick(key: number): number {
    return this.#ticks[key];
  }

  /** Adds a key, or gives it another tick. */
  set(key: number, tick: number): void {
    while (key >= this.#places.length) {
      this.#places = twice(this.#places);
      this.#ticks = twice(this.#ticks);
    }
    this.#ticks[key] = tick;
    if (this.#places[key] === 0) {
      if (this.#size === this.#keys.length) this.#keys = twice(this.#keys);
      this.#put(key, this.#size++);
    }
    this.#rise(key);
    this.#sink(key);
  }

  /** Removes a key if it is there. */
  delete(key: number): void {
    if (!this.has(key)) return;
    const place = this.#places[key] - 1;
    this.#places[key] = 0;
    const last = this.#keys[--this.#size];
    if (last === key) return;
    this.#put(last, place);
    this.#rise(last);
    this.#sink(last);
  }

  #rise(key: number): void {
    let place = this.#places[key] - 1;
    for (let above; place > 0; place = above) {
      above = (place - 1) >> 1;
      if (!this.#isEarlier(key, this.#keys[above])) break;
      this.#put(this.#keys[above], place);
    }
    this.#put(key, place);
  }

  #sink(key: number): void {
    let place = this.#places[key] - 1;
    for (let below = 2 * place + 1; below < this.#size; below = 2 * place + 1) {
      if (below + 1 < this.#size && this.#isEarlier(this.#keys[below + 1], this.#keys[below])) below++;
      if (!this.#isEarlier(this.#keys[below], key)) break;
      this.#put(this.#keys[below], place);
      place = below;
    }
    this.#put(key, place);
  }

  #isEarlier(key: number, other: number): boolean {
    return ((this.#ticks[key] - this.#ticks[other]) | 0) < 0;
  }

  #put(key: number, place: number): void {
    this.#keys[place] = key;
    this.#places[key] = place + 1;
  }
}

function twice(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(array.length * 2);
  grown.set(array);
  return grown;
}
