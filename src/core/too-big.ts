/**
 * Answers packets that are too big for the tunnel. The sender gets the size that fits, in ICMP "fragmentation
 * needed" (RFC 1191 4) or ICMPv6 "packet too big" (RFC 4443 3.2), at the port that the frame came from. The
 * size is the path MTU that path-mtu.ts has. If the packet would fit by that, the kernel has refused it for
 * the device's MTU, and is asked how much the device carries.
 *
 * The answer comes from the MAC and IP that the packet was for, as under a Linux bridge
 * (net/ipv4/ip_tunnel_core.c, skb_tunnel_check_pmtu). A VTEP has no address on the overlay, and the packet's
 * destination is the one address that the sender's neighbour cache, filters and reverse path check accept.
 *
 * These get no answer: frames that waited for a lookup, copies of a flood, IPv4 packets that may be fragmented
 * (varpd does not fragment them either), and the overlay's own datagrams, which a loop has brought back. varpd
 * would hear such an answer, and believe in a path that is narrower with each round.
 */
import { frameOverheadBytes } from '../encap/index.js';
import { read16, write16 } from '../wire/bytes.js';
import { DESCRIPTOR_WORDS, type FrameBatch, GSO_TYPE, LENGTH, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as icmp from '../wire/icmp.js';
import * as icmpv6 from '../wire/icmpv6.js';
import { family } from '../wire/ip.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as udp from '../wire/udp.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import type { Rate } from './queues/allowance.js';
import { COUNTER } from './counts/counters.js';
import { largestFrameBytes } from './counts/frame-count.js';
import { deliverTo } from './inject.js';
import { NONE } from './tables/mac-index.js';
import type { Overlay, Port } from './overlay.js';
import { isStation, replyTo } from './proxy/proxy-frame.js';
import { isUsable, NOWHERE } from './tables/target-table.js';

/** Largest answer. IPv4: RFC 1812 4.3.2.3; IPv6: RFC 4443 2.4 (c). */
const MAX_ANSWER_BYTES_V4 = 576;
const MAX_ANSWER_BYTES_V6 = 1280;
/** RFC 791 3.2: every link carries a packet of this size. */
const MIN_MTU_BYTES = 68;
const TTL = 64; // RFC 1700, "IP Time to Live"
/** IP precedence "internetwork control". RFC 1812 4.3.2.5 */
const INTERNETWORK_CONTROL = 0xc0;

/** Rate of answers to a port. RFC 1812 4.3.2.8 and RFC 4443 2.4 (f) want a limit, and one answer per flow is
 * enough. */
export const ANSWER_RATE: Rate = { perSecond: 100, burst: 10 };

/** Answers the frames of a batch that its flush returned as too big. The batch must be as it was sent. */
export function answerTooBig(
  overlay: Overlay,
  port: Port,
  batch: FrameBatch,
  tooBig: readonly number[],
): void {
  for (const index of tooBig) {
    const { bytes, descriptors } = batch;
    const at = index * DESCRIPTOR_WORDS;
    const frame = descriptors[at + OFFSET];
    const header = vlan.headerLength(bytes, frame, descriptors[at + LENGTH]);
    const ip = frame + header;
    const ipBytes = descriptors[at + LENGTH] - header;
    if (!isBetweenStations(bytes, frame) || !isAnswerable(bytes, ip, ipBytes)) continue;
    if (!port.answers.take() || isOwn(overlay, bytes, ip, ipBytes)) continue;
    const sizeBytes = largestFrameBytes(descriptors, at) - header;
    const mtuBytes = largestPacketBytes(overlay, bytes, frame, header, sizeBytes);
    // The path may have become larger since. An answer that names no smaller size would mislead.
    if (mtuBytes < MIN_MTU_BYTES || mtuBytes >= sizeBytes) continue;
    const isSuperframe = descriptors[at + GSO_TYPE] !== virtio.GSO_NONE;
    const packet = quote(bytes, ip, ipBytes, isSuperframe ? sizeBytes : undefined);
    const etherHeader = bytes.subarray(frame, ip);
    overlay.counters[COUNTER.too_big_answers]++;
    deliverTo(
      overlay,
      port,
      packet[0] >> 4 === 4
        ? answerV4(etherHeader, packet, mtuBytes)
        : answerV6(etherHeader, packet, mtuBytes),
    );
  }
}

/** Returns the largest IP packet that would fit behind the frame's own Ethernet header; negative if that is
 * unknown. */
function largestPacketBytes(
  overlay: Overlay,
  bytes: Uint8Array,
  frame: number,
  header: number,
  sizeBytes: number,
): number {
  const { mtuBytes, listen } = overlay.options;
  if (sizeBytes > mtuBytes) return mtuBytes;
  const slot = slotOf(overlay, ethernet.destinationHigh(bytes, frame), ethernet.destinationLow(bytes, frame));
  if (slot < 0) return NONE;
  const { destinations, routeMtuBytes } = overlay.shared;
  const overhead = frameOverheadBytes(overlay.encapsulation, family(listen.ip)) + header;
  const known = destinations.paths.bytes(slot) - overhead;
  return known < sizeBytes ? known : routeMtuBytes(listen.ip, destinations.endpoint(slot).ip) - overhead;
}

/** Returns the slot of a unicast MAC's destination; negative if it has none, or several. */
function slotOf({ point, targets, shared }: Overlay, high: number, low: number): number {
  if (point !== NOWHERE) return point;
  const row = targets.find(high, low);
  return row !== NONE && isUsable(targets.state(row, shared.nowTick)) ? targets.destination(row) : NOWHERE;
}

// -- Senders that are answered

function isBetweenStations(bytes: Uint8Array, frame: number): boolean {
  return !ethernet.isGroup(bytes, frame) && isStation(ethernet.source(bytes, frame));
}

/** Returns whether the IP packet at `ip` may be answered with an ICMP error: RFC 1122 3.2.2, RFC 4443 2.4
 * (e). */
function isAnswerable(bytes: Uint8Array, ip: number, length: number): boolean {
  const etherType = read16(bytes, ip - 2);
  if (etherType === ethernet.IPV4) return isAnswerableV4(bytes, ip, length);
  return etherType === ethernet.IPV6 && isAnswerableV6(bytes, ip, length);
}

function isAnswerableV4(bytes: Uint8Array, ip: number, length: number): boolean {
  const header = ipv4.check(bytes, ip, length);
  if (header < 0 || !ipv4.dontFragment(bytes, ip) || ipv4.fragmentOffset(bytes, ip) > 0) return false;
  if (!isHostV4(bytes[ip + ipv4.SOURCE]) || !isHostV4(bytes[ip + ipv4.DESTINATION])) return false;
  if (ipv4.protocol(bytes, ip) !== ipv4.ICMP) return true;
  return icmp.check(bytes, ip + header, length - header) > 0 && !icmp.isError(bytes, ip + header);
}

/** Decides by the first octet: not "this network", loopback, multicast, broadcast or class E. RFC 1122
 * 3.2.1.3 */
function isHostV4(octet: number): boolean {
  return octet !== 0 && octet !== 127 && octet < 224;
}

function isAnswerableV6(bytes: Uint8Array, ip: number, length: number): boolean {
  if (ipv6.check(bytes, ip, length) < 0) return false;
  if (!isHostV6(bytes, ip + ipv6.SOURCE) || !isHostV6(bytes, ip + ipv6.DESTINATION)) return false;
  const packed = ipv6.transport(bytes, ip);
  if (packed < 0 || ipv6.isLaterFragment(packed)) return false;
  if (ipv6.transportProtocol(packed) !== ipv6.ICMPV6) return true;
  const at = ipv6.transportOffset(packed);
  return icmpv6.check(bytes, ip + at, length - at) > 0 && !icmpv6.isError(bytes, ip + at);
}

/** Returns false for multicast (ff00::/8), unspecified and loopback; the latter two begin with fifteen
 * zeros. */
function isHostV6(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] === 0xff) return false;
  for (let index = 0; index < 15; index++) if (bytes[at + index] !== 0) return true;
  return bytes[at + 15] > 1;
}

/** Returns whether the IP packet at `ip`, which is answerable, is a datagram that this overlay has sent. */
function isOwn({ encapsulation, options }: Overlay, bytes: Uint8Array, ip: number, length: number): boolean {
  const isV4 = bytes[ip] >> 4 === 4;
  const packed = isV4 ? NONE : ipv6.transport(bytes, ip);
  const protocol = isV4 ? ipv4.protocol(bytes, ip) : ipv6.transportProtocol(packed);
  const header = isV4 ? ipv4.check(bytes, ip, length) : ipv6.transportOffset(packed);
  const at = ip + header + udp.HEADER_BYTES;
  return (
    protocol === ipv4.UDP &&
    encapsulation.check(bytes, at, ip + length - at) === encapsulation.headerBytes &&
    encapsulation.id(bytes, at) === options.vnetid &&
    (isV4 ? ipv4 : ipv6).source(bytes, ip) === options.listen.ip
  );
}

// -- Answers

/** Returns a copy of the beginning of the packet. A superframe is quoted as its first segment, which is the
 * packet that would have been sent: its sender finds the connection by it. */
function quote(bytes: Uint8Array, ip: number, length: number, segmentBytes: number | undefined): Uint8Array {
  const isV4 = bytes[ip] >> 4 === 4;
  const packetBytes =
    segmentBytes ?? (isV4 ? ipv4.totalLength(bytes, ip) : ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, ip));
  const room = isV4 ? MAX_ANSWER_BYTES_V4 - ipv4.HEADER_BYTES : MAX_ANSWER_BYTES_V6 - ipv6.HEADER_BYTES;
  const copy = bytes.slice(ip, ip + Math.min(packetBytes, length, room - icmp.HEADER_BYTES));
  if (segmentBytes === undefined) return copy;
  if (isV4) ipv4.setTotalLength(copy, 0, segmentBytes);
  else write16(copy, ipv6.PAYLOAD_LENGTH, segmentBytes - ipv6.HEADER_BYTES);
  return copy;
}

function answerV4(request: Uint8Array, packet: Uint8Array, mtuBytes: number): Uint8Array {
  const message = icmp.HEADER_BYTES + packet.length;
  const reply = mirror(request, ipv4.HEADER_BYTES + message);
  const ip = request.length;
  ipv4.write(
    {
      source: ipv4.destination(packet, 0),
      destination: ipv4.source(packet, 0),
      protocol: ipv4.ICMP,
      ttl: TTL,
      trafficClass: INTERNETWORK_CONTROL,
      identification: 0, // RFC 6864 4.1: any, where fragmenting is forbidden
      dontFragment: true,
      payloadLength: message,
    },
    reply,
    ip,
  );
  const at = ip + ipv4.HEADER_BYTES;
  icmp.write({ type: icmp.UNREACHABLE, code: icmp.FRAGMENTATION_NEEDED, word: mtuBytes }, reply, at);
  reply.set(packet, at + icmp.HEADER_BYTES);
  icmp.fillChecksum(reply, at, message);
  return reply;
}

function answerV6(request: Uint8Array, packet: Uint8Array, mtuBytes: number): Uint8Array {
  const message = icmpv6.HEADER_BYTES + packet.length;
  const reply = mirror(request, ipv6.HEADER_BYTES + message);
  const ip = request.length;
  ipv6.write(
    {
      source: ipv6.destination(packet, 0),
      destination: ipv6.source(packet, 0),
      nextHeader: ipv6.ICMPV6,
      hopLimit: TTL,
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: message,
    },
    reply,
    ip,
  );
  const at = ip + ipv6.HEADER_BYTES;
  icmpv6.write({ type: icmpv6.PACKET_TOO_BIG, code: 0, word: mtuBytes }, reply, at);
  reply.set(packet, at + icmpv6.HEADER_BYTES);
  icmpv6.fillChecksum(reply, ip, at, message);
  return reply;
}

/** Returns a frame back to the sender of `request`, with the same tags. */
function mirror(request: Uint8Array, ipBytes: number): Uint8Array {
  return replyTo(
    request,
    request.length,
    ipBytes,
    ethernet.source(request, 0),
    ethernet.destination(request, 0),
  );
}
