/**
 * How an overlay's frames travel in UDP (`-e`): what differs from one encapsulation to the other, and nothing else does.
 *
 * One object an encapsulation, without state, for every thread. The thread that forwards calls `check`, `id` and
 * `hasReservedBits` for every datagram, so none of them allocates or throws. The native half, which looks at headers only to
 * tell datagrams apart that the kernel has put together, works by `rule`.
 */

export interface Encapsulation {
  /** The word that `-e` takes, and the prefix of its properties. */
  readonly name: EncapsulationName;
  /** As people write it. */
  readonly title: string;
  readonly defaultPort: number;
  /** The largest network id. */
  readonly maxId: number;
  /** Bytes of the header that is sent: a multiple of 4, at most the headroom of a frame (wire/descriptor.ts) less a VLAN tag. */
  readonly headerBytes: number;
  readonly rule: HeaderRule;
  /** Puts the header that is sent in front of the frames of network `id`. */
  writeHeader(bytes: Uint8Array, offset: number, id: number): void;
  /** Bytes of a received header, or a reason below zero (wire/reason.ts). */
  check(bytes: Uint8Array, offset: number, length: number): number;
  /** The network of a header that has passed `check`. */
  id(bytes: Uint8Array, offset: number): number;
  /** Whether a header that has passed `check` has bits set that its standard says to send as zero and to ignore. */
  hasReservedBits(bytes: Uint8Array, offset: number): boolean;
}

export type EncapsulationName = 'vxlan' | 'geneve';

/** Where a received header ends, and which bytes may be one. The native half (framed.h) has the same words. */
export interface HeaderRule {
  /** Bytes of the shortest header. */
  readonly baseBytes: number;
  /** Bits of its first byte that say how much longer it is, in units of `unitBytes`. */
  readonly lengthMask: number;
  readonly unitBytes: number;
  /** Its first four bytes as a number, big-endian: the bits under the mask have this value in any header without oddities;
   * the eighth byte is zero there. */
  readonly plainMask: number;
  readonly plain: number;
}

/** For the native half. */
export function ruleWords(rule: HeaderRule): Int32Array {
  return Int32Array.of(rule.baseBytes, rule.lengthMask, rule.unitBytes, rule.plainMask, rule.plain);
}
