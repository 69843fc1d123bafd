//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+---------------+-------------------------------+
// | Type 133..136 |   Code (0)    |           Checksum            |
// +-+-+-+---------+---------------+-------------------------------+
// |R|S|O|                       Reserved                          |     NA; NS and RS: all reserved
// +-+-+-+---------+-+-+-----------+-------------------------------+
// |   Hop limit   |M|O| Reserved  |       Router lifetime (s)     |     RA, followed by
// +---------------+-+-+-----------+-------------------------------+
// |         Reachable time (ms), retransmission timer (ms)        |     RA, 2 words
// +---------------------------------------------------------------+
// |                      Target address (16)                      |     NS and NA
// +---------------+---------------+-------------------------------+
// |  Option type  |   Length n    |  n * 8 bytes in all ...             (RFC 4861 4.1 to 4.4, 4.6)
// +---------------+---------------+-------------------------------+
//
// Offsets are those of the ICMPv6 message. This file checks the message itself. The caller must check its
// surroundings: hop limit 255, the checksum (icmpv6), and that the message is in no fragment (RFC 6980 5). A
// solicitation from :: must also go to a solicited-node address and have no source option (RFC 4861 7.1.1).

import { read16, read32, write16, write32 } from './bytes.js';
import * as icmpv6 from './icmpv6.js';
import * as ip from './ip.js';
import * as mac from './mac.js';
import { BAD_OPTION, BAD_VALUE, TRUNCATED } from './reason.js';

const FLAGS = 4;
export const TARGET = 8;
const RA_HOP_LIMIT = 4;
const RA_FLAGS = 5;
const RA_LIFETIME = 6;
const RA_REACHABLE = 8;
const RA_RETRANSMIT = 12;

// Bytes before the options
const SOLICITATION_BYTES = 24; // RFC 4861 4.3; the NA's too, 4.4
const ROUTER_SOLICITATION_BYTES = 8; // RFC 4861 4.1
const ROUTER_ADVERTISEMENT_BYTES = 16; // RFC 4861 4.2
const REDIRECT_BYTES = 40; // RFC 4861 4.5
const INVERSE_BYTES = 8; // RFC 3122 2.1, 2.2

const ROUTER = 0x80; // RFC 4861 4.4, R
const SOLICITED = 0x40; // RFC 4861 4.4, S
const OVERRIDE = 0x20; // RFC 4861 4.4, O
const MANAGED = 0x80; // RFC 4861 4.2, M
const OTHER = 0x40; // RFC 4861 4.2, O

const SOURCE_MAC = 1; // RFC 4861 4.6.1
const TARGET_MAC = 2; // RFC 4861 4.6.1
const MAC_OPTION_BYTES = 8; // RFC 2464 6

/**
 * The check of type, code, length, target and every option. The result is the place where the options begin.
 * Redirects and inverse discovery are refused, since no code reads them.
 */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < ROUTER_SOLICITATION_BYTES) return TRUNCATED;
  const type = icmpv6.type(bytes, offset);
  if (type === icmpv6.REDIRECT || isInverse(type)) return BAD_VALUE;
  return checkLinkLayer(bytes, offset, length);
}

/** Returns whether messages of this type have link-layer addresses in their options. */
export function tellsLinkLayer(type: number): boolean {
  return fixedBytes(type) !== 0;
}

/** Inverse discovery asks for the addresses of a MAC, on networks of virtual circuits. RFC 3122 */
export function isInverse(type: number): boolean {
  return type === icmpv6.INVERSE_SOLICITATION || type === icmpv6.INVERSE_ADVERTISEMENT;
}

/** The same check for every message with link-layer addresses. After it only `givesOther` may be called. */
export function checkLinkLayer(bytes: Uint8Array, offset: number, length: number): number {
  if (length < ROUTER_SOLICITATION_BYTES) return TRUNCATED;
  const fixed = fixedBytes(icmpv6.type(bytes, offset));
  // RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1, RFC 3122
  if (fixed === 0 || icmpv6.code(bytes, offset) !== 0) return BAD_VALUE;
  if (length < fixed) return TRUNCATED;
  if (fixed === SOLICITATION_BYTES && bytes[offset + TARGET] === 0xff) return BAD_VALUE; // RFC 4861 7.1.1
  return checkOptions(bytes, offset + fixed, offset + length) < 0 ? BAD_OPTION : fixed;
}

function fixedBytes(type: number): number {
  switch (type) {
    case icmpv6.NEIGHBOR_SOLICITATION:
    case icmpv6.NEIGHBOR_ADVERTISEMENT:
      return SOLICITATION_BYTES;
    case icmpv6.ROUTER_SOLICITATION:
      return ROUTER_SOLICITATION_BYTES;
    case icmpv6.ROUTER_ADVERTISEMENT:
      return ROUTER_ADVERTISEMENT_BYTES;
    case icmpv6.REDIRECT:
      return REDIRECT_BYTES;
    case icmpv6.INVERSE_SOLICITATION:
    case icmpv6.INVERSE_ADVERTISEMENT:
      return INVERSE_BYTES;
    default:
      return 0;
  }
}

/**
 * RFC 4861 4.6: an option of length zero discards the packet, and so does one past the end (CVE-2026-31738
 * shows the effect if not). A second link-layer address of one kind, or one that is no MAC, is refused too,
 * since it is ambiguous.
 */
function checkOptions(bytes: Uint8Array, start: number, end: number): number {
  let seen = 0;
  for (let at = start; at < end;) {
    const length = at + 1 < end ? bytes[at + 1] * 8 : 0;
    if (length === 0 || length > end - at) return BAD_OPTION;
    const type = bytes[at];
    if (type === SOURCE_MAC || type === TARGET_MAC) {
      if (length !== MAC_OPTION_BYTES || (seen & type) !== 0) return BAD_OPTION;
      seen |= type;
    }
    at += length;
  }
  return seen;
}

/** Returns the link-layer address of one kind in a checked message. `start`: offset + check(). */
function findMac(bytes: Uint8Array, start: number, end: number, type: number): mac.MacAddress | undefined {
  for (let at = start; at < end; at += bytes[at + 1] * 8) {
    if (bytes[at] === type) return mac.readMac(bytes, at + 2);
  }
  return undefined;
}

/** Returns whether an option of a checked message has a link-layer address other than this MAC, given in
 * halves (mac.ts). */
export function givesOther(
  bytes: Uint8Array,
  start: number,
  end: number,
  high: number,
  low: number,
): boolean {
  for (let at = start; at < end; at += bytes[at + 1] * 8) {
    const isMac = bytes[at] === SOURCE_MAC || bytes[at] === TARGET_MAC;
    if (isMac && (mac.macHigh(bytes, at + 2) !== high || mac.macLow(bytes, at + 2) !== low)) return true;
  }
  return false;
}

/** Returns the target of a checked NS or NA. */
export function target(bytes: Uint8Array, offset: number): ip.IpAddress {
  return ip.readV6(bytes, offset + TARGET);
}

export interface NeighborSolicitation {
  readonly kind: 'neighborSolicitation';
  readonly target: ip.IpAddress;
  readonly sourceMac: mac.MacAddress | undefined;
}

export interface NeighborAdvertisement {
  readonly kind: 'neighborAdvertisement';
  readonly target: ip.IpAddress;
  readonly router: boolean;
  readonly solicited: boolean;
  readonly override: boolean;
  readonly targetMac: mac.MacAddress | undefined;
}

export interface RouterSolicitation {
  readonly kind: 'routerSolicitation';
  readonly sourceMac: mac.MacAddress | undefined;
}

/** Prefixes, MTU and other options of an RA are checked and left out: varpd never answers for a router. */
export interface RouterAdvertisement {
  readonly kind: 'routerAdvertisement';
  readonly hopLimit: number;
  readonly managed: boolean;
  readonly other: boolean;
  readonly lifetimeS: number;
  readonly reachableMs: number;
  readonly retransmitMs: number;
  readonly sourceMac: mac.MacAddress | undefined;
}

export type Repr = NeighborSolicitation | NeighborAdvertisement | RouterSolicitation | RouterAdvertisement;

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  const options = check(bytes, offset, length);
  if (options < 0) return undefined;
  const macOf = (type: number) => findMac(bytes, offset + options, offset + length, type);
  switch (icmpv6.type(bytes, offset)) {
    case icmpv6.NEIGHBOR_SOLICITATION:
      return {
        kind: 'neighborSolicitation',
        target: target(bytes, offset),
        sourceMac: macOf(SOURCE_MAC),
      };
    case icmpv6.NEIGHBOR_ADVERTISEMENT:
      return {
        kind: 'neighborAdvertisement',
        target: target(bytes, offset),
        router: (bytes[offset + FLAGS] & ROUTER) !== 0,
        solicited: (bytes[offset + FLAGS] & SOLICITED) !== 0,
        override: (bytes[offset + FLAGS] & OVERRIDE) !== 0,
        targetMac: macOf(TARGET_MAC),
      };
    case icmpv6.ROUTER_SOLICITATION:
      return { kind: 'routerSolicitation', sourceMac: macOf(SOURCE_MAC) };
    default:
      return {
        kind: 'routerAdvertisement',
        hopLimit: bytes[offset + RA_HOP_LIMIT],
        managed: (bytes[offset + RA_FLAGS] & MANAGED) !== 0,
        other: (bytes[offset + RA_FLAGS] & OTHER) !== 0,
        lifetimeS: read16(bytes, offset + RA_LIFETIME),
        reachableMs: read32(bytes, offset + RA_REACHABLE),
        retransmitMs: read32(bytes, offset + RA_RETRANSMIT),
        sourceMac: macOf(SOURCE_MAC),
      };
  }
}

const TYPES = {
  neighborSolicitation: icmpv6.NEIGHBOR_SOLICITATION,
  neighborAdvertisement: icmpv6.NEIGHBOR_ADVERTISEMENT,
  routerSolicitation: icmpv6.ROUTER_SOLICITATION,
  routerAdvertisement: icmpv6.ROUTER_ADVERTISEMENT,
} as const;

function macOption(repr: Repr): mac.MacAddress | undefined {
  return repr.kind === 'neighborAdvertisement' ? repr.targetMac : repr.sourceMac;
}

export function byteLength(repr: Repr): number {
  return fixedBytes(TYPES[repr.kind]) + (macOption(repr) === undefined ? 0 : MAC_OPTION_BYTES);
}

/** Writes a checksum of zero; `icmpv6.fillChecksum` completes it. */
export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const type = TYPES[repr.kind];
  const fixed = fixedBytes(type);
  bytes.fill(0, offset, offset + fixed);
  icmpv6.write({ type, code: 0, word: 0 }, bytes, offset);
  if (repr.kind === 'routerAdvertisement') {
    bytes[offset + RA_HOP_LIMIT] = repr.hopLimit;
    bytes[offset + RA_FLAGS] = (repr.managed ? MANAGED : 0) | (repr.other ? OTHER : 0);
    write16(bytes, offset + RA_LIFETIME, repr.lifetimeS);
    write32(bytes, offset + RA_REACHABLE, repr.reachableMs);
    write32(bytes, offset + RA_RETRANSMIT, repr.retransmitMs);
  } else if (repr.kind !== 'routerSolicitation') {
    ip.writeV6(repr.target, bytes, offset + TARGET);
  }
  if (repr.kind === 'neighborAdvertisement') {
    bytes[offset + FLAGS] =
      (repr.router ? ROUTER : 0) | (repr.solicited ? SOLICITED : 0) | (repr.override ? OVERRIDE : 0);
  }
  const address = macOption(repr);
  if (address === undefined) return fixed;
  bytes[offset + fixed] = repr.kind === 'neighborAdvertisement' ? TARGET_MAC : SOURCE_MAC;
  bytes[offset + fixed + 1] = MAC_OPTION_BYTES / 8;
  mac.writeMac(bytes, offset + fixed + 2, address);
  return fixed + MAC_OPTION_BYTES;
}

// -- Destinations of solicitations

/** ff02::1:ffXX:XXXX */
export function isSolicitedNode(address: ip.IpAddress): boolean {
  return /^ff02::1:ff[0-9a-f]{2}:/.test(address); // RFC 4291 2.7.1
}

/** Returns the group that the owner of `address` listens to. */
export function solicitedNode(address: ip.IpAddress): ip.IpAddress {
  const bytes = new Uint8Array(ip.V6_BYTES);
  ip.writeV6(address, bytes, 0);
  bytes.set([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]); // RFC 4291 2.7.1: the low 24 bits stay
  return ip.readV6(bytes, 0);
}

/** Returns the address that a station makes of its MAC. RFC 4862 5.3, RFC 2464 4 and 5 */
export function linkLocalOf(address: mac.MacAddress): ip.Ipv6Address {
  const bytes = new Uint8Array(ip.V6_BYTES);
  bytes.set([0xfe, 0x80]);
  mac.writeMac(bytes, 8, address);
  bytes.copyWithin(13, 11, 14);
  bytes[8] ^= 2;
  bytes.set([0xff, 0xfe], 11);
  return ip.readV6(bytes, 0) as ip.Ipv6Address;
}

/** Returns the Ethernet group of an IPv6 multicast address: 33:33 and the last four bytes of the address. */
export function multicastMac(address: ip.IpAddress): mac.MacAddress {
  const bytes = new Uint8Array(ip.V6_BYTES);
  ip.writeV6(address, bytes, 0);
  return 0x3333 * 2 ** 32 + read32(bytes, 12); // RFC 2464 7
}
