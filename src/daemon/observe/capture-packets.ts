/**
 * The packets that are written for a captured frame: one, or those that a superframe becomes, with or without the outer headers.
 *
 * The sockets do not see the outer IP and UDP headers. They are rebuilt from what is known: addresses, ports, traffic class and
 * lengths are as on the underlay. The time to live is 64, the identification 0, don't-fragment is set, and the checksum is that
 * of the bytes, whether or not there was one.
 */
import { canBeCut, writePart } from '../../core/queues/superframe-part.js';
import type { CapturedFrame } from '../../datapath/contract.js';
import {
  CSUM_OFFSET,
  CSUM_START,
  FLAGS,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  INNER_L3,
  LENGTH,
  OFFSET,
  OUTER_L4,
} from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import { type Endpoint, formatEndpoint, isV4 } from '../../wire/ip.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import { LINK_TYPE_ETHERNET, LINK_TYPE_RAW, type Packet } from '../../wire/pcapng.js';
import * as udp from '../../wire/udp.js';
import {
  completeChecksum,
  GSO_NONE,
  GSO_TUNNEL,
  NEEDS_CHECKSUM,
  TUNNEL_CHECKSUM,
} from '../../wire/virtio-net.js';
import * as vlan from '../../wire/vlan.js';

export interface PacketOptions {
  /** A superframe is written as the packets that it becomes, and all with the checksums that they get. */
  readonly isCut: boolean;
  /** A frame of the tunnel is written with its outer headers. */
  readonly isOuter: boolean;
  /** Bytes of each packet. */
  readonly snapBytes: number;
}

export interface WrittenPacket extends Omit<Packet, 'kind' | 'interfaceId'> {
  readonly linkType: number;
}

/** The value that Linux sends (net.ipv4.ip_default_ttl). */
const TTL = 64;
const MAX_PAYLOAD_BYTES = 0xffff;

export function packetsOf(frame: CapturedFrame, options: PacketOptions): WrittenPacket[] {
  const { point, timeNs, frameBytes, data, leadBytes, from, to } = frame;
  const isInward = point !== 'from-port' && point !== 'to-tunnel';
  const about = {
    timestampNs: timeNs,
    direction: isInward ? 'in' : 'out',
    comment: commentOf(frame),
  } as const;
  const isTunnel = from !== undefined && to !== undefined;
  // A datagram without a frame is no Ethernet.
  const isOuter = isTunnel && (options.isOuter || point === 'from-socket');
  const lead = data.subarray(0, leadBytes);
  const whole = { bytes: data.subarray(leadBytes), originalBytes: frameBytes };
  const frames = (options.isCut || isOuter ? segmentsOf(frame, whole.bytes) : undefined) ?? [
    isTunnel || options.isCut ? withChecksum(frame, whole) : whole,
  ];
  return frames.map(({ bytes, originalBytes }) => {
    const packet = isOuter
      ? outerPacket(from, to, frame.trafficClass, lead, bytes, originalBytes)
      : { bytes, originalBytes };
    return {
      ...about,
      linkType: isOuter ? LINK_TYPE_RAW : LINK_TYPE_ETHERNET,
      originalBytes: packet.originalBytes,
      data: packet.bytes.subarray(0, options.snapBytes),
    };
  });
}

interface Part {
  readonly bytes: Uint8Array;
  readonly originalBytes: number;
}

function commentOf({ point, from, to, dropped }: CapturedFrame): string {
  const peer =
    point === 'to-tunnel' ? to && `to ${formatEndpoint(to)}` : from && `from ${formatEndpoint(from)}`;
  return [peer, dropped && `dropped: ${dropped}`].filter((part) => part !== undefined).join(', ');
}

/** The descriptor of the frame in `data`: a tag that a port does not see is left out. */
function ownDescriptor({ descriptor, frameBytes, from }: CapturedFrame): Int32Array {
  const own = descriptor.slice();
  const isStripped = from === undefined && descriptor[LENGTH] === frameBytes + vlan.HEADER_BYTES;
  own[OFFSET] = 0;
  own[LENGTH] = frameBytes;
  if (isStripped) {
    own[CSUM_START] -= vlan.HEADER_BYTES;
    own[HEADER_BYTES] -= vlan.HEADER_BYTES;
    if (own[GSO_TYPE] & GSO_TUNNEL) {
      own[OUTER_L4] -= vlan.HEADER_BYTES;
      own[INNER_L3] -= vlan.HEADER_BYTES;
    }
  }
  return own;
}

/** Returns the packets that a superframe is cut into; undefined if the frame is no superframe, is not whole, or cannot be cut. */
function segmentsOf(frame: CapturedFrame, bytes: Uint8Array): Part[] | undefined {
  const descriptor = ownDescriptor(frame);
  if (descriptor[GSO_TYPE] === GSO_NONE || bytes.length < frame.frameBytes || descriptor[GSO_SIZE] <= 0)
    return undefined;
  if (!canBeCut(bytes, descriptor, 0)) return undefined;
  const payloadBytes = bytes.length - descriptor[HEADER_BYTES];
  const count = Math.max(1, Math.ceil(payloadBytes / descriptor[GSO_SIZE]));
  return Array.from({ length: count }, (_, ordinal) => {
    const part = {
      bytes: new Uint8Array(descriptor[HEADER_BYTES] + descriptor[GSO_SIZE]),
      descriptors: descriptor.slice(),
    };
    writePart({ bytes, descriptor }, ordinal, part, 0, 1);
    const segment = part.bytes.subarray(0, part.descriptors[LENGTH]);
    fillChecksum(segment, descriptor);
    return { bytes: segment, originalBytes: segment.length };
  });
}

/** Returns the frame as it leaves: with the checksum that was left to the device. */
function withChecksum(frame: CapturedFrame, { bytes, originalBytes }: Part): Part {
  const descriptor = ownDescriptor(frame);
  const isLeft = (descriptor[FLAGS] & NEEDS_CHECKSUM) !== 0 && descriptor[GSO_TYPE] === GSO_NONE;
  if (!isLeft || bytes.length < originalBytes) return { bytes, originalBytes };
  const own = bytes.slice();
  fillChecksum(own, descriptor);
  return { bytes: own, originalBytes };
}

/** The field has the sum of the pseudo-header (virtio 1.2, 5.1.6.2). In a tunnel the outer checksum covers the inner one. */
function fillChecksum(bytes: Uint8Array, descriptor: Int32Array): void {
  fillOne(bytes, descriptor[CSUM_START], descriptor[CSUM_OFFSET]);
  if (descriptor[GSO_TYPE] & GSO_TUNNEL && descriptor[FLAGS] & TUNNEL_CHECKSUM)
    fillOne(bytes, descriptor[OUTER_L4], udp.CHECKSUM);
}

function fillOne(bytes: Uint8Array, start: number, offset: number): void {
  const field = start + offset;
  if (start < ethernet.HEADER_BYTES || field < start || field + 2 > bytes.length) return;
  completeChecksum(bytes, start, bytes.length - start, offset);
}

/** IP, UDP, the header of the tunnel, the frame. */
function outerPacket(
  from: Endpoint,
  to: Endpoint,
  trafficClass: number,
  lead: Uint8Array,
  frame: Uint8Array,
  frameBytes: number,
): Part {
  const ipBytes = isV4(from.ip) ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  const headers = ipBytes + udp.HEADER_BYTES;
  const bytes = new Uint8Array(headers + lead.length + frame.length);
  const payloadLength = Math.min(lead.length + frameBytes, MAX_PAYLOAD_BYTES - headers);
  if (isV4(from.ip) && isV4(to.ip)) {
    const ip = { source: from.ip, destination: to.ip, protocol: ipv4.UDP, ttl: TTL, trafficClass };
    const rest = { identification: 0, dontFragment: true, payloadLength: udp.HEADER_BYTES + payloadLength };
    ipv4.write({ ...ip, ...rest }, bytes, 0);
  } else {
    const ip = { source: from.ip, destination: to.ip, nextHeader: ipv4.UDP, hopLimit: TTL, trafficClass };
    ipv6.write({ ...ip, flowLabel: 0, payloadLength: udp.HEADER_BYTES + payloadLength }, bytes, 0);
  }
  udp.write({ sourcePort: from.port, destinationPort: to.port, payloadLength }, bytes, ipBytes);
  bytes.set(lead, headers);
  bytes.set(frame, headers + lead.length);
  if (frame.length === frameBytes && payloadLength === lead.length + frameBytes)
    udp.fillChecksum(bytes, 0, ipBytes);
  return { bytes, originalBytes: headers + lead.length + frameBytes };
}
