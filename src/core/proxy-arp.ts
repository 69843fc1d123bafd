/**
 * Proxy ARP: a broadcast request is answered here, from what the plugin knows, and never leaves the host. Nothing
 * that a guest says changes the answers: the plugin is the authority, not the wire.
 *
 * A frame is read into a question or the reason why it is none; the plugin is asked; the answer makes a reply or the
 * reason why there is none. Unicast requests are not seen here: they go to the MAC they name, which answers itself.
 */
import type { ProxyDrop } from '../model/drops.js';
import * as arp from '../wire/arp.js';
import * as ethernet from '../wire/ethernet.js';
import { type Ipv4Address, isStationIp } from '../wire/ip.js';
import * as mac from '../wire/mac.js';
import { headerOf, isStation, replyTo } from './proxy-frame.js';

export interface ArpQuestion {
  readonly kind: 'request' | 'announcement';
  /** The address whose MAC is to be found. */
  readonly ip: Ipv4Address;
  readonly packet: arp.Repr;
  /** Bytes of the Ethernet header, tags included. */
  readonly header: number;
}

/** `frame` is one to a group address. */
export function readArp(frame: Uint8Array): ArpQuestion | ProxyDrop {
  const header = headerOf(frame, ethernet.ARP);
  if (header === 0) return 'arp_malformed';
  const packet = arp.parse(frame, header, frame.length - header);
  const source = ethernet.source(frame, 0);
  if (packet === undefined || !isStation(source)) return 'arp_malformed';
  // RFC 826 would answer whom the body names; then one guest could have another sent what it did not ask for.
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
 * `owner` = the MAC that has the address, null = nobody known. A request for what is the asker's own stays without
 * an answer: it may be a probe, and any answer would make a strict client give its address up (RFC 5227 2.1.1). One
 * for what is another's gets it, probe or not: that conflict is real.
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

/** "`ip` is at `owner`", to everyone. */
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
