//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+---------------+---------------+---------------+
// |  op (1, 2)    |   htype (1)   |   hlen (6)    |     hops      |
// +---------------+---------------+---------------+---------------+
// |                              xid                              |
// +-------------------------------+-+-----------------------------+
// |             secs              |B|            zero             |
// +-------------------------------+-+-----------------------------+
// |          ciaddr, yiaddr, siaddr, giaddr (4 each)              |
// |      chaddr (16), sname (64), file (128)                      |
// +---------------+---------------+-------------------------------+
// |                    magic cookie 63 82 53 63                   |
// +---------------+---------------+-------------------------------+
// |     code      |    length     |  value ...                          (RFC 2131 2; options RFC 2132 2)
// +---------------+---------------+-------------------------------+
//
// `check` looks at the fixed part alone: a frame can be re-addressed to server or client without its options,
// and odd options must not prevent that. `parse` reads the options too, wherever overloading has put them,
// and joins split ones; `findOption` looks for one option and allocates nothing.

import { read16, read32, write16, write32 } from './bytes.js';
import * as ip from './ip.js';
import * as mac from './mac.js';
import { BAD_OPTION, BAD_VALUE, TRUNCATED } from './reason.js';

const OP = 0;
const HARDWARE = 1;
const HOPS = 3;
const XID = 4;
const SECS = 8;
const FLAGS = 10;
export const CIADDR = 12;
export const YIADDR = 16;
const SIADDR = 20;
const GIADDR = 24; // of the relay
export const CHADDR = 28;
const SNAME = 44;
const FILE = 108;
const COOKIE = 236;
const OPTIONS = 240;
/** Bytes before the cookie. */
export const HEADER_BYTES = 236;

export const CLIENT_PORT = 68; // RFC 2131 4.1
export const SERVER_PORT = 67; // RFC 2131 4.1
export const REQUEST = 1; // RFC 2131 2, BOOTREQUEST
export const REPLY = 2; // RFC 2131 2, BOOTREPLY

const ETHERNET_AND_6 = 0x0106; // RFC 2131 2, htype and hlen side by side (htype 1 as in RFC 826)
const BROADCAST_FLAG = 0x8000; // RFC 2131 2, figure 2
const MAGIC_COOKIE = 0x63825363; // RFC 2131 3
const MIN_MESSAGE_BYTES = 300; // RFC 1542 2.1: some receivers drop shorter ones

const PAD = 0; // RFC 2132 3.1
const END = 255; // RFC 2132 3.2
export const REQUESTED_ADDRESS = 50; // RFC 2132 9.1
export const LEASE_TIME = 51; // RFC 2132 9.2
export const OVERLOAD = 52; // RFC 2132 9.3; 1: file, 2: sname, 3: both
export const MESSAGE_TYPE = 53; // RFC 2132 9.6
export const CLIENT_ID = 61; // RFC 2132 9.14
export const RELAY_INFORMATION = 82; // RFC 3046 2.0

// Message types: RFC 2132 9.6
export const DISCOVER = 1;
export const REQUEST_MESSAGE = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
const INFORM = 8;

/** Names of message types 1 to 8. RFC 2132 9.6 */
export const MESSAGE_NAMES = [
  '',
  'discover',
  'offer',
  'request',
  'decline',
  'ack',
  'nak',
  'release',
  'inform',
] as const;

export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const op = operation(bytes, offset);
  if (op !== REQUEST && op !== REPLY) return BAD_VALUE;
  return read16(bytes, offset + HARDWARE) === ETHERNET_AND_6 ? HEADER_BYTES : BAD_VALUE;
}

export function operation(bytes: Uint8Array, offset: number): number {
  return bytes[offset + OP];
}

/** Returns whether a relay has written into the fixed part: a client sends hops and giaddr as zero (RFC 2131
 * 4.4.1). */
export function hasRelayFields(bytes: Uint8Array, offset: number): boolean {
  return bytes[offset + HOPS] !== 0 || read32(bytes, offset + GIADDR) !== 0;
}

/** Returns whether clients send messages of this type (RFC 2131 3.1, table 2). */
export function isFromClient(type: number): boolean {
  switch (type) {
    case DISCOVER:
    case REQUEST_MESSAGE:
    case DECLINE:
    case RELEASE:
    case INFORM:
      return true;
    default:
      return false;
  }
}

export function transactionId(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset + XID);
}

/** Returns whether the client wants its answer by broadcast, since it has no address yet. RFC 2131 4.1 */
export function wantsBroadcast(bytes: Uint8Array, offset: number): boolean {
  return (read16(bytes, offset + FLAGS) & BROADCAST_FLAG) !== 0;
}

export function clientMac(bytes: Uint8Array, offset: number): mac.MacAddress {
  return mac.readMac(bytes, offset + CHADDR);
}

/**
 * Returns where the value of an option begins in a checked message; the option's length is in the byte
 * before. 0: the message has no such option. BAD_OPTION: it has several, or its options do not end as they
 * must (RFC 2131 4.1), or it has no options at all (BOOTP). Options in overloaded fields are not found;
 * OVERLOAD tells whether there may be some.
 */
export function findOption(bytes: Uint8Array, offset: number, length: number, code: number): number {
  if (length < OPTIONS || read32(bytes, offset + COOKIE) !== MAGIC_COOKIE) return BAD_OPTION;
  const end = offset + length;
  let found = 0;
  for (let at = offset + OPTIONS; at < end;) {
    const each = bytes[at++];
    if (each === END) return found;
    if (each === PAD) continue;
    if (at >= end || (each === code && found !== 0)) return BAD_OPTION;
    if (each === code) found = at + 1;
    at += 1 + bytes[at];
  }
  return BAD_OPTION;
}

/** A message without sname and file, which are about booting. Options are in the order of their first
 * part. */
export interface Repr {
  readonly operation: number;
  readonly hops: number;
  readonly transactionId: number;
  readonly secs: number;
  readonly wantsBroadcast: boolean;
  readonly ciaddr: ip.Ipv4Address;
  readonly yiaddr: ip.Ipv4Address;
  readonly siaddr: ip.Ipv4Address;
  readonly giaddr: ip.Ipv4Address;
  readonly clientMac: mac.MacAddress;
  readonly options: ReadonlyMap<number, Uint8Array>;
}

export function messageType(repr: Repr): number | undefined {
  return repr.options.get(MESSAGE_TYPE)?.[0];
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  const options = parseOptions(bytes, offset, length);
  if (options === undefined) return undefined;
  return {
    operation: operation(bytes, offset),
    hops: bytes[offset + HOPS],
    transactionId: transactionId(bytes, offset),
    secs: read16(bytes, offset + SECS),
    wantsBroadcast: wantsBroadcast(bytes, offset),
    ciaddr: ip.readV4(bytes, offset + CIADDR),
    yiaddr: ip.readV4(bytes, offset + YIADDR),
    siaddr: ip.readV4(bytes, offset + SIADDR),
    giaddr: ip.readV4(bytes, offset + GIADDR),
    clientMac: clientMac(bytes, offset),
    options,
  };
}

/** Reads the options field, then file, then sname: split options join in this order (RFC 3396 5). */
function parseOptions(
  bytes: Uint8Array,
  offset: number,
  length: number,
): Map<number, Uint8Array> | undefined {
  if (length < OPTIONS || read32(bytes, offset + COOKIE) !== MAGIC_COOKIE) return undefined;
  const options = new Map<number, Uint8Array>();
  if (!collect(bytes, offset + OPTIONS, offset + length, options)) return undefined;
  const overload = options.get(OVERLOAD)?.[0] ?? 0;
  options.delete(OVERLOAD);
  if ((overload & 1) !== 0 && !collect(bytes, offset + FILE, offset + COOKIE, options)) return undefined;
  if ((overload & 2) !== 0 && !collect(bytes, offset + SNAME, offset + FILE, options)) return undefined;
  return options;
}

/** Returns false if an option reaches past the end, or if no `end` option is the last (RFC 2131 4.1). */
function collect(bytes: Uint8Array, start: number, end: number, into: Map<number, Uint8Array>): boolean {
  for (let at = start; at < end;) {
    const code = bytes[at++];
    if (code === PAD) continue;
    if (code === END) return true;
    if (at >= end || bytes[at] > end - at - 1) return false;
    const value = bytes.subarray(at + 1, at + 1 + bytes[at]);
    into.set(code, Uint8Array.from([...(into.get(code) ?? []), ...value])); // RFC 3396 7: parts are one option
    at += 1 + value.length;
  }
  return false;
}

function optionsBytes(repr: Repr): number {
  let total = 1;
  for (const value of repr.options.values()) total += value.length + 2 * partCount(value);
  return total;
}

function partCount(value: Uint8Array): number {
  return Math.max(1, Math.ceil(value.length / 255)); // RFC 3396 6: longer ones are split
}

export function byteLength(repr: Repr): number {
  return Math.max(MIN_MESSAGE_BYTES, OPTIONS + optionsBytes(repr));
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const total = byteLength(repr);
  bytes.fill(0, offset, offset + total);
  bytes[offset + OP] = repr.operation;
  write16(bytes, offset + HARDWARE, ETHERNET_AND_6);
  bytes[offset + HOPS] = repr.hops;
  write32(bytes, offset + XID, repr.transactionId);
  write16(bytes, offset + SECS, repr.secs);
  write16(bytes, offset + FLAGS, repr.wantsBroadcast ? BROADCAST_FLAG : 0);
  ip.writeV4(repr.ciaddr, bytes, offset + CIADDR);
  ip.writeV4(repr.yiaddr, bytes, offset + YIADDR);
  ip.writeV4(repr.siaddr, bytes, offset + SIADDR);
  ip.writeV4(repr.giaddr, bytes, offset + GIADDR);
  mac.writeMac(bytes, offset + CHADDR, repr.clientMac);
  write32(bytes, offset + COOKIE, MAGIC_COOKIE);
  let at = offset + OPTIONS;
  for (const [code, value] of repr.options) {
    for (let part = 0; part < partCount(value); part++) {
      const piece = value.subarray(part * 255, (part + 1) * 255);
      bytes.set([code, piece.length], at);
      bytes.set(piece, at + 2);
      at += 2 + piece.length;
    }
  }
  bytes[at] = END;
  return total;
}
