/**
 * Frames that ask for an answer. If such frames go to a peer and nothing at all comes back, something may be
 * wrong there (daemon/underlay/peer-news.ts). One-way traffic, as a stream of UDP, says nothing about a peer.
 */
import { read16 } from '../../wire/bytes.js';
import { LENGTH, OFFSET, type FrameBatch } from '../../wire/descriptor.js';
import * as arp from '../../wire/arp.js';
import * as ethernet from '../../wire/ethernet.js';
import * as icmp from '../../wire/icmp.js';
import * as icmpv6 from '../../wire/icmpv6.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as vlan from '../../wire/vlan.js';

/** Returns whether the station that the frame with the descriptor at `at` is for would send something back: a
 * unicast ARP request, neighbour solicitation or echo request, or TCP. */
export function asksForAnswer({ bytes, descriptors }: FrameBatch, at: number): boolean {
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  // A flood goes to every peer, and one of them answers.
  if (ethernet.isGroup(bytes, frame)) return false;
  const payload = frame + vlan.headerLength(bytes, frame, length);
  const rest = frame + length - payload;
  switch (read16(bytes, payload - 2)) {
    case ethernet.ARP:
      return arp.check(bytes, payload, rest) > 0 && arp.operation(bytes, payload) === arp.REQUEST;
    case ethernet.IPV4: {
      if (ipv4.check(bytes, payload, rest) <= 0 || ipv4.isFragment(bytes, payload)) return false;
      const transport = payload + ipv4.headerLength(bytes, payload);
      const protocol = ipv4.protocol(bytes, payload);
      return protocol === ipv4.TCP || (protocol === ipv4.ICMP && bytes[transport] === icmp.ECHO_REQUEST);
    }
    case ethernet.IPV6: {
      const found = ipv6.check(bytes, payload, rest) > 0 ? ipv6.transport(bytes, payload) : 0;
      if (found <= 0 || ipv6.isFragment(found)) return false;
      const protocol = ipv6.transportProtocol(found);
      const type = bytes[payload + ipv6.transportOffset(found)];
      const isQuestion = type === icmpv6.ECHO_REQUEST || type === icmpv6.NEIGHBOR_SOLICITATION;
      return protocol === ipv4.TCP || (protocol === ipv6.ICMPV6 && isQuestion);
    }
    default:
      return false;
  }
}
