/**
 * The peers of an overlay: underlay addresses that its frames may come from. They are the addresses that its
 * plugin names and the destinations of its targets. The control side makes a table of the former, and
 * replaces it in one step, whatever its size; the latter come and go one by one.
 */
import { type IpAddress, toBytes } from '../wire/ip.js';
import * as addresses from './address-table.js';

export class Peers {
  readonly #changed: (ip: IpAddress, isPeer: boolean) => void;
  /** Address -> number of targets that have it as a destination. */
  readonly #references = new Map<IpAddress, number>();
  #held = addresses.createTable(1);
  #named = addresses.EMPTY_TABLE;

  /** `changed` is called for each address that becomes a destination or ceases to be one. */
  constructor(changed: (ip: IpAddress, isPeer: boolean) => void = () => undefined) {
    this.#changed = changed;
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
  }

  add(ip: IpAddress): void {
    const references = this.#references.get(ip) ?? 0;
    this.#references.set(ip, references + 1);
    if (references > 0) return;
    if (this.#references.size > addresses.roomOf(this.#held)) this.#held = addresses.grow(this.#held);
    addresses.put(this.#held, ip);
    this.#changed(ip, true);
  }

  remove(ip: IpAddress): void {
    const references = this.#references.get(ip) ?? 0;
    if (references > 1) {
      this.#references.set(ip, references - 1);
    } else if (references === 1) {
      this.#references.delete(ip);
      addresses.remove(this.#held, ip);
      this.#changed(ip, false);
    }
  }
}
