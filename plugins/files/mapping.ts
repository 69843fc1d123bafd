/**
 * The mapping of a virtual network, out of a valid file: the destination, the addresses and the DHCP server of every
 * MAC. A mapping never changes; a new file makes a new mapping.
 *
 * Every question is one search in a hash table. An entry with one address of each family takes about 100 bytes.
 */
import { type Endpoint, ipFamily, type IpAddress, isV4, type MacAddress } from '../../src/plugin/index.js';
import {
  macNumber,
  MAC_WORDS,
  readV4,
  readV6,
  v4Text,
  V6_WORDS,
  v6Text,
} from '../../src/plugin/mapping/addresses.js';
import { type KeyIndex, NONE } from './key-index.js';

/** Overlay addresses of one family, and the row of the entry (the owner) that has each. */
export class AddressTable {
  constructor(
    readonly index: KeyIndex,
    readonly owners: Uint32Array,
  ) {}

  /** Returns the first address of an owner, and one past the last. Addresses and owners both have the order of the
   * file. */
  rangeOf(owner: number): [start: number, end: number] {
    return [this.#firstNotBelow(owner), this.#firstNotBelow(owner + 1)];
  }

  #firstNotBelow(owner: number): number {
    let low = 0;
    let high = this.owners.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.owners[middle] < owner) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class Mapping {
  readonly macs: KeyIndex;
  /** Every destination once. Flooded frames go to all of them. */
  readonly destinations: readonly Endpoint[];
  /** For each entry, the row of its destination. */
  readonly destinationRows: Uint32Array;
  /** For each entry, the row of the entry of its DHCP server, or NONE. */
  readonly serverRows: Int32Array;
  readonly v4: AddressTable;
  readonly v6: AddressTable;
  /** The key of the present question. One is enough, since questions come one at a time. */
  readonly #key = new Uint32Array(V6_WORDS);

  constructor(
    macs: KeyIndex,
    destinations: readonly Endpoint[],
    destinationRows: Uint32Array,
    serverRows: Int32Array,
    v4: AddressTable,
    v6: AddressTable,
  ) {
    this.macs = macs;
    this.destinations = destinations;
    this.destinationRows = destinationRows;
    this.serverRows = serverRows;
    this.v4 = v4;
    this.v6 = v6;
  }

  /** Number of entries. An entry is a MAC. */
  get size(): number {
    return this.destinationRows.length;
  }

  macAt(row: number): MacAddress {
    return macNumber(this.macs.keys, row * MAC_WORDS);
  }

  /** Returns the VTEP that the MAC lives behind. */
  destinationOf(mac: MacAddress): Endpoint | undefined {
    const row = this.#rowOf(mac);
    return row === NONE ? undefined : this.destinations[this.destinationRows[row]];
  }

  /** Returns the MAC that has this address on the overlay. `ip` has the canonical spelling. */
  neighbor(ip: IpAddress): MacAddress | undefined {
    const text = Buffer.from(ip, 'latin1');
    const { index, owners } = isV4(ip) ? this.v4 : this.v6;
    if (isV4(ip)) this.#key[0] = readV4(text, 0, text.length);
    else readV6(text, 0, text.length, this.#key);
    const row = index.find(this.#key);
    return row === NONE ? undefined : this.macAt(owners[row]);
  }

  /** Returns the addresses of the MAC: first `arp`, then `ndp`, each in the order of the file. */
  addressesOf(mac: MacAddress): IpAddress[] {
    const row = this.#rowOf(mac);
    if (row === NONE) return [];
    const { v4, v6 } = this;
    const texts = (table: AddressTable, text: (at: number) => IpAddress): IpAddress[] => {
      const [start, end] = table.rangeOf(row);
      return Array.from({ length: end - start }, (_, index) => text(start + index));
    };
    return [
      ...texts(v4, (at) => v4Text(v4.index.keys[at])),
      ...texts(v6, (at) => v6Text(v6.index.keys, at * V6_WORDS)),
    ];
  }

  /** Returns the MAC of the server that answers the DHCP requests of this MAC. */
  dhcpServer(client: MacAddress): MacAddress | undefined {
    const row = this.#rowOf(client);
    const server = row === NONE ? NONE : this.serverRows[row];
    return server === NONE ? undefined : this.macAt(server);
  }

  /** Returns the underlay addresses, each once. */
  peers(): IpAddress[] {
    return [...new Set(this.destinations.map(({ ip }) => ip))];
  }

  /** Returns the destinations of this address family. */
  destinationsOf(family: 4 | 6): readonly Endpoint[] {
    return this.destinations.filter(({ ip }) => ipFamily(ip) === family);
  }

  #rowOf(mac: MacAddress): number {
    this.#key[0] = Math.floor(mac / 2 ** 32);
    this.#key[1] = mac;
    return this.macs.find(this.#key);
  }
}

/** `3 entries` */
export function entries({ size }: Mapping): string {
  return `${size} ${size === 1 ? 'entry' : 'entries'}`;
}
