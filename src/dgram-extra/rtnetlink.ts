/**
 * Links by name, over rtnetlink: one message sets several attributes, or none of them.
 *
 *   | length | type | flags | sequence | port |   struct nlmsghdr   (linux/netlink.h)
 *   | family | type | index | flags | change  |   struct ifinfomsg  (linux/rtnetlink.h)
 *   | length | type | value ... | padding     |   struct rtattr, one after another, each 4-aligned
 *
 * All in host byte order; every Linux that Node runs on is little-endian.
 */
import { addon, checked, NativeError } from './addon.js';

const NLMSG_HEADER_BYTES = 16;
const IFINFO_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;

// linux/netlink.h
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;

// linux/rtnetlink.h, linux/if_link.h, linux/if.h
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_IFALIAS = 20;
const IFLA_GSO_MAX_SIZE = 41;
const IFF_UP = 1;

/** An answer about one link with all its statistics is below 4 KiB. */
const ANSWER_BYTES = 16384;

/** The kernel fills at most 32 KiB at a time (NLMSG_GOODSIZE bounds it below that). */
const DUMP_BYTES = 32768;

const ENODEV = -19;

interface Flags {
  readonly value: number;
  readonly change: number;
}

const NO_FLAGS: Flags = { value: 0, change: 0 };

export interface LinkChange {
  /** 6 bytes. */
  readonly mac?: Uint8Array;
  readonly mtuBytes?: number;
  readonly up?: boolean;
  /** The largest superframe the stack may hand to the link. */
  readonly gsoMaxBytes?: number;
  /** What `ip link` shows behind `alias`; at most 255 bytes. */
  readonly alias?: string;
}

export interface LinkInfo {
  readonly name: string;
  readonly index: number;
  readonly mac: Uint8Array;
  readonly mtuBytes: number;
  readonly up: boolean;
  /** Empty when there is none. */
  readonly alias: string;
}

/** Throws the kernel's error; ENODEV when this network namespace has no such link. */
export function setLink(name: string, { mac, mtuBytes, up, gsoMaxBytes, alias }: LinkChange): void {
  const attributes = [text(IFLA_IFNAME, name)];
  if (mac !== undefined) attributes.push(attribute(IFLA_ADDRESS, mac));
  if (mtuBytes !== undefined) attributes.push(number(IFLA_MTU, mtuBytes));
  if (gsoMaxBytes !== undefined) attributes.push(number(IFLA_GSO_MAX_SIZE, gsoMaxBytes));
  if (alias !== undefined) attributes.push(attribute(IFLA_IFALIAS, new TextEncoder().encode(alias)));
  const flags = up === undefined ? NO_FLAGS : { value: up ? IFF_UP : 0, change: IFF_UP };
  const answer = ask(RTM_NEWLINK, flags, attributes, name);
  const error = errorOf(answer);
  if (error < 0) throw new NativeError(error, 'RTM_NEWLINK', name);
}

/** Nothing happens when this network namespace has no such link. */
export function deleteLink(name: string): void {
  const error = errorOf(ask(RTM_DELLINK, NO_FLAGS, [text(IFLA_IFNAME, name)], name));
  if (error < 0 && error !== ENODEV) throw new NativeError(error, 'RTM_DELLINK', name);
}

/** Undefined when this network namespace has no such link. */
export function linkInfo(name: string): LinkInfo | undefined {
  const answer = ask(RTM_GETLINK, NO_FLAGS, [text(IFLA_IFNAME, name)], name);
  const error = errorOf(answer);
  if (error === ENODEV) return undefined;
  if (error < 0) throw new NativeError(error, 'RTM_GETLINK', name);
  return readLink(answer, 0);
}

/** Names of the links of this network namespace that have this alias. */
export function linksWithAlias(alias: string): string[] {
  const names: string[] = [];
  const buffer = new Uint8Array(DUMP_BYTES);
  const view = new DataView(buffer.buffer);
  const fd = open(RTM_GETLINK, NO_FLAGS, [], 'all links', NLM_F_DUMP);
  try {
    for (;;) {
      const bytes = checked(addon.netlinkReceive(fd, buffer), 'recvfrom', 'all links');
      if (bytes === 0) return names;
      for (let at = 0; at + NLMSG_HEADER_BYTES <= bytes; at += aligned(view.getUint32(at, true))) {
        const type = view.getUint16(at + 4, true);
        if (type === NLMSG_DONE || type === NLMSG_ERROR) return names;
        const link = readLink(view, at);
        if (link.alias === alias) names.push(link.name);
      }
    }
  } finally {
    addon.closeDescriptor(fd);
  }
}

/** The RTM_NEWLINK message at `start`. */
function readLink(view: DataView, start: number): LinkInfo {
  const body = start + NLMSG_HEADER_BYTES;
  let mac: Uint8Array = new Uint8Array(0);
  let mtuBytes = 0;
  let name = '';
  let alias = '';
  const end = start + view.getUint32(start, true);
  for (let at = body + IFINFO_BYTES; at + ATTRIBUTE_HEADER_BYTES <= end;) {
    const length = view.getUint16(at, true);
    const value = at + ATTRIBUTE_HEADER_BYTES;
    const bytes = (): Uint8Array =>
      new Uint8Array(view.buffer, value, Math.max(0, length - ATTRIBUTE_HEADER_BYTES)).slice();
    const words = (): string => new TextDecoder().decode(bytes()).replace(/\0$/, '');
    const type = view.getUint16(at + 2, true);
    if (type === IFLA_ADDRESS) mac = bytes();
    else if (type === IFLA_MTU) mtuBytes = view.getUint32(value, true);
    else if (type === IFLA_IFNAME) name = words();
    else if (type === IFLA_IFALIAS) alias = words();
    at += Math.max(aligned(length), ATTRIBUTE_HEADER_BYTES);
  }
  const up = (view.getUint32(body + 8, true) & IFF_UP) !== 0;
  return { name, index: view.getInt32(body + 4, true), mac, mtuBytes, up, alias };
}

/** One request and its one answer; the kernel has given it when `send` returns. */
function ask(type: number, flags: Flags, attributes: readonly Uint8Array[], name: string): DataView {
  const answer = new Uint8Array(ANSWER_BYTES);
  const fd = open(type, flags, attributes, name, type === RTM_GETLINK ? 0 : NLM_F_ACK);
  try {
    checked(addon.netlinkReceive(fd, answer), 'recvfrom', name);
  } finally {
    addon.closeDescriptor(fd);
  }
  return new DataView(answer.buffer);
}

/** A socket on which a request has been sent. */
function open(
  type: number,
  flags: Flags,
  attributes: readonly Uint8Array[],
  name: string,
  more: number,
): number {
  const bytes = NLMSG_HEADER_BYTES + IFINFO_BYTES + attributes.reduce((sum, { length }) => sum + length, 0);
  const message = new Uint8Array(bytes);
  const view = new DataView(message.buffer);
  view.setUint32(0, bytes, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | more, true);
  view.setUint32(NLMSG_HEADER_BYTES + 8, flags.value, true);
  view.setUint32(NLMSG_HEADER_BYTES + 12, flags.change, true);
  let at = NLMSG_HEADER_BYTES + IFINFO_BYTES;
  for (const each of attributes) {
    message.set(each, at);
    at += each.length;
  }
  const fd = checked(addon.netlinkOpen(0), 'bind', 'rtnetlink');
  try {
    checked(addon.netlinkSend(fd, message), 'send', name);
    return fd;
  } catch (error) {
    addon.closeDescriptor(fd);
    throw error;
  }
}

/** A negated errno; 0 = an acknowledgment, or no error message at all. */
function errorOf(answer: DataView): number {
  return answer.getUint16(4, true) === NLMSG_ERROR ? answer.getInt32(NLMSG_HEADER_BYTES, true) : 0;
}

const aligned = (bytes: number): number => (bytes + 3) & ~3;

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(ATTRIBUTE_HEADER_BYTES + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ATTRIBUTE_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

function number(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return attribute(type, bytes);
}

/** With the NUL that ends it. */
function text(type: number, value: string): Uint8Array {
  return attribute(type, new TextEncoder().encode(`${value}\0`));
}
