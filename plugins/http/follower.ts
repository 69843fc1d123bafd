/**
 * Follows the stream of changes of a store. It begins again where it has stopped, so that no change is missed, and starts
 * over when the store no longer has the changes in between.
 */
import { BackOff, type Host, spread } from '../../src/plugin/index.js';
import type { StoreHealth } from './health.js';
import { type Batch, CursorTooOld, type Store } from './store.js';
import { pause } from './timing.js';
import { StoreTrouble } from './trouble.js';

/** All hosts lose the stream at the same moment when a store restarts. They come back within this time. */
const RETURN_MS = 1000;
/** A snapshot is much work for a store. The cursors of many hosts get too old in the same moment, and they ask within this time. */
const RESYNC_MS = 5000;

/** The part of the overlay that gets the changes. */
export interface Followed {
  /** Is called when the stream is open. Without a cursor the stream begins now: earlier changes may have been missed. */
  opened(hasCursor: boolean): void;
  take(batch: Batch): Promise<void>;
  /** Gets everything again. Resolves to the cursor of that state; undefined when the stream can only begin now. */
  resync(signal: AbortSignal): Promise<string | undefined>;
}

export class Follower {
  readonly #host: Host;
  readonly #store: Store;
  readonly #health: StoreHealth;
  readonly #followed: Followed;
  readonly #backOff = new BackOff({ firstMs: 1000, maxMs: 30_000 });
  readonly #lostBackOff = new BackOff({ firstMs: 1000, maxMs: 60_000 });
  /** Changes are missing, so that everything has to be had again before the stream goes on. */
  #isLost = false;
  #stream = new AbortController();
  #cursor: string | undefined;

  constructor(host: Host, store: Store, health: StoreHealth, followed: Followed) {
    this.#host = host;
    this.#store = store;
    this.#health = health;
    this.#followed = followed;
  }

  /** Follows behind the cursor, until the signal of the host is aborted. Never rejects. */
  async run(cursor: string | undefined): Promise<void> {
    const { signal } = this.#host;
    const stop = (): void => {
      this.#stream.abort();
    };
    signal.addEventListener('abort', stop);
    this.#cursor = cursor;
    while (!signal.aborted) {
      this.#stream = new AbortController();
      await pause(await this.#once(signal), signal);
    }
    signal.removeEventListener('abort', stop);
  }

  /** Gets everything, and follows from there. */
  async runAnew(): Promise<void> {
    this.#isLost = true;
    await this.run(undefined);
  }

  /** Opens the stream again, by the client that the store has now. */
  reopen(): void {
    this.#stream.abort();
  }

  /** Continues behind this cursor: everything up to it is known by other means. Undefined: the stream begins now. */
  continueFrom(cursor: string | undefined): void {
    this.#isLost = false;
    this.#cursor = cursor;
    this.reopen();
  }

  /** The store is another one: gets everything again, and follows from there. */
  beginAgain(): void {
    this.#isLost = true;
    this.reopen();
  }

  /** Follows one stream to its end. Resolves to the pause before the next. */
  async #once(signal: AbortSignal): Promise<number> {
    let isOpen = false;
    const { signal: inner } = this.#stream;
    try {
      if (this.#isLost) {
        const cursor = await this.#followed.resync(signal);
        // Meanwhile it may have been told to begin elsewhere.
        if (inner.aborted) return 0;
        this.#cursor = cursor;
        this.#isLost = false;
      }
      await this.#store.changes(
        this.#cursor,
        inner,
        () => {
          isOpen = true;
          this.#followed.opened(this.#cursor !== undefined);
        },
        (batch) => this.#take(batch, inner),
      );
      return spread(RETURN_MS);
    } catch (error) {
      return signal.aborted || inner.aborted ? 0 : this.#fail(error, isOpen);
    }
  }

  async #take(batch: Batch, inner: AbortSignal): Promise<void> {
    await this.#followed.take(batch);
    if (inner.aborted) return;
    if (batch.cursor !== undefined) this.#cursor = batch.cursor;
    this.#backOff.reset();
    if (batch.changes.length > 0) this.#lostBackOff.reset();
    this.#health.restore('stream');
  }

  /** Returns the pause before the next attempt. */
  #fail(error: unknown, isOpen: boolean): number {
    if (error instanceof CursorTooOld) {
      this.#isLost = true;
      this.#host.log.info(`${this.#store.origin} no longer has the changes since the last one that was seen`);
      return spread(RESYNC_MS);
    }
    const sentence = error instanceof Error ? error.message : String(error);
    this.#health.degrade('stream', `changes do not arrive: ${sentence}`);
    const isOutage = error instanceof StoreTrouble && error.isOutage;
    // Changes that cannot be read are lost, so that only a new beginning is right.
    if (isOpen && !isOutage) this.#isLost = true;
    if (this.#isLost) return this.#lostBackOff.next();
    return Math.max(this.#backOff.next(), isOutage ? error.retryAfterMs : 0);
  }
}
