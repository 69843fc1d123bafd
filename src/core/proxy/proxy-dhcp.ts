/**
 * Proxy DHCP: a broadcast between DHCP client and server becomes a unicast frame to the station that it is
 * for. Only the six bytes of the destination MAC change. To IP and DHCP the packet remains a broadcast, so no
 * checksum is touched, and no relay appears in it (no giaddr, no option 82: RFC 1542 4 is not wanted here).
 *
 *   client -> server   to the MAC that the plugin names for the client's Ethernet source
 *   server -> client   to `chaddr`: a server broadcasts to clients that ask for it, and its NAKs (RFC 2131 4.1)
 *
 * Options are not parsed, so no client loses a lease because of odd options.
 */
import type { ProxyDrop } from '../../model/drops.js';
import * as dhcpv4 from '../../wire/dhcpv4.js';
import * as ethernet from '../../wire/ethernet.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as mac from '../../wire/mac.js';
import * as udp from '../../wire/udp.js';
import { headerOf, isStation } from './proxy-frame.js';

export interface DhcpQuestion {
  readonly kind: 'toServer' | 'toClient';
  readonly client: mac.MacAddress;
}

/** Reads a frame to a group address. `tx_group` = well-formed as far as parsed, but not DHCP. */
export function readDhcp(frame: Uint8Array): DhcpQuestion | ProxyDrop {
  const header = headerOf(frame, ethernet.IPV4);
  const ipLength = header === 0 ? 0 : ipv4.check(frame, header, frame.length - header);
  const source = ethernet.source(frame, 0);
  if (ipLength <= 0 || !isStation(source)) return 'dhcp_malformed';
  if (!mac.isBroadcast(ethernet.destination(frame, 0))) return 'tx_group';
  if (ipv4.isFragment(frame, header) || ipv4.protocol(frame, header) !== ipv4.UDP) return 'tx_group';
  const datagram = header + ipLength;
  if (udp.check(frame, datagram, ipv4.payloadLength(frame, header)) < 0) return 'dhcp_malformed';
  const from = udp.sourcePort(frame, datagram);
  const to = udp.destinationPort(frame, datagram);
  if (from === dhcpv4.CLIENT_PORT && to === dhcpv4.SERVER_PORT) return { kind: 'toServer', client: source };
  if (from !== dhcpv4.SERVER_PORT || to !== dhcpv4.CLIENT_PORT) return 'tx_group';
  return readReply(frame, datagram + udp.HEADER_BYTES, udp.payloadLength(frame, datagram));
}

function readReply(frame: Uint8Array, message: number, length: number): DhcpQuestion | ProxyDrop {
  if (dhcpv4.check(frame, message, length) < 0 || dhcpv4.operation(frame, message) !== dhcpv4.REPLY)
    return 'dhcp_malformed';
  const client = dhcpv4.clientMac(frame, message);
  return isStation(client) ? { kind: 'toClient', client } : 'dhcp_malformed';
}
