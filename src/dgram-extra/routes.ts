/** Routes of this network namespace, read over rtnetlink. The path MTUs that the kernel has learned from ICMP are left
 * out. */
import { ERRNO, type ErrnoName } from '../wire/errno.js';
import { NativeError } from './addon.js';
import * as kernel from './kernel-numbers.js';
import {
  ask,
  attribute,
  type Attributes,
  attributesOf,
  bytesOf,
  type Message,
  nestedAttributes,
} from './netlink-message.js';
import { familyOf, isMapped, linkInfo, orUndefined, plain, ROUTE_BYTES, sixteen } from './rtnetlink.js';

/** Offset of rta_expires in struct rta_cacheinfo. */
const EXPIRES_AT = 8;

export interface RouteInfo {
  /** The destination is an address of this host. */
  readonly isLocal: boolean;
  /** Index of the link of the route. */
  readonly index: number;
  /** The router, 16 bytes; undefined when the destination is a neighbour. */
  readonly via?: Uint8Array | undefined;
  /** The MTU that was set on the route (`ip route ... mtu`), never one learned from ICMP; undefined when none was set. */
  readonly mtuBytes?: number | undefined;
}

/** Errors of a lookup when there is no route, or the source is not an address of this host. */
const NO_ROUTE: readonly ErrnoName[] = [
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EINVAL',
  'EACCES',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'ENODEV',
];

/** Returns the route to an address, by the policy rules too; undefined when there is none. Addresses are 16 bytes. */
export function routeTo(to: Uint8Array, from?: Uint8Array): RouteInfo | undefined {
  const answer = askRoute(to, from, 0);
  if (answer === undefined) return undefined;
  // For an unreachable destination IPv6 returns a route of type "unreachable", and IPv4 an error.
  const type = answer.body.getUint8(7);
  const attributes = attributesOf(answer, ROUTE_BYTES);
  const index = attributes.get(kernel.RTA_OIF)?.getUint32(0, true);
  if (index === undefined || (type !== kernel.RTN_UNICAST && type !== kernel.RTN_LOCAL)) return undefined;
  // Behind the family, RTA_VIA has a gateway of the other family: IPv4 routes may go by IPv6 routers.
  const gateway = attributes.get(kernel.RTA_GATEWAY) ?? behindFamily(attributes.get(kernel.RTA_VIA));
  let mtuBytes = metricMtu(attributes);
  // An MTU with an expiry time was learned from ICMP. Then the kernel is asked for the entry of the table (Linux 4.13).
  if (mtuBytes !== undefined && attributes.get(kernel.RTA_CACHEINFO)?.getInt32(EXPIRES_AT, true) !== 0) {
    const entry = askRoute(to, from, kernel.RTM_F_FIB_MATCH);
    mtuBytes = entry && metricMtu(attributesOf(entry, ROUTE_BYTES));
  }
  return { isLocal: type === kernel.RTN_LOCAL, index, via: gateway && sixteen(bytesOf(gateway)), mtuBytes };
}

function askRoute(to: Uint8Array, from: Uint8Array | undefined, flags: number): Message | undefined {
  const head = new Uint8Array(ROUTE_BYTES);
  head[0] = familyOf(to);
  new DataView(head.buffer).setUint32(8, flags, true);
  const parts: Uint8Array[] = [head];
  for (const [type, address, lengthAt] of [
    [kernel.RTA_DST, to, 1],
    [kernel.RTA_SRC, from, 2],
  ] as const) {
    if (address === undefined) continue;
    const bytes = plain(address);
    head[lengthAt] = bytes.length * 8;
    parts.push(attribute(type, bytes));
  }
  return orUndefined(NO_ROUTE, () => ask(kernel.RTM_GETROUTE, 0, parts, 'route'));
}

function metricMtu(attributes: Attributes): number | undefined {
  const metrics = attributes.get(kernel.RTA_METRICS);
  return metrics && nestedAttributes(metrics).get(kernel.RTAX_MTU)?.getUint32(0, true);
}

/** Index of the loopback device in every network namespace. */
const LOOPBACK_INDEX = 1;

/** Returns the size in bytes of the largest IP packet that the route and its link carry; MTUs learned from ICMP are
 * left out. Throws when there is no route. Addresses are 16 bytes. */
export function routeMtuBytes(from: Uint8Array, to: Uint8Array, device: string): number {
  const route = routeTo(to, from);
  const link = route && linkInfo(route.isLocal ? LOOPBACK_INDEX : route.index);
  if (link === undefined) throw new NativeError(-ERRNO.ENETUNREACH, 'RTM_GETROUTE', device);
  const linkBytes = isMapped(to) ? link.mtuBytes : Math.min(link.mtuBytes, link.mtu6Bytes ?? Infinity);
  return Math.min(route?.mtuBytes ?? linkBytes, link.mtuBytes);
}

const behindFamily = (via: DataView | undefined): DataView | undefined =>
  via && new DataView(via.buffer, via.byteOffset + 2, via.byteLength - 2);
