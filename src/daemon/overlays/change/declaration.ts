/** A declared overlay beside the stored one: what differs, and what cannot be declared. */
import { isDeepStrictEqual } from 'node:util';
import type { DeclaredOverlay, DeclaredVnic } from '../../../control/declared-messages.js';
import { OverlayError } from '../../../model/errors.js';
import { readLinkValues } from '../../../model/link-properties.js';
import { foundExpected, type GivenProperty } from '../../../model/properties.js';
import { formatMac } from '../../../wire/mac.js';
import type { StoredOverlay, StoredVnic } from '../../state/state-schema.js';
import { needMac } from '../overlay-errors.js';
import type { RunningOverlay } from '../running-overlay.js';
import { storedProperties } from '../vnic-link-properties.js';
import { MAX_VID } from './new-vnic.js';

/** VNICs that one sentence names. */
const MAX_NAMED = 10;

export type Declared = Pick<StoredOverlay, 'name' | 'encap' | 'search' | 'vnetid' | 'properties'>;

/** A difference between an overlay and its declaration. */
export interface Difference {
  /** A line for each, as `~ overlay0 mtu 1450 -> 1400`. */
  readonly changes: string[];
  /** Names of the properties that change. */
  readonly properties: readonly string[];
  readonly vnetid: number;
  readonly added: readonly DeclaredVnic[];
  /** VNICs with other settings, as they are to be stored. */
  readonly changed: readonly StoredVnic[];
  readonly removed: readonly string[];
}

/** Settings of a VNIC: `mac`, `vid`, and link properties. Throws an OverlayError. */
export function vnicOf(
  name: string,
  settings: readonly (readonly [string, readonly string[]])[],
): DeclaredVnic {
  const own = new Map(settings.filter(([setting]) => setting === 'mac' || setting === 'vid'));
  const [mac, vid] = [own.get('mac')?.[0], own.get('vid')?.[0]];
  if (vid !== undefined && !(/^(?:0|[1-9][0-9]{0,3})$/.test(vid) && Number(vid) <= MAX_VID))
    throw new OverlayError('INVALID', `${name}: vid: ${foundExpected(vid, `0 to ${MAX_VID}`)}`);
  const properties = [...readLinkValues(settings.filter(([setting]) => !own.has(setting)))];
  return {
    name,
    ...(mac !== undefined && { mac: formatMac(needMac(mac)) }),
    ...(vid !== undefined && { vid: Number(vid) }),
    properties: properties.map(([property, values]): [string, string[]] => [property, [...values]]),
  };
}

/** A VNIC with an attachment belongs to the program that made it. */
export const isDeclared = ({ attachment }: StoredVnic): boolean => attachment === undefined;

/** A container or an operator goes on with such VNICs, and no document could bring them back. */
export function refuseUndeclared({ name, vnics }: StoredOverlay, running: RunningOverlay | undefined): void {
  const known = new Set(vnics.map((vnic) => vnic.name));
  const attached = vnics
    .filter((vnic) => !isDeclared(vnic))
    .map((vnic) => `${vnic.name} (${vnic.attachment})`);
  const temporary = [...(running?.vnics.keys() ?? [])]
    .filter((vnic) => !known.has(vnic))
    .map((vnic) => `${vnic} (temporary)`);
  const all = [...attached, ...temporary];
  if (all.length === 0) return;
  const more = all.length > MAX_NAMED ? ` and ${all.length - MAX_NAMED} more` : '';
  throw new OverlayError(
    'BUSY',
    `${name} has VNICs that are not of the document's concern: ${all.slice(0, MAX_NAMED).join(', ')}${more}; delete them first`,
  );
}

export function declarationOf({
  name,
  encap,
  search,
  vnetid,
  properties,
  vnics,
}: StoredOverlay): DeclaredOverlay {
  const declared = vnics.filter(isDeclared).map((vnic) => ({
    name: vnic.name,
    mac: vnic.mac,
    vid: vnic.vid,
    properties: vnic.properties ?? [],
  }));
  return { name, encap, search, vnetid, properties, vnics: declared };
}

/** Refuses a difference for which the overlay would have to be deleted: its flows would be lost. */
export function refuseOther(stored: StoredOverlay, declared: Declared): void {
  const other = (['encap', 'search'] as const).filter((key) => stored[key] !== declared[key]);
  if (other.length === 0) return;
  const lines = other.map(
    (key) =>
      `${stored.name}: ${key} is ${stored[key]}, and ${declared[key]} is declared: delete the overlay, and apply again`,
  );
  throw new OverlayError(
    'INVALID',
    lines.length === 1 ? lines[0] : `${stored.name} is another overlay`,
    lines,
  );
}

export function differenceOf(
  stored: StoredOverlay,
  { vnetid, properties, vnics }: DeclaredOverlay,
  prune: boolean,
): Difference {
  const { name } = stored;
  const all = (id: number, given: readonly GivenProperty[]): Map<string, string> =>
    new Map([['vnetid', String(id)], ...given.filter(([one]) => one !== 'vnetid')]);
  const [before, after] = [all(stored.vnetid, stored.properties), all(vnetid, properties)];
  const names = [...new Set([...before.keys(), ...after.keys()])].filter(
    (one) => before.get(one) !== after.get(one),
  );
  const lines = names.map(
    (one) => `~ ${name} ${one} ${before.get(one) ?? '--'} -> ${after.get(one) ?? '--'}`,
  );
  const added = vnics.filter((vnic) => !stored.vnics.some((other) => other.name === vnic.name));
  const declared = new Set(vnics.map((vnic) => vnic.name));
  const removed = prune
    ? stored.vnics.filter((vnic) => isDeclared(vnic) && !declared.has(vnic.name)).map((vnic) => vnic.name)
    : [];
  const changed: StoredVnic[] = [];
  for (const vnic of stored.vnics) {
    const wanted = vnics.find((other) => other.name === vnic.name);
    if (wanted === undefined) continue;
    if (!isDeclared(vnic))
      throw new OverlayError('INVALID', `${vnic.name} belongs to the attachment ${vnic.attachment}`);
    const { name: vnicName, leases } = vnic;
    const { mac = vnic.mac, vid = 0 } = wanted;
    const [old, fresh] = [settingsOf(vnic), settingsOf({ mac, vid, properties: wanted.properties })];
    const differing = [...new Set([...old.keys(), ...fresh.keys()])].filter(
      (one) => !isDeepStrictEqual(old.get(one), fresh.get(one)),
    );
    if (differing.length === 0) continue;
    for (const one of differing)
      lines.push(`~ ${vnicName} ${one} ${old.get(one)?.join() ?? '--'} -> ${fresh.get(one)?.join() ?? '--'}`);
    const macType = mac === vnic.mac ? vnic.macType : 'fixed';
    const rest = { name: vnicName, mac, macType, vid, ...(leases && { leases }) };
    changed.push({ ...rest, ...storedProperties(new Map(wanted.properties)) });
  }
  const changes = [...lines, ...added.map((vnic) => `+ ${vnic.name}`), ...removed.map((vnic) => `- ${vnic}`)];
  return { changes, properties: names, vnetid, added, changed, removed };
}

/** The settings of a VNIC in a document, with their values. */
function settingsOf({
  mac,
  vid,
  properties = [],
}: Pick<StoredVnic, 'mac' | 'vid' | 'properties'>): Map<string, readonly string[]> {
  return new Map<string, readonly string[]>([['mac', [mac]], ['vid', [String(vid)]], ...properties]);
}
