// IP addresses as text. An address is its canonical spelling (dotted quad, or RFC 5952) as a branded string.
// So equality is ===, a Map needs no hash function, JSON and `postMessage` carry an address, and it prints as
// it is. Two rules make the spelling unique:
//
//   - IPv4 is four decimal numbers. No octal, no hexadecimal, no short form: other programs read 010.0.0.1 as
//     8.0.0.1, and a filter that disagrees with the kernel is no filter (CVE-2021-28918, CVE-2024-29415).
//   - A v4-mapped IPv6 address (RFC 4291 2.5.5.2) *is* the IPv4 address. Sixteen-byte fields and sockets hold
//     the mapped form; `readV6` and `writeV6` change between the two, so bytes survive the round trip.
//
// Addresses in packets become text only for rare frames (ARP, NDP, DHCP), control and logs.

import ipaddr from 'ipaddr.js';
import { read16, write16 } from './bytes.js';

declare const canonical: unique symbol;
export type Ipv4Address = string & { readonly [canonical]: 4 };
export type Ipv6Address = string & { readonly [canonical]: 6 };
export type IpAddress = Ipv4Address | Ipv6Address;

export const MAX_PORT = 65535; // RFC 768

export interface Endpoint {
  readonly ip: IpAddress;
  readonly port: number;
}

/** The VTEP that a frame is sent to. */
export type Destination = Endpoint;

/** An address and its prefix length in bits. */
export interface Prefix {
  readonly ip: IpAddress;
  readonly bits: number;
}

export const V4_BYTES = 4;
export const V6_BYTES = 16;
export const V4_BITS = 8 * V4_BYTES;
export const V6_BITS = 8 * V6_BYTES;
export const ANY_V4 = '0.0.0.0' as Ipv4Address; // RFC 1122 3.2.1.3
export const ANY_V6 = '::' as Ipv6Address; // RFC 4291 2.5.2
export const BROADCAST = '255.255.255.255' as Ipv4Address; // RFC 919 7
export const ALL_NODES = 'ff02::1' as Ipv6Address; // RFC 4291 2.7.1

const MAPPED_PREFIX_BYTES = 12; // RFC 4291 2.5.5.2: ten zero bytes, then ff ff

export function isV4(ip: IpAddress): ip is Ipv4Address {
  return !ip.includes(':');
}

export function family(ip: IpAddress): 4 | 6 {
  return isV4(ip) ? 4 : 6;
}

// -- Text

/**
 * Strict: no later layer sees an address that this refuses. Zone ids are refused, since a scope has no
 * meaning on another host.
 */
export function parse(text: string): IpAddress | undefined {
  return text.includes(':') ? parseV6(text) : parseV4(text);
}

/** Written by hand, since lists have up to a million addresses: it takes a tenth of the time of ipaddr.js. */
export function parseV4(text: string): Ipv4Address | undefined {
  let [dots, value, digits] = [0, 0, 0];
  for (let index = 0; index <= text.length; index++) {
    const digit = index === text.length ? DOT : text.charCodeAt(index) - ZERO;
    if (digit === DOT) {
      if (digits === 0 || dots++ === V4_BYTES) return undefined;
      [value, digits] = [0, 0];
    } else {
      // Other programs read a second digit behind a zero as octal.
      if (digit < 0 || digit > 9 || (digits > 0 && value === 0)) return undefined;
      value = value * 10 + digit;
      digits++;
      if (value > 255) return undefined;
    }
  }
  return dots === V4_BYTES ? (text as Ipv4Address) : undefined;
}

const ZERO = 0x30;
/** The dot, as a digit. */
const DOT = 0x2e - ZERO;

const HEX_GROUPS = /^[0-9a-f:]{2,39}$/i;

function parseV6(text: string): IpAddress | undefined {
  // ipaddr.js accepts octal and hexadecimal in a dotted tail, and zone ids, and reads ::1.2.3.4 as if it were
  // mapped. So the tail is first spelled in hexadecimal, which leaves ipaddr.js the part of the grammar that
  // it reads exactly.
  const tail = text.lastIndexOf(':') + 1;
  const quad = parseV4(text.slice(tail));
  const groups = quad === undefined ? text : text.slice(0, tail) + hexGroups(quad);
  if (!HEX_GROUPS.test(groups) || !ipaddr.IPv6.isValid(groups)) return undefined;
  return readV6(Uint8Array.from(ipaddr.IPv6.parse(groups).toByteArray()), 0);
}

function hexGroups(quad: Ipv4Address): string {
  const [a, b, c, d] = octets(quad);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

function octets(ip: Ipv4Address): [number, number, number, number] {
  return ip.split('.').map(Number) as [number, number, number, number];
}

const ENDPOINT = /^(.*):([1-9][0-9]{0,4})$/;

/** `10.0.0.1:4789` or `[2001:db8::1]:4789`. The port is required, decimal, 1 to 65535. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = ENDPOINT.exec(text);
  if (match === null) return undefined;
  const ip = parseHost(match[1]);
  const port = Number(match[2]);
  return ip === undefined || port > 0xffff ? undefined : { ip, port };
}

function parseHost(host: string): IpAddress | undefined {
  return host.startsWith('[') && host.endsWith(']') ? parseV6(host.slice(1, -1)) : parseV4(host);
}

export function formatEndpoint({ ip, port }: Endpoint): string {
  return isV4(ip) ? `${ip}:${port}` : `[${ip}]:${port}`;
}

// -- Bytes

export function readV4(bytes: Uint8Array, offset: number): Ipv4Address {
  return `${bytes[offset]}.${bytes[offset + 1]}.${bytes[offset + 2]}.${bytes[offset + 3]}` as Ipv4Address;
}

export function writeV4(ip: Ipv4Address, bytes: Uint8Array, offset: number): void {
  let at = offset;
  let value = 0;
  for (let index = 0; index < ip.length; index++) {
    const digit = ip.charCodeAt(index) - ZERO;
    if (digit === DOT) {
      bytes[at++] = value;
      value = 0;
    } else value = value * 10 + digit;
  }
  bytes[at] = value;
}

/** Reads sixteen bytes; the v4-mapped form becomes the IPv4 address. */
export function readV6(bytes: Uint8Array, offset: number): IpAddress {
  if (isMapped(bytes, offset)) return readV4(bytes, offset + MAPPED_PREFIX_BYTES);
  const groups = Array.from({ length: 8 }, (_, index) => read16(bytes, offset + 2 * index));
  return compress(groups) as Ipv6Address;
}

/** Writes sixteen bytes; an IPv4 address is written v4-mapped. */
export function writeV6(ip: IpAddress, bytes: Uint8Array, offset: number): void {
  if (isV4(ip)) {
    bytes.fill(0, offset, offset + MAPPED_PREFIX_BYTES - 2);
    write16(bytes, offset + MAPPED_PREFIX_BYTES - 2, 0xffff);
    writeV4(ip, bytes, offset + MAPPED_PREFIX_BYTES);
  } else {
    bytes.set(ipaddr.IPv6.parse(ip).toByteArray(), offset);
  }
}

/** Returns the address in sixteen new bytes, as sockets take it. */
export function toBytes(ip: IpAddress): Uint8Array {
  const bytes = new Uint8Array(V6_BYTES);
  writeV6(ip, bytes, 0);
  return bytes;
}

/** Returns whether the sixteen bytes are an IPv4 address, v4-mapped (RFC 4291 2.5.5.2). */
export function isMapped(bytes: Uint8Array, offset: number): boolean {
  for (let index = 0; index < MAPPED_PREFIX_BYTES - 2; index++) {
    if (bytes[offset + index] !== 0) return false;
  }
  return read16(bytes, offset + MAPPED_PREFIX_BYTES - 2) === 0xffff;
}

/** RFC 5952 4.2: the first of the longest runs of two or more zero groups becomes `::`. */
function compress(groups: readonly number[]): string {
  let start = 0;
  let longest = 1;
  for (let from = 0; from < groups.length; from++) {
    let to = from;
    while (groups[to] === 0) to++;
    if (to - from > longest) [start, longest] = [from, to - from];
  }
  const text = groups.map((group) => group.toString(16));
  if (longest === 1) return text.join(':');
  return `${text.slice(0, start).join(':')}::${text.slice(start + longest).join(':')}`;
}

// -- Kinds of addresses. These tests look at the spelling, which is canonical, so a prefix is always at the
// start.

export function isUnspecified(ip: IpAddress): boolean {
  return ip === ANY_V4 || ip === ANY_V6;
}

export function isLoopback(ip: IpAddress): boolean {
  return ip.startsWith('127.') || ip === '::1'; // RFC 1122 3.2.1.3, RFC 4291 2.5.3
}

export function isMulticast(ip: IpAddress): boolean {
  return /^(?:22[4-9]\.|23[0-9]\.|ff[0-9a-f]{2}:)/.test(ip); // RFC 1112 4, RFC 4291 2.7
}

export function isBroadcast(ip: IpAddress): boolean {
  return ip === BROADCAST;
}

export function isLinkLocal(ip: IpAddress): boolean {
  return /^(?:169\.254\.|fe[89ab][0-9a-f]:)/.test(ip); // RFC 3927 2.1, RFC 4291 2.5.6
}

/** Returns whether an address is ::a.b.c.d without the ffff, long deprecated; `::` and `::1` are not. RFC
 * 4291 2.5.5.1 */
export function isV4Compatible(ip: IpAddress): boolean {
  return /^::[0-9a-f]+(?::[0-9a-f]+)?$/.test(ip) && ip !== '::1';
}

export function is6to4(ip: IpAddress): boolean {
  return ip.startsWith('2002:'); // RFC 3056 2
}

/** Returns whether a station can have this address. */
export function isStationIp(ip: IpAddress): boolean {
  return !isUnspecified(ip) && !isLoopback(ip) && !isMulticast(ip) && !isBroadcast(ip);
}

export function isSameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.ip === b.ip && a.port === b.port;
}
