/**
 * Cuts a superframe with very many segments into superframes with few. The segments of the parts are byte for
 * byte those of the whole (offload.c cuts either), so the code that gets a part need not know that it is one.
 *
 * Normal superframes have fewer segments. The kernel's stack sends at most 128 datagrams in one
 * (UDP_MAX_SEGMENTS), and 64 KiB are 123 segments of the smallest MSS that a path must carry, 536 bytes
 * (IPv4; 1,220 for IPv6, RFC 9293 3.7.1). So parts cost a normal sender nothing, and a sender with a smaller
 * MSS one copy.
 */
import { read16, read32, write16, write32 } from '../wire/bytes.js';
import * as checksum from '../wire/checksum.js';
import {
  CSUM_START,
  type FrameBatch,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  LENGTH,
  OFFSET,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import { wireFrames } from './frame-count.js';

/** Segments of one part at most. */
export const PART_SEGMENTS = 128;

/** Longest headers that offload.c cuts (MAX_HEADER_BYTES). */
const MAX_HEADER_BYTES = 240;

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
  const network = vlan.headerLength(bytes, frame, length);
  if (network < 0 || network + ipv4.HEADER_BYTES > length) return false;
  const etherType = read16(bytes, frame + network - 2);
  const isV4 = etherType === ethernet.IPV4;
  if (!isV4 && etherType !== ethernet.IPV6) return false;
  const type = descriptors[at + GSO_TYPE] & ~virtio.GSO_ECN;
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

  const transport = frame + descriptor[CSUM_START];
  const wholeBytes = whole.length - descriptor[CSUM_START];
  const partBytes = wholeBytes - whole.length + header + end - start;
  fixNetwork(bytes, frame, descriptors[at + LENGTH], transport, first);
  const isUdp = (descriptor[GSO_TYPE] & ~virtio.GSO_ECN) === virtio.GSO_UDP_L4;
  if (isUdp) {
    write16(bytes, transport + udp.LENGTH, partBytes);
  } else {
    write32(bytes, transport + tcp.SEQUENCE, read32(bytes, transport + tcp.SEQUENCE) + first * segmentBytes);
    if (end < whole.length) bytes[transport + tcp.FLAGS] &= ~(tcp.FIN | tcp.PSH);
    // RFC 3168 6.1.2: on the first data packet only
    if (first > 0) {
      bytes[transport + tcp.FLAGS] &= ~tcp.CWR;
      descriptors[at + GSO_TYPE] &= ~virtio.GSO_ECN;
    }
  }
  // The field has the sum of the pseudo-header, which includes the length.
  const field = transport + (isUdp ? udp.CHECKSUM : tcp.CHECKSUM);
  const without = checksum.fold(read16(bytes, field) + (~wholeBytes & 0xffff));
  write16(bytes, field, checksum.fold(without + partBytes));
}

/** Length, id and checksum of the IP header of a part. */
function fixNetwork(
  bytes: Uint8Array,
  frame: number,
  length: number,
  transport: number,
  first: number,
): void {
  const ip = frame + vlan.headerLength(bytes, frame, length);
  const packetBytes = frame + length - ip;
  if (read16(bytes, ip - 2) !== ethernet.IPV4) {
    write16(bytes, ip + ipv6.PAYLOAD_LENGTH, packetBytes - ipv6.HEADER_BYTES);
    return;
  }
  write16(bytes, ip + ipv4.TOTAL_LENGTH, packetBytes);
  write16(bytes, ip + ipv4.IDENTIFICATION, read16(bytes, ip + ipv4.IDENTIFICATION) + first); // RFC 6864
  checksum.fill(bytes, ip, transport - ip, ipv4.CHECKSUM, 0);
}
