// Networks in memory (src/plugin-test/lab.ts), and frames for them.
//
//   const lab = new Lab();
//   const [a, b] = [lab.vtep('192.0.2.1'), lab.vtep('192.0.2.2')];
//   const net = a.overlay({ vnetid: 7, destination: b.endpoint });
//   net.port(MAC.a).send(frame(MAC.b, MAC.a));      everything has come to rest when `send` returns

import { write16 } from '../../src/wire/bytes.js';
import * as checksum from '../../src/wire/checksum.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import { ANY_V4, type Ipv4Address } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import type { MacAddress } from '../../src/wire/mac.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';

import { address, endpoint, tableOf } from '../../src/plugin-test/addresses.js';
import { Lab, MTU_BYTES, Net, Vtep, type VtepOptions } from '../../src/plugin-test/lab.js';
import { readTable } from '../../src/plugin-test/read-table.js';
import type { Tap as TapOf } from '../../src/plugin-test/tap.js';

export { address, endpoint, Lab, MTU_BYTES, Net, readTable as wholeTable, tableOf, Vtep };
export type { VtepOptions };
export type Tap = TapOf<Net>;

// -- Frames

/** No byte of theirs is zero, so that one left behind shows. */
export const MAC = {
  a: 0x02a1_a2a3_a40a,
  b: 0x02b1_b2b3_b40b,
  c: 0x02c1_c2c3_c40c,
  d: 0x02d1_d2d3_d40d,
  e: 0x02e1_e2e3_e40e,
  all: 0xffff_ffff_ffff,
  group: 0x0100_5e00_0001,
} as const;

const EXPERIMENTAL = 0x88b5; // IEEE 802, local experimental EtherType 1

/** 802.1Q tag: control word, or one with another type than 0x8100. */
export type Tag = number | readonly [type: number, control: number];

/** A frame that no layer above Ethernet is looked at in; `bytes` long in all. */
export function frame(to: MacAddress, from: MacAddress, bytes = 60, ...tags: readonly Tag[]): Uint8Array {
  const payload = Uint8Array.from(
    { length: Math.max(0, bytes - 14 - 4 * tags.length) },
    (_, at) => at & 0xff,
  );
  return enclose(to, from, tags, EXPERIMENTAL, payload);
}

function enclose(
  to: MacAddress,
  from: MacAddress,
  tags: readonly Tag[],
  etherType: number,
  payload: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(ethernet.HEADER_BYTES);
  ethernet.write({ destination: to, source: from, etherType }, header, 0);
  const middle = tags.flatMap((tag) => {
    const [type, control] = typeof tag === 'number' ? [0x8100, tag] : tag;
    return [type >> 8, type & 0xff, control >> 8, control & 0xff];
  });
  return concat(header.subarray(0, 12), Uint8Array.from(middle), header.subarray(12), payload);
}

export interface Packet {
  readonly to?: MacAddress;
  readonly from?: MacAddress;
  readonly tags?: readonly Tag[];
  readonly version?: 4 | 6;
  readonly source?: string;
  readonly destination?: string;
  readonly trafficClass?: number;
  /** UDP unless said otherwise. */
  readonly protocol?: number;
  readonly ports?: readonly [source: number, destination: number];
  readonly tcpFlags?: number;
  readonly payloadBytes?: number;
  /** Of the payload. */
  readonly firstByte?: number;
  /** In place of one made up. */
  readonly payload?: Uint8Array;
  /** `partial`: the sum of the pseudo-header alone. */
  readonly checksum?: 'full' | 'partial';
  /** The 16 bits of flags and fragment offset (IPv4), or a fragment header with them (IPv6). */
  readonly fragment?: number;
  /** IPv6 destination options before the transport header, 8 bytes each. */
  readonly extensions?: number;
}

/** An Ethernet frame with an IP packet in it. */
export function packet(spec: Packet): Uint8Array {
  const { to = MAC.b, from = MAC.a, tags = [], version = 4 } = spec;
  const etherType = version === 4 ? ethernet.IPV4 : ethernet.IPV6;
  return enclose(to, from, tags, etherType, version === 4 ? packetV4(spec) : packetV6(spec));
}

function packetV4(spec: Packet): Uint8Array {
  const { source = '10.0.0.1', destination = '10.0.0.2', protocol = ipv4.UDP, trafficClass = 0 } = spec;
  const segment = transport(spec, protocol);
  const bytes = concat(new Uint8Array(ipv4.HEADER_BYTES), segment);
  const repr: ipv4.Repr = {
    source: address(source) as Ipv4Address,
    destination: address(destination) as Ipv4Address,
    protocol,
    ttl: 64,
    trafficClass,
    identification: 0x1234,
    dontFragment: true,
    payloadLength: segment.length,
  };
  ipv4.write(repr, bytes, 0);
  if (spec.fragment !== undefined) {
    write16(bytes, 6, spec.fragment);
    ipv4.fillChecksum(bytes, 0);
  }
  fillTransport(spec, protocol, bytes, ipv4.HEADER_BYTES);
  return bytes;
}

function packetV6(spec: Packet): Uint8Array {
  const { source = 'fd00::1', destination = 'fd00::2', protocol = ipv4.UDP, trafficClass = 0 } = spec;
  const { extensions = 0, fragment } = spec;
  const chain: number[][] = Array.from({ length: extensions }, () => [0, 0, 1, 4, 0, 0, 0, 0]); // PadN
  const types: number[] = chain.map(() => ipv6.DESTINATION_OPTIONS);
  if (fragment !== undefined) {
    chain.push([0, 0, fragment >> 8, fragment & 0xff, 0, 0, 0, 1]);
    types.push(ipv6.FRAGMENT);
  }
  types.push(protocol);
  const before = Uint8Array.from(chain.flatMap((header, index) => [types[index + 1], ...header.slice(1)]));
  const segment = transport(spec, protocol);
  const bytes = concat(new Uint8Array(ipv6.HEADER_BYTES), before, segment);
  const repr: ipv6.Repr = {
    source: address(source),
    destination: address(destination),
    nextHeader: types[0],
    hopLimit: 64,
    trafficClass,
    flowLabel: 0,
    payloadLength: before.length + segment.length,
  };
  ipv6.write(repr, bytes, 0);
  fillTransport(spec, protocol, bytes, ipv6.HEADER_BYTES + before.length);
  return bytes;
}

function transport(spec: Packet, protocol: number): Uint8Array {
  const { ports = [40000, 5001], tcpFlags = tcp.ACK } = spec;
  const [sourcePort, destinationPort] = ports;
  const length = spec.payload?.length ?? spec.payloadBytes ?? 32;
  const payload = spec.payload?.slice() ?? Uint8Array.from({ length }, (_, at) => (at * 7) & 0xff);
  if (spec.firstByte !== undefined) payload[0] = spec.firstByte;
  if (protocol === ipv4.TCP) {
    const header = new Uint8Array(tcp.HEADER_BYTES);
    const rest = { sequence: 1, acknowledgment: 2, flags: tcpFlags, window: 1000 };
    tcp.write({ sourcePort, destinationPort, ...rest }, header, 0);
    return concat(header, payload);
  }
  if (protocol === ipv4.UDP) {
    const header = new Uint8Array(udp.HEADER_BYTES);
    udp.write({ sourcePort, destinationPort, payloadLength: length }, header, 0);
    return concat(header, payload);
  }
  return payload;
}

/** `bytes` is the IP packet, `at` where its transport header begins. */
function fillTransport(spec: Packet, protocol: number, bytes: Uint8Array, at: number): void {
  if (protocol !== ipv4.TCP && protocol !== ipv4.UDP) return;
  const length = bytes.length - at;
  if (spec.checksum === 'partial') {
    const field = protocol === ipv4.TCP ? tcp.CHECKSUM : udp.CHECKSUM;
    write16(bytes, at + field, checksum.pseudo(bytes, 0, protocol, length));
  } else if (protocol === ipv4.TCP) {
    tcp.fillChecksum(bytes, 0, at, length);
  } else {
    udp.fillChecksum(bytes, 0, at);
  }
}

/** A message of a DHCP client, or what `more` makes of it, broadcast. */
export function dhcpFrame(more: Partial<dhcpv4.Repr> = {}, spec: Packet = {}): Uint8Array {
  const repr: dhcpv4.Repr = {
    operation: dhcpv4.REQUEST,
    hops: 0,
    transactionId: 0x1234_5678,
    secs: 0,
    wantsBroadcast: false,
    ciaddr: ANY_V4,
    yiaddr: ANY_V4,
    siaddr: ANY_V4,
    giaddr: ANY_V4,
    clientMac: MAC.a,
    options: new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.DISCOVER)]]),
    ...more,
  };
  const message = new Uint8Array(dhcpv4.byteLength(repr));
  dhcpv4.write(repr, message, 0);
  const isReply = repr.operation === dhcpv4.REPLY;
  return packet({
    to: MAC.all,
    source: isReply ? '10.0.0.1' : '0.0.0.0',
    destination: '255.255.255.255',
    ports: isReply ? [67, 68] : [68, 67],
    payload: message,
    ...spec,
  });
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
