/**
 * Overlays as a document declares them (`dladm export`, `dladm apply`). An overlay is applied all or nothing, with its
 * VNICs and their link properties: its state file is written once, after everything that may fail has succeeded. So a
 * crash at any moment leaves the old state of the overlay or the new. The parts that are as declared are not touched.
 *
 * A document says all properties of an overlay: those that it leaves out have their defaults. VNICs that it leaves out
 * stay, unless it is applied with `prune`. Temporary overlays and VNICs, and VNICs with an attachment, are not of its
 * concern.
 */
import type { DeclaredOverlay, DeclaredVnic } from '../../../control/declared-messages.js';
import type { Failure } from '../../../control/messages.js';
import type { Methods } from '../../../control/methods.js';
import { OverlayError } from '../../../model/errors.js';
import { checkDeclared, type OwnedSpec, PropertySet } from '../../../model/properties.js';
import { inUse, isTemporary } from '../../../model/sentences.js';
import type { MacAddress } from '../../../plugin/contract.js';
import { formatMac } from '../../../wire/mac.js';
import type { Log } from '../../log.js';
import type { Plugins } from '../../plugins/plugin-catalog.js';
import type { StateStore } from '../../state/persistence.js';
import type { StoredOverlay, StoredVnic } from '../../state/state-schema.js';
import { allOrNothing, type UndoStack } from '../../../model/undo.js';
import { type KeyedQueue, undoFailed } from '../../undo.js';
import type { OverlayDirectory } from '../directory.js';
import {
  type Declared,
  declarationOf,
  type Difference,
  differenceOf,
  refuseOther,
  refuseUndeclared,
  vnicOf,
} from './declaration.js';
import type { PlannedChange } from './live-change.js';
import { exists, type NewNames } from './new-names.js';
import { needMac } from '../overlay-errors.js';
import { needEncapsulation, needPlugin, specsOf } from '../overlay-properties.js';
import type { Services } from '../overlay-plan.js';
import { pageOf } from '../pages.js';
import type { RunningOverlay } from '../running-overlay.js';
import { storedProperties } from '../vnic-link-properties.js';
import { addVnic } from './new-vnic.js';
import { type Earlier, type Network, networkText } from './overlay-values.js';

type Params<M extends keyof Methods> = Methods[M]['params'];
type Result<M extends keyof Methods> = Methods[M]['result'];

export interface DeclaredContext {
  readonly directory: OverlayDirectory;
  readonly store: StateStore;
  readonly changes: KeyedQueue;
  readonly names: NewNames;
  readonly services: Services;
  readonly log: Log;
  /** Checks a new overlay without any effect. Throws an OverlayError. Returns its network. */
  readonly check: (overlay: Declared, earlier: Earlier) => Network;
  /** Starts a new overlay, which is not stored. */
  readonly create: (overlay: Declared, undo: UndoStack) => Promise<RunningOverlay>;
  /** Deletes an overlay, with its VNICs. */
  readonly remove: (name: string) => Promise<void>;
  /** Tries to bring an overlay up. */
  readonly bringUp: (name: string) => Promise<Result<'overlay.up'>>;
}

interface Applied {
  readonly changes: string[];
  /** Its network from then on, if it runs. */
  readonly network: Network | undefined;
}

interface CheckedVnics extends Pick<Difference, 'added' | 'changed'> {
  /** The overlay. */
  readonly name: string;
  readonly running: RunningOverlay | undefined;
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
    const { changes, bringUp, store, directory } = this.#context;
    const { name, dryRun } = params;
    const applied = await changes.run(name, () => this.#apply(params));
    const network = applied.network === undefined ? null : networkText(applied.network);
    const result = { changes: applied.changes, network };
    const isOffline = store.overlays.has(name) && !directory.overlays.has(name);
    if (dryRun || result.changes.length === 0 || !isOffline) return { ...result, failures: [] };
    const { failures } = await bringUp(name);
    return { ...result, failures };
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

  async #apply(params: Params<'overlay.apply'>): Promise<Applied> {
    const { directory, store, services, log } = this.#context;
    const { name, dryRun, prune } = params;
    const declared = { ...params, vnics: params.vnics.map(([vnic, settings]) => vnicOf(vnic, settings)) };
    const earlier: Earlier = { networks: new Map(params.networks), gone: new Set(params.gone) };
    await services.plugins.find(declared.search);
    const stored = store.overlays.get(name);
    const running = directory.overlays.get(name);
    if (running !== undefined && stored === undefined) throw isTemporary(name, 'declared of');
    const specs = specsFor(declared, services.plugins);
    const next = this.#check(declared, specs);
    if (stored === undefined) {
      const changes = [`+ ${name}`, ...declared.vnics.map((vnic) => `+ ${vnic.name}`)];
      this.#context.names.check(name, earlier.gone);
      const network = this.#context.check({ ...declared, properties: next }, earlier);
      this.#checkVnics({ name, added: declared.vnics, changed: [], running }, earlier);
      if (!dryRun) await this.#create(declared, next);
      return { changes, network };
    }
    refuseOther(stored, declared);
    const difference = differenceOf(stored, { ...declared, properties: next }, prune);
    const { changes } = difference;
    checkDeclared(specs, difference.properties);
    this.#checkVnics({ ...difference, name, running }, earlier);
    const isPlanned = running !== undefined && difference.properties.length > 0;
    const network = isPlanned ? this.#plan(running, next, difference, earlier).network : undefined;
    if (!dryRun && changes.length > 0)
      await this.#reserve(difference.added, () =>
        allOrNothing((undo) => this.#change({ stored, running, next, difference }, undo), undoFailed(log)),
      );
    return { changes, network };
  }

  /** Throws an OverlayError when the properties of a running overlay cannot become these. */
  #plan(
    running: RunningOverlay,
    given: [string, string][],
    { vnetid, properties: names }: Difference,
    earlier?: Earlier,
  ): PlannedChange {
    const refuseTwin = (network: Network): void => {
      this.#context.directory.refuseTwin(network, running.name, earlier);
    };
    return running.change({ vnetid, given, names, refuseTwin });
  }

  /** Throws an OverlayError when a new VNIC cannot have its name, or any VNIC the MAC that it is to have. */
  #checkVnics({ name, added, changed, running }: CheckedVnics, { gone }: Earlier): void {
    const { names } = this.#context;
    const taken = new Set([name]);
    for (const vnic of added) {
      if (taken.has(vnic.name)) throw exists(vnic.name);
      taken.add(vnic.name);
      names.check(vnic.name, gone);
    }
    const overlay = running ?? { name, hasMac: () => false };
    const macs = new Set<MacAddress>();
    for (const vnic of [...changed, ...added]) {
      if (vnic.mac === undefined) continue;
      const mac = needMac(vnic.mac);
      const holder = this.#context.directory.storedVnics(name).find((one) => one.mac === vnic.mac);
      if (holder !== undefined && holder.name !== vnic.name) throw macOf(holder.name, name, vnic);
      const before = this.#macsOf(name, vnic.name, running);
      if (!before.includes(mac)) names.checkMac(overlay, mac);
      if (!macs.has(mac)) macs.add(mac);
      else throw inUse(`mac: ${vnic.mac}`, name);
    }
  }

  /** The MACs that a VNIC has had until now. */
  #macsOf(overlay: string, vnic: string, running: RunningOverlay | undefined): readonly unknown[] {
    const stored = this.#context.directory.storedVnics(overlay).find((one) => one.name === vnic);
    return [stored && needMac(stored.mac), running?.vnics.get(vnic)?.mac, running?.links.macOf(vnic)];
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
    if (running !== undefined && difference.properties.length > 0)
      commit = await this.#plan(running, next, difference).apply(undo);
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

/** Another VNIC has the MAC: most often the same one, under the name that it had when it was exported. */
function macOf(
  holder: string,
  overlay: string,
  { name, mac }: Pick<DeclaredVnic, 'name' | 'mac'>,
): OverlayError {
  const hint = `'dladm rename-link ${holder} ${name}' renames a VNIC`;
  return new OverlayError('EXISTS', `mac: ${mac} is in use on ${overlay} by ${holder}`, [], undefined, hint);
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

function storedVnic(
  { name, mac, vid = 0, properties }: DeclaredVnic,
  names: NewNames,
  { vnics }: StoredOverlay,
): StoredVnic {
  const address = mac ?? formatMac(names.randomMac(new Set(vnics.map((vnic) => vnic.mac))));
  const macType = mac === undefined ? 'random' : 'fixed';
  return { name, mac: address, macType, vid, ...storedProperties(new Map(properties)) };
}
