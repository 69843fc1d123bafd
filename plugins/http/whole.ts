/**
 * The mode `snapshot`: varpd has all entries of the network, and follows the changes. No frame waits for the store, and
 * the store may be away, also at a start: the last state is on disk. It suits networks of which each host uses most.
 *
 * A start waits for the first snapshot for some seconds. One that is still arriving then goes on arriving, and the store
 * is asked about single MACs and addresses meanwhile.
 */
import {
  type Address,
  type Answer,
  type Destination,
  type Difference,
  type Host,
  ipFamily,
  type IpAddress,
  type MacAddress,
  type MappingEntry,
  type SnapshotChange,
  StateSaver,
  type Target,
} from '../../src/plugin/index.js';
import { Follower, type Followed } from './follower.js';
import type { StoreHealth } from './health.js';
import type { NetworkState } from './network-state.js';
import { Refusals } from './refusals.js';
import type { Batch, Known, Store } from './store.js';
import { Table } from './table.js';
import { inBackground, pause } from './timing.js';
import { StoreTrouble } from './trouble.js';
import { otherFamily, UNKNOWN, type View, type ViewEvents } from './view.js';

/** varpd gives a start five seconds (`limits.startDeadlineMs`), and a start that fails tries once more. */
const START_MS = 3500;
/** A cursor that has moved on without a change is saved this often, so that it does not get too old on disk. */
const SAVE_CURSOR_MS = 600_000;
/** The last state is written at the end as well, if that takes no time. */
const MAX_ROWS_AT_END = 20_000;

export class WholeView implements View, Followed {
  readonly #host: Host;
  readonly #store: Store;
  readonly #health: StoreHealth;
  readonly #events: ViewEvents;
  readonly #family: 4 | 6;
  readonly #refusals: Refusals;
  readonly #follower: Follower;
  readonly #state: NetworkState;
  readonly #saver: StateSaver;
  #table = new Table();
  /** Cursor behind the state of the table; undefined before the first snapshot. */
  #revision: string | undefined;
  /** The store that the table is of (Store.source). */
  #source = '';
  #savedMs = 0;
  #loading: Promise<string> | undefined;
  /** Ends the loading from a store that is asked no more. */
  #abandon = new AbortController();
  #hasArrived: () => void = () => undefined;

  constructor(host: Host, store: Store, health: StoreHealth, events: ViewEvents, state: NetworkState) {
    this.#host = host;
    this.#store = store;
    this.#health = health;
    this.#events = events;
    this.#family = ipFamily(host.listen.ip);
    this.#refusals = new Refusals(host, store.origin);
    this.#follower = new Follower(host, store, health, this);
    this.#state = state;
    this.#saver = new StateSaver(
      () => this.#save(),
      ({ message }) => {
        host.log.warn(`the state of ${store.origin} cannot be saved: ${message}`);
      },
    );
  }

  async start(signal: AbortSignal): Promise<void> {
    const first = this.#loadSaved().then((revision) => revision ?? this.#load());
    if (!(await this.#isInTime(first, signal))) this.#askMeanwhile();
    const follow = first.then(
      (revision) => this.#follower.run(revision),
      () => this.#follower.runAnew(),
    );
    inBackground(this.#host, follow);
  }

  async reload(signal: AbortSignal): Promise<void> {
    const loading = this.resync().then((revision) => {
      this.#follower.continueFrom(revision);
    });
    await this.#isInTime(loading, signal);
    loading.catch(() => undefined);
  }

  renewed(): void {
    this.#follower.reopen();
  }

  /** A snapshot of the store before that is still arriving is left alone. */
  async move(signal: AbortSignal): Promise<void> {
    this.#abandon.abort();
    this.#abandon = new AbortController();
    this.#loading = undefined;
    const loading = this.#load();
    this.#follower.beginAgain();
    await this.#isInTime(loading, signal);
  }

  moveBack(): void {
    this.#abandon.abort();
    this.#abandon = new AbortController();
    this.#loading = undefined;
    this.#health.restore('snapshot');
    if (this.#revision === undefined) this.#follower.beginAgain();
    else this.#follower.continueFrom(this.#revision);
  }

  useAge(): void {
    // A snapshot does not age.
  }

  async close(): Promise<void> {
    await this.#saver.end(this.#table.size <= MAX_ROWS_AT_END);
  }

  // -- Answers. varpd asks about unicast MACs that its snapshot lacks, and about local ones. Before the first snapshot the
  // store is asked.

  resolve(mac: MacAddress): Answer | Promise<Answer> {
    if (this.#revision !== undefined) return this.#answer(this.#table.row(mac)?.to);
    return this.#entry(mac).then(({ value, age }) => ({ ...this.#answer(value?.to), ...age }));
  }

  #answer(to: Destination | undefined): Answer {
    if (to === undefined) return { kind: 'drop', reason: UNKNOWN };
    const reason = otherFamily(to.ip, this.#family);
    return reason === undefined ? { kind: 'target', to } : { kind: 'drop', reason };
  }

  #entry(mac: MacAddress): Promise<Known<MappingEntry | null>> {
    return this.#store.entry(mac, this.#host.signal);
  }

  neighbor(ip: IpAddress): MacAddress | null | Promise<MacAddress | null> {
    if (this.#revision !== undefined) return this.#table.owner(ip) ?? null;
    return this.#store.neighbor(ip, this.#host.signal).then(({ value }) => value);
  }

  dhcpServer(client: MacAddress): MacAddress | null | Promise<MacAddress | null> {
    if (this.#revision !== undefined) return this.#table.row(client)?.dhcpServer ?? null;
    return this.#entry(client).then(({ value }) => value?.dhcpServer ?? null);
  }

  placeOf(mac: MacAddress): Destination | null | Promise<Destination | null | undefined> {
    if (this.#revision !== undefined) return this.#table.row(mac)?.to ?? null;
    return this.#entry(mac).then(
      ({ value }) => value?.to ?? null,
      () => undefined,
    );
  }

  ipsOf(mac: MacAddress): readonly IpAddress[] | Promise<readonly IpAddress[]> {
    if (this.#revision !== undefined) return this.#table.ipsOf(mac);
    return this.#entry(mac).then(({ value }) => [...(value?.arp ?? []), ...(value?.ndp ?? [])]);
  }

  // -- The first state

  /** Puts the state on disk in force. Resolves to its revision; undefined when there is none. */
  async #loadSaved(): Promise<string | undefined> {
    const { log, signal } = this.#host;
    const { source } = this.#store;
    try {
      const saved = await this.#state.read(
        source,
        () => {
          this.#hasArrived();
        },
        signal,
      );
      if (saved === undefined) return undefined;
      const { table, revision, savedAt } = saved;
      await this.#putInForce(table, revision, signal);
      this.#source = source;
      log.info(`${entries(table)} of revision ${revision}, of the state that was saved at ${savedAt}`);
      return revision;
    } catch (error) {
      signal.throwIfAborted();
      log.warn(`the state of ${this.#store.origin} on disk is not used: ${(error as Error).message}`);
      return undefined;
    }
  }

  /** Resolves to false when rows have arrived, and the rest of them takes longer than a start may. Rejects as `first` does. */
  async #isInTime(first: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
    const arriving = new Promise<void>((resolve) => {
      this.#hasArrived = resolve;
    });
    const late = pause(START_MS, signal).then(() => arriving);
    return Promise.race([first.then(() => true), late.then(() => false)]);
  }

  /** The store is asked one by one until its snapshot has arrived. The VTEPs have to be known before. */
  #askMeanwhile(): void {
    const host = this.#host;
    host.remark(
      `the snapshot of ${this.#store.origin} is being read; unknown MACs are asked for one by one meanwhile`,
    );
    const asking = this.#store.network(host.signal).then(({ value }) => {
      if (this.#revision === undefined) this.#events.vteps(value.vteps);
    });
    asking.catch(() => undefined);
  }

  // -- Everything

  async resync(): Promise<string> {
    try {
      const revision = await this.#load();
      this.#health.restore('snapshot');
      return revision;
    } catch (error) {
      if (!this.#host.signal.aborted)
        this.#health.degrade('snapshot', error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /** Loads once for all that ask at the same time. The deadline of a caller does not end it. */
  #load(): Promise<string> {
    if (this.#loading !== undefined) return this.#loading;
    const loading = this.#loadNow(AbortSignal.any([this.#host.signal, this.#abandon.signal])).finally(() => {
      if (this.#loading === loading) this.#loading = undefined;
    });
    this.#loading = loading;
    return loading;
  }

  async #loadNow(signal: AbortSignal): Promise<string> {
    const table = new Table();
    const before = this.#table;
    const { source } = this.#store;
    this.#refusals.clear();
    const revision = await this.#store.snapshot(signal, (batch) => {
      this.#hasArrived();
      for (const { mac, entry } of batch.changes) {
        if (entry === null) table.set(mac, null);
        else table.setLike(mac, entry, before.row(mac));
      }
      for (const { mac } of batch.refused) {
        const row = mac === undefined ? undefined : before.row(mac);
        if (mac !== undefined && row !== undefined) table.keep(mac, row);
      }
      this.#refusals.take(batch);
    });
    const { added, changed, removed } = await this.#putInForce(table, revision, signal);
    this.#source = source;
    this.#refusals.show();
    this.#saver.changed();
    const counts = `+${added} -${removed} ~${changed}, ${entries(table)}`;
    this.#host.log.info(`${this.#store.origin}: snapshot of revision ${revision}: ${counts}`);
    return revision;
  }

  async #putInForce(table: Table, revision: string, signal: AbortSignal): Promise<Difference> {
    const difference = await this.#host.replaceAll({
      targets: targetsOf(table, this.#family),
      addresses: addressesOf(table),
      revision,
    });
    signal.throwIfAborted();
    this.#table = table;
    this.#revision = revision;
    this.#events.vteps(table.vteps());
    this.#events.entries();
    return difference;
  }

  async #save(): Promise<void> {
    this.#savedMs = this.#host.now();
    if (this.#revision !== undefined) await this.#state.write(this.#table, this.#source, this.#revision);
  }

  // -- Changes

  opened(): void {
    // The stream continues behind the snapshot, so that nothing can be missing.
  }

  async take({ changes, refused, cursor }: Batch): Promise<void> {
    if (changes.length > 0 || refused.length > 0) {
      this.#refusals.take({ changes, refused });
      this.#refusals.show();
    }
    const table = this.#table;
    if (changes.length > 0) await this.#change(changes, cursor ?? 'unknown');
    // A new snapshot may have come meanwhile, even of another store.
    if (cursor === undefined || table !== this.#table) return;
    this.#revision = cursor;
    if (changes.length > 0 || this.#host.now() - this.#savedMs > SAVE_CURSOR_MS) this.#saver.changed();
  }

  async #change(changes: Batch['changes'], revision: string): Promise<void> {
    const { vtepsVersion } = this.#table;
    const touched = new Set<IpAddress>();
    const last = new Map<MacAddress, MappingEntry | null>();
    for (const { mac, entry } of changes) {
      this.#table.set(mac, entry, touched);
      last.set(mac, entry);
    }
    try {
      await this.#host.changeSnapshot(this.#changeOf(last, touched, revision));
    } catch (error) {
      throw new StoreTrouble(`varpd refuses a change: ${error instanceof Error ? error.message : ''}`, false);
    }
    if (this.#table.vtepsVersion !== vtepsVersion) this.#events.vteps(this.#table.vteps());
    this.#events.entries();
  }

  #changeOf(
    changed: ReadonlyMap<MacAddress, MappingEntry | null>,
    touched: ReadonlySet<IpAddress>,
    revision: string,
  ): SnapshotChange {
    const targets: Target[] = [];
    const removedMacs: MacAddress[] = [];
    for (const [mac, entry] of changed) {
      if (entry !== null && otherFamily(entry.to.ip, this.#family) === undefined)
        targets.push({ mac, to: entry.to });
      else removedMacs.push(mac);
    }
    const addresses = [...touched].map((ip) => ({ ip, mac: this.#table.owner(ip) }));
    return {
      targets,
      removedMacs,
      addresses: addresses.flatMap(({ ip, mac }) => (mac === undefined ? [] : [{ ip, mac }])),
      removedIps: addresses.flatMap(({ ip, mac }) => (mac === undefined ? [ip] : [])),
      revision,
    };
  }
}

/** `3 entries` */
function entries({ size }: Table): string {
  return `${size} ${size === 1 ? 'entry' : 'entries'}`;
}

function* targetsOf(table: Table, family: 4 | 6): Generator<Target> {
  for (const [mac, { to }] of table.rows()) if (otherFamily(to.ip, family) === undefined) yield { mac, to };
}

function* addressesOf(table: Table): Generator<Address> {
  for (const [ip, mac] of table.owners()) yield { ip, mac };
}
