/**
 * Both modes have this in common: a table of entries that follows a bucket, the peers that result from it, its health, and its
 * last state on disk.
 */
import {
  type Age,
  type Destination,
  EntryError,
  formatMac,
  type Host,
  type IpAddress,
  ipFamily,
  type MacAddress,
  type MappingEntry,
  parseEntry,
  StateSaver,
} from '../../src/plugin/index.js';
import type { NatsError } from './client.js';
import type { Feed, FeedSink, Position, Session } from './feed.js';
import { Refusals } from './refusals.js';
import type { BucketState, Saved } from './state-file.js';
import { type Row, Table } from './table.js';

/** Changes are collected this long before peers and notes are told again. */
const SETTLE_MS = 100;
/** The last state is written at the end as well, if that takes no time. */
const MAX_ROWS_AT_END = 20_000;

export interface NetworkOptions {
  readonly bucket: string;
  readonly age: Age;
}

export abstract class Network implements FeedSink {
  protected readonly host: Host;
  protected readonly options: NetworkOptions;
  protected readonly table: Table;
  /** Keys that have no entry: deleted, or refused. They count among the keys of the bucket. */
  protected readonly otherKeys = new Set<string>();
  protected feed!: Feed;
  #position: Position | undefined;
  readonly #refusals = new Refusals();
  readonly #state: BucketState;
  readonly #saver: StateSaver;
  #settleTimer: NodeJS.Timeout | undefined;
  #note: string | undefined;
  #isStopped = false;
  /** The first session, for the start: settled by the first that catches up, or fails. */
  #tellFirst: { resolve: () => void; reject: (error: Error) => void } | undefined;
  readonly first: Promise<void>;
  /** Set once the overlay can work: the health is told from then on. */
  protected isServing = false;
  isCurrent = false;

  constructor(host: Host, options: NetworkOptions, state: BucketState) {
    this.host = host;
    this.options = options;
    this.age = options.age;
    this.table = new Table(ipFamily(host.listen.ip));
    this.#state = state;
    this.#saver = new StateSaver(
      () => this.#save(),
      ({ message }) => {
        host.log.warn(`the state of the bucket ${options.bucket} cannot be saved: ${message}`);
      },
    );
    this.first = new Promise((resolve, reject) => {
      this.#tellFirst = { resolve, reject };
    });
    this.first.catch(() => undefined);
  }

  // -- Questions. A rejection means that the store does not answer.

  abstract entryOf(mac: MacAddress, signal?: AbortSignal): Promise<Row | null> | Row | null;
  abstract ownerOf(ip: IpAddress, signal?: AbortSignal): Promise<MacAddress | null> | MacAddress | null;
  /** The VTEPs of the network, of the listen address's family. */
  abstract vteps(): readonly Destination[];
  protected abstract peers(): string[] | undefined;
  /** MACs of the ports of this host. */
  ports: readonly MacAddress[] = [];
  /** How long varpd may use an answer. */
  age: Age;
  /** Called after changes, at most every SETTLE_MS. */
  changed: () => void = () => undefined;

  // -- Life

  /** Is called first. */
  join(feed: Feed): void {
    this.feed = feed;
  }

  follow(): void {
    if (!this.#isStopped) this.feed.begin();
  }

  /** Puts the state on disk in force. Returns whether there is one. */
  async load(signal: AbortSignal): Promise<boolean> {
    let saved: Saved | undefined;
    try {
      saved = await this.#state.read(this.table, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.host.log.warn(
        `the state of the bucket ${this.options.bucket} on disk is not used: ${(error as Error).message}`,
      );
      this.table.clear();
    }
    if (saved === undefined) return false;
    for (const key of saved.otherKeys) this.otherKeys.add(key);
    await this.putInForce(saved.revision);
    this.#position = { created: saved.created, revision: saved.revision };
    this.tellPeers();
    this.host.log.info(`${this.count()} of the state that was saved at ${saved.savedAt}`);
    return true;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#settleTimer);
    await this.feed.close();
    await this.#saver.end(this.table.size <= MAX_ROWS_AT_END);
  }

  protected abstract putInForce(revision: number): Promise<void>;

  /** `12 entries` */
  protected count(): string {
    return `${this.table.size} ${this.table.size === 1 ? 'entry' : 'entries'}`;
  }

  // -- The bucket

  position(): Position | undefined {
    return this.#position;
  }

  protected moveTo(position: Position): void {
    this.#position = position;
    this.#saver.changed();
  }

  /** The records since the position are in force: the position follows them. */
  protected advance(revision: number): void {
    if (this.#position !== undefined && revision > this.#position.revision)
      this.moveTo({ created: this.#position.created, revision });
  }

  abstract begin(isSame: boolean, bucket: Position): number | undefined;
  abstract record(key: string, value: Uint8Array | undefined, revision: number): void;
  abstract caughtUp(session: Session, hasNews: boolean): Promise<void>;
  abstract keyCount(): number | undefined;

  hostCount(): number {
    return Math.max(1, this.vteps().length);
  }

  lost(error: NatsError): void {
    this.isCurrent = false;
    this.#tellFirst?.reject(error);
    this.#tellFirst = undefined;
    if (this.#isStopped || (!this.isServing && this.#position === undefined)) return;
    this.host.degrade(
      `${error.message}; the overlay works on what it knows of the bucket ${this.options.bucket}`,
    );
  }

  /** The overlay works, and the table is current. */
  protected tellCurrent(): void {
    this.isCurrent = true;
    this.#tellFirst?.resolve();
    this.#tellFirst = undefined;
    if (this.isServing) this.host.restore();
    this.tellPeers();
  }

  /** The start has ended well. */
  serve(): void {
    this.isServing = true;
  }

  /** The overlay works already, although the store has not told all yet. */
  wait(): void {
    this.host.remark(
      `the bucket ${this.options.bucket} is being read; unknown MACs are asked for one by one meanwhile`,
    );
  }

  // -- Records

  /** Returns the entry; undefined when the record is refused. */
  protected parse(key: string, value: Uint8Array): MappingEntry | undefined {
    try {
      const entry = parseEntry(value);
      this.accept(key);
      return entry;
    } catch (error) {
      if (!(error instanceof EntryError)) throw error;
      this.refuse(key, error.message);
      return undefined;
    }
  }

  protected refuse(key: string, reason: string): void {
    if (this.#refusals.add(key, reason))
      this.host.log.warn(`the record ${key} of the bucket ${this.options.bucket} is refused: ${reason}`);
    this.settleLater();
  }

  protected accept(key: string): void {
    if (this.#refusals.delete(key)) this.settleLater();
  }

  protected acceptAll(): void {
    this.#refusals.clear();
    this.settleLater();
  }

  // -- What follows from many changes, once they are over

  protected settleLater(): void {
    if (this.#settleTimer !== undefined || this.#isStopped) return;
    this.#settleTimer = setTimeout(() => {
      this.#settleTimer = undefined;
      this.settle();
    }, SETTLE_MS);
  }

  protected settle(): void {
    this.tellPeers();
    this.#tellNote();
    this.changed();
  }

  tellPeers(): void {
    const peers = this.peers();
    if (peers !== undefined) this.host.setPeers(peers);
  }

  #tellNote(): void {
    const { bucket } = this.options;
    const sentences = [this.#refusals.sentence(bucket), this.#contested()].flatMap((each) => each ?? []);
    const note = sentences.length === 0 ? undefined : sentences.join('; ');
    if (note === this.#note) return;
    this.#note = note;
    this.host.note(note);
  }

  #contested(): string | undefined {
    const all = this.table.contested();
    if (all.length === 0) return undefined;
    const [[ip, owner, rival]] = all;
    const more = all.length > 1 ? `, and ${all.length - 1} more addresses are in two entries` : '';
    return `the address ${ip} is in the entries of ${formatMac(owner)}, which has it, and ${formatMac(rival)}${more}`;
  }

  async #save(): Promise<void> {
    const position = this.#position;
    if (position !== undefined) await this.#state.write(this.table, position, this.otherKeys);
  }
}
