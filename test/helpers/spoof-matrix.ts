// The rows of the spoof matrix: what a guest sends, and which protections refuse it. `all four` refuse what any of them does.
//
//   m  mac-nospoof      i  ip-nospoof      d  dhcp-nospoof      r  restricted
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import type * as virtio from '../../src/wire/virtio-net.js';
import { fromHex } from '../vectors/frames.js';
import {
  advertisement,
  arpFrame,
  dhcpV6,
  duid,
  icmpV6,
  LINK_LOCAL,
  macBytes,
  option,
  OWN_V4,
  OWN_V6,
  rarpFrame,
  solicitation,
  withMacs,
} from './guest-frames.js';
import { concat, dhcpFrame, frame, MAC, packet, type Packet } from './lab.js';

export interface Row {
  readonly what: string;
  readonly frame: Uint8Array;
  /** Letters; a dot where one lets it pass. */
  readonly refused: string;
  /** Fields of its virtio-net header; a frame without has all checksums and one segment. */
  readonly header?: virtio.Repr;
  /** Of frames on the wire, of a superframe. */
  readonly count?: number;
}

type Rows = readonly (readonly [
  refused: string,
  what: string,
  frame: Uint8Array,
  header?: virtio.Repr,
  count?: number,
])[];

const rowsOf = (group: string, rows: Rows): Row[] =>
  rows.map(([refused, what, frame, header, count]) => ({
    what: `${group}: ${what}`,
    frame,
    refused,
    ...(header && { header }),
    ...(count !== undefined && { count }),
  }));

const OTHER_V4 = '10.0.0.6';
const OTHER_V6 = 'fd00::6';
const MORE = 0x2000; // IPv4: the first of several fragments
const LATER = 8; // IPv4: the second one
const MORE_V6 = 1;
const LATER_V6 = 8;
const [ICMP, IGMP, TCP] = [1, 2, 6];

// -- Builders

const v4 = (more: Packet = {}) => packet({ source: OWN_V4, ...more });
const v6 = (more: Packet = {}) => packet({ version: 6, source: OWN_V6, ...more });
const icmp = (type: number, more: Packet = {}) => v4({ protocol: ICMP, firstByte: type, ...more });
const igmp = (type: number, more: Packet = {}) => v4({ protocol: IGMP, firstByte: type, ...more });
/** Of another type than IPv4, IPv6, ARP, RARP. */
const other = (header: string) => concat(fromHex(`0180c2000000 02a1a2a3a40a ${header}`), new Uint8Array(46));
/** A copy with some bytes replaced. */
const patched = (bytes: Uint8Array, at: Readonly<Record<number, number>>): Uint8Array => {
  const copy = bytes.slice();
  for (const [offset, value] of Object.entries(at)) copy[Number(offset)] = value;
  return copy;
};
/** A router alert: four bytes of options. */
const withOptions = (bytes: Uint8Array): Uint8Array => {
  const longer = concat(bytes.subarray(0, 34), fromHex('94040000'), bytes.subarray(34));
  const length = longer.length - 14;
  longer.set([0x46, 0, length >> 8, length & 0xff], 14);
  ipv4.fillChecksum(longer, 14);
  return longer;
};
const dhcpOf = (type: number, ...more: (readonly [code: number, value: readonly number[]])[]) => ({
  options: new Map([
    [dhcpv4.MESSAGE_TYPE, Uint8Array.of(type)],
    ...more.map(([code, value]) => [code, Uint8Array.from(value)] as const),
  ]),
});
const ownId = [1, ...macBytes(MAC.a)];
const otherId = [1, ...macBytes(MAC.c)];
const OWN_DUID = duid('0003 0001 02a1a2a3a40a');
const OTHER_DUID = duid('0003 0001 02c1c2c3c40c');

// -- Rows

const ETHERNET = rowsOf('Ethernet', [
  ['...r', 'experimental', frame(MAC.b, MAC.a)],
  ['m..r', 'experimental, MAC of another', frame(MAC.b, MAC.c)],
  ['m...', 'IPv4, MAC of another', v4({ from: MAC.c })],
  ['m...', 'IPv6, MAC of another', v6({ from: MAC.c })],
  ['m...', 'ARP, MAC of another', arpFrame({ from: MAC.c })],
  ['m...', 'DHCP, MAC of another', dhcpFrame({}, { from: MAC.c })],
  ['m...', 'IPv4, a MAC one bit off', v4({ from: MAC.a ^ 1 })],
  ['...r', 'BPDU', other('0026 424203')],
  ['...r', 'LLDP', other('88cc 0207')],
  ['...r', 'EAPOL', other('888e 0101')],
  ['...r', 'MPLS', other('8847 0000')],
  ['...r', 'PPPoE discovery', other('8863 1109')],
  ['...r', 'IPv4 in LLC and SNAP', other('002e aaaa03 000000 0800')],
]);

const IPV4 = rowsOf('IPv4', [
  ['....', 'UDP', v4()],
  ['....', 'TCP', v4({ protocol: TCP })],
  ['....', 'echo request', icmp(8)],
  ['....', 'unreachable', icmp(3)],
  ['....', 'IGMPv3 report', igmp(0x22)],
  ['....', 'multicast router solicitation', igmp(0x31, { payloadBytes: 4 })],
  ['....', 'options', withOptions(v4())],
  ['....', 'first fragment', v4({ fragment: MORE })],
  ['....', 'later fragment', v4({ fragment: LATER })],
  ['....', 'from no address', v4({ source: '0.0.0.0' })],
  ['.i..', 'UDP, address of another', v4({ source: OTHER_V4 })],
  ['.i..', 'TCP, address of another', v4({ source: OTHER_V4, protocol: TCP })],
  ['.i..', 'echo request, address of another', icmp(8, { source: OTHER_V4 })],
  ['.i..', 'IGMP, address of another', igmp(0x22, { source: OTHER_V4 })],
  ['.i..', 'options, address of another', withOptions(v4({ source: OTHER_V4 }))],
  ['.i..', 'first fragment, address of another', v4({ source: OTHER_V4, fragment: MORE })],
  ['.i..', 'later fragment, address of another', v4({ source: OTHER_V4, fragment: LATER })],
  ['.i..', 'from 255.255.255.255', v4({ source: '255.255.255.255' })],
  ['.i..', 'from 127.0.0.1', v4({ source: '127.0.0.1' })],
  ['.i..', 'from a group', v4({ source: '224.0.0.1' })],
  ['.i..', 'redirect', icmp(5)],
  ['.i..', 'router advertisement', icmp(9)],
  ['.i..', 'router solicitation', icmp(10)],
  ['.i..', 'redirect, first fragment', icmp(5, { fragment: MORE })],
  ['.i..', 'router advertisement, first fragment', icmp(9, { fragment: MORE })],
  ['.i..', 'router advertisement behind options', withOptions(icmp(9))],
  ['.i..', 'ICMP cut off by its fragment', icmp(8, { payloadBytes: 4, fragment: MORE })],
  ['.i..', 'multicast router advertisement', igmp(0x30)],
  ['.i..', 'multicast router termination', igmp(0x32, { payloadBytes: 4 })],
  ['.id.', 'cut off', v4().subarray(0, 33)],
  ['.id.', 'a header of 16 bytes', patched(v4(), { 14: 0x44 })],
  ['.id.', 'version 6', patched(v4(), { 14: 0x65 })],
  ['.id.', 'longer than its frame', patched(v4(), { 16: 0xff })],
]);

const IPV6 = rowsOf('IPv6', [
  ['....', 'UDP', v6()],
  ['....', 'TCP', v6({ protocol: TCP })],
  ['....', 'from its link-local address', v6({ source: LINK_LOCAL })],
  ['....', 'from no address', v6({ source: '::' })],
  ['....', 'behind options', v6({ extensions: 3 })],
  ['....', 'first fragment', v6({ fragment: MORE_V6 })],
  ['....', 'later fragment', v6({ fragment: LATER_V6 })],
  ['.i..', 'UDP, address of another', v6({ source: OTHER_V6 })],
  ['.i..', 'TCP, address of another', v6({ source: OTHER_V6, protocol: TCP })],
  ['.i..', 'link-local address of another', v6({ source: 'fe80::1' })],
  ['.i..', 'behind options, address of another', v6({ source: OTHER_V6, extensions: 3 })],
  ['.i..', 'first fragment, address of another', v6({ source: OTHER_V6, fragment: MORE_V6 })],
  ['.i..', 'later fragment, address of another', v6({ source: OTHER_V6, fragment: LATER_V6 })],
  ['.i..', 'v4-mapped', v6({ source: '::ffff:10.0.0.5' })],
  ['.i..', 'from ::1', v6({ source: '::1' })],
  ['.i..', 'from a group', v6({ source: 'ff02::1' })],
  ['mid.', 'behind nine headers', v6({ extensions: 9 })],
  ['mid.', 'cut off', v6().subarray(0, 53)],
  ['mid.', 'version 4', patched(v6(), { 14: 0x45 })],
  ['mid.', 'longer than its frame', patched(v6(), { 18: 0xff })],
  ...[1, 2, 3, 4, 128, 129, 130, 131, 132, 143, 152].map(
    (type) => ['....', `ICMPv6 ${type}`, icmpV6(withMacs(type), { source: OWN_V6 })] as const,
  ),
  ...[138, 149, 151, 153, 154].map(
    (type) => ['.i..', `ICMPv6 ${type}, of routers`, icmpV6(withMacs(type), { source: OWN_V6 })] as const,
  ),
  ['.i..', 'ICMPv6 138, of routers, behind options', icmpV6(withMacs(138), { extensions: 2 })],
  ['mi..', 'ICMPv6 cut off by its fragment', icmpV6(Uint8Array.of(134, 0, 0), { fragment: MORE_V6 })],
]);

const ARP = rowsOf('ARP', [
  ['....', 'request', arpFrame()],
  ['....', 'reply', arpFrame({ operation: 2, targetMac: MAC.b })],
  ['....', 'announcement', arpFrame({ target: OWN_V4 })],
  ['....', 'probe for its own', arpFrame({ ip: '0.0.0.0', target: OWN_V4 })],
  ['mi..', 'request, MAC of another', arpFrame({ sender: MAC.c })],
  ['mi..', 'reply, MAC of another', arpFrame({ sender: MAC.c, operation: 2 })],
  ['mi..', 'announcement, MAC of another', arpFrame({ sender: MAC.c, target: OWN_V4 })],
  ['.i..', 'request, address of another', arpFrame({ ip: OTHER_V4 })],
  ['.i..', 'reply, address of another', arpFrame({ ip: OTHER_V4, operation: 2 })],
  ['.i..', 'announcement, address of another', arpFrame({ ip: OTHER_V4, target: OTHER_V4 })],
  ['.i..', 'probe for another', arpFrame({ ip: '0.0.0.0', target: OTHER_V4 })],
  ['mi..', 'cut off', arpFrame().subarray(0, 41)],
  ['mi..', 'other hardware', patched(arpFrame(), { 15: 6 })],
  ['mi..', 'longer addresses', patched(arpFrame(), { 18: 8 })],
  ['...r', 'RARP of a hypervisor', rarpFrame()],
  ['...r', 'RARP, its address', rarpFrame({ ip: OWN_V4, target: OWN_V4 })],
  ['mi.r', 'RARP, MAC of another as sender', rarpFrame({ sender: MAC.c })],
  ['mi.r', 'RARP, MAC of another as target', rarpFrame({ targetMac: MAC.c })],
  ['mi.r', 'RARP, reply to another', rarpFrame({ operation: 4, ip: OWN_V4, targetMac: MAC.c })],
  ['.i.r', 'RARP, sender address of another', rarpFrame({ ip: OTHER_V4 })],
  ['.i.r', 'RARP, target address of another', rarpFrame({ operation: 4, target: OTHER_V4 })],
]);

/** What ip-nospoof alone says of each kind of discovery message that tells nothing wrong. */
const DISCOVERY = [
  ['....', 133, 'router solicitation'],
  ['.i..', 134, 'router advertisement'],
  ['....', 135, 'neighbour solicitation'],
  ['....', 136, 'neighbour advertisement'],
  ['.i..', 137, 'redirect'],
  ['.i..', 141, 'inverse solicitation'],
  ['.i..', 142, 'inverse advertisement'],
] as const;
const [SOURCE, TARGET] = [1, 2];
const ND = rowsOf('ND', [
  ...DISCOVERY.flatMap(([refused, type, what]): Rows => {
    const [own, none] = [withMacs(type, [SOURCE, MAC.a], [TARGET, MAC.a]), withMacs(type)];
    const twice = withMacs(type, [SOURCE, MAC.a], [SOURCE, MAC.c]);
    return [
      [refused, `${what}, its MAC`, icmpV6(own)],
      [refused, `${what}, its MAC, behind options`, icmpV6(own, { extensions: 2 })],
      [refused, `${what}, no MAC`, icmpV6(none)],
      ['mi..', `${what}, source MAC of another`, icmpV6(withMacs(type, [SOURCE, MAC.c]))],
      ['mi..', `${what}, target MAC of another`, icmpV6(withMacs(type, [TARGET, MAC.c]))],
      ['mi..', `${what}, that behind its own`, icmpV6(withMacs(type, [SOURCE, MAC.a], [TARGET, MAC.c]))],
      ['mi..', `${what}, that behind options`, icmpV6(withMacs(type, [TARGET, MAC.c]), { extensions: 1 })],
      ['mi..', `${what}, two source MACs`, icmpV6(twice)],
      ['mi..', `${what}, first fragment`, icmpV6(own, { fragment: MORE_V6 })],
      ['mi..', `${what}, cut off`, icmpV6(own.subarray(0, own.length - 1))],
      ['mi..', `${what}, an option of length 0`, icmpV6(concat(none, new Uint8Array(8)))],
    ];
  }),
  ['.i..', 'NA for another', icmpV6(advertisement(OTHER_V6))],
  ['.i..', 'NA for another, behind options', icmpV6(advertisement(OTHER_V6), { extensions: 3 })],
  ['....', 'NS for another', icmpV6(solicitation(OTHER_V6))],
  ['....', 'is its own free?', icmpV6(withMacs(135), { source: '::' })],
  ['.i..', 'is that of another free?', icmpV6(solicitation(OTHER_V6, MAC.a), { source: '::' })],
]);

const DHCP = rowsOf('DHCP', [
  ...[1, 3, 4, 7, 8].map((type) => ['....', `message ${type}`, dhcpFrame(dhcpOf(type))] as const),
  ['....', 'client id of its MAC', dhcpFrame(dhcpOf(1, [61, ownId]))],
  ['....', 'BOOTP with a cookie', dhcpFrame({ options: new Map() })],
  ...[2, 5, 6, 9, 10].map((type) => ['..d.', `message ${type}`, dhcpFrame(dhcpOf(type))] as const),
  ['..d.', 'chaddr of another', dhcpFrame({ clientMac: MAC.c })],
  ['..d.', 'client id of another', dhcpFrame(dhcpOf(1, [61, otherId]))],
  ['..d.', 'client id that is no MAC', dhcpFrame(dhcpOf(1, [61, [0x68, 0x69]]))],
  ['..d.', 'options in other fields', dhcpFrame({ options: option(52, 3) })],
  ['..d.', 'relay: giaddr', dhcpFrame({ giaddr: OWN_V4 as Ipv4Address })],
  ['..d.', 'relay: hops', dhcpFrame({ hops: 1 })],
  ['..d.', 'relay: option 82', dhcpFrame(dhcpOf(1, [82, [1, 2, 0x68, 0x69]]))],
  [
    '..d.',
    'relay: option 82 before the others',
    dhcpFrame({ options: new Map([82, 53].map((code) => [code, Uint8Array.of(1)])) }),
  ],
  [
    '..d.',
    'relay: all of it',
    dhcpFrame({ ...dhcpOf(1, [82, [1]]), hops: 2, giaddr: OWN_V4 as Ipv4Address }),
  ],
  ['..d.', 'relay: its ports', dhcpFrame({}, { ports: [67, 67] })],
  ['..d.', 'server', dhcpFrame({ operation: dhcpv4.REPLY }, { source: '0.0.0.0' })],
  [
    '..d.',
    'server, ports of clients',
    dhcpFrame({ operation: dhcpv4.REPLY }, { source: '0.0.0.0', ports: [68, 67] }),
  ],
  [
    '..d.',
    'server, behind options',
    withOptions(dhcpFrame({ operation: dhcpv4.REPLY }, { source: '0.0.0.0' })),
  ],
  ['..d.', 'first fragment', dhcpFrame({}, { fragment: MORE })],
  ['..d.', 'no cookie', packet({ source: '0.0.0.0', ports: [68, 67], payload: dhcpFrame().slice(42, 278) })],
  ['..d.', 'something else on its ports', packet({ source: '0.0.0.0', ports: [68, 67] })],
]);

const DHCPV6 = rowsOf('DHCPv6', [
  ...[1, 3, 4, 5, 6, 8, 9, 11].map((type) => ['....', `message ${type}`, dhcpV6(type, OWN_DUID)] as const),
  ['....', 'no DUID', dhcpV6(11, '')],
  ['....', 'behind options', dhcpV6(1, OWN_DUID, { extensions: 2 })],
  ...[2, 7, 10, 12, 13, 14, 20, 21].map(
    (type) => ['..d.', `message ${type}`, dhcpV6(type, OWN_DUID)] as const,
  ),
  ...[9, 18, 37, 38, 53, 66, 79, 135].map((code) => {
    const option = `${code.toString(16).padStart(4, '0')}0002abcd`;
    return ['..d.', `relay: option ${code}`, dhcpV6(1, OWN_DUID + option)] as const;
  }),
  ['..d.', 'relay: its ports', dhcpV6(1, OWN_DUID, { ports: [547, 547] })],
  ['..d.', 'DUID of another', dhcpV6(1, OTHER_DUID)],
  ['..d.', 'two DUIDs', dhcpV6(1, OWN_DUID + OTHER_DUID)],
  ['..d.', 'server', dhcpV6(7, OWN_DUID, { ports: [547, 546] })],
  ['..d.', 'server, behind options', dhcpV6(7, OWN_DUID, { ports: [547, 546], extensions: 2 })],
  ['..d.', 'first fragment', dhcpV6(1, OWN_DUID, { fragment: MORE_V6 })],
]);

// -- With a virtio-net header: checksums to be filled in, and superframes

const fillIn = (checksumStart: number, checksumOffset: number): virtio.Repr => ({
  flags: 1,
  gsoType: 0,
  headerLength: 0,
  gsoSize: 0,
  checksumStart,
  checksumOffset,
});
const [IP, V4_END, V6_END] = [14, 34, 54];
/** The kernel takes no start before that (virtio_net_hdr_to_skb). */
const FIRST = 20;
const [TCP_SUM, UDP_SUM, ICMP_SUM] = [16, 6, 2];
const PARTIAL = rowsOf('checksum to be filled in', [
  ['....', 'UDP', v4({ checksum: 'partial' }), fillIn(V4_END, UDP_SUM)],
  ['....', 'TCP', v4({ protocol: TCP, checksum: 'partial' }), fillIn(V4_END, TCP_SUM)],
  ['....', 'UDP over IPv6', v6({ checksum: 'partial' }), fillIn(V6_END, UDP_SUM)],
  ['....', 'TCP over IPv6', v6({ protocol: TCP, checksum: 'partial' }), fillIn(V6_END, TCP_SUM)],
  ['....', 'DHCP', dhcpFrame({}, { checksum: 'partial' }), fillIn(V4_END, UDP_SUM)],
  ['....', 'DHCPv6', dhcpV6(1, OWN_DUID, { checksum: 'partial' }), fillIn(V6_END, UDP_SUM)],
  ['....', 'neighbour solicitation', icmpV6(solicitation(OTHER_V6)), fillIn(V6_END, ICMP_SUM)],
  ['.i..', 'UDP, address of another', v4({ source: OTHER_V4, checksum: 'partial' }), fillIn(V4_END, UDP_SUM)],
  [
    '.i..',
    'TCP over IPv6, address of another',
    v6({ source: OTHER_V6, protocol: TCP }),
    fillIn(V6_END, TCP_SUM),
  ],
  ['..d.', 'DHCP relay', dhcpFrame({ hops: 1 }, { checksum: 'partial' }), fillIn(V4_END, UDP_SUM)],
  ['mi..', 'redirect, MAC of another', icmpV6(withMacs(137, [TARGET, MAC.c])), fillIn(V6_END, ICMP_SUM)],
  ['.id.', 'in the source address', v4(), fillIn(FIRST, IP + 12 - FIRST)],
  ['mid.', 'in the source address of IPv6', v6(), fillIn(FIRST, IP + 8 - FIRST)],
  ['mi..', 'in the sender of ARP', arpFrame(), fillIn(FIRST, IP + 14 - FIRST)],
  ['mi.r', 'in the sender of RARP', rarpFrame(), fillIn(FIRST, IP + 14 - FIRST)],
  ['.i..', 'in the type of ICMP', icmp(8), fillIn(V4_END, 0)],
  ['.i..', 'in the type of IGMP', igmp(0x22), fillIn(V4_END, 0)],
  ['mi..', 'in the type of ICMPv6', icmpV6(withMacs(128)), fillIn(V6_END, 0)],
  ['mi..', 'in the MAC of a redirect', icmpV6(withMacs(137, [TARGET, MAC.a])), fillIn(V6_END, 42)],
  ['mi..', 'in the target of an advertisement', icmpV6(advertisement(OWN_V6)), fillIn(V6_END, 8)],
  ['..d.', 'in the source port', v4(), fillIn(V4_END, 0)],
  ['..d.', 'in chaddr', dhcpFrame(), fillIn(V4_END, 8 + 28)],
  ['..d.', 'in hops', dhcpFrame(), fillIn(V4_END, 8 + 2)],
  ['..d.', 'in giaddr', dhcpFrame(), fillIn(V4_END, 8 + 24)],
]);

const SEGMENT_BYTES = 1000;
const superframe = (version: 4 | 6, source: string): readonly [Uint8Array, virtio.Repr, number] => {
  const end = version === 4 ? V4_END : V6_END;
  const bytes = packet({ version, source, protocol: TCP, payloadBytes: 3000, checksum: 'partial' });
  const header = { gsoType: version === 4 ? 1 : 4, gsoSize: SEGMENT_BYTES, headerLength: end + 20 };
  return [bytes, { ...fillIn(end, TCP_SUM), ...header }, 3];
};
const SUPERFRAMES = rowsOf('superframe', [
  ['....', 'TCP', ...superframe(4, OWN_V4)],
  ['....', 'TCP over IPv6', ...superframe(6, OWN_V6)],
  ['.i..', 'TCP, address of another', ...superframe(4, OTHER_V4)],
  ['.i..', 'TCP over IPv6, address of another', ...superframe(6, OTHER_V6)],
]);

export const ROWS: readonly Row[] = [
  ...ETHERNET,
  ...IPV4,
  ...IPV6,
  ...ARP,
  ...ND,
  ...DHCP,
  ...DHCPV6,
  ...PARTIAL,
  ...SUPERFRAMES,
];

/** Of a guest that has no address but the link-local one that its MAC makes: how it gets one, and what it may not do yet. */
export const ROWS_WITHOUT_ADDRESS: readonly Row[] = [
  ...DHCP,
  ...DHCPV6,
  ...rowsOf('no address yet', [
    ['....', 'IGMP report', igmp(0x22, { source: '0.0.0.0' })],
    ['....', 'router solicitation from ::', icmpV6(withMacs(133), { source: '::' })],
    ['....', 'router solicitation', icmpV6(withMacs(133, [SOURCE, MAC.a]))],
    ['....', 'is its link-local address free?', icmpV6(solicitation(LINK_LOCAL), { source: '::' })],
    ['....', 'MLD report from ::', icmpV6(withMacs(143), { source: '::', extensions: 1 })],
    ['....', 'NS for its router', icmpV6(solicitation('fe80::1'))],
    ['....', 'NA for its link-local address', icmpV6(advertisement(LINK_LOCAL))],
    ['.i..', 'UDP', v4()],
    ['.i..', 'UDP over IPv6', v6()],
    ['.i..', 'ARP', arpFrame()],
    ['.i..', 'ARP probe', arpFrame({ ip: '0.0.0.0', target: OWN_V4 })],
    ['.i..', 'NA', icmpV6(advertisement(OWN_V6))],
    ['.i..', 'is an address free?', icmpV6(withMacs(135), { source: '::' })],
  ]),
];
