/**
 * Frame descriptors: 16 32-bit words with the place of a frame in a slab, and facts about it.
 *
 *   word 0       1        2       3          4          5              6            7
 *   +--------+--------+-------+----------+----------+--------------+------------+-------------+
 *   | OFFSET | LENGTH | FLAGS | GSO_TYPE | GSO_SIZE | HEADER_BYTES | CSUM_START | CSUM_OFFSET |
 *   +--------+--------+-------+----------+----------+--------------+------------+-------------+
 *   |    ADDRESS (16 bytes, network order)          |     PORT     |    TOS     |   SEGMENT   | RUN_END
 *   +-----------------------------------------------+--------------+------------+-------------+
 *   word 8                                            12             13           14            15
 *
 * Words 2 to 7 are the virtio-net header of the frame (virtio 1.2, 5.1.6). The native layer (framed.h) has
 * the same layout.
 */

/** First byte of the frame in the slab. At least HEADROOM_BYTES of the slab lie before it. */
export const OFFSET = 0;
/** Bytes of the frame, Ethernet header included, without headers put before it. */
export const LENGTH = 1;
/** virtio-net flags. */
export const FLAGS = 2;
/** virtio-net segmentation type. */
export const GSO_TYPE = 3;
/** Payload bytes per segment. */
export const GSO_SIZE = 4;
/** In a superframe: bytes from its first byte to its TCP or UDP payload, as its own headers say, at most
 * LENGTH. Meaningless for other frames. */
export const HEADER_BYTES = 5;
/** Start of the checksummed bytes, counted from the frame's first byte. */
export const CSUM_START = 6;
/** Place of the checksum field, counted from CSUM_START. */
export const CSUM_OFFSET = 7;
/** Four words: underlay source address, 16 bytes in network order, IPv4 as v4-mapped (RFC 4291 2.5.5.2). */
export const ADDRESS = 8;
/** Two words of a tunnel superframe (virtio-net.ts, GSO_TUNNEL), which only a port sends: its outer UDP header and its
 * inner IP header, counted from the frame's first byte. CSUM_START is its inner TCP or UDP header. */
export const OUTER_L4 = 8;
export const INNER_L3 = 9;
/** Underlay source port. */
export const PORT = 12;
/** The same word in a frame that a port sent and that waits for an answer: marks that are needed later
 * (core/queues/pending-queue.ts). */
export const WAITING = PORT;
/** Outer traffic class, as received or as it is to be sent. */
export const TOS = 13;
/** A descriptor from a socket may be a run: frames of one flow and one size (the last may be shorter), with
 * the same header up to the IP traffic class. SEGMENT has the bytes from one frame to the next; OFFSET and
 * LENGTH are those of the first frame. 0 = a single frame. If LENGTH is 0 and GSO_SIZE is not, the datagrams
 * were dropped, since their boundaries cannot be told (udp-receive.c). */
export const SEGMENT = 14;
/** End of the last frame of a run. */
export const RUN_END = 15;
export const DESCRIPTOR_WORDS = 16;

/** Returns the number of frames in a run; 1 if the descriptor is no run. */
export function runFrames(descriptors: Int32Array, at: number): number {
  const segment = descriptors[at + SEGMENT];
  return segment === 0 ? 1 : Math.ceil((descriptors[at + RUN_END] - descriptors[at + OFFSET]) / segment);
}

/** Returns the bytes of a frame, or of all frames of a run without the bytes between them. */
export function runBytes(descriptors: Int32Array, at: number): number {
  const length = descriptors[at + LENGTH];
  const segment = descriptors[at + SEGMENT];
  if (segment === 0) return length;
  const gaps = (runFrames(descriptors, at) - 1) * (segment - length);
  return descriptors[at + RUN_END] - descriptors[at + OFFSET] - gaps;
}

/** Room before each frame: 24 bytes for the virtio-net header, and later 8 for the tunnel's header and 4 for
 * an 802.1Q tag; the rest keeps the frame 16-aligned. */
export const HEADROOM_BYTES = 32;

/** The largest frame a TAP or a datagram can hold. */
export const MAX_FRAME_BYTES = 65536;

/** Frames of one read, as bytes and as words. The caller that fills a batch owns it until all its outputs are
 * flushed. */
export interface FrameBatch {
  /** Number by which the I/O layer that made the batch knows it. */
  readonly handle: number;
  /** The slab. */
  readonly bytes: Uint8Array;
  /** The same memory as 32-bit words in host byte order, for aligned stores. */
  readonly words: Int32Array;
  /** DESCRIPTOR_WORDS words per frame. */
  readonly descriptors: Int32Array;
  readonly capacityFrames: number;
}
