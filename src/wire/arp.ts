//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-------------------------------+-------------------------------+
// |      Hardware type (1)        |    Protocol type (0x0800)     |
// +---------------+---------------+-------------------------------+
// | HW length (6) | P length (4)  |           Operation           |
// +---------------+---------------+-------------------------------+
// |                    Sender hardware address                    |
// |                               +-------------------------------+
// |                               |        Sender protocol        |
// +-------------------------------+-------------------------------+
// |            address            |        Target hardware        |
// +-------------------------------+                               |
// |                            address                            |
// +---------------------------------------------------------------+
// |                    Target protocol address                    |     (RFC 826, for Ethernet and IPv4)
// +---------------------------------------------------------------+

import { read16, write16 } from './bytes.js';
import * as ethernet from './ethernet.js';
import * as ip from './ip.js';
import * as mac from './mac.js';
import { BAD_VALUE, TRUNCATED } from './reason.js';

const HARDWARE_TYPE = 0;
const PROTOCOL_TYPE = 2;
const ADDRESS_LENGTHS = 4;
const OPERATION = 6;
export const SENDER_MAC = 8;
export const SENDER_IP = 14;
export const TARGET_MAC = 18;
export const TARGET_IP = 24;
export const HEADER_BYTES = 28;

const ETHERNET = 1; // RFC 826, ares_hrd$Ethernet
const MAC_AND_IPV4_BYTES = (mac.BYTES << 8) | ip.V4_BYTES; // RFC 826, ar$hln and ar$pln side by side
export const REQUEST = 1; // RFC 826, ares_op$REQUEST
export const REPLY = 2; // RFC 826, ares_op$REPLY

/**
 * Accepts Ethernet and IPv4 only; RARP has the same messages (RFC 903). The length fields are compared and
 * never used, so that a request with larger ones cannot make a reply contain other memory. Operations other
 * than the two pass, and the caller ignores them.
 */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const isOurs =
    read16(bytes, offset + HARDWARE_TYPE) === ETHERNET &&
    read16(bytes, offset + PROTOCOL_TYPE) === ethernet.IPV4 &&
    read16(bytes, offset + ADDRESS_LENGTHS) === MAC_AND_IPV4_BYTES;
  return isOurs ? HEADER_BYTES : BAD_VALUE;
}

export function operation(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + OPERATION);
}

export function senderMac(bytes: Uint8Array, offset: number): mac.MacAddress {
  return mac.readMac(bytes, offset + SENDER_MAC);
}

export function senderIp(bytes: Uint8Array, offset: number): ip.Ipv4Address {
  return ip.readV4(bytes, offset + SENDER_IP);
}

export function targetMac(bytes: Uint8Array, offset: number): mac.MacAddress {
  return mac.readMac(bytes, offset + TARGET_MAC);
}

export function targetIp(bytes: Uint8Array, offset: number): ip.Ipv4Address {
  return ip.readV4(bytes, offset + TARGET_IP);
}

export interface Repr {
  readonly operation: number;
  readonly senderMac: mac.MacAddress;
  readonly senderIp: ip.Ipv4Address;
  readonly targetMac: mac.MacAddress;
  readonly targetIp: ip.Ipv4Address;
}

/** A probe asks whether an address is free: the sender has none yet. RFC 5227 1.1 */
export function isProbe(repr: Repr): boolean {
  return repr.operation === REQUEST && repr.senderIp === ip.ANY_V4;
}

/** An announcement states an address and asks nothing; it is a request or a reply. RFC 5227 1.1, 3 */
export function isAnnouncement(repr: Repr): boolean {
  return repr.senderIp === repr.targetIp && repr.senderIp !== ip.ANY_V4;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    operation: operation(bytes, offset),
    senderMac: senderMac(bytes, offset),
    senderIp: senderIp(bytes, offset),
    targetMac: targetMac(bytes, offset),
    targetIp: targetIp(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  write16(bytes, offset + HARDWARE_TYPE, ETHERNET);
  write16(bytes, offset + PROTOCOL_TYPE, ethernet.IPV4);
  write16(bytes, offset + ADDRESS_LENGTHS, MAC_AND_IPV4_BYTES);
  write16(bytes, offset + OPERATION, repr.operation);
  mac.writeMac(bytes, offset + SENDER_MAC, repr.senderMac);
  ip.writeV4(repr.senderIp, bytes, offset + SENDER_IP);
  mac.writeMac(bytes, offset + TARGET_MAC, repr.targetMac);
  ip.writeV4(repr.targetIp, bytes, offset + TARGET_IP);
  return HEADER_BYTES;
}
