//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-------------------------------+-------------------------------+
// |          Source port          |       Destination port        |
// +-------------------------------+-------------------------------+
// |                        Sequence number                        |
// +---------------------------------------------------------------+
// |                    Acknowledgment number                      |
// +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
// |Offset | Rsrvd |C|E|U|A|P|R|S|F|            Window             |
// +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
// |           Checksum            |        Urgent pointer         |
// +-------------------------------+-------------------------------+
// |                    Options (Offset * 4 - 20) ...                  (RFC 9293 3.1)
// +---------------------------------------------------------------+

import { read16, read32, write16, write32 } from './bytes.js';
import * as checksums from './checksum.js';
import { TCP } from './ipv4.js';
import { BAD_HEADER_LENGTH, TRUNCATED } from './reason.js';

const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
export const SEQUENCE = 4;
const ACKNOWLEDGMENT = 8;
const DATA_OFFSET = 12;
export const FLAGS = 13;
const WINDOW = 14;
export const CHECKSUM = 16;
const URGENT = 18;
/** Without options. */
export const HEADER_BYTES = 20;

// Control bits: RFC 9293 3.1
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40; // RFC 3168 6.1
export const CWR = 0x80; // RFC 3168 6.1

export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const header = headerLength(bytes, offset);
  return header < HEADER_BYTES || header > length ? BAD_HEADER_LENGTH : header;
}

export function sourcePort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + SOURCE_PORT);
}

export function destinationPort(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + DESTINATION_PORT);
}

export function sequence(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + SEQUENCE);
}

export function acknowledgment(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + ACKNOWLEDGMENT);
}

export function headerLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + DATA_OFFSET] >> 4) * 4;
}

export function flags(bytes: Uint8Array, offset: number): number {
  return bytes[offset + FLAGS];
}

export function window(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + WINDOW);
}

export function checksum(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + CHECKSUM);
}

/** `ip`: offset of the IP header. `length`: bytes of the segment, which TCP does not state itself. */
export function verifyChecksum(bytes: Uint8Array, ip: number, offset: number, length: number): boolean {
  return checksums.verify(bytes, offset, length, checksums.pseudo(bytes, ip, TCP, length));
}

export function fillChecksum(bytes: Uint8Array, ip: number, offset: number, length: number): void {
  checksums.fill(bytes, offset, length, CHECKSUM, checksums.pseudo(bytes, ip, TCP, length));
}

/** A header without options or urgent data: enough for tests and tools. */
export interface Repr {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
}

/** Options are skipped; `verifyChecksum` checks the checksum. */
export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    sourcePort: sourcePort(bytes, offset),
    destinationPort: destinationPort(bytes, offset),
    sequence: sequence(bytes, offset),
    acknowledgment: acknowledgment(bytes, offset),
    flags: flags(bytes, offset),
    window: window(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

/** Writes a checksum of zero; `fillChecksum` or an offload completes it. */
export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  write16(bytes, offset + SOURCE_PORT, repr.sourcePort);
  write16(bytes, offset + DESTINATION_PORT, repr.destinationPort);
  write32(bytes, offset + SEQUENCE, repr.sequence);
  write32(bytes, offset + ACKNOWLEDGMENT, repr.acknowledgment);
  bytes[offset + DATA_OFFSET] = (HEADER_BYTES / 4) << 4;
  bytes[offset + FLAGS] = repr.flags;
  write16(bytes, offset + WINDOW, repr.window);
  write16(bytes, offset + CHECKSUM, 0);
  write16(bytes, offset + URGENT, 0);
  return HEADER_BYTES;
}
