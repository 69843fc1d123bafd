/**
 * Makes, sends and reads rtnetlink messages.
 *
 *   | length | type | flags | sequence | port |   struct nlmsghdr   (linux/netlink.h)
 *   | body: ifinfomsg, ifaddrmsg, rtmsg           |   (linux/rtnetlink.h)
 *   | length | type | value ... | padding     |   struct rtattr, one after another, each 4-aligned
 *
 * All in host byte order; every Linux that Node runs on is little-endian.
 */
import { ERRNO } from '../wire/errno.js';
import { addon, checked, NativeError } from './addon.js';
import * as kernel from './kernel-numbers.js';

const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;

/** The kernel's answers to the requests here are never longer (NLMSG_GOODSIZE; dumps: 32 KiB). */
const DATAGRAM_BYTES = 65536;
/** A dump is repeated when the table has changed during it. The last attempt is used in any case. */
const DUMP_ATTEMPTS = 4;

export interface Message {
  readonly type: number;
  /** The message without its header. */
  readonly body: DataView;
}

/** Values of attributes by type. When a type occurs more than once, the last value counts. */
export type Attributes = ReadonlyMap<number, DataView>;

/** Sends one request and returns the message that answers it. Throws the kernel's error, with `device` in it. */
export function ask(
  type: number,
  flags: number,
  parts: readonly Uint8Array[],
  device: string,
  protocol: number = kernel.NETLINK_ROUTE,
): Message {
  const receive = (fd: number, buffer: Uint8Array): Message => {
    // The kernel has answered when `send` returns.
    const answers = messages(buffer, checked(addon.netlinkReceive(fd, buffer), 'recvfrom', device));
    const first = answers.next();
    if (first.done === true) throw new NativeError(-ERRNO.EINTR, 'recvfrom', device);
    return first.value;
  };
  return exchange(type, flags, parts, device, receive, protocol);
}

/** Returns all objects of one kind. Changes during the dump come as events (link-events.ts). */
export function dump(type: number, parts: readonly Uint8Array[], device: string): Message[] {
  for (let attempt = 1; ; attempt++) {
    const { all, whole } = exchange(type, kernel.NLM_F_DUMP, parts, device, receiveDump(device));
    if (whole || attempt === DUMP_ATTEMPTS) return all;
  }
}

function receiveDump(device: string) {
  return (fd: number, buffer: Uint8Array): { all: Message[]; whole: boolean } => {
    const all: Message[] = [];
    let whole = true;
    for (;;) {
      const bytes = checked(addon.netlinkReceive(fd, buffer), 'recvfrom', device);
      // Each receive makes the kernel write the next part, so there is always a part until the last one.
      if (bytes === 0) return { all, whole: false };
      // A copy, since the next part comes into the same buffer.
      for (const message of messages(buffer.slice(0, bytes), bytes)) {
        if (message.interrupted) whole = false;
        if (message.type === kernel.NLMSG_DONE) return { all, whole };
        all.push(message);
      }
    }
  };
}

function exchange<T>(
  type: number,
  flags: number,
  parts: readonly Uint8Array[],
  device: string,
  receive: (fd: number, buffer: Uint8Array) => T,
  protocol: number = kernel.NETLINK_ROUTE,
): T {
  const bytes = HEADER_BYTES + parts.reduce((sum, { length }) => sum + length, 0);
  const request = new Uint8Array(bytes);
  const view = new DataView(request.buffer);
  view.setUint32(0, bytes, true);
  view.setUint16(4, type, true);
  view.setUint16(6, kernel.NLM_F_REQUEST | flags, true);
  let at = HEADER_BYTES;
  for (const part of parts) {
    request.set(part, at);
    at += part.length;
  }
  const fd = checked(addon.netlinkOpen(0, 0, protocol), 'bind', 'rtnetlink');
  try {
    checked(addon.netlinkSend(fd, request), 'send', device);
    return receive(fd, new Uint8Array(DATAGRAM_BYTES));
  } finally {
    addon.closeDescriptor(fd);
  }
}

/** Returns the messages of one datagram, as views of it. An acknowledgment is a message of type NLMSG_ERROR; an error is
 * thrown. */
export function* messages(
  buffer: Uint8Array,
  bytes: number,
): Generator<Message & { readonly interrupted: boolean }> {
  const view = new DataView(buffer.buffer, buffer.byteOffset, bytes);
  for (let at = 0; at + HEADER_BYTES <= bytes;) {
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES || at + length > bytes) return;
    const type = view.getUint16(at + 4, true);
    const interrupted = (view.getUint16(at + 6, true) & kernel.NLM_F_DUMP_INTR) !== 0;
    const body = new DataView(buffer.buffer, buffer.byteOffset + at + HEADER_BYTES, length - HEADER_BYTES);
    const error = type === kernel.NLMSG_ERROR ? body.getInt32(0, true) : 0;
    if (error < 0) throw new NativeError(error, 'rtnetlink', 'request');
    yield { type, body, interrupted };
    at += aligned(length);
  }
}

/** Returns the attributes inside an attribute. */
export const nestedAttributes = (value: DataView): Attributes => readAttributes(value, 0);

/** Returns the attributes behind the fixed part of a message, which has `fixedBytes` bytes. */
export const attributesOf = ({ body }: Message, fixedBytes: number): Attributes =>
  readAttributes(body, fixedBytes);

function readAttributes(body: DataView, fixedBytes: number): Attributes {
  const found = new Map<number, DataView>();
  for (let at = fixedBytes; at + ATTRIBUTE_HEADER_BYTES <= body.byteLength;) {
    const length = body.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > body.byteLength) break;
    const value = new DataView(
      body.buffer,
      body.byteOffset + at + ATTRIBUTE_HEADER_BYTES,
      length - ATTRIBUTE_HEADER_BYTES,
    );
    found.set(body.getUint16(at + 2, true), value);
    at += aligned(length);
  }
  return found;
}

const aligned = (bytes: number): number => (bytes + 3) & ~3;

export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(ATTRIBUTE_HEADER_BYTES + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ATTRIBUTE_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

export function numberAttribute(type: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return attribute(type, bytes);
}

/** Makes a text attribute with the NUL at its end. */
export function textAttribute(type: number, value: string): Uint8Array {
  return attribute(type, new TextEncoder().encode(`${value}\0`));
}

/** Returns a copy of the bytes. */
export function bytesOf(value: DataView): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
}

/** Returns the text without the NUL. */
export function textOf(value: DataView): string {
  const bytes = bytesOf(value);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
