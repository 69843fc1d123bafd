/** The questions for a lease that a port has asked (dhcp-leases.ts): each is good for one answer. */
import { NONE } from './mac-index.js';

/** Questions of one family whose answers are awaited: clients retry under one number, and hosts have few clients. */
const REMEMBERED = 8;

/**
 * What a port has asked and awaits, in memory that the threads of all its queues see: the answer is another flow than
 * the question, and may well come to another thread. Per family, the places and then the next one to be used.
 */
export type AskedLeases = Float64Array<SharedArrayBuffer>;

export const FAMILY_WORDS = REMEMBERED + 1;

export function createAskedLeases(): AskedLeases {
  const asked = new Float64Array(new SharedArrayBuffer(2 * FAMILY_WORDS * Float64Array.BYTES_PER_ELEMENT));
  asked.fill(NaN);
  asked[REMEMBERED] = asked[FAMILY_WORDS + REMEMBERED] = 0;
  return asked;
}

/**
 * The latest transaction numbers of a port. A free place holds NaN, which equals nothing. No lock: two threads that use
 * one place at once cost a port a number, and two that take one number give the same news.
 */
export class Transactions {
  readonly #numbers: Float64Array;

  constructor(asked: AskedLeases, first: number) {
    this.#numbers = asked.subarray(first, first + FAMILY_WORDS);
  }

  note(number: number): void {
    if (this.#find(number) !== NONE) return;
    const next = this.#numbers[REMEMBERED];
    this.#numbers[next] = number;
    this.#numbers[REMEMBERED] = (next + 1) % REMEMBERED;
  }

  /** Whether it was there; it is not any longer. */
  take(number: number): boolean {
    const at = this.#find(number);
    if (at === NONE) return false;
    this.#numbers[at] = NaN;
    return true;
  }

  #find(number: number): number {
    const at = this.#numbers.indexOf(number);
    return at < REMEMBERED ? at : NONE;
  }
}
