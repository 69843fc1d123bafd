/** The frames of a probe: loopback messages, ARP requests and neighbour solicitations of any size. */
import * as flow from '../../core/flow.js';
import * as arp from '../../wire/arp.js';
import * as ethernet from '../../wire/ethernet.js';
import * as icmpv6 from '../../wire/icmpv6.js';
import { ANY_V4, type IpAddress, type Ipv4Address, isV4 } from '../../wire/ip.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as loopback from '../../wire/loopback.js';
import * as mac from '../../wire/mac.js';
import * as ndp from '../../wire/ndp.js';
import * as vlan from '../../wire/vlan.js';

export interface ProbeRoute {
  readonly from: mac.MacAddress;
  readonly to: mac.MacAddress;
  /** 0 = no tag. */
  readonly vid: number;
}

/** Bytes of the Ethernet header, tag included. */
export function headerBytes({ vid }: Pick<ProbeRoute, 'vid'>): number {
  return ethernet.HEADER_BYTES + (vid === 0 ? 0 : vlan.HEADER_BYTES);
}

/** `packetBytes` does not count the Ethernet header and the tag, as `mtu` does not. */
export function loopbackFrame(route: ProbeRoute, transaction: number, packetBytes: number): Uint8Array {
  const frame = frameOf(route, ethernet.FAULT_MANAGEMENT, packetBytes);
  const message = {
    level: loopback.MAX_LEVEL,
    opcode: loopback.MESSAGE,
    transaction,
    dataBytes: packetBytes - loopback.MIN_BYTES,
  } as const;
  loopback.write(message, frame, headerBytes(route));
  return frame;
}

/** Returns the place in the list of source ports that sends the loopback message with this transaction. */
export function pathOf(route: ProbeRoute, transaction: number, paths: number): number {
  const frame = loopbackFrame(route, transaction, loopback.MIN_BYTES);
  return flow.choose(flow.inspect(frame, 0, headerBytes(route), frame.length), paths);
}

/** Asks for the MAC of an address, padded to the size. */
export function neighborFrame(route: ProbeRoute, ip: IpAddress, packetBytes: number): Uint8Array {
  return isV4(ip) ? arpFrame(route, ip, packetBytes) : solicitation(route, ip, packetBytes);
}

/** Asks whether the address is free. Its owner answers, and no cache of a neighbour changes (RFC 5227 2.1.1). */
function arpFrame(route: ProbeRoute, ip: Ipv4Address, packetBytes: number): Uint8Array {
  const frame = frameOf(route, ethernet.ARP, Math.max(packetBytes, arp.byteLength()));
  const request: arp.Repr = {
    operation: arp.REQUEST,
    senderMac: route.from,
    senderIp: ANY_V4,
    targetMac: mac.ZERO,
    targetIp: ip,
  };
  arp.write(request, frame, headerBytes(route));
  return frame;
}

/** A solicitation from the link-local address of the port: the answer comes to the port alone. */
function solicitation(route: ProbeRoute, ip: IpAddress, packetBytes: number): Uint8Array {
  const isMulticast = mac.isMulticast(route.to);
  const destination = isMulticast ? ndp.solicitedNode(ip) : ip;
  const to = isMulticast ? ndp.multicastMac(destination) : route.to;
  const message: ndp.Repr = { kind: 'neighborSolicitation', target: ip, sourceMac: route.from };
  const messageBytes = ndp.byteLength(message);
  const frame = frameOf(
    { ...route, to },
    ethernet.IPV6,
    Math.max(packetBytes, ipv6.HEADER_BYTES + messageBytes),
  );
  const packet = headerBytes(route);
  const header: ipv6.Repr = {
    source: ndp.linkLocalOf(route.from),
    destination,
    nextHeader: ipv6.ICMPV6,
    hopLimit: ipv6.MAX_HOP_LIMIT, // RFC 4861 4.3
    trafficClass: 0,
    flowLabel: 0,
    payloadLength: messageBytes,
  };
  const at = packet + ipv6.write(header, frame, packet);
  ndp.write(message, frame, at);
  icmpv6.fillChecksum(frame, packet, at, messageBytes);
  return frame;
}

function frameOf(route: ProbeRoute, etherType: number, packetBytes: number): Uint8Array {
  const { from, to, vid } = route;
  const frame = new Uint8Array(headerBytes(route) + packetBytes);
  const outer = vid === 0 ? etherType : vlan.CUSTOMER_TAG;
  ethernet.write({ destination: to, source: from, etherType: outer }, frame, 0);
  if (vid !== 0)
    vlan.write({ priority: 0, dropEligible: false, vlanId: vid, etherType }, frame, ethernet.HEADER_BYTES);
  return frame;
}
