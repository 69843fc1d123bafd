/**
 * Follows a bucket as long as the overlay exists. A session is one connection and one watch. When a session ends, for whatever
 * reason, the next one begins after a pause, checks that the bucket is still the same, and goes on at the next revision.
 *
 * The pauses differ from host to host, and grow: a store that comes back is not overrun by ten thousand hosts at once.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { StreamInfo } from '@nats-io/jetstream';
import type { KV, KvEntry } from '@nats-io/kv';
import { BackOff, spread } from '../../src/plugin/index.js';
import {
  type Access,
  type Client,
  connect,
  NatsError,
  openBucket,
  requestError,
  withTimeFor,
} from './client.js';
import { Watch } from './watch.js';

const PAUSES = { firstMs: 1000, maxMs: 20_000 };
/** varpd gives a stop half a second. */
const CLOSE_MS = 200;
/** A session that has lived so long ends the series of failures. */
const GOOD_SESSION_MS = 5000;
/** Hosts that must read the whole bucket again do so within this time, not at once. */
const SPREAD_MS = 3000;
/** Counting the keys costs the store about this much per key. */
const COUNT_KEY_MS = 0.0015;
const COUNT_AGAIN_MS = 500;
const COUNTS = 4;
/** The keys are also counted from time to time, since a key can be purged without a trace. */
const COUNT_PERIOD_MS = 600_000;

/** A state of a bucket. */
export interface Position {
  /** When the bucket was made, in the words of the server: another bucket of the same name has another time. */
  readonly created: string;
  /** Everything up to this revision is known. */
  readonly revision: number;
}

/** The questions of a sink beside the watch. */
export interface Session {
  /** Calls `take` with every key below the filter that has a value. */
  list(filter: string, take: (key: string) => void): Promise<void>;
}

/** Takes the records of a bucket. */
export interface FeedSink {
  /** The state to go on from; undefined when there is none. */
  position(): Position | undefined;
  /**
   * A session begins. `isSame` says that `position` is a state of this bucket, and that the records since then are enough.
   * Returns the first revision to send; undefined for the last record of every key.
   */
  begin(isSame: boolean, bucket: Position): number | undefined;
  record(key: string, value: Uint8Array | undefined, revision: number): void;
  /** All that the bucket had at the beginning has come. `hasNews` says that it differs from `position`. */
  caughtUp(session: Session, hasNews: boolean): Promise<void>;
  /** Number of known keys, deleted ones included; undefined when only some are known, and the count says nothing. */
  keyCount(): number | undefined;
  /** Number of hosts that probably follow the same bucket. */
  hostCount(): number;
  /** The session has ended, or none could begin. */
  lost(error: NatsError): void;
}

export class Feed {
  readonly #access: () => Promise<Access>;
  /** Set while a session ends because the access is another one. */
  #isReconnecting = false;
  readonly #bucket: string;
  readonly #filter: string;
  readonly #name: string;
  readonly #sink: FeedSink;
  readonly #ended = new AbortController();
  #client: Client | undefined;
  #kv: KV | undefined;
  /** While the whole bucket is read, an answer on its connection would wait behind a hundred thousand records. */
  #beside: Promise<Client> | undefined;
  #isReadingWhole = false;
  #mustReadWhole = false;
  #isDirect = false;
  #running: Promise<void> | undefined;

  /** `filter` selects keys: `mac.>`, or `>` for all. `name` is what the server shows of this client. */
  constructor(access: () => Promise<Access>, bucket: string, filter: string, name: string, sink: FeedSink) {
    this.#access = access;
    this.#bucket = bucket;
    this.#filter = filter;
    this.#name = name;
    this.#sink = sink;
  }

  begin(): void {
    this.#running = this.#run();
  }

  /** Connects with the access of now, and goes on at the next revision. */
  reconnect(): void {
    this.#isReconnecting = true;
    this.#client?.connection.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#ended.abort();
    await this.#client?.connection.close().catch(() => undefined);
    // An attempt to connect to a silent server ends later, and by itself.
    const over = new AbortController();
    const late = pause(CLOSE_MS, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([this.#running, late]);
    over.abort();
  }

  /** Whether a single key can be asked for now. */
  get isConnected(): boolean {
    return this.#kv !== undefined;
  }

  /** Returns the last record of a key, and null without one. Rejects with a NatsError. */
  async get(key: string): Promise<KvEntry | null> {
    const own = this.#kv;
    const client = this.#client;
    if (own === undefined || client === undefined) throw new NatsError('NATS is not connected');
    try {
      const kv = this.#isReadingWhole ? await this.#openBeside() : own;
      const entry = await kv.get(key);
      return entry?.operation === 'PUT' ? entry : null;
    } catch (error) {
      throw requestError(error, 'read a key of the bucket', client.packages);
    }
  }

  async #openBeside(): Promise<KV> {
    this.#beside ??= this.#access().then((access) => connect(access, this.#bucket, this.#name));
    return openBucket(await this.#beside, this.#bucket, this.#isDirect);
  }

  async #closeBeside(): Promise<void> {
    this.#isReadingWhole = false;
    const client = await this.#beside?.catch(() => undefined);
    this.#beside = undefined;
    await client?.connection.close().catch(() => undefined);
  }

  // -- Sessions

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    const pauses = new BackOff(PAUSES);
    while (!signal.aborted) {
      const beginMs = performance.now();
      this.#isReconnecting = false;
      try {
        await this.#session();
      } catch (error) {
        if (this.#isOver()) return;
        if (!this.#mustReconnect())
          this.#sink.lost(
            error instanceof NatsError ? error : new NatsError('the watch has failed', 'EAGAIN', error),
          );
      }
      if (this.#mustReconnect()) continue;
      if (performance.now() - beginMs > GOOD_SESSION_MS) pauses.reset();
      await this.#pause(pauses.next());
    }
  }

  #mustReconnect(): boolean {
    return this.#isReconnecting;
  }

  #isOver(): boolean {
    return this.#ended.signal.aborted;
  }

  async #pause(ms: number): Promise<void> {
    await pause(ms, undefined, { signal: this.#ended.signal }).catch(() => undefined);
  }

  /** Rejects when the session ends. */
  async #session(): Promise<void> {
    const { signal } = this.#ended;
    const connected = await connect(await this.#access(), this.#bucket, this.#name);
    this.#client = connected;
    const { connection } = connected;
    let watch: Watch | undefined;
    const over = new AbortController();
    try {
      if (signal.aborted || this.#isReconnecting) return;
      const lost = connection.closed().then((error) => {
        throw new NatsError('the connection to NATS was lost', 'ECONNRESET', error ?? undefined);
      });
      lost.catch(() => undefined);
      const info = await this.#info(connected);
      const client = await withTimeFor(connected, info.state.messages);
      const before = this.#sink.position();
      const bucket = { created: info.created, revision: info.state.last_seq };
      const isSame = !this.#mustReadWhole && isSameBucket(before, bucket);
      if (!isSame && before !== undefined) await this.#pause(spread(SPREAD_MS));
      this.#isDirect = info.config.allow_direct;
      this.#kv = await openBucket(client, this.#bucket, this.#isDirect);
      const hasNews = !isSame || bucket.revision !== before?.revision;
      const from = this.#sink.begin(isSame, bucket);
      this.#isReadingWhole = from === undefined;
      watch = await this.#watch(client, from, hasNews, lost);
      await this.#closeBeside();
      this.#mustReadWhole = false;
      await Promise.race([
        lost,
        watch.ended,
        this.#counting(watch, info, hasNews && from !== undefined, over.signal),
      ]);
    } finally {
      over.abort();
      this.#kv = undefined;
      this.#client = undefined;
      watch?.close();
      await connection.close().catch(() => undefined);
      await this.#closeBeside();
    }
  }

  async #info({ manager, packages }: Client): Promise<StreamInfo> {
    try {
      return await manager.streams.info(`KV_${this.#bucket}`);
    } catch (error) {
      throw requestError(error, `look at the bucket ${this.#bucket}`, packages);
    }
  }

  /** Resolves when the watch has caught up, and the sink has taken it. */
  async #watch(
    client: Client,
    from: number | undefined,
    hasNews: boolean,
    lost: Promise<never>,
  ): Promise<Watch> {
    let tellCaughtUp!: () => void;
    const caughtUp = new Promise<void>((resolve) => {
      tellCaughtUp = resolve;
    });
    const watch = new Watch(client, this.#bucket, this.#filter, {
      record: (key, value, revision) => {
        this.#sink.record(key, value, revision);
      },
      caughtUp: tellCaughtUp,
    });
    try {
      await watch.begin(from, this.#name);
      await Promise.race([caughtUp, lost, watch.ended]);
      const list = (filter: string, take: (key: string) => void) => this.#list(client, filter, take, lost);
      await Promise.race([this.#sink.caughtUp({ list }, hasNews), lost, watch.ended]);
    } catch (error) {
      watch.close();
      throw error;
    }
    return watch;
  }

  async #list(
    client: Client,
    filter: string,
    take: (key: string) => void,
    lost: Promise<never>,
  ): Promise<void> {
    let tellCaughtUp!: () => void;
    const caughtUp = new Promise<void>((resolve) => {
      tellCaughtUp = resolve;
    });
    const watch = new Watch(client, this.#bucket, filter, {
      record: (key, value) => {
        if (value !== undefined) take(key);
      },
      caughtUp: tellCaughtUp,
    });
    try {
      await watch.begin(undefined, this.#name);
      await Promise.race([caughtUp, lost, watch.ended]);
    } finally {
      watch.close();
    }
  }

  /**
   * Compares the number of keys with the store's. A watch from a revision on brings every record that exists, so a host knows too
   * many keys at most: those that were deleted, and have no trace left. Rejects when there are such keys; the next session
   * reads the whole bucket then. All hosts together take less than half of one core of the store for it.
   */
  async #counting(watch: Watch, info: StreamInfo, hasNews: boolean, signal: AbortSignal): Promise<never> {
    let isDue = hasNews;
    for (;;) {
      const known = this.#sink.keyCount();
      const windowMs = (known ?? 0) * COUNT_KEY_MS * 2 * this.#sink.hostCount();
      const waitMs = isDue ? windowMs : Math.max(COUNT_PERIOD_MS, windowMs);
      await pause(waitMs * (isDue ? Math.random() : 0.5 + Math.random()), undefined, { signal });
      if (known !== undefined && !(await this.#isCountRight(watch, info, signal))) {
        this.#mustReadWhole = true;
        throw new NatsError('keys have gone without a trace: the bucket is read again', 'ECONNRESET');
      }
      isDue = false;
    }
  }

  async #isCountRight(watch: Watch, { config }: StreamInfo, signal: AbortSignal): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const before = this.#sink.keyCount();
      const count = await watch.count(config.max_msgs_per_subject !== 1);
      if (count === before || count === this.#sink.keyCount()) return true;
      if (attempt === COUNTS) return false;
      // A key may have come or gone while they were counted.
      await pause(COUNT_AGAIN_MS, undefined, { signal });
    }
  }
}

function isSameBucket(before: Position | undefined, { created, revision }: Position): boolean {
  return before?.created === created && before.revision <= revision;
}
