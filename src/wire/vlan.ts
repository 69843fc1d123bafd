//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +-----+-+-----------------------+-------------------------------+
// | PCP |D|          VID          |    EtherType of what follows  |     (IEEE 802.1Q-2018 9.6)
// +-----+-+-----------------------+-------------------------------+
//
// One tag, after an EtherType that `isTagType` knows. The EtherType of the payload is always in the two bytes
// before it, after any number of tags. So `headerLength` is enough to skip all tags: the EtherType is at its
// end - 2.

import { read16, write16 } from './bytes.js';
import * as ethernet from './ethernet.js';
import { TOO_DEEP, TRUNCATED } from './reason.js';

const TAG_CONTROL = 0;
const ETHER_TYPE = 2;
export const HEADER_BYTES = 4;

export const CUSTOMER_TAG = 0x8100; // IEEE 802.1Q-2018 table 9-1, C-TAG
export const SERVICE_TAG = 0x88a8; // IEEE 802.1Q-2018 table 9-1, S-TAG
export const OLD_SERVICE_TAG = 0x9100; // QinQ before 802.1ad; in no standard, still in use

/**
 * Two tags are QinQ, and three are rare. With this bound a frame of nothing but tags costs no more than any
 * other.
 */
export const MAX_TAGS = 4;

export function isTagType(etherType: number): boolean {
  return etherType === CUSTOMER_TAG || etherType === SERVICE_TAG || etherType === OLD_SERVICE_TAG;
}

export function check(_bytes: Uint8Array, _offset: number, length: number): number {
  return length < HEADER_BYTES ? TRUNCATED : HEADER_BYTES;
}

export function priority(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TAG_CONTROL] >> 5;
}

export function isDropEligible(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset + TAG_CONTROL] & 0x10) !== 0;
}

export function vlanId(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + TAG_CONTROL) & 0x0fff;
}

export function etherType(bytes: Uint8Array, offset: number): number {
  return read16(bytes, offset + ETHER_TYPE);
}

/** Returns whether the Ethernet header at `frame`, checked, is followed by a tag. */
export function isTagged(bytes: Uint8Array, frame: number): boolean {
  return isTagType(ethernet.etherType(bytes, frame));
}

/** Checks a frame up to its payload. Returns the bytes of its Ethernet header and all its tags, or a
 * reason. */
export function headerLength(bytes: Uint8Array, frame: number, length: number): number {
  let end = ethernet.check(bytes, frame, length);
  if (end < 0) return end;
  for (let tags = 0; isTagType(read16(bytes, frame + end - 2)); tags++) {
    if (tags === MAX_TAGS) return TOO_DEEP;
    if (check(bytes, frame + end, length - end) < 0) return TRUNCATED;
    end += HEADER_BYTES;
  }
  return end;
}

export interface Repr {
  readonly priority: number;
  readonly dropEligible: boolean;
  readonly vlanId: number;
  readonly etherType: number;
}

export function parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined {
  if (check(bytes, offset, length) < 0) return undefined;
  return {
    priority: priority(bytes, offset),
    dropEligible: isDropEligible(bytes, offset),
    vlanId: vlanId(bytes, offset),
    etherType: etherType(bytes, offset),
  };
}

export function byteLength(): number {
  return HEADER_BYTES;
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const control = (repr.priority << 13) | (repr.dropEligible ? 0x1000 : 0) | repr.vlanId;
  write16(bytes, offset + TAG_CONTROL, control);
  write16(bytes, offset + ETHER_TYPE, repr.etherType);
  return HEADER_BYTES;
}
