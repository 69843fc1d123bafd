//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+---------------+-------------------------------+
// |     Flags     |   GSO type    |         Header length         |
// +---------------+---------------+-------------------------------+
// |           GSO size            |        Checksum start         |
// +-------------------------------+-------------------------------+
// |        Checksum offset        |     (Virtio 1.2, 5.1.6; the legacy 10 bytes, 5.1.6.1)
// +-------------------------------+
//
// The header before every frame of a TAP with IFF_VNET_HDR. It describes the checksum that is still to be
// computed, and how to cut a large segment. 16-bit fields are **little-endian**: native on most hosts, and
// set by TUNSETVNETLE on the others.

import { write16 } from './bytes.js';
import * as checksum from './checksum.js';
import { BAD_LENGTH, BAD_VALUE, TRUNCATED } from './reason.js';
import * as udp from './udp.js';

const FLAGS = 0;
const GSO_TYPE = 1;
const HEADER_LENGTH = 2;
const GSO_SIZE = 4;
const CHECKSUM_START = 6;
const CHECKSUM_OFFSET = 8;
export const HEADER_BYTES = 10; // Virtio 1.2, 5.1.6.1: without num_buffers

// Flags: Virtio 1.2, 5.1.6
/** The checksum from `checksumStart` on is not complete: its field holds the pseudo-header's sum. */
export const NEEDS_CHECKSUM = 1;
/** The sender's side has verified the checksum. */
export const DATA_VALID = 2;
/** The outer UDP checksum of a tunnel superframe is wanted; its field holds the pseudo-header's sum. */
export const TUNNEL_CHECKSUM = 8;

// GSO types: Virtio 1.2, 5.1.6
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** A bit on top of a TCP type: CWR is set in the first segment only. */
export const GSO_ECN = 0x80;
/** Bits on top of a type (virtio 1.4, 5.1.6): the superframe is inside a UDP tunnel over IPv4, or over IPv6 (a tunnel
 * superframe). */
export const GSO_TUNNEL_V4 = 0x20;
export const GSO_TUNNEL_V6 = 0x40;
export const GSO_TUNNEL = GSO_TUNNEL_V4 | GSO_TUNNEL_V6;

/**
 * `length` covers header and frame. The fields that the header points at must be inside the frame, or the
 * kernel would refuse it.
 */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const frame = length - HEADER_BYTES;
  if (needsChecksum(bytes, offset)) {
    const field = checksumStart(bytes, offset) + checksumOffset(bytes, offset);
    if (field + 2 > frame) return BAD_LENGTH;
  }
  if (gsoType(bytes, offset) === GSO_NONE) return HEADER_BYTES;
  if (!isGsoType(gsoType(bytes, offset)) || gsoSize(bytes, offset) === 0) return BAD_VALUE;
  return headerLength(bytes, offset) > frame ? BAD_LENGTH : HEADER_BYTES;
}

function isGsoType(type: number): boolean {
  const base = type & ~GSO_ECN;
  return base === GSO_TCPV4 || base === GSO_TCPV6 || type === GSO_UDP || type === GSO_UDP_L4;
}

export function flags(bytes: Uint8Array, offset: number): number {
  return bytes[offset + FLAGS];
}

export function needsChecksum(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset + FLAGS] & NEEDS_CHECKSUM) !== 0;
}

/** The GSO type with the ECN bit. */
export function gsoType(bytes: Uint8Array, offset: number): number {
  return bytes[offset + GSO_TYPE];
}

/**
 * Bytes of all headers, Ethernet to transport. This is a hint (Virtio 1.2, 5.1.6.2); the headers themselves
 * decide.
 */
export function headerLength(bytes: Uint8Array, offset: number): number {
  return readLittle16(bytes, offset + HEADER_LENGTH);
}

/** Payload bytes in each segment but the last. */
export function gsoSize(bytes: Uint8Array, offset: number): number {
  return readLittle16(bytes, offset + GSO_SIZE);
}

/** From the start of the frame. */
export function checksumStart(bytes: Uint8Array, offset: number): number {
  return readLittle16(bytes, offset + CHECKSUM_START);
}

/** Offset of the field from `checksumStart`. */
export function checksumOffset(bytes: Uint8Array, offset: number): number {
  return readLittle16(bytes, offset + CHECKSUM_OFFSET);
}

/** Writes the header of a frame without offloads. */
export function clear(bytes: Uint8Array, offset: number): void {
  bytes.fill(0, offset, offset + HEADER_BYTES);
}

/** Takes numbers, not a Repr, since it is called for every frame. */
export function writeHeader(
  bytes: Uint8Array,
  offset: number,
  flags: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  checksumStart: number,
  checksumOffset: number,
): void {
  bytes[offset + FLAGS] = flags;
  bytes[offset + GSO_TYPE] = gsoType;
  writeLittle16(bytes, offset + HEADER_LENGTH, headerLength);
  writeLittle16(bytes, offset + GSO_SIZE, gsoSize);
  writeLittle16(bytes, offset + CHECKSUM_START, checksumStart);
  writeLittle16(bytes, offset + CHECKSUM_OFFSET, checksumOffset);
}

export interface Repr {
  readonly flags: number;
  readonly gsoType: number;
  readonly headerLength: number;
  readonly gsoSize: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    flags: flags(bytes, offset),
    gsoType: gsoType(bytes, offset),
    headerLength: headerLength(bytes, offset),
    gsoSize: gsoSize(bytes, offset),
    checksumStart: checksumStart(bytes, offset),
    checksumOffset: checksumOffset(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const { flags, gsoType, headerLength, gsoSize, checksumStart, checksumOffset } = repr;
  writeHeader(bytes, offset, flags, gsoType, headerLength, gsoSize, checksumStart, checksumOffset);
  return HEADER_BYTES;
}

function readLittle16(bytes: Uint8Array, offset: number): number {
  return bytes[offset] | (bytes[offset + 1] << 8);
}

function writeLittle16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

/** Completes a checksum that was left to the device. It covers `length` bytes from `start` on; its field, `field` bytes
 * behind `start`, has the sum of the pseudo-header. A zero of UDP would mean "no checksum" (RFC 768), and becomes 0xffff;
 * one of TCP stays (RFC 1624 3). */
export function completeChecksum(bytes: Uint8Array, start: number, length: number, field: number): void {
  const value = checksum.finish(checksum.sum(bytes, start, length, 0));
  write16(bytes, start + field, value === 0 && field === udp.CHECKSUM ? 0xffff : value);
}
