/**
 * Cuts a superframe with very many segments into superframes with few. The segments of the parts are byte for
 * byte those of the whole (offload.c cuts either), so the code that gets a part need not know that it is one.
 *
 * Normal superframes have fewer segments. The kernel's stack sends at most 128 datagrams in one
 * (UDP_MAX_SEGMENTS), and 64 KiB are 123 segments of the smallest MSS that a path must carry, 536 bytes
 * (IPv4; 1,220 for IPv6, RFC 9293 3.7.1). So parts cost a normal sender nothing, and a sender with a smaller
 * MSS one copy.
 */
import { read16, read32, write16, write32 } from '../../wire/bytes.js';
import * as checksum from '../../wire/checksum.js';
import {
  CSUM_START,
  FLAGS,
  type FrameBatch,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  INNER_L3,
  LENGTH,
  OFFSET,
  OUTER_L4,
} from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as tcp from '../../wire/tcp.js';
import * as udp from '../../wire/udp.js';
import * as virtio from '../../wire/virtio-net.js';
import * as vlan from '../../wire/vlan.js';
import { wireFrames } from '../counts/frame-count.js';

/** Segments of one part at most. */
export const PART_SEGMENTS = 128;

/** Longest headers that offload.c cuts (MAX_HEADER_BYTES). */
const MAX_HEADER_BYTES = 512;

export interface Superframe {
  /** The bytes of this frame alone. */
  readonly bytes: Uint8Array;
  /** Its OFFSET is 0. */
  readonly descriptor: Int32Array;
}

/** Returns whether a frame has more segments than a part may have. */
export function isLong(descriptors: Int32Array, at: number): boolean {
  return descriptors[at + GSO_TYPE] !== virtio.GSO_NONE && wireFrames(descriptors, at) > PART_SEGMENTS;
}

/** Returns the number of segments if a superframe must go in parts. 0 = it goes as it is: it has few
 * segments, or it cannot be cut, which costs nothing and is reported by the socket. */
export function partsOf(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  if (!isLong(descriptors, at) || !canBeCut(bytes, descriptors, at)) return 0;
  return wireFrames(descriptors, at);
}

/** Returns whether offload.c can cut the frame: the conditions are those of cut_start. */
export function canBeCut(bytes: Uint8Array, descriptors: Int32Array, at: number): boolean {
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const outer = vlan.headerLength(bytes, frame, length);
  if (outer < 0 || outer + ipv4.HEADER_BYTES > length) return false;
  const etherType = read16(bytes, frame + outer - 2);
  if (etherType !== ethernet.IPV4 && etherType !== ethernet.IPV6) return false;
  const isTunnel = (descriptors[at + GSO_TYPE] & virtio.GSO_TUNNEL) !== 0;
  if (isTunnel && !isCuttableTunnel(descriptors, at, outer, etherType)) return false;
  const network = isTunnel ? descriptors[at + INNER_L3] : outer;
  // Not every tunnel has an Ethernet header inside.
  const isV4 = isTunnel ? bytes[frame + network] >> 4 === 4 : etherType === ethernet.IPV4;
  if (isTunnel && !isV4 && bytes[frame + network] >> 4 !== 6) return false;
  const type = descriptors[at + GSO_TYPE] & ~(virtio.GSO_ECN | virtio.GSO_TUNNEL);
  const isUdp = type === virtio.GSO_UDP_L4;
  if (!isUdp && type !== (isV4 ? virtio.GSO_TCPV4 : virtio.GSO_TCPV6)) return false;
  const transport = descriptors[at + CSUM_START];
  const leastBytes = isUdp ? udp.HEADER_BYTES : tcp.HEADER_BYTES;
  const header = descriptors[at + HEADER_BYTES];
  return (
    transport >= network + (isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES) &&
    transport + leastBytes <= length &&
    header >= transport + leastBytes &&
    header <= MAX_HEADER_BYTES
  );
}

/** The conditions of cut_tunnel (offload.c). The outer IP header is at `network`. */
function isCuttableTunnel(descriptors: Int32Array, at: number, network: number, etherType: number): boolean {
  const isV4 = (descriptors[at + GSO_TYPE] & virtio.GSO_TUNNEL) === virtio.GSO_TUNNEL_V4;
  const isV6 = (descriptors[at + GSO_TYPE] & virtio.GSO_TUNNEL) === virtio.GSO_TUNNEL_V6;
  if (isV4 ? etherType !== ethernet.IPV4 : !isV6 || etherType !== ethernet.IPV6) return false;
  const transport = descriptors[at + OUTER_L4];
  const inner = descriptors[at + INNER_L3];
  return (
    transport >= network + (isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES) &&
    inner >= transport + udp.HEADER_BYTES &&
    inner + ipv4.HEADER_BYTES <= descriptors[at + LENGTH] &&
    (descriptors[at + CSUM_START] - transport) % 2 === 0
  );
}

/** Writes the segments from `first` on, `segments` of them or the rest, as a superframe. The descriptor at
 * `at` is a copy of the whole superframe's; the part is written to its OFFSET. */
export function writePart(
  { bytes: whole, descriptor }: Superframe,
  first: number,
  batch: Pick<FrameBatch, 'bytes' | 'descriptors'>,
  at: number,
  segments = PART_SEGMENTS,
): void {
  const { bytes, descriptors } = batch;
  const frame = descriptors[at + OFFSET];
  const header = descriptor[HEADER_BYTES];
  const segmentBytes = descriptor[GSO_SIZE];
  const start = header + first * segmentBytes;
  const end = Math.min(start + segments * segmentBytes, whole.length);
  bytes.set(whole.subarray(0, header), frame);
  bytes.set(whole.subarray(start, end), frame + header);
  descriptors[at + LENGTH] = header + end - start;

  const partEnd = frame + descriptors[at + LENGTH];
  const transport = frame + descriptor[CSUM_START];
  const outer = frame + vlan.headerLength(bytes, frame, descriptors[at + LENGTH]);
  const isTunnel = (descriptor[GSO_TYPE] & virtio.GSO_TUNNEL) !== 0;
  fixNetwork(bytes, isTunnel ? frame + descriptor[INNER_L3] : outer, transport, partEnd, first);
  if (isTunnel) {
    const outerTransport = frame + descriptor[OUTER_L4];
    fixNetwork(bytes, outer, outerTransport, partEnd, first);
    write16(bytes, outerTransport + udp.LENGTH, partEnd - outerTransport);
    if (descriptor[FLAGS] & virtio.TUNNEL_CHECKSUM)
      fixPartial(
        bytes,
        outerTransport + udp.CHECKSUM,
        whole.length - descriptor[OUTER_L4],
        partEnd - outerTransport,
      );
  }
  const isUdp = (descriptor[GSO_TYPE] & ~(virtio.GSO_ECN | virtio.GSO_TUNNEL)) === virtio.GSO_UDP_L4;
  if (isUdp) {
    write16(bytes, transport + udp.LENGTH, partEnd - transport);
  } else {
    write32(bytes, transport + tcp.SEQUENCE, read32(bytes, transport + tcp.SEQUENCE) + first * segmentBytes);
    if (end < whole.length) bytes[transport + tcp.FLAGS] &= ~(tcp.FIN | tcp.PSH);
    // RFC 3168 6.1.2: on the first data packet only
    if (first > 0) {
      bytes[transport + tcp.FLAGS] &= ~tcp.CWR;
      descriptors[at + GSO_TYPE] &= ~virtio.GSO_ECN;
    }
  }
  const field = transport + (isUdp ? udp.CHECKSUM : tcp.CHECKSUM);
  fixPartial(bytes, field, whole.length - descriptor[CSUM_START], partEnd - transport);
}

/** Changes the length in a checksum field with the sum of a pseudo-header. */
function fixPartial(bytes: Uint8Array, field: number, wholeBytes: number, partBytes: number): void {
  const without = checksum.fold(read16(bytes, field) + (~wholeBytes & 0xffff));
  write16(bytes, field, checksum.fold(without + partBytes));
}

/** Length, id and checksum of an IP header of a part that ends at `end`. */
function fixNetwork(bytes: Uint8Array, ip: number, transport: number, end: number, first: number): void {
  const packetBytes = end - ip;
  if (bytes[ip] >> 4 === 6) {
    write16(bytes, ip + ipv6.PAYLOAD_LENGTH, packetBytes - ipv6.HEADER_BYTES);
    return;
  }
  write16(bytes, ip + ipv4.TOTAL_LENGTH, packetBytes);
  write16(bytes, ip + ipv4.IDENTIFICATION, read16(bytes, ip + ipv4.IDENTIFICATION) + first); // RFC 6864
  checksum.fill(bytes, ip, transport - ip, ipv4.CHECKSUM, 0);
}
