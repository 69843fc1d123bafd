/**
 * varpd/plugin: the one module of varpd that a lookup plugin imports.
 *
 *   import { definePlugin, type Host } from 'varpd/plugin';
 *   export default definePlugin({ apiVersion: 2, name: 'mine', mode: 'dynamic', properties: [], create: ... });
 *
 * contract.ts has the duties of a plugin and the promises of varpd. plugins/direct is the smallest complete plugin.
 */
import type { LookupPlugin } from './contract.js';
import type { PropertySpec } from './properties.js';

export type {
  Address,
  Age,
  AllowedIps,
  Answer,
  CheckReport,
  Destination,
  Difference,
  FileProblem,
  Host,
  Instance,
  IpText,
  Lookup,
  LookupPlugin,
  MacAddress,
  PluginContext,
  PluginLog,
  ProxyKind,
  Snapshot,
  SnapshotChange,
  Target,
} from './contract.js';

export type {
  EntryDifference,
  ExportReport,
  ImportReport,
  MappingStore,
  StoreTarget,
} from './mapping-store.js';

export type { Properties, PropertyKind, PropertySpec, PropertyValue, ValueOf } from './properties.js';

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

/** For plugins that know the addresses of all stations: the proxy for a broadcast, and the longest flood. */
export { MAX_FLOOD_DESTINATIONS, proxyFor } from './proxy-kind.js';

/** Messages that name the place of a mistake in a file, and do not quote the file. */
export { ContentError, contentProblem, type FilePlace } from './content-problem.js';

/** Entries of a mapping, one by one, with the rules of a mapping file: for plugins that get them out of a store. */
export {
  type EntryChange,
  EntryError,
  type MappingEntry,
  parseEntries,
  parseEntry,
  type ParsedEntries,
  type RefusedEntry,
} from './mapping/entry.js';

/** Pauses between attempts to reach a service that many hosts use. */
export { BackOff, type BackOffOptions, spread } from './back-off.js';

/** The last state of a plugin, on disk in the directory `stateDir`, and long work in slices. */
export { StateFile, StateFormat, type StateHeader, StateSaver } from './state-file.js';
export { inSlices } from './slices.js';

/** Checks that other users cannot replace a file that a plugin reads. */
export { type Place, type Trust, trustedPlace, UntrustedPlace } from './trusted-place.js';

/** Returns its argument. The compiler checks the plugin against the contract, and knows the types of its properties. */
export function definePlugin<const Specs extends readonly PropertySpec[], Shared = undefined>(
  plugin: LookupPlugin<Specs, Shared>,
): LookupPlugin<Specs, Shared> {
  return plugin;
}
