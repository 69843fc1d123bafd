/** The proxy for a frame to a group MAC, for plugins that know the addresses of all stations. */
import * as ethernet from '../wire/ethernet.js';
import { BROADCAST, type MacAddress } from '../wire/mac.js';
import type { ProxyKind } from './contract.js';

const IPV6_MULTICAST = 0x3333; // RFC 2464 7: the high 16 bits of the MAC

/** Most destinations of a flood. varpd refuses a longer list: copies from one host to so many others cost too much. */
export const MAX_FLOOD_DESTINATIONS = 1024;

/** Returns the proxy that answers, or redirects, frames of this EtherType to this group MAC; undefined if there is none. */
export function proxyFor(mac: MacAddress, etherType: number): ProxyKind | undefined {
  if (etherType === ethernet.ARP) return 'arp';
  if (etherType === ethernet.IPV6 && Math.floor(mac / 2 ** 32) === IPV6_MULTICAST) return 'ndp';
  return etherType === ethernet.IPV4 && mac === BROADCAST ? 'dhcp' : undefined;
}
