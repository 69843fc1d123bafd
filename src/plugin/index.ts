/**
 * varpd/plugin: the one module of varpd that a lookup plugin imports.
 *
 *   import { definePlugin, type Host } from 'varpd/plugin';
 *   export default definePlugin({ apiVersion: 1, name: 'mine', mode: 'dynamic', properties: [], create: ... });
 *
 * contract.ts has the duties of a plugin and the promises of varpd. plugins/direct is the smallest complete plugin.
 */
import type { LookupPlugin } from './contract.js';

export type {
  Answer,
  CheckReport,
  Destination,
  FileProblem,
  Host,
  Instance,
  Lookup,
  LookupPlugin,
  MacAddress,
  PluginLog,
  Properties,
  PropertySpec,
  PropertyValue,
  ProxyKind,
} from './contract.js';

export type { Endpoint, IpAddress, Ipv4Address, Ipv6Address } from '../wire/ip.js';

/** Addresses are text in one canonical spelling, and can be compared with ===. The `parse*` functions return undefined for
 * text that is not an address. */
export {
  family as ipFamily,
  formatEndpoint,
  is6to4,
  isBroadcast as isBroadcastIp,
  isLinkLocal,
  isMulticast as isMulticastIp,
  isUnspecified,
  isV4,
  isV4Compatible,
  parse as parseIp,
  parseEndpoint,
} from '../wire/ip.js';

export {
  formatMac,
  isBroadcast as isBroadcastMac,
  isMulticast as isMulticastMac,
  parseMac,
} from '../wire/mac.js';

/** Messages that name the place of a mistake in a file, and do not quote the file. */
export { ContentError, contentProblem, type FilePlace } from './content-problem.js';

/** Checks that other users cannot replace a file that a plugin reads. */
export { type Place, type Trust, trustedPlace, UntrustedPlace } from './trusted-place.js';

/** Returns its argument. The compiler checks the plugin against the contract. */
export function definePlugin(plugin: LookupPlugin): LookupPlugin {
  return plugin;
}
