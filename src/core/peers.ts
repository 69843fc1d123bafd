/**
 * The underlay addresses that frames of an overlay may come from: what its plugin named, and the destinations of
 * its targets. The former are a table that the control side has made, and are replaced by another in one step, however
 * many they are; the latter come and go one by one.
 */
import type { IpAddress } from '../wire/ip.js';
import * as addresses from './address-table.js';

export class Peers {
  readonly #changed: (ip: IpAddress, isPeer: boolean) => void;
  /** Address -> of how many targets it is a destination. */
  readonly #references = new Map<IpAddress, number>();
  #held = addresses.createTable(1);
  #named = addresses.EMPTY_TABLE;

  /** `changed` is told of each address that becomes a destination or ceases to be one. */
  constructor(changed: (ip: IpAddress, isPeer: boolean) => void = () => undefined) {
    this.#changed = changed;
  }

  /** Whether the four words at `at` (network byte order, IPv4 as v4-mapped) are a peer. */
  has(words: Int32Array, at: number): boolean {
    return addresses.has(this.#held, words, at) || addresses.has(this.#named, words, at);
  }

  /** What the plugin names, in place of what it named before. */
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
