/**
 * The entries of a network that this host knows: all of them (mode snapshot), or those in use (mode lookup).
 *
 * In a store two entries may have the same address for a while, since a writer changes one key after the other. The entry
 * with the later revision has it then. The table remembers what has changed since `takeChanges`, so that many changes of one
 * key become one.
 */
import {
  type Address,
  type Destination,
  ipFamily,
  type IpAddress,
  type MacAddress,
  type MappingEntry,
  type Target,
} from '../../src/plugin/index.js';

export interface Row {
  readonly to: Destination;
  /** Canonical. One address is not in a list, since a million lists take 32 MB. */
  readonly ips: IpAddress | readonly IpAddress[];
  /** 0 = none. */
  readonly server: MacAddress;
  /** Revision of the key in the bucket. It never goes back, so a higher one is later. */
  revision: number;
  /** The last reading of the whole bucket that had this entry. */
  reading: number;
}

export interface Changes {
  readonly targets: readonly Target[];
  readonly removedMacs: readonly MacAddress[];
  readonly addresses: readonly Address[];
  readonly removedIps: readonly IpAddress[];
}

export class Table {
  readonly #rows = new Map<MacAddress, Row>();
  readonly #owners = new Map<IpAddress, MacAddress>();
  /** MACs that claim an address which another entry has: few, and only for a while. */
  readonly #rivals = new Map<IpAddress, Set<MacAddress>>();
  readonly #destinations = new Map<string, { readonly to: Destination; rows: number }>();
  readonly #family: 4 | 6;
  #dirtyMacs = new Set<MacAddress>();
  #dirtyIps = new Set<IpAddress>();
  /** Set by the first `takeAll`. Before, everything is new anyway. */
  #isRecording = false;
  /** Set when a VTEP has come or gone since `takeVteps`. */
  #haveVtepsChanged = true;

  /** Destinations of another family than the listen address are no targets; varpd would refuse them. */
  constructor(family: 4 | 6) {
    this.#family = family;
  }

  get size(): number {
    return this.#rows.size;
  }

  row(mac: MacAddress): Row | undefined {
    return this.#rows.get(mac);
  }

  rows(): IterableIterator<[MacAddress, Row]> {
    return this.#rows.entries();
  }

  ownerOf(ip: IpAddress): MacAddress | undefined {
    return this.#owners.get(ip);
  }

  addressesOf(mac: MacAddress): readonly IpAddress[] {
    const row = this.#rows.get(mac);
    return row === undefined ? [] : ipsOf(row);
  }

  /** An entry that is older than the known one changes nothing. */
  set(mac: MacAddress, entry: MappingEntry, revision: number, reading: number): void {
    const before = this.#rows.get(mac);
    if (before !== undefined && before.revision > revision) return;
    const list = [...entry.arp, ...entry.ndp];
    const row: Row = {
      to: this.#hold(entry.to),
      ips: list.length === 1 ? list[0] : list,
      server: entry.dhcpServer ?? 0,
      revision,
      reading,
    };
    this.#rows.set(mac, row);
    if (before === undefined || before.to !== row.to) this.#markMac(mac);
    for (const ip of list) this.#claim(ip, mac, revision);
    if (before === undefined) return;
    this.#release(before.to);
    for (const ip of ipsOf(before)) if (!list.includes(ip)) this.#yieldUp(ip, mac);
  }

  /** The whole bucket has been read again, and has this entry unchanged. Returns false when it has another revision. */
  confirm(mac: MacAddress, revision: number, reading: number): boolean {
    const row = this.#rows.get(mac);
    if (row?.revision !== revision) return false;
    row.reading = reading;
    return true;
  }

  /** Keeps what is known of a MAC, although its key has no valid entry now. */
  keep(mac: MacAddress, reading: number): boolean {
    const row = this.#rows.get(mac);
    if (row !== undefined) row.reading = reading;
    return row !== undefined;
  }

  delete(mac: MacAddress): boolean {
    const row = this.#rows.get(mac);
    if (row === undefined) return false;
    this.#rows.delete(mac);
    this.#release(row.to);
    this.#markMac(mac);
    for (const ip of ipsOf(row)) this.#yieldUp(ip, mac);
    return true;
  }

  /** Forgets which MAC has this address, until `own`, or until an entry that has it is set. */
  disown(ip: IpAddress): void {
    this.#owners.delete(ip);
    this.#rivals.delete(ip);
  }

  own(ip: IpAddress, mac: MacAddress): void {
    this.#owners.set(ip, mac);
  }

  clear(): void {
    for (const mac of this.#rows.keys()) this.delete(mac);
  }

  /** The revisions of the known entries are of another bucket: every record is later than they are. */
  forgetRevisions(): void {
    for (const row of this.#rows.values()) row.revision = 0;
  }

  /** The MACs that the last reading of the whole bucket has not seen. */
  *unseen(reading: number): Generator<MacAddress> {
    for (const [mac, row] of this.#rows) if (row.reading !== reading) yield mac;
  }

  /** Every VTEP once, of the listen address's family. */
  vteps(): Destination[] {
    return [...this.#destinations.values()]
      .map(({ to }) => to)
      .filter(({ ip }) => ipFamily(ip as IpAddress) === this.#family);
  }

  /** Every underlay address once; undefined when no VTEP has come or gone since the last call. */
  takePeers(): string[] | undefined {
    if (!this.#haveVtepsChanged) return undefined;
    this.#haveVtepsChanged = false;
    return [...new Set([...this.#destinations.values()].map(({ to }) => to.ip))];
  }

  /** The target of a MAC; undefined when it has none that this host can send to. */
  targetOf(mac: MacAddress): Target | undefined {
    const row = this.#rows.get(mac);
    if (row === undefined || ipFamily(row.to.ip as IpAddress) !== this.#family) return undefined;
    return { mac, to: row.to };
  }

  /**
   * Everything, and nothing counts as changed any more. A row is read when it is asked for, so the reader may pause between two
   * rows. A row that changes meanwhile is left out and counts as changed: an entry that goes and comes back is met twice in a walk
   * through a Map.
   */
  takeAll(): { targets: Iterable<Target>; addresses: Iterable<Address> } {
    this.#isRecording = true;
    this.#dirtyMacs = new Set();
    this.#dirtyIps = new Set();
    return { targets: this.#targets(), addresses: this.#addresses() };
  }

  *#targets(): Generator<Target> {
    for (const mac of this.#rows.keys()) {
      const target = this.#dirtyMacs.has(mac) ? undefined : this.targetOf(mac);
      if (target !== undefined) yield target;
    }
  }

  *#addresses(): Generator<Address> {
    for (const [ip, mac] of this.#owners) if (!this.#dirtyIps.has(ip)) yield { ip, mac };
  }

  get hasChanges(): boolean {
    return this.#dirtyMacs.size + this.#dirtyIps.size > 0;
  }

  /** Takes the changes of at most `count` keys. */
  takeChanges(count: number): Changes {
    const targets: Target[] = [];
    const removedMacs: MacAddress[] = [];
    for (const mac of first(this.#dirtyMacs, count)) {
      const target = this.targetOf(mac);
      if (target === undefined) removedMacs.push(mac);
      else targets.push(target);
    }
    const addresses: Address[] = [];
    const removedIps: IpAddress[] = [];
    for (const ip of first(this.#dirtyIps, count)) {
      const mac = this.#owners.get(ip);
      if (mac === undefined) removedIps.push(ip);
      else addresses.push({ ip, mac });
    }
    return { targets, removedMacs, addresses, removedIps };
  }

  // -- Destinations: few, and shared by many rows

  #hold(to: Destination): Destination {
    const key = `${to.ip} ${to.port}`;
    const known = this.#destinations.get(key);
    if (known !== undefined) {
      known.rows++;
      return known.to;
    }
    this.#destinations.set(key, { to, rows: 1 });
    this.#haveVtepsChanged = true;
    return to;
  }

  #release(to: Destination): void {
    const key = `${to.ip} ${to.port}`;
    const known = this.#destinations.get(key)!;
    if (--known.rows > 0) return;
    this.#destinations.delete(key);
    this.#haveVtepsChanged = true;
  }

  // -- Addresses

  #claim(ip: IpAddress, mac: MacAddress, revision: number): void {
    const owner = this.#owners.get(ip);
    if (owner === mac) return;
    if (owner !== undefined) {
      const isLater = (this.#rows.get(owner)?.revision ?? 0) < revision;
      const rivals = this.#rivals.get(ip) ?? new Set();
      this.#rivals.set(ip, rivals.add(isLater ? owner : mac));
      if (!isLater) return;
      rivals.delete(mac);
    }
    this.#owners.set(ip, mac);
    this.#markIp(ip);
  }

  #yieldUp(ip: IpAddress, mac: MacAddress): void {
    const rivals = this.#rivals.get(ip);
    rivals?.delete(mac);
    if (this.#owners.get(ip) === mac) {
      this.#owners.delete(ip);
      this.#markIp(ip);
      const next = [...(rivals ?? [])].sort((a, b) => this.#revisionOf(b) - this.#revisionOf(a)).shift();
      if (next !== undefined) {
        rivals!.delete(next);
        this.#owners.set(ip, next);
      }
    }
    if (rivals?.size === 0) this.#rivals.delete(ip);
  }

  #revisionOf(mac: MacAddress): number {
    return this.#rows.get(mac)?.revision ?? 0;
  }

  /** Addresses that more than one entry has, and these MACs. */
  contested(): [ip: IpAddress, owner: MacAddress, rival: MacAddress][] {
    return [...this.#rivals].map(([ip, rivals]) => [ip, this.#owners.get(ip)!, [...rivals][0]]);
  }

  #markMac(mac: MacAddress): void {
    if (this.#isRecording) this.#dirtyMacs.add(mac);
  }

  #markIp(ip: IpAddress): void {
    if (this.#isRecording) this.#dirtyIps.add(ip);
  }
}

export function ipsOf({ ips }: Row): readonly IpAddress[] {
  return typeof ips === 'string' ? [ips] : ips;
}

function first<T>(set: Set<T>, count: number): T[] {
  const taken: T[] = [];
  for (const each of set) {
    if (taken.length >= count) break;
    taken.push(each);
  }
  for (const each of taken) set.delete(each);
  return taken;
}
