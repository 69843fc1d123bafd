/**
 * varpd/plugin: all that a lookup plugin imports.
 *
 *   import { definePlugin, type Host } from 'varpd/plugin';
 *   export default definePlugin({ apiVersion: 1, name: 'mine', mode: 'dynamic', properties: [], create: ... });
 *
 * contract.ts says what is asked of a plugin and what it is promised; plugins/direct is the smallest complete one.
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

/** Addresses are text in one canonical spelling, compared with ===; `parse*` gives undefined for what is not one. */
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

/** What is wrong in a file, without what stands there. */
export { ContentError, contentProblem, type FilePlace } from './content-problem.js';

/** Of a file that a plugin reads: whether others could put another in its place. */
export { type Place, type Trust, trustedPlace, UntrustedPlace } from './trusted-place.js';

/** Returns what it is given: here for the compiler to check it against the contract. */
export function definePlugin(plugin: LookupPlugin): LookupPlugin {
  return plugin;
}
