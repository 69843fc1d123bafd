/**
 * Reads addresses from the bytes of a file into numbers. The functions make no string and no object, so a million
 * addresses take a second. `parseIp` takes 40 us for an IPv6 address, 40 s for a million.
 *
 * The functions are as strict as `parseMac` and `parseIp` of varpd/plugin: an IPv4 address is four decimal numbers without
 * leading zeros, and an IPv6 address has no zone id. test/property/files.test.ts compares both.
 */

import {
  family as ipFamily,
  type IpAddress,
  is6to4,
  isBroadcast as isBroadcastIp,
  isLinkLocal,
  isMulticast as isMulticastIp,
  isUnspecified,
  isV4Compatible,
  parse as parseIp,
} from '../../wire/ip.js';

const COLON = 0x3a;
const DOT = 0x2e;
const ZERO = 0x30;

const MAC_GROUPS = 6;
const V6_GROUPS = 8;

/** Number of 32-bit words in a key. The words of a MAC are its high 16 bits and its low 32 bits. */
export const MAC_WORDS = 2;
export const V4_WORDS = 1;
export const V6_WORDS = 4;

/** Value of a hexadecimal digit; -1 for every other byte. */
const HEX = new Int8Array(256).fill(-1);
for (let digit = 0; digit < 16; digit++) {
  HEX[digit.toString(16).charCodeAt(0)] = digit;
  HEX[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
}

/** Reads six groups of one or two hexadecimal digits. When it returns false, `words` is undefined. */
export function readMac(bytes: Uint8Array, start: number, end: number, words: Uint32Array): boolean {
  let high = 0;
  let low = 0;
  let at = start;
  for (let group = 0; group < MAC_GROUPS; group++) {
    if (group > 0 && (at >= end || bytes[at++] !== COLON)) return false;
    let value = at < end ? HEX[bytes[at++]] : -1;
    if (value < 0) return false;
    const second = at < end ? HEX[bytes[at]] : -1;
    if (second >= 0) {
      value = value * 16 + second;
      at++;
    }
    if (group < 2) high = (high << 8) | value;
    else low = (low << 8) | value;
  }
  words[0] = high;
  words[1] = low;
  return at === end;
}

/** Returns a dotted quad as an unsigned number, or -1. */
export function readV4(bytes: Uint8Array, start: number, end: number): number {
  let address = 0;
  let at = start;
  for (let part = 0; part < 4; part++) {
    if (part > 0 && (at >= end || bytes[at++] !== DOT)) return -1;
    const first = at;
    let value = 0;
    while (at < end && bytes[at] >= ZERO && bytes[at] <= ZERO + 9 && at - first < 3)
      value = value * 10 + bytes[at++] - ZERO;
    const hasLeadingZero = bytes[first] === ZERO && at - first > 1;
    if (at === first || value > 255 || hasLeadingZero) return -1;
    address = address * 256 + value;
  }
  return at === end ? address : -1;
}

const groups = new Uint16Array(V6_GROUPS);

/** Reads an IPv6 address in any of the three forms of RFC 4291 2.2. When it returns false, `words` is undefined. */
export function readV6(bytes: Uint8Array, start: number, end: number, words: Uint32Array): boolean {
  let count = 0;
  let gap = -1;
  let at = start;
  if (end - start >= 2 && bytes[at] === COLON && bytes[at + 1] === COLON) {
    gap = 0;
    at += 2;
  }
  while (at < end) {
    const first = at;
    let value = 0;
    for (let digit; at < end && (digit = HEX[bytes[at]]) >= 0 && at - first < 5; at++)
      value = value * 16 + digit;
    if (at === first || at - first > 4 || count === V6_GROUPS) return false;
    if (at < end && bytes[at] === DOT) {
      const quad = readV4(bytes, first, end);
      if (quad < 0 || count > V6_GROUPS - 2) return false;
      groups[count++] = quad >>> 16;
      groups[count++] = quad & 0xffff;
      break;
    }
    groups[count++] = value;
    if (at === end) break;
    if (bytes[at++] !== COLON || at === end) return false;
    if (bytes[at] === COLON) {
      if (gap >= 0) return false;
      gap = count;
      at++;
    }
  }
  if (gap < 0 ? count !== V6_GROUPS : count >= V6_GROUPS) return false;
  if (gap >= 0) {
    groups.copyWithin(gap + V6_GROUPS - count, gap, count);
    groups.fill(0, gap, gap + V6_GROUPS - count);
  }
  for (let word = 0; word < V6_WORDS; word++)
    words[word] = ((groups[2 * word] << 16) | groups[2 * word + 1]) >>> 0;
  return true;
}

// -- Kinds of addresses

/** Returns the address of a VTEP. It is text, since a few VTEPs serve many entries. */
export function parsePeer(text: string): IpAddress | undefined {
  const ip = parseIp(text);
  if (ip === undefined || isUnspecified(ip) || isBroadcastIp(ip) || isMulticastIp(ip)) return undefined;
  if (ipFamily(ip) === 4) return text.includes(':') ? undefined : ip; // v4-mapped otherwise, RFC 4291 2.5.5.2
  return is6to4(ip) || isV4Compatible(ip) || isLinkLocal(ip) ? undefined : ip;
}

export function isGroupMac(words: Uint32Array): boolean {
  return (words[0] & 0x0100) !== 0; // IEEE 802-2014 8.2.2
}

export function isZeroMac(words: Uint32Array): boolean {
  return words[0] === 0 && words[1] === 0;
}

/** Returns false for "this network" (0.0.0.0/8), loopback, multicast and broadcast. */
export function isStationV4(address: number): boolean {
  const first = address >>> 24;
  const isMulticast = first >= 224 && first < 240; // RFC 1112 4
  return first !== 0 && first !== 127 && !isMulticast && address !== 0xffff_ffff; // RFC 1122 3.2.1.3
}

/** Returns false for unspecified, loopback, v4-compatible, v4-mapped and multicast addresses. */
export function isStationV6(words: Uint32Array): boolean {
  const isV4Inside = words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff); // RFC 4291 2.5
  return !isV4Inside && words[0] >>> 24 !== 0xff; // RFC 4291 2.7
}

// -- Back to text

export function macNumber(words: Uint32Array, at: number): number {
  return words[at] * 2 ** 32 + words[at + 1];
}

export function v4Text(address: number): IpAddress {
  return [address >>> 24, (address >>> 16) & 0xff, (address >>> 8) & 0xff, address & 0xff].join(
    '.',
  ) as IpAddress;
}

/** Returns the canonical spelling (RFC 5952) of an address without an IPv4 address inside: lower case, no leading zeros,
 * `::` for the first of the longest runs of two zero groups or more. */
export function v6Text(words: Uint32Array, at: number): IpAddress {
  const group = (index: number): number =>
    index % 2 === 0 ? words[at + index / 2] >>> 16 : words[at + (index - 1) / 2] & 0xffff;
  let gap = V6_GROUPS;
  let gapLength = 1;
  for (let first = 0; first < V6_GROUPS; first++) {
    let length = 0;
    while (first + length < V6_GROUPS && group(first + length) === 0) length++;
    if (length > gapLength) [gap, gapLength] = [first, length];
  }
  const text = (from: number, to: number): string => {
    let joined = '';
    for (let index = from; index < to; index++)
      joined += `${index > from ? ':' : ''}${group(index).toString(16)}`;
    return joined;
  };
  if (gap === V6_GROUPS) return text(0, V6_GROUPS) as IpAddress;
  return `${text(0, gap)}::${text(gap + gapLength, V6_GROUPS)}` as IpAddress;
}
