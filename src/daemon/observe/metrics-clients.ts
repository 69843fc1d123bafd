/**
 * Who is let in to the metrics, and whom a connection belongs to that has to go for it. Nobody is asked who he is, so places
 * are shared out by where a client comes from: whoever has many gives one up before somebody who has one, one that waits
 * for nothing before one that is being answered, an old one before a new one.
 */
import type { Socket } from 'node:net';
import { isLinkLocal, isV4, parse as parseIp, toBytes } from '../../wire/ip.js';

/** Prometheus keeps one; the others are for a second one, and for those who look. */
const PLACES = 16;
/** Of one client: the rest is for others, whatever it does with them. */
const PLACES_OF_ONE = 4;

const NETWORK_BYTES = 8;

interface Place {
  readonly client: string;
  /** Requests that are being answered. */
  requests: number;
  /** When the first of them was ours no longer: all of it is written, for the client to read. */
  writtenMs: number | undefined;
}

export class MetricsClients {
  /** In the order in which they came. */
  readonly #places = new Map<Socket, Place>();
  readonly #slowMs: number;

  /** Whoever has not read his answer for `slowMs` is no better than one who has asked for nothing. */
  constructor(slowMs: number) {
    this.#slowMs = slowMs;
  }

  /** False when there is no place for it, nor one that can be taken from somebody else. */
  admit(socket: Socket): boolean {
    const client = clientOf(socket.remoteAddress);
    const same = [...this.#places].filter(([, place]) => place.client === client);
    if (same.length >= PLACES_OF_ONE && !this.#free(same)) return false;
    if (this.#places.size >= PLACES && !this.#free(this.#ofTheMost())) return false;
    this.#places.set(socket, { client, requests: 0, writtenMs: undefined });
    socket.once('close', () => this.#places.delete(socket));
    return true;
  }

  asks(socket: Socket): void {
    const place = this.#places.get(socket);
    if (place !== undefined) place.requests++;
  }

  written(socket: Socket): void {
    const place = this.#places.get(socket);
    if (place !== undefined) place.writtenMs ??= performance.now();
  }

  /** It has all of an answer. */
  has(socket: Socket): void {
    const place = this.#places.get(socket);
    if (place === undefined) return;
    place.requests--;
    place.writtenMs = undefined;
  }

  /** Ends the oldest that can be ended. */
  #free(among: readonly (readonly [Socket, Place])[]): boolean {
    const isSlow = ({ writtenMs }: Place): boolean =>
      writtenMs !== undefined && performance.now() - writtenMs > this.#slowMs;
    const found =
      among.find(([, { requests }]) => requests === 0) ?? among.find(([, place]) => isSlow(place));
    if (found === undefined) return false;
    const [socket] = found;
    this.#places.delete(socket);
    socket.destroy();
    return true;
  }

  /** All places, those of the clients with the most first. */
  #ofTheMost(): (readonly [Socket, Place])[] {
    const counts = new Map<string, number>();
    for (const { client } of this.#places.values()) counts.set(client, (counts.get(client) ?? 0) + 1);
    const count = ({ client }: Place): number => counts.get(client) ?? 0;
    return [...this.#places].sort(([, a], [, b]) => count(b) - count(a)); // stable: older ones first
  }
}

/** Of IPv6 the network alone: whoever has one address has 2^64 (RFC 4291 2.5.1). A Unix socket has one client. */
function clientOf(address: string | undefined): string {
  const ip = parseIp((address ?? '').replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/i, ''));
  if (ip === undefined || isV4(ip) || isLinkLocal(ip)) return address ?? '';
  return toBytes(ip).subarray(0, NETWORK_BYTES).join(':');
}

/**
 * Whether a browser cannot have been made to send this by a page of another site, which has its name lead to this host
 * (DNS rebinding): an address needs no name, `localhost` and the names that are configured are no other site's.
 */
export function isOwnHost(host: string | undefined, names: readonly string[]): boolean {
  if (host === undefined) return true; // HTTP/1.0: no browser
  const found = /^(?:\[(?<address>[^\]]*)\]|(?<name>[^:]*))(?::\d*)?$/.exec(host)?.groups;
  const name = (found?.['address'] ?? found?.['name'] ?? '').toLowerCase().replace(/\.$/, '');
  return parseIp(name) !== undefined || ['localhost', ...names].some((own) => own.toLowerCase() === name);
}
