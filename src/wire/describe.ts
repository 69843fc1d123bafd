// One line for one frame, with a clause for each layer, in the style of smoltcp's pretty printer:
//
//   Ethernet 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff | ARP who has 10.0.0.2, tell 10.0.0.1 at 02:00:00:00:00:01
//   Ethernet ... | IPv4 192.0.2.1 > 192.0.2.2 ttl 64 | UDP 51000 > 4789 (58 bytes) | VXLAN 100 | Ethernet ...
//
// This is for logs, traces, `explain` and test diffs, and too slow for every frame. It takes any bytes: a
// layer that fails its `check` is the last clause and gives the reason.

import * as arp from './arp.js';
import * as dhcpv4 from './dhcpv4.js';
import * as ethernet from './ethernet.js';
import * as geneve from './geneve.js';
import * as icmp from './icmp.js';
import * as icmpv6 from './icmpv6.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import * as loopback from './loopback.js';
import { formatMac, type MacAddress } from './mac.js';
import * as ndp from './ndp.js';
import { reasonName } from './reason.js';
import * as tcp from './tcp.js';
import * as udp from './udp.js';
import * as vlan from './vlan.js';
import * as vxlan from './vxlan.js';

/**
 * Two tunnels with two tags in each are 14 layers. A frame of nothing but tags must not become a line of
 * thousands.
 */
const MAX_LAYERS = 16;

/** `depth`: number of layers above this one. */
type Layer = (bytes: Uint8Array, offset: number, length: number, depth: number) => string;

/** Never throws. `offset` and `length` are limited to the bytes that exist. */
export function describe(bytes: Uint8Array, offset = 0, length = bytes.length - offset): string {
  const start = Math.min(Math.max(0, offset), bytes.length);
  return ethernetLayer(bytes, start, Math.min(Math.max(0, length), bytes.length - start), 0);
}

/** Describes an IPv4 or IPv6 packet that begins with its IP header. */
export function describeIp(bytes: Uint8Array): string {
  const layer = bytes.length > 0 && bytes[0] >> 4 === 6 ? ipv6Layer : ipv4Layer;
  return layer(bytes, 0, bytes.length, 0);
}

function join(text: string, next: Layer, bytes: Uint8Array, offset: number, length: number, depth: number) {
  return `${text} | ${depth === MAX_LAYERS ? '...' : next(bytes, offset, length, depth + 1)}`;
}

function refused(name: string, reason: number, length: number): string {
  return `${name} ${reasonName(reason)} (${length} bytes)`;
}

/** A layer of which only the number is known. */
function opaque(name: string): Layer {
  return (_bytes, _offset, length) => `${name} (${length} bytes)`;
}

const ethernetLayer: Layer = (bytes, offset, length, depth) => {
  const header = ethernet.check(bytes, offset, length);
  if (header < 0) return refused('Ethernet', header, length);
  const source = formatMac(ethernet.source(bytes, offset));
  const text = `Ethernet ${source} > ${formatMac(ethernet.destination(bytes, offset))}`;
  const next = byEtherType(ethernet.etherType(bytes, offset));
  return join(text, next, bytes, offset + header, length - header, depth);
};

const vlanLayer: Layer = (bytes, offset, length, depth) => {
  const header = vlan.check(bytes, offset, length);
  if (header < 0) return refused('VLAN', header, length);
  const priority = vlan.priority(bytes, offset);
  const text = `VLAN ${vlan.vlanId(bytes, offset)}${priority === 0 ? '' : ` priority ${priority}`}`;
  const next = byEtherType(vlan.etherType(bytes, offset));
  return join(text, next, bytes, offset + header, length - header, depth);
};

function byEtherType(etherType: number): Layer {
  if (vlan.isTagType(etherType)) return vlanLayer;
  if (etherType === ethernet.ARP) return arpLayer;
  if (etherType === ethernet.IPV4) return ipv4Layer;
  if (etherType === ethernet.IPV6) return ipv6Layer;
  if (etherType === ethernet.FAULT_MANAGEMENT) return loopbackLayer;
  if (etherType < ethernet.MIN_ETHER_TYPE) return opaque('LLC');
  return opaque(`EtherType 0x${etherType.toString(16).padStart(4, '0')}`);
}

const arpLayer: Layer = (bytes, offset, length) => {
  const repr = arp.parse(bytes, offset, length);
  if (repr === undefined) return refused('ARP', arp.check(bytes, offset, length), length);
  const sender = `${repr.senderIp} at ${formatMac(repr.senderMac)}`;
  if (repr.operation === arp.REQUEST) return `ARP who has ${repr.targetIp}, tell ${sender}`;
  if (repr.operation === arp.REPLY) return `ARP reply ${sender}, to ${repr.targetIp}`;
  return `ARP operation ${repr.operation} from ${sender}`;
};

const loopbackLayer: Layer = (bytes, offset, length) => {
  const reason = loopback.check(bytes, offset, length);
  if (reason < 0) return refused('fault management', reason, length);
  const kind = loopback.opcode(bytes, offset) === loopback.REPLY ? 'reply' : 'message';
  const transaction = loopback.transaction(bytes, offset) >>> 0;
  return `loopback ${kind} ${transaction} level ${loopback.level(bytes, offset)} (${length} bytes)`;
};

const ipv4Layer: Layer = (bytes, offset, length, depth) => {
  const header = ipv4.check(bytes, offset, length);
  if (header < 0) return refused('IPv4', header, length);
  const fragmentOffset = ipv4.fragmentOffset(bytes, offset);
  const text = [
    `IPv4 ${ipv4.source(bytes, offset)} > ${ipv4.destination(bytes, offset)}`,
    ` ttl ${ipv4.ttl(bytes, offset)}`,
    ecnText(ipv4.ecn(bytes, offset)),
    ipv4.isFragment(bytes, offset) ? ` fragment at ${fragmentOffset}` : '',
    ipv4.verifyChecksum(bytes, offset) ? '' : ' bad checksum',
  ].join('');
  const protocol = ipv4.protocol(bytes, offset);
  const next = fragmentOffset > 0 ? opaque(`protocol ${protocol}`) : byProtocol(protocol);
  return join(text, next, bytes, offset + header, ipv4.payloadLength(bytes, offset), depth);
};

const ipv6Layer: Layer = (bytes, offset, length, depth) => {
  const header = ipv6.check(bytes, offset, length);
  if (header < 0) return refused('IPv6', header, length);
  const transport = ipv6.transport(bytes, offset);
  const text = [
    `IPv6 ${ipv6.source(bytes, offset)} > ${ipv6.destination(bytes, offset)}`,
    ` hop ${ipv6.hopLimit(bytes, offset)}`,
    ecnText(ipv6.ecn(bytes, offset)),
    transport > 0 && ipv6.isFragment(transport) ? ' fragment' : '',
  ].join('');
  if (transport < 0) return `${text} | ${refused('extension', transport, length - header)}`;
  const protocol = ipv6.transportProtocol(transport);
  const at = ipv6.transportOffset(transport);
  const next = ipv6.isLaterFragment(transport) ? opaque(`protocol ${protocol}`) : byProtocol(protocol);
  return join(text, next, bytes, offset + at, header + ipv6.payloadLength(bytes, offset) - at, depth);
};

function ecnText(ecn: number): string {
  return ['', ' ect(1)', ' ect(0)', ' ce'][ecn];
}

function byProtocol(protocol: number): Layer {
  if (protocol === ipv4.UDP) return udpLayer;
  if (protocol === ipv4.TCP) return tcpLayer;
  if (protocol === ipv4.ICMP) return icmpLayer;
  if (protocol === ipv6.ICMPV6) return icmpv6Layer;
  return opaque(`protocol ${protocol}`);
}

const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'] as const;

const tcpLayer: Layer = (bytes, offset, length) => {
  const header = tcp.check(bytes, offset, length);
  if (header < 0) return refused('TCP', header, length);
  const flags = TCP_FLAGS.filter((_, bit) => (tcp.flags(bytes, offset) >> bit) & 1);
  const sequence = `seq ${tcp.sequence(bytes, offset)} ack ${tcp.acknowledgment(bytes, offset)}`;
  const ports = `${tcp.sourcePort(bytes, offset)} > ${tcp.destinationPort(bytes, offset)}`;
  return ['TCP', ports, ...flags, sequence, `(${length - header} bytes)`].join(' ');
};

const udpLayer: Layer = (bytes, offset, length, depth) => {
  const header = udp.check(bytes, offset, length);
  if (header < 0) return refused('UDP', header, length);
  const payload = udp.payloadLength(bytes, offset);
  const port = udp.destinationPort(bytes, offset);
  const text = `UDP ${udp.sourcePort(bytes, offset)} > ${port} (${payload} bytes)`;
  const next = byPort(port);
  return next === undefined ? text : join(text, next, bytes, offset + header, payload, depth);
};

function byPort(port: number): Layer | undefined {
  if (port === vxlan.PORT) return vxlanLayer;
  if (port === geneve.PORT) return geneveLayer;
  return port === dhcpv4.SERVER_PORT || port === dhcpv4.CLIENT_PORT ? dhcpLayer : undefined;
}

function tunnelLayer(name: string, { check, vni, hasReservedBits }: typeof vxlan | typeof geneve): Layer {
  return (bytes, offset, length, depth) => {
    const header = check(bytes, offset, length);
    if (header < 0) return refused(name, header, length);
    const reserved = hasReservedBits(bytes, offset) ? ' reserved bits' : '';
    const text = `${name} ${vni(bytes, offset)}${reserved}`;
    return join(text, ethernetLayer, bytes, offset + header, length - header, depth);
  };
}

const vxlanLayer = tunnelLayer('VXLAN', vxlan);
const geneveLayer = tunnelLayer('Geneve', geneve);

const dhcpLayer: Layer = (bytes, offset, length) => {
  const header = dhcpv4.check(bytes, offset, length);
  if (header < 0) return refused('DHCP', header, length);
  const repr = dhcpv4.parse(bytes, offset, length);
  const type = repr === undefined ? undefined : dhcpv4.messageType(repr);
  const name = dhcpv4.MESSAGE_NAMES[type ?? 0] ?? `type ${type ?? 0}`;
  const xid = dhcpv4.transactionId(bytes, offset).toString(16).padStart(8, '0');
  return `DHCP ${name} for ${formatMac(dhcpv4.clientMac(bytes, offset))} xid ${xid}`;
};

const icmpLayer: Layer = (bytes, offset, length) => {
  const header = icmp.check(bytes, offset, length);
  if (header < 0) return refused('ICMP', header, length);
  const echo = { [icmp.ECHO_REQUEST]: 'echo request', [icmp.ECHO_REPLY]: 'echo reply' };
  return icmpText('ICMP', echo, bytes, offset);
};

const icmpv6Layer: Layer = (bytes, offset, length) => {
  const header = icmpv6.check(bytes, offset, length);
  if (header < 0) return refused('ICMPv6', header, length);
  const type = icmpv6.type(bytes, offset);
  if (type >= icmpv6.ROUTER_SOLICITATION && type <= icmpv6.NEIGHBOR_ADVERTISEMENT) {
    return ndpText(bytes, offset, length);
  }
  if (type === icmpv6.PACKET_TOO_BIG) return `ICMPv6 packet too big, mtu ${icmpv6.word(bytes, offset)}`;
  const echo = { [icmpv6.ECHO_REQUEST]: 'echo request', [icmpv6.ECHO_REPLY]: 'echo reply' };
  return icmpText('ICMPv6', echo, bytes, offset);
};

function icmpText(
  name: string,
  echo: Readonly<Record<number, string>>,
  bytes: Uint8Array,
  offset: number,
): string {
  const type = icmp.type(bytes, offset);
  if (!(type in echo)) return `${name} type ${type} code ${icmp.code(bytes, offset)}`;
  const count = `id ${icmp.identifier(bytes, offset)} seq ${icmp.sequence(bytes, offset)}`;
  return `${name} ${echo[type]} ${count}`;
}

function ndpText(bytes: Uint8Array, offset: number, length: number): string {
  const repr = ndp.parse(bytes, offset, length);
  if (repr === undefined) return refused('NDP', ndp.check(bytes, offset, length), length);
  const from = (mac: MacAddress | undefined) => (mac === undefined ? '' : ` from ${formatMac(mac)}`);
  switch (repr.kind) {
    case 'neighborSolicitation':
      return `NDP who has ${repr.target}${from(repr.sourceMac)}`;
    case 'neighborAdvertisement': {
      const at = repr.targetMac === undefined ? '' : ` at ${formatMac(repr.targetMac)}`;
      const marks = [repr.router && ' router', repr.solicited && ' solicited', repr.override && ' override'];
      return `NDP advertises ${repr.target}${at}${marks.filter(Boolean).join('')}`;
    }
    case 'routerSolicitation':
      return `NDP router solicitation${from(repr.sourceMac)}`;
    case 'routerAdvertisement':
      return `NDP router advertisement, lifetime ${repr.lifetimeS} s${from(repr.sourceMac)}`;
  }
}
