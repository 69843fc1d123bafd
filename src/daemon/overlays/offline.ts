/**
 * Rows of overlays and VNICs that are stored and do not run, made from the stored data alone: OFFLINE, and
 * the reason.
 */
import type { OverlayInfo, PropertyRow, VnicInfo } from '../../control/messages.js';
import { PropertySet } from '../../model/properties.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import type { Plugins } from '../plugins/plugin-catalog.js';
import type { StoredOverlay, StoredVnic } from '../state/state-schema.js';
import { specsOf } from './overlay-properties.js';

/** Information about an overlay with only its name: its state file was set aside. */
export function unreadableOverlay(name: string, reason: string): OverlayInfo {
  const health = { status: 'OFFLINE', details: reason } as const;
  return {
    name,
    temporary: false,
    mode: null,
    properties: [],
    health,
    underlay: null,
    peers: null,
    mapping: null,
    offloads: [],
    counters: {},
  };
}

export function offlineOverlay(stored: StoredOverlay, plugins: Plugins, reason: string): OverlayInfo {
  const plugin = plugins.get(stored.search);
  const properties = propertyRows(stored, plugin, [...plugins.keys()]);
  return { ...unreadableOverlay(stored.name, reason), mode: plugin?.mode ?? null, properties };
}

export function offlineVnic(stored: StoredVnic, over: string, reason: string): VnicInfo {
  const { name, mac, macType, vid, attachment = null } = stored;
  const state = `OFFLINE: ${reason}`;
  const rest = { mtuBytes: null, temporary: false, attachment, counters: {} };
  return { name, over, mac, configuredMac: mac, macType, vid, state, ...rest };
}

/**
 * The properties as the running overlay would have them; if its plugin refuses them now, as they are stored.
 */
function propertyRows(
  stored: StoredOverlay,
  plugin: LookupPlugin | undefined,
  searches: readonly string[],
): readonly PropertyRow[] {
  const { encap, search, vnetid, id, properties } = stored;
  const fixed = { vnetid, encap, search, 'varpd/id': id };
  const specs = specsOf(stored, plugin, searches);
  try {
    return PropertySet.from(specs, properties, fixed).rows();
  } catch {
    const given = properties.filter(([name]) => !(name in fixed));
    return [...Object.entries(fixed), ...given].map(([property, value]) => ({
      property,
      permission: specs.find(({ name }) => name === property)?.permission ?? 'rw',
      required: false,
      value: String(value),
      default: null,
      possible: null,
    }));
  }
}
