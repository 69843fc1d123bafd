// What a guest sends that matters to link protection: ARP, RARP, discovery, DHCP; and what it must not. The guest has MAC.a and
// the addresses here, unless said otherwise.
import * as arp from '../../src/wire/arp.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import { type Ipv4Address, type Ipv6Address, V6_BYTES, writeV6 } from '../../src/wire/ip.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import { writeMac } from '../../src/wire/mac.js';
import * as ndp from '../../src/wire/ndp.js';
import { fromHex } from '../vectors/frames.js';
import { address, concat, MAC, packet, type Packet } from './lab.js';

export const OWN_V4 = '10.0.0.5';
export const OWN_V6 = 'fd00::5';
/** RFC 4862 5.3 of MAC.a: the second bit turned, ff:fe in the middle. */
export const LINK_LOCAL = 'fe80::a1:a2ff:fea3:a40a';

export interface Arp {
  readonly from?: number;
  readonly sender?: number;
  readonly ip?: string;
  readonly target?: string;
  readonly operation?: number;
  readonly tag?: number;
  readonly targetMac?: number;
  readonly etherType?: number;
}

export function arpFrame({
  from = MAC.a,
  sender = MAC.a,
  ip = OWN_V4,
  target = '10.0.0.9',
  operation = 1,
  tag,
  targetMac = 0,
  etherType = ethernet.ARP,
}: Arp = {}) {
  const body = new Uint8Array(arp.HEADER_BYTES);
  arp.write(
    {
      operation,
      senderMac: sender,
      senderIp: ip as Ipv4Address,
      targetMac,
      targetIp: target as Ipv4Address,
    },
    body,
    0,
  );
  const header = new Uint8Array(ethernet.HEADER_BYTES);
  ethernet.write({ destination: MAC.all, source: from, etherType }, header, 0);
  const tags = tag === undefined ? [] : [0x81, 0, tag >> 8, tag & 0xff];
  return concat(header.subarray(0, 12), Uint8Array.from(tags), header.subarray(12), body);
}

/** An ICMPv6 message in a packet; its checksum is not what is checked here. */
export const icmpV6 = (message: Uint8Array, spec: Packet = {}) =>
  packet({ version: 6, protocol: ipv6.ICMPV6, source: LINK_LOCAL, payload: message, ...spec });

export function discovery(repr: ndp.Repr): Uint8Array {
  const bytes = new Uint8Array(ndp.byteLength(repr));
  ndp.write(repr, bytes, 0);
  return bytes;
}

export const solicitation = (target: string, sourceMac: number | undefined = MAC.a) =>
  discovery({ kind: 'neighborSolicitation', target: address(target), sourceMac });
export const advertisement = (target: string, targetMac: number | undefined = MAC.a) =>
  discovery({
    kind: 'neighborAdvertisement',
    target: address(target) as Ipv6Address,
    router: false,
    solicited: true,
    override: true,
    targetMac,
  });
export const rarpFrame = (more: Arp = {}) =>
  arpFrame({
    etherType: ethernet.RARP,
    operation: 3,
    ip: '0.0.0.0',
    target: '0.0.0.0',
    targetMac: MAC.a,
    ...more,
  });

/** Bytes of a message before its options. RFC 4861 4.1 to 4.5, RFC 3122 2.1, 2.2 */
export const FIXED_BYTES: Readonly<Record<number, number>> = {
  [icmpv6.ROUTER_SOLICITATION]: 8,
  [icmpv6.ROUTER_ADVERTISEMENT]: 16,
  [icmpv6.NEIGHBOR_SOLICITATION]: 24,
  [icmpv6.NEIGHBOR_ADVERTISEMENT]: 24,
  [icmpv6.REDIRECT]: 40,
  [icmpv6.INVERSE_SOLICITATION]: 8,
  [icmpv6.INVERSE_ADVERTISEMENT]: 8,
};
/**
 * A message of discovery with link-layer options: 1 = of the source, 2 = of the target. Where it speaks for an address, that
 * is its own.
 */
export function withMacs(
  type: number,
  ...options: readonly (readonly [kind: number, mac: number])[]
): Uint8Array {
  const fixed = new Uint8Array(FIXED_BYTES[type] ?? 8);
  fixed[0] = type;
  if (fixed.length >= ndp.TARGET + V6_BYTES) writeV6(address(OWN_V6), fixed, ndp.TARGET);
  return concat(fixed, ...options.map(([kind, mac]) => Uint8Array.of(kind, 1, ...macBytes(mac))));
}

export const option = (code: number, ...values: number[]) =>
  new Map([
    [dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.REQUEST_MESSAGE)],
    [code, Uint8Array.from(values)],
  ]);
export const macBytes = (mac: number): number[] => {
  const bytes = new Uint8Array(6);
  writeMac(bytes, 0, mac);
  return [...bytes];
};

/** Type, 24-bit transaction, options as they stand. */
export const dhcpV6 = (type: number, options: string, spec: Packet = {}, transaction = '0a0b0c') =>
  packet({
    version: 6,
    source: LINK_LOCAL,
    ports: [546, 547],
    payload: fromHex(type.toString(16).padStart(2, '0') + transaction + options),
    ...spec,
  });
export const duid = (text: string) => {
  const length = text.replaceAll(' ', '').length / 2;
  return `0001 ${length.toString(16).padStart(4, '0')} ${text}`.replaceAll(' ', '');
};
