/**
 * The resources of a store for one network, read and checked (openapi.yaml has them all). Every answer out of the store is
 * checked by the parser of mapping files, or here.
 */
import type { IncomingHttpHeaders } from 'node:http';
import {
  type Age,
  type Endpoint,
  EntryError,
  formatMac,
  inSlices,
  type IpAddress,
  isMulticastMac,
  type MacAddress,
  type MappingEntry,
  type ParsedEntries,
  parseEntries,
  parseEntry,
  parseMac,
} from '../../src/plugin/index.js';
import type { Client, Reply } from './client.js';
import { ageOf, type DefaultAge, LEAST_TTL_MS } from './freshness.js';
import { Events, Lines } from './lines.js';
import { StoreTrouble } from './trouble.js';

const JSON_TYPES = 'application/json, application/problem+json';
/** Bounds of a snapshot: four times the entries that varpd is tested with. */
const MAX_ENTRIES = 4_000_000;
const MAX_SNAPSHOT_BYTES = 1024 * 1024 * 1024;
/** Clients at a time. A token that is not accepted makes a new one every 10 s, and the stream of the oldest ends then. */
const MAX_CLIENTS = 3;
/** Longest cursor and ETag. */
const MAX_TOKEN_CHARACTERS = 255;

/** Age of "unknown" without a Cache-Control. It is short, since the store may learn of a MAC at any time. */
const UNKNOWN_AGE: DefaultAge = { ttlMs: LEAST_TTL_MS, staleMs: 0 };

/** The last line of a snapshot begins so. A MAC cannot. */
const TRAILER = /^\s*\{\s*"(?:revision|entries)"/;
const TRAILER_BYTES = 600;

/** An answer of the store. `value` is null when the store does not know what was asked for. */
export interface Known<T> {
  readonly value: T;
  readonly etag: string | undefined;
  readonly age: Age & { readonly ttlMs: number };
}

/** VTEPs of the network. Invalid ones are counted and left out. */
export interface Network {
  readonly vteps: readonly Endpoint[];
  readonly refused: number;
}

/** Changes out of the stream, or lines of a snapshot, with the cursor behind them. */
export interface Batch extends ParsedEntries {
  readonly cursor: string | undefined;
}

/** The store no longer has the changes since the cursor. */
export class CursorTooOld extends Error {
  override readonly name = 'CursorTooOld';
}

export class Store {
  #client: Client;
  /** This client, and those before it: a stream may still be under way. */
  readonly #clients = new Set<Client>();
  #isClosed = false;
  readonly #base: string;
  readonly #vnetid: number;
  #defaults: DefaultAge;
  readonly #denied: () => void;

  /** `denied` is called when the store does not accept the token. */
  constructor(client: Client, vnetid: number, defaults: DefaultAge, denied: () => void) {
    this.#client = client;
    this.#clients.add(client);
    this.#denied = denied;
    this.#base = `/v1/networks/${vnetid}`;
    this.#vnetid = vnetid;
    this.#defaults = defaults;
  }

  get origin(): string {
    return this.#client.store;
  }

  /** Names the network and where it comes from, over restarts. */
  get source(): string {
    return `${this.#client.base} ${this.#vnetid}`;
  }

  /** The age of answers without a Cache-Control, from now on. */
  useAge(defaults: DefaultAge): void {
    this.#defaults = defaults;
  }

  /** Asks by another client from now on. Questions that are under way go on by the one before. */
  async use(client: Client): Promise<void> {
    this.#client.retire();
    this.#clients.add(client);
    this.#client = client;
    if (this.#isClosed) await this.close();
    for (const oldest of this.#clients) {
      if (this.#clients.size <= MAX_CLIENTS) break;
      this.#clients.delete(oldest);
      await oldest.close();
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(Array.from(this.#clients, (client) => client.close()));
  }

  #refusal(path: string, reply: Reply): StoreTrouble {
    const trouble = this.#client.refuse(path, reply);
    if (trouble.isDenied) this.#denied();
    return trouble;
  }

  // -- Single questions. `etag` is that of an earlier answer: undefined as the result means that it still holds. They
  // reject with a StoreTrouble, or with the reason of the signal.

  /** Reads the VTEPs of the network. */
  async network(signal: AbortSignal, known?: Known<Network>): Promise<Known<Network>> {
    const found = await this.#ask('', signal, known, (body, path) => networkOf(this.#json(body, path)));
    const { value } = found;
    if (value !== null) return { ...found, value };
    throw new StoreTrouble(`${this.origin} has no network ${this.#vnetid}`, false);
  }

  entry(
    mac: MacAddress,
    signal: AbortSignal,
    known?: Known<MappingEntry | null>,
  ): Promise<Known<MappingEntry | null>> {
    return this.#ask(`/macs/${hyphened(mac)}`, signal, known, (body, path) => {
      try {
        return parseEntry(body);
      } catch (error) {
        if (!(error instanceof EntryError)) throw error;
        throw new StoreTrouble(`${this.origin}${path}: ${error.message}`, false);
      }
    });
  }

  neighbor(
    ip: IpAddress,
    signal: AbortSignal,
    known?: Known<MacAddress | null>,
  ): Promise<Known<MacAddress | null>> {
    return this.#ask(`/ips/${ip}`, signal, known, (body, path) => this.#mac(body, path));
  }

  dhcpServer(
    mac: MacAddress,
    signal: AbortSignal,
    known?: Known<MacAddress | null>,
  ): Promise<Known<MacAddress | null>> {
    return this.#ask(`/macs/${hyphened(mac)}/dhcp-server`, signal, known, (body, path) =>
      this.#mac(body, path),
    );
  }

  async #ask<T>(
    resource: string,
    signal: AbortSignal,
    known: Known<T | null> | undefined,
    read: (body: Buffer, path: string) => T,
  ): Promise<Known<T | null>> {
    const path = `${this.#base}${resource}`;
    const reply = await this.#client.read(
      path,
      { accept: JSON_TYPES, ...(known?.etag !== undefined && { 'if-none-match': known.etag }) },
      signal,
    );
    const { status, headers, body } = reply;
    const age = ageOf(headers, status === 404 ? UNKNOWN_AGE : this.#defaults);
    if (status === 304 && known?.etag !== undefined) return { ...known, age };
    if (status === 404 && codeOf(reply) === 'unknown') return { value: null, etag: undefined, age };
    if (status !== 200) throw this.#refusal(path, reply);
    return { value: read(body, path), etag: etagOf(headers), age };
  }

  #json(body: Buffer, path: string): Readonly<Record<string, unknown>> {
    const value = jsonOf(body);
    if (value !== undefined) return value;
    throw new StoreTrouble(`${this.origin}${path}: found no JSON object`, false);
  }

  #mac(body: Buffer, path: string): MacAddress {
    const text = this.#json(body, path)['mac'];
    const mac = typeof text === 'string' ? parseMac(text) : undefined;
    if (mac !== undefined && mac !== 0 && !isMulticastMac(mac)) return mac;
    throw new StoreTrouble(
      `${this.origin}${path}: expected the MAC address of one station under 'mac'`,
      false,
    );
  }

  // -- Everything

  /**
   * Reads all entries. `take` gets them in batches. Resolves to the revision. Rejects with a StoreTrouble also when the
   * answer is not whole.
   */
  async snapshot(signal: AbortSignal, take: (batch: ParsedEntries) => void): Promise<string> {
    const path = `${this.#base}/entries`;
    const lines = new Lines(this.origin);
    const wrong = (what: string): StoreTrouble => new StoreTrouble(`${this.origin}${path}: ${what}`, false);
    let bytes = 0;
    let line = 0;
    let entries = 0;
    let revision: string | undefined;
    const reply = await this.#client.stream(
      path,
      { accept: 'application/x-ndjson' },
      signal,
      checkNothing,
      (chunk) => {
        bytes += chunk.length;
        if (bytes > MAX_SNAPSHOT_BYTES || entries > MAX_ENTRIES)
          throw wrong(`a snapshot of more than ${MAX_ENTRIES} entries or ${MAX_SNAPSHOT_BYTES} bytes`);
        return inSlices(lines.of(chunk), (text) => {
          line++;
          if (text.length === 0) return;
          if (revision !== undefined) throw wrong(`line ${line} is behind the line with the revision`);
          if (text.length < TRAILER_BYTES && TRAILER.test(text.toString('latin1'))) {
            const end = jsonOf(text) ?? {};
            revision = cursorOf(end['revision']);
            if (revision === undefined) throw wrong(`line ${line} has no valid revision`);
            if (end['entries'] !== entries)
              throw wrong(`line ${line} does not have the number of entries before it, which is ${entries}`);
            return;
          }
          const batch = this.#entries(text, `${path}: line ${line}`);
          entries += batch.changes.length + batch.refused.length;
          take(batch);
        });
      },
    );
    if (reply !== undefined) throw this.#refusal(path, reply);
    if (lines.hasRest || revision === undefined)
      throw new StoreTrouble(`${this.origin}${path}: ended before the line with the revision`, true);
    return revision;
  }

  /**
   * Follows the changes behind a cursor, or from now on without one. `take` gets what one chunk of the stream has, and
   * the next chunk is read when it has resolved. Resolves when the store has ended the stream. Rejects with a
   * CursorTooOld or a StoreTrouble.
   */
  async changes(
    cursor: string | undefined,
    signal: AbortSignal,
    opened: () => void,
    take: (batch: Batch) => Promise<void>,
  ): Promise<void> {
    const path = `${this.#base}/changes`;
    const events = new Events(this.origin);
    const headers = {
      accept: 'text/event-stream',
      'cache-control': 'no-cache',
      ...(cursor !== undefined && { 'last-event-id': cursor }),
    };
    const begin = (given: IncomingHttpHeaders): void => {
      if (!/^text\/event-stream\b/i.test(given['content-type'] ?? ''))
        throw new StoreTrouble(`${this.origin}${path}: is no event stream (text/event-stream)`, false);
      opened();
    };
    const reply = await this.#client.stream(path, headers, signal, begin, (chunk) => {
      const all: ParsedEntries[] = [];
      let last: string | undefined;
      for (const { type, data, id } of events.of(chunk)) {
        if (type === 'message') all.push(this.#entries(data, `${path}: an event`));
        if (id !== undefined) last = cursorOf(id);
      }
      if (all.length === 0 && last === undefined) return undefined;
      return take({
        changes: all.flatMap((each) => each.changes),
        refused: all.flatMap((each) => each.refused),
        cursor: last,
      });
    });
    if (reply === undefined) return;
    if (reply.status === 410 && codeOf(reply) === 'cursor-too-old') throw new CursorTooOld();
    throw this.#refusal(path, reply);
  }

  #entries(bytes: Buffer, where: string): ParsedEntries {
    try {
      return parseEntries(bytes);
    } catch (error) {
      if (!(error instanceof EntryError)) throw error;
      throw new StoreTrouble(`${this.origin}${where}: ${error.message}`, false);
    }
  }
}

const checkNothing = (): void => undefined;

/** A MAC in a path: with hyphens, since some servers and proxies take a colon for the beginning of a port. */
const hyphened = (mac: MacAddress): string => formatMac(mac).replaceAll(':', '-');

function jsonOf(body: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(body.toString()) as unknown;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return value as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}

/** Returns the member `code` of a problem (RFC 9457 3.2). A 404 without one may come from another server than the store. */
function codeOf({ headers, body }: Reply): unknown {
  return /^application\/problem\+json\b/i.test(headers['content-type'] ?? '')
    ? jsonOf(body)?.['code']
    : undefined;
}

/** A cursor goes into a header again. Only printable characters are taken. */
function cursorOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value) && value.length <= MAX_TOKEN_CHARACTERS
    ? value
    : undefined;
}

function etagOf({ etag }: IncomingHttpHeaders): string | undefined {
  return cursorOf(etag);
}

function networkOf(given: Readonly<Record<string, unknown>>): Network {
  const list: readonly unknown[] = Array.isArray(given['vteps']) ? given['vteps'] : [];
  const vteps: Endpoint[] = [];
  for (const one of list) {
    try {
      vteps.push(parseEntry(Buffer.from(JSON.stringify(one))).to);
    } catch {
      // It is counted below.
    }
  }
  return { vteps, refused: list.length - vteps.length };
}
