/** Reads and sets links, addresses and neighbours of this network namespace, over rtnetlink. */
import type { ErrnoName } from '../wire/errno.js';
import { NativeError } from './addon.js';
import * as kernel from './kernel-numbers.js';
import {
  ask,
  attribute,
  attributesOf,
  bytesOf,
  dump,
  type Message,
  nestedAttributes,
  numberAttribute,
  textAttribute,
  textOf,
} from './netlink-message.js';

/** struct rtgenmsg, with its padding. */
const RTGEN_BYTES = 4;
/** struct ifinfomsg */
export const IFINFO_BYTES = 16;
/** struct ifaddrmsg */
export const IFADDR_BYTES = 8;
/** struct rtmsg */
export const ROUTE_BYTES = 12;
/** struct ndmsg */
const NEIGH_BYTES = 12;

export interface LinkChange {
  /** 6 bytes. */
  readonly mac?: Uint8Array;
  readonly mtuBytes?: number;
  readonly up?: boolean;
}

export interface LinkInfo {
  readonly index: number;
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtuBytes: number;
  /** The MTU for IPv6, as a router has advertised it (RFC 4861 4.6.4) or an operator has set it; undefined without
   * IPv6. */
  readonly mtu6Bytes?: number | undefined;
  readonly up: boolean;
  /** The link has a carrier, such as a connected cable. Has no meaning while the link is down. */
  readonly carrier: boolean;
  /** Index of the bridge or bond that the link is a port of; 0 when there is none. */
  readonly master: number;
  /** Index of the link below a VLAN or macvlan, or of the other end of a veth; 0 when this network namespace has none. */
  readonly lower: number;
  /** `tun`, `veth`, `vxlan` ...; empty for a hardware device. */
  readonly kind: string;
  readonly tun?: TunInfo;
}

/** Details of a TUN or TAP, since Linux 4.17. */
export interface TunInfo {
  /** User and group that may attach to the device without CAP_NET_ADMIN. With neither, every user may. */
  readonly ownerUid: number | undefined;
  readonly ownerGid: number | undefined;
  /** Queues of a multi-queue device that get frames, and queues that get none. */
  readonly queues: number;
  readonly disabledQueues: number;
}

/** Throws the kernel's error; ENODEV when this network namespace has no such link. */
export function setLink(name: string, { mac, mtuBytes, up }: LinkChange): void {
  const attributes = [textAttribute(kernel.IFLA_IFNAME, name)];
  if (mac !== undefined) attributes.push(attribute(kernel.IFLA_ADDRESS, mac));
  if (mtuBytes !== undefined) attributes.push(numberAttribute(kernel.IFLA_MTU, mtuBytes));
  const change = up === undefined ? 0 : kernel.IFF_UP;
  named(name, 'RTM_NEWLINK', () =>
    ask(
      kernel.RTM_NEWLINK,
      kernel.NLM_F_ACK,
      [ifinfo(0, up === true ? kernel.IFF_UP : 0, change), ...attributes],
      name,
    ),
  );
}

/** Renames a link. Throws the kernel's error: EBUSY before Linux 6.2 when the link is up (net/core/dev.c, dev_change_name). */
export function renameLink(index: number, name: string): void {
  named(name, 'RTM_NEWLINK', () =>
    ask(
      kernel.RTM_NEWLINK,
      kernel.NLM_F_ACK,
      [ifinfo(index, 0, 0), textAttribute(kernel.IFLA_IFNAME, name)],
      name,
    ),
  );
}

/** Deletes a link. Does nothing when this network namespace has no such link. */
export function deleteLink(name: string): void {
  const parts = [ifinfo(0, 0, 0), textAttribute(kernel.IFLA_IFNAME, name)];
  orUndefined(['ENODEV'], () =>
    named(name, 'RTM_DELLINK', () => ask(kernel.RTM_DELLINK, kernel.NLM_F_ACK, parts, name)),
  );
}

/** For each kind of tunnel link, the attribute with its UDP port. */
const TUNNEL_PORTS: Readonly<Record<string, number>> = {
  vxlan: kernel.IFLA_VXLAN_PORT,
  geneve: kernel.IFLA_GENEVE_PORT,
};

/** Returns the names of the kernel's VXLAN and Geneve links in this network namespace that receive on this UDP port. */
export function tunnelLinksOn(port: number): string[] {
  return dump(kernel.RTM_GETLINK, [ifinfo(0, 0, 0)], 'links')
    .filter((message) => message.type === kernel.RTM_NEWLINK && tunnelPort(message) === port)
    .map((message) => readLink(message).name);
}

function tunnelPort(message: Message): number | undefined {
  const info = attributesOf(message, IFINFO_BYTES).get(kernel.IFLA_LINKINFO);
  if (info === undefined) return undefined;
  const inside = nestedAttributes(info);
  const [kind, data] = [inside.get(kernel.IFLA_INFO_KIND), inside.get(kernel.IFLA_INFO_DATA)];
  const port = kind && TUNNEL_PORTS[textOf(kind)];
  if (port === undefined || data === undefined) return undefined;
  return nestedAttributes(data).get(port)?.getUint16(0);
}

/** Returns a link by name or index; undefined when this network namespace has no such link. */
export function linkInfo(link: string | number): LinkInfo | undefined {
  const message = linkMessage(link);
  return message && readLink(message);
}

/**
 * Returns a link of another network namespace, which a descriptor names (since Linux 4.20). Undefined when that
 * namespace has no such link, when this process has no CAP_NET_ADMIN there, or when no link was ever moved there from
 * here.
 */
export function linkInfoIn(namespace: number, name: string): LinkInfo | undefined {
  return orUndefined(['EACCES', 'EPERM', 'EINVAL', 'EOPNOTSUPP'], () => {
    const parts = [new Uint8Array(RTGEN_BYTES), numberAttribute(kernel.NETNSA_FD, namespace)];
    const answer = named(name, 'RTM_GETNSID', () => ask(kernel.RTM_GETNSID, 0, parts, name));
    const id = attributesOf(answer, RTGEN_BYTES).get(kernel.NETNSA_NSID)?.getInt32(0, true) ?? -1;
    const message = id < 0 ? undefined : linkMessage(name, [numberAttribute(kernel.IFLA_TARGET_NETNSID, id)]);
    return message && readLink(message);
  });
}

/** Returns the kernel's message about a link, with all attributes. `more` are further attributes of the request. */
export function linkMessage(link: string | number, more: readonly Uint8Array[] = []): Message | undefined {
  const isIndex = typeof link === 'number';
  const parts = isIndex ? [ifinfo(link, 0, 0)] : [ifinfo(0, 0, 0), textAttribute(kernel.IFLA_IFNAME, link)];
  const device = isIndex ? `link ${link}` : link;
  return orUndefined(['ENODEV'], () =>
    named(device, 'RTM_GETLINK', () => ask(kernel.RTM_GETLINK, 0, [...parts, ...more], device)),
  );
}

export function ifinfo(index: number, flags: number, change: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(IFINFO_BYTES));
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return new Uint8Array(view.buffer);
}

function readLink(message: Message): LinkInfo {
  const { body } = message;
  const attributes = attributesOf(message, IFINFO_BYTES);
  const [mac, name, mtu] = [kernel.IFLA_ADDRESS, kernel.IFLA_IFNAME, kernel.IFLA_MTU].map((type) =>
    attributes.get(type),
  );
  const flags = body.getUint32(8, true);
  return {
    index: body.getInt32(4, true),
    name: name === undefined ? '' : textOf(name),
    mac: mac === undefined ? new Uint8Array(0) : bytesOf(mac),
    mtuBytes: mtu?.getUint32(0, true) ?? 0,
    mtu6Bytes: readMtu6(attributes.get(kernel.IFLA_AF_SPEC)),
    up: (flags & kernel.IFF_UP) !== 0,
    carrier: (flags & kernel.IFF_LOWER_UP) !== 0,
    master: attributes.get(kernel.IFLA_MASTER)?.getUint32(0, true) ?? 0,
    lower: attributes.has(kernel.IFLA_LINK_NETNSID)
      ? 0
      : (attributes.get(kernel.IFLA_LINK)?.getUint32(0, true) ?? 0),
    ...readKind(attributes.get(kernel.IFLA_LINKINFO)),
  };
}

function readMtu6(value: DataView | undefined): number | undefined {
  const inet6 = value && nestedAttributes(value).get(kernel.AF_INET6);
  const conf = inet6 && nestedAttributes(inet6).get(kernel.IFLA_INET6_CONF);
  return conf && conf.byteLength > kernel.DEVCONF_MTU6 * 4
    ? conf.getUint32(kernel.DEVCONF_MTU6 * 4, true)
    : undefined;
}

function readKind(value: DataView | undefined): Pick<LinkInfo, 'kind' | 'tun'> {
  if (value === undefined) return { kind: '' };
  const nested = nestedAttributes(value);
  const name = nested.get(kernel.IFLA_INFO_KIND);
  const kind = name === undefined ? '' : textOf(name);
  const data = nested.get(kernel.IFLA_INFO_DATA);
  if (kind !== 'tun' || data === undefined) return { kind };
  const tun = nestedAttributes(data);
  const value32 = (type: number): number | undefined => tun.get(type)?.getUint32(0, true);
  return {
    kind,
    tun: {
      ownerUid: value32(kernel.IFLA_TUN_OWNER),
      ownerGid: value32(kernel.IFLA_TUN_GROUP),
      queues: value32(kernel.IFLA_TUN_NUM_QUEUES) ?? 0,
      disabledQueues: value32(kernel.IFLA_TUN_NUM_DISABLED_QUEUES) ?? 0,
    },
  };
}

/** An address of this host. */
export interface AddressInfo {
  /** 16 bytes, IPv4 as v4-mapped. */
  readonly address: Uint8Array;
  /** Index of the link that has the address. */
  readonly index: number;
  /** `tentative`: duplicate address detection has not ended. `duplicate`: it has found another owner. */
  readonly state: 'good' | 'tentative' | 'duplicate';
}

export function hostAddresses(): AddressInfo[] {
  return dump(kernel.RTM_GETADDR, [new Uint8Array(IFADDR_BYTES)], 'addresses')
    .filter(({ type }) => type === kernel.RTM_NEWADDR)
    .flatMap((message) => readAddress(message) ?? []);
}

function readAddress(message: Message): AddressInfo | undefined {
  const { body } = message;
  const attributes = attributesOf(message, IFADDR_BYTES);
  // On a point-to-point link IFA_ADDRESS is the address of the other end.
  const value = attributes.get(kernel.IFA_LOCAL) ?? attributes.get(kernel.IFA_ADDRESS);
  if (value === undefined) return undefined;
  const address = sixteen(bytesOf(value));
  const flags = attributes.get(kernel.IFA_FLAGS)?.getUint32(0, true) ?? body.getUint8(2);
  const isTentative = (flags & kernel.IFA_F_TENTATIVE) !== 0 && (flags & kernel.IFA_F_OPTIMISTIC) === 0;
  const state = (flags & kernel.IFA_F_DADFAILED) !== 0 ? 'duplicate' : isTentative ? 'tentative' : 'good';
  return { address, index: body.getUint32(4, true), state };
}

/** Returns the MAC of a neighbour on this link, if the kernel knows it now. The address is 16 bytes. */
export function neighbourMac(index: number, address: Uint8Array): Uint8Array | undefined {
  const parts = [neighbour(familyOf(address), index), attribute(kernel.NDA_DST, plain(address))];
  const answer = orUndefined(NO_NEIGHBOUR, () => ask(kernel.RTM_GETNEIGH, 0, parts, 'neighbour'));
  const mac = answer && attributesOf(answer, NEIGH_BYTES).get(kernel.NDA_LLADDR);
  return mac && bytesOf(mac);
}

/** Returns the index of the bridge port where the bridge has seen this MAC in the VLAN of untagged frames. */
export function bridgePortOf(bridge: number, mac: Uint8Array): number | undefined {
  const parts = [
    neighbour(kernel.AF_BRIDGE, 0),
    attribute(kernel.NDA_LLADDR, mac),
    numberAttribute(kernel.NDA_MASTER, bridge),
  ];
  for (const vlan of [[], [attribute(kernel.NDA_VLAN, DEFAULT_VLAN)]]) {
    const answer = orUndefined(NO_NEIGHBOUR, () =>
      ask(kernel.RTM_GETNEIGH, 0, [...parts, ...vlan], 'bridge'),
    );
    if (answer !== undefined) return answer.body.getInt32(4, true);
  }
  return undefined;
}

/** The default VLAN (`default_pvid`) of a bridge that filters VLANs. Another bridge has no VLANs. */
const DEFAULT_VLAN = Uint8Array.of(1, 0);

/** Errors when there is no such neighbour, or when the kernel only makes dumps of neighbours (before 5.0). */
const NO_NEIGHBOUR: readonly ErrnoName[] = ['ENOENT', 'EINVAL', 'EOPNOTSUPP', 'ENODEV'];

/** struct ndmsg */
function neighbour(family: number, index: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(NEIGH_BYTES));
  view.setUint8(0, family);
  view.setInt32(4, index, true);
  return new Uint8Array(view.buffer);
}

const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]; // RFC 4291 2.5.5.2

export const isMapped = (address: Uint8Array): boolean => MAPPED.every((byte, at) => address[at] === byte);

export const familyOf = (address: Uint8Array): number =>
  isMapped(address) ? kernel.AF_INET : kernel.AF_INET6;

/** The address as its family has it: 4 bytes, or 16. */
export const plain = (address: Uint8Array): Uint8Array =>
  isMapped(address) ? address.subarray(12) : address;

export function sixteen(address: Uint8Array): Uint8Array {
  return address.length === 4 ? Uint8Array.of(...MAPPED, ...address) : address;
}

/** The subject of a message of a multicast group. */
export type LinkEvent =
  | { readonly about: 'link'; readonly index: number; readonly name: string; readonly kind: string }
  | ({ readonly about: 'address'; readonly gone: boolean } & AddressInfo)
  | { readonly about: 'route' };

export function readEvent(message: Message): LinkEvent | undefined {
  switch (message.type) {
    case kernel.RTM_NEWLINK:
    case kernel.RTM_DELLINK: {
      const { index, name, kind } = readLink(message);
      return { about: 'link', index, name, kind };
    }
    case kernel.RTM_NEWADDR:
    case kernel.RTM_DELADDR: {
      const info = readAddress(message);
      return info && { about: 'address', gone: message.type === kernel.RTM_DELADDR, ...info };
    }
    default:
      return { about: 'route' };
  }
}

export function orUndefined<T>(codes: readonly ErrnoName[], call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof NativeError && codes.some((code) => code === error.code)) return undefined;
    throw error;
  }
}

/** Makes the call, and adds the request and the device to an error of the kernel. */
export function named<T>(device: string, request: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (error instanceof NativeError && error.syscall === 'rtnetlink')
      throw new NativeError(-error.errno, request, device);
    throw error;
  }
}
