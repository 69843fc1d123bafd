/**
 * Paths by slot: their MTUs, and the links that take tunnel frames. MTUs come from two sources: routes with an MTU
 * (`ip route ... mtu`), and ICMP messages that path-news.ts believes. Each thread has a table of its own, and asks it for every frame to the tunnel.
 *
 * Sockets ignore the path MTUs that the kernel has from ICMP (IP_PMTUDISC_PROBE), since the kernel believes
 * any sender. So only this table bounds the size of a datagram, and the MTU of the device, above which the
 * kernel refuses in any case.
 *
 * A size from ICMP holds for ten minutes and can only become smaller (RFC 1191 6.3, RFC 8201 4). Then the
 * path is tried with full size again. A destination has one entry, which ends with it.
 */
import type { RouteFacts, TunnelLink } from '../../model/underlay-state.js';
import { type Endpoint, family, type IpAddress } from '../../wire/ip.js';
import * as udp from '../../wire/udp.js';
import { TICK_MS } from './target-table.js';

/** RFC 1191 6.3, RFC 8201 4: at least five minutes; ten are recommended. */
const LASTS_TICKS = (10 * 60 * 1000) / TICK_MS;
/** A destination counts as used lately for this time: a router answers at once, and the longest path takes a
 * few seconds for a round trip. */
const LATELY_TICKS = 10_000 / TICK_MS;
/** Larger than any frame. */
const UNLIMITED = 0x7fff_ffff;
const UNKNOWN = 0;
const NEVER = -0x8000_0000;
const MIN_SLOTS = 64;
/** Work of one `sweep`: a look at a slot, and one for its address in the routes of each overlay, count 1
 * each. All together take a tenth of a millisecond. */
const MAX_WORK = 4096;

export class PathMtus {
  /** Bytes of the largest datagram that fits, by slot: the payload of UDP, which is the tunnel header and the
   * frame. */
  largest = new Int32Array(MIN_SLOTS).fill(UNLIMITED);
  /** Tick of the last frame sent to a slot. */
  usedTick = new Int32Array(MIN_SLOTS).fill(NEVER);
  /** Bytes of IP packet that ICMP reported for a slot, and the tick of the report. */
  #learned = new Int32Array(MIN_SLOTS);
  #learnedTick = new Int32Array(MIN_SLOTS);
  readonly #endpoints: (Endpoint | undefined)[] = [];
  /** Overlay -> routes. If several overlays have a route for an address, the smallest MTU counts, and no tunnel frame is
   * sent if their links differ. */
  readonly #routes = new Map<number, ReadonlyMap<IpAddress, RouteFacts>>();
  /** Told of each slot that may get tunnel frames by a link, or may no longer. */
  readonly #linked: (slot: number, link: TunnelLink | undefined) => void;
  /** Slots that may. */
  readonly #links = new Set<number>();
  /** `sweep` has still to look at the slots below this one. */
  #unsweptSlots = 0;

  constructor(linked: (slot: number, link: TunnelLink | undefined) => void = () => undefined) {
    this.#linked = linked;
  }

  /** Notes that a slot is used for this destination from now on. */
  opened(slot: number, endpoint: Endpoint): void {
    if (slot >= this.largest.length) this.#grow(2 * (slot + 1));
    this.#endpoints[slot] = endpoint;
    this.usedTick[slot] = NEVER;
    this.#learned[slot] = UNKNOWN;
    this.#settle(slot);
  }

  /** Takes over the routes of `other`, for slots that are opened from now on. */
  imitateRoutes(other: PathMtus): void {
    for (const [overlay, routes] of other.#routes) this.#routes.set(overlay, routes);
  }

  /** Takes over what `other` knows of the path of a slot. */
  imitate(slot: number, other: PathMtus, otherSlot: number): void {
    this.largest[slot] = other.largest[otherSlot];
    this.#learned[slot] = other.#learned[otherSlot];
    this.#learnedTick[slot] = other.#learnedTick[otherSlot];
  }

  /** Notes that a slot is no longer used. */
  closed(slot: number): void {
    this.#endpoints[slot] = undefined;
    this.#links.delete(slot);
  }

  /** Returns whether a datagram larger than `largest` is still too large: an entry from ICMP may be out of
   * date. */
  exceeds(slot: number, datagramBytes: number, nowTick: number): boolean {
    if (this.#isOver(slot, nowTick)) this.#forget(slot);
    return datagramBytes > this.largest[slot];
  }

  /** Returns the bytes of IP packet that the path carries, as far as this table knows; Infinity if it knows
   * nothing. */
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

  /** Returns whether a size as small as `mtuBytes` is known already, so that the message is no news. */
  knows(slot: number, mtuBytes: number, nowTick: number): boolean {
    return !this.#isOver(slot, nowTick) && this.#learned[slot] !== UNKNOWN && this.#learned[slot] <= mtuBytes;
  }

  /** Believes a size from now on. Returns whether it is smaller than before. */
  learn(slot: number, mtuBytes: number, nowTick: number): boolean {
    if (this.knows(slot, mtuBytes, nowTick)) return false;
    this.#learned[slot] = mtuBytes;
    this.#learnedTick[slot] = nowTick;
    this.#settle(slot);
    return true;
  }

  /** Replaces what is known of the routes of an overlay. It applies to all slots once `sweep` returns false. */
  nameRoutes(overlay: number, routes: readonly RouteFacts[]): void {
    // Most overlays have no such route, and then no slot is looked at.
    if (routes.length === 0 && !this.#routes.delete(overlay)) return;
    if (routes.length > 0) this.#routes.set(overlay, new Map(routes.map((route) => [route.to, route])));
    this.#unsweptSlots = this.#endpoints.length;
  }

  /** Keeps times of long ago from seeming recent when ticks overflow; see TargetTable.age. `sweep` is to be
   * called until it returns false. */
  age(): void {
    this.#unsweptSlots = this.#endpoints.length;
  }

  /** Applies routes and the passing of time to some of the slots. Returns whether there are more. */
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
      mtuBytes = Math.min(mtuBytes, routes.get(endpoint.ip)?.mtuBytes ?? Infinity);
    this.largest[slot] =
      mtuBytes === Infinity ? UNLIMITED : mtuBytes - udp.overheadBytes(family(endpoint.ip));
    this.#link(slot, endpoint.ip);
  }

  #link(slot: number, ip: IpAddress): void {
    let link: TunnelLink | undefined;
    for (const routes of this.#routes.values()) {
      const other = routes.get(ip)?.tunnelLink;
      if (link !== undefined && other !== undefined && other.index !== link.index) {
        link = undefined;
        break;
      }
      link ??= other;
    }
    if (link === undefined && !this.#links.delete(slot)) return;
    if (link !== undefined) this.#links.add(slot);
    this.#linked(slot, link);
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
