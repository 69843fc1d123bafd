/** Addresses and routes of a link: adds and lists them, over rtnetlink, in the network namespace of this thread. */
import * as kernel from './kernel-numbers.js';
import {
  ask,
  attribute,
  type Attributes,
  attributesOf,
  bytesOf,
  dump,
  type Message,
  numberAttribute,
} from './netlink-message.js';
import {
  familyOf,
  IFADDR_BYTES,
  isMapped,
  named,
  orUndefined,
  plain,
  ROUTE_BYTES,
  sixteen,
} from './rtnetlink.js';

/** A route of one link. Addresses are 16 bytes, IPv4 as v4-mapped. */
export interface LinkRoute {
  readonly destination: Uint8Array;
  /** Length of the prefix; of an IPv4 one, 32 at most. */
  readonly bits: number;
  /** The router; undefined when the destinations are neighbours. */
  readonly via?: Uint8Array | undefined;
  readonly priority?: number | undefined;
  /** Number of the table; 254, the main one, by default. */
  readonly table?: number | undefined;
  /** Number of rt_scope; by default that of a link without a router, else that of the universe. */
  readonly scope?: number | undefined;
  readonly mtuBytes?: number | undefined;
  readonly advertisedMss?: number | undefined;
}

const CREATE = kernel.NLM_F_ACK | kernel.NLM_F_CREATE | kernel.NLM_F_EXCL;

/**
 * Adds an address of 16 bytes. An IPv6 address is used at once, without duplicate address detection (RFC 4862 5.4). Does
 * nothing when the link has the address. Throws the kernel's error.
 */
export function addAddress(index: number, address: Uint8Array, bits: number): void {
  const head = new DataView(new ArrayBuffer(IFADDR_BYTES));
  head.setUint8(0, familyOf(address));
  head.setUint8(1, bits);
  if (!isMapped(address)) head.setUint8(2, kernel.IFA_F_NODAD);
  head.setUint32(4, index, true);
  const value = plain(address);
  const parts = [new Uint8Array(head.buffer), attribute(kernel.IFA_LOCAL, value)];
  if (isMapped(address) && bits < 31) parts.push(attribute(kernel.IFA_BROADCAST, lastOf(value, bits)));
  parts.push(attribute(kernel.IFA_ADDRESS, value));
  orUndefined(['EEXIST'], () =>
    named(`link ${index}`, 'RTM_NEWADDR', () => ask(kernel.RTM_NEWADDR, CREATE, parts, 'address')),
  );
}

/** The last address of the IPv4 subnet, which is its broadcast address (RFC 922 7). */
function lastOf(address: Uint8Array, bits: number): Uint8Array {
  const mask = 0xffff_ffff >>> bits;
  return address.map((byte, at) => byte | ((mask >>> (24 - 8 * at)) & 0xff));
}

/** Adds a route. Returns false, and changes nothing, when there is one to this destination already. Throws the kernel's error. */
export function addRoute(index: number, route: LinkRoute): boolean {
  const { destination, bits, via, priority, table = kernel.RT_TABLE_MAIN, mtuBytes, advertisedMss } = route;
  const scope = route.scope ?? (via === undefined ? kernel.RT_SCOPE_LINK : kernel.RT_SCOPE_UNIVERSE);
  const head = new Uint8Array(ROUTE_BYTES);
  // A table above 255 does not fit here, and RTA_TABLE counts alone (net/ipv4/fib_frontend.c).
  head.set([familyOf(destination), bits, 0, 0, 0, kernel.RTPROT_BOOT, scope, kernel.RTN_UNICAST]);
  const parts = [head, numberAttribute(kernel.RTA_OIF, index), numberAttribute(kernel.RTA_TABLE, table)];
  if (bits > 0) parts.push(attribute(kernel.RTA_DST, plain(destination)));
  if (via !== undefined) parts.push(attribute(kernel.RTA_GATEWAY, plain(via)));
  if (priority !== undefined) parts.push(numberAttribute(kernel.RTA_PRIORITY, priority));
  const metrics: Uint8Array[] = [];
  if (mtuBytes !== undefined) metrics.push(numberAttribute(kernel.RTAX_MTU, mtuBytes));
  if (advertisedMss !== undefined) metrics.push(numberAttribute(kernel.RTAX_ADVMSS, advertisedMss));
  if (metrics.length > 0) parts.push(attribute(kernel.RTA_METRICS, new Uint8Array(Buffer.concat(metrics))));
  const answer = orUndefined(['EEXIST'], () =>
    named(`link ${index}`, 'RTM_NEWROUTE', () => ask(kernel.RTM_NEWROUTE, CREATE, parts, 'route')),
  );
  return answer !== undefined;
}

/** Returns the routes of all tables. Those with several next hops are left out. */
export function routesOf(): LinkRoute[] {
  return [kernel.AF_INET, kernel.AF_INET6].flatMap((family) => {
    const head = new Uint8Array(ROUTE_BYTES);
    head[0] = family;
    return dump(kernel.RTM_GETROUTE, [head], 'routes').flatMap((message) => readRoute(message) ?? []);
  });
}

function readRoute(message: Message): LinkRoute | undefined {
  const { body, type } = message;
  if (type !== kernel.RTM_NEWROUTE || body.getUint8(7) !== kernel.RTN_UNICAST) return undefined;
  const attributes = attributesOf(message, ROUTE_BYTES);
  if (!attributes.has(kernel.RTA_OIF)) return undefined;
  const isV4 = body.getUint8(0) === kernel.AF_INET;
  const addressOf = (type: number): Uint8Array | undefined => {
    const value = attributes.get(type);
    return value && sixteen(bytesOf(value));
  };
  return {
    destination: addressOf(kernel.RTA_DST) ?? sixteen(new Uint8Array(isV4 ? 4 : 16)),
    bits: body.getUint8(1),
    via: addressOf(kernel.RTA_GATEWAY),
    priority: number(attributes, kernel.RTA_PRIORITY),
    table: number(attributes, kernel.RTA_TABLE) ?? body.getUint8(4),
  };
}

const number = (attributes: Attributes, type: number): number | undefined =>
  attributes.get(type)?.getUint32(0, true);
