/**
 * Proxy ARP: a broadcast request is answered here from the plugin's facts, and never leaves the host. No
 * frame of a guest changes an answer: the plugin is the authority.
 *
 * A frame becomes a question, or the reason why it is none. The plugin is asked. Its answer becomes a reply,
 * or the reason why there is none. Unicast requests are not seen here: they go to the station they name,
 * which answers itself.
 */
import type { ProxyDrop } from '../../model/drops.js';
import * as arp from '../../wire/arp.js';
import * as ethernet from '../../wire/ethernet.js';
import { type Ipv4Address, isStationIp } from '../../wire/ip.js';
import * as mac from '../../wire/mac.js';
import { headerOf, isStation, replyTo } from './proxy-frame.js';

export interface ArpQuestion {
  readonly kind: 'request' | 'announcement';
  /** The address that a MAC is asked for. */
  readonly ip: Ipv4Address;
  readonly packet: arp.Repr;
  /** Bytes of the Ethernet header, tags included. */
  readonly header: number;
}

/** Reads a frame to a group address. */
export function readArp(frame: Uint8Array): ArpQuestion | ProxyDrop {
  const header = headerOf(frame, ethernet.ARP);
  if (header === 0) return 'arp_malformed';
  const packet = arp.parse(frame, header, frame.length - header);
  const source = ethernet.source(frame, 0);
  if (packet === undefined || !isStation(source)) return 'arp_malformed';
  // RFC 826 answers the MAC in the body. With that rule one guest could have replies sent to another that has
  // not asked.
  if (packet.senderMac !== source) return 'proxy_spoofed';
  if (arp.isAnnouncement(packet)) {
    if (!isStationIp(packet.senderIp)) return 'arp_ignored';
    return { kind: 'announcement', ip: packet.senderIp, packet, header };
  }
  if (packet.operation !== arp.REQUEST || !isStationIp(packet.targetIp)) return 'arp_ignored';
  if (!arp.isProbe(packet) && !isStationIp(packet.senderIp)) return 'arp_ignored';
  return { kind: 'request', ip: packet.targetIp, packet, header };
}

/**
 * Answers a question. `owner`: the MAC that has the address, null if it is unknown. A request for the asker's
 * own address stays without an answer: it may be a probe, and any answer would make a strict client give its
 * address up (RFC 5227 2.1.1). A request for another station's address is answered, even a probe: that
 * conflict is real.
 */
export function answerArp(
  frame: Uint8Array,
  { kind, packet, header }: ArpQuestion,
  owner: mac.MacAddress | null,
): Uint8Array | ProxyDrop {
  if (kind === 'announcement')
    return owner === null || owner === packet.senderMac ? 'arp_ignored' : 'arp_conflict';
  if (owner === null) return 'proxy_unknown';
  if (owner === packet.senderMac) return 'proxy_own';
  const reply = replyTo(frame, header, arp.byteLength(), packet.senderMac, owner);
  arp.write(
    {
      operation: arp.REPLY,
      senderMac: owner,
      senderIp: packet.targetIp,
      targetMac: packet.senderMac,
      targetIp: packet.senderIp,
    },
    reply,
    header,
  );
  return reply;
}

/** Returns a broadcast "`ip` is at `owner`". */
export function arpAnnouncement(ip: Ipv4Address, owner: mac.MacAddress): Uint8Array {
  const frame = new Uint8Array(ethernet.HEADER_BYTES + arp.byteLength());
  const header = ethernet.write(
    { destination: mac.BROADCAST, source: owner, etherType: ethernet.ARP },
    frame,
    0,
  );
  arp.write(
    {
      operation: arp.REQUEST, // RFC 5227 2.3, 3: a request, which every stack understands; not a reply
      senderMac: owner,
      senderIp: ip,
      targetMac: mac.ZERO, // RFC 5227 2.3 with 2.1.1: ignored, SHOULD be zero
      targetIp: ip,
    },
    frame,
    header,
  );
  return frame;
}
