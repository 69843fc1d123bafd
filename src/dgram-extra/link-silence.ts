/**
 * Links that are no station until they are used as one. Linux answers ARP on any link for any address of the host, and
 * gives each an IPv6 address of its own: on the interface of a virtual network, the host would be in it unasked.
 */
import {
  ask,
  attribute,
  attributesOf,
  nestedAttributes,
  NLM_F_ACK,
  numberAttribute,
  textAttribute,
} from './netlink-message.js';
import {
  hostAddresses,
  IFINFO_BYTES,
  IFLA_IFNAME,
  ifinfo,
  linkInfo,
  linkMessage,
  named,
  orUndefined,
  RTM_NEWADDR,
  RTM_NEWLINK,
} from './rtnetlink.js';

const AF_INET = 2;
const AF_INET6 = 10;
// linux/netlink.h
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
// linux/if_link.h, linux/if_addr.h, linux/ip.h
const IFLA_MASTER = 10;
const IFLA_AF_SPEC = 26;
const IFLA_INET_CONF = 1;
const IPV4_DEVCONF_ARP_IGNORE = 19;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_EUI64 = 0;
const IN6_ADDR_GEN_MODE_NONE = 1;
const IFA_ADDRESS = 1;
const IFADDR_BYTES = 8;

/** Of fe80::/64, RFC 4291 2.5.6. */
const LINK_LOCAL_BITS = 64;
/** Answer only for addresses of the link that is asked: Documentation/networking/ip-sysctl.rst, arp_ignore. */
const OWN_ADDRESSES_ONLY = 1;

/** It answers ARP for its own addresses alone, and gets no automatic IPv6 address. Throws the kernel's error. */
export function silenceLink(name: string): void {
  const arpIgnore = numberAttribute(IPV4_DEVCONF_ARP_IGNORE, OWN_ADDRESSES_ONLY);
  setFamily(name, attribute(AF_INET, attribute(IFLA_INET_CONF, arpIgnore)));
  // Without IPv6, or with an MTU below its least (RFC 8200 5), there is nothing to keep back.
  orUndefined(['EAFNOSUPPORT', 'EOPNOTSUPP'], () => {
    setFamily(name, addressGeneration(IN6_ADDR_GEN_MODE_NONE));
  });
}

/** Whether it gets no automatic address, and has neither an address nor a master. */
export function isSilent(name: string): boolean {
  const message = linkMessage(name);
  if (message === undefined) return false;
  const attributes = attributesOf(message, IFINFO_BYTES);
  const families = attributes.get(IFLA_AF_SPEC);
  const v6 = families && nestedAttributes(families).get(AF_INET6);
  const mode = v6 && nestedAttributes(v6).get(IFLA_INET6_ADDR_GEN_MODE)?.getUint8(0);
  if (mode !== IN6_ADDR_GEN_MODE_NONE || attributes.has(IFLA_MASTER)) return false;
  const index = message.body.getInt32(4, true);
  return !hostAddresses().some((address) => address.index === index);
}

/** It gets the automatic IPv6 address, the one made of its MAC (RFC 4291 appendix A): now, as the kernel makes it only when
 * a link comes up, and whenever it comes up again. ARP stays as it is. Throws the kernel's error. */
export function allowAutomaticAddress(name: string): void {
  const link = linkInfo(name);
  if (link === undefined) return;
  setFamily(name, addressGeneration(IN6_ADDR_GEN_MODE_EUI64));
  const head = new DataView(new ArrayBuffer(IFADDR_BYTES));
  head.setUint8(0, AF_INET6);
  head.setUint8(1, LINK_LOCAL_BITS);
  head.setUint32(4, link.index, true);
  const parts = [new Uint8Array(head.buffer), attribute(IFA_ADDRESS, linkLocalOf(link.mac))];
  orUndefined(['EEXIST'], () =>
    named(name, 'RTM_NEWADDR', () => ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, parts, name)),
  );
}

function linkLocalOf([a, b, c, d, e, f]: Uint8Array): Uint8Array {
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f);
}

function addressGeneration(mode: number): Uint8Array {
  return attribute(AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(mode)));
}

function setFamily(name: string, family: Uint8Array): void {
  const parts = [ifinfo(0, 0, 0), textAttribute(IFLA_IFNAME, name), attribute(IFLA_AF_SPEC, family)];
  named(name, 'RTM_NEWLINK', () => ask(RTM_NEWLINK, NLM_F_ACK, parts, name));
}
