/**
 * The peers that the plugin of an overlay names, a list of any length. The threads get them as a table in
 * shared memory. Each thread replaces its table in a single step (core/peers/peers.ts), so that a peer in both
 * lists is a peer at every moment. The table and the news of changes are made here in slices.
 *
 * A new list replaces one that is still being worked on. News are made from the changes that have been
 * reported, not from the list before, so this is safe at any point.
 */
import {
  type AddressTable,
  createTable,
  EMPTY_TABLE,
  has,
  put,
  wordsOf,
} from '../../../core/tables/address-table.js';
import { inBackground } from '../../../model/background.js';
import type { IpAddress } from '../../../wire/ip.js';
import { NAMED, type PeerNews, type PeerThreads } from './peers.js';
import { inSlices } from './slices.js';

/** Addresses that are handled between two looks at the clock. */
const STEP = 256;

export class NamedPeers {
  /** The latest list. */
  list: readonly IpAddress[] = [];
  /** The table that the threads have. */
  table: AddressTable = EMPTY_TABLE;
  readonly #peers: PeerThreads;
  readonly #tell: (table: AddressTable) => void;
  readonly #news: PeerNews;
  /** Number of the latest list; Infinity once the overlay is gone. */
  #latest = 0;

  /** `tell` gives a table to the threads. */
  constructor(peers: PeerThreads, tell: (table: AddressTable) => void, news: PeerNews) {
    this.#peers = peers;
    this.#tell = tell;
    this.#news = news;
  }

  /** Sets the list. A short list is in force at once. The news follow after the caller has continued. */
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

  /** To be called when the overlay is gone. */
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

  /** Compares with the table of this list. Reports each step before the next: meanwhile threads may report the same addresses. */
  *#spread(list: readonly IpAddress[]): Generator<undefined, void> {
    const { table } = this;
    for (let at = 0; at < list.length; at += STEP) {
      const added: IpAddress[] = [];
      for (const ip of list.slice(at, at + STEP)) {
        const before = this.#peers.get(ip) ?? 0;
        this.#peers.set(ip, before | NAMED);
        if (before === 0) added.push(ip);
      }
      if (added.length > 0) this.#news(added, []);
      yield;
    }
    let removed: IpAddress[] = [];
    let seen = 0;
    for (const ip of this.#peers.keys()) {
      const bits = this.#peers.get(ip) ?? 0;
      if ((bits & NAMED) !== 0 && !has(table, wordsOf(ip), 0)) {
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
