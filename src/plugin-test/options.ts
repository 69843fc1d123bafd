/** Options and results of a harness. */

import type { PluginFiles } from '../daemon/plugins/plugin-start.js';
import { VXLAN } from '../encap/vxlan.js';
import { type DropReason } from '../model/drops.js';
import { invalidError } from '../model/errors.js';
import { overlaySpecs } from '../model/overlay-specs.js';
import { PropertySet } from '../model/properties.js';
import type { LookupPlugin } from '../plugin/contract.js';
import type { PropertySpec } from '../plugin/properties.js';
import { type IpAddress } from '../wire/ip.js';
import { type Mac } from './frames.js';

/** Any plugin, whatever its properties and its shared part. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the types of a plugin's own parts do not matter here
export type AnyPlugin = LookupPlugin<any, any>;

/** Values as `dladm create-overlay -p` takes them, by name: `mine/url`, or `url` alone. */
export type TypedValues = Readonly<Record<string, string | number>>;

export interface HarnessOptions {
  readonly properties?: TypedValues;
  /** Secrets by name, for `host.secret`. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Address that the overlay listens on. Default 192.0.2.1; the port is 4789. */
  readonly listen?: string;
  /** Default 100. */
  readonly vnetid?: number;
  /** MACs of the ports of this host. Default: one, 02:00:00:00:00:01. */
  readonly ports?: readonly Mac[];
  /** Milliseconds; defaults as in varpd: 1000 and 5000. */
  readonly limits?: { readonly lookupDeadlineMs?: number; readonly startDeadlineMs?: number };
  /** A directory for `host.stateDir`. Default: a temporary one, which `stop` removes. */
  readonly stateDir?: string;
}

/** The store that the plugin asks, in the hands of the test. */
export interface Backend {
  /** Every request fails from now on: the server refuses, the file is gone. */
  fail(): unknown;
  /** No request is answered from now on. Left out: the check `deadline` is skipped. */
  hang?(): unknown;
  /** Everything works again. */
  mend(): unknown;
}

export interface ConformanceOptions extends HarnessOptions {
  /** MACs that the plugin has a destination for. Mode `dynamic` needs at least one. */
  readonly known?: readonly Mac[];
  /** The built entry file of the plugin, for the check `import`. */
  readonly entry?: URL | string;
  /** For the checks `backend`, `deadline` and `change`. */
  readonly backend?: Backend;
  /** New values of `changeable` properties, with which the plugin knows the MACs of `known` as well. For the check `change`. */
  readonly changes?: TypedValues;
  /** Texts that no message may have, beside the values of `secrets`: contents of files, replies of a server. */
  readonly confidential?: readonly string[];
}

/** The fate of a frame that a guest has sent. */
export interface Sent {
  /** Datagrams of the tunnel: the VTEP, `192.0.2.7:4789`, and the frame in each. */
  readonly tunnelled: readonly { readonly to: string; readonly frame: Uint8Array }[];
  /** Frames that ports of this host have received, with the MAC of the port. A reply of a proxy is one. */
  readonly delivered: readonly { readonly port: string; readonly frame: Uint8Array }[];
  /** Dropped frames by reason (docs/drops.md). */
  readonly drops: Partial<Record<DropReason, number>>;
}

export interface TargetRow {
  readonly mac: string;
  readonly state: string;
  readonly to: readonly string[];
}

/** The properties of an overlay with this plugin, checked as create-overlay checks them. Throws an OverlayError. */
export function propertiesOf(plugin: AnyPlugin, options: HarnessOptions, listen: IpAddress): PropertySet {
  const { name } = plugin;
  const specs = plugin.properties as readonly PropertySpec[];
  const given = Object.entries(byWholeName(plugin, options.properties)).map(
    ([key, value]) => [key, String(value)] as const,
  );
  return PropertySet.from(overlaySpecs(VXLAN, specs, [name]), [['vxlan/listen_ip', listen], ...given], {});
}

/** `values`, with `more` of changeable properties over them; undefined takes a value away. Throws an OverlayError that names the
 * properties which cannot change while an overlay runs. */
export function changedValues(
  plugin: AnyPlugin,
  values: TypedValues,
  more: Readonly<Record<string, string | number | undefined>>,
): TypedValues {
  const specs = plugin.properties as readonly PropertySpec[];
  const changes = byWholeName(plugin, more);
  const fixed = Object.keys(changes).filter((name) =>
    specs.some((spec) => spec.name === name && spec.changeable !== true),
  );
  if (fixed.length > 0)
    throw invalidError(
      `${fixed.join(', ')} cannot change while the overlay runs: the spec is not changeable`,
    );
  const all: Record<string, string | number | undefined> = { ...byWholeName(plugin, values), ...changes };
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

function byWholeName<T>(
  { name }: AnyPlugin,
  values: Readonly<Record<string, T>> = {},
): Readonly<Record<string, T>> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key.includes('/') ? key : `${name}/${key}`, value]),
  );
}

/** The files of a plugin under test, for `PluginServices`. */
export function filesOf(stateDir: string, secrets: Readonly<Record<string, string>> = {}): PluginFiles {
  return {
    stateDir: () => stateDir,
    secret: (name) =>
      Object.hasOwn(secrets, name)
        ? Promise.resolve(secrets[name])
        : Promise.reject(new Error(`there is no secret '${name}': give it as secrets of the harness`)),
  };
}
