/**
 * Frame descriptors: 16 32-bit words that say where a frame lies in a slab and what is known of it.
 *
 *   word 0       1        2       3          4          5              6            7
 *   +--------+--------+-------+----------+----------+--------------+------------+-------------+
 *   | OFFSET | LENGTH | FLAGS | GSO_TYPE | GSO_SIZE | HEADER_BYTES | CSUM_START | CSUM_OFFSET |
 *   +--------+--------+-------+----------+----------+--------------+------------+-------------+
 *   |    ADDRESS (16 bytes, network order)          |     PORT     |    TOS     |   SEGMENT   | RUN_END
 *   +-----------------------------------------------+--------------+------------+-------------+
 *   word 8                                            12             13           14            15
 *
 * Words 2 to 7 are the virtio-net header of the frame (virtio 1.2, 5.1.6). The native half (framed.h) has
 * the same layout.
 */

/** First byte of the frame in the slab. At least HEADROOM_BYTES of the slab lie before it. */
export const OFFSET = 0;
/** Bytes of the frame, Ethernet header included, headers put before it not. */
export const LENGTH = 1;
/** virtio-net flags. */
export const FLAGS = 2;
/** virtio-net segmentation type. */
export const GSO_TYPE = 3;
/** Payload bytes a segment. */
export const GSO_SIZE = 4;
/** Of a superframe: from its first byte to its TCP or UDP payload, as its own headers say, at most LENGTH. Of other frames it
 * says nothing. */
export const HEADER_BYTES = 5;
/** Where the checksum starts, counted from the frame's first byte. */
export const CSUM_START = 6;
/** Where the checksum field lies, counted from CSUM_START. */
export const CSUM_OFFSET = 7;
/** Four words: underlay source address, 16 bytes in network order, IPv4 as v4-mapped (RFC 4291 2.5.5.2). */
export const ADDRESS = 8;
/** Underlay source port. */
export const PORT = 12;
/** The same word, of a frame that a port sent and that waits for an answer: what is to be known of it then. */
export const WAITING = PORT;
/** Outer traffic class: as received, or to be sent. */
export const TOS = 13;
/** Out of a socket, a descriptor may be a run: frames of one flow, one size (the last may be shorter) and one header up
 * to the IP traffic class. Bytes from one to the next; OFFSET and LENGTH are the first one's. 0 = a single frame. With no
 * LENGTH, but a GSO_SIZE: datagrams that were dropped, since nobody can tell where they end (udp-receive.c). */
export const SEGMENT = 14;
/** Offset behind the last frame of a run. */
export const RUN_END = 15;
export const DESCRIPTOR_WORDS = 16;

/** Frames in a run; 1 where it is none. */
export function runFrames(descriptors: Int32Array, at: number): number {
  const segment = descriptors[at + SEGMENT];
  return segment === 0 ? 1 : Math.ceil((descriptors[at + RUN_END] - descriptors[at + OFFSET]) / segment);
}

/** Bytes of a frame, or of all frames of a run without what lies between them. */
export function runBytes(descriptors: Int32Array, at: number): number {
  const length = descriptors[at + LENGTH];
  const segment = descriptors[at + SEGMENT];
  if (segment === 0) return length;
  const gaps = (runFrames(descriptors, at) - 1) * (segment - length);
  return descriptors[at + RUN_END] - descriptors[at + OFFSET] - gaps;
}

/** Room before each frame: 8 bytes of the tunnel's header, 4 of an 802.1Q tag, the rest keeps the frame 16-aligned. */
export const HEADROOM_BYTES = 16;

/** The largest frame a TAP or a datagram can hold. */
export const MAX_FRAME_BYTES = 65536;

/** Frames of one read, seen as bytes and as words. Whoever fills it owns it until all its outputs are flushed. */
export interface FrameBatch {
  /** What the I/O layer that made it knows it by. */
  readonly handle: number;
  /** The slab. */
  readonly bytes: Uint8Array;
  /** The same memory as 32-bit words in host byte order, for aligned stores. */
  readonly words: Int32Array;
  /** DESCRIPTOR_WORDS a frame. */
  readonly descriptors: Int32Array;
  readonly capacityFrames: number;
}
