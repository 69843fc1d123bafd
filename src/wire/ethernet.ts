//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------------------------------------------------------+
// |                      Destination address                      |
// |                               +-------------------------------+
// |                               |                               |
// +-------------------------------+         Source address        |
// |                                                               |
// +-------------------------------+-------------------------------+
// |           EtherType           |  payload ...                      (IEEE 802.3-2018 3.1.1; no FCS)
// +-------------------------------+
//
// The form of every codec in this folder:
//
//   check(bytes, offset, length)   The only check. The caller makes sure that `length` bytes from `offset` on are
//                                  in `bytes`. Valid: the header's length, always > 0; the payload is at
//                                  offset + result. Invalid: a negative number of reason.ts, to be counted.
//                                  It neither throws nor allocates.
//   field(bytes, offset)           An accessor. After `check` none can fail or read past the header.
//   setField(bytes, offset, value) Changes a field in place.
//   Repr, parse, byteLength, write The header as a plain object, for rare frames, control and tests. `parse` is
//                                  `check` and every accessor. `write` sets all bytes of the header, whatever
//                                  the buffer held, without `check` (a new buffer could not pass it), and
//                                  returns byteLength(repr).
//
// The first three may be called for every frame: they make no object, string or subarray.

import { read16, write16 } from './bytes.js';
import * as mac from './mac.js';
import { TRUNCATED } from './reason.js';

const DESTINATION = 0;
export const SOURCE = 6;
const ETHER_TYPE = 12;
export const HEADER_BYTES = 14;

// EtherTypes: IEEE 802 numbers, registered with IANA (RFC 9542 3)
export const IPV4 = 0x0800; // RFC 894
export const ARP = 0x0806; // RFC 826
export const RARP = 0x8035; // RFC 903
export const IPV6 = 0x86dd; // RFC 2464 3
export const FAULT_MANAGEMENT = 0x8902; // IEEE 802.1Q-2018 table 21-1: loopback.ts
/**
 * Below this value the field is a length, and an 802.2 header follows, as in a BPDU. IEEE 802.3-2018 3.2.6
 */
export const MIN_ETHER_TYPE = 0x0600;
/** A frame on a wire is padded to this length, without FCS. IEEE 802.3-2018 4A.4.2 */
export const MIN_FRAME_BYTES = 60;

export function check(_bytes: Uint8Array, _offset: number, length: number): number {
  return length < HEADER_BYTES ? TRUNCATED : HEADER_BYTES;
}

export function destination(bytes: Uint8Array, offset: number): mac.MacAddress {
  return mac.readMac(bytes, offset + DESTINATION);
}

/** The group bit of the destination: multicast or broadcast. */
export function isGroup(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset + DESTINATION] & 1) !== 0;
}

export function source(bytes: Uint8Array, offset: number): mac.MacAddress {
  return mac.readMac(bytes, offset + SOURCE);
}

export function etherType(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + ETHER_TYPE);
}

// The halves of both addresses as small integers, for hash keys.

export function destinationHigh(bytes: Uint8Array, offset: number): number {
  return mac.macHigh(bytes, offset + DESTINATION);
}

export function destinationLow(bytes: Uint8Array, offset: number): number {
  return mac.macLow(bytes, offset + DESTINATION);
}

export function sourceHigh(bytes: Uint8Array, offset: number): number {
  return mac.macHigh(bytes, offset + SOURCE);
}

export function sourceLow(bytes: Uint8Array, offset: number): number {
  return mac.macLow(bytes, offset + SOURCE);
}

export function setDestination(bytes: Uint8Array, offset: number, address: mac.MacAddress): void {
  mac.writeMac(bytes, offset + DESTINATION, address);
}

export function setSource(bytes: Uint8Array, offset: number, address: mac.MacAddress): void {
  mac.writeMac(bytes, offset + SOURCE, address);
}

export interface Repr {
  readonly destination: mac.MacAddress;
  readonly source: mac.MacAddress;
  readonly etherType: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    destination: destination(bytes, offset),
    source: source(bytes, offset),
    etherType: etherType(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  setDestination(bytes, offset, repr.destination);
  setSource(bytes, offset, repr.source);
  write16(bytes, offset + ETHER_TYPE, repr.etherType);
  return HEADER_BYTES;
}
