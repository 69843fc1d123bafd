/**
 * Decides which clients of the metrics endpoint get a connection (a place), and which connection is closed to
 * make room. The endpoint knows no users, so places are shared out by the address of a client. An idle
 * connection is closed first, otherwise one with an answer that its client is slow to read. Among equals one
 * of the client with the most places is closed, and the oldest of these.
 */
import type { Socket } from 'node:net';
import { isLinkLocal, isV4, parse as parseIp, toBytes } from '../../wire/ip.js';

/** Prometheus keeps one connection. The rest is for a second Prometheus, and for operators with a browser. */
const PLACES = 16;
/** Places of one client at most, so that it cannot keep all others out. */
const PLACES_OF_ONE = 4;

const NETWORK_BYTES = 8;

interface Place {
  readonly client: string;
  /** Requests that are being answered. */
  requests: number;
  /**
   * Time at which an answer was written to the kernel whole and not yet read by the client; undefined: there
   * is none.
   */
  writtenMs: number | undefined;
}

export class MetricsClients {
  /** In the order in which the clients came. */
  readonly #places = new Map<Socket, Place>();
  readonly #slowMs: number;

  /** A client that has not read its answer for `slowMs` counts as idle. */
  constructor(slowMs: number) {
    this.#slowMs = slowMs;
  }

  /** Returns false when there is no free place, and none that can be taken from another client. */
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

  /** The client has all of an answer. */
  has(socket: Socket): void {
    const place = this.#places.get(socket);
    if (place === undefined) return;
    place.requests--;
    place.writtenMs = undefined;
  }

  /** Ends the first connection that may be ended: an idle one, else a slow one. */
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

/**
 * Name of a client. For IPv6 only the network counts: a host with one address has 2^64 of them (RFC 4291
 * 2.5.1). All clients of a Unix socket are one.
 */
function clientOf(address: string | undefined): string {
  const ip = parseIp((address ?? '').replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/i, ''));
  if (ip === undefined || isV4(ip) || isLinkLocal(ip)) return address ?? '';
  return toBytes(ip).subarray(0, NETWORK_BYTES).join(':');
}
