/**
 * Overlays as a document declares them (`dladm export`, `dladm apply`). An overlay is applied all or nothing, with its
 * VNICs and their link properties: its state file is written once, after everything that may fail has succeeded. So a
 * crash at any moment leaves the old state of the overlay or the new. The parts that are as declared are not touched.
 *
 * A document says all properties of an overlay: those that it leaves out have their defaults. VNICs that it leaves out
 * stay, unless it is applied with `prune`. Temporary overlays and VNICs, and VNICs with an attachment, are not of its
 * concern.
 */
import { isDeepStrictEqual } from 'node:util';
import type { DeclaredOverlay, DeclaredVnic } from '../../../control/declared-messages.js';
import type { Failure } from '../../../control/messages.js';
import type { Methods } from '../../../control/methods.js';
import { OverlayError } from '../../../model/errors.js';
import { readLinkValues } from '../../../model/link-properties.js';
import {
  checkDeclared,
  foundExpected,
  type GivenProperty,
  type OwnedSpec,
  PropertySet,
} from '../../../model/properties.js';
import { isTemporary } from '../../../model/sentences.js';
import { formatMac } from '../../../wire/mac.js';
import type { Log } from '../../log.js';
import type { Plugins } from '../../plugins/plugin-catalog.js';
import type { StateStore } from '../../state/persistence.js';
import type { StoredOverlay, StoredVnic } from '../../state/state-schema.js';
import { allOrNothing, type UndoStack } from '../../../model/undo.js';
import { type KeyedQueue, undoFailed } from '../../undo.js';
import type { OverlayDirectory } from '../directory.js';
import { type NewNames } from './new-names.js';
import { needMac } from '../overlay-errors.js';
import { needEncapsulation, needPlugin, specsOf } from '../overlay-properties.js';
import type { Services } from '../overlay-plan.js';
import { pageOf } from '../pages.js';
import type { RunningOverlay } from '../running-overlay.js';
import { storedProperties } from '../vnic-link-properties.js';
import { addVnic, MAX_VID } from './new-vnic.js';
import type { Network } from './overlay-values.js';

type Params<M extends keyof Methods> = Methods[M]['params'];
type Result<M extends keyof Methods> = Methods[M]['result'];

export interface DeclaredContext {
  readonly directory: OverlayDirectory;
  readonly store: StateStore;
  readonly changes: KeyedQueue;
  readonly names: NewNames;
  readonly services: Services;
  readonly log: Log;
  /** Starts a new overlay, which is not stored. */
  readonly create: (overlay: Declared, undo: UndoStack) => Promise<RunningOverlay>;
  /** Deletes an overlay, with its VNICs. */
  readonly remove: (name: string) => Promise<void>;
  /** Tries to bring an overlay up. */
  readonly bringUp: (name: string) => Promise<Result<'overlay.up'>>;
}

/** VNICs that one sentence names. */
const MAX_NAMED = 10;

export type Declared = Pick<StoredOverlay, 'name' | 'encap' | 'search' | 'vnetid' | 'properties'>;

/** A difference between an overlay and its declaration. */
interface Difference {
  /** A line for each, as `~ overlay0 mtu 1450 -> 1400`. */
  readonly changes: readonly string[];
  /** Names of the properties that change. */
  readonly properties: readonly string[];
  readonly vnetid: number;
  readonly added: readonly DeclaredVnic[];
  /** VNICs with other settings, as they are to be stored. */
  readonly changed: readonly StoredVnic[];
  readonly removed: readonly string[];
}

export class DeclaredOverlays {
  readonly #context: DeclaredContext;

  constructor(context: DeclaredContext) {
    this.#context = context;
  }

  /** The stored overlays, running or not. */
  export({ names, after }: Params<'overlay.export'>): Result<'overlay.export'> {
    const { store } = this.#context;
    const missing: Failure[] = [];
    const { rows, next } = pageOf(
      names ?? this.#context.directory.names().filter((name) => store.overlays.has(name)),
      after,
      (name) => {
        const stored = store.overlays.get(name);
        if (stored !== undefined) return [declarationOf(stored)];
        const isThere = this.#context.directory.overlays.has(name);
        missing.push({ name, message: isThere ? `${name} is temporary` : 'object not found' });
        return [];
      },
    );
    return { overlays: rows, missing, next };
  }

  /** Rejects with an OverlayError; nothing has changed then. */
  async apply(params: Params<'overlay.apply'>): Promise<Result<'overlay.apply'>> {
    const { changes, bringUp, store } = this.#context;
    const { name, dryRun } = params;
    const result = await changes.run(name, () => this.#apply(params));
    if (
      !dryRun &&
      result.length > 0 &&
      store.overlays.has(name) &&
      !this.#context.directory.overlays.has(name)
    ) {
      const { failures } = await bringUp(name);
      return { changes: result, failures };
    }
    return { changes: result, failures: [] };
  }

  /** Deletes a stored overlay with its VNICs. Rejects with BUSY when it has VNICs that a document cannot declare. */
  async prune({ name, dryRun }: Params<'overlay.prune'>): Promise<Result<'overlay.prune'>> {
    const { changes, store, directory, remove } = this.#context;
    return await changes.run(name, async () => {
      const stored = store.overlays.get(name);
      if (stored === undefined) throw directory.notFound(name, 'overlay');
      refuseUndeclared(stored, directory.overlays.get(name));
      if (!dryRun) await remove(name);
      return { changes: [...stored.vnics.map((vnic) => `- ${vnic.name}`), `- ${name}`] };
    });
  }

  async #apply(params: Params<'overlay.apply'>): Promise<string[]> {
    const { directory, store, services, log } = this.#context;
    const { name, dryRun, prune } = params;
    const declared = { ...params, vnics: params.vnics.map(([vnic, settings]) => vnicOf(vnic, settings)) };
    await services.plugins.find(declared.search);
    const stored = store.overlays.get(name);
    const running = directory.overlays.get(name);
    if (running !== undefined && stored === undefined) throw isTemporary(name, 'declared of');
    const specs = specsFor(declared, services.plugins);
    const next = this.#check(declared, specs);
    if (stored === undefined) {
      const lines = [`+ ${name}`, ...declared.vnics.map((vnic) => `+ ${vnic.name}`)];
      if (dryRun) this.#context.names.check(name);
      else await this.#create(declared, next);
      return lines;
    }
    refuseOther(stored, declared);
    const difference = differenceOf(stored, { ...declared, properties: next }, prune);
    checkDeclared(specs, difference.properties);
    for (const { name: vnic } of difference.added) this.#context.names.check(vnic);
    if (running !== undefined) for (const vnic of difference.changed) this.#checkMac(running, vnic);
    if (dryRun || difference.changes.length === 0) return [...difference.changes];
    await this.#reserve(difference.added, () =>
      allOrNothing((undo) => this.#change({ stored, running, next, difference }, undo), undoFailed(log)),
    );
    return [...difference.changes];
  }

  /** Throws an OverlayError when a VNIC cannot have the MAC that it is to have. */
  #checkMac(running: RunningOverlay, { name, mac }: StoredVnic): void {
    const [wanted, before] = [needMac(mac), running.vnics.get(name)?.mac];
    const has = running.links.macOf(name) ?? before;
    if (wanted !== before && wanted !== has) this.#context.names.checkMac(running, wanted);
  }

  /** Returns the properties in canonical spelling. Throws an OverlayError that names all that is wrong. */
  #check(declared: Declared, specs: readonly OwnedSpec[]): [string, string][] {
    const { services, directory } = this.#context;
    const { name, encap, search, vnetid, properties } = declared;
    needEncapsulation({ encap });
    needPlugin({ search }, services);
    const id = directory.idOf(name);
    return PropertySet.from(specs, properties, { vnetid, encap, search, 'varpd/id': id }).given();
  }

  async #create(declared: DeclaredOverlay, properties: [string, string][]): Promise<void> {
    const { names, store, directory, log } = this.#context;
    const { name, encap, search, vnetid, vnics } = declared;
    await names.reserve(name, () =>
      this.#reserve(vnics, () =>
        allOrNothing(async (undo) => {
          const overlay = await this.#context.create({ name, encap, search, vnetid, properties }, undo);
          const made = vnics.map((vnic) => addVnic(overlay, { ...vnic, temporary: false }, names, undo));
          const { id, mac } = overlay;
          await store.save({ name, id, encap, search, vnetid, mac: formatMac(mac), properties, vnics: made });
          // The reason of a state file that was set aside.
          directory.reasons.delete(name);
        }, undoFailed(log)),
      ),
    );
  }

  /** Keeps others from the names of new VNICs. */
  #reserve(vnics: readonly DeclaredVnic[], work: () => Promise<void>): Promise<void> {
    const first = vnics.at(0);
    if (first === undefined) return work();
    return this.#context.names.reserve(first.name, () => this.#reserve(vnics.slice(1), work));
  }

  async #change(
    {
      stored,
      running,
      next,
      difference,
    }: {
      stored: StoredOverlay;
      running: RunningOverlay | undefined;
      next: [string, string][];
      difference: Difference;
    },
    undo: UndoStack,
  ): Promise<void> {
    const { store, directory, names, services, log } = this.#context;
    const { name } = stored;
    const { vnetid, added, changed, removed } = difference;
    let commit = (): Promise<void> => Promise.resolve();
    if (running !== undefined && difference.properties.length > 0) {
      const refuseTwin = (network: Network): void => {
        directory.refuseTwin(network, name);
      };
      commit = await running.change({ vnetid, given: next, names: difference.properties, refuseTwin }, undo);
    }
    if (running !== undefined) for (const vnic of changed) changeVnic(running, vnic, undo);
    const made = added.map((vnic) =>
      running === undefined
        ? storedVnic(vnic, names, stored)
        : addVnic(running, { ...vnic, temporary: false }, names, undo),
    );
    const kept = stored.vnics
      .filter((vnic) => !removed.includes(vnic.name))
      .map((vnic) => changed.find((other) => other.name === vnic.name) ?? vnic);
    if (vnetid !== stored.vnetid) await services.snapshot.forget(name);
    await store.save({ ...stored, vnetid, properties: next, vnics: [...kept, ...made] });
    await commit();
    for (const vnic of removed) {
      directory.reasons.delete(vnic);
      try {
        await running?.removeVnic(vnic);
      } catch (error) {
        undoFailed(log)(error);
      }
    }
  }
}

/** Gives a VNIC that runs its other settings. Throws an OverlayError. */
function changeVnic(running: RunningOverlay, wanted: StoredVnic, undo: UndoStack): void {
  const { name, macType, vid } = wanted;
  const before = running.vnics.get(name);
  if (before === undefined) return;
  const mac = needMac(wanted.mac);
  if (mac !== before.mac || vid !== before.vid) {
    running.changeVnic(name, { mac, macType, vid });
    undo.push(() => {
      running.changeVnic(name, before);
    });
  }
  const { protection } = before;
  const { values } = protection;
  undo.push(() => {
    protection.setValues(values);
    running.protect(name);
  });
  protection.setValues(new Map(wanted.properties));
  running.protect(name);
}

function specsFor(declared: Declared, plugins: Plugins): readonly OwnedSpec[] {
  const searches = [...new Set([...plugins.keys(), declared.search])];
  return specsOf(declared, plugins.get(declared.search), searches);
}

/** Settings of a VNIC: `mac`, `vid`, and link properties. Throws an OverlayError. */
function vnicOf(name: string, settings: readonly (readonly [string, readonly string[]])[]): DeclaredVnic {
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

function storedVnic(
  { name, mac, vid = 0, properties }: DeclaredVnic,
  names: NewNames,
  { vnics }: StoredOverlay,
): StoredVnic {
  const address = mac ?? formatMac(names.randomMac(new Set(vnics.map((vnic) => vnic.mac))));
  const macType = mac === undefined ? 'random' : 'fixed';
  return { name, mac: address, macType, vid, ...storedProperties(new Map(properties)) };
}

/** A VNIC with an attachment belongs to the program that made it. */
const isDeclared = ({ attachment }: StoredVnic): boolean => attachment === undefined;

/** A container or an operator goes on with such VNICs, and no document could bring them back. */
function refuseUndeclared({ name, vnics }: StoredOverlay, running: RunningOverlay | undefined): void {
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

function declarationOf({ name, encap, search, vnetid, properties, vnics }: StoredOverlay): DeclaredOverlay {
  const declared = vnics.filter(isDeclared).map((vnic) => ({
    name: vnic.name,
    mac: vnic.mac,
    vid: vnic.vid,
    properties: vnic.properties ?? [],
  }));
  return { name, encap, search, vnetid, properties, vnics: declared };
}

/** Refuses a difference for which the overlay would have to be deleted: its flows would be lost. */
function refuseOther(stored: StoredOverlay, declared: Declared): void {
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

function differenceOf(
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
