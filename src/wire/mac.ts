//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-----------+-+-+-----------------------------------------------+
// |           |L|G|                                               |
// +-----------+-+-+               +-------------------------------+
// |                               |     (IEEE 802-2014 8.2)  G: group, multicast.  L: locally administered.
// +-------------------------------+
//
// A double holds 53 bits exactly, so a MAC is a number: it is compared with ===, is a key of a Map, and needs
// no allocation. Bit operators see only 32 bits, hence the division below. `macHigh` and `macLow` are its two
// halves, as small integers for hash tables.

import { read16, read32, readSigned32, write16, write32 } from './bytes.js';

export type MacAddress = number;

export const BYTES = 6;
export const ZERO: MacAddress = 0;
export const BROADCAST: MacAddress = 0xffff_ffff_ffff; // IEEE 802-2014 8.2.2

const LOW = 2 ** 32;
const FIRST_BYTE = 2 ** 40;
const GROUP = 0x01; // IEEE 802-2014 8.2.2
const LOCAL = 0x02; // IEEE 802-2014 8.2.2

export function readMac(bytes: Uint8Array, offset: number): MacAddress {
  return read16(bytes, offset) * LOW + read32(bytes, offset + 2);
}

export function writeMac(bytes: Uint8Array, offset: number, mac: MacAddress): void {
  write16(bytes, offset, highOf(mac));
  write32(bytes, offset + 2, mac % LOW);
}

export function macHigh(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset);
}

/** Signed, because a signed 32-bit integer never becomes a heap number. */
export function macLow(bytes: Uint8Array, offset: number): number {
  return readSigned32(bytes, offset + 2);
}

// The halves of a MAC that is a number, and the number from the halves.

export function highOf(mac: MacAddress): number {
  return Math.floor(mac / LOW);
}

export function lowOf(mac: MacAddress): number {
  return mac | 0;
}

export function fromHalves(high: number, low: number): MacAddress {
  return high * LOW + (low >>> 0);
}

/** Returns the group bit, which is set for broadcast too. */
export function isMulticast(mac: MacAddress): boolean {
  return ((mac / FIRST_BYTE) & GROUP) !== 0;
}

export function isBroadcast(mac: MacAddress): boolean {
  return mac === BROADCAST;
}

const TEXT = /^[0-9a-f]{1,2}(?::[0-9a-f]{1,2}){5}$/i;

/**
 * Accepts six groups of one or two hexadecimal digits, and so `0:11:22:33:44:55` as `ether_ntoa` writes it.
 */
export function parseMac(text: string): MacAddress | undefined {
  if (!TEXT.test(text)) return undefined;
  return text.split(':').reduce((mac, group) => mac * 256 + parseInt(group, 16), 0);
}

export function formatMac(mac: MacAddress): string {
  return mac
    .toString(16)
    .padStart(12, '0')
    .replace(/..(?!$)/g, '$&:');
}

/** A unicast, locally administered address; `random` is like `Math.random`. */
export function randomLocalMac(random: () => number): MacAddress {
  const first = (Math.floor(random() * 256) & ~GROUP) | LOCAL;
  return first * FIRST_BYTE + Math.floor(random() * FIRST_BYTE);
}
