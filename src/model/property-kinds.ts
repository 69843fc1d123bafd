/** The kinds of property values that a plugin can name (PropertyKind), and their checks. */
import type { PropertyKind, PropertyValue } from '../plugin/properties.js';
import {
  family,
  type IpAddress,
  is6to4,
  isBroadcast,
  isLinkLocal,
  isUnspecified,
  isV4Compatible,
  MAX_PORT,
} from '../wire/ip.js';

const PORT = /^[1-9][0-9]{0,4}$/;
/** A host name of RFC 1123 2.1, or an IPv6 address in brackets (RFC 3986 3.2.2). */
const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])$/i;
/** The name of a file without a path. */
const SECRET = /^[a-z0-9][a-z0-9._-]{0,62}$/i;

/** Returns undefined for a good value, and otherwise the words that follow "expected" in the error. */
export function refuseKind(kind: PropertyKind, value: PropertyValue): string | undefined {
  const text = String(value);
  switch (kind) {
    case 'host':
      return isHost(value as IpAddress)
        ? undefined
        : 'the address of another host, neither 6to4, v4-compatible, broadcast nor IPv6 link-local';
    case 'path':
      // varpd has a working directory of its own, so a relative path would mean another file than the operator typed.
      return text.startsWith('/') ? undefined : 'an absolute path';
    case 'url':
      return isUrl(text) ? undefined : 'an http or https URL without user and password';
    case 'endpoint':
      return isEndpoint(text) ? undefined : 'a host name or address, a colon, and a port';
    case 'secret':
      return SECRET.test(text) ? undefined : 'the name of a secret: at most 63 letters, digits, ., _ or -';
  }
}

/** A multicast address is accepted, as illumos does. The receiver has to join the group by other means. */
function isHost(ip: IpAddress): boolean {
  const needsInterface = family(ip) === 6 && isLinkLocal(ip);
  return !isUnspecified(ip) && !isBroadcast(ip) && !isV4Compatible(ip) && !is6to4(ip) && !needsInterface;
}

function isUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return (protocol === 'http:' || protocol === 'https:') && username === '' && password === '';
}

function isEndpoint(text: string): boolean {
  const colon = text.lastIndexOf(':');
  const port = text.slice(colon + 1);
  return HOST.test(text.slice(0, colon)) && PORT.test(port) && Number(port) <= MAX_PORT;
}
