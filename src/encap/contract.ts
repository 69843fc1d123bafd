/**
 * The contract of an encapsulation (`-e`), the form in which an overlay's frames travel in UDP. It has
 * everything that differs between encapsulations.
 *
 * An encapsulation is one stateless object that all threads use. A datapath thread calls `check`, `id` and
 * `hasReservedBits` for every datagram, so none of them allocates or throws. The native layer reads headers
 * only to separate datagrams that the kernel has put together; it uses `rule`.
 */

export interface Encapsulation {
  /** The word that `-e` takes, and the prefix of its properties. */
  readonly name: EncapsulationName;
  /** The name as people write it. */
  readonly title: string;
  readonly defaultPort: number;
  /** The largest network id. */
  readonly maxId: number;
  /** Bytes of the header that is sent: a multiple of 4, at most the headroom of a frame (wire/descriptor.ts)
   * less a VLAN tag. */
  readonly headerBytes: number;
  readonly rule: HeaderRule;
  /** Writes the header that goes before the frames of network `id`. */
  writeHeader(bytes: Uint8Array, offset: number, id: number): void;
  /** Returns the bytes of a received header, or a reason below zero (wire/reason.ts). */
  check(bytes: Uint8Array, offset: number, length: number): number;
  /** Returns the network id of a header that has passed `check`. */
  id(bytes: Uint8Array, offset: number): number;
  /** Returns whether a header that has passed `check` has bits set that its standard wants sent as zero and
   * ignored on receipt. */
  hasReservedBits(bytes: Uint8Array, offset: number): boolean;
}

export type EncapsulationName = 'vxlan' | 'geneve';

/** Rule for the end of a received header, and for bytes that may be one. The native layer (framed.h) has the
 * same words. */
export interface HeaderRule {
  /** Bytes of the shortest header. */
  readonly baseBytes: number;
  /** Bits of the first byte that say how much longer the header is, in units of `unitBytes`. */
  readonly lengthMask: number;
  readonly unitBytes: number;
  /** For the first four bytes as a big-endian number: in any ordinary header the bits under the mask have
   * this value, and the eighth byte is zero. */
  readonly plainMask: number;
  readonly plain: number;
}

/** Returns the rule in the form that the native layer takes. */
export function ruleWords(rule: HeaderRule): Int32Array {
  return Int32Array.of(rule.baseBytes, rule.lengthMask, rule.unitBytes, rule.plainMask, rule.plain);
}
