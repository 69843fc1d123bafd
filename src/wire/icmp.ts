//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+---------------+-------------------------------+
// |     Type      |     Code      |           Checksum            |
// +---------------+---------------+-------------------------------+
// |   One word by type: identifier and sequence, unused and MTU   |     (RFC 792; the MTU RFC 1191 4)
// +---------------------------------------------------------------+

import { read16, read32, write16, write32 } from './bytes.js';
import * as checksums from './checksum.js';
import { TRUNCATED } from './reason.js';

const TYPE = 0;
const CODE = 1;
export const CHECKSUM = 2;
const WORD = 4;
export const HEADER_BYTES = 8;

export const ECHO_REPLY = 0; // RFC 792
export const UNREACHABLE = 3; // RFC 792
export const FRAGMENTATION_NEEDED = 4; // RFC 792, a code of UNREACHABLE
export const REDIRECT = 5; // RFC 792
export const ECHO_REQUEST = 8; // RFC 792
export const ROUTER_ADVERTISEMENT = 9; // RFC 1256 3
export const ROUTER_SOLICITATION = 10; // RFC 1256 3
const SOURCE_QUENCH = 4; // RFC 792
const TIME_EXCEEDED = 11; // RFC 792
const PARAMETER_PROBLEM = 12; // RFC 792

export function check(_bytes: Uint8Array, _offset: number, length: number): number {
  return length < HEADER_BYTES ? TRUNCATED : HEADER_BYTES;
}

export function type(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TYPE];
}

export function code(bytes: Uint8Array, offset: number): number {
  return bytes[offset + CODE];
}

/** Returns whether this is an error message; no error message may be sent about one (RFC 1122 3.2.2). */
export function isError(bytes: Uint8Array, offset: number): boolean {
  switch (type(bytes, offset)) {
    case UNREACHABLE:
    case SOURCE_QUENCH:
    case REDIRECT:
    case TIME_EXCEEDED:
    case PARAMETER_PROBLEM:
      return true;
    default:
      return false;
  }
}

/** Returns whether the message affects the choice of a router: a redirect, or router discovery, which is
 * obsolete. */
export function isRouterMessage(bytes: Uint8Array, offset: number): boolean {
  switch (type(bytes, offset)) {
    case REDIRECT:
    case ROUTER_ADVERTISEMENT:
    case ROUTER_SOLICITATION:
      return true;
    default:
      return false;
  }
}

/** The meaning of this word depends on the type. */
export function word(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + WORD);
}

export function identifier(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + WORD);
}

export function sequence(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + WORD + 2);
}

/** `length`: bytes of the whole message. */
export function verifyChecksum(bytes: Uint8Array, offset: number, length: number): boolean {
  return checksums.verify(bytes, offset, length, 0);
}

export function fillChecksum(bytes: Uint8Array, offset: number, length: number): void {
  checksums.fill(bytes, offset, length, CHECKSUM, 0);
}

export interface Repr {
  readonly type: number;
  readonly code: number;
  readonly word: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return { type: type(bytes, offset), code: code(bytes, offset), word: word(bytes, offset) };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

/** Writes a checksum of zero; `fillChecksum` is called when the body is in place. */
export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  bytes[offset + TYPE] = repr.type;
  bytes[offset + CODE] = repr.code;
  write16(bytes, offset + CHECKSUM, 0);
  write32(bytes, offset + WORD, repr.word);
  return HEADER_BYTES;
}
