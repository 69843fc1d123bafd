/**
 * rtnetlink messages, as many as are needed: what the ioctls of dgram-extra cannot say of a link.
 *
 *   | length | type | flags | sequence | port |   struct nlmsghdr   (linux/netlink.h)
 *   | family | type | index | flags | change  |   struct ifinfomsg  (linux/rtnetlink.h)
 *   | length | type | value ...               |   struct rtattr, one after another
 */
import {
  closeDescriptor,
  linkIndex,
  openNetlink,
  receiveNetlink,
  sendNetlink,
} from '../dgram-extra/index.js';

const NLMSG_HEADER_BYTES = 16;
const IFINFO_BYTES = 16;
const U32_ATTRIBUTE_BYTES = 8;

const NLMSG_ERROR = 2;
const RTM_NEWLINK = 16;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;

const IFLA_GSO_MAX_SIZE = 41;

/** The largest superframe the stack may hand to this link. False when the kernel will not have it. */
export function setLinkGsoMaxBytes(name: string, bytes: number): boolean {
  const message = new Uint8Array(NLMSG_HEADER_BYTES + IFINFO_BYTES + U32_ATTRIBUTE_BYTES);
  const view = new DataView(message.buffer);
  const host = true; // netlink is in host byte order, and every Linux that Node runs on is little-endian
  view.setUint32(0, message.length, host);
  view.setUint16(4, RTM_NEWLINK, host);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK, host);
  view.setInt32(NLMSG_HEADER_BYTES + 4, linkIndex(name), host);
  const attribute = NLMSG_HEADER_BYTES + IFINFO_BYTES;
  view.setUint16(attribute, U32_ATTRIBUTE_BYTES, host);
  view.setUint16(attribute + 2, IFLA_GSO_MAX_SIZE, host);
  view.setUint32(attribute + 4, bytes, host);
  return acknowledged(message);
}

/** Sends one request to the kernel, which answers before `send` returns. */
function acknowledged(message: Uint8Array): boolean {
  const fd = openNetlink(0);
  try {
    sendNetlink(fd, message);
    const answer = new Uint8Array(4096);
    const view = new DataView(answer.buffer);
    const received = receiveNetlink(fd, answer);
    return (
      received >= NLMSG_HEADER_BYTES + 4 &&
      view.getUint16(4, true) === NLMSG_ERROR &&
      view.getInt32(NLMSG_HEADER_BYTES, true) === 0
    );
  } finally {
    closeDescriptor(fd);
  }
}
