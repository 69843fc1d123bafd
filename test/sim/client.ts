// How one host speaks to the store: what the plugins that ask a store have in common, as a model. The pauses are the real ones
// (BackOff of varpd/plugin), or, to show what they are for, those of a client that knows none.
import { BackOff } from '../../src/plugin/index.js';
import { type Store, StoreError, type Stream } from './store.js';

export interface Policy {
  readonly name: string;
  /** False: each pause is one second, for every host. */
  readonly backsOff: boolean;
  /** Ceiling of the pauses. */
  readonly maxPauseMs: number;
  /** Lookups that one host has open at the store. */
  readonly inFlight: number;
}

/** What the plugins of varpd do. */
export const CAREFUL: Policy = { name: 'back-off', backsOff: true, maxPauseMs: 20_000, inFlight: 64 };
/** What a client does that was tried with one host. */
export const IN_STEP: Policy = { name: 'fixed pause', backsOff: false, maxPauseMs: 1000, inFlight: Infinity };

const FIXED_PAUSE_MS = 1000;
/** A connection that has lasted as long is a good one. */
const PROVEN_MS = 10_000;
/** For a connection to open. */
const CONNECT_MS = 5000;

interface Waiting {
  readonly begin: () => void;
}

export class StoreClient {
  readonly #store: Store;
  readonly #policy: Policy;
  readonly #backOff: BackOff;
  readonly #waiting = new Set<Waiting>();
  #open = 0;
  #isStopped = false;
  /** No lookup goes to the store before. */
  #pausedUntilMs = 0;
  #timer: NodeJS.Timeout | undefined;
  stream: Stream | undefined;

  constructor(store: Store, policy: Policy) {
    this.#store = store;
    this.#policy = policy;
    this.#backOff = new BackOff({ maxMs: policy.maxPauseMs });
  }

  #pauseMs(): number {
    return this.#policy.backsOff ? this.#backOff.next() : FIXED_PAUSE_MS;
  }

  /** Asks for the place of a MAC. Rejects with a StoreError, or when the signal is aborted. */
  lookup(mac: number, signal: AbortSignal): Promise<number> {
    if (performance.now() < this.#pausedUntilMs)
      return Promise.reject(new StoreError('the store does not answer'));
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        begin: () => {
          this.#open++;
          let isOver = false;
          const end = (): void => {
            if (isOver) return;
            isOver = true;
            this.#open--;
            this.#next();
          };
          const callOff = this.#store.lookup(mac, (error, host) => {
            end();
            if (error === undefined) {
              this.#backOff.reset();
              resolve(host!);
              return;
            }
            this.#failed();
            reject(error);
          });
          signal.addEventListener('abort', () => {
            if (isOver) return;
            callOff();
            end();
            this.#failed();
          });
        },
      };
      signal.addEventListener('abort', () => {
        this.#waiting.delete(waiting);
        reject(signal.reason as Error);
      });
      this.#waiting.add(waiting);
      this.#next();
    });
  }

  #next(): void {
    for (const waiting of this.#waiting) {
      if (this.#open >= this.#policy.inFlight) return;
      this.#waiting.delete(waiting);
      waiting.begin();
    }
  }

  /** One pause for all that fail together. */
  #failed(): void {
    const nowMs = performance.now();
    if (!this.#policy.backsOff || nowMs < this.#pausedUntilMs) return;
    this.#pausedUntilMs = nowMs + this.#backOff.next();
  }

  /** Opens a stream, and again whenever it is closed. `opened` gets the revision from which on changes are told. */
  async connect(
    changed: Stream['changed'],
    opened: (revision: number) => void,
    lost: () => void,
  ): Promise<void> {
    const attempt = async (): Promise<void> => {
      const stream: Stream = {
        changed,
        closed: () => {
          this.stream = undefined;
          clearTimeout(this.#timer);
          lost();
          this.#again(attempt);
        },
      };
      const revision = await this.#openStream(stream);
      if (this.#isStopped) {
        this.#store.leave(stream);
        return;
      }
      this.stream = stream;
      this.#timer = setTimeout(() => {
        this.#backOff.reset();
      }, PROVEN_MS);
      opened(revision);
    };
    try {
      await attempt();
    } catch {
      lost();
      this.#again(attempt);
    }
  }

  #openStream(stream: Stream): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        callOff();
        reject(new StoreError('no connection within 5 s'));
      }, CONNECT_MS);
      const callOff = this.#store.connect(stream, (error, revision) => {
        clearTimeout(timer);
        if (error === undefined) resolve(revision!);
        else reject(error);
      });
    });
  }

  #again(attempt: () => Promise<void>): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      attempt().catch(() => {
        this.#again(attempt);
      });
    }, this.#pauseMs());
  }

  follow(mac: number): void {
    if (this.stream !== undefined) this.#store.follow(this.stream, mac);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    if (this.stream !== undefined) this.#store.leave(this.stream);
    this.stream = undefined;
  }
}
