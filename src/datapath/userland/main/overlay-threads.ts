/**
 * The threads that carry one overlay, as if they were one. What is said to the overlay, all of them hear; what several
 * of them ask about one unicast MAC, is asked once; where it lives is told to all, so that none need ask again.
 *
 * With one thread everything passes as it is. With more, questions get numbers of their own here, and each remembers
 * which thread awaits its answer under which number. An answer that is too old must reach nobody: whatever changes a
 * MAC (a target set, an invalidate, a delete) forgets the question about it, and a thread that still waits asks again.
 */
import type { AddressTable } from '../../../core/address-table.js';
import type { RouteMtu } from '../../../model/underlay-state.js';
import type { MacAddress } from '../../../plugin/contract.js';
import type { Endpoint, IpAddress } from '../../../wire/ip.js';
import type { KnownTarget, LookupAnswer, LookupRequest, TargetEntries, TargetEntry } from '../../contract.js';
import { LIST_SLICE } from '../protocol.js';
import { readRecent, readTargets } from './table-reader.js';
import type { Link, Request } from './thread.js';

interface OpenQuestion {
  /** Undefined: about one frame to a group MAC, which is another question each time. */
  readonly mac: MacAddress | undefined;
  readonly asking: { readonly thread: number; readonly lookup: number }[];
}

export class OverlayThreads {
  readonly #overlay: number;
  readonly #links: readonly Link[];
  readonly #ask: (request: LookupRequest) => void;
  readonly #open = new Map<number, OpenQuestion>();
  /** Unicast MAC -> the number of the question about it. */
  readonly #openOf = new Map<MacAddress, number>();
  #lastLookup = 0;
  #asked = 0;

  constructor(overlay: number, links: readonly Link[], ask: (request: LookupRequest) => void) {
    this.#overlay = overlay;
    this.#links = links;
    this.#ask = ask;
  }

  /** Questions that were asked; those that were not, since another thread's was open, do not count. */
  get asked(): number {
    return this.#asked;
  }

  /** `thread` asks. */
  heard(thread: number, question: LookupRequest): void {
    if (this.#links.length === 1) {
      this.#asked++;
      this.#ask(question);
      return;
    }
    const { lookup, destinationMac } = question;
    const mac = question.frame === undefined ? destinationMac : undefined;
    const known = mac === undefined ? undefined : this.#openOf.get(mac);
    if (known !== undefined) {
      this.#open.get(known)?.asking.push({ thread, lookup });
      return;
    }
    const number = ++this.#lastLookup;
    this.#open.set(number, { mac, asking: [{ thread, lookup }] });
    if (mac !== undefined) this.#openOf.set(mac, number);
    this.#asked++;
    this.#ask({ ...question, lookup: number });
  }

  answer(number: number, answer: LookupAnswer): void {
    const overlay = this.#overlay;
    if (this.#links.length === 1) {
      this.#links[0].post({ kind: 'answer', overlay, lookup: number, answer });
      return;
    }
    const open = this.#open.get(number);
    if (open === undefined) return;
    this.#open.delete(number);
    if (open.mac !== undefined) this.#openOf.delete(open.mac);
    for (const { thread, lookup } of open.asking)
      this.#links[thread].post({ kind: 'answer', overlay, lookup, answer });
    if (open.mac === undefined || answer.kind !== 'target') return;
    const { to, ttlMs } = answer;
    this.#links.forEach((link, thread) => {
      if (open.asking.some((one) => one.thread === thread)) return;
      link.post({ kind: 'set-target', overlay, mac: open.mac!, to, ttlMs, unlessKnown: true });
    });
  }

  setTarget(mac: MacAddress, to: readonly Endpoint[], ttlMs: number): void {
    this.#forget(mac);
    for (const link of this.#links) link.post({ kind: 'set-target', overlay: this.#overlay, mac, to, ttlMs });
  }

  invalidate(mac: MacAddress | undefined): void {
    if (mac === undefined) for (const known of [...this.#openOf.keys()]) this.#forget(known);
    else this.#forget(mac);
    for (const link of this.#links) link.invalidate(this.#overlay, mac);
  }

  setDestination(destination: Endpoint): void {
    for (const link of this.#links)
      link.post({ kind: 'set-destination', overlay: this.#overlay, destination });
  }

  setPeers(table: AddressTable): void {
    for (const link of this.#links) link.post({ kind: 'set-peers', overlay: this.#overlay, table });
  }

  setLoops(destinations: readonly IpAddress[]): void {
    for (const link of this.#links) link.post({ kind: 'set-loops', overlay: this.#overlay, destinations });
  }

  setRouteMtus(routes: readonly RouteMtu[]): void {
    for (const link of this.#links) link.post({ kind: 'set-route-mtus', overlay: this.#overlay, routes });
  }

  /** Each port has it once. */
  announce(frame: Uint8Array): void {
    this.#links[0].post({ kind: 'announce', overlay: this.#overlay, frame });
  }

  async deleteTarget(mac: MacAddress): Promise<boolean> {
    this.#forget(mac);
    const replies = await this.#requestAll({ kind: 'delete-target', overlay: this.#overlay, mac });
    return replies.includes(true);
  }

  targets(after: MacAddress, limit: number): Promise<TargetEntries> {
    return readTargets(this.#links, this.#overlay, after, limit);
  }

  recentTargets(limit: number): Promise<readonly TargetEntry[]> {
    return readRecent(this.#links, this.#overlay, limit);
  }

  /** The first to be put in is the first to make room: from the end. */
  restoreTargets(targets: readonly KnownTarget[]): void {
    for (let end = targets.length; end > 0; end -= LIST_SLICE) {
      const some = targets.slice(Math.max(0, end - LIST_SLICE), end);
      for (const link of this.#links)
        link.post({ kind: 'restore-targets', overlay: this.#overlay, targets: some });
    }
  }

  /** Resolves when none of them has anything of the overlay any more. */
  async remove(): Promise<void> {
    await this.#requestAll({ kind: 'remove-overlay', overlay: this.#overlay });
  }

  #requestAll(request: Request): Promise<unknown[]> {
    return Promise.all(this.#links.map((link) => link.request(request)));
  }

  #forget(mac: MacAddress): void {
    const number = this.#openOf.get(mac);
    if (number === undefined) return;
    this.#openOf.delete(mac);
    this.#open.delete(number);
  }
}

/** Of every overlay; where several threads carry it, of the one that knows most. */
export async function countTargets(threads: readonly Link[]): Promise<ReadonlyMap<number, number>> {
  const replies = await Promise.all(threads.map((thread) => thread.request({ kind: 'count-targets' })));
  const largest = new Map<number, number>();
  for (const counts of replies as ReadonlyMap<number, number>[])
    for (const [overlay, count] of counts) largest.set(overlay, Math.max(count, largest.get(overlay) ?? 0));
  return largest;
}
