// Superframes, and the segments that they stand for: written by hand from the RFCs, as the opinion against which the
// native half is held. Nothing in here looks at what the native half does.
import * as checksum from '../../src/wire/checksum.js';
import * as d from '../../src/wire/descriptor.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';

/** A TCP or UDP packet in an Ethernet frame, of any size. */
export interface Packet {
  readonly version: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  /** 802.1Q ids, outermost first. */
  readonly tags: readonly number[];
  readonly trafficClass: number;
  readonly ttl: number;
  /** IPv4: identification and options (a multiple of 4 bytes). */
  readonly identification: number;
  readonly dontFragment: boolean;
  readonly options: Uint8Array;
  /** IPv6: flow label and one extension header (a multiple of 8 bytes; its first byte is filled in), or none. */
  readonly flowLabel: number;
  readonly extension: { readonly type: number; readonly bytes: Uint8Array } | undefined;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  /** A multiple of 4 bytes. */
  readonly tcpOptions: Uint8Array;
  readonly payload: Uint8Array;
}

export const PLAIN: Packet = {
  version: 4,
  protocol: 'tcp',
  tags: [],
  trafficClass: 0,
  ttl: 64,
  identification: 1,
  dontFragment: true,
  options: new Uint8Array(0),
  flowLabel: 0,
  extension: undefined,
  sourcePort: 40_000,
  destinationPort: 5001,
  sequence: 1,
  acknowledgment: 1,
  flags: tcp.ACK,
  window: 512,
  urgent: 0,
  tcpOptions: new Uint8Array(0),
  payload: new Uint8Array(0),
};

/** Destination and source of these frames. */
export const MACS = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa];
const ADDRESSES = {
  4: [10, 55, 55, 200, 10, 55, 55, 201],
  6: [0xfd, 0x55, ...Array<number>(13).fill(0), 200, 0xfd, 0x55, ...Array<number>(13).fill(0), 201],
};
/** Where a routing header of type 0 with one segment left goes in the end: the only address in it (RFC 5095). */
const ROUTING_ADDRESS = 8;

/** Offsets of the headers. */
export function layoutOf(packet: Packet): { network: number; transport: number; payload: number } {
  const network = 14 + packet.tags.length * vlan.HEADER_BYTES;
  const isV4 = packet.version === 4;
  const transport =
    network + (isV4 ? 20 + packet.options.length : 40 + (packet.extension?.bytes.length ?? 0));
  const payload = transport + (packet.protocol === 'udp' ? 8 : 20 + packet.tcpOptions.length);
  return { network, transport, payload };
}

/** The frame, its TCP or UDP checksum finished or left to the device (the sum over the pseudo header alone). */
export function frameOf(packet: Packet, sum: 'full' | 'partial' = 'full'): Uint8Array {
  const { network, transport, payload } = layoutOf(packet);
  const bytes = new Uint8Array(payload + packet.payload.length);
  const view = new DataView(bytes.buffer);
  const number = packet.protocol === 'tcp' ? ipv4.TCP : ipv4.UDP;
  bytes.set(MACS);
  packet.tags.forEach((tag, index) => {
    view.setUint16(12 + 4 * index, vlan.CUSTOMER_TAG);
    view.setUint16(14 + 4 * index, tag);
  });
  view.setUint16(network - 2, packet.version === 4 ? 0x0800 : 0x86dd);
  if (packet.version === 4) {
    bytes[network] = 0x40 | (5 + packet.options.length / 4);
    bytes[network + 1] = packet.trafficClass;
    view.setUint16(network + 2, bytes.length - network);
    view.setUint16(network + 4, packet.identification);
    view.setUint16(network + 6, packet.dontFragment ? 0x4000 : 0);
    bytes[network + 8] = packet.ttl;
    bytes[network + 9] = number;
    bytes.set(ADDRESSES[4], network + 12);
    bytes.set(packet.options, network + 20);
    view.setUint16(network + 10, checksum.finish(checksum.sum(bytes, network, transport - network, 0)));
  } else {
    view.setUint32(network, 0x6000_0000 + packet.trafficClass * 2 ** 20 + packet.flowLabel);
    view.setUint16(network + 4, bytes.length - network - 40);
    bytes[network + 6] = packet.extension?.type ?? number;
    bytes[network + 7] = packet.ttl;
    bytes.set(ADDRESSES[6], network + 8);
    if (packet.extension !== undefined) {
      bytes.set(packet.extension.bytes, network + 40);
      bytes[network + 40] = number;
    }
  }
  view.setUint16(transport, packet.sourcePort);
  view.setUint16(transport + 2, packet.destinationPort);
  if (packet.protocol === 'udp') {
    view.setUint16(transport + 4, bytes.length - transport);
  } else {
    view.setUint32(transport + 4, packet.sequence);
    view.setUint32(transport + 8, packet.acknowledgment);
    bytes[transport + 12] = ((20 + packet.tcpOptions.length) / 4) << 4;
    bytes[transport + 13] = packet.flags;
    view.setUint16(transport + 14, packet.window);
    view.setUint16(transport + 18, packet.urgent);
    bytes.set(packet.tcpOptions, transport + 20);
  }
  bytes.set(packet.payload, payload);

  const field = transport + (packet.protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM);
  const pseudo = pseudoSum(packet, bytes, number);
  if (sum === 'partial') {
    view.setUint16(field, pseudo);
  } else {
    const full = checksum.finish(checksum.sum(bytes, transport, bytes.length - transport, pseudo));
    view.setUint16(field, packet.protocol === 'udp' && full === 0 ? 0xffff : full); // RFC 768
  }
  return bytes;
}

function pseudoSum(packet: Packet, bytes: Uint8Array, protocol: number): number {
  const { network, transport } = layoutOf(packet);
  const { extension } = packet;
  if (extension?.type !== ipv6.ROUTING)
    return checksum.pseudo(bytes, network, protocol, bytes.length - transport);
  // RFC 8200 8.1: the destination is the final one.
  const copy = bytes.slice();
  copy.set(extension.bytes.subarray(ROUTING_ADDRESS, ROUTING_ADDRESS + 16), network + 24);
  return checksum.pseudo(copy, network, protocol, bytes.length - transport);
}

/** The segments that a superframe stands for, when each carries `segmentBytes` and the last one the rest. */
export function segmentsOf(packet: Packet, segmentBytes: number): Packet[] {
  const { payload } = packet;
  const count = Math.ceil(payload.length / segmentBytes);
  return Array.from({ length: count }, (_, index) => {
    const isLast = index === count - 1;
    let { flags } = packet;
    if (!isLast) flags &= ~(tcp.FIN | tcp.PSH);
    if (index > 0) flags &= ~tcp.CWR; // RFC 3168 6.1.2
    return {
      ...packet,
      flags,
      identification: (packet.identification + index) & 0xffff,
      sequence: (packet.sequence + index * segmentBytes) >>> 0,
      payload: payload.subarray(index * segmentBytes, (index + 1) * segmentBytes),
    };
  });
}

/** The packet with other last two bytes, by which its checksum becomes zero. Its payload is even and not empty. */
export function withZeroSum(packet: Packet): Packet {
  const { transport } = layoutOf(packet);
  const payload = packet.payload.slice();
  const tail = new DataView(payload.buffer, payload.length - 2);
  const field = transport + (packet.protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM);
  const frame = frameOf(packet);
  tail.setUint16(0, checksum.fold(tail.getUint16(0) + new DataView(frame.buffer).getUint16(field)));
  return { ...packet, payload };
}

/** Descriptor words of a superframe. */
export function superframeFields(packet: Packet, segmentBytes: number): Record<number, number> {
  const { transport, payload } = layoutOf(packet);
  const tcpType = packet.version === 4 ? virtio.GSO_TCPV4 : virtio.GSO_TCPV6;
  const ecn = packet.flags & tcp.CWR ? virtio.GSO_ECN : 0;
  return {
    [d.FLAGS]: virtio.NEEDS_CHECKSUM,
    [d.GSO_TYPE]: packet.protocol === 'udp' ? virtio.GSO_UDP_L4 : tcpType | ecn,
    [d.GSO_SIZE]: segmentBytes,
    [d.HEADER_BYTES]: payload,
    [d.CSUM_START]: transport,
    [d.CSUM_OFFSET]: packet.protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM,
  };
}

/** What a frame with its virtio-net header stands for on a wire: itself, or its segments with finished checksums. */
export function onTheWire(frame: Uint8Array, header: Readonly<Record<number, number>>): Uint8Array[] {
  if (header[d.GSO_TYPE] !== virtio.GSO_NONE) {
    const packet = packetOf(frame);
    return segmentsOf(packet, header[d.GSO_SIZE]).map((segment) => frameOf(segment));
  }
  if ((header[d.FLAGS] & virtio.NEEDS_CHECKSUM) === 0) return [frame];
  return [frameOf(packetOf(frame))];
}

/** Reads a whole TCP or UDP packet; of extension headers, one with destination options. */
export function packetOf(bytes: Uint8Array): Packet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const tags: number[] = [];
  let network = 14;
  for (; view.getUint16(network - 2) === vlan.CUSTOMER_TAG; network += 4) tags.push(view.getUint16(network));
  const version = view.getUint16(network - 2) === 0x0800 ? 4 : 6;
  const isV4 = version === 4;
  const ipEnd = network + (isV4 ? (bytes[network] & 15) * 4 : 40);
  const next = bytes[network + (isV4 ? 9 : 6)];
  const isExtended = !isV4 && next === ipv6.DESTINATION_OPTIONS;
  const transport = isExtended ? ipEnd + 8 * (bytes[ipEnd + 1] + 1) : ipEnd; // RFC 8200 4.6
  const protocol = (isExtended ? bytes[ipEnd] : next) === ipv4.TCP ? 'tcp' : 'udp';
  const isTcp = protocol === 'tcp';
  const payload = transport + (isTcp ? (bytes[transport + 12] >> 4) * 4 : 8);
  return {
    version,
    protocol,
    tags,
    trafficClass: isV4 ? bytes[network + 1] : (view.getUint16(network) >> 4) & 0xff,
    ttl: bytes[network + (isV4 ? 8 : 7)],
    identification: isV4 ? view.getUint16(network + 4) : 0,
    dontFragment: isV4 && (bytes[network + 6] & 0x40) !== 0,
    options: isV4 ? bytes.slice(network + 20, transport) : new Uint8Array(0),
    flowLabel: isV4 ? 0 : view.getUint32(network) & 0xfffff,
    extension: isExtended ? { type: next, bytes: bytes.slice(ipEnd, transport) } : undefined,
    sourcePort: view.getUint16(transport),
    destinationPort: view.getUint16(transport + 2),
    sequence: isTcp ? view.getUint32(transport + 4) : 0,
    acknowledgment: isTcp ? view.getUint32(transport + 8) : 0,
    flags: isTcp ? bytes[transport + 13] : 0,
    window: isTcp ? view.getUint16(transport + 14) : 0,
    urgent: isTcp ? view.getUint16(transport + 18) : 0,
    tcpOptions: isTcp ? bytes.slice(transport + 20, payload) : new Uint8Array(0),
    payload: bytes.subarray(payload),
  };
}
