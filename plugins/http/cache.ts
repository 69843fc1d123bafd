/**
 * Answers of the store that this host has used, each with its age. Equal questions that are open at the same time are one
 * request.
 *
 * The cache is bounded: the answer that was put in first goes first. A store is asked about it again when it is needed.
 */
import type { Known } from './store.js';

/** As many as a busy host uses. A row takes some 300 bytes. */
const MAX_ROWS = 65536;
/** An answer of this age is as good as a new one. */
const AS_NEW_MS = 1000;

interface Row<T> {
  readonly known: Known<T>;
  readonly atMs: number;
}

export class Cache<K, T> {
  readonly #ask: (key: K, known: Known<T> | undefined) => Promise<Known<T>>;
  readonly #now: () => number;
  readonly #rows = new Map<K, Row<T>>();
  readonly #asking = new Map<K, Promise<Known<T>>>();

  /** `ask` asks the store; `known` is the earlier answer, which a store may confirm by its ETag. */
  constructor(ask: (key: K, known: Known<T> | undefined) => Promise<Known<T>>, now: () => number) {
    this.#ask = ask;
    this.#now = now;
  }

  /**
   * Returns a fresh answer without a request; a stale one while it is asked about again; otherwise the answer to a
   * request. A request that fails leaves an old answer in use for its staleMs, or for as long as asking fails without one.
   * Rejects as `ask` does.
   */
  async get(key: K): Promise<T> {
    const row = this.#rows.get(key);
    if (row === undefined) return (await this.#request(key)).value;
    const { value, age } = row.known;
    const pastMs = this.#now() - row.atMs - age.ttlMs;
    if (pastMs < 0) return value;
    const request = this.#request(key);
    if (age.staleMs !== undefined && pastMs < age.staleMs) {
      request.catch(() => undefined);
      return value;
    }
    try {
      return (await request).value;
    } catch (error) {
      if (age.staleMs === undefined) return value;
      throw error;
    }
  }

  /** Asks the store, unless the answer is as good as new. The age is what is left of it. */
  async renewed(key: K): Promise<Known<T>> {
    const row = this.#rows.get(key);
    const pastMs = row === undefined ? Infinity : this.#now() - row.atMs;
    if (row === undefined || pastMs >= AS_NEW_MS || pastMs >= row.known.age.ttlMs) return this.#request(key);
    const { known } = row;
    return { ...known, age: { ...known.age, ttlMs: known.age.ttlMs - pastMs } };
  }

  /** Asks the store, whatever is known. */
  #request(key: K): Promise<Known<T>> {
    const open = this.#asking.get(key);
    if (open !== undefined) return open;
    const row = this.#rows.get(key);
    const request = this.#ask(key, row?.known)
      .then((known) => {
        // A change that has come while the request was under way is newer than the answer, or as new.
        const now = this.#rows.get(key);
        if (now !== row) return now?.known ?? known;
        if (this.#asking.get(key) === request) this.set(key, known);
        return known;
      })
      .finally(() => {
        if (this.#asking.get(key) === request) this.#asking.delete(key);
      });
    this.#asking.set(key, request);
    return request;
  }

  set(key: K, known: Known<T>): void {
    this.#asking.delete(key);
    this.#rows.delete(key);
    if (this.#rows.size >= MAX_ROWS) for (const [oldest] of this.#rows) if (this.#rows.delete(oldest)) break;
    this.#rows.set(key, { known, atMs: this.#now() });
  }

  /** Forgets an answer, and lets go of a request about it: the next question makes a new one. */
  forget(key: K): void {
    this.#asking.delete(key);
    this.#rows.delete(key);
  }

  /** Every answer is of another store than is asked now: it is asked about again, and stays in use while asking fails. */
  outdate(): void {
    this.#asking.clear();
    for (const [key, { known }] of this.#rows)
      this.#rows.set(key, { known: { ...known, etag: undefined }, atMs: -Infinity });
  }

  /** Returns the answer that is known, whatever its age. */
  known(key: K): T | undefined {
    return this.#rows.get(key)?.known.value;
  }

  has(key: K): boolean {
    return this.#rows.has(key) || this.#asking.has(key);
  }

  get keys(): K[] {
    return [...this.#rows.keys()];
  }

  *entries(): Generator<[K, T]> {
    for (const [key, { known }] of this.#rows) yield [key, known.value];
  }
}
