/**
 * Makes a frame for `dladm explain` of the few words that were typed: a UDP packet of IPv4 or IPv6, or any bytes
 * behind another EtherType.
 */
import * as ethernet from '../../wire/ethernet.js';
import { ANY_V4, ANY_V6, type IpAddress, type Ipv4Address, isV4 } from '../../wire/ip.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import type { MacAddress } from '../../wire/mac.js';
import * as udp from '../../wire/udp.js';
import * as vlan from '../../wire/vlan.js';

export interface FrameSpec {
  readonly to: MacAddress;
  readonly from: MacAddress;
  readonly etherType: number;
  /** Undefined = no tag. */
  readonly vlan: number | undefined;
  /** Addresses of the packet. Undefined = none: 0.0.0.0, or ::. */
  readonly source: IpAddress | undefined;
  readonly destination: IpAddress | undefined;
  /** Bytes of the frame, tag included; a frame that its headers need is never shorter. */
  readonly bytes: number;
}

/** Bytes of a frame of ping(8), with IPv4. */
export const DEFAULT_BYTES = 98;

const PORTS = { sourcePort: 49152, destinationPort: 9 }; // RFC 863: discard
const HOP_LIMIT = 64;

export function frameOf(spec: FrameSpec): Uint8Array {
  const { to, from, etherType, bytes } = spec;
  const tag = spec.vlan === undefined ? 0 : vlan.HEADER_BYTES;
  const header = ethernet.HEADER_BYTES + tag;
  const ip = etherType === ethernet.IPV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  const isIp = etherType === ethernet.IPV4 || etherType === ethernet.IPV6;
  const frame = new Uint8Array(Math.max(bytes, header + (isIp ? ip + udp.HEADER_BYTES : 0)));
  const outerType = spec.vlan === undefined ? etherType : vlan.CUSTOMER_TAG;
  ethernet.write({ destination: to, source: from, etherType: outerType }, frame, 0);
  if (spec.vlan !== undefined)
    vlan.write(
      { priority: 0, dropEligible: false, vlanId: spec.vlan, etherType },
      frame,
      ethernet.HEADER_BYTES,
    );
  if (!isIp) return frame;
  const payloadLength = frame.length - header - ip - udp.HEADER_BYTES;
  if (etherType === ethernet.IPV4) writeV4(spec, frame, header, udp.HEADER_BYTES + payloadLength);
  else writeV6(spec, frame, header, udp.HEADER_BYTES + payloadLength);
  udp.write({ ...PORTS, payloadLength }, frame, header + ip);
  udp.fillChecksum(frame, header, header + ip);
  return frame;
}

function writeV4(
  { source, destination }: FrameSpec,
  frame: Uint8Array,
  at: number,
  payloadLength: number,
): void {
  ipv4.write(
    {
      source: v4Of(source),
      destination: v4Of(destination),
      protocol: ipv4.UDP,
      ttl: HOP_LIMIT,
      trafficClass: 0,
      identification: 0,
      dontFragment: true,
      payloadLength,
    },
    frame,
    at,
  );
}

function writeV6(
  { source, destination }: FrameSpec,
  frame: Uint8Array,
  at: number,
  payloadLength: number,
): void {
  ipv6.write(
    {
      source: source ?? ANY_V6,
      destination: destination ?? ANY_V6,
      nextHeader: ipv4.UDP,
      hopLimit: HOP_LIMIT,
      trafficClass: 0,
      flowLabel: 0,
      payloadLength,
    },
    frame,
    at,
  );
}

function v4Of(ip: IpAddress | undefined): Ipv4Address {
  return ip !== undefined && isV4(ip) ? ip : ANY_V4;
}
