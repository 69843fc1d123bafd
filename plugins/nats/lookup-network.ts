/**
 * Mode lookup: this host asks the store for a MAC or an address when it needs it, and a watch of the bucket tells what becomes
 * of those in use. Memory and start take no longer for a large network.
 *
 * varpd keeps what it was answered. So an entry that leaves the table is taken out of varpd too.
 */
import {
  type Destination,
  ipFamily,
  type IpAddress,
  type MacAddress,
  parseMac,
} from '../../src/plugin/index.js';
import { REQUEST_MS } from './client.js';
import type { Position, Session } from './feed.js';
import { Gate } from './gate.js';
import { IP_PREFIX, ipKey, ipOfKey, macKey, macOfKey, vtepKey, VTEP_PREFIX, vtepOfKey } from './keys.js';
import { Network } from './network.js';
import { ipsOf, type Row } from './table.js';

/** Entries in use. varpd's own table has as many targets. */
const MAX_IN_USE = 65_536;
/** MACs that the store did not have, and addresses that were asked for: so many are remembered. When such a MAC comes, varpd
 * must ask again at once; when such an address moves, the ports must hear of it. */
const MAX_REMEMBERED = 16_384;
/** Questions at the store at the same time. */
const MAX_ASKING = 64;
/** When the bucket has changed while it was away, the entries in use are asked for again, at most so many a second. */
const CHECKS_PER_SECOND = 500;
const CHECKS_AT_ONCE = 16;

interface Update {
  readonly revision: number;
  readonly value: Uint8Array | undefined;
}

/** A question under way, and what the watch has brought of its key meanwhile. */
interface Asking {
  readonly answer: Promise<Row | null>;
  update: Update | undefined;
}

export class LookupNetwork extends Network {
  readonly #asking = new Map<MacAddress, Asking>();
  readonly #absent = new Map<MacAddress, true>();
  /** Addresses that ports of this host have asked for, and what they were told. */
  readonly #answered = new Map<IpAddress, MacAddress>();
  readonly #vteps = new Map<string, Destination>();
  readonly #gate = new Gate(MAX_ASKING);
  #havePeersChanged = true;
  #bucket: Position = { created: '', revision: 0 };
  #lastRevision = 0;

  entryOf(mac: MacAddress): Promise<Row | null> | Row | null {
    return this.table.row(mac) ?? this.#ask(mac);
  }

  async ownerOf(ip: IpAddress, signal?: AbortSignal): Promise<MacAddress | null> {
    const known = this.table.ownerOf(ip) ?? (await this.#findOwner(ip, signal));
    if (known !== null) this.#remember(this.#answered, ip, known);
    return known;
  }

  async #findOwner(ip: IpAddress, signal?: AbortSignal): Promise<MacAddress | null> {
    const record = await this.#gate.run(() => this.feed.get(ipKey(ip)), signal);
    const mac = record === null ? undefined : macIn(record.value);
    if (mac === undefined) {
      if (record !== null) this.refuse(record.key, 'expected {"mac": "..."}');
      return null;
    }
    this.accept(ipKey(ip));
    // The entry of the MAC is the truth.
    const row = await this.entryOf(mac);
    if (row === null || !ipsOf(row).includes(ip)) return null;
    this.table.own(ip, mac);
    return mac;
  }

  vteps(): readonly Destination[] {
    const family = ipFamily(this.host.listen.ip);
    return [...this.#vteps.values()].filter(({ ip }) => ipFamily(ip as IpAddress) === family);
  }

  protected peers(): string[] | undefined {
    const inUse = this.table.takePeers();
    if (inUse === undefined && !this.#havePeersChanged) return undefined;
    this.#havePeersChanged = false;
    return [...new Set([...this.#vteps.values()].map(({ ip }) => ip))];
  }

  keyCount(): undefined {
    return undefined;
  }

  // -- Questions to the store

  #ask(mac: MacAddress): Promise<Row | null> {
    const open = this.#asking.get(mac);
    if (open !== undefined) return open.answer;
    // Several may wait for the answer, so the deadline of the first one does not end the question.
    const asking: Asking = {
      answer: Promise.resolve().then(() => this.#fetch(mac, AbortSignal.timeout(REQUEST_MS))),
      update: undefined,
    };
    this.#asking.set(mac, asking);
    return asking.answer;
  }

  async #fetch(mac: MacAddress, signal: AbortSignal): Promise<Row | null> {
    try {
      const record = await this.#gate.run(() => this.feed.get(macKey(mac)), signal);
      const { update } = this.#asking.get(mac)!;
      const isOlder = update !== undefined && update.revision > (record?.revision ?? 0);
      if (isOlder) this.#learn(mac, update.value, update.revision);
      else this.#learn(mac, record?.value, record?.revision ?? 0);
    } finally {
      this.#asking.delete(mac);
    }
    return this.table.row(mac) ?? null;
  }

  #learn(mac: MacAddress, value: Uint8Array | undefined, revision: number): void {
    if (value === undefined) {
      this.accept(macKey(mac));
      this.#forget(mac);
      return;
    }
    const entry = this.parse(macKey(mac), value);
    if (entry === undefined) {
      if (this.table.row(mac) === undefined) this.#remember(this.#absent, mac, true);
      return;
    }
    this.#absent.delete(mac);
    const before = this.table.row(mac)?.to;
    this.table.set(mac, entry, revision, 0);
    const target = this.table.targetOf(mac);
    if (before !== undefined && before !== this.table.row(mac)!.to) {
      if (target === undefined) this.host.invalidate([mac]);
      else this.host.setTargets([{ ...target, ...this.age }]);
    }
    for (const ip of this.table.addressesOf(mac)) if (this.table.ownerOf(ip) === mac) this.#tellMove(ip, mac);
    if (before === undefined) this.#makeRoom();
  }

  /** The store does not have this MAC any more. */
  #forget(mac: MacAddress): void {
    if (this.table.delete(mac)) this.host.invalidate([mac]);
    this.#remember(this.#absent, mac, true);
  }

  #remember<K, V>(map: Map<K, V>, key: K, value: V): void {
    map.set(key, value);
    const [oldest] = map.keys();
    if (map.size > MAX_REMEMBERED) map.delete(oldest);
  }

  /** Tells the ports about an address that was asked for, when it is at another MAC than they were told. */
  #tellMove(ip: IpAddress, mac: MacAddress): void {
    const before = this.#answered.get(ip);
    if (before === undefined || before === mac) return;
    this.#answered.set(ip, mac);
    this.host.announce(ip, mac);
  }

  /** The entry that came first goes first; if it is still in use, it is asked for again. */
  #makeRoom(): void {
    if (this.table.size <= MAX_IN_USE) return;
    const own = new Set(this.ports);
    for (const [mac] of this.table.rows()) {
      if (own.has(mac)) continue;
      this.table.delete(mac);
      this.host.invalidate([mac]);
      return;
    }
  }

  // -- The bucket

  begin(isSame: boolean, bucket: Position): number {
    const before = this.position();
    this.#bucket = bucket;
    this.#lastRevision = 0;
    if (isSame) return before!.revision + 1;
    if (this.#absent.size > 0) this.host.invalidate([...this.#absent.keys()]);
    this.#absent.clear();
    if (before?.created !== bucket.created || before.revision > bucket.revision) this.table.forgetRevisions();
    return bucket.revision + 1;
  }

  record(key: string, value: Uint8Array | undefined, revision: number): void {
    this.#lastRevision = revision;
    if (this.isCurrent) this.advance(revision);
    const mac = macOfKey(key);
    if (mac !== undefined) this.#macRecord(mac, value, revision);
    else if (key.startsWith(IP_PREFIX)) this.#addressRecord(key, value);
    else if (key.startsWith(VTEP_PREFIX)) this.#vtepRecord(key, value !== undefined);
  }

  #macRecord(mac: MacAddress, value: Uint8Array | undefined, revision: number): void {
    const asking = this.#asking.get(mac);
    if (asking !== undefined) asking.update = { revision, value: value && Uint8Array.from(value) };
    const row = this.table.row(mac);
    if (row !== undefined && row.revision < revision) this.#learn(mac, value, revision);
    // The store has a MAC that it did not have before.
    else if (row === undefined && value !== undefined && this.#absent.delete(mac))
      this.host.invalidate([mac]);
    else return;
    this.settleLater();
  }

  /** The key of an address that was asked for has changed: it may be at another MAC. */
  #addressRecord(key: string, value: Uint8Array | undefined): void {
    const ip = ipOfKey(key);
    if (ip === undefined || !this.#answered.has(ip)) return;
    const mac = value === undefined ? undefined : macIn(value);
    if (this.table.ownerOf(ip) !== mac) this.table.disown(ip);
    if (mac !== undefined) this.#tellMove(ip, mac);
  }

  #vtepRecord(key: string, isThere: boolean): void {
    const vtep = vtepOfKey(key);
    if (vtep === undefined) {
      if (isThere) this.refuse(key, 'expected a key like vtep.10-88-88-69.4789');
      return;
    }
    if (isThere) this.#vteps.set(key, vtep);
    else this.#vteps.delete(key);
    this.#havePeersChanged = true;
    this.settleLater();
  }

  async caughtUp(session: Session, hasNews: boolean): Promise<void> {
    const vteps: string[] = [];
    await session.list(`${VTEP_PREFIX}>`, (key) => vteps.push(key));
    this.#vteps.clear();
    for (const key of vteps) this.#vtepRecord(key, true);
    this.#keepVteps();
    this.moveTo({
      created: this.#bucket.created,
      revision: Math.max(this.#bucket.revision, this.#lastRevision),
    });
    this.settle();
    this.tellCurrent();
    this.host.log.info(
      `bucket ${this.options.bucket} at revision ${this.position()!.revision}: ${this.count()} in use, ${this.#vteps.size} VTEP${this.#vteps.size === 1 ? '' : 's'}`,
    );
    // Deletions may have left no trace.
    if (hasNews) await this.#checkAll();
  }

  /** Asks again for the entries in use. */
  async #checkAll(): Promise<void> {
    const macs = [...this.table.rows()].map(([mac]) => mac);
    const beginMs = performance.now();
    for (let at = 0; at < macs.length && !this.host.signal.aborted; at += CHECKS_AT_ONCE) {
      const dueMs = beginMs + (at * 1000) / CHECKS_PER_SECOND - performance.now();
      if (dueMs > 0) await new Promise((resolve) => setTimeout(resolve, dueMs));
      const some = macs.slice(at, at + CHECKS_AT_ONCE);
      await Promise.all(some.map((mac) => this.#ask(mac)));
    }
  }

  // -- The state on disk has the VTEPs as other keys.

  #keepVteps(): void {
    this.otherKeys.clear();
    for (const vtep of this.#vteps.values()) this.otherKeys.add(vtepKey(vtep));
  }

  protected putInForce(): Promise<void> {
    for (const key of this.otherKeys) this.#vtepRecord(key, true);
    return Promise.resolve();
  }
}

/** `{"mac": "de:ad:be:ef:00:00"}` */
function macIn(value: Uint8Array): MacAddress | undefined {
  try {
    const { mac } = JSON.parse(new TextDecoder().decode(value)) as { mac?: unknown };
    return typeof mac === 'string' ? parseMac(mac) : undefined;
  } catch {
    return undefined;
  }
}
