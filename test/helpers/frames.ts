// Frames made to measure, for tests that must say what is in every field.
import * as ethernet from '../../src/wire/ethernet.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as mac from '../../src/wire/mac.js';
import * as udp from '../../src/wire/udp.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';

export interface UdpFrame {
  readonly sourceMac?: string;
  readonly destinationMac?: string;
  readonly source?: string;
  /** IPv4 or IPv6; the other one must be the same. */
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** DSCP and ECN. */
  readonly trafficClass?: number;
  readonly ttl?: number;
  readonly payload?: Uint8Array;
}

export const macOf = (text: string): mac.MacAddress => {
  const parsed = mac.parseMac(text);
  if (parsed === undefined) throw new Error(`not a MAC: ${text}`);
  return parsed;
};

export const ipOf = (text: string): ip.IpAddress => {
  const parsed = ip.parse(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
};

/** Sixteen bytes, IPv4 as v4-mapped: how the native layer takes addresses. */
export function addressBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(ip.V6_BYTES);
  ip.writeV6(ipOf(text), bytes, 0);
  return bytes;
}

/** Bytes of no pattern that a shift by one would repeat. */
export const filler = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) & 0xff);

/** A UDP datagram in an Ethernet frame, every checksum good. */
export function udpFrame({
  sourceMac = '02:00:00:00:00:0a',
  destinationMac = 'ff:ff:ff:ff:ff:ff',
  source = '10.55.55.200',
  destination = '10.55.55.201',
  sourcePort = 40000,
  destinationPort = 9,
  trafficClass = 0,
  ttl = 64,
  payload = filler(18),
}: UdpFrame = {}): Uint8Array {
  const [from, to] = [ipOf(source), ipOf(destination)];
  const isV4 = ip.isV4(from) && ip.isV4(to);
  const etherType = isV4 ? ethernet.IPV4 : ethernet.IPV6;
  const header = isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  const datagramBytes = udp.HEADER_BYTES + payload.length;
  const bytes = new Uint8Array(ethernet.HEADER_BYTES + header + datagramBytes);
  const network = ethernet.write(
    { destination: macOf(destinationMac), source: macOf(sourceMac), etherType },
    bytes,
    0,
  );
  const transport = network + header;
  const common = { trafficClass, payloadLength: datagramBytes };
  if (ip.isV4(from) && ip.isV4(to)) {
    const own = { protocol: ipv4.UDP, ttl, identification: 1, dontFragment: true };
    ipv4.write({ source: from, destination: to, ...common, ...own }, bytes, network);
  } else {
    const addresses = { source: from as ip.Ipv6Address, destination: to as ip.Ipv6Address };
    const own = { nextHeader: ipv4.UDP, hopLimit: ttl, flowLabel: 0 };
    ipv6.write({ ...addresses, ...common, ...own }, bytes, network);
  }
  udp.write({ sourcePort, destinationPort, payloadLength: payload.length }, bytes, transport);
  bytes.set(payload, transport + udp.HEADER_BYTES);
  udp.fillChecksum(bytes, network, transport);
  return bytes;
}

/** Puts a tag behind the two addresses. */
export function withTag(
  frame: Uint8Array,
  vlanId: number,
  etherType: number = vlan.CUSTOMER_TAG,
): Uint8Array {
  const addresses = 2 * mac.BYTES;
  const tag = Uint8Array.of(etherType >> 8, etherType & 0xff, vlanId >> 8, vlanId & 0xff);
  return Buffer.concat([frame.subarray(0, addresses), tag, frame.subarray(addresses)]);
}

/** A frame as it travels: the payload of one datagram. `header` replaces bytes of the VXLAN header. */
export function encapsulated(
  vnetid: number,
  frame: Uint8Array,
  header: Readonly<Record<number, number>> = {},
): Uint8Array {
  const bytes = new Uint8Array(vxlan.HEADER_BYTES + frame.length);
  bytes.set([0x08, 0, 0, 0, vnetid >> 16, (vnetid >> 8) & 0xff, vnetid & 0xff, 0]); // RFC 7348 5
  for (const [at, value] of Object.entries(header)) bytes[Number(at)] = value;
  bytes.set(frame, vxlan.HEADER_BYTES);
  return bytes;
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
