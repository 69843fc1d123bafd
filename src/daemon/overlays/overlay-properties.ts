/** Reads the properties of an overlay's plan, with the specs of the lookup plugin that the plan names. */
import { type Encapsulation, ENCAPSULATION_NAMES, encapsulationNamed } from '../../encap/index.js';
import { invalidError } from '../../model/errors.js';
import { overlaySpecs } from '../../model/overlay-specs.js';
import { type OwnedSpec, PropertySet } from '../../model/properties.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import { unknownKind } from './overlay-errors.js';
import type { OverlayPlan, Services } from './overlay-plan.js';

/** Throws an OverlayError when there is no such encapsulation. */
export function needEncapsulation({ encap }: OverlayPlan): Encapsulation {
  const found = encapsulationNamed(encap);
  if (found === undefined) throw unknownKind('encapsulation', encap, ENCAPSULATION_NAMES);
  return found;
}

/** Throws an OverlayError when there is no such plugin. */
export function needPlugin({ search }: OverlayPlan, { plugins }: Services): LookupPlugin {
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

/** The caller has checked the encapsulation of the plan (`needEncapsulation`). */
export function readProperties(
  plan: OverlayPlan,
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
