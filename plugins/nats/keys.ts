/**
 * The keys of a bucket. A key of NATS takes no colons, so hyphens stand in their place:
 *
 *   mac.de-ad-be-ef-00-00     the entry of a MAC: the object that a mapping file has for it
 *   ip.10-55-55-2             {"mac": "de:ad:be:ef:00:00"}: where to look for the entry that has this address
 *   ip.2001-db8--3
 *   vtep.10-88-88-69.4789     a VTEP of the network; the value says the same as the key
 *
 * The entries of MACs alone are the truth. The other keys are a help for hosts that do not read all entries.
 */
import {
  type Destination,
  formatMac,
  type IpAddress,
  isMulticastMac,
  type MacAddress,
  parseIp,
  parseMac,
} from '../../src/plugin/index.js';

export const MAC_PREFIX = 'mac.';
export const IP_PREFIX = 'ip.';
export const VTEP_PREFIX = 'vtep.';

/** The one spelling of a MAC in a key: six groups of two digits in lower case. */
const MAC_KEY = /^(?:[0-9a-f]{2}-){5}[0-9a-f]{2}$/;

export function macKey(mac: MacAddress): string {
  return `${MAC_PREFIX}${formatMac(mac).replaceAll(':', '-')}`;
}

/** Returns the MAC of one station; undefined when the key names none. */
export function macOfKey(key: string): MacAddress | undefined {
  const text = key.slice(MAC_PREFIX.length);
  if (!key.startsWith(MAC_PREFIX) || !MAC_KEY.test(text)) return undefined;
  const mac = parseMac(text.replaceAll('-', ':'));
  return mac === undefined || mac === 0 || isMulticastMac(mac) ? undefined : mac;
}

/** `ip` has the canonical spelling of `parseIp`. */
export function ipKey(ip: IpAddress): string {
  return `${IP_PREFIX}${inKey(ip)}`;
}

export function ipOfKey(key: string): IpAddress | undefined {
  return key.startsWith(IP_PREFIX) ? ipInKey(key.slice(IP_PREFIX.length)) : undefined;
}

export function vtepKey({ ip, port }: Destination): string {
  return `${VTEP_PREFIX}${inKey(ip)}.${port}`;
}

/** Returns the VTEP that a key names: the key alone says it. */
export function vtepOfKey(key: string): Destination | undefined {
  if (!key.startsWith(VTEP_PREFIX)) return undefined;
  const [text, digits = '', ...more] = key.slice(VTEP_PREFIX.length).split('.');
  const ip = ipInKey(text);
  const port = /^[1-9]\d{0,4}$/.test(digits) ? Number(digits) : 0;
  return ip === undefined || more.length > 0 || port < 1 || port > 65535 ? undefined : { ip, port };
}

/** An IPv4 address has dots, an IPv6 address has colons, and neither has both in canonical spelling. */
function inKey(ip: string): string {
  return ip.replaceAll(/[.:]/g, '-');
}

function ipInKey(text: string): IpAddress | undefined {
  const ip = parseIp(text.replaceAll('-', /^\d{1,3}(?:-\d{1,3}){3}$/.test(text) ? '.' : ':'));
  return ip !== undefined && inKey(ip) === text ? ip : undefined;
}

/** The bucket of a network, unless `nats/bucket` names another. */
export function bucketOf(vnetid: number): string {
  return `varpd-${vnetid}`;
}
