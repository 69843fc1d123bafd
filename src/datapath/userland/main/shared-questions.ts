/**
 * The questions of an overlay that several threads carry. However many threads ask about a unicast MAC, the
 * listener gets one question, and each thread gets the destination, so that no thread need ask again.
 *
 * Questions get new numbers here, and each remembers the threads that await its answer, with their own
 * numbers. An outdated answer must reach no thread: a change of a MAC (a target set, an invalidate, a delete)
 * forgets the question about it, and a thread that still waits asks again.
 */
import type { MacAddress } from '../../../plugin/contract.js';
import type { LookupAnswer, LookupRequest } from '../../contract.js';
import type { Link } from './thread.js';

interface OpenQuestion {
  /** Undefined for a question about a frame to a group MAC, since each such question is a different one. */
  readonly mac: MacAddress | undefined;
  readonly asking: { readonly thread: number; readonly lookup: number }[];
}

export class SharedQuestions {
  readonly #open = new Map<number, OpenQuestion>();
  /** Unicast MAC -> the number of the question about it. */
  readonly #openOf = new Map<MacAddress, number>();
  #lastLookup = 0;

  /** Takes over the questions of a thread. Returns those that are to be asked, since no thread has asked them
   * yet. */
  take(thread: number, questions: readonly LookupRequest[]): LookupRequest[] {
    const news: LookupRequest[] = [];
    for (const question of questions) {
      const { lookup, destinationMac } = question;
      const mac = question.frame === undefined ? destinationMac : undefined;
      const known = mac === undefined ? undefined : this.#openOf.get(mac);
      if (known !== undefined) {
        this.#open.get(known)?.asking.push({ thread, lookup });
        continue;
      }
      const number = ++this.#lastLookup;
      this.#open.set(number, { mac, asking: [{ thread, lookup }] });
      if (mac !== undefined) this.#openOf.set(mac, number);
      news.push({ ...question, lookup: number });
    }
    return news;
  }

  /** Sends an answer to the threads that await it, and to the others what they may learn from it. */
  answer(overlay: number, number: number, answer: LookupAnswer, links: readonly Link[]): void {
    const open = this.#open.get(number);
    if (open === undefined) return;
    this.#open.delete(number);
    if (open.mac !== undefined) this.#openOf.delete(open.mac);
    for (const { thread, lookup } of open.asking)
      links[thread].post({ kind: 'answer', overlay, lookup, answer });
    const { mac } = open;
    if (mac === undefined) return;
    links.forEach((link, thread) => {
      if (open.asking.some((one) => one.thread === thread)) return;
      link.post({ kind: 'learn', overlay, mac, answer });
    });
  }

  forget(mac: MacAddress): void {
    const number = this.#openOf.get(mac);
    if (number === undefined) return;
    this.#openOf.delete(mac);
    this.#open.delete(number);
  }

  /** Forgets all questions about unicast MACs. */
  forgetAll(): void {
    for (const number of this.#openOf.values()) this.#open.delete(number);
    this.#openOf.clear();
  }
}
