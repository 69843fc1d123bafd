/**
 * Changes to the overlays and VNICs of this daemon: who may exist beside whom, what is kept over a restart, and in which
 * order things are made and taken back. `roster` says who is there.
 *
 * Changes to one overlay and its VNICs come one at a time, those to different overlays side by side: none waits for
 * another's plugin. Each is all or nothing: a create that fails at any step undoes the earlier ones, and the disk is
 * written last when something is made, first when it is removed, so that a crash leaves the old state or the new.
 *
 *   on disk and running     persistent
 *   running only            temporary (-t)
 *   on disk only            deleted with -t, or could not be brought up: tried again until it can (retries.ts)
 */
import type { Notice } from '../core/notices.js';
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure, Methods } from '../control/messages.js';
import { checkName, NAME_RULE } from '../control/names.js';
import { asOverlayError, OverlayError } from '../core/errors.js';
import { foundExpected, printable } from '../core/properties.js';
import { readLinkValues } from '../core/link-properties.js';
import type { MacAddress } from '../plugin/contract.js';
import { formatEndpoint, type IpAddress, parse as parseIp } from '../wire/ip.js';
import { formatMac, isMulticast, randomLocalMac, ZERO } from '../wire/mac.js';
import type { LookupRequest } from './datapath/contract.js';
import { LinkProperties, storedProperties } from './link-properties.js';
import { Overlay } from './overlay.js';
import type { OverlayPlan, Workshop } from './overlay-plan.js';
import { needMac } from './overlay-errors.js';
import type { StateStore } from './persistence.js';
import { isSame } from './plugin-answer.js';
import { Roster } from './roster.js';
import type { StoredOverlay, StoredVnic } from './state-schema.js';
import { Retries } from './retries.js';
import { allOrNothing, KeyedQueue, type UndoStack } from './undo.js';

type Params<M extends keyof Methods> = Methods[M]['params'];
type Result<M extends keyof Methods> = Methods[M]['result'];

/** 802.1Q: 4095 is reserved, 0 says that there is no VLAN. */
const MAX_VID = 4094;
/** illumos varpd: an INT32. */
const MAX_ID = 0x7fff_ffff;
/** Of the 2 s that varpd has to end. */
const SAVE_DEADLINE_MS = 500;

export class Registry {
  readonly #workshop: Workshop;
  readonly #store: StateStore;
  readonly roster: Roster;
  readonly linkProperties: LinkProperties;
  readonly #changes = new KeyedQueue();
  /** Of what is being created. */
  readonly #reserved = new Set<string>();
  readonly #retries: Retries;
  #lastId = 0;

  readonly #changed: () => void;

  /** `changed`: something was brought up, failed to, or was deleted. */
  constructor(workshop: Workshop, store: StateStore, changed: () => void = () => undefined) {
    this.#changed = changed;
    this.#workshop = workshop;
    this.#store = store;
    this.roster = new Roster(store, workshop.plugins);
    this.linkProperties = new LinkProperties(this.roster, store, this.#changes, workshop.log);
    this.#retries = new Retries(workshop.watch, (name) => this.#retry(name));
    for (const { id } of store.overlays.values()) this.#lastId = Math.max(this.#lastId, id);
  }

  // -- Overlays

  createOverlay(params: Params<'overlay.create'>): Promise<void> {
    const { name, encap, search, vnetid, temporary, properties } = params;
    return this.#create(name, name, async (undo) => {
      await this.#workshop.plugins.find(search);
      const made = { id: this.#nextId(), mac: randomLocalMac(Math.random), isNew: true };
      const plan = { name, encap, search, vnetid, temporary, properties, ...made };
      const overlay = await this.#start(plan, undo);
      if (!temporary) await this.#save(overlay);
      // Of a state file that was set aside.
      this.roster.reasons.delete(name);
    });
  }

  /** `temporary`: what is on disk stays there. */
  deleteOverlay({ name, temporary }: Params<'overlay.delete'>): Promise<void> {
    return this.#change(name, async () => {
      const overlay = this.roster.overlays.get(name);
      const stored = temporary ? undefined : this.#store.overlays.get(name);
      if (overlay === undefined && stored === undefined) throw this.roster.notFound(name, 'overlay');
      const vnics = new Set([
        ...(overlay?.vnics.keys() ?? []),
        ...(stored?.vnics.map((vnic) => vnic.name) ?? []),
      ]);
      if (vnics.size > 0) throw busy(name, [...vnics]);
      if (stored !== undefined) await this.#store.remove(name);
      this.#retries.forget(name);
      this.roster.reasons.delete(name);
      this.roster.overlays.delete(name);
      if (overlay === undefined) this.#workshop.datapath.discard(name);
      else await overlay.stop();
      this.#changed();
    });
  }

  /** At the start of varpd: everything stored. What is not up yet is shown as being started. */
  raise(): Promise<Result<'overlay.up'>> {
    for (const { name, vnics } of this.#store.overlays.values())
      for (const one of [name, ...vnics.map((vnic) => vnic.name)])
        this.roster.reasons.set(one, 'it is being started');
    return this.up({});
  }

  /** Starts what is stored and does not run, and opens again what was lost; goes on past failures. */
  async up({ name }: Params<'overlay.up'>): Promise<Result<'overlay.up'>> {
    if (name !== undefined && this.roster.idOf(name) === 0) this.roster.need(name);
    const names = name === undefined ? this.roster.names() : [name];
    const failures = await Promise.all(
      names.map((one) => this.#changes.run(one, () => this.#bringUp(one, false))),
    );
    return { failures: failures.flat() };
  }

  /** All plugins at once, none waits for another; goes on past failures. */
  async reload(): Promise<Failure[]> {
    const attempts = [...this.roster.overlays.values()].map(async (overlay): Promise<Failure[]> => {
      try {
        await overlay.reload();
        return [];
      } catch (error) {
        return [{ name: overlay.name, message: asOverlayError(error).message }];
      }
    });
    return (await Promise.all(attempts)).flat();
  }

  targets({ name, after, limit }: Params<'overlay.targets'>): Promise<Result<'overlay.targets'>> {
    return this.roster.need(name).targets(after, limit);
  }

  setTarget({ name, mac, destination }: Params<'overlay.setTarget'>): void {
    this.roster.need(name).setTarget(mac, destination);
  }

  deleteTarget({ name, mac }: Params<'overlay.deleteTarget'>): Promise<void> {
    return this.roster.need(name).deleteTarget(mac);
  }

  flushTargets({ name }: Params<'overlay.flushTargets'>): void {
    this.roster.need(name).flushTargets();
  }

  // -- VNICs

  createVnic({ name, over, mac, vid = 0, properties, temporary }: Params<'vnic.create'>): Promise<void> {
    return this.#create(name, over, async (undo) => {
      const overlay = this.roster.need(over);
      if (vid < 0 || vid > MAX_VID)
        throw new OverlayError('INVALID', `vid: ${foundExpected(String(vid), `0 to ${MAX_VID}`)}`);
      if (!temporary && overlay.plan.temporary)
        throw new OverlayError('INVALID', `${over} is temporary, so must be what is made over it: use -t`);
      const address = mac === undefined ? this.#freeMac(overlay) : needMac(mac);
      const macType = mac === undefined ? 'random' : 'fixed';
      this.#checkVnicMac(overlay, address);
      const values = readLinkValues(properties ?? []);
      overlay.addVnic({ name, mac: address, macType, vid, temporary, properties: values, leases: [] });
      undo.push(() => overlay.removeVnic(name));
      if (temporary) return;
      const stored = this.#store.overlays.get(over)!;
      const vnic = { name, mac: formatMac(address), macType, vid, ...storedProperties(values) } as const;
      await this.#store.save({ ...stored, vnics: [...stored.vnics, vnic] });
    });
  }

  deleteVnic({ name, temporary }: Params<'vnic.delete'>): Promise<void> {
    return this.#change(this.roster.overlayNameOf(name), async () => {
      const overlay = this.roster.overlayOfVnic(name);
      const stored = temporary ? undefined : this.roster.storedOverlayOfVnic(name);
      if (overlay === undefined && stored === undefined) throw this.roster.notFound(name, 'vnic');
      if (stored !== undefined)
        await this.#store.save({ ...stored, vnics: stored.vnics.filter((vnic) => vnic.name !== name) });
      this.roster.reasons.delete(name);
      if (overlay === undefined) this.#workshop.datapath.discard(name);
      else await overlay.removeVnic(name);
      this.#changed();
    });
  }

  // -- What the datapath tells

  lookup(request: LookupRequest): void {
    this.roster.withId(request.overlay)?.lookup(request);
  }

  noticed(notice: Notice): void {
    this.roster.withId(notice.overlay)?.noticed(notice);
  }

  portFault(overlay: number, port: string, code: string): void {
    this.roster.withId(overlay)?.portFault(port, code);
  }

  peersChanged(overlay: number, added: readonly IpAddress[], removed: readonly IpAddress[]): void {
    this.roster.withId(overlay)?.peersChanged(added, removed);
  }

  /** Whether a stored overlay or VNIC has this name, or one of a state file that cannot be read may have it. */
  mayWant(port: string): boolean {
    return this.#store.bad.length > 0 || this.roster.isStored(port) || this.roster.runs(port);
  }

  /** Removes these persistent links where nothing here wants them: of temporary overlays and VNICs, of those that were being
   * made or deleted when the earlier daemon was killed. Names those removed. */
  removeOrphans(ports: readonly string[]): string[] {
    const orphans = ports.filter((name) => !this.mayWant(name));
    for (const name of orphans) this.#workshop.datapath.discard(name);
    return orphans;
  }

  /** Resolves when every plugin has been tried once. */
  async settled(): Promise<void> {
    await Promise.all([...this.roster.overlays.values()].map((overlay) => overlay.settled));
  }

  /** Resolves when no change is under way, and lets none begin any more. */
  freeze(): Promise<void> {
    return this.#changes.freeze();
  }

  /** Stops all plugins, and waits for no change that is under way: the disk is good at every moment. What is known is kept
   * for the next daemon by `save`, and goes on until the datapath is closed. */
  async stop(save: (overlays: readonly Overlay[]) => Promise<void>): Promise<void> {
    this.#retries.stop();
    const overlays = [...this.roster.overlays.values()];
    // What is under way may wait for a plugin.
    await Promise.race([
      Promise.all([this.linkProperties.saveLeases(), save(overlays)]),
      delay(SAVE_DEADLINE_MS, undefined, { ref: false }),
    ]);
    this.roster.overlays.clear();
    await Promise.all(overlays.map((overlay) => overlay.quiesce()));
  }

  // -- Steps

  #change(overlay: string, work: (undo: UndoStack) => Promise<void>): Promise<void> {
    return this.#changes.run(overlay, () => this.#allOrNothing(work));
  }

  /** The name is nobody else's from now on. */
  #create(name: string, overlay: string, work: (undo: UndoStack) => Promise<void>): Promise<void> {
    return this.#change(overlay, async (undo) => {
      this.#checkNewName(name);
      this.#reserved.add(name);
      try {
        await work(undo);
      } finally {
        this.#reserved.delete(name);
      }
    });
  }

  #allOrNothing(work: (undo: UndoStack) => Promise<void>): Promise<void> {
    return allOrNothing(work, (error) => {
      this.#workshop.log.error('undo', `cannot take back a change: ${asOverlayError(error).message}`);
    });
  }

  /** Adds itself to `undo`. */
  async #start(plan: OverlayPlan, undo: UndoStack): Promise<Overlay> {
    const overlay = Overlay.check(plan, this.#workshop);
    const { listen } = overlay;
    const others = [...this.roster.overlays.values(), ...this.roster.starting.values()];
    const twin = others.find((other) => other.plan.vnetid === plan.vnetid && isSame(other.listen, listen));
    if (twin !== undefined) {
      const where = `${formatEndpoint(listen)} by ${twin.name}`;
      throw new OverlayError('EXISTS', `virtual network id ${plan.vnetid} is in use on ${where}`);
    }
    this.roster.starting.set(plan.name, overlay);
    try {
      await overlay.start(undo);
    } finally {
      this.roster.starting.delete(plan.name);
    }
    // Nobody sees it before it works.
    undo.push(() => this.roster.overlays.delete(plan.name));
    this.roster.overlays.set(plan.name, overlay);
    return overlay;
  }

  /** What fails is known by its reason, and tried again. `isRetry`: nobody asks, so only news is logged, and what was deleted
   * with -t stays away. */
  async #bringUp(name: string, isRetry: boolean): Promise<Failure[]> {
    const failures: Failure[] = [];
    const { reasons } = this.roster;
    const attempt = async (what: string, work: () => void | Promise<void>): Promise<boolean> => {
      try {
        await work();
        if (reasons.delete(what) && isRetry) this.#workshop.log.info(`up ${what}`, `${what} is up now`);
        return true;
      } catch (error) {
        const { message, details } = asOverlayError(error);
        const reason = details.length === 0 ? message : details.join('; ');
        if (!isRetry || reasons.get(what) !== reason)
          this.#workshop.log.error(`up ${what}`, `${what} could not be brought up: ${reason}`);
        // One that runs has its health to say what is wrong.
        if (!this.roster.runs(what)) reasons.set(what, reason);
        failures.push({ name: what, message: reason });
        return false;
      }
    };
    const startedMs = performance.now();
    const stored = this.#store.overlays.get(name);
    const running = this.roster.overlays.get(name);
    await attempt(name, async () => {
      if (running !== undefined) await running.mend();
      else if (stored !== undefined) await this.#restart(stored);
    });
    const overlay = this.roster.overlays.get(name);
    for (const vnic of stored?.vnics ?? []) {
      const isWanted = running === undefined || !isRetry || reasons.has(vnic.name);
      if (overlay === undefined) reasons.set(vnic.name, `its overlay ${name} is OFFLINE`);
      else if (isWanted && !overlay.vnics.has(vnic.name))
        await attempt(vnic.name, () => {
          this.#restartVnic(overlay, vnic);
        });
    }
    if (stored === undefined || this.#isWhole(stored)) this.#retries.forget(name);
    else {
      const wanting = overlay === undefined ? listenIpOf(stored) : undefined;
      this.#retries.later(name, wanting, performance.now() - startedMs);
    }
    this.#changed();
    return failures;
  }

  /** Nothing of it waits for another attempt. */
  #isWhole({ name, vnics }: StoredOverlay): boolean {
    return ![name, ...vnics.map((vnic) => vnic.name)].some((one) => this.roster.reasons.has(one));
  }

  /** What is stored and does not run, tried again. Never rejects. */
  async #retry(name: string): Promise<void> {
    await this.#changes.run(name, async () => {
      const stored = this.#store.overlays.get(name);
      if (stored !== undefined && !this.#isWhole(stored)) await this.#bringUp(name, true);
    });
  }

  async #restart(stored: StoredOverlay): Promise<void> {
    const { name, id, encap, search, vnetid, mac, properties } = stored;
    const found = { mac: needMac(mac), temporary: false, isNew: false };
    const plan = { name, id, encap, search, vnetid, properties, ...found };
    if (this.roster.withId(id) !== undefined) throw new OverlayError('EXISTS', `varpd/id ${id} is in use`);
    const { datapath, plugins, snapshot } = this.#workshop;
    const isLeft = datapath.hasLeft(name);
    if (!isLeft) this.#checkLink(name);
    // A plugin that is being imported is waited for, unless the overlay can go on without it.
    if (!isLeft || !snapshot.hasRecent(name, plan.mac)) await plugins.find(search);
    await this.#allOrNothing(async (undo) => {
      await this.#start(plan, undo);
    });
  }

  #restartVnic(
    overlay: Overlay,
    { name, mac, macType, vid, properties = [], leases = [] }: StoredVnic,
  ): void {
    if (this.roster.runs(name)) throw exists(name);
    if (!this.#workshop.datapath.hasLeft(name)) this.#checkLink(name);
    const address = needMac(mac);
    if (overlay.hasMac(address)) throw new OverlayError('EXISTS', `${mac} is in use on ${overlay.name}`);
    const found = { temporary: false, properties: readLinkValues(properties), leases };
    overlay.addVnic({ name, mac: address, macType, vid, ...found });
  }

  #save(overlay: Overlay): Promise<void> {
    const { name, id, encap, search, vnetid, mac } = overlay.plan;
    const properties = overlay.properties.given();
    return this.#store.save({ name, id, encap, search, vnetid, mac: formatMac(mac), properties, vnics: [] });
  }

  // -- Checks

  #checkNewName(name: string): void {
    if (checkName(name) !== undefined)
      throw new OverlayError('INVALID', `invalid link name '${printable(name)}': ${NAME_RULE}`);
    if (this.#reserved.has(name) || this.roster.isStored(name) || this.roster.runs(name)) throw exists(name);
    this.#checkLink(name);
  }

  #checkLink(name: string): void {
    if (this.#workshop.links.exists(name))
      throw new OverlayError('EXISTS', `there is a network interface ${name} that is not varpd's`);
  }

  #checkVnicMac(overlay: Overlay, mac: MacAddress): void {
    const text = formatMac(mac);
    if (mac === ZERO || isMulticast(mac))
      throw new OverlayError('INVALID', `mac: ${foundExpected(text, 'a unicast address other than zero')}`);
    if (overlay.hasMac(mac) || this.roster.storedVnics(overlay.name).some((vnic) => vnic.mac === text))
      throw new OverlayError('EXISTS', `mac: ${text} is in use on ${overlay.name}`);
  }

  #freeMac(overlay: Overlay): MacAddress {
    const taken = new Set(this.roster.storedVnics(overlay.name).map((vnic) => vnic.mac));
    for (;;) {
      const mac = randomLocalMac(Math.random);
      if (!overlay.hasMac(mac) && !taken.has(formatMac(mac))) return mac;
    }
  }

  /** Not that of an overlay that has just gone: late words from the datapath would reach the wrong one. */
  #nextId(): number {
    const used = new Set(this.roster.names().map((name) => this.roster.idOf(name)));
    do this.#lastId = (this.#lastId % MAX_ID) + 1;
    while (used.has(this.#lastId));
    return this.#lastId;
  }
}

function listenIpOf({ properties }: StoredOverlay): IpAddress | undefined {
  return parseIp(properties.find(([property]) => property === 'vxlan/listen_ip')?.[1] ?? '');
}

function exists(name: string): OverlayError {
  return new OverlayError('EXISTS', `there is an overlay or a VNIC ${name} already`);
}

function busy(name: string, vnics: readonly string[]): OverlayError {
  return new OverlayError(
    'BUSY',
    `${name} has VNICs over it: ${vnics.slice(0, 10).join(', ')}; delete them first`,
  );
}
