// ICMP errors made by hand, as a router would send them or somebody who pretends to be one.
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as udp from '../../src/wire/udp.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { ipOf, macOf } from './frames.js';

export interface IcmpError {
  readonly destinationMac: string;
  /** Who says so. */
  readonly router: string;
  /** About a datagram from here, whose host is told, */
  readonly from: string;
  /** to there. */
  readonly to: string;
  readonly sourcePort: number;
  /** "Too big" with this size; left out: port unreachable. */
  readonly mtuBytes?: number;
  /** What is quoted of what UDP carried. */
  readonly quoted?: Uint8Array;
}

const ICMPV6_UNREACHABLE = 1;
const PORT_UNREACHABLE = { 4: 3, 6: 4 } as const; // RFC 792, RFC 4443 3.1
/** What the datagram is said to have been, of IP. */
const DATAGRAM_BYTES = 1400;

/** In its Ethernet frame, every checksum good. */
export function icmpError(error: IcmpError): Uint8Array {
  const { destinationMac, router, from, to, sourcePort, mtuBytes, quoted = new Uint8Array(0) } = error;
  const [own, teller, far] = [from, router, to].map(ipOf);
  const isV4 = ip.isV4(own);
  const header = isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  const messageBytes = icmp.HEADER_BYTES + header + udp.HEADER_BYTES + quoted.length;
  const bytes = new Uint8Array(ethernet.HEADER_BYTES + header + messageBytes);
  const etherType = isV4 ? ethernet.IPV4 : ethernet.IPV6;
  const sourceMac = macOf('02:ee:00:00:00:01');
  const outer = ethernet.write(
    { destination: macOf(destinationMac), source: sourceMac, etherType },
    bytes,
    0,
  );
  const message = outer + header;
  const packet = message + icmp.HEADER_BYTES;
  const writeIp = (
    at: number,
    source: ip.IpAddress,
    destination: ip.IpAddress,
    protocol: number,
    length: number,
  ) => {
    const common = { trafficClass: 0, payloadLength: length };
    if (ip.isV4(source) && ip.isV4(destination)) {
      const rest = { protocol, ttl: 64, identification: 1, dontFragment: true };
      ipv4.write({ source, destination, ...common, ...rest }, bytes, at);
    } else {
      const ends = { source: source as ip.Ipv6Address, destination: destination as ip.Ipv6Address };
      ipv6.write({ ...ends, ...common, nextHeader: protocol, hopLimit: 64, flowLabel: 0 }, bytes, at);
    }
  };
  writeIp(outer, teller, own, isV4 ? ipv4.ICMP : ipv6.ICMPV6, messageBytes);
  writeIp(packet, own, far, ipv4.UDP, DATAGRAM_BYTES);
  const payloadLength = DATAGRAM_BYTES - udp.HEADER_BYTES;
  udp.write({ sourcePort, destinationPort: vxlan.PORT, payloadLength }, bytes, packet + header);
  bytes.set(quoted, packet + header + udp.HEADER_BYTES);
  const unreachable = mtuBytes === undefined;
  const word = mtuBytes ?? 0;
  if (isV4) {
    const code = unreachable ? PORT_UNREACHABLE[4] : icmp.FRAGMENTATION_NEEDED;
    icmp.write({ type: icmp.UNREACHABLE, code, word }, bytes, message);
    icmp.fillChecksum(bytes, message, messageBytes);
  } else {
    const type = unreachable ? ICMPV6_UNREACHABLE : icmpv6.PACKET_TOO_BIG;
    icmpv6.write({ type, code: unreachable ? PORT_UNREACHABLE[6] : 0, word }, bytes, message);
    icmpv6.fillChecksum(bytes, outer, message, messageBytes);
  }
  return bytes;
}
