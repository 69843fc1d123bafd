/**
 * The mapping of a virtual network, as a good file has it: which MAC lives where, which has which address, and who
 * serves DHCP for whom. Never changed: a new file makes a new one.
 *
 * Every question is one search in a hash table. An entry with an address of each family takes about 100 bytes.
 */
import {
  type Destination,
  ipFamily,
  type IpAddress,
  isV4,
  type MacAddress,
  parseIp,
} from '../../src/plugin/index.js';
import { macNumber, MAC_WORDS, readV4, readV6, v4Text, V6_WORDS, v6Text } from './addresses.js';
import { type KeyIndex, NONE } from './key-index.js';

/** Overlay addresses of one family, and the rows of the entries that have them. */
export class AddressTable {
  constructor(
    readonly index: KeyIndex,
    readonly owners: Uint32Array,
  ) {}

  /** The first and one past the last address of an owner: they stand in the order of the file, which is his too. */
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
  /** Each once; flooding goes to all of them. */
  readonly destinations: readonly Destination[];
  /** Of every entry, the row of its destination. */
  readonly destinationRows: Uint32Array;
  /** Of every entry, the row of that of its DHCP server, or NONE. */
  readonly serverRows: Int32Array;
  readonly v4: AddressTable;
  readonly v6: AddressTable;
  /** For questions, which come one at a time. */
  readonly #key = new Uint32Array(V6_WORDS);

  constructor(
    macs: KeyIndex,
    destinations: readonly Destination[],
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

  /** Entries, which are MACs. */
  get size(): number {
    return this.destinationRows.length;
  }

  macAt(row: number): MacAddress {
    return macNumber(this.macs.keys, row * MAC_WORDS);
  }

  /** Where this MAC lives. */
  destinationOf(mac: MacAddress): Destination | undefined {
    const row = this.#rowOf(mac);
    return row === NONE ? undefined : this.destinations[this.destinationRows[row]];
  }

  /** Who has this address on the overlay. `ip` is canonical. */
  neighbor(ip: IpAddress): MacAddress | undefined {
    const text = Buffer.from(ip, 'latin1');
    const { index, owners } = isV4(ip) ? this.v4 : this.v6;
    if (isV4(ip)) this.#key[0] = readV4(text, 0, text.length);
    else readV6(text, 0, text.length, this.#key);
    const row = index.find(this.#key);
    return row === NONE ? undefined : this.macAt(owners[row]);
  }

  /** What this MAC has, in the order of the file: `arp`, then `ndp`. */
  addressesOf(mac: MacAddress): IpAddress[] {
    const row = this.#rowOf(mac);
    if (row === NONE) return [];
    const { v4, v6 } = this;
    const texts = (table: AddressTable, text: (at: number) => string): string[] => {
      const [start, end] = table.rangeOf(row);
      return Array.from({ length: end - start }, (_, index) => text(start + index));
    };
    return [
      ...texts(v4, (at) => v4Text(v4.index.keys[at])),
      ...texts(v6, (at) => v6Text(v6.index.keys, at * V6_WORDS)),
    ].flatMap((text) => parseIp(text) ?? []);
  }

  /** Who answers the DHCP requests of this MAC. */
  dhcpServer(client: MacAddress): MacAddress | undefined {
    const row = this.#rowOf(client);
    const server = row === NONE ? NONE : this.serverRows[row];
    return server === NONE ? undefined : this.macAt(server);
  }

  /** Underlay addresses, each once. */
  peers(): IpAddress[] {
    return [...new Set(this.destinations.map(({ ip }) => ip))];
  }

  /** Destinations that an underlay of this family reaches. */
  destinationsOf(family: 4 | 6): readonly Destination[] {
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
