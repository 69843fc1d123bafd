/**
 * Changes to the overlays and VNICs of this daemon. The registry decides which of them may exist side by
 * side, what is kept over a restart, and in which order steps are made and taken back. `directory` has the
 * overlays, bring-up.ts starts the stored ones.
 *
 * Changes to one overlay and its VNICs come one at a time, those to different overlays side by side: none
 * waits for the plugin of another. Each change is all or nothing: a create that fails at any step undoes the
 * earlier ones. The disk is written last when something is made, and first when it is removed, so that a
 * crash leaves the old state or the new.
 *
 *   on disk and running     persistent
 *   running only            temporary (-t)
 *   on disk only            deleted with -t, or could not be brought up: tried again until it can (retries.ts)
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CreationInfo, Failure } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import { readLinkValues } from '../../model/link-properties.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import { isTemporary } from '../../model/sentences.js';
import { formatMac, randomLocalMac } from '../../wire/mac.js';
import type { StateStore } from '../state/persistence.js';
import { allOrNothing, type UndoStack } from '../../model/undo.js';
import { KeyedQueue, undoFailed } from '../undo.js';
import { BringUp } from './bring-up.js';
import type { Declared } from './change/declaration.js';
import { DeclaredOverlays } from './change/declared.js';
import { addVnic } from './change/new-vnic.js';
import { OverlayProperties } from './change/overlay-property-changes.js';
import { OverlayDirectory } from './directory.js';
import { renameLink } from './change/rename.js';
import { NewNames } from './change/new-names.js';
import type { Earlier, Network } from './change/overlay-values.js';
import type { OverlayPlan, Services } from './overlay-plan.js';
import type { RunningOverlay } from './running-overlay.js';
import { needMac } from './overlay-errors.js';
import { overlayDifferences } from './overlay-properties.js';
import { LinkProperties, vnicDifferences } from './vnic-link-properties.js';

type Params<M extends keyof Methods> = Methods[M]['params'];
type Result<M extends keyof Methods> = Methods[M]['result'];

/** illumos varpd: an INT32. */
const MAX_ID = 0x7fff_ffff;
/** Part of the 2 s that varpd has to end. */
const SAVE_DEADLINE_MS = 500;

export class Registry {
  readonly #services: Services;
  readonly #store: StateStore;
  readonly directory: OverlayDirectory;
  readonly linkProperties: LinkProperties;
  readonly properties: OverlayProperties;
  readonly declared: DeclaredOverlays;
  readonly #changes = new KeyedQueue();
  readonly #names: NewNames;
  readonly #bringUp: BringUp;
  #lastId = 0;

  readonly #changed: () => void;

  /** `changed`: called when something was brought up, failed to come up, or was deleted. */
  constructor(services: Services, store: StateStore, changed: () => void = () => undefined) {
    this.#changed = changed;
    this.#services = services;
    this.#store = store;
    this.directory = new OverlayDirectory(store, services.plugins);
    this.linkProperties = new LinkProperties(this.directory, store, this.#changes, services.log);
    this.#names = new NewNames(this.directory, services.links);
    const leasesChanged = (overlay: number): void => {
      this.linkProperties.leasesChanged(overlay);
    };
    const own = { ...services, leasesChanged };
    this.#bringUp = new BringUp(own, store, this.directory, this.#names, this.#changes, changed);
    const { directory } = this;
    const { plugins, log } = services;
    const bringUp = (name: string): Promise<Result<'overlay.up'>> => this.#bringUp.up(name);
    const parts = { directory, store, changes: this.#changes, log, bringUp };
    this.properties = new OverlayProperties({ ...parts, plugins, snapshot: services.snapshot });
    this.declared = new DeclaredOverlays({
      ...parts,
      services,
      names: this.#names,
      check: (declared, earlier) => this.#check(declared, earlier),
      create: (declared, undo) => this.#start({ ...declared, temporary: false }, undo),
      remove: (name) => this.#remove(name, true),
    });
    for (const { id } of store.overlays.values()) this.#lastId = Math.max(this.#lastId, id);
  }

  // -- Overlays

  createOverlay(params: Params<'overlay.create'>): Promise<CreationInfo> {
    const { name, encap, search, vnetid, temporary, properties, isIfMissing } = params;
    const isThere = (): Promise<boolean> => this.#hasOverlay(params);
    return this.#create(name, name, isIfMissing && isThere, async (undo) => {
      await this.#services.plugins.find(search);
      const overlay = await this.#start({ name, encap, search, vnetid, temporary, properties }, undo);
      if (!temporary) await this.#save(overlay);
      // The reason of a state file that was set aside.
      this.directory.reasons.delete(name);
    });
  }

  #start(
    plan: Pick<OverlayPlan, 'name' | 'encap' | 'search' | 'vnetid' | 'temporary' | 'properties'>,
    undo: UndoStack,
  ): Promise<RunningOverlay> {
    const made = { id: this.#nextId(), mac: randomLocalMac(Math.random), isNew: true };
    return this.#bringUp.start({ ...plan, ...made }, undo);
  }

  #check(declared: Declared, earlier: Earlier): Network {
    const plan = { ...declared, temporary: false, id: MAX_ID, mac: randomLocalMac(Math.random), isNew: true };
    return this.#bringUp.check(plan, earlier).networks[0];
  }

  /** Whether the overlay is there as it is asked for. Rejects with an OverlayError if it is there otherwise. */
  async #hasOverlay(asked: Params<'overlay.create'>): Promise<boolean> {
    const running = this.directory.overlays.get(asked.name);
    const stored = this.#store.overlays.get(asked.name);
    const there = running?.plan ?? (stored && { ...stored, temporary: false });
    if (there === undefined) return false;
    await this.#services.plugins.find(asked.search);
    const wanted = { ...asked, id: there.id };
    refuseOther(asked.name, overlayDifferences(there, running?.properties, wanted, this.#services));
    return true;
  }

  /** `temporary`: the state file stays on the disk. */
  deleteOverlay({ name, temporary }: Params<'overlay.delete'>): Promise<void> {
    return this.#change(name, async () => {
      const overlay = this.directory.overlays.get(name);
      const stored = temporary ? undefined : this.#store.overlays.get(name);
      if (overlay === undefined && stored === undefined) throw this.directory.notFound(name, 'overlay');
      const vnics = new Set([
        ...(overlay?.vnics.keys() ?? []),
        ...(stored?.vnics.map((vnic) => vnic.name) ?? []),
      ]);
      if (vnics.size > 0) throw busy(name, [...vnics]);
      await this.#remove(name, stored !== undefined);
    });
  }

  /** Deletes an overlay and the VNICs that it has. */
  async #remove(name: string, isStored: boolean): Promise<void> {
    const overlay = this.directory.overlays.get(name);
    const vnics = this.directory.storedVnics(name).map((vnic) => vnic.name);
    if (isStored) await this.#store.remove(name);
    this.#bringUp.forget(name);
    this.directory.overlays.delete(name);
    for (const one of [name, ...vnics]) {
      this.directory.reasons.delete(one);
      if (overlay === undefined) this.#services.datapath.discard(one);
    }
    await overlay?.stop();
    this.#changed();
  }

  /** Called at the start of varpd: starts everything stored. */
  raise(): Promise<Result<'overlay.up'>> {
    return this.#bringUp.raise();
  }

  /**
   * Starts stored overlays and VNICs that do not run, and opens lost devices again; goes on past failures.
   */
  up({ name }: Params<'overlay.up'>): Promise<Result<'overlay.up'>> {
    return this.#bringUp.up(name);
  }

  /** Reloads all plugins side by side; goes on past failures. */
  async reload(): Promise<Failure[]> {
    const attempts = [...this.directory.overlays.values()].map(async (overlay): Promise<Failure[]> => {
      try {
        await overlay.reload();
        return [];
      } catch (error) {
        return [{ name: overlay.name, message: asOverlayError(error).message }];
      }
    });
    return (await Promise.all(attempts)).flat();
  }

  /** Has all overlays of a plugin use its new code, or none. */
  reloadPlugin({ name }: Params<'daemon.reloadPlugin'>): Promise<void> {
    return this.#changes.run(`plugin ${name}`, async () => {
      const loaded = await this.#services.plugins.loadAgain(name);
      const overlays = [...this.directory.overlays.values()].filter(({ plan }) => plan.search === name);
      const prepared = await Promise.allSettled(overlays.map((one) => one.prepareSwap(loaded.plugin)));
      const swaps = prepared.filter((one) => one.status === 'fulfilled').map(({ value }) => value);
      const reasons = prepared.flatMap((one, index) =>
        one.status === 'rejected' ? [`${overlays[index].name}: ${asOverlayError(one.reason).message}`] : [],
      );
      if (reasons.length > 0) {
        await Promise.all(swaps.map((swap) => swap.abandon()));
        loaded.abandon();
        throw new OverlayError('INVALID', `plugin '${name}' goes on with the code that it has`, reasons);
      }
      await Promise.all(swaps.map((swap) => swap.commit()));
      loaded.commit();
    });
  }

  targets({ name, after, limit }: Params<'overlay.targets'>): Promise<Result<'overlay.targets'>> {
    return this.directory.need(name).targets.page(after, limit);
  }

  setTarget({ name, mac, destination }: Params<'overlay.setTarget'>): void {
    this.directory.need(name).targets.set(mac, destination);
  }

  deleteTarget({ name, mac }: Params<'overlay.deleteTarget'>): Promise<void> {
    return this.directory.need(name).targets.delete(mac);
  }

  flushTargets({ name }: Params<'overlay.flushTargets'>): void {
    this.directory.need(name).targets.flush();
  }

  // -- VNICs

  createVnic(params: Params<'vnic.create'>): Promise<CreationInfo> {
    const { name, over, temporary, isIfMissing } = params;
    const isThere = (): boolean => this.#hasVnic(params);
    return this.#create(name, over, isIfMissing && isThere, async (undo) => {
      const overlay = this.directory.need(over);
      if (!temporary && overlay.plan.temporary) throw isTemporary(over, 'made over');
      const vnic = addVnic(overlay, params, this.#names, undo);
      if (temporary) return;
      const stored = this.#store.overlays.get(over)!;
      await this.#store.save({ ...stored, vnics: [...stored.vnics, vnic] });
    });
  }

  /** Renames an overlay or a VNIC. */
  renameLink({ name, to }: Params<'link.rename'>): Promise<void> {
    const { log } = this.#services;
    const [store, changes, names, bringUp] = [this.#store, this.#changes, this.#names, this.#bringUp];
    return renameLink({ directory: this.directory, store, changes, names, bringUp, log }, name, to);
  }

  /** Whether the VNIC is there as it is asked for. Throws an OverlayError if it is there otherwise. */
  #hasVnic({ name, over, mac, vid = 0, properties, temporary, attachment }: Params<'vnic.create'>): boolean {
    const overlay = this.directory.overlayNameOf(name);
    const running = this.directory.overlays.get(overlay)?.vnics.get(name);
    const stored = this.directory.storedVnics(overlay).find((vnic) => vnic.name === name);
    const there =
      running === undefined
        ? stored && { ...stored, temporary: false, values: new Map(stored.properties) }
        : { ...running, mac: formatMac(running.mac), values: running.protection.values };
    if (there === undefined) return false;
    const wanted = {
      ...{ over, vid, temporary, values: readLinkValues(properties ?? []) },
      mac: mac === undefined ? undefined : formatMac(needMac(mac)),
      ...(attachment !== undefined && { attachment }),
    };
    refuseOther(name, vnicDifferences({ ...there, over: overlay }, wanted));
    return true;
  }

  deleteVnic({ name, temporary }: Params<'vnic.delete'>): Promise<void> {
    return this.#change(this.directory.overlayNameOf(name), async () => {
      const overlay = this.directory.overlayOfVnic(name);
      const stored = temporary ? undefined : this.directory.storedOverlayOfVnic(name);
      if (overlay === undefined && stored === undefined) throw this.directory.notFound(name, 'vnic');
      if (stored !== undefined)
        await this.#store.save({ ...stored, vnics: stored.vnics.filter((vnic) => vnic.name !== name) });
      this.directory.reasons.delete(name);
      if (overlay === undefined) this.#services.datapath.discard(name);
      else await overlay.removeVnic(name);
      this.#changed();
    });
  }

  /** The stand-in has seen a lease from a DHCP server, or a client that gives one up. */
  leased(news: LeaseNews): void {
    this.directory.withId(news.overlay)?.leased([news]);
  }

  /**
   * Whether a stored or running overlay or VNIC has this name, or one of a state file that cannot be read may
   * have it.
   */
  mayWant(port: string): boolean {
    return this.#store.bad.length > 0 || this.directory.isStored(port) || this.directory.runs(port);
  }

  /**
   * Removes persistent links that no overlay or VNIC wants: those of temporary ones, and of ones that were
   * being made or deleted when the earlier daemon was killed. Returns the names of the removed links.
   */
  removeOrphans(ports: readonly string[]): string[] {
    const orphans = ports.filter((name) => !this.mayWant(name));
    for (const name of orphans) this.#services.datapath.discard(name);
    return orphans;
  }

  /** Resolves when every plugin has been tried once. */
  async settled(): Promise<void> {
    await Promise.all([...this.directory.overlays.values()].map((overlay) => overlay.settled));
  }

  /** Resolves when no change is under way. No further change begins. */
  freeze(): Promise<void> {
    return this.#changes.freeze();
  }

  /**
   * Stops all plugins. It waits for no change that is under way, since the disk is valid at every moment.
   * `save` keeps the known facts for the next daemon. Frames move until the datapath is closed.
   */
  async stop(save: (overlays: readonly RunningOverlay[]) => Promise<void>): Promise<void> {
    this.#bringUp.stop();
    const overlays = [...this.directory.overlays.values()];
    // Saving may wait behind a change that waits for a plugin.
    await Promise.race([
      Promise.all([this.linkProperties.saveLeases(), save(overlays)]),
      delay(SAVE_DEADLINE_MS, undefined, { ref: false }),
    ]);
    this.directory.overlays.clear();
    await Promise.all(overlays.map((overlay) => overlay.quiesce()));
  }

  // -- Steps

  #change(overlay: string, work: (undo: UndoStack) => Promise<void>): Promise<void> {
    return this.#changes.run(overlay, () => allOrNothing(work, undoFailed(this.#services.log)));
  }

  /** Keeps others from the name from now on, unless it is there: then nothing is made. */
  async #create(
    name: string,
    overlay: string,
    isThere: (() => boolean | Promise<boolean>) | false | undefined,
    work: (undo: UndoStack) => Promise<void>,
  ): Promise<CreationInfo> {
    let isCreated = false;
    await this.#change(overlay, async (undo) => {
      if (isThere && (await isThere())) return;
      await this.#names.reserve(name, () => work(undo));
      isCreated = true;
    });
    return { isCreated };
  }

  #save(overlay: RunningOverlay): Promise<void> {
    const { name, id, encap, search, vnetid, mac } = overlay.plan;
    const properties = overlay.properties.given();
    return this.#store.save({ name, id, encap, search, vnetid, mac: formatMac(mac), properties, vnics: [] });
  }

  /**
   * The id of a deleted overlay is not used again at once: late messages of the datapath would reach the
   * wrong overlay.
   */
  #nextId(): number {
    const used = new Set(this.directory.names().map((name) => this.directory.idOf(name)));
    do this.#lastId = (this.#lastId % MAX_ID) + 1;
    while (used.has(this.#lastId));
    return this.#lastId;
  }
}

function refuseOther(name: string, differences: readonly string[]): void {
  if (differences.length > 0)
    throw new OverlayError('EXISTS', `${name} exists with other settings`, differences);
}

function busy(name: string, vnics: readonly string[]): OverlayError {
  return new OverlayError(
    'BUSY',
    `${name} has VNICs over it: ${vnics.slice(0, 10).join(', ')}; delete them first`,
  );
}
