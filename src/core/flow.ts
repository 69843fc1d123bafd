/**
 * The two values that the outer header takes from the inner packet: the flow, as a hash that picks the source
 * port (RFC 7348 5), and the traffic class. Each frame is inspected once, and one small integer holds both
 * values.
 */
import { read16, readSigned32 } from '../wire/bytes.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as loopback from '../wire/loopback.js';

/** Bits of the hash, which are above the 8 bits of the traffic class. */
export const HASH_BITS = 23;

// Offsets of the addresses in the IP headers.
const V4_ADDRESSES = 12; // RFC 791 3.1
const V6_ADDRESSES = 8; // RFC 8200 3

/** Returns the flow of a frame. Its Ethernet header, tags included, ends at `payload`; `end` is one past its
 * last byte. */
export function inspect(bytes: Uint8Array, frame: number, payload: number, end: number): number {
  const etherType = read16(bytes, payload - 2);
  if (etherType === ethernet.IPV4 && ipv4.check(bytes, payload, end - payload) > 0) {
    const transport = payload + ipv4.headerLength(bytes, payload);
    let hash = mix(
      readSigned32(bytes, payload + V4_ADDRESSES),
      readSigned32(bytes, payload + V4_ADDRESSES + 4),
    );
    // All fragments of a datagram must take one path, and only the first has ports.
    if (!ipv4.isFragment(bytes, payload))
      hash = mixPorts(hash, bytes, transport, ipv4.protocol(bytes, payload), end);
    return pack(hash, ipv4.trafficClass(bytes, payload));
  }
  if (etherType === ethernet.IPV6 && ipv6.check(bytes, payload, end - payload) > 0) {
    let hash = 0;
    for (let at = payload + V6_ADDRESSES; at < payload + ipv6.HEADER_BYTES; at += 4) {
      hash = mix(hash, readSigned32(bytes, at));
    }
    const found = ipv6.transport(bytes, payload);
    if (found > 0 && !ipv6.isFragment(found)) {
      hash = mixPorts(hash, bytes, payload + ipv6.transportOffset(found), ipv6.transportProtocol(found), end);
    }
    return pack(hash, ipv6.trafficClass(bytes, payload));
  }
  const addresses = mix(
    readSigned32(bytes, frame),
    mix(readSigned32(bytes, frame + 4), readSigned32(bytes, frame + 8)),
  );
  // Each loopback message is a flow of its own: `dladm probe` chooses the source port by the transaction.
  const isLoopback =
    etherType === ethernet.FAULT_MANAGEMENT && loopback.check(bytes, payload, end - payload) > 0;
  return pack(mix(addresses, isLoopback ? loopback.transaction(bytes, payload) : etherType), 0);
}

export function trafficClass(flow: number): number {
  return flow & 0xff;
}

/** Returns a number below `choices`, the same for every frame of a flow. */
export function choose(flow: number, choices: number): number {
  return ((flow >>> 8) * choices) >>> HASH_BITS;
}

/** Packs both values. The hash has 23 bits, so that the result is a small integer and `choose` cannot
 * overflow with up to 256 choices. */
function pack(hash: number, trafficClass: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  return (((mixed ^ (mixed >>> 15)) & ((1 << HASH_BITS) - 1)) << 8) | trafficClass;
}

function mixPorts(hash: number, bytes: Uint8Array, transport: number, protocol: number, end: number): number {
  const hasPorts = protocol === ipv4.TCP || protocol === ipv4.UDP;
  const ports = hasPorts && transport + 4 <= end ? readSigned32(bytes, transport) : 0;
  return mix(mix(hash, ports), protocol);
}

function mix(hash: number, word: number): number {
  return Math.imul((hash << 5) | (hash >>> 27), 0x85ebca6b) ^ Math.imul(word, 0x9e3779b1);
}
