/**
 * Link protection of one port: the frames that its owner may send, as in dladm(8) of illumos. No object is
 * made per frame. A port without protection has no LinkProtection, which costs the datapath one branch.
 *
 *   mac-nospoof    these MACs must be the port's: the source, the sender's in ARP, both in RARP, and every one in
 *                  an option of neighbour discovery
 *   ip-nospoof     the source address, and the one that ARP, RARP and neighbour discovery speak for, must be
 *                  allowed: listed, leased, or the link-local one made of the MAC. The port may send no messages
 *                  from routers to hosts (router advertisements, redirects, ...), and no inverse discovery
 *   dhcp-nospoof   a DHCP client is the port itself (hardware address, client id, DUID). The port may be no server
 *                  and no relay, and a client's message has nothing that a relay writes
 *   restricted     the port may send IPv4, IPv6 and ARP alone
 *
 * A station without an address sends from `::` or 0.0.0.0. It may ask whether an address is free (ARP probe,
 * DAD) only for an address that it may use: any other such question would keep another station from using its
 * own.
 *
 * A frame that cannot be checked to the end is dropped (`unreadable`): fragments that hide a field, headers
 * that lie, and a checksum still to be filled in at a place that was checked, since filling it in would
 * change that place.
 */
import type { Protection } from '../../model/link-properties.js';
import * as arp from '../../wire/arp.js';
import { read16, readSigned32 } from '../../wire/bytes.js';
import {
  CSUM_OFFSET,
  CSUM_START,
  FLAGS,
  type FrameBatch,
  GSO_TYPE,
  LENGTH,
  OFFSET,
} from '../../wire/descriptor.js';
import * as dhcpv4 from '../../wire/dhcpv4.js';
import * as dhcpv6 from '../../wire/dhcpv6.js';
import * as ethernet from '../../wire/ethernet.js';
import * as icmp from '../../wire/icmp.js';
import * as icmpv6 from '../../wire/icmpv6.js';
import { type Prefix, V6_BITS } from '../../wire/ip.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as mac from '../../wire/mac.js';
import * as ndp from '../../wire/ndp.js';
import * as udp from '../../wire/udp.js';
import * as virtio from '../../wire/virtio-net.js';
import { AllowedAddresses } from './allowed-addresses.js';
import { COUNTER } from '../counts/counters.js';
import { isOwnClientId, isOwnDuid } from './dhcp-identity.js';
import type { DhcpLeases } from './dhcp-leases.js';

/** The rules in force on a port; plain data, since it is sent to threads. */
export interface ProtectionRules {
  readonly types: readonly Protection[];
  /** Includes leased addresses. */
  readonly addresses: readonly Prefix[];
  /** Client ids of DHCPv4 and DUIDs of DHCPv6, as in a message, that may be used beside those made of the
   * MAC. */
  readonly clientIds: readonly Uint8Array[] | 'any';
}

/** Result of `check` if the frame may pass. Any other result is the counter of the drop. */
export const PASS = -1;

// IGMP: RFC 3376 4; the types RFC 4286
const IGMP_CHECKSUM = 2;
const IGMP_MIN_BYTES = 4;
const MULTICAST_ROUTER_ADVERTISEMENT = 0x30;
const MULTICAST_ROUTER_TERMINATION = 0x32;

/** Value of `#patched` for a frame that has all its checksums. */
const NOWHERE = 0x7fff_ffff;

export class LinkProtection {
  readonly #checksMac: boolean;
  readonly #checksIp: boolean;
  readonly #checksDhcp: boolean;
  readonly #isRestricted: boolean;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #allowed: AllowedAddresses;
  readonly #checksClientId: boolean;
  readonly #clientIds: readonly Uint8Array[];
  readonly leases: DhcpLeases;
  readonly #rules: ProtectionRules;
  readonly #address: mac.MacAddress;
  // State of the frame that is being checked.
  /** Offset of the checksum that is still to be filled in. */
  #patched = NOWHERE;
  #isSuperframe = false;
  #isLost = false;

  constructor(rules: ProtectionRules, address: mac.MacAddress, leases: DhcpLeases) {
    const { types, addresses, clientIds } = rules;
    this.#rules = rules;
    this.#address = address;
    this.#checksMac = types.includes('mac-nospoof');
    this.#checksIp = types.includes('ip-nospoof');
    this.#checksDhcp = types.includes('dhcp-nospoof');
    this.#isRestricted = types.includes('restricted');
    this.#macHigh = mac.highOf(address);
    this.#macLow = mac.lowOf(address);
    this.#allowed = new AllowedAddresses([...addresses, { ip: ndp.linkLocalOf(address), bits: V6_BITS }]);
    this.#checksClientId = this.#checksDhcp && clientIds !== 'any';
    this.#clientIds = clientIds === 'any' ? [] : clientIds;
    this.leases = leases;
  }

  /** Returns one with the same rules, which changes nothing that others see. */
  copy(): LinkProtection {
    return new LinkProtection(this.#rules, this.#address, this.leases.copy());
  }

  get types(): readonly Protection[] {
    return this.#rules.types;
  }

  /** Whether the port's leases matter: they allow addresses only under ip-nospoof. */
  get learns(): boolean {
    return this.#checksIp;
  }

  /** Checks the frame with the descriptor at `at`. Returns PASS or the counter of the drop. `header`: bytes
   * of the Ethernet header, tags included. `isLost`: the frame is dropped in any case, so its DHCP request
   * is not remembered. */
  check({ bytes, descriptors }: FrameBatch, at: number, header: number, isLost = false): number {
    this.#isLost = isLost;
    const frame = descriptors[at + OFFSET];
    const packet = frame + header;
    const end = frame + descriptors[at + LENGTH];
    const isPartial = (descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) !== 0;
    this.#patched = isPartial
      ? frame + descriptors[at + CSUM_START] + descriptors[at + CSUM_OFFSET]
      : NOWHERE;
    this.#isSuperframe = descriptors[at + GSO_TYPE] !== virtio.GSO_NONE;
    if (this.#checksMac && !this.#isOwnMac(bytes, frame + ethernet.SOURCE)) return COUNTER.mac_spoofed;
    if (this.#patched < packet) return COUNTER.unreadable;
    switch (read16(bytes, packet - 2)) {
      case ethernet.IPV4:
        return this.#checkV4(bytes, packet, end);
      case ethernet.IPV6:
        return this.#checkV6(bytes, packet, end);
      case ethernet.ARP:
        return this.#checkArp(bytes, packet, end, false);
      case ethernet.RARP:
        return this.#isRestricted ? COUNTER.restricted : this.#checkArp(bytes, packet, end, true);
      default:
        return this.#isRestricted ? COUNTER.restricted : PASS;
    }
  }

  // -- ARP and RARP

  #checkArp(bytes: Uint8Array, packet: number, end: number, isReverse: boolean): number {
    if (!this.#checksMac && !this.#checksIp) return PASS;
    if (arp.check(bytes, packet, end - packet) < 0 || this.#patched !== NOWHERE) return COUNTER.unreadable;
    // RARP asks for, or gives, an address of the target (RFC 903). A hypervisor sends it to announce where a
    // guest has moved.
    if (!this.#isOwnMac(bytes, packet + arp.SENDER_MAC)) return COUNTER.mac_spoofed;
    if (isReverse && !this.#isOwnMac(bytes, packet + arp.TARGET_MAC)) return COUNTER.mac_spoofed;
    if (!this.#checksIp) return PASS;
    if (isReverse) {
      const isOwn =
        this.#isNoneOrOwnV4(bytes, packet + arp.SENDER_IP) &&
        this.#isNoneOrOwnV4(bytes, packet + arp.TARGET_IP);
      return isOwn ? PASS : COUNTER.ip_spoofed;
    }
    const isProbe = isZero(bytes, packet + arp.SENDER_IP, 1);
    const address = packet + (isProbe ? arp.TARGET_IP : arp.SENDER_IP);
    return this.#allowed.hasV4(bytes, address) ? PASS : COUNTER.ip_spoofed;
  }

  // -- IPv4

  #checkV4(bytes: Uint8Array, packet: number, end: number): number {
    if (!this.#checksIp && !this.#checksDhcp) return PASS;
    const header = ipv4.check(bytes, packet, end - packet);
    const transport = packet + header;
    if (header < 0 || this.#patched < transport) return COUNTER.unreadable;
    if (this.#checksIp && !this.#isNoneOrOwnV4(bytes, packet + ipv4.SOURCE)) return COUNTER.ip_spoofed;
    if (ipv4.fragmentOffset(bytes, packet) > 0) return PASS;
    const length = ipv4.payloadLength(bytes, packet);
    switch (ipv4.protocol(bytes, packet)) {
      case ipv4.ICMP:
        return this.#checksIp ? this.#checkIcmp(bytes, transport, length) : PASS;
      case ipv4.IGMP:
        return this.#checksIp ? this.#checkIgmp(bytes, transport, length) : PASS;
      case ipv4.UDP:
        return this.#checkUdp(bytes, transport, length, 4, ipv4.isFragment(bytes, packet));
      default:
        return PASS;
    }
  }

  #checkIcmp(bytes: Uint8Array, message: number, length: number): number {
    if (icmp.check(bytes, message, length) < 0 || this.#patched < message + icmp.CHECKSUM)
      return COUNTER.unreadable;
    return icmp.isRouterMessage(bytes, message) ? COUNTER.rogue_router : PASS;
  }

  /** IGMP has multicast router discovery; in IPv6 it is part of ICMPv6. */
  #checkIgmp(bytes: Uint8Array, message: number, length: number): number {
    if (length < IGMP_MIN_BYTES || this.#patched < message + IGMP_CHECKSUM) return COUNTER.unreadable;
    const type = bytes[message];
    const isRouter = type === MULTICAST_ROUTER_ADVERTISEMENT || type === MULTICAST_ROUTER_TERMINATION;
    return isRouter ? COUNTER.rogue_router : PASS;
  }

  // -- IPv6

  #checkV6(bytes: Uint8Array, packet: number, end: number): number {
    if (!this.#checksMac && !this.#checksIp && !this.#checksDhcp) return PASS;
    if (ipv6.check(bytes, packet, end - packet) < 0) return COUNTER.unreadable;
    const source = packet + ipv6.SOURCE;
    const hasSource = !isZero(bytes, source, 4);
    if (this.#checksIp && hasSource && !this.#allowed.hasV6(bytes, source)) return COUNTER.ip_spoofed;
    const found = ipv6.transport(bytes, packet);
    const transport = packet + ipv6.transportOffset(found);
    if (found < 0 || this.#patched < transport) return COUNTER.unreadable;
    if (ipv6.isLaterFragment(found)) return PASS;
    const length = packet + ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, packet) - transport;
    switch (ipv6.transportProtocol(found)) {
      case ipv6.ICMPV6:
        if (!this.#checksMac && !this.#checksIp) return PASS;
        return this.#checkIcmpV6(bytes, transport, length, ipv6.isFragment(found), hasSource);
      case ipv4.UDP:
        return this.#checkUdp(bytes, transport, length, 6, ipv6.isFragment(found));
      default:
        return PASS;
    }
  }

  #checkIcmpV6(
    bytes: Uint8Array,
    message: number,
    length: number,
    isFragment: boolean,
    hasSource: boolean,
  ): number {
    if (icmpv6.check(bytes, message, length) < 0 || this.#patched < message + icmpv6.CHECKSUM)
      return COUNTER.unreadable;
    const type = icmpv6.type(bytes, message);
    if (this.#checksIp && icmpv6.isRouterMessage(bytes, message)) return COUNTER.rogue_router;
    // Inverse discovery speaks for a list of addresses, and no protocol on Ethernet needs it.
    if (this.#checksIp && ndp.isInverse(type)) return COUNTER.ip_spoofed;
    if (!ndp.tellsLinkLayer(type)) return PASS;
    // RFC 6980 5: receivers must ignore discovery in fragments, but some reassemble it.
    const options = ndp.checkLinkLayer(bytes, message, length);
    const isWhole = !isFragment && !this.#isSuperframe && options > 0;
    if (!isWhole || this.#changes(message + icmpv6.CHECKSUM)) return COUNTER.unreadable;
    if (ndp.givesOther(bytes, message + options, message + length, this.#macHigh, this.#macLow))
      return COUNTER.mac_spoofed;
    const speaksFor =
      type === icmpv6.NEIGHBOR_ADVERTISEMENT || (type === icmpv6.NEIGHBOR_SOLICITATION && !hasSource);
    if (!this.#checksIp || !speaksFor) return PASS;
    return this.#allowed.hasV6(bytes, message + ndp.TARGET) ? PASS : COUNTER.ip_spoofed;
  }

  // -- DHCP

  #checkUdp(bytes: Uint8Array, datagram: number, length: number, family: 4 | 6, isFragment: boolean): number {
    if (!this.#checksDhcp && !this.#checksIp) return PASS;
    if (length < udp.HEADER_BYTES || this.#patched < datagram + udp.LENGTH)
      return this.#checksDhcp ? COUNTER.unreadable : PASS;
    const { CLIENT_PORT, SERVER_PORT } = family === 4 ? dhcpv4 : dhcpv6;
    const from = udp.sourcePort(bytes, datagram);
    const to = udp.destinationPort(bytes, datagram);
    if (from !== CLIENT_PORT && from !== SERVER_PORT && to !== CLIENT_PORT && to !== SERVER_PORT) return PASS;
    const verdict = this.#checkDhcp(bytes, datagram, length, family, isFragment);
    return this.#checksDhcp || verdict === COUNTER.dhcp_flood ? verdict : PASS;
  }

  /** Checks a datagram with DHCP's ports. A message that passes is remembered as the request that a lease
   * will answer. */
  #checkDhcp(
    bytes: Uint8Array,
    datagram: number,
    length: number,
    family: 4 | 6,
    isFragment: boolean,
  ): number {
    const { CLIENT_PORT, SERVER_PORT } = family === 4 ? dhcpv4 : dhcpv6;
    const isServer =
      udp.sourcePort(bytes, datagram) === SERVER_PORT || udp.destinationPort(bytes, datagram) === CLIENT_PORT;
    if (isServer) return COUNTER.rogue_dhcp;
    const isWhole = !isFragment && !this.#isSuperframe && udp.check(bytes, datagram, length) > 0;
    if (!isWhole || this.#changes(datagram + udp.CHECKSUM)) return COUNTER.unreadable;
    const message = datagram + udp.HEADER_BYTES;
    const messageBytes = udp.payloadLength(bytes, datagram);
    return family === 4
      ? this.#checkDhcpV4(bytes, message, messageBytes)
      : this.#checkDhcpV6(bytes, message, messageBytes);
  }

  #checkDhcpV4(bytes: Uint8Array, message: number, length: number): number {
    if (dhcpv4.check(bytes, message, length) < 0) return COUNTER.unreadable;
    if (dhcpv4.operation(bytes, message) !== dhcpv4.REQUEST || dhcpv4.hasRelayFields(bytes, message))
      return COUNTER.rogue_dhcp;
    if (!this.#isOwnMac(bytes, message + dhcpv4.CHADDR)) return COUNTER.dhcp_spoofed;
    const option = dhcpv4.findOption(bytes, message, length, dhcpv4.CLIENT_ID);
    // A client has no need of option overload, and another client id could hide there.
    const overload = dhcpv4.findOption(bytes, message, length, dhcpv4.OVERLOAD);
    const type = dhcpv4.findOption(bytes, message, length, dhcpv4.MESSAGE_TYPE);
    if (option < 0 || overload !== 0 || type < 0) return COUNTER.unreadable;
    const isFromClient = type === 0 || (bytes[type - 1] === 1 && dhcpv4.isFromClient(bytes[type]));
    if (!isFromClient || dhcpv4.findOption(bytes, message, length, dhcpv4.RELAY_INFORMATION) !== 0)
      return COUNTER.rogue_dhcp;
    const isForeign =
      option > 0 &&
      !isOwnClientId(bytes, option, bytes[option - 1], this.#macHigh, this.#macLow, this.#clientIds);
    if (isForeign && this.#checksClientId) return COUNTER.dhcp_spoofed;
    return this.#isLost || this.leases.sentV4(bytes, message, length) ? PASS : COUNTER.dhcp_flood;
  }

  #checkDhcpV6(bytes: Uint8Array, message: number, length: number): number {
    if (length > 0 && dhcpv6.isFromServer(dhcpv6.messageType(bytes, message))) return COUNTER.rogue_dhcp;
    if (dhcpv6.check(bytes, message, length) < 0) return COUNTER.unreadable;
    if (dhcpv6.hasRelayOption(bytes, message, length)) return COUNTER.rogue_dhcp;
    const option = dhcpv6.findOption(bytes, message, length, dhcpv6.CLIENT_ID);
    if (option < 0) return COUNTER.unreadable;
    const start = dhcpv6.value(option);
    const size = option > 0 ? dhcpv6.optionLength(bytes, option) : 0;
    const isForeign =
      option > 0 && !isOwnDuid(bytes, start, size, this.#macHigh, this.#macLow, this.#clientIds);
    if (isForeign && this.#checksClientId) return COUNTER.dhcp_spoofed;
    return this.#isLost || this.leases.sentV6(bytes, message, length) ? PASS : COUNTER.dhcp_flood;
  }

  #isOwnMac(bytes: Uint8Array, at: number): boolean {
    return mac.macHigh(bytes, at) === this.#macHigh && mac.macLow(bytes, at) === this.#macLow;
  }

  #isNoneOrOwnV4(bytes: Uint8Array, at: number): boolean {
    return isZero(bytes, at, 1) || this.#allowed.hasV4(bytes, at);
  }

  /** Returns whether a checksum is still to be filled in elsewhere than in `field`. */
  #changes(field: number): boolean {
    return this.#patched !== NOWHERE && this.#patched !== field;
  }
}

function isZero(bytes: Uint8Array, at: number, words: number): boolean {
  for (let word = 0; word < words; word++) if (readSigned32(bytes, at + 4 * word) !== 0) return false;
  return true;
}
