/**
 * The places of a mapping: each distinct destination, or list of destinations, once. A million MACs live behind some
 * thousand hosts, so a row of the mapping has the number of its place. A place that no row has is forgotten.
 */
import type { Destination } from '../../../wire/ip.js';
import { AnswerError } from '../plugin-answer.js';

/** Far more hosts than a network has. The Map of the places stays small enough to grow at once. */
export const MAX_PLACES = 65_536;

export class Places {
  readonly #numbers = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #lists: (readonly Destination[])[] = [];
  /** Rows that have each place. */
  readonly #rows: number[] = [];
  readonly #free: number[] = [];

  /** Returns the number of the place, for one more row. `to` is called for a new one. Throws an AnswerError. */
  take(key: string, to: () => readonly Destination[]): number {
    const known = this.#numbers.get(key);
    if (known !== undefined) {
      this.#rows[known]++;
      return known;
    }
    if (this.#numbers.size >= MAX_PLACES)
      throw new AnswerError(`gave a snapshot with more than ${MAX_PLACES} different destinations`);
    const list = to();
    const number = this.#free.pop() ?? this.#keys.length;
    this.#numbers.set(key, number);
    this.#keys[number] = key;
    this.#lists[number] = list;
    this.#rows[number] = 1;
    return number;
  }

  /** One row has this place no longer. */
  release(number: number): void {
    if (--this.#rows[number] > 0) return;
    this.#numbers.delete(this.#keys[number]);
    this.#keys[number] = '';
    this.#lists[number] = [];
    this.#free.push(number);
  }

  get size(): number {
    return this.#numbers.size;
  }

  at(number: number): readonly Destination[] {
    return this.#lists[number];
  }

  keyAt(number: number): string {
    return this.#keys[number];
  }

  /** Returns the number of a place, or undefined. */
  find(key: string): number | undefined {
    return this.#numbers.get(key);
  }
}
