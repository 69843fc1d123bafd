//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-------+-------+-----------+---+-------------------------------+
// |Version|  IHL  |   DSCP    |ECN|         Total length          |
// +-------+-------+-----------+---+-+-+-+-------------------------+
// |        Identification         |0|D|M|     Fragment offset     |
// +---------------+---------------+-+-+-+-------------------------+
// | Time to live  |   Protocol    |        Header checksum        |
// +---------------+---------------+-------------------------------+
// |                        Source address                         |
// +---------------------------------------------------------------+
// |                      Destination address                      |
// +---------------------------------------------------------------+
// |                    Options (IHL * 4 - 20) ...                     (RFC 791 3.1, RFC 2474 3, RFC 3168 5)
// +---------------------------------------------------------------+

import { read16, write16 } from './bytes.js';
import * as checksums from './checksum.js';
import * as ip from './ip.js';
import { BAD_HEADER_LENGTH, BAD_LENGTH, BAD_VERSION, TRUNCATED } from './reason.js';

const VERSION_IHL = 0;
const TRAFFIC_CLASS = 1;
export const TOTAL_LENGTH = 2;
export const IDENTIFICATION = 4;
const FRAGMENT = 6;
const TTL = 8;
const PROTOCOL = 9;
export const CHECKSUM = 10;
export const SOURCE = 12;
export const DESTINATION = 16;
/** Without options. */
export const HEADER_BYTES = 20;

// Protocol numbers: IANA "Assigned Internet Protocol Numbers" (RFC 5237). IPv6 next headers are the same
// list.
export const ICMP = 1; // RFC 792
export const IGMP = 2; // RFC 3376 4
export const TCP = 6; // RFC 9293 3.1
export const UDP = 17; // RFC 768

// ECN field: RFC 3168 5
export const ECN_MASK = 3;
export const NOT_ECT = 0;
export const ECT_1 = 1;
export const ECT_0 = 2;
export const CE = 3;

const DONT_FRAGMENT = 0x4000; // RFC 791 3.1, flags bit 1
const MORE_FRAGMENTS = 0x2000; // RFC 791 3.1, flags bit 2
const OFFSET_MASK = 0x1fff; // RFC 791 3.1, in units of 8 bytes

/** A packet ends at `totalLength`; the rest of a longer frame is Ethernet padding. */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  if (bytes[offset + VERSION_IHL] >> 4 !== 4) return BAD_VERSION;
  const header = headerLength(bytes, offset);
  const total = totalLength(bytes, offset);
  if (header < HEADER_BYTES || header > total) return BAD_HEADER_LENGTH;
  if (total > length) return BAD_LENGTH;
  return header;
}

export function headerLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + VERSION_IHL] & 0x0f) * 4;
}

export function totalLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + TOTAL_LENGTH);
}

/** Updates the header checksum by difference. */
export function setTotalLength(bytes: Uint8Array, offset: number, value: number): void {
  checksums.replaceWord(bytes, offset + TOTAL_LENGTH, value, offset + CHECKSUM);
}

export function payloadLength(bytes: Uint8Array, offset: number): number {
  return totalLength(bytes, offset) - headerLength(bytes, offset);
}

/** DSCP and ECN together; socket options call it TOS. */
export function trafficClass(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TRAFFIC_CLASS];
}

export function ecn(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TRAFFIC_CLASS] & ECN_MASK;
}

export function identification(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + IDENTIFICATION);
}

export function dontFragment(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + FRAGMENT) & DONT_FRAGMENT) !== 0;
}

export function moreFragments(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + FRAGMENT) & MORE_FRAGMENTS) !== 0;
}

/** In bytes. Above 0 the packet has no transport header. */
export function fragmentOffset(bytes: Uint8Array, offset: number): number {
  return (read16(bytes, offset + FRAGMENT) & OFFSET_MASK) * 8;
}

/** True for the first, middle and last fragment, so that all fragments of a packet are treated alike. */
export function isFragment(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + FRAGMENT) & (MORE_FRAGMENTS | OFFSET_MASK)) !== 0;
}

export function ttl(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TTL];
}

export function protocol(bytes: Uint8Array, offset: number): number {
  return bytes[offset + PROTOCOL];
}

export function checksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + CHECKSUM);
}

export function source(bytes: Uint8Array, offset: number): ip.Ipv4Address {
  return ip.readV4(bytes, offset + SOURCE);
}

export function destination(bytes: Uint8Array, offset: number): ip.Ipv4Address {
  return ip.readV4(bytes, offset + DESTINATION);
}

/** Updates the header checksum by difference: a wrong checksum stays as wrong as before (RFC 1624 3). */
export function setEcn(bytes: Uint8Array, offset: number, value: number): void {
  const word = read16(bytes, offset + VERSION_IHL);
  checksums.replaceWord(bytes, offset + VERSION_IHL, (word & ~ECN_MASK) | value, offset + CHECKSUM);
}

export function verifyChecksum(bytes: Uint8Array, offset: number): boolean {
  return checksums.verify(bytes, offset, headerLength(bytes, offset), 0);
}

export function fillChecksum(bytes: Uint8Array, offset: number): void {
  checksums.fill(bytes, offset, headerLength(bytes, offset), CHECKSUM, 0);
}

/** A header without options, in an unfragmented packet. */
export interface Repr {
  readonly source: ip.Ipv4Address;
  readonly destination: ip.Ipv4Address;
  readonly protocol: number;
  readonly ttl: number;
  readonly trafficClass: number;
  readonly identification: number;
  readonly dontFragment: boolean;
  readonly payloadLength: number;
}

/**
 * Refuses a header that a Repr cannot express (options, fragments), and a wrong checksum, which no receiver
 * may accept (RFC 1122 3.2.1.2).
 */
export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) !== HEADER_BYTES) return undefined;
  if (isFragment(bytes, offset) || !verifyChecksum(bytes, offset)) return undefined;
  return {
    source: source(bytes, offset),
    destination: destination(bytes, offset),
    protocol: protocol(bytes, offset),
    ttl: ttl(bytes, offset),
    trafficClass: trafficClass(bytes, offset),
    identification: identification(bytes, offset),
    dontFragment: dontFragment(bytes, offset),
    payloadLength: payloadLength(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  bytes[offset + VERSION_IHL] = 0x45;
  bytes[offset + TRAFFIC_CLASS] = repr.trafficClass;
  write16(bytes, offset + TOTAL_LENGTH, HEADER_BYTES + repr.payloadLength);
  write16(bytes, offset + IDENTIFICATION, repr.identification);
  write16(bytes, offset + FRAGMENT, repr.dontFragment ? DONT_FRAGMENT : 0);
  bytes[offset + TTL] = repr.ttl;
  bytes[offset + PROTOCOL] = repr.protocol;
  ip.writeV4(repr.source, bytes, offset + SOURCE);
  ip.writeV4(repr.destination, bytes, offset + DESTINATION);
  fillChecksum(bytes, offset);
  return HEADER_BYTES;
}
