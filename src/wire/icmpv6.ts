//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------+---------------+-------------------------------+
// |     Type      |     Code      |           Checksum            |
// +---------------+---------------+-------------------------------+
// |      One word by type: identifier and sequence, MTU, ...      |     (RFC 4443 2.1, 3.2, 4.1)
// +---------------------------------------------------------------+
//
// The header is the same as ICMP's. The types differ, and the checksum covers a pseudo-header (RFC 4443 2.3).

import * as checksums from './checksum.js';
import { CHECKSUM, type } from './icmp.js';
import { ICMPV6 } from './ipv6.js';

export {
  CHECKSUM,
  HEADER_BYTES,
  byteLength,
  check,
  code,
  identifier,
  parse,
  sequence,
  type,
  word,
  write,
  type Repr,
} from './icmp.js';

export const UNREACHABLE = 1; // RFC 4443 3.1
export const PACKET_TOO_BIG = 2; // RFC 4443 3.2
export const TIME_EXCEEDED = 3; // RFC 4443 3.3
export const PARAMETER_PROBLEM = 4; // RFC 4443 3.4
export const ECHO_REQUEST = 128; // RFC 4443 4.1
export const ECHO_REPLY = 129; // RFC 4443 4.2
export const ROUTER_SOLICITATION = 133; // RFC 4861 4.1
export const ROUTER_ADVERTISEMENT = 134; // RFC 4861 4.2
export const NEIGHBOR_SOLICITATION = 135; // RFC 4861 4.3
export const NEIGHBOR_ADVERTISEMENT = 136; // RFC 4861 4.4
export const REDIRECT = 137; // RFC 4861 4.5
const ROUTER_RENUMBERING = 138; // RFC 2894 3
export const INVERSE_SOLICITATION = 141; // RFC 3122 2.1
export const INVERSE_ADVERTISEMENT = 142; // RFC 3122 2.2
const CERTIFICATION_PATH_ADVERTISEMENT = 149; // RFC 3971 6.4.2
const MULTICAST_ROUTER_ADVERTISEMENT = 151; // RFC 4286
const MULTICAST_ROUTER_TERMINATION = 153; // RFC 4286
const FAST_HANDOVER = 154; // RFC 5568 6.1

/** Returns whether this is an error message or a redirect; no error message may be sent about either (RFC
 * 4443 2.1, 2.4 (e)). */
export function isError(bytes: Uint8Array, offset: number): boolean {
  return type(bytes, offset) < ECHO_REQUEST || type(bytes, offset) === REDIRECT;
}

/** Returns whether only routers send such a message. Solicitations are not among them: every host sends
 * those. */
export function isRouterMessage(bytes: Uint8Array, offset: number): boolean {
  switch (type(bytes, offset)) {
    case ROUTER_ADVERTISEMENT:
    case REDIRECT:
    case ROUTER_RENUMBERING:
    case CERTIFICATION_PATH_ADVERTISEMENT:
    case MULTICAST_ROUTER_ADVERTISEMENT:
    case MULTICAST_ROUTER_TERMINATION:
    case FAST_HANDOVER:
      return true;
    default:
      return false;
  }
}

/** `ip`: offset of the IPv6 header. `length`: bytes of the whole message. */
export function verifyChecksum(bytes: Uint8Array, ip: number, offset: number, length: number): boolean {
  return checksums.verify(bytes, offset, length, checksums.pseudoV6(bytes, ip, ICMPV6, length));
}

export function fillChecksum(bytes: Uint8Array, ip: number, offset: number, length: number): void {
  checksums.fill(bytes, offset, length, CHECKSUM, checksums.pseudoV6(bytes, ip, ICMPV6, length));
}
