/**
 * Proxy NDP: a multicast neighbour solicitation is answered here from the plugin's facts, in the same way as
 * in proxy-arp.ts.
 *
 * A solicitation behind extension headers is not answered: neighbour discovery does not need them, and in a
 * fragment it must be ignored (RFC 6980 5). Extension headers are parsed nevertheless, so that no discovery
 * message is taken for ordinary multicast and flooded: router advertisements hide behind them (RFC 7113 2).
 */
import type { ProxyDrop } from '../../model/drops.js';
import * as ethernet from '../../wire/ethernet.js';
import * as icmpv6 from '../../wire/icmpv6.js';
import * as ip from '../../wire/ip.js';
import { ALL_NODES, ANY_V6, type Ipv6Address, isStationIp, isV4 } from '../../wire/ip.js';
import * as ipv6 from '../../wire/ipv6.js';
import type { MacAddress } from '../../wire/mac.js';
import * as ndp from '../../wire/ndp.js';
import { headerOf, isStation, replyTo } from './proxy-frame.js';

/** Ports are stations, and the mapping does not say that one is a gateway for other networks. RFC 4861 4.4,
 * R */
const ROUTER = false;
/**
 * RFC 4861 7.2.8 wants 0 from a proxy, so that the owner's own answer wins. Here no owner can answer: the
 * solicitation never reaches it, and the plugin is the authority. With 0, a neighbour that has an address's
 * old MAC in its cache would keep sending to it after the address has moved.
 */
const OVERRIDE = true;

export interface NdpQuestion {
  readonly ip: Ipv6Address;
  /** `::` if the sender asks whether the address is free (RFC 4862 5.4.2). */
  readonly sender: Ipv6Address;
  readonly senderMac: MacAddress;
  /** Bytes of the Ethernet header, tags included. */
  readonly header: number;
}

/** Reads a frame to a group address. `tx_group` = well-formed as far as parsed, but not discovery. */
export function readNdp(frame: Uint8Array): NdpQuestion | ProxyDrop {
  const header = headerOf(frame, ethernet.IPV6);
  if (header === 0 || ipv6.check(frame, header, frame.length - header) < 0) return 'ndp_malformed';
  const found = ipv6.transport(frame, header);
  if (found < 0) return 'ndp_malformed';
  if (ipv6.transportProtocol(found) !== ipv6.ICMPV6 || ipv6.isLaterFragment(found)) return 'tx_group';
  const message = header + ipv6.transportOffset(found);
  // The packet may end before the frame does; the rest is Ethernet padding.
  const length = header + ipv6.HEADER_BYTES + ipv6.payloadLength(frame, header) - message;
  if (icmpv6.check(frame, message, length) < 0) return 'ndp_malformed';
  switch (icmpv6.type(frame, message)) {
    case icmpv6.NEIGHBOR_SOLICITATION:
      if (message !== header + ipv6.HEADER_BYTES) return 'ndp_ignored';
      return readSolicitation(frame, header, message, length);
    case icmpv6.ROUTER_ADVERTISEMENT:
    case icmpv6.REDIRECT:
      return 'ndp_router';
    case icmpv6.NEIGHBOR_ADVERTISEMENT:
    case icmpv6.ROUTER_SOLICITATION:
      return 'ndp_ignored';
    default:
      return 'tx_group';
  }
}

/** The tests of RFC 4861 7.1.1, and 4.3 for the source option. */
function readSolicitation(
  frame: Uint8Array,
  header: number,
  message: number,
  length: number,
): NdpQuestion | ProxyDrop {
  if (ipv6.hopLimit(frame, header) !== ipv6.MAX_HOP_LIMIT) return 'ndp_malformed';
  if (!icmpv6.verifyChecksum(frame, header, message, length)) return 'ndp_malformed';
  const solicitation = ndp.parse(frame, message, length);
  if (solicitation?.kind !== 'neighborSolicitation') return 'ndp_malformed';
  const { target, sourceMac } = solicitation;
  const sender = ipv6.source(frame, header);
  const destination = ipv6.destination(frame, header);
  const senderMac = ethernet.source(frame, 0);
  if (!isStation(senderMac)) return 'ndp_malformed';
  if (isV4(sender) || isV4(target) || isV4(destination)) return 'ndp_malformed';
  if (sender === ANY_V6) {
    if (!ndp.isSolicitedNode(destination) || sourceMac !== undefined) return 'ndp_malformed';
  } else {
    // RFC 4291 2.5.3, 2.7: no packet comes from a loopback or multicast address.
    if (!isStationIp(sender)) return 'ndp_malformed';
    // RFC 4861 4.3: a multicast solicitation must have the option. A group MAC may carry a unicast address as
    // well (7.1.1 has no rule against it). Then the option may be missing, and the sender of the frame is
    // answered.
    if (sourceMac === undefined && ip.isMulticast(destination)) return 'ndp_malformed';
    if (sourceMac !== undefined && sourceMac !== senderMac) return 'proxy_spoofed';
  }
  return isStationIp(target) ? { ip: target, sender, senderMac, header } : 'ndp_ignored';
}

/** Answers a question. `owner`: the MAC that has the address, null if it is unknown. There is no answer for
 * the asker's own address, as in ARP. The answer is sent at once: RFC 4861 7.2.8 lets a proxy wait up to 1 s
 * because several may answer, and here there is one. */
export function answerNdp(
  frame: Uint8Array,
  { ip: target, sender, senderMac, header }: NdpQuestion,
  owner: MacAddress | null,
): Uint8Array | ProxyDrop {
  if (owner === null) return 'proxy_unknown';
  if (owner === senderMac) return 'proxy_own';
  // RFC 4861 7.2.4: an asker without an address gets the answer as one of all nodes, and unsolicited.
  if (sender === ANY_V6) return advertisement(frame, header, target, owner, ALL_NODES);
  return advertisement(frame, header, target, owner, sender, senderMac);
}

/** Returns an advertisement "`address` is at `owner`" to all nodes. */
export function ndpAnnouncement(address: Ipv6Address, owner: MacAddress): Uint8Array {
  const request = new Uint8Array(ethernet.HEADER_BYTES);
  ethernet.write({ destination: 0, source: 0, etherType: ethernet.IPV6 }, request, 0);
  return advertisement(request, request.length, address, owner, ALL_NODES); // RFC 4861 7.2.6
}

/** Returns an advertisement; it is solicited if `destinationMac` is given. */
function advertisement(
  request: Uint8Array,
  header: number,
  target: Ipv6Address,
  owner: MacAddress,
  destination: Ipv6Address,
  destinationMac?: MacAddress,
): Uint8Array {
  const message: ndp.Repr = {
    kind: 'neighborAdvertisement',
    target,
    router: ROUTER,
    solicited: destinationMac !== undefined,
    override: OVERRIDE,
    targetMac: owner,
  };
  const messageBytes = ndp.byteLength(message);
  const to = destinationMac ?? ndp.multicastMac(destination);
  const frame = replyTo(request, header, ipv6.HEADER_BYTES + messageBytes, to, owner);
  const at =
    header +
    ipv6.write(
      {
        source: target,
        destination,
        nextHeader: ipv6.ICMPV6,
        hopLimit: ipv6.MAX_HOP_LIMIT, // RFC 4861 4.4
        trafficClass: 0,
        flowLabel: 0,
        payloadLength: messageBytes,
      },
      frame,
      header,
    );
  ndp.write(message, frame, at);
  icmpv6.fillChecksum(frame, header, at, messageBytes);
  return frame;
}
