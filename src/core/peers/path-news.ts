/**
 * Path MTUs from ICMP: which messages are believed, and how far. Anyone on the Internet can send such a
 * message, so its quotation must match a packet that this thread has sent:
 *
 *   source port    that of the socket that received the message; the kernel checks it
 *   destination    a destination that frames were sent to within the last seconds
 *   VNI            that of an overlay which has this destination as a peer
 *   length         the inner packet with all outer headers was larger than the reported size
 *
 * A size below the least MTU of an overlay plus its outer headers is never obeyed: an overlay could carry
 * nothing then. The message is shown instead, since either the path is too narrow or the message is forged.
 *
 * A router may quote too little to check VNI and length: RFC 792 wants 8 bytes, which end with UDP's header
 * (IPv4 alone). Or the inner packet may not be IP. Such a message is believed only as far as an overlay can
 * still carry the 1,280 bytes that IPv6 needs (RFC 8200 5).
 *
 * A message that a destination cannot be reached changes nothing in the datapath. It is noted for the peer,
 * and an operator sees it while nothing is heard from there. So a forged one does no harm.
 */
import type { Encapsulation } from '../../encap/contract.js';
import { frameOverheadBytes, overheadBytes } from '../../encap/index.js';
import { MIN_MTU_BYTES } from '../../model/properties.js';
import { read16 } from '../../wire/bytes.js';
import * as ethernet from '../../wire/ethernet.js';
import { type Endpoint, family, type IpAddress, readV6 } from '../../wire/ip.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import {
  ADDRESS,
  BYTES,
  KIND,
  NEWS_WORDS,
  NO_KIND,
  NO_SIZE,
  type PathNews,
  PORT,
  QUOTE_BYTES,
  QUOTED,
  SENDER,
} from '../../wire/path-news.js';
import * as vlan from '../../wire/vlan.js';
import { COUNTER } from '../counts/counters.js';
import { NONE } from '../tables/mac-index.js';
import type { Mux } from '../mux.js';
import type { PathReport } from '../overlay-options.js';
import type { Overlay, Shared } from '../overlay.js';

/** RFC 8200 5: every link carries a packet of this size. */
const IPV6_MIN_MTU_BYTES = 1280;

/** Returns the smallest believable path MTU, in bytes of IP packet. IPv6 has a minimum of its own (RFC 8201
 * 4). */
export function leastPathMtuBytes(encap: Encapsulation, underlay: 4 | 6): number {
  const least = MIN_MTU_BYTES + overheadBytes(encap, underlay);
  return underlay === 4 ? least : Math.max(least, IPV6_MIN_MTU_BYTES);
}

/** Returns the smallest believable path MTU if the quotation is too short. */
export function leastUnprovenBytes(encap: Encapsulation, underlay: 4 | 6): number {
  return IPV6_MIN_MTU_BYTES + overheadBytes(encap, underlay);
}

/** Handles the first `count` ICMP messages that a socket of `mux` received. `isSender`: frames are sent from
 * that socket. */
export function hearNews(mux: Mux, isSender: boolean, news: PathNews, count: number, shared: Shared): void {
  for (let index = 0; index < count; index++) {
    const at = index * NEWS_WORDS;
    if (news.words[at + BYTES] !== NO_SIZE) hearOne(mux, isSender, news, index, shared);
    else if (news.words[at + KIND] !== NO_KIND && isSender) hearUnreachable(mux, news, index, shared);
  }
}

/** Overlays that a message may be about which does not say of which it is. */
const MAX_OVERLAYS = 64;

function hearUnreachable(mux: Mux, news: PathNews, index: number, shared: Shared): void {
  const at = index * NEWS_WORDS;
  const { words } = news;
  const { overlay, sentBytes } = quoted(mux, news, index, 4);
  if (sentBytes === UNREADABLE) return;
  const message = { kind: words[at + KIND], port: words[at + PORT], words, senderAt: at + SENDER };
  if (overlay !== undefined) {
    overlay.peers.unreachable(words, at + ADDRESS, message, shared.nowTick);
    return;
  }
  let left = MAX_OVERLAYS;
  for (const one of mux.overlays) {
    one.peers.unreachable(words, at + ADDRESS, message, shared.nowTick);
    if (--left === 0) return;
  }
}

/** Counts the messages from `first` up to `count` as refused, since there is no time for more. */
export function ignoreNews({ counters }: Mux, news: PathNews, first: number, count: number): void {
  for (let index = first; index < count; index++)
    if (news.words[index * NEWS_WORDS + BYTES] !== NO_SIZE) counters[COUNTER.path_mtu_refused]++;
}

function hearOne(mux: Mux, isSender: boolean, news: PathNews, index: number, shared: Shared): void {
  const at = index * NEWS_WORDS;
  const { words } = news;
  const to = endpointAt(words, at);
  const mtuBytes = words[at + BYTES];
  const { overlay, sentBytes } = quoted(mux, news, index, family(to.ip));
  const counters = overlay?.counters ?? mux.counters;
  const slot = shared.destinations.slotOf(to);
  const isPeer = overlay === undefined || overlay.peers.has(words, at + ADDRESS);
  // If the quotation has a length, it must be larger than the reported size.
  const isSent = sentBytes === NONE || sentBytes > mtuBytes;
  if (!isSender || slot === undefined || !isPeer || !isSent || sentBytes === UNREADABLE) {
    counters[COUNTER.path_mtu_refused]++;
    return;
  }
  const isProven = sentBytes !== NONE;
  const { paths } = shared.destinations;
  const isUsed = paths.isUsedLately(slot, shared.nowTick);
  const leastBytes = leastPathMtuBytes(mux.encapsulation, family(to.ip));
  if (mtuBytes < leastBytes && isProven && isUsed) {
    counters[COUNTER.path_mtu_too_small]++;
    overlay?.notices.narrowPath(to.ip, mtuBytes);
    return;
  }
  if (mtuBytes < (isProven ? leastBytes : leastUnprovenBytes(mux.encapsulation, family(to.ip)))) {
    counters[COUNTER.path_mtu_refused]++;
    return;
  }
  if (paths.knows(slot, mtuBytes, shared.nowTick)) return;
  if (!isUsed) counters[COUNTER.path_mtu_refused]++;
  else if (paths.learn(slot, mtuBytes, shared.nowTick)) counters[COUNTER.path_mtu_learned]++;
  shared.pathHeard({ overlay: overlay?.options.id, to, mtuBytes }, isUsed);
}

/** Handles a size that another thread has reported. It is believed if this thread has used the destination
 * lately. Returns whether it makes a path smaller. */
export function hearOther({ to, mtuBytes }: PathReport, { destinations, nowTick }: Shared): boolean {
  const { paths } = destinations;
  const slot = destinations.slotOf(to);
  return slot !== undefined && paths.isUsedLately(slot, nowTick) && paths.learn(slot, mtuBytes, nowTick);
}

function endpointAt(words: Int32Array, at: number): Endpoint {
  const octets = new Uint8Array(words.buffer, words.byteOffset);
  const ip: IpAddress = readV6(octets, (at + ADDRESS) * Int32Array.BYTES_PER_ELEMENT);
  return { ip, port: words[at + PORT] };
}

/** `sentBytes` of a quotation that no packet of this host matches. */
const UNREADABLE = -2;

/** Returns the overlay of the quoted frame, and the bytes of its outer IP packet: NONE if those cannot be
 * told. */
function quoted(
  mux: Mux,
  { words, quotes }: PathNews,
  index: number,
  underlay: 4 | 6,
): { readonly overlay: Overlay | undefined; readonly sentBytes: number } {
  const at = index * QUOTE_BYTES;
  const length = words[index * NEWS_WORDS + QUOTED];
  const { encapsulation } = mux;
  const { headerBytes } = encapsulation;
  if (length < headerBytes) return { overlay: undefined, sentBytes: NONE };
  const isOurs = encapsulation.check(quotes, at, length) === headerBytes;
  const overlay = isOurs ? mux.find(encapsulation.id(quotes, at)) : undefined;
  if (overlay === undefined) return { overlay, sentBytes: UNREADABLE };
  const frame = at + headerBytes;
  const header = vlan.headerLength(quotes, frame, length - headerBytes);
  const innerBytes = header < 0 ? NONE : packetBytes(quotes, frame + header, at + length);
  if (innerBytes === NONE) return { overlay, sentBytes: NONE };
  return { overlay, sentBytes: innerBytes + header + frameOverheadBytes(encapsulation, underlay) };
}

/** Returns the length that the IP packet at `ip` states; NONE if it is not IP, or its length is not
 * quoted. */
function packetBytes(bytes: Uint8Array, ip: number, end: number): number {
  const etherType = read16(bytes, ip - 2);
  if (etherType === ethernet.IPV4 && ip + ipv4.TOTAL_LENGTH + 2 <= end) return ipv4.totalLength(bytes, ip);
  if (etherType === ethernet.IPV6 && ip + ipv6.PAYLOAD_LENGTH + 2 <= end)
    return ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, ip);
  return NONE;
}
