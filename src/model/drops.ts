/**
 * The closed list of reasons why a frame is not delivered. The datapath counts every drop under one of these
 * names, and drops nothing without one. docs/drops.md is made from this list (`npm run docs`).
 */
import { ERRNO } from '../wire/errno.js';

export interface Drop {
  /** `by_design`: a healthy network drops such frames all the time. `trouble`: worth an alert. */
  readonly kind: 'trouble' | 'by_design';
  /** A description of the frame. */
  readonly about: string;
}

const trouble = (about: string): Drop => ({ kind: 'trouble', about });
const byDesign = (about: string): Drop => ({ kind: 'by_design', about });

/** Port -> underlay. */
const TX_DROPS = {
  tx_runt: trouble('shorter than its Ethernet header and VLAN tags'),
  tx_vlan: trouble(
    'tagged on an access port (a priority tag, VLAN 0, does not count), tagged while `<encap>/vlan` is `drop`, or with more than four tags',
  ),
  tx_too_big: trouble('larger than the `mtu` of the overlay'),
  tx_hairpin: byDesign('addressed to the port it came from'),
  lookup_drop: trouble(
    'the plugin knows no place for the MAC, or places it at this host while the overlay has no interface of its own',
  ),
  lookup_failed: trouble('the plugin failed, or its answer was invalid'),
  lookup_timeout: trouble('the plugin did not answer in time'),
  lookup_busy: trouble(
    'too many questions: its port has the most open questions it may have, or asked 1,000 in the last second, or its question made room for a port with fewer',
  ),
  pending_full: trouble(
    'the queue of frames that wait for an answer was full, or the frame made room for a port or overlay with fewer waiting',
  ),
  pending_lost: trouble(
    'waited for an answer, but its entry in the target table was replaced, or its port or overlay was deleted',
  ),
  tx_malformed: trouble(
    'its checksum field lies outside the frame, or it cannot be cut into the segments it asks for',
  ),
  tx_path_mtu: trouble(
    'larger than the path to its VTEP carries, as far as that is known; it is never fragmented (RFC 7348 4.3)',
  ),
  tx_queue_full: trouble('the underlay socket takes no more (EAGAIN, ENOBUFS)'),
  tx_unreachable: trouble('there is no route to its VTEP, or no program listens there'),
  tx_firewall: trouble(
    "a firewall of this host drops it (EPERM): allow UDP to the peers' listen port in the output rules",
  ),
  tx_loop: trouble('the route to its VTEP leads into a port of the overlay that sends it: not sent (ELOOP)'),
  tx_error: trouble('the underlay socket failed in another way'),
} as const;

/**
 * Frames that a proxy did not answer: broadcasts and multicasts of a port that the plugin gave to proxy ARP,
 * NDP or DHCP. Such a frame goes no further in any case; ports of this host have received it.
 */
const PROXY_DROPS = {
  tx_group: byDesign('broadcast or multicast that no proxy handles and the plugin does not flood'),
  arp_malformed: trouble('not ARP for IPv4 over Ethernet, or cut off, or from a group address (RFC 826)'),
  arp_ignored: byDesign('a reply or an announcement, or about an address that no station has'),
  arp_conflict: trouble('announces an address that the plugin maps to another MAC (RFC 5227 2.4)'),
  ndp_malformed: trouble('a solicitation to be discarded (RFC 4861 7.1.1)'),
  ndp_ignored: byDesign(
    'an advertisement, a router solicitation, or neighbour discovery behind extension headers (RFC 6980 5)',
  ),
  ndp_router: byDesign('a router advertisement or redirect: no port is a router to other hosts'),
  dhcp_malformed: trouble('cut off, or without the address of a client (RFC 2131 2)'),
  proxy_spoofed: trouble(
    'the sender that ARP or neighbour discovery names is not the one that sent the frame',
  ),
  proxy_unknown: byDesign('the plugin knows no MAC of that address, or no DHCP server of that client'),
  proxy_own: byDesign(
    'asks for its own address: no answer means that it is free (RFC 5227 2.1.1, RFC 4862 5.4)',
  ),
  proxy_local: byDesign('for a station of this host, which has received the broadcast already'),
} as const;

/** Frames that the owner of a port may not send: link protection (link-protection.ts). Counted for the port
 * as well. */
export const PROTECTION_DROPS = {
  mac_spoofed: trouble(
    'its source, or a MAC that ARP, RARP or neighbour discovery gives, is not that of the VNIC',
  ),
  ip_spoofed: trouble(
    'its source, or the address in its ARP, RARP or neighbour discovery, is not one that the VNIC may use',
  ),
  dhcp_spoofed: trouble('a DHCP client with another hardware address, client id or DUID'),
  rogue_router: trouble('a message that only routers send: a router advertisement, a redirect, and the like'),
  rogue_dhcp: trouble('a message of a DHCP server or relay, or one that passed a relay'),
  dhcp_flood: trouble('more than 64 DHCP requests and releases of the VNIC in a second'),
  restricted: byDesign('neither IPv4 nor IPv6 nor ARP'),
  unreadable: trouble(
    'cut off, malformed, a fragment where none is allowed, or with an incomplete checksum in a message that is checked',
  ),
} as const;

/** Underlay -> port, counted for the socket, since the overlay is not known yet. */
export const SOCKET_DROPS = {
  rx_truncated: trouble('shorter than the header of its encapsulation'),
  rx_no_vni: trouble('VXLAN: the I flag is not set (RFC 7348 5)'),
  rx_version: trouble('Geneve: another version than 0 (RFC 8926 3.4)'),
  rx_control: trouble('Geneve: a control packet, the O bit is set (RFC 8926 3.4)'),
  rx_critical_option: trouble(
    'Geneve: an option that varpd must understand and does not (the C bit is set, or its type is critical; RFC 8926 3.4, 3.5)',
  ),
  rx_bad_option: trouble('Geneve: the lengths of its options do not add up (RFC 8926 3.5)'),
  rx_protocol: trouble('Geneve: another protocol than Ethernet (RFC 8926 3.4)'),
  rx_unknown_vni: trouble('no overlay with that VNI on this address and port'),
  rx_ambiguous: trouble(
    'a message that is either several datagrams or one uncut frame of a peer on this machine. ' +
      'For a minute the kernel then cuts all messages for this socket, so the next ones arrive',
  ),
  rx_queue_full: trouble(
    "the socket's queue (4 MiB) was full because varpd was too slow, or the outer UDP checksum was wrong. " +
      'The kernel counts since the socket was opened; one count may be up to 64 datagrams (128 from this machine)',
  ),
} as const;

/** Underlay -> port. */
const RX_DROPS = {
  rx_unknown_peer: trouble('from an underlay address that is not a peer of this overlay'),
  rx_runt: trouble('the inner frame is shorter than its Ethernet header and VLAN tags'),
  rx_bad_source: trouble(
    'the inner source is a group, zero, or a port of this host that has just sent: a loop',
  ),
  rx_source_mismatch: trouble(
    'the inner source lives at another VTEP than the one that sent it, or nowhere (`<encap>/strict-source`)',
  ),
  rx_source_unknown: trouble(
    'varpd is asking the plugin where the inner source lives (`<encap>/strict-source`)',
  ),
  rx_vlan: trouble('the inner frame is tagged and `<encap>/vlan` is `drop` (RFC 7348 6.1)'),
  rx_ecn: trouble(
    'the outer header marks congestion, but the inner packet does not support ECN (RFC 6040 4.2)',
  ),
  rx_too_big: trouble('the inner frame is larger than the `mtu` of the overlay'),
  rx_loopback: byDesign(
    'a loopback message to a port of this host, beyond the 500 a second and thread that varpd answers',
  ),
  rx_no_port: trouble('no port of this host has its destination and VLAN'),
} as const;

/** Into a TAP, from any source. */
const PORT_DROPS = {
  port_down: trouble('the interface of the port is down (EIO)'),
  port_full: trouble('the kernel takes no more (EAGAIN, ENOBUFS)'),
  port_error: trouble('the device failed in another way'),
} as const;

/** In the order of the documentation. */
export const DROP_GROUPS = {
  tx: TX_DROPS,
  protection: PROTECTION_DROPS,
  proxy: PROXY_DROPS,
  socket: SOCKET_DROPS,
  rx: RX_DROPS,
  port: PORT_DROPS,
} as const;

export const DROPS = {
  ...TX_DROPS,
  ...PROTECTION_DROPS,
  ...PROXY_DROPS,
  ...SOCKET_DROPS,
  ...RX_DROPS,
  ...PORT_DROPS,
};

export type DropReason = keyof typeof DROPS;
export type ProxyDrop = keyof typeof PROXY_DROPS;

/** Returns the reason of a drop from the errno with which the underlay socket refused a datagram. */
export function dropOfSendError(errno: number): DropReason {
  switch (errno) {
    case ERRNO.EMSGSIZE:
      return 'tx_path_mtu';
    case ERRNO.EAGAIN:
    case ERRNO.ENOBUFS:
    case ERRNO.ENOMEM:
      return 'tx_queue_full';
    case ERRNO.ENETUNREACH:
    case ERRNO.EHOSTUNREACH:
    case ERRNO.ENETDOWN:
    case ERRNO.ECONNREFUSED:
    case ERRNO.EADDRNOTAVAIL:
      return 'tx_unreachable';
    case ERRNO.EPERM:
      return 'tx_firewall';
    case ERRNO.EINVAL:
      return 'tx_malformed';
    default:
      return 'tx_error';
  }
}

/** Returns the reason of a drop from the errno with which a TAP refused a frame. */
export function dropOfPortError(errno: number): DropReason {
  switch (errno) {
    case ERRNO.EIO:
      return 'port_down';
    case ERRNO.EAGAIN:
    case ERRNO.ENOBUFS:
    case ERRNO.ENOMEM:
      return 'port_full';
    default:
      return 'port_error';
  }
}
