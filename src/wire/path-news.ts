/**
 * News of paths, which a socket receives through ICMP: a datagram that a router did not forward because of
 * its size, and the size that it would have forwarded; or that its destination cannot be reached. The
 * native layer (udp-errors.c) has the same layout.
 *
 *   word 0                        4      5       6          7      8
 *   +-----------------------------+------+-------+----------+------+----------------------------+
 *   | ADDRESS (16 bytes, network) | PORT | BYTES | QUOTED   | KIND | SENDER (16 bytes, network) |
 *   +-----------------------------+------+-------+----------+------+----------------------------+
 *   NEWS_WORDS words, and QUOTE_BYTES of quotation
 */

/** Destination of the datagram: four words, IPv4 as v4-mapped (RFC 4291 2.5.5.2). */
export const ADDRESS = 0;
/** UDP port of the destination. */
export const PORT = 4;
/** The reported size, in bytes of IP packet. NO_SIZE: the ICMP message has another subject. */
export const BYTES = 5;
/** Bytes of the UDP payload that are quoted, at most QUOTE_BYTES. A router need quote no more than UDP's own
 * header (RFC 792); RFC 1812 4.3.2.3 and RFC 4443 3.2 want as much as there is room for. */
export const QUOTED = 6;
/** Why a destination cannot be reached: type and code of the message, and IS_V6 for ICMPv6. 0: the message
 * has another subject. */
export const KIND = 7;
/** The host that sent the message, as ADDRESS. Zero if it is not known. */
export const SENDER = 8;
export const NEWS_WORDS = 12;

export const NO_KIND = 0;
export const IS_V6 = 0x1_0000;

export const NO_SIZE = -1;
/** Enough for the tunnel header, the Ethernet header with four tags, and IP up to its length. */
export const QUOTE_BYTES = 64;

/** The news that one read of a socket returns. */
export interface PathNews {
  readonly words: Int32Array;
  readonly quotes: Uint8Array;
  readonly capacity: number;
}

export function createPathNews(capacity: number): PathNews {
  return {
    words: new Int32Array(capacity * NEWS_WORDS),
    quotes: new Uint8Array(capacity * QUOTE_BYTES),
    capacity,
  };
}
