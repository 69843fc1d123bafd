/** Reads the properties of an overlay's plan, with the specs of the lookup plugin that the plan names. */
import { type Encapsulation, ENCAPSULATION_NAMES, encapsulationNamed } from '../../encap/index.js';
import { asOverlayError, invalidError } from '../../model/errors.js';
import { overlaySpecs } from '../../model/overlay-specs.js';
import { isNot, type OwnedSpec, PropertySet } from '../../model/properties.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import { unknownKind } from './overlay-errors.js';
import type { OverlayPlan, Services } from './overlay-plan.js';

/** Throws an OverlayError when there is no such encapsulation. */
export function needEncapsulation({ encap }: Pick<OverlayPlan, 'encap'>): Encapsulation {
  const found = encapsulationNamed(encap);
  if (found === undefined) throw unknownKind('encapsulation', encap, ENCAPSULATION_NAMES);
  return found;
}

/** Throws an OverlayError when there is no such plugin. */
export function needPlugin({ search }: Pick<OverlayPlan, 'search'>, { plugins }: Services): LookupPlugin {
  const plugin = plugins.get(search);
  if (plugin !== undefined) return plugin;
  const failure = plugins.failureOf(search);
  if (failure !== undefined) throw invalidError(failure);
  throw unknownKind('search', search, [...plugins.keys()]);
}

/**
 * Specs of the overlay's properties. Without the plugin, its properties are accepted as they are. Empty for
 * an encapsulation that a later varpd has stored and this one lacks.
 */
export function specsOf(
  { encap, search, properties }: Pick<OverlayPlan, 'encap' | 'search' | 'properties'>,
  plugin: LookupPlugin | undefined,
  searches: readonly string[],
): readonly OwnedSpec[] {
  const encapsulation = encapsulationNamed(encap);
  if (encapsulation === undefined) return [];
  const untyped = properties
    .filter(([name]) => name.startsWith(`${search}/`))
    .map(([name]) => ({ name, type: 'string' as const, required: false }));
  return overlaySpecs(encapsulation, plugin?.properties ?? untyped, searches);
}

type Asked = Pick<OverlayPlan, 'id' | 'encap' | 'search' | 'vnetid' | 'properties' | 'temporary'>;

/**
 * Lines about what an overlay has otherwise than it was asked for; none if it has nothing otherwise. `has`: its
 * properties, if it runs. Throws an OverlayError when the asked properties are invalid.
 */
export function overlayDifferences(
  there: Asked,
  has: PropertySet | undefined,
  asked: Asked,
  services: Services,
): string[] {
  needEncapsulation(asked);
  const plugin = needPlugin(asked, services);
  const wanted = readProperties(asked, plugin, services);
  const lines = (['encap', 'search'] as const)
    .filter((name) => there[name] !== asked[name])
    .map((name) => isNot(name, there[name], asked[name]));
  const kept = ({ temporary }: Asked): string => (temporary ? 'temporary' : 'persistent');
  const all = kept(there) === kept(asked) ? lines : [...lines, isNot('it', kept(there), kept(asked))];
  if (lines.length > 0) return all;
  try {
    return [...all, ...(has ?? readProperties(there, plugin, services)).differences(wanted)];
  } catch (error) {
    // The stored properties are not valid any more, and those that were asked for are.
    const { message, details } = asOverlayError(error);
    return [...all, ...(details.length > 0 ? details : [message])];
  }
}

/** The caller has checked the encapsulation of the plan (`needEncapsulation`). */
export function readProperties(
  plan: Asked,
  plugin: LookupPlugin | undefined,
  { plugins }: Services,
): PropertySet {
  const { search, properties, vnetid, encap, id } = plan;
  const searches = [...new Set([...plugins.keys(), search])];
  return PropertySet.from(specsOf(plan, plugin, searches), properties, {
    vnetid,
    encap,
    search,
    'varpd/id': id,
  });
}

/** Returns the plugin. Throws an OverlayError when an overlay of this mode cannot have it. */
export function checkMode(plugin: LookupPlugin, before: LookupPlugin['mode']): LookupPlugin {
  if (plugin.mode === 'point' || before === 'dynamic') return plugin;
  throw invalidError(
    'it had one destination for all, and now is asked for each MAC: delete it and create it again',
  );
}
