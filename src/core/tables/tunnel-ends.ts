/**
 * The ends of UDP tunnels that the stack behind a port has: a vxlan of the kernel over the port, for example. Frames to such
 * an end may be written as a superframe inside the tunnel (tap.c, NESTED). A program that reads datagrams from a socket of
 * its own would take such a superframe for one datagram, so the end must be known to be the kernel's.
 *
 * The kernel shows it by itself: only its tunnels leave the checksum of an inner packet to the device, and the virtio-net
 * header of such a frame points behind the outer UDP header (CSUM_START). The kernel's tunnels receive at the UDP port that
 * they send to. Each such frame is evidence for its source address and that port, for a while: TCP acknowledges all the time.
 */
import { read16, read32 } from '../../wire/bytes.js';
import { CSUM_START, FLAGS, LENGTH, OFFSET } from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as udp from '../../wire/udp.js';
import * as virtio from '../../wire/virtio-net.js';
import * as vlan from '../../wire/vlan.js';
import { TICK_MS } from './ticks.js';

/** IPv4 and UDP headers, 8 bytes of a tunnel header and an IPv4 header: CSUM_START of a nested frame is behind them. */
const LEAST_BYTES = ipv4.HEADER_BYTES + udp.HEADER_BYTES + 8 + ipv4.HEADER_BYTES;
/** Ends of a port at most. A host has one or two; of more, behind a bridge, the one heard longest ago is forgotten. */
const MAX_ENDS = 16;
/** Evidence counts for so long. A connection that is in use is acknowledged more often. */
const LIFE_TICKS = 10_000 / TICK_MS;

/** An address in four words, a UDP port, the tick of the last evidence. */
const END_WORDS = 6;
const PORT = 4;
const HEARD = 5;
const NONE = -1;

export class TunnelEnds {
  readonly #ends = new Int32Array(MAX_ENDS * END_WORDS);
  /** The ends in use. */
  #count = 0;
  /** Address and UDP port of the frame that is looked at. */
  readonly #key = new Int32Array(HEARD);

  /** Learns from a frame that the port sends. `header`: bytes of its Ethernet header, tags included. */
  sent(bytes: Uint8Array, descriptors: Int32Array, at: number, header: number, nowTick: number): void {
    const start = descriptors[at + CSUM_START];
    if (start - header < LEAST_BYTES || (descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) === 0) return;
    const frame = descriptors[at + OFFSET];
    const transport = this.#read(bytes, frame + header, descriptors[at + LENGTH] - header, true);
    if (transport === NONE || frame + start < transport + udp.HEADER_BYTES) return;
    let index = this.#find();
    if (index === NONE) index = this.#count < MAX_ENDS ? this.#count++ : this.#oldest(nowTick);
    this.#ends.set(this.#key, index * END_WORDS);
    this.#ends[index * END_WORDS + HEARD] = nowTick;
  }

  /** Returns whether a frame, or the first one of a run, is for an end of a tunnel. */
  isEnd(bytes: Uint8Array, descriptors: Int32Array, at: number, nowTick: number): boolean {
    if (this.#count === 0) return false;
    const frame = descriptors[at + OFFSET];
    const length = descriptors[at + LENGTH];
    const header = vlan.headerLength(bytes, frame, length);
    if (header < 0 || this.#read(bytes, frame + header, length - header, false) === NONE) return false;
    const index = this.#find();
    if (index === NONE) return false;
    const ago = (nowTick - this.#ends[index * END_WORDS + HEARD]) | 0;
    return ago >= 0 && ago <= LIFE_TICKS;
  }

  /** Reads the source or the destination address, and the destination port, of a UDP packet. Returns where its UDP header
   * is; NONE if the packet is another one. */
  #read(bytes: Uint8Array, ip: number, length: number, isSource: boolean): number {
    const etherType = read16(bytes, ip - 2);
    let transport: number;
    if (etherType === ethernet.IPV4) {
      const header = ipv4.check(bytes, ip, length);
      if (header < 0 || ipv4.isFragment(bytes, ip) || ipv4.protocol(bytes, ip) !== ipv4.UDP) return NONE;
      transport = ip + header;
      this.#key.fill(0, 0, 3);
      this.#key[3] = read32(bytes, ip + (isSource ? ipv4.SOURCE : ipv4.DESTINATION));
    } else if (etherType === ethernet.IPV6) {
      if (ipv6.check(bytes, ip, length) < 0) return NONE;
      const found = ipv6.transport(bytes, ip);
      if (found < 0 || ipv6.isFragment(found) || ipv6.transportProtocol(found) !== ipv4.UDP) return NONE;
      transport = ip + ipv6.transportOffset(found);
      const address = ip + (isSource ? ipv6.SOURCE : ipv6.DESTINATION);
      for (let word = 0; word < 4; word++) this.#key[word] = read32(bytes, address + 4 * word);
    } else {
      return NONE;
    }
    if (udp.check(bytes, transport, ip + length - transport) < 0) return NONE;
    this.#key[PORT] = udp.destinationPort(bytes, transport);
    return transport;
  }

  #find(): number {
    const ends = this.#ends;
    const key = this.#key;
    for (let index = 0; index < this.#count; index++) {
      const end = index * END_WORDS;
      let word = 0;
      while (word < HEARD && ends[end + word] === key[word]) word++;
      if (word === HEARD) return index;
    }
    return NONE;
  }

  #oldest(nowTick: number): number {
    let oldest = 0;
    for (let index = 1; index < MAX_ENDS; index++) {
      const ago = (nowTick - this.#ends[index * END_WORDS + HEARD]) | 0;
      if (ago > ((nowTick - this.#ends[oldest * END_WORDS + HEARD]) | 0)) oldest = index;
    }
    return oldest;
  }
}
