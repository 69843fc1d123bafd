/**
 * Leases of a port, learned from its DHCP traffic. If the port has asked for an address itself and a server
 * grants it, the port may send from that address (illumos: dynamic addresses). The control side keeps the
 * list of leases, ends each in time, and hands the list back as rules; this file is the datapath's part. A
 * transaction number is good for one answer.
 *
 * The reports that a port can cause are bounded (LEASE_FACTS), whatever its messages hold. varpd must never
 * know less than the server does. So a request that cannot be remembered is not sent, and neither is a
 * message that gives up an address if that cannot be reported. An address granted beyond the bound may not be
 * used.
 */
import { read16, read32 } from '../../wire/bytes.js';
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  LENGTH,
  OFFSET,
  RUN_END,
  SEGMENT,
} from '../../wire/descriptor.js';
import * as dhcpv4 from '../../wire/dhcpv4.js';
import * as dhcpv6 from '../../wire/dhcpv6.js';
import * as ethernet from '../../wire/ethernet.js';
import { type IpAddress, isStationIp, readV4, readV6, V4_BYTES } from '../../wire/ip.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as mac from '../../wire/mac.js';
import * as udp from '../../wire/udp.js';
import * as vlan from '../../wire/vlan.js';
import type { Allowance, Rate } from '../queues/allowance.js';
import { type AskedLeases, createAskedLeases, FAMILY_WORDS, Transactions } from './asked-leases.js';

/** A lease that a port was granted. 0 seconds = the lease has ended; no address = all leases of that family
 * have ended. */
export interface LeaseNews {
  readonly overlay: number;
  readonly port: string;
  readonly family: 4 | 6;
  readonly ip: IpAddress | undefined;
  readonly validS: number;
}

/** RFC 2131 3.3, RFC 8415 7.7: for ever. */
export const FOR_EVER_S = 0xffff_ffff;

/** Bound on the events of a port that count: requests sent, addresses given up, addresses granted. It is
 * twice the number of leases that a VNIC may have (vnic-protection.ts), all renewed at once. */
export const LEASE_FACTS: Rate = { perSecond: 64, burst: 64 };

export class DhcpLeases {
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #tell: (family: 4 | 6, ip: IpAddress | undefined, validS: number) => void;
  readonly #allowance: Allowance;
  readonly #asked: Readonly<Record<4 | 6, Transactions>>;

  constructor(
    macHigh: number,
    macLow: number,
    asked: AskedLeases,
    allowance: Allowance,
    tell: (family: 4 | 6, ip: IpAddress | undefined, validS: number) => void,
  ) {
    this.#macHigh = macHigh;
    this.#macLow = macLow;
    this.#tell = tell;
    this.#allowance = allowance;
    this.#asked = { 4: new Transactions(asked, 0), 6: new Transactions(asked, FAMILY_WORDS) };
  }

  /** Returns leases that allow and refuse the same, and report nothing. */
  copy(): DhcpLeases {
    const report = (): void => undefined;
    return new DhcpLeases(this.#macHigh, this.#macLow, createAskedLeases(), this.#allowance.copy(), report);
  }

  // -- Out: a checked message of the port. Returns whether it may be sent.

  sentV4(bytes: Uint8Array, message: number, length: number): boolean {
    if (!this.#isClient(bytes, message)) return true;
    const option = dhcpv4.findOption(bytes, message, length, dhcpv4.MESSAGE_TYPE);
    if (option <= 0) return true;
    switch (bytes[option]) {
      case dhcpv4.DISCOVER: // a rapid commit is answered at once, RFC 4039
      case dhcpv4.REQUEST_MESSAGE:
        if (!this.#allowance.take(1)) return false;
        this.#asked[4].note(dhcpv4.transactionId(bytes, message));
        return true;
      case dhcpv4.RELEASE:
        return this.#giveUpV4(bytes, message + dhcpv4.CIADDR);
      case dhcpv4.DECLINE: {
        const address = dhcpv4.findOption(bytes, message, length, dhcpv4.REQUESTED_ADDRESS);
        return address <= 0 || bytes[address - 1] !== V4_BYTES || this.#giveUpV4(bytes, address);
      }
    }
    return true;
  }

  #giveUpV4(bytes: Uint8Array, address: number): boolean {
    if (!this.#allowance.take(1)) return false;
    this.#tell(4, readV4(bytes, address), 0);
    return true;
  }

  sentV6(bytes: Uint8Array, message: number, length: number): boolean {
    switch (dhcpv6.messageType(bytes, message)) {
      case dhcpv6.SOLICIT: // a rapid commit is answered at once, RFC 8415 5.1
      case dhcpv6.REQUEST:
      case dhcpv6.RENEW:
      case dhcpv6.REBIND:
        if (!this.#allowance.take(1)) return false;
        this.#asked[6].note(dhcpv6.transactionId(bytes, message));
        return true;
      case dhcpv6.RELEASE:
      case dhcpv6.DECLINE:
        return this.#giveUpV6(bytes, message, length);
    }
    return true;
  }

  /** A message may have thousands of addresses, so they are counted before any is read. */
  #giveUpV6(bytes: Uint8Array, message: number, length: number): boolean {
    let count = 0;
    dhcpv6.forEachAddress(bytes, message, length, () => {
      count++;
    });
    if (!this.#allowance.take(count)) return false;
    dhcpv6.forEachAddress(bytes, message, length, (address) => {
      this.#tell(6, readV6(bytes, address), 0);
    });
    return true;
  }

  // -- In: a frame to the port

  /** Looks at every frame of a run: frames of a run have the same header up to the traffic class, and may
   * still be several flows. */
  received({ bytes, descriptors }: FrameBatch, index: number): void {
    const at = index * DESCRIPTOR_WORDS;
    const segment = descriptors[at + SEGMENT];
    const first = descriptors[at + OFFSET];
    const length = descriptors[at + LENGTH];
    const end = segment === 0 ? first + length : descriptors[at + RUN_END];
    const header = vlan.headerLength(bytes, first, length);
    if (header < 0) return;
    for (let frame = first; frame < end; frame += segment) {
      const frameEnd = Math.min(frame + length, end);
      const etherType = read16(bytes, frame + header - 2);
      if (etherType === ethernet.IPV4) this.#receivedV4(bytes, frame + header, frameEnd);
      else if (etherType === ethernet.IPV6) this.#receivedV6(bytes, frame + header, frameEnd);
      if (segment === 0) return;
    }
  }

  #receivedV4(bytes: Uint8Array, ip: number, end: number): void {
    const header = ipv4.check(bytes, ip, end - ip);
    if (header < 0 || ipv4.protocol(bytes, ip) !== ipv4.UDP || ipv4.isFragment(bytes, ip)) return;
    const datagram = ip + header;
    if (!isFor(bytes, datagram, ipv4.payloadLength(bytes, ip), dhcpv4.CLIENT_PORT)) return;
    const message = datagram + udp.HEADER_BYTES;
    const length = udp.payloadLength(bytes, datagram);
    if (dhcpv4.check(bytes, message, length) < 0) return;
    if (dhcpv4.operation(bytes, message) !== dhcpv4.REPLY || !this.#isClient(bytes, message)) return;
    const type = dhcpv4.findOption(bytes, message, length, dhcpv4.MESSAGE_TYPE);
    const isAnswer = type > 0 && (bytes[type] === dhcpv4.ACK || bytes[type] === dhcpv4.NAK);
    if (!isAnswer || !this.#asked[4].take(dhcpv4.transactionId(bytes, message))) return;
    if (bytes[type] === dhcpv4.NAK) {
      this.#tell(4, undefined, 0);
      return;
    }
    const lease = dhcpv4.findOption(bytes, message, length, dhcpv4.LEASE_TIME);
    if (lease <= 0 || bytes[lease - 1] !== 4) return;
    this.#grant(4, readV4(bytes, message + dhcpv4.YIADDR), read32(bytes, lease));
  }

  #receivedV6(bytes: Uint8Array, ip: number, end: number): void {
    if (ipv6.check(bytes, ip, end - ip) < 0) return;
    const found = ipv6.transport(bytes, ip);
    if (found < 0 || ipv6.transportProtocol(found) !== ipv4.UDP || ipv6.isFragment(found)) return;
    const datagram = ip + ipv6.transportOffset(found);
    const payload = ip + ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, ip) - datagram;
    if (!isFor(bytes, datagram, payload, dhcpv6.CLIENT_PORT)) return;
    const message = datagram + udp.HEADER_BYTES;
    const length = udp.payloadLength(bytes, datagram);
    if (dhcpv6.check(bytes, message, length) < 0 || dhcpv6.messageType(bytes, message) !== dhcpv6.REPLY)
      return;
    if (!this.#asked[6].take(dhcpv6.transactionId(bytes, message))) return;
    let count = 0;
    dhcpv6.forEachAddress(bytes, message, length, (address, validS) => {
      // The end of a lease is always reported: it answers a request, and those are bounded.
      const counts = count++ < LEASE_FACTS.burst && (validS === 0 || this.#allowance.take(1));
      if (counts) this.#grant(6, readV6(bytes, address), validS);
    });
  }

  #grant(family: 4 | 6, ip: IpAddress, validS: number): void {
    if (isStationIp(ip)) this.#tell(family, ip, validS);
  }

  #isClient(bytes: Uint8Array, message: number): boolean {
    const at = message + dhcpv4.CHADDR;
    return mac.macHigh(bytes, at) === this.#macHigh && mac.macLow(bytes, at) === this.#macLow;
  }
}

function isFor(bytes: Uint8Array, datagram: number, length: number, port: number): boolean {
  return udp.check(bytes, datagram, length) > 0 && udp.destinationPort(bytes, datagram) === port;
}
