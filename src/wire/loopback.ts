//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-----+---------+---------------+---------------+---------------+
// |Level| Version | OpCode (2, 3) |     Flags     | First TLV (4) |
// +-----+---------+---------------+---------------+---------------+
// |                     Transaction identifier                    |
// +---------------+-------------------------------+---------------+
// | Type 3 (data) |            Length n           | n bytes ...
// +---------------+-------------------------------+---------------+
// | Type 0 (end)  |     (IEEE 802.1Q-2018 21.4, 21.5, 21.7; ITU-T G.8013/Y.1731 9.3, 9.4)
// +---------------+
//
// Loopback messages (LBM) and replies (LBR) of connectivity fault management, behind EtherType 0x8902. A
// reply is the message with the addresses exchanged and another OpCode; all other bytes stay.

import { read16, readSigned32, write16, write32 } from './bytes.js';
import { BAD_VALUE, TRUNCATED } from './reason.js';

const LEVEL_AND_VERSION = 0;
const VERSION_MASK = 0x1f;
const OPCODE = 1;
const FLAGS = 2;
const FIRST_TLV = 3;
/** Offset of the transaction identifier. */
export const TRANSACTION = 4;
export const HEADER_BYTES = 8;

export const REPLY = 2; // IEEE 802.1Q-2018 table 21-4, LBR
export const MESSAGE = 3; // IEEE 802.1Q-2018 table 21-4, LBM

/** Bytes between the First TLV field and the first TLV: the transaction identifier. IEEE 802.1Q-2018 21.7.3 */
const TRANSACTION_BYTES = 4;

const DATA_TLV = 3; // IEEE 802.1Q-2018 table 21-6
const DATA_HEADER_BYTES = 3; // IEEE 802.1Q-2018 21.5.1
const END_TLV = 0; // IEEE 802.1Q-2018 table 21-6
const END_TLV_BYTES = 1; // IEEE 802.1Q-2018 21.5.2
/** Bytes of a message without data. */
export const MIN_BYTES = HEADER_BYTES + DATA_HEADER_BYTES + END_TLV_BYTES;

/**
 * The highest level. No maintenance point between two hosts takes such a message for its own: one takes those
 * of its level and stops lower ones. IEEE 802.1Q-2018 18.3
 */
export const MAX_LEVEL = 7;

/** Accepts messages and replies of any level and version (IEEE 802.1Q-2018 20.51.4.3). Other messages of
 * connectivity fault management are refused. */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const isLoopback = bytes[offset + OPCODE] === MESSAGE || bytes[offset + OPCODE] === REPLY;
  return isLoopback && bytes[offset + FIRST_TLV] >= TRANSACTION_BYTES ? HEADER_BYTES : BAD_VALUE;
}

export function opcode(bytes: Uint8Array, offset: number): number {
  return bytes[offset + OPCODE];
}

export function setOpcode(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset + OPCODE] = value;
}

export function level(bytes: Uint8Array, offset: number): number {
  return bytes[offset + LEVEL_AND_VERSION] >> 5;
}

/** Signed, so that it is a small integer. */
export function transaction(bytes: Uint8Array, offset: number): number {
  return readSigned32(bytes, offset + TRANSACTION);
}

export interface Repr {
  readonly level: number;
  readonly opcode: typeof MESSAGE | typeof REPLY;
  readonly transaction: number;
  /** Bytes of the data TLV: zeros, when written. */
  readonly dataBytes: number;
}

/** A message of another version, with flags, or with other TLVs than one of data and the end is only checked. */
export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0 || length < MIN_BYTES) return undefined;
  const dataBytes = read16(bytes, offset + HEADER_BYTES + 1);
  const end = HEADER_BYTES + DATA_HEADER_BYTES + dataBytes;
  const isPlain =
    (bytes[offset + LEVEL_AND_VERSION] & VERSION_MASK) === 0 &&
    bytes[offset + FLAGS] === 0 &&
    bytes[offset + FIRST_TLV] === TRANSACTION_BYTES &&
    bytes[offset + HEADER_BYTES] === DATA_TLV &&
    end + END_TLV_BYTES <= length &&
    bytes[offset + end] === END_TLV;
  if (!isPlain) return undefined;
  return {
    level: level(bytes, offset),
    opcode: opcode(bytes, offset) === REPLY ? REPLY : MESSAGE,
    transaction: transaction(bytes, offset),
    dataBytes,
  };
}

export function byteLength(repr: Repr): number {
  return MIN_BYTES + repr.dataBytes;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const total = byteLength(repr);
  bytes.fill(0, offset, offset + total);
  bytes[offset + LEVEL_AND_VERSION] = repr.level << 5;
  bytes[offset + OPCODE] = repr.opcode;
  bytes[offset + FIRST_TLV] = TRANSACTION_BYTES;
  write32(bytes, offset + TRANSACTION, repr.transaction);
  bytes[offset + HEADER_BYTES] = DATA_TLV;
  write16(bytes, offset + HEADER_BYTES + 1, repr.dataBytes);
  return total;
}
