// A model of a store that all hosts ask: a queue before one processor, a network card, and streams of changes.
//
// It knows the place of every MAC at every revision, so that a host that is behind has the answer of its own revision without
// a table of its own. Nothing of it is varpd's.
import type { Clock } from './clock.js';
import { longTailed } from './random.js';
import { Series } from './series.js';

export interface StoreTerms {
  /** Median of the time to the store and back, in ms. */
  readonly roundTripMs: number;
  /** Lookups that its processors answer in a second. */
  readonly requestsPerSecond: number;
  /** Connections that they accept in a second, TLS included. They are the same processors. */
  readonly connectsPerSecond: number;
  /** Messages about changes that it sends in a second, to all hosts together. */
  readonly pushesPerSecond: number;
  /** Of its network card. */
  readonly bytesPerSecond: number;
  /** Bytes of one row of a snapshot on the wire. */
  readonly rowBytes: number;
  /** It refuses what would wait longer than this. */
  readonly queueMs: number;
}

/** A service on one machine, sized for 10,000 hosts. */
export const STORE: StoreTerms = {
  roundTripMs: 1,
  requestsPerSecond: 10_000,
  connectsPerSecond: 2000,
  pushesPerSecond: 500_000,
  bytesPerSecond: 1.25e9,
  rowBytes: 100,
  queueMs: 10_000,
};

/** A store that so many hosts keep as busy as 10,000 hosts keep STORE. */
export const storeFor = (hosts: number): StoreTerms => ({
  ...STORE,
  requestsPerSecond: (STORE.requestsPerSecond * hosts) / 10_000,
  connectsPerSecond: (STORE.connectsPerSecond * hosts) / 10_000,
});

/** Why the store gives no answer. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** A connection of one host, over which it hears of changes. */
export interface Stream {
  /** The MAC is at another host now. Called only for MACs that the host follows. */
  changed(mac: number, host: number): void;
  closed(): void;
}

/** Something of which there is so much a second, and which is given in turn. */
class Resource {
  #freeMs = 0;

  constructor(
    readonly clock: Clock,
    readonly perSecond: number,
  ) {}

  /** The time until the next taker has its turn. */
  get waitMs(): number {
    return Math.max(0, this.#freeMs - this.clock.nowMs);
  }

  /** Takes `amount`. Returns the time until it is all there. */
  take(amount: number): number {
    this.#freeMs = Math.max(this.#freeMs, this.clock.nowMs) + (amount / this.perSecond) * 1000;
    return this.#freeMs - this.clock.nowMs;
  }

  clear(): void {
    this.#freeMs = 0;
  }
}

type Done<T> = (error: StoreError | undefined, value?: T) => void;

export class Store {
  /** What arrives, by kind, second by second. */
  readonly load = new Series();
  revision = 0;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #terms: StoreTerms;
  /** In units of lookups. */
  readonly #processor: Resource;
  readonly #card: Resource;
  readonly #pushes: Resource;
  readonly #first: Int32Array;
  /** The MAC of each revision, from 1 on. */
  readonly #log: number[] = [];
  /** MAC -> its places since: revision and host in turns. */
  readonly #moves = new Map<number, number[]>();
  /** Stream -> the MACs that it follows. */
  readonly #streams = new Map<Stream, Set<number>>();
  /** MAC -> the streams that follow it. */
  readonly #followers = new Map<number, Set<Stream>>();
  #isDown = false;
  /** Of the life since the last start; what an earlier life was asked is lost. */
  #life = 0;

  constructor(clock: Clock, random: () => number, places: Int32Array, terms: StoreTerms) {
    this.#clock = clock;
    this.#random = random;
    this.#first = places;
    this.#terms = terms;
    this.#processor = new Resource(clock, terms.requestsPerSecond);
    this.#card = new Resource(clock, terms.bytesPerSecond);
    this.#pushes = new Resource(clock, terms.pushesPerSecond);
  }

  get macs(): number {
    return this.#first.length;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /** Streams of hosts that are not simulated, and cost the store as much as any. */
  otherStreams = 0;

  /** Where a MAC is, as of `revision`. */
  placeOf(mac: number, revision = this.revision): number {
    const moves = this.#moves.get(mac) ?? [];
    for (let at = moves.length - 2; at >= 0; at -= 2) if (moves[at] <= revision) return moves[at + 1];
    return this.#first[mac];
  }

  /** MACs that have moved after revision `since`, up to `revision`. */
  movedSince(since: number, revision: number): number[] {
    return [...new Set(this.#log.slice(since, revision))];
  }

  /** A writer says that a MAC is at another host. All that follow it are told. */
  move(mac: number, host: number): void {
    this.#arrive('writes', (error) => {
      if (error !== undefined) {
        this.#clock.after(1000, () => {
          this.move(mac, host);
        });
        return;
      }
      this.#log.push(mac);
      const revision = ++this.revision;
      const moves = this.#moves.get(mac) ?? [];
      moves.push(revision, host);
      this.#moves.set(mac, moves);
      const before = this.#pushes.waitMs;
      const streams = this.#streams.size + this.otherStreams;
      const tookMs = this.#pushes.take(streams) - before;
      this.load.add('pushes', this.#clock.nowMs, streams);
      const life = this.#life;
      for (const stream of this.#followers.get(mac) ?? [])
        this.#clock.after(before + this.#random() * tookMs + this.#halfTripMs(), () => {
          if (life === this.#life && this.#streams.has(stream)) stream.changed(mac, host);
        });
    });
  }

  /** A lookup. Returns what calls it off; the store does its work all the same. */
  lookup(mac: number, done: Done<number>): () => void {
    return this.#arrive<number>('lookups', done, () => this.placeOf(mac));
  }

  /** Opens a stream. `done` gets the revision from which on it tells of changes. */
  connect(stream: Stream, done: Done<number>): () => void {
    const cost = this.#terms.requestsPerSecond / this.#terms.connectsPerSecond;
    return this.#arrive<number>(
      'connects',
      (error, revision) => {
        done(error, revision);
      },
      () => {
        this.#streams.set(stream, new Set());
        return this.revision;
      },
      cost,
      () => {
        this.leave(stream);
      },
    );
  }

  leave(stream: Stream): void {
    for (const mac of this.#streams.get(stream) ?? []) this.#followers.get(mac)?.delete(stream);
    this.#streams.delete(stream);
  }

  follow(stream: Stream, mac: number): void {
    let followers = this.#followers.get(mac);
    if (followers === undefined) this.#followers.set(mac, (followers = new Set()));
    followers.add(stream);
    this.#streams.get(stream)?.add(mac);
  }

  /** Sends all rows, or those since a revision. `done` gets the revision that they are of. */
  snapshot(since: number | undefined, done: Done<number>): void {
    const rows = since === undefined ? this.macs : this.revision - since;
    this.#arrive('snapshots', (error) => {
      if (error !== undefined) {
        done(error);
        return;
      }
      const { revision } = this;
      const life = this.#life;
      this.load.add('megabytes', this.#clock.nowMs, (rows * this.#terms.rowBytes) / 1e6);
      this.#clock.after(this.#card.take(rows * this.#terms.rowBytes), () => {
        if (life !== this.#life) done(new StoreError('the connection was reset'));
        else done(undefined, revision);
      });
    });
  }

  /** The store ends. Every stream ends with it, and what was under way is lost. */
  stop(): void {
    this.#isDown = true;
    this.#life++;
    const streams = [...this.#streams.keys()];
    this.#streams.clear();
    this.#followers.clear();
    for (const each of [this.#processor, this.#card, this.#pushes]) each.clear();
    for (const stream of streams)
      this.#clock.after(this.#halfTripMs(), () => {
        stream.closed();
      });
  }

  start(): void {
    this.#isDown = false;
  }

  #halfTripMs(): number {
    return longTailed(this.#random, this.#terms.roundTripMs / 2);
  }

  /** A request of this kind travels, waits, is worked on, and its reply travels. */
  #arrive<T>(
    kind: string,
    done: Done<T>,
    work?: () => T,
    cost = 1,
    undo: () => void = () => undefined,
  ): () => void {
    const clock = this.#clock;
    let isOver = false;
    let isDone = false;
    const finish = (afterMs: number, error: StoreError | undefined, value?: T): void => {
      clock.after(afterMs, () => {
        isDone = true;
        if (!isOver) done(error, value);
        else if (error === undefined) undo();
      });
    };
    clock.after(this.#halfTripMs(), () => {
      this.load.add(kind, clock.nowMs, 1);
      if (this.#isDown) {
        this.load.add('refused', clock.nowMs, 1);
        finish(this.#halfTripMs(), new StoreError('the connection was refused'));
        return;
      }
      if (this.#processor.waitMs > this.#terms.queueMs) {
        this.load.add('refused', clock.nowMs, 1);
        finish(this.#halfTripMs(), new StoreError('the store is busy'));
        return;
      }
      const life = this.#life;
      clock.after(this.#processor.take(cost), () => {
        if (life !== this.#life) {
          finish(0, new StoreError('the connection was reset'));
          return;
        }
        if (isOver) this.load.add('wasted', clock.nowMs, 1);
        finish(this.#halfTripMs(), undefined, work?.());
      });
    });
    return () => {
      if (isDone) return;
      isOver = true;
    };
  }
}
