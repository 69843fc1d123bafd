/** Frames that guests send, for tests of plugins: data, ARP requests, neighbour solicitations, DHCP. */
import * as arp from '../wire/arp.js';
import * as dhcpv4 from '../wire/dhcpv4.js';
import * as ethernet from '../wire/ethernet.js';
import * as icmpv6 from '../wire/icmpv6.js';
import { ANY_V4, BROADCAST as ALL_V4, type IpAddress, type Ipv4Address, isV4 } from '../wire/ip.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import { BROADCAST, formatMac, type MacAddress, parseMac } from '../wire/mac.js';
import * as ndp from '../wire/ndp.js';
import * as udp from '../wire/udp.js';
import { address } from './addresses.js';

/** A MAC as a number, or as text: `02:00:00:00:00:01`. */
export type Mac = MacAddress | string;

/** IEEE 802, local experimental EtherType 1 */
const EXPERIMENTAL = 0x88b5;

/** MAC of the first port of a harness. */
export const GUEST: MacAddress = 0x0200_0000_0001;

/** Throws an Error for text that is no MAC. */
export function macOf(mac: Mac): MacAddress {
  const parsed = typeof mac === 'number' ? mac : parseMac(mac);
  if (parsed === undefined) throw new Error(`'${mac}' is not a MAC address: 02:00:00:00:00:01 was expected`);
  return parsed;
}

function enclose(to: MacAddress, from: MacAddress, etherType: number, ...parts: Uint8Array[]): Uint8Array {
  const header = new Uint8Array(ethernet.HEADER_BYTES);
  ethernet.write({ destination: to, source: from, etherType }, header, 0);
  return Uint8Array.from(Buffer.concat([header, ...parts]));
}

/** A frame of 60 bytes that no layer above Ethernet is in. */
export function dataFrame(to: Mac, from: Mac = GUEST): Uint8Array {
  return enclose(macOf(to), macOf(from), EXPERIMENTAL, new Uint8Array(ethernet.MIN_FRAME_BYTES - 14));
}

/** A broadcast "which MAC has `target`?" of the station with the address `sender`. Both addresses are IPv4. */
export function arpRequest(target: string, sender: string, from: Mac = GUEST): Uint8Array {
  const body = new Uint8Array(arp.HEADER_BYTES);
  const senderMac = macOf(from);
  const ips = { senderIp: v4(sender), targetIp: v4(target) };
  arp.write({ operation: arp.REQUEST, senderMac, targetMac: 0, ...ips }, body, 0);
  return enclose(BROADCAST, senderMac, ethernet.ARP, body);
}

/** A neighbour solicitation for `target`, an IPv6 address. */
export function solicitation(target: string, from: Mac = GUEST): Uint8Array {
  const sourceMac = macOf(from);
  const wanted = address(target);
  const message: ndp.Repr = { kind: 'neighborSolicitation', target: wanted, sourceMac };
  const group = ndp.solicitedNode(wanted);
  const header = {
    source: ndp.linkLocalOf(sourceMac),
    destination: group,
    nextHeader: ipv6.ICMPV6,
    hopLimit: 255, // RFC 4861 7.1.1
    trafficClass: 0,
    flowLabel: 0,
    payloadLength: ndp.byteLength(message),
  };
  const bytes = new Uint8Array(ipv6.HEADER_BYTES + header.payloadLength);
  ipv6.write(header, bytes, 0);
  ndp.write(message, bytes, ipv6.HEADER_BYTES);
  icmpv6.fillChecksum(bytes, 0, ipv6.HEADER_BYTES, header.payloadLength);
  return enclose(ndp.multicastMac(group), sourceMac, ethernet.IPV6, bytes);
}

/** DHCPDISCOVER of this client. */
export function dhcpDiscover(from: Mac = GUEST): Uint8Array {
  const clientMac = macOf(from);
  const message: dhcpv4.Repr = {
    operation: dhcpv4.REQUEST,
    hops: 0,
    transactionId: 0x1234_5678,
    secs: 0,
    wantsBroadcast: false,
    ciaddr: ANY_V4,
    yiaddr: ANY_V4,
    siaddr: ANY_V4,
    giaddr: ANY_V4,
    clientMac,
    options: new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.DISCOVER)]]),
  };
  const payloadLength = dhcpv4.byteLength(message);
  const bytes = new Uint8Array(ipv4.HEADER_BYTES + udp.HEADER_BYTES + payloadLength);
  const header: ipv4.Repr = {
    source: ANY_V4,
    destination: ALL_V4,
    protocol: ipv4.UDP,
    ttl: 64,
    trafficClass: 0,
    identification: 1,
    dontFragment: false,
    payloadLength: udp.HEADER_BYTES + payloadLength,
  };
  ipv4.write(header, bytes, 0);
  const ports = { sourcePort: dhcpv4.CLIENT_PORT, destinationPort: dhcpv4.SERVER_PORT };
  udp.write({ ...ports, payloadLength }, bytes, ipv4.HEADER_BYTES);
  dhcpv4.write(message, bytes, ipv4.HEADER_BYTES + udp.HEADER_BYTES);
  udp.fillChecksum(bytes, 0, ipv4.HEADER_BYTES);
  return enclose(BROADCAST, clientMac, ethernet.IPV4, bytes);
}

/** The MAC and the address in a reply or an announcement of ARP or neighbour discovery; undefined for another frame. */
export function neighborIn(frame: Uint8Array): { ip: IpAddress; mac: string } | undefined {
  const at = ethernet.HEADER_BYTES;
  const etherType = ethernet.etherType(frame, 0);
  if (etherType === ethernet.ARP) {
    const packet = arp.parse(frame, at, frame.length - at);
    return packet && { ip: packet.senderIp, mac: formatMac(packet.senderMac) };
  }
  if (etherType !== ethernet.IPV6) return undefined;
  const message = ndp.parse(frame, at + ipv6.HEADER_BYTES, frame.length - at - ipv6.HEADER_BYTES);
  if (message?.kind !== 'neighborAdvertisement' || message.targetMac === undefined) return undefined;
  return { ip: message.target, mac: formatMac(message.targetMac) };
}

function v4(text: string): Ipv4Address {
  const ip = address(text);
  if (!isV4(ip)) throw new Error(`'${text}' is not an IPv4 address`);
  return ip;
}
