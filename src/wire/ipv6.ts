//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-------+-----------+---+---------------------------------------+
// |Version|   DSCP    |ECN|              Flow label               |
// +-------+-----------+---+-------+---------------+---------------+
// |        Payload length         |  Next header  |   Hop limit   |
// +-------------------------------+---------------+---------------+
// |                        Source address (16)                    |
// |                     Destination address (16)                  |
// +---------------+---------------+-------------------------------+
// |  Next header  |   Length n    |  (n + 1) * 8 bytes in all ...     (RFC 8200 3; extensions RFC 6564 4)
// +---------------+---------------+-------------------------------+

import { read16, read32, write16, write32 } from './bytes.js';
import * as ip from './ip.js';
import { BAD_HEADER_LENGTH, BAD_LENGTH, BAD_VERSION, TOO_DEEP, TRUNCATED } from './reason.js';

const VERSION_CLASS_LABEL = 0;
export const PAYLOAD_LENGTH = 4;
const NEXT_HEADER = 6;
const HOP_LIMIT = 7;
export const SOURCE = 8;
export const DESTINATION = 24;
export const HEADER_BYTES = 40;

// Next headers that are followed by another: IANA "IPv6 Extension Header Types" (RFC 7045 4)
export const HOP_BY_HOP = 0; // RFC 8200 4.3
export const ROUTING = 43; // RFC 8200 4.4
export const FRAGMENT = 44; // RFC 8200 4.5
export const AUTHENTICATION = 51; // RFC 4302 2
export const DESTINATION_OPTIONS = 60; // RFC 8200 4.6
export const MOBILITY = 135; // RFC 6275 6.1
export const HIP = 139; // RFC 7401 5.1
export const SHIM6 = 140; // RFC 5533 5.1

export const ICMPV6 = 58; // RFC 4443 1
export const NO_NEXT_HEADER = 59; // RFC 8200 4.7

/**
 * RFC 8200 4.1 names seven headers, each at most once or twice. A longer chain is an attack on the code that
 * walks it.
 */
export const MAX_EXTENSION_HEADERS = 8;

/** Hop limit of Neighbor Discovery: it proves that no router has forwarded the packet. RFC 4861 7.1.1 */
export const MAX_HOP_LIMIT = 255;

/**
 * A packet ends at 40 + `payloadLength`; the rest of a longer frame is padding. A jumbogram (RFC 2675) reads
 * as an empty packet.
 */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  if (bytes[offset + VERSION_CLASS_LABEL] >> 4 !== 6) return BAD_VERSION;
  if (HEADER_BYTES + payloadLength(bytes, offset) > length) return BAD_LENGTH;
  return HEADER_BYTES;
}

/** DSCP and ECN together. */
export function trafficClass(bytes: Uint8Array, offset: number): number {
  return (read16(bytes, offset + VERSION_CLASS_LABEL) >> 4) & 0xff;
}

export function ecn(bytes: Uint8Array, offset: number): number {
  return trafficClass(bytes, offset) & 3;
}

export function flowLabel(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + VERSION_CLASS_LABEL) & 0xfffff;
}

/** Everything after the first 40 bytes, extension headers included. */
export function payloadLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + PAYLOAD_LENGTH);
}

export function nextHeader(bytes: Uint8Array, offset: number): number {
  return bytes[offset + NEXT_HEADER];
}

export function hopLimit(bytes: Uint8Array, offset: number): number {
  return bytes[offset + HOP_LIMIT];
}

export function source(bytes: Uint8Array, offset: number): ip.IpAddress {
  return ip.readV6(bytes, offset + SOURCE);
}

export function destination(bytes: Uint8Array, offset: number): ip.IpAddress {
  return ip.readV6(bytes, offset + DESTINATION);
}

/** No checksum needs an update: IPv6 has none of its own, and pseudo-headers do not include the traffic
 * class. */
export function setEcn(bytes: Uint8Array, offset: number, value: number): void {
  const at = offset + VERSION_CLASS_LABEL + 1;
  bytes[at] = (bytes[at] & ~0x30) | (value << 4);
}

// -- The transport header behind the extension headers, packed into one small integer, so that no object is
// allocated:
//
//      26                             10  9 8 7             0
//    +----------------------------------+-+-+---------------+
//    |  bytes from IP header to there   |L|F|   protocol    |      L: not the first fragment.  F: a fragment.
//    +----------------------------------+-+-+---------------+

const IS_FRAGMENT = 0x100;
const IS_LATER_FRAGMENT = 0x200;
const LENGTH_SHIFT = 10;

/**
 * Walks a checked packet to its transport header. That header may be empty or cut off, which its own `check`
 * finds. A negative result is a reason.
 */
export function transport(bytes: Uint8Array, offset: number): number {
  const end = HEADER_BYTES + payloadLength(bytes, offset);
  let protocol = nextHeader(bytes, offset);
  let at = HEADER_BYTES;
  let fragment = 0;
  for (let walked = 0; isExtension(protocol); walked++) {
    if (walked === MAX_EXTENSION_HEADERS) return TOO_DEEP;
    if (end - at < 8) return TRUNCATED;
    const next = bytes[offset + at];
    const length = extensionLength(protocol, bytes[offset + at + 1]);
    if (length > end - at) return BAD_HEADER_LENGTH;
    if (protocol === FRAGMENT) fragment |= fragmentBits(read16(bytes, offset + at + 2));
    at += length;
    protocol = next;
    if (fragment & IS_LATER_FRAGMENT) break;
  }
  return (at << LENGTH_SHIFT) | fragment | protocol;
}

export function transportProtocol(packed: number): number {
  return packed & 0xff;
}

/** From the start of the IPv6 header. */
export function transportOffset(packed: number): number {
  return packed >> LENGTH_SHIFT;
}

/** Returns whether there is a Fragment header, even one that says "first and last" (an atomic fragment, RFC
 * 6946 2). */
export function isFragment(packed: number): boolean {
  return (packed & IS_FRAGMENT) !== 0;
}

/** Returns whether this is a later fragment, without a transport header: that was in the first fragment. */
export function isLaterFragment(packed: number): boolean {
  return (packed & IS_LATER_FRAGMENT) !== 0;
}

function isExtension(protocol: number): boolean {
  switch (protocol) {
    case HOP_BY_HOP:
    case ROUTING:
    case FRAGMENT:
    case AUTHENTICATION:
    case DESTINATION_OPTIONS:
    case MOBILITY:
    case HIP:
    case SHIM6:
      return true;
    default:
      return false;
  }
}

function extensionLength(protocol: number, field: number): number {
  if (protocol === FRAGMENT) return 8; // RFC 8200 4.5: the field is reserved
  if (protocol === AUTHENTICATION) return (field + 2) * 4; // RFC 4302 2.2: in words, less two
  return (field + 1) * 8; // RFC 6564 4
}

function fragmentBits(offsetAndFlags: number): number {
  return offsetAndFlags >> 3 === 0 ? IS_FRAGMENT : IS_FRAGMENT | IS_LATER_FRAGMENT; // RFC 8200 4.5
}

export interface Repr {
  readonly source: ip.IpAddress;
  readonly destination: ip.IpAddress;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly trafficClass: number;
  readonly flowLabel: number;
  readonly payloadLength: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    source: source(bytes, offset),
    destination: destination(bytes, offset),
    nextHeader: nextHeader(bytes, offset),
    hopLimit: hopLimit(bytes, offset),
    trafficClass: trafficClass(bytes, offset),
    flowLabel: flowLabel(bytes, offset),
    payloadLength: payloadLength(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  write32(bytes, offset + VERSION_CLASS_LABEL, (6 << 28) | (repr.trafficClass << 20) | repr.flowLabel);
  write16(bytes, offset + PAYLOAD_LENGTH, repr.payloadLength);
  bytes[offset + NEXT_HEADER] = repr.nextHeader;
  bytes[offset + HOP_LIMIT] = repr.hopLimit;
  ip.writeV6(repr.source, bytes, offset + SOURCE);
  ip.writeV6(repr.destination, bytes, offset + DESTINATION);
  return HEADER_BYTES;
}
