/**
 * What the paths to destinations carry, by slot: what their routes were told to (`ip route ... mtu`), and what ICMP says of
 * them (path-news.ts decides whom to believe). Of one thread, which asks for every frame to the tunnel.
 *
 * Sockets take no notice of what the kernel hears (IP_PMTUDISC_PROBE): it believes anybody. So this table is all there is,
 * beside the MTU of the device at hand, above which the kernel refuses a datagram in any case.
 *
 * What ICMP says holds for ten minutes and can only become less (RFC 1191 6.3, RFC 8201 4); then the path is tried again.
 * There is one entry a destination, and it goes with it.
 */
import type { RouteMtu } from '../model/underlay-state.js';
import { type Endpoint, family, type IpAddress } from '../wire/ip.js';
import * as udp from '../wire/udp.js';
import { TICK_MS } from './target-table.js';

/** RFC 1191 6.3, RFC 8201 4: not less than five minutes, recommended are ten. */
const LASTS_TICKS = (10 * 60 * 1000) / TICK_MS;
/** The peer was used lately: a router answers at once, and the longest path takes a few seconds there and back. */
const LATELY_TICKS = 10_000 / TICK_MS;
/** No frame is larger. */
const UNLIMITED = 0x7fff_ffff;
const UNKNOWN = 0;
const NEVER = -0x8000_0000;
const MIN_SLOTS = 64;
/** Of one `sweep`, in looks at a slot and for its address in the routes of an overlay: a tenth of a millisecond. */
const MAX_WORK = 4096;

export class PathMtus {
  /** Bytes of the largest datagram that fits, by slot: what UDP carries, a frame with the tunnel's header before it. */
  largest = new Int32Array(MIN_SLOTS).fill(UNLIMITED);
  /** When a frame was last sent to a slot. */
  usedTick = new Int32Array(MIN_SLOTS).fill(NEVER);
  /** Bytes of IP packet, as ICMP said, and when it did. */
  #learned = new Int32Array(MIN_SLOTS);
  #learnedTick = new Int32Array(MIN_SLOTS);
  readonly #endpoints: (Endpoint | undefined)[] = [];
  /** By overlay. One that is named by several is the smallest of them. */
  readonly #routes = new Map<number, ReadonlyMap<IpAddress, number>>();
  /** Below this slot `sweep` has still to look. */
  #unsweptSlots = 0;

  /** A slot is used for this destination from now on. */
  opened(slot: number, endpoint: Endpoint): void {
    if (slot >= this.largest.length) this.#grow(2 * (slot + 1));
    this.#endpoints[slot] = endpoint;
    this.usedTick[slot] = NEVER;
    this.#learned[slot] = UNKNOWN;
    this.#settle(slot);
  }

  /** And for none. */
  closed(slot: number): void {
    this.#endpoints[slot] = undefined;
  }

  /** Whether a datagram that is larger than `largest` says still does not fit. */
  exceeds(slot: number, datagramBytes: number, nowTick: number): boolean {
    if (this.#isOver(slot, nowTick)) this.#forget(slot);
    return datagramBytes > this.largest[slot];
  }

  /** Bytes of IP packet that the path carries, as far as this table knows; Infinity where it knows nothing. */
  bytes(slot: number): number {
    const endpoint = this.#endpoints[slot];
    const largest = this.largest[slot];
    return endpoint === undefined || largest === UNLIMITED
      ? Infinity
      : largest + udp.overheadBytes(family(endpoint.ip));
  }

  isUsedLately(slot: number, nowTick: number): boolean {
    const tick = this.usedTick[slot];
    return tick !== NEVER && ((nowTick - tick) | 0) <= LATELY_TICKS;
  }

  /** Whether a packet of that size is known not to pass: then there is no news in it. */
  knows(slot: number, mtuBytes: number, nowTick: number): boolean {
    return !this.#isOver(slot, nowTick) && this.#learned[slot] !== UNKNOWN && this.#learned[slot] <= mtuBytes;
  }

  /** What is believed from now on. Whether it is less than before. */
  learn(slot: number, mtuBytes: number, nowTick: number): boolean {
    if (this.knows(slot, mtuBytes, nowTick)) return false;
    this.#learned[slot] = mtuBytes;
    this.#learnedTick[slot] = nowTick;
    this.#settle(slot);
    return true;
  }

  /** The routes of an overlay's destinations that carry less than their device, in place of those named before. `sweep` is
   * to be called until there is no more: then this is in force for all. */
  nameRoutes(overlay: number, routes: readonly RouteMtu[]): void {
    // Most have none: then no destination is looked at.
    if (routes.length === 0 && !this.#routes.delete(overlay)) return;
    if (routes.length > 0)
      this.#routes.set(overlay, new Map(routes.map(({ to, mtuBytes }) => [to, mtuBytes])));
    this.#unsweptSlots = this.#endpoints.length;
  }

  /** So that times which are long over do not seem to come again when the ticks run over: TargetTable.age. `sweep` is to be
   * called until there is no more. */
  age(): void {
    this.#unsweptSlots = this.#endpoints.length;
  }

  /** Looks at some of the slots for what routes and time have changed. Whether there are more. */
  sweep(nowTick: number): boolean {
    for (let left = MAX_WORK; left > 0 && this.#unsweptSlots > 0; left -= 1 + this.#routes.size) {
      const slot = --this.#unsweptSlots;
      if (this.#isOver(slot, nowTick)) this.#learned[slot] = UNKNOWN;
      if (!this.isUsedLately(slot, nowTick)) this.usedTick[slot] = NEVER;
      this.#settle(slot);
    }
    return this.#unsweptSlots > 0;
  }

  #isOver(slot: number, nowTick: number): boolean {
    return this.#learned[slot] !== UNKNOWN && ((nowTick - this.#learnedTick[slot]) | 0) >= LASTS_TICKS;
  }

  #forget(slot: number): void {
    this.#learned[slot] = UNKNOWN;
    this.#settle(slot);
  }

  #settle(slot: number): void {
    const endpoint = this.#endpoints[slot];
    if (endpoint === undefined) return;
    let mtuBytes = this.#learned[slot] === UNKNOWN ? Infinity : this.#learned[slot];
    for (const routes of this.#routes.values())
      mtuBytes = Math.min(mtuBytes, routes.get(endpoint.ip) ?? Infinity);
    this.largest[slot] =
      mtuBytes === Infinity ? UNLIMITED : mtuBytes - udp.overheadBytes(family(endpoint.ip));
  }

  #grow(slots: number): void {
    this.largest = grown(this.largest, slots);
    this.usedTick = grown(this.usedTick, slots);
    this.#learned = grown(this.#learned, slots);
    this.#learnedTick = grown(this.#learnedTick, slots);
  }
}

function grown(values: Int32Array<ArrayBuffer>, slots: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(slots);
  larger.set(values);
  return larger;
}
