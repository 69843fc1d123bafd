/** Checks that a DHCP client identifies itself by the MAC of its port, or by an id that the operator allows
 * as well. */
import { read16 } from '../../wire/bytes.js';
import * as mac from '../../wire/mac.js';

const ETHERNET = 1; // RFC 1700, hardware types
/** RFC 2132 9.14: the hardware type, then the address. */
const OWN_CLIENT_ID_BYTES = 1 + mac.BYTES;

// DUIDs: RFC 8415 11.2, 11.4
const DUID_LLT = 1;
const DUID_LL = 3;
/** Type, hardware type, time. */
const DUID_LLT_BYTES = 8;
/** Type, hardware type. */
const DUID_LL_BYTES = 4;

/** Option 61 of DHCPv4, `length` bytes at `at`. */
export function isOwnClientId(
  bytes: Uint8Array,
  at: number,
  length: number,
  macHigh: number,
  macLow: number,
  allowed: readonly Uint8Array[],
): boolean {
  const isOwn =
    length === OWN_CLIENT_ID_BYTES && bytes[at] === ETHERNET && isMac(bytes, at + 1, macHigh, macLow);
  return isOwn || isAmong(bytes, at, length, allowed);
}

/** The client identifier of DHCPv6. */
export function isOwnDuid(
  bytes: Uint8Array,
  at: number,
  length: number,
  macHigh: number,
  macLow: number,
  allowed: readonly Uint8Array[],
): boolean {
  const type = length < DUID_LL_BYTES ? 0 : read16(bytes, at);
  const prefix = type === DUID_LLT ? DUID_LLT_BYTES : type === DUID_LL ? DUID_LL_BYTES : length;
  const isOwn = length === prefix + mac.BYTES && isMac(bytes, at + prefix, macHigh, macLow);
  return isOwn || isAmong(bytes, at, length, allowed);
}

function isMac(bytes: Uint8Array, at: number, high: number, low: number): boolean {
  return mac.macHigh(bytes, at) === high && mac.macLow(bytes, at) === low;
}

function isAmong(bytes: Uint8Array, at: number, length: number, allowed: readonly Uint8Array[]): boolean {
  for (const one of allowed) {
    if (one.length !== length) continue;
    let same = 0;
    while (same < length && bytes[at + same] === one[same]) same++;
    if (same === length) return true;
  }
  return false;
}
