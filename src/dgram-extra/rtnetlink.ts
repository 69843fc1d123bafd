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
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;

// linux/rtnetlink.h, linux/if_link.h, linux/if.h
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_GSO_MAX_SIZE = 41;
const IFF_UP = 1;

/** An answer about one link with all its statistics is below 4 KiB. */
const ANSWER_BYTES = 16384;

const ENODEV = -19;

export interface LinkChange {
  /** 6 bytes. */
  readonly mac?: Uint8Array;
  readonly mtuBytes?: number;
  readonly up?: boolean;
  /** The largest superframe the stack may hand to the link. */
  readonly gsoMaxBytes?: number;
}

export interface LinkInfo {
  readonly index: number;
  readonly mac: Uint8Array;
  readonly mtuBytes: number;
  readonly up: boolean;
}

/** Throws the kernel's error; ENODEV when this network namespace has no such link. */
export function setLink(name: string, { mac, mtuBytes, up, gsoMaxBytes }: LinkChange): void {
  const attributes = [text(IFLA_IFNAME, name)];
  if (mac !== undefined) attributes.push(attribute(IFLA_ADDRESS, mac));
  if (mtuBytes !== undefined) attributes.push(number(IFLA_MTU, mtuBytes));
  if (gsoMaxBytes !== undefined) attributes.push(number(IFLA_GSO_MAX_SIZE, gsoMaxBytes));
  const flags = up === undefined ? { value: 0, change: 0 } : { value: up ? IFF_UP : 0, change: IFF_UP };
  const answer = ask(RTM_NEWLINK, flags, attributes, name);
  const error = errorOf(answer);
  if (error < 0) throw new NativeError(error, 'RTM_NEWLINK', name);
}

/** Undefined when this network namespace has no such link. */
export function linkInfo(name: string): LinkInfo | undefined {
  const answer = ask(RTM_GETLINK, { value: 0, change: 0 }, [text(IFLA_IFNAME, name)], name);
  const error = errorOf(answer);
  if (error === ENODEV) return undefined;
  if (error < 0) throw new NativeError(error, 'RTM_GETLINK', name);
  const body = NLMSG_HEADER_BYTES;
  let mac: Uint8Array = new Uint8Array(0);
  let mtuBytes = 0;
  const end = answer.getUint32(0, true);
  for (let at = body + IFINFO_BYTES; at + ATTRIBUTE_HEADER_BYTES <= end;) {
    const length = answer.getUint16(at, true);
    const type = answer.getUint16(at + 2, true);
    const value = at + ATTRIBUTE_HEADER_BYTES;
    if (type === IFLA_ADDRESS)
      mac = new Uint8Array(answer.buffer, value, length - ATTRIBUTE_HEADER_BYTES).slice();
    if (type === IFLA_MTU) mtuBytes = answer.getUint32(value, true);
    at += Math.max(aligned(length), ATTRIBUTE_HEADER_BYTES);
  }
  const up = (answer.getUint32(body + 8, true) & IFF_UP) !== 0;
  return { index: answer.getInt32(body + 4, true), mac, mtuBytes, up };
}

/** One request; the kernel has answered when `send` returns. */
function ask(
  type: number,
  flags: { readonly value: number; readonly change: number },
  attributes: readonly Uint8Array[],
  name: string,
): DataView {
  const bytes = NLMSG_HEADER_BYTES + IFINFO_BYTES + attributes.reduce((sum, { length }) => sum + length, 0);
  const message = new Uint8Array(bytes);
  const view = new DataView(message.buffer);
  view.setUint32(0, bytes, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | (type === RTM_GETLINK ? 0 : NLM_F_ACK), true);
  view.setUint32(NLMSG_HEADER_BYTES + 8, flags.value, true);
  view.setUint32(NLMSG_HEADER_BYTES + 12, flags.change, true);
  let at = NLMSG_HEADER_BYTES + IFINFO_BYTES;
  for (const each of attributes) {
    message.set(each, at);
    at += each.length;
  }
  const answer = new Uint8Array(ANSWER_BYTES);
  const fd = checked(addon.netlinkOpen(0), 'bind', 'rtnetlink');
  try {
    checked(addon.netlinkSend(fd, message), 'send', name);
    checked(addon.netlinkReceive(fd, answer), 'recvfrom', name);
  } finally {
    addon.closeDescriptor(fd);
  }
  return new DataView(answer.buffer);
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
