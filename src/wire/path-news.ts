/**
 * News of paths, as sockets get it from ICMP: which datagram a router did not forward for its size, and the size that it
 * would have forwarded. The native half (udp-errors.c) has the same layout.
 *
 *   word 0                        4      5       6          7
 *   +-----------------------------+------+-------+----------+-------+
 *   | ADDRESS (16 bytes, network) | PORT | BYTES | QUOTED   |       |     NEWS_WORDS words, and QUOTE_BYTES of quotation
 *   +-----------------------------+------+-------+----------+-------+
 */

/** Where the datagram was going: four words, IPv4 as v4-mapped (RFC 4291 2.5.5.2). */
export const ADDRESS = 0;
/** And the UDP port. */
export const PORT = 4;
/** The size that is announced, of IP packets. NO_SIZE: ICMP said something else. */
export const BYTES = 5;
/** How much is quoted of what UDP carried, at most QUOTE_BYTES: routers need to quote no more than UDP's own header (RFC 792);
 * RFC 1812 4.3.2.3 and RFC 4443 3.2 want as much as there is room for. */
export const QUOTED = 6;
export const NEWS_WORDS = 8;

export const NO_SIZE = -1;
/** Tunnel header, Ethernet header with four tags, and IP as far as its length. */
export const QUOTE_BYTES = 64;

/** What one look at a socket brings. */
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
