/** All entries of a network, for the mode `snapshot`: by MAC, by address, and the VTEPs of them all. */
import type { Destination, IpAddress, MacAddress, MappingEntry } from '../../src/plugin/index.js';

export interface Row {
  readonly to: Destination;
  /** One address is not in a list, since a million lists take 50 MB. */
  readonly ips: IpAddress | readonly IpAddress[];
  readonly dhcpServer: MacAddress | undefined;
}

interface Vtep {
  readonly to: Destination;
  count: number;
}

export class Table {
  /** In the order of their last changes, which decides about addresses. */
  readonly #rows = new Map<MacAddress, Row>();
  /** The MAC that has each address. The later one of two entries with the same address has it. */
  readonly #owners = new Map<IpAddress, MacAddress>();
  readonly #vteps = new Map<string, Vtep>();
  /** Is another number after every change of the VTEPs. */
  vtepsVersion = 0;

  get size(): number {
    return this.#rows.size;
  }

  row(mac: MacAddress): Row | undefined {
    return this.#rows.get(mac);
  }

  owner(ip: IpAddress): MacAddress | undefined {
    return this.#owners.get(ip);
  }

  /** Returns the addresses of a MAC, without those that another MAC has taken over. */
  ipsOf(mac: MacAddress): IpAddress[] {
    const row = this.#rows.get(mac);
    return row === undefined ? [] : listOf(row).filter((ip) => this.#owners.get(ip) === mac);
  }

  rows(): Iterable<readonly [MacAddress, Row]> {
    return this.#rows;
  }

  owners(): Iterable<readonly [IpAddress, MacAddress]> {
    return this.#owners;
  }

  /** Returns every destination once. */
  vteps(): Destination[] {
    return Array.from(this.#vteps.values(), ({ to }) => to);
  }

  /** Puts an entry in the place of the one before; null removes it. Adds the addresses that are concerned to `touched`. */
  set(mac: MacAddress, entry: MappingEntry | null, touched?: Set<IpAddress>): void {
    this.#put(mac, entry === null ? undefined : rowOf(entry), touched);
  }

  /** Puts an entry, as the row that another table has if it says the same: two tables of one network share their rows. */
  setLike(mac: MacAddress, entry: MappingEntry, other: Row | undefined): void {
    const row = rowOf(entry);
    this.#put(mac, other !== undefined && isSame(row, other) ? other : row);
  }

  /** Takes over the row of another table. */
  keep(mac: MacAddress, row: Row): void {
    this.#put(mac, row);
  }

  #put(mac: MacAddress, row: Row | undefined, touched?: Set<IpAddress>): void {
    const before = this.#rows.get(mac);
    for (const ip of before === undefined ? [] : listOf(before)) {
      touched?.add(ip);
      if (this.#owners.get(ip) === mac) this.#owners.delete(ip);
    }
    const to = row === undefined ? undefined : this.#count(row.to);
    if (before !== undefined) {
      this.#uncount(before.to);
      this.#rows.delete(mac);
    }
    if (row === undefined || to === undefined) return;
    this.#rows.set(mac, row.to === to ? row : { ...row, to });
    for (const ip of listOf(row)) {
      touched?.add(ip);
      this.#owners.set(ip, mac);
    }
  }

  #count(to: Destination): Destination {
    const key = keyOf(to);
    const known = this.#vteps.get(key);
    if (known !== undefined) {
      known.count++;
      return known.to;
    }
    this.#vteps.set(key, { to, count: 1 });
    this.vtepsVersion++;
    return to;
  }

  #uncount(to: Destination): void {
    const key = keyOf(to);
    const known = this.#vteps.get(key);
    if (known === undefined || --known.count > 0) return;
    this.#vteps.delete(key);
    this.vtepsVersion++;
  }
}

const keyOf = ({ ip, port }: Destination): string => `${ip} ${port}`;

export function listOf({ ips }: Row): readonly IpAddress[] {
  return typeof ips === 'string' ? [ips] : ips;
}

function rowOf({ to, arp, ndp, dhcpServer }: MappingEntry): Row {
  const list = ndp.length === 0 ? arp : [...arp, ...ndp];
  return { to, ips: list.length === 1 ? list[0] : list, dhcpServer };
}

function isSame(row: Row, other: Row): boolean {
  const [own, others] = [listOf(row), listOf(other)];
  return (
    row.to.ip === other.to.ip &&
    row.to.port === other.to.port &&
    row.dhcpServer === other.dhcpServer &&
    own.length === others.length &&
    own.every((ip, index) => ip === others[index])
  );
}
