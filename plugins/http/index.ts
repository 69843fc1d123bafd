/**
 * http: a virtual network out of any store that has a small HTTP interface. openapi.yaml describes the interface,
 * reference-server.py is a complete store of about a hundred lines. See README.md.
 */
import { definePlugin, ipFamily, parseIp } from '../../src/plugin/index.js';
import { HttpInstance } from './instance.js';
import { specs } from './specs.js';

/** Returns whether the traffic to this host stays on this machine. */
function isLoopback(hostname: string): boolean {
  const ip = parseIp(hostname.replace(/^\[(.*)\]$/, '$1'));
  if (ip === undefined) return hostname === 'localhost';
  return ipFamily(ip) === 4 ? ip.startsWith('127.') : ip === '::1';
}

export default definePlugin({
  apiVersion: 2,
  name: 'http',
  mode: 'dynamic',
  properties: specs,
  create: (host) => new HttpInstance(host),
  refuse: ({ url, token, ca, cert, key }) => {
    const { protocol, hostname, search, hash } = new URL(url);
    if (search !== '' || hash !== '') return 'http/url must have neither a query nor a fragment';
    if ((cert === undefined) !== (key === undefined)) return 'http/cert and http/key need each other';
    if (protocol === 'https:') return undefined;
    if (ca !== undefined || cert !== undefined)
      return 'http/ca, http/cert and http/key need an https URL in http/url';
    return token === undefined || isLoopback(hostname)
      ? undefined
      : 'http/token needs an https URL in http/url, since everyone on the way could read the token';
  },
});
