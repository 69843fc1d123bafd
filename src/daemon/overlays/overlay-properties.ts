/** What the plan of an overlay says, read with the help of the lookup plugin that it names. */
import { OverlayError } from '../../model/errors.js';
import { overlaySpecs, PropertySet } from '../../model/properties.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import { unknownKind } from './overlay-errors.js';
import type { OverlayPlan, Services } from './overlay-plan.js';

/** Throws an OverlayError when there is no such plugin. */
export function needPlugin({ search }: OverlayPlan, { plugins }: Services): LookupPlugin {
  const plugin = plugins.get(search);
  if (plugin !== undefined) return plugin;
  const failure = plugins.failureOf(search);
  if (failure !== undefined) throw new OverlayError('INVALID', failure, [failure]);
  throw unknownKind('search', search, [...plugins.keys()]);
}

/** Without the plugin its properties are taken as they are. */
export function readProperties(
  { search, properties, vnetid, encap, id }: OverlayPlan,
  plugin: LookupPlugin | undefined,
  { plugins }: Services,
): PropertySet {
  const untyped = properties
    .filter(([name]) => name.startsWith(`${search}/`))
    .map(([name]) => ({ name, type: 'string' as const, required: false }));
  const specs = overlaySpecs(plugin?.properties ?? untyped, [...new Set([...plugins.keys(), search])]);
  return PropertySet.from(specs, properties, { vnetid, encap, search, 'varpd/id': id });
}
