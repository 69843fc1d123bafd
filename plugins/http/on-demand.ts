/**
 * The modes `lookup` and `watch`: the store is asked about what this host uses. In `watch` the store also tells every
 * change at once; in `lookup` a change is seen when the answer before it gets old.
 */
import {
  type Answer,
  BackOff,
  type Destination,
  formatEndpoint,
  type Host,
  ipFamily,
  type IpAddress,
  type MacAddress,
  type MappingEntry,
  spread,
  type Target,
} from '../../src/plugin/index.js';
import { Cache } from './cache.js';
import { Follower, type Followed } from './follower.js';
import type { DefaultAge } from './freshness.js';
import type { Gate } from './gate.js';
import type { StoreHealth } from './health.js';
import { Refusals } from './refusals.js';
import type { Batch, Known, Network, Store } from './store.js';
import { inBackground, pause, Repeated } from './timing.js';
import { StoreTrouble } from './trouble.js';
import { otherFamily, UNKNOWN, type View, type ViewEvents } from './view.js';

/** The stream is opened within this time after the start: all hosts of a site may start at the same moment. */
const OPEN_MS = 1000;
/** Questions at a time, when everything in use is asked about again. The others of this host still find connections. */
const RENEWED_AT_A_TIME = 8;
/** Pause between two of them. 10,000 hosts with 100 MACs each ask for some 20 s. */
const RENEW_PAUSE_MS = 200;

export class OnDemandView implements View, Followed {
  readonly #host: Host;
  readonly #store: Store;
  readonly #gate: Gate;
  readonly #events: ViewEvents;
  #defaults: DefaultAge;
  readonly #family: 4 | 6;
  readonly #entries: Cache<MacAddress, MappingEntry | null>;
  readonly #neighbors: Cache<IpAddress, MacAddress | null>;
  readonly #servers: Cache<MacAddress, MacAddress | null>;
  readonly #refusals: Refusals;
  readonly #follower: Follower | undefined;
  readonly #refresh: Repeated;
  readonly #backOff = new BackOff({ firstMs: 500, maxMs: 10_000 });
  #network: Known<Network> | undefined;
  /** The VTEPs of the network, as text. */
  #listed: ReadonlySet<string> = new Set();
  /** VTEPs of changes that the list of the network may not have yet. */
  #added = new Map<string, Destination>();

  constructor(
    host: Host,
    store: Store,
    gate: Gate,
    health: StoreHealth,
    events: ViewEvents,
    options: DefaultAge & { readonly isWatching: boolean },
  ) {
    const { signal } = host;
    const now = (): number => host.now();
    this.#host = host;
    this.#store = store;
    this.#gate = gate;
    this.#events = events;
    this.#defaults = options;
    this.#family = ipFamily(host.listen.ip);
    this.#entries = new Cache((mac, known) => gate.pass(() => store.entry(mac, signal, known)), now);
    this.#neighbors = new Cache((ip, known) => gate.pass(() => store.neighbor(ip, signal, known)), now);
    this.#servers = new Cache((mac, known) => gate.pass(() => store.dhcpServer(mac, signal, known)), now);
    this.#refusals = new Refusals(host, store.origin);
    this.#follower = options.isWatching ? new Follower(host, store, health, this) : undefined;
    this.#refresh = new Repeated(() => this.#refreshed(), host);
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#readNetwork(signal);
    this.#refresh.within(spread(this.#network?.age.ttlMs ?? this.#defaults.ttlMs));
    const follower = this.#follower;
    if (follower === undefined) return;
    const opening = pause(spread(OPEN_MS), this.#host.signal).then(() => follower.run(undefined));
    inBackground(this.#host, opening);
  }

  async reload(signal: AbortSignal): Promise<void> {
    await this.#readNetwork(signal);
    inBackground(this.#host, this.#renewAll());
  }

  renewed(): void {
    this.#follower?.reopen();
    this.#refresh.within(0);
  }

  async close(): Promise<void> {
    // A host that uses a part of a network asks for that part again.
  }

  async move(signal: AbortSignal): Promise<void> {
    await this.#readNetwork(signal, true);
    for (const cache of [this.#entries, this.#neighbors, this.#servers]) cache.outdate();
    if (this.#follower === undefined) inBackground(this.#host, this.#renewAll());
    else this.#follower.continueFrom(undefined);
  }

  moveBack(): void {
    this.renewed();
  }

  useAge(age: DefaultAge): void {
    this.#defaults = age;
  }

  /** The store may be back soon: this finds it out, whether there are lookups or not. */
  troubled(): void {
    this.#refresh.within(this.#backOff.next());
  }

  // -- The VTEPs

  async #readNetwork(signal: AbortSignal, isOther = false): Promise<void> {
    const before = isOther ? undefined : this.#network;
    const network = await this.#store.network(signal, before);
    this.#network = network;
    if (network.value !== before?.value) {
      this.#listed = new Set(network.value.vteps.map(formatEndpoint));
      this.#added.clear();
      this.#tellVteps();
      if (network.value.refused > 0)
        this.#host.log.warn(`${this.#store.origin} has ${network.value.refused} VTEPs that are not valid`);
    }
  }

  #tellVteps(): void {
    const all = new Map(this.#added);
    for (const to of this.#network?.value.vteps ?? []) all.set(formatEndpoint(to), to);
    this.#events.vteps([...all.values()]);
  }

  async #refreshed(): Promise<number> {
    try {
      await this.#gate.pass(() => this.#readNetwork(this.#host.signal));
      this.#backOff.reset();
      this.#events.entries();
      return spread(this.#network?.age.ttlMs ?? this.#defaults.ttlMs);
    } catch {
      // The gate has told it.
      return this.#backOff.next();
    }
  }

  // -- Answers

  async resolve(mac: MacAddress): Promise<Answer> {
    return this.#answer(await this.#entries.renewed(mac));
  }

  #answer({ value, age }: Known<MappingEntry | null>): Answer {
    if (value === null) return { kind: 'drop', reason: UNKNOWN, ttlMs: age.ttlMs };
    const reason = otherFamily(value.to.ip, this.#family);
    if (reason !== undefined) return { kind: 'drop', reason, ttlMs: age.ttlMs };
    return { kind: 'target', to: value.to, ...age };
  }

  neighbor(ip: IpAddress): Promise<MacAddress | null> {
    return this.#neighbors.get(ip);
  }

  dhcpServer(client: MacAddress): Promise<MacAddress | null> {
    return this.#servers.get(client);
  }

  async placeOf(mac: MacAddress): Promise<Destination | null | undefined> {
    try {
      const entry = await this.#entries.get(mac);
      return entry?.to ?? null;
    } catch {
      return undefined;
    }
  }

  async ipsOf(mac: MacAddress): Promise<readonly IpAddress[]> {
    return ipsOf(await this.#entries.get(mac));
  }

  // -- Changes

  /** Changes before the stream may have been missed: whatever is in use is asked about again. */
  opened(hasCursor: boolean): void {
    if (!hasCursor) inBackground(this.#host, this.#renewAll());
  }

  resync(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  take({ changes, refused }: Batch): Promise<void> {
    this.#refusals.take({ changes, refused });
    this.#refusals.show();
    const last = new Map(changes.map(({ mac, entry }) => [mac, entry]));
    const age = ageFrom(this.#defaults);
    const targets: Target[] = [];
    const unknown: MacAddress[] = [];
    let hasNewVtep = false;
    for (const [mac, entry] of last) {
      const isInUse = this.#entries.known(mac) !== undefined;
      this.#servers.forget(mac);
      if (entry === null || !isInUse) this.#entries.forget(mac);
      else this.#entries.set(mac, { value: entry, etag: undefined, age });
      // Flows to a MAC that has moved go on at once. One that is not in use may have a negative answer.
      if (entry !== null && isInUse && otherFamily(entry.to.ip, this.#family) === undefined)
        targets.push({ mac, to: entry.to, ...age });
      else unknown.push(mac);
      if (entry !== null && this.#isNewVtep(entry)) hasNewVtep = true;
    }
    if (hasNewVtep) this.#tellVteps();
    if (targets.length > 0) this.#host.setTargets(targets);
    if (unknown.length > 0) this.#host.invalidate(unknown);
    this.#moveAddresses(last, age);
    if (last.size > 0) this.#events.entries();
    return Promise.resolve();
  }

  #isNewVtep({ to }: MappingEntry): boolean {
    const key = formatEndpoint(to);
    if (this.#listed.has(key) || this.#added.has(key)) return false;
    this.#added.set(key, to);
    return true;
  }

  /** Tells the neighbour caches of this host where addresses in use are now. */
  #moveAddresses(changed: ReadonlyMap<MacAddress, MappingEntry | null>, age: Known<null>['age']): void {
    for (const [ip, mac] of [...this.#neighbors.entries()]) {
      const entry = mac === null ? undefined : changed.get(mac);
      if (entry !== undefined && !ipsOf(entry).includes(ip)) this.#neighbors.forget(ip);
    }
    for (const [mac, entry] of changed)
      for (const ip of ipsOf(entry)) {
        if (!this.#neighbors.has(ip)) continue;
        const before = this.#neighbors.known(ip);
        this.#neighbors.set(ip, { value: mac, etag: undefined, age });
        if (before !== mac) this.#host.announce(ip, mac);
      }
  }

  /** Asks again about everything in use, a few at a time, and tells varpd what has changed. Never rejects. */
  async #renewAll(): Promise<void> {
    const { signal } = this.#host;
    const macs = this.#entries.keys;
    for (const ip of this.#neighbors.keys) this.#neighbors.forget(ip);
    for (let at = 0; at < macs.length && !signal.aborted; at += RENEWED_AT_A_TIME) {
      await Promise.all(macs.slice(at, at + RENEWED_AT_A_TIME).map((mac) => this.#renew(mac)));
      if (at + RENEWED_AT_A_TIME < macs.length) await pause(spread(RENEW_PAUSE_MS), signal);
    }
  }

  async #renew(mac: MacAddress): Promise<void> {
    const before = this.#entries.known(mac);
    try {
      const known = await this.#entries.renewed(mac);
      const answer = this.#answer(known);
      if (this.#host.signal.aborted || isSamePlace(before, known.value)) return;
      if (answer.kind === 'target') this.#host.setTargets([{ mac, to: answer.to, ...known.age }]);
      else this.#host.invalidate([mac]);
    } catch (error) {
      // The gate has told a trouble of the store.
      if (!(error instanceof StoreTrouble) && !this.#host.signal.aborted) this.#host.log.error(String(error));
    }
  }
}

const ipsOf = (entry: MappingEntry | null): readonly IpAddress[] =>
  entry === null ? [] : [...entry.arp, ...entry.ndp];

const ageFrom = ({ ttlMs, staleMs }: DefaultAge): Known<null>['age'] => ({
  ttlMs,
  ...(staleMs !== undefined && { staleMs }),
});

function isSamePlace(a: MappingEntry | null | undefined, b: MappingEntry | null): boolean {
  if (a === undefined) return false;
  return a === null || b === null ? a === b : formatEndpoint(a.to) === formatEndpoint(b.to);
}
