/**
 * Keeps a link silent until an operator uses it. Linux answers ARP on every link for every address of the host, and gives
 * every link an IPv6 address. So with an interface on a virtual network the host would become a station of that network,
 * although no operator wants it.
 */
import * as kernel from './kernel-numbers.js';
import {
  ask,
  attribute,
  attributesOf,
  nestedAttributes,
  numberAttribute,
  textAttribute,
} from './netlink-message.js';
import {
  hostAddresses,
  IFADDR_BYTES,
  IFINFO_BYTES,
  ifinfo,
  linkInfo,
  linkMessage,
  named,
  orUndefined,
} from './rtnetlink.js';

/** Prefix length of fe80::/64, RFC 4291 2.5.6. */
const LINK_LOCAL_BITS = 64;
/** A link answers ARP for its own addresses only: Documentation/networking/ip-sysctl.rst, arp_ignore. */
const OWN_ADDRESSES_ONLY = 1;

/** Makes the link answer ARP for its own addresses only, and get no automatic IPv6 address. Throws the kernel's error. */
export function silenceLink(name: string): void {
  const arpIgnore = numberAttribute(kernel.IPV4_DEVCONF_ARP_IGNORE, OWN_ADDRESSES_ONLY);
  setFamily(name, attribute(kernel.AF_INET, attribute(kernel.IFLA_INET_CONF, arpIgnore)));
  // Without IPv6, or with an MTU below 1280 (RFC 8200 5), the link gets no automatic address anyway.
  orUndefined(['EAFNOSUPPORT', 'EOPNOTSUPP'], () => {
    setFamily(name, addressGeneration(kernel.IN6_ADDR_GEN_MODE_NONE));
  });
}

/** Tells whether the link gets no automatic address, and has neither an address nor a master. */
export function isSilent(name: string): boolean {
  const message = linkMessage(name);
  if (message === undefined) return false;
  const attributes = attributesOf(message, IFINFO_BYTES);
  const families = attributes.get(kernel.IFLA_AF_SPEC);
  const v6 = families && nestedAttributes(families).get(kernel.AF_INET6);
  const mode = v6 && nestedAttributes(v6).get(kernel.IFLA_INET6_ADDR_GEN_MODE)?.getUint8(0);
  if (mode !== kernel.IN6_ADDR_GEN_MODE_NONE || attributes.has(kernel.IFLA_MASTER)) return false;
  const index = message.body.getInt32(4, true);
  return !hostAddresses().some((address) => address.index === index);
}

/** Gives the link the automatic IPv6 address, made from its MAC (RFC 4291 appendix A). The kernel makes it whenever the
 * link comes up; this function also adds it at once. ARP does not change. Throws the kernel's error. */
export function allowAutomaticAddress(name: string): void {
  const link = linkInfo(name);
  if (link === undefined) return;
  setFamily(name, addressGeneration(kernel.IN6_ADDR_GEN_MODE_EUI64));
  const head = new DataView(new ArrayBuffer(IFADDR_BYTES));
  head.setUint8(0, kernel.AF_INET6);
  head.setUint8(1, LINK_LOCAL_BITS);
  head.setUint32(4, link.index, true);
  const parts = [new Uint8Array(head.buffer), attribute(kernel.IFA_ADDRESS, linkLocalOf(link.mac))];
  orUndefined(['EEXIST'], () =>
    named(name, 'RTM_NEWADDR', () =>
      ask(kernel.RTM_NEWADDR, kernel.NLM_F_ACK | kernel.NLM_F_CREATE | kernel.NLM_F_EXCL, parts, name),
    ),
  );
}

function linkLocalOf([a, b, c, d, e, f]: Uint8Array): Uint8Array {
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f);
}

function addressGeneration(mode: number): Uint8Array {
  return attribute(kernel.AF_INET6, attribute(kernel.IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(mode)));
}

function setFamily(name: string, family: Uint8Array): void {
  const parts = [
    ifinfo(0, 0, 0),
    textAttribute(kernel.IFLA_IFNAME, name),
    attribute(kernel.IFLA_AF_SPEC, family),
  ];
  named(name, 'RTM_NEWLINK', () => ask(kernel.RTM_NEWLINK, kernel.NLM_F_ACK, parts, name));
}
