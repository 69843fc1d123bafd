//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-+-+-+-+-+-+-+-+-----------------------------------------------+
// |R|R|R|R|I|R|R|R|                   Reserved                    |
// +-+-+-+-+-+-+-+-+-------------------------------+---------------+
// |        VXLAN Network Identifier (VNI)         |   Reserved    |     (RFC 7348 5)
// +-----------------------------------------------+---------------+
//
// Reserved bits are ignored on receipt, which RFC 7348 5 wants and Linux does not do; `hasReservedBits` lets
// the caller count them.

import { read24, write32 } from './bytes.js';
import { NO_VNI, TRUNCATED } from './reason.js';

const FLAGS = 0;
const RESERVED = 1;
const VNI = 4;
export const HEADER_BYTES = 8;

export const PORT = 4789; // RFC 7348 5, IANA "vxlan"
export const VNI_MAX = 0xff_ffff; // RFC 7348 5, 24 bits

const VNI_VALID = 0x08; // RFC 7348 5, the I flag

export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  return (bytes[offset + FLAGS] & VNI_VALID) === 0 ? NO_VNI : HEADER_BYTES;
}

export function vni(bytes: Uint8Array, offset: number): number {
  return read24(bytes, offset + VNI);
}

/**
 * Returns whether a bit is set that a plain VXLAN sender leaves zero: GPE (draft-ietf-nvo3-vxlan-gpe 3.1),
 * group policy, or an error.
 */
export function hasReservedBits(bytes: Uint8Array, offset: number): boolean {
  const flags = bytes[offset + FLAGS] & ~VNI_VALID;
  const at = offset + RESERVED;
  return (flags | bytes[at] | bytes[at + 1] | bytes[at + 2] | bytes[offset + 7]) !== 0;
}

/** Writes the header of a frame to send: eight bytes, with the I flag and the VNI. */
export function writeHeader(bytes: Uint8Array, offset: number, vni: number): void {
  write32(bytes, offset + FLAGS, VNI_VALID << 24);
  write32(bytes, offset + VNI, vni << 8);
}

export interface Repr {
  readonly vni: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  return check(bytes, offset, length) < 0 ? undefined : { vni: vni(bytes, offset) };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  writeHeader(bytes, offset, repr.vni);
  return HEADER_BYTES;
}
