/**
 * Why a frame is not delivered: the closed list. Every drop of the datapath is counted under one of these names,
 * and nothing is dropped without one.
 */
import { ERRNO } from '../wire/errno.js';

/** Port -> underlay. */
const TX_DROPS = {
  tx_runt: 'shorter than its Ethernet header and VLAN tag',
  tx_vlan: 'tagged on an access port, or tagged where vxlan/vlan is drop',
  tx_too_big: 'larger than the MTU of the overlay',
  tx_hairpin: 'addressed to the port it came from',
  lookup_drop: 'the plugin says: nowhere, or here while the overlay has no interface of its own',
  lookup_failed: 'the plugin threw, or answered nonsense',
  lookup_timeout: 'the plugin did not answer in time',
  lookup_busy:
    'as many questions are under way, or were asked lately, as its port may have, or its own gave way to one of a quieter port',
  pending_full: 'more frames wait for an answer than may, or it gave way to one of a quieter port or overlay',
  pending_lost: 'waited for an answer, then its target made room for another or the overlay went',
  tx_malformed: 'asks for a checksum outside itself, or for segments it cannot be cut into',
  tx_path_mtu:
    'larger than the path to its VTEP carries (path-mtu.ts, EMSGSIZE); never fragmented, RFC 7348 4.3',
  tx_queue_full: 'the underlay socket takes no more (EAGAIN, ENOBUFS)',
  tx_unreachable: 'no route, or the VTEP refuses',
  tx_firewall: 'a firewall of this host drops it on its way out (EPERM)',
  tx_loop: 'the route to its VTEP leads into a port of the overlay that sends it: not sent (ELOOP)',
  tx_error: 'the underlay socket failed in another way',
} as const;

/**
 * What a proxy did not answer: broadcasts and multicasts of a port that the plugin gave to proxy ARP, NDP or DHCP.
 * The frame goes no further in any case; ports of this host have had their copy.
 */
const PROXY_DROPS = {
  tx_group: 'broadcast or multicast that no proxy is for and the plugin does not flood',
  arp_malformed: 'no ARP for IPv4 over Ethernet, or cut off, or from a group address, RFC 826',
  arp_ignored: 'no request, but a reply or an announcement, or about an address that no station has',
  arp_conflict: 'announces an address that the plugin maps to another MAC, RFC 5227 2.4',
  ndp_malformed: 'a solicitation to be discarded, RFC 4861 7.1.1',
  ndp_ignored: 'an advertisement, a router solicitation, or what is behind extension headers (RFC 6980 5)',
  ndp_router: 'a router advertisement or redirect: ports are no routers to other hosts',
  dhcp_malformed: 'cut off, or without a client to bring it to, RFC 2131 2',
  proxy_spoofed: 'the sender that ARP or NDP names is not the one that sent the frame',
  proxy_unknown: 'the plugin knows no MAC of that address, or no DHCP server of that client',
  proxy_own: 'asks for its own address: silence says that it is free, RFC 5227 2.1.1, RFC 4862 5.4',
  proxy_local: 'whom it is for is at this host, and has heard it itself',
} as const;

/** What the owner of a port may not send: link protection (link-protection.ts). Counted for the port as well. */
export const PROTECTION_DROPS = {
  mac_spoofed: 'its source, or a MAC that ARP, RARP or ND gives, is not the one of the VNIC',
  ip_spoofed: 'its source, or the address that ARP, RARP or ND speaks for, is none that the VNIC may use',
  dhcp_spoofed: 'a DHCP client that is not the VNIC: hardware address, client id or DUID',
  rogue_router: 'what routers say to hosts (advertisement, redirect, ...), of a VNIC that is no router',
  rogue_dhcp: 'a message of a DHCP server or relay, from a VNIC that is none',
  dhcp_flood: 'DHCP of a client beyond 64 questions and addresses given up a second',
  restricted: 'neither IPv4 nor IPv6 nor ARP',
  unreadable: 'cut off, fragmented or malformed, so that what is to be checked cannot be',
} as const;

/** Underlay -> port, counted for the socket, since no overlay is known yet. */
export const SOCKET_DROPS = {
  rx_truncated: 'shorter than a VXLAN header',
  rx_no_vni: 'the I flag is not set, RFC 7348 5',
  rx_unknown_vni: 'no overlay of that VNI listens here',
  rx_ambiguous: 'may be datagrams that the kernel put together, or one inner superframe: nobody can tell',
  rx_queue_full:
    'the queue of the socket was full; of datagrams put together, one in all (or a bad UDP checksum)',
} as const;

/** Underlay -> port. */
const RX_DROPS = {
  rx_unknown_peer: 'from an underlay address that is no peer of this overlay',
  rx_runt: 'the inner frame is shorter than its Ethernet header and VLAN tag, RFC 7348 5',
  rx_bad_source: 'inner source is a group, zero, or a port of this host that has just sent (a loop)',
  rx_source_mismatch: 'inner source lives at another VTEP than the one that sent it (vxlan/strict-source)',
  rx_source_unknown: 'where the inner source lives is not known, and is being asked (vxlan/strict-source)',
  rx_vlan: 'inner frame is tagged and vxlan/vlan is drop, RFC 7348 6.1',
  rx_ecn: 'congestion marked outside, but not ECN-capable inside, RFC 6040 4.2',
  rx_too_big: 'inner frame is larger than the MTU of the overlay',
  rx_no_port: 'no port of this host takes it',
} as const;

/** Into a TAP, wherever the frame came from. */
const PORT_DROPS = {
  port_down: 'the device is down (EIO)',
  port_full: 'the kernel takes no more (EAGAIN, ENOBUFS)',
  port_error: 'the device failed in another way',
} as const;

/** Reason -> what it means. */
export const DROPS = {
  ...TX_DROPS,
  ...PROTECTION_DROPS,
  ...PROXY_DROPS,
  ...SOCKET_DROPS,
  ...RX_DROPS,
  ...PORT_DROPS,
};

export type DropReason = keyof typeof DROPS;

/**
 * What a healthy network drops all the time: hosts solicit routers, announce and probe addresses, ask for what nobody has.
 * Every other reason is trouble, and worth an alert.
 */
export const BY_DESIGN: ReadonlySet<DropReason> = new Set([
  'tx_hairpin',
  'tx_group',
  'arp_ignored',
  'ndp_ignored',
  'ndp_router',
  'proxy_unknown',
  'proxy_own',
  'proxy_local',
  'restricted',
]);
export type ProxyDrop = keyof typeof PROXY_DROPS;

/** Why the underlay socket refused a datagram. */
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

/** Why a TAP refused a frame. */
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
