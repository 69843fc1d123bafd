//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+-----------------------------------------------+
// | Message type  |                Transaction id                 |     (RFC 8415 8; relays differ, 9)
// +---------------+---------------+-------------------------------+
// |          Option code          |         Option length         |
// +-------------------------------+-------------------------------+
// |  value ...                                                          (RFC 8415 21.1)
// +---------------------------------------------------------------+
//
// Messages are read, never written. `check` walks the options once; after it no walk over them can leave the
// message.

import { read16, read32 } from './bytes.js';
import { BAD_OPTION, BAD_VALUE, TRUNCATED } from './reason.js';

export const HEADER_BYTES = 4;
const OPTION_BYTES = 4;

export const CLIENT_PORT = 546; // RFC 8415 7.2
export const SERVER_PORT = 547; // RFC 8415 7.2

// Message types: RFC 8415 7.3
export const SOLICIT = 1;
export const REQUEST = 3;
export const RENEW = 5;
export const REBIND = 6;
export const REPLY = 7;
export const RELEASE = 8;
export const DECLINE = 9;
const ADVERTISE = 2;
const RECONFIGURE = 10;
const INFORMATION_REQUEST = 11;

// Options: RFC 8415 21.2, 21.4, 21.5, 21.6
export const CLIENT_ID = 1;
export const IA_NA = 3;
export const IA_TA = 4;
export const IA_ADDRESS = 5;

// Options that only relays add
const RELAY_MESSAGE = 9; // RFC 8415 21.10
const INTERFACE_ID = 18; // RFC 8415 21.18
const REMOTE_ID = 37; // RFC 4649 3
const SUBSCRIBER_ID = 38; // RFC 4580 2
const RELAY_ID = 53; // RFC 5460 5.4.1
const RELAY_SUPPLIED_OPTIONS = 66; // RFC 6422
const CLIENT_LINK_LAYER = 79; // RFC 6939 4
const RELAY_PORT = 135; // RFC 8357

/** Bytes of an identity association before its options: IAID, T1, T2. */
const IA_NA_BYTES = 12;
/** The same for temporary addresses: IAID alone. */
const IA_TA_BYTES = 4;
/** Address, preferred lifetime, valid lifetime. */
const IA_ADDRESS_BYTES = 24;
const VALID_LIFETIME = 20;

/** Accepts the message types of clients and servers, if every option ends within the message. */
export function check(bytes: Uint8Array, offset: number, length: number): number {
  if (length < HEADER_BYTES) return TRUNCATED;
  const type = messageType(bytes, offset);
  if (type < SOLICIT || type > INFORMATION_REQUEST) return BAD_VALUE;
  return areWhole(bytes, offset + HEADER_BYTES, offset + length) ? HEADER_BYTES : BAD_OPTION;
}

function areWhole(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + OPTION_BYTES <= end) at += OPTION_BYTES + optionLength(bytes, at);
  return at === end;
}

export function messageType(bytes: Uint8Array, offset: number): number {
  return bytes[offset];
}

/** Returns whether only servers and relays send messages of this type. */
export function isFromServer(type: number): boolean {
  return type === ADVERTISE || type === REPLY || type === RECONFIGURE || type > INFORMATION_REQUEST;
}

/** 24 bits. */
export function transactionId(bytes: Uint8Array, offset: number): number {
  return read32(bytes, offset) & 0xff_ffff;
}

export function optionLength(bytes: Uint8Array, option: number): number {
  return read16(bytes, option + 2);
}

/** Returns where the value of an option begins. */
export function value(option: number): number {
  return option + OPTION_BYTES;
}

/** Returns where an option of a checked message begins; 0 if it has none of this kind, BAD_OPTION if it has
 * several. */
export function findOption(bytes: Uint8Array, offset: number, length: number, code: number): number {
  let found = 0;
  const end = offset + length;
  for (let at = offset + HEADER_BYTES; at < end; at = value(at) + optionLength(bytes, at)) {
    if (read16(bytes, at) !== code) continue;
    if (found !== 0) return BAD_OPTION;
    found = at;
  }
  return found;
}

/** Returns whether a checked message has an option that only relays add. */
export function hasRelayOption(bytes: Uint8Array, offset: number, length: number): boolean {
  const end = offset + length;
  for (let at = offset + HEADER_BYTES; at < end; at = value(at) + optionLength(bytes, at)) {
    switch (read16(bytes, at)) {
      case RELAY_MESSAGE:
      case INTERFACE_ID:
      case REMOTE_ID:
      case SUBSCRIBER_ID:
      case RELAY_ID:
      case RELAY_SUPPLIED_OPTIONS:
      case CLIENT_LINK_LAYER:
      case RELAY_PORT:
        return true;
    }
  }
  return false;
}

/** Visits the addresses of a checked message, in all its identity associations, with their valid
 * lifetimes. */
export function forEachAddress(
  bytes: Uint8Array,
  offset: number,
  length: number,
  visit: (address: number, validS: number) => void,
): void {
  const end = offset + length;
  for (let at = offset + HEADER_BYTES; at < end; at = value(at) + optionLength(bytes, at)) {
    const code = read16(bytes, at);
    const fixed = code === IA_NA ? IA_NA_BYTES : IA_TA_BYTES;
    if (code !== IA_NA && code !== IA_TA) continue;
    visitAddresses(bytes, value(at) + fixed, value(at) + optionLength(bytes, at), visit);
  }
}

function visitAddresses(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (address: number, validS: number) => void,
): void {
  if (!areWhole(bytes, start, end)) return;
  for (let at = start; at < end; at = value(at) + optionLength(bytes, at)) {
    if (read16(bytes, at) !== IA_ADDRESS || optionLength(bytes, at) < IA_ADDRESS_BYTES) continue;
    visit(value(at), read32(bytes, value(at) + VALID_LIFETIME));
  }
}
