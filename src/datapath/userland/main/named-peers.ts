/**
 * The peers that the plugin of one overlay names: a list of any length. What the threads are told of it is a table in
 * memory that all of them see, which each takes in place of the one before in a single step (core/peers.ts): who stays a
 * peer is one at every moment. The table is made here in slices, and so is the news of what has changed.
 *
 * A list that comes while another is under way takes its place, wherever that was: news are made from what has been
 * told, not from the list before.
 */
import { type AddressTable, createTable, EMPTY_TABLE, put } from '../../../core/address-table.js';
import { inBackground } from '../../../model/background.js';
import type { IpAddress } from '../../../wire/ip.js';
import { NAMED, type PeerNews, type PeerThreads } from './peers.js';
import { inSlices } from './slices.js';

/** Addresses between two looks at the clock. */
const STEP = 256;

export class NamedPeers {
  /** What was named last. */
  list: readonly IpAddress[] = [];
  /** What the threads have. */
  table: AddressTable = EMPTY_TABLE;
  readonly #peers: PeerThreads;
  readonly #tell: (table: AddressTable) => void;
  readonly #news: PeerNews;
  /** Counts the lists; beyond all of them once the overlay is gone. */
  #latest = 0;

  /** `tell`: to the threads. */
  constructor(peers: PeerThreads, tell: (table: AddressTable) => void, news: PeerNews) {
    this.#peers = peers;
    this.#tell = tell;
    this.#news = news;
  }

  /** In force at once where they are few, and the news of it after the caller has gone on. */
  set(list: readonly IpAddress[]): void {
    this.list = list;
    const number = ++this.#latest;
    const making = this.#make(list);
    if (list.length <= STEP) making.next();
    const work = (function* (spread: Generator<undefined, void>): Generator<undefined, void> {
      yield* making;
      yield* spread;
    })(this.#spread(list));
    const later = Promise.resolve().then(() => inSlices(work, () => this.#latest !== number));
    inBackground('naming peers', later);
  }

  /** The overlay is gone. */
  end(): void {
    this.#latest = Infinity;
  }

  *#make(list: readonly IpAddress[]): Generator<undefined, void> {
    const table = createTable(list.length);
    for (let index = 0; index < list.length; index++) {
      put(table, list[index]);
      if (index % STEP === STEP - 1 && index + 1 < list.length) yield;
    }
    this.table = table;
    this.#tell(table);
  }

  /** Each step is told of before the next: threads have news of their own of the same addresses in between. */
  *#spread(list: readonly IpAddress[]): Generator<undefined, void> {
    const wanted = new Set<IpAddress>();
    for (let at = 0; at < list.length; at += STEP) {
      const added: IpAddress[] = [];
      for (const ip of list.slice(at, at + STEP)) {
        wanted.add(ip);
        const before = this.#peers.get(ip) ?? 0;
        this.#peers.set(ip, before | NAMED);
        if (before === 0) added.push(ip);
      }
      if (added.length > 0) this.#news(added, []);
      yield;
    }
    let removed: IpAddress[] = [];
    let seen = 0;
    for (const [ip, bits] of this.#peers) {
      if ((bits & NAMED) !== 0 && !wanted.has(ip)) {
        if (bits === NAMED) {
          this.#peers.delete(ip);
          removed.push(ip);
        } else this.#peers.set(ip, bits & ~NAMED);
      }
      if (++seen % STEP !== 0) continue;
      if (removed.length > 0) this.#news([], removed);
      removed = [];
      yield;
    }
    if (removed.length > 0) this.#news([], removed);
  }
}
