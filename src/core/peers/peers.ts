/**
 * The peers of an overlay: underlay addresses that its frames may come from. They are the addresses that its
 * plugin names and the destinations of its targets. The control side makes a table of the former, and
 * replaces it in one step, whatever its size; the latter come and go one by one.
 *
 * These tables decide. The records (peer-records.ts) remember the decision for each sender that was heard, so
 * that a frame needs one search, which also says where it is counted.
 */
import { type IpAddress, toBytes } from '../../wire/ip.js';
import * as addresses from '../tables/address-table.js';
import type { Destinations } from '../tables/destinations.js';
import { NONE } from '../tables/mac-index.js';
import {
  HEARD,
  HELD,
  intAt,
  NAMED,
  OTHERS,
  type PeerMemory,
  PeerRecords,
  type Unreachable,
} from './peer-records.js';

/** The parts of the overlay that are used here. */
export interface PeersContext {
  /** Called for each address that becomes a destination or ceases to be one. */
  readonly changed: (ip: IpAddress, isPeer: boolean) => void;
  /** Called with the memory of the records, at first and when it is another one. */
  readonly moved: (memory: PeerMemory) => void;
  /** Frames are accepted from any address. */
  readonly isOpen: boolean;
}

export class Peers {
  readonly records: PeerRecords;
  readonly #changed: (ip: IpAddress, isPeer: boolean) => void;
  /** Address -> number of targets that have it as a destination. */
  readonly #references = new Map<IpAddress, number>();
  #held = addresses.createTable(1);
  #named = addresses.EMPTY_TABLE;
  /** Number of that table. */
  #list = 1;
  /** Frames are accepted from any address. */
  isOpen: boolean;
  /** The slot that was looked for last, and its record: most frames go where the frame before went. */
  #slot = NONE;
  #slotRecord = OTHERS;
  /** The sender of the last frame: most come from where the frame before came from. */
  #sender = OTHERS;

  constructor({
    changed = () => undefined,
    moved = () => undefined,
    isOpen = false,
  }: Partial<PeersContext> = {}) {
    this.#changed = changed;
    this.isOpen = isOpen;
    this.records = new PeerRecords(moved);
  }

  /** Returns the record of the sender in the four words at `at`, or NONE if frames from there are refused. It
   * counts as heard. */
  admit(words: Int32Array, at: number, nowTick: number): number {
    const { ints } = this.records;
    let record = this.#sender;
    let own = record << 5;
    if (
      ints[own + 3] !== words[at + 3] ||
      ints[own + 2] !== words[at + 2] ||
      ints[own + 1] !== words[at + 1] ||
      ints[own] !== words[at]
    ) {
      record = this.records.find(words, at);
      own = record << 5;
    }
    const isPeer = this.isOpen || ints[own + HELD] > 0 || ints[own + NAMED] === this.#list;
    if (record === OTHERS || !isPeer) return this.#admitNew(words, at, record, nowTick);
    this.#sender = record;
    ints[own + HEARD] = nowTick | 1;
    return record;
  }

  #admitNew(words: Int32Array, at: number, known: number, nowTick: number): number {
    const isNamed = addresses.has(this.#named, words, at);
    if (!isNamed && !this.isOpen && !addresses.has(this.#held, words, at)) return NONE;
    const record = known === OTHERS ? this.#add(words, at, false, nowTick) : known;
    if (isNamed && record !== OTHERS) this.records.ints[intAt(record, NAMED)] = this.#list;
    this.records.ints[intAt(record, HEARD)] = nowTick | 1;
    return record;
  }

  /** Returns the record of the destination with this slot. */
  ofSlot(slot: number, destinations: Destinations): number {
    if (slot !== this.#slot) {
      this.#slotRecord = this.records.find(destinations.addresses, destinations.addressAt(slot));
      this.#slot = slot;
    }
    return this.#slotRecord;
  }

  /** Returns the slot of its destination; NONE if nothing is sent there. */
  slotOf(ip: IpAddress): number {
    const record = this.records.find(addresses.wordsOf(ip), 0);
    return record === OTHERS ? NONE : this.records.slot(record);
  }

  /** Notes an ICMP message about the address in the four words at `at`. */
  unreachable(words: Int32Array, at: number, news: Unreachable, nowTick: number): void {
    const record = this.records.find(words, at);
    if (record !== OTHERS) this.records.unreachable(record, news, nowTick);
  }

  #add(words: Int32Array, at: number, isDestination: boolean, nowTick: number): number {
    // The record may have been that of another address until now.
    this.#slot = NONE;
    return this.records.add(words, at, isDestination, nowTick);
  }

  /** Returns whether the four words at `at` (network byte order, IPv4 as v4-mapped) are a peer. */
  has(words: Int32Array, at: number): boolean {
    return addresses.has(this.#held, words, at) || addresses.has(this.#named, words, at);
  }

  /** The same for an address. */
  hasAddress(ip: IpAddress): boolean {
    return this.has(new Int32Array(toBytes(ip).slice().buffer), 0);
  }

  /** Replaces the addresses that the plugin names. */
  name(table: addresses.AddressTable): void {
    this.#named = table;
    this.#list++;
  }

  /** Adds a destination, which has this slot. */
  add(ip: IpAddress, slot: number, nowTick: number): void {
    const references = this.#references.get(ip) ?? 0;
    this.#references.set(ip, references + 1);
    const words = addresses.wordsOf(ip);
    const known = this.records.find(words, 0);
    const record = known === OTHERS ? this.#add(words, 0, true, nowTick) : known;
    this.#slot = NONE;
    this.records.hold(record, references + 1, slot);
    if (references > 0) return;
    if (this.#references.size > addresses.roomOf(this.#held)) this.#held = addresses.grow(this.#held);
    addresses.put(this.#held, ip);
    this.#changed(ip, true);
  }

  remove(ip: IpAddress): void {
    const references = this.#references.get(ip) ?? 0;
    this.#slot = NONE;
    const record = this.records.find(addresses.wordsOf(ip), 0);
    this.records.hold(record, Math.max(0, references - 1), this.records.slot(record));
    if (references > 1) {
      this.#references.set(ip, references - 1);
    } else if (references === 1) {
      this.#references.delete(ip);
      addresses.remove(this.#held, ip);
      this.#changed(ip, false);
    }
  }
}
