//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-------------------------------+-------------------------------+
// |          Source port          |       Destination port        |
// +-------------------------------+-------------------------------+
// |            Length             |           Checksum            |     (RFC 768)
// +-------------------------------+-------------------------------+

import { read16, write16 } from './bytes.js';
import * as checksums from './checksum.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import { BAD_LENGTH, TRUNCATED } from './reason.js';

const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
export const LENGTH = 4;
export const CHECKSUM = 6;
export const HEADER_BYTES = 8;

/** Ports that are assigned to no service. RFC 6335 6 */
export const MIN_DYNAMIC_PORT = 49152;
export const MAX_DYNAMIC_PORT = 65535;

/** A checksum of zero is sent as this, since zero means "none". RFC 768, RFC 8200 8.1 */
const MINUS_ZERO = 0xffff;

/** Bytes of the IP and UDP headers. */
export function overheadBytes(underlay: 4 | 6): number {
  return HEADER_BYTES + (underlay === 4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
}

export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const total = totalLength(bytes, offset);
  return total < HEADER_BYTES || total > length ? BAD_LENGTH : HEADER_BYTES;
}

export function sourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + SOURCE_PORT);
}

export function destinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + DESTINATION_PORT);
}

/** Header included. */
export function totalLength(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + LENGTH);
}

export function payloadLength(bytes: Uint8Array, offset: number): number {
  return totalLength(bytes, offset) - HEADER_BYTES;
}

export function checksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + CHECKSUM);
}

/** `ip`: offset of the IP header. A field of zero passes; whether it may on IPv6 is policy (RFC 6935 5). */
export function verifyChecksum(bytes: Uint8Array, ip: number, offset: number): boolean {
  if (checksum(bytes, offset) === 0) return true;
  const length = totalLength(bytes, offset);
  return checksums.verify(bytes, offset, length, checksums.pseudo(bytes, ip, ipv4.UDP, length));
}

/** To be called after header and payload are in place. */
export function fillChecksum(bytes: Uint8Array, ip: number, offset: number): void {
  const length = totalLength(bytes, offset);
  checksums.fill(bytes, offset, length, CHECKSUM, checksums.pseudo(bytes, ip, ipv4.UDP, length));
  if (checksum(bytes, offset) === 0) write16(bytes, offset + CHECKSUM, MINUS_ZERO);
}

export interface Repr {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payloadLength: number;
}

/** The checksum covers header, payload and addresses: `verifyChecksum`. */
export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    sourcePort: sourcePort(bytes, offset),
    destinationPort: destinationPort(bytes, offset),
    payloadLength: payloadLength(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

/** Writes a checksum of zero, "none"; `fillChecksum` computes it. */
export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  write16(bytes, offset + SOURCE_PORT, repr.sourcePort);
  write16(bytes, offset + DESTINATION_PORT, repr.destinationPort);
  write16(bytes, offset + LENGTH, HEADER_BYTES + repr.payloadLength);
  write16(bytes, offset + CHECKSUM, 0);
  return HEADER_BYTES;
}
