/** The requests for a lease that a port has sent and that are unanswered (dhcp-leases.ts). Each is good for
 * one answer. */
import { NONE } from '../tables/mac-index.js';

/** Open requests that are remembered per address family. Clients retry under one number, and hosts have few
 * clients. */
const REMEMBERED = 8;

/**
 * Open requests of a port, in memory shared by the threads of all its queues: the answer is another flow than
 * the request, and may arrive at another thread. Each family has its places, and then the index of the place
 * to use next.
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
 * The latest transaction numbers of a port, for one address family. A free place holds NaN, which equals
 * nothing. There is no lock: if two threads use one place at once, the port loses a number; if two threads
 * take one number, both report the same lease.
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

  /** Takes out `number`. Returns whether it was there. */
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
