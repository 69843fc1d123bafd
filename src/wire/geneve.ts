//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---+-----------+-+-+-----------+-------------------------------+
// |Ver|  Opt Len  |O|C|    Rsvd   |         Protocol Type         |
// +---+-----------+-+-+-----------+---------------+---------------+
// |        Virtual Network Identifier (VNI)       |   Reserved    |
// +-----------------------------------------------+---------------+
// |        Option Class           |C|    Type     |R|R|R| Length  |     (RFC 8926 3.4, 3.5)
// |                     variable option data                      |
// +---------------------------------------------------------------+
//
// Options are walked and never read: varpd knows none. Reserved bits are ignored on receipt (RFC 8926 3.4);
// `hasReservedBits` lets the caller count them.

import { read16, read24, write32 } from './bytes.js';
import { BAD_OPTION, BAD_VALUE, BAD_VERSION, CONTROL, CRITICAL, TRUNCATED } from './reason.js';

const VERSION = 0;
const FLAGS = 1;
const PROTOCOL = 2;
const VNI = 4;
const RESERVED = 7;
/** Without options. */
export const HEADER_BYTES = 8;

export const PORT = 6081; // RFC 8926 3.3, IANA "geneve"
export const VNI_MAX = 0xff_ffff; // RFC 8926 3.4, 24 bits
export const ETHERNET = 0x6558; // RFC 8926 3.4, Trans Ether Bridging
/** Low bits of the first byte: length of the options in units. RFC 8926 3.4 */
export const OPTIONS_MASK = 0x3f;
export const OPTION_UNIT_BYTES = 4;

const VERSION_SHIFT = 6;
const CONTROL_FLAG = 0x80; // RFC 8926 3.4, the O bit
const CRITICAL_FLAG = 0x40; // RFC 8926 3.4, the C bit
const RESERVED_FLAGS = 0x3f; // RFC 8926 3.4

// An option: RFC 8926 3.5
const OPTION_TYPE = 2;
const OPTION_LENGTH = 3;
const OPTION_HEADER_BYTES = 4;
const CRITICAL_TYPE = 0x80;
const OPTION_LENGTH_MASK = 0x1f;

/** Returns the bytes of the header, options included. A critical option is a reason to refuse, since varpd
 * knows none. */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  if (bytes[offset + VERSION] >> VERSION_SHIFT !== 0) return BAD_VERSION;
  const header = HEADER_BYTES + (bytes[offset + VERSION] & OPTIONS_MASK) * OPTION_UNIT_BYTES;
  if (length < header) return TRUNCATED;
  const flags = bytes[offset + FLAGS];
  if ((flags & CONTROL_FLAG) !== 0) return CONTROL;
  if ((flags & CRITICAL_FLAG) !== 0) return CRITICAL;
  if (read16(bytes, offset + PROTOCOL) !== ETHERNET) return BAD_VALUE;
  return header === HEADER_BYTES
    ? header
    : checkOptions(bytes, offset + HEADER_BYTES, offset + header, header);
}

/** Returns `header` if the options, at most 63, fill their room and none is critical. */
function checkOptions(bytes: Uint8Array, first: number, end: number, header: number): number {
  let at = first;
  while (at < end) {
    if ((bytes[at + OPTION_TYPE] & CRITICAL_TYPE) !== 0) return CRITICAL;
    at += OPTION_HEADER_BYTES + (bytes[at + OPTION_LENGTH] & OPTION_LENGTH_MASK) * OPTION_UNIT_BYTES;
  }
  return at === end ? header : BAD_OPTION;
}

export function vni(bytes: Uint8Array, offset: number): number {
  return read24(bytes, offset + VNI);
}

/** Returns whether a bit is set that a sender of this version leaves zero. */
export function hasReservedBits(bytes: Uint8Array, offset: number): boolean {
  return ((bytes[offset + FLAGS] & RESERVED_FLAGS) | bytes[offset + RESERVED]) !== 0;
}

/** Writes the header of a frame to send: eight bytes, no option. */
export function writeHeader(bytes: Uint8Array, offset: number, vni: number): void {
  write32(bytes, offset, ETHERNET);
  write32(bytes, offset + VNI, vni << 8);
}
