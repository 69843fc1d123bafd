/**
 * Changes to the overlays and VNICs of this daemon: who may exist beside whom, what is kept over a restart, and in which
 * order things are made and taken back. `roster` says who is there.
 *
 * Changes come one at a time. Each is all or nothing: a create that fails at any step undoes the earlier ones, and the
 * disk is written last when something is made, first when it is removed, so that a crash leaves the old state or the new.
 *
 *   on disk and running     persistent
 *   running only            temporary (-t)
 *   on disk only            deleted with -t, or could not be started: `up` tries again
 */
import type { Notice } from '../core/notices.js';
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure, Methods } from '../control/messages.js';
import { checkName, NAME_RULE } from '../control/names.js';
import { asOverlayError, OverlayError, STATUS_WORDS } from '../core/errors.js';
import { foundExpected, printable } from '../core/properties.js';
import { readLinkValues } from '../core/link-properties.js';
import type { MacAddress } from '../plugin/contract.js';
import { formatEndpoint, type IpAddress, parse as parseIp } from '../wire/ip.js';
import { formatMac, isMulticast, randomLocalMac, ZERO } from '../wire/mac.js';
import type { LookupRequest } from './datapath/contract.js';
import type { Following } from './link-watch.js';
import { LinkProperties, storedProperties } from './link-properties.js';
import { Overlay } from './overlay.js';
import type { OverlayPlan, Workshop } from './overlay-plan.js';
import { needMac } from './overlay-errors.js';
import type { StateStore } from './persistence.js';
import { isSame } from './plugin-answer.js';
import { Roster } from './roster.js';
import type { StoredOverlay, StoredVnic } from './state-schema.js';
import { allOrNothing, SerialQueue, type UndoStack } from './undo.js';

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
  readonly #changes = new SerialQueue();
  /** Overlays that do not run because their address is not there yet. */
  readonly #waiting = new Map<string, Following>();
  #lastId = 0;

  constructor(workshop: Workshop, store: StateStore) {
    this.#workshop = workshop;
    this.#store = store;
    this.roster = new Roster(store);
    this.linkProperties = new LinkProperties(this.roster, store, this.#changes, workshop.log);
    for (const { id } of store.overlays.values()) this.#lastId = Math.max(this.#lastId, id);
  }

  // -- Overlays

  createOverlay(params: Params<'overlay.create'>): Promise<void> {
    return this.#change(async (undo) => {
      const { name, encap, search, vnetid, temporary, properties } = params;
      this.#checkNewName(name);
      const made = { id: this.#nextId(), mac: randomLocalMac(Math.random), isNew: true };
      const plan = { name, encap, search, vnetid, temporary, properties, ...made };
      const overlay = await this.#start(plan, undo);
      if (!temporary) await this.#save(overlay);
    });
  }

  /** `temporary`: what is on disk stays there. */
  deleteOverlay({ name, temporary }: Params<'overlay.delete'>): Promise<void> {
    return this.#change(async () => {
      const overlay = this.roster.overlays.get(name);
      const stored = temporary ? undefined : this.#store.overlays.get(name);
      if (overlay === undefined && stored === undefined) throw notFound();
      const vnics = new Set([
        ...(overlay?.vnics.keys() ?? []),
        ...(stored?.vnics.map((vnic) => vnic.name) ?? []),
      ]);
      if (vnics.size > 0) throw busy(name, [...vnics]);
      if (stored !== undefined) await this.#store.remove(name);
      this.#forgetWait(name);
      this.roster.reasons.delete(name);
      this.roster.overlays.delete(name);
      if (overlay === undefined) this.#workshop.datapath.discard(name);
      else await overlay.stop();
    });
  }

  /** Starts what is stored and does not run, and opens again what was lost; goes on past failures. */
  up({ name }: Params<'overlay.up'>): Promise<Result<'overlay.up'>> {
    return this.#changes.run(async () => {
      if (name !== undefined && this.roster.idOf(name) === 0) throw notFound();
      const failures: Failure[] = [];
      for (const one of name === undefined ? this.roster.names() : [name])
        failures.push(...(await this.#bringUp(one)));
      return { failures };
    });
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
    return this.#change(async (undo) => {
      this.#checkNewName(name);
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
    return this.#change(async () => {
      const overlay = this.roster.overlayOfVnic(name);
      const stored = temporary ? undefined : this.roster.storedOverlayOfVnic(name);
      if (overlay === undefined && stored === undefined) throw notFound();
      if (stored !== undefined)
        await this.#store.save({ ...stored, vnics: stored.vnics.filter((vnic) => vnic.name !== name) });
      this.roster.reasons.delete(name);
      if (overlay === undefined) this.#workshop.datapath.discard(name);
      else await overlay.removeVnic(name);
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

  /** Removes the links that an earlier daemon has left and nothing here wants: of temporary overlays and VNICs, of those
   * that were being made or deleted when it was killed. Names them. */
  removeOrphans(): string[] {
    // One that cannot be read may want any of them.
    if (this.#store.bad.length > 0) return [];
    const orphans = this.#workshop.links.own().filter((name) => !this.roster.isStored(name));
    for (const name of orphans) this.#workshop.datapath.discard(name);
    return orphans;
  }

  /** Resolves when no change is under way, and lets none begin any more. */
  freeze(): Promise<void> {
    return new Promise((resolve) => {
      void this.#changes.run(() => {
        resolve();
        return new Promise(() => undefined);
      });
    });
  }

  /** Stops all plugins, and waits for no change that is under way: the disk is good at every moment. What is known is kept
   * for the next daemon by `save`, and goes on until the datapath is closed. */
  async stop(save: (overlays: readonly Overlay[]) => Promise<void>): Promise<void> {
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

  #change(work: (undo: UndoStack) => Promise<void>): Promise<void> {
    return this.#changes.run(() => this.#allOrNothing(work));
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
    const twin = [...this.roster.overlays.values()].find(
      (other) => other.plan.vnetid === plan.vnetid && isSame(other.listen, listen),
    );
    if (twin !== undefined) {
      const where = `${formatEndpoint(listen)} by ${twin.name}`;
      throw new OverlayError('EXISTS', `virtual network id ${plan.vnetid} is in use on ${where}`);
    }
    await overlay.start(undo);
    // Nobody sees it before it works; the datapath's first question about it comes with the next turn of the loop.
    undo.push(() => this.roster.overlays.delete(plan.name));
    this.roster.overlays.set(plan.name, overlay);
    return overlay;
  }

  async #bringUp(name: string): Promise<Failure[]> {
    const failures: Failure[] = [];
    const attempt = async (what: string, work: () => void | Promise<void>): Promise<boolean> => {
      try {
        await work();
        this.roster.reasons.delete(what);
        return true;
      } catch (error) {
        const { message, details } = asOverlayError(error);
        const reason = details.length === 0 ? message : details.join('; ');
        this.roster.reasons.set(what, reason);
        this.#workshop.log.error(`up ${what}`, `${what} could not be brought up: ${reason}`);
        failures.push({ name: what, message: reason });
        return false;
      }
    };
    const stored = this.#store.overlays.get(name);
    const running = this.roster.overlays.get(name);
    const isUp = await attempt(name, async () => {
      if (running !== undefined) await running.mendPorts();
      else if (stored !== undefined) await this.#restart(stored);
    });
    if (!isUp) {
      if (stored !== undefined && running === undefined) this.#awaitAddress(stored);
      return failures;
    }
    this.#forgetWait(name);
    const overlay = this.roster.overlays.get(name)!;
    for (const vnic of stored?.vnics ?? []) {
      if (overlay.vnics.has(vnic.name)) continue;
      await attempt(vnic.name, () => {
        this.#restartVnic(overlay, vnic);
      });
    }
    return failures;
  }

  /** A host that is booting has its addresses later than its daemons: what fails for want of one is tried again then. */
  #awaitAddress({ name, properties }: StoredOverlay): void {
    const { watch, log } = this.#workshop;
    const ip = parseIp(properties.find(([property]) => property === 'vxlan/listen_ip')?.[1] ?? '');
    this.#forgetWait(name);
    if (ip === undefined || watch.isUsable(ip)) return;
    const waiting = watch.awaitAddress(ip, () => {
      log.info(`up ${name}`, `${name}: ${ip} is an address of this host now`);
      // What fails is logged. It may have been deleted, or started, just now.
      if (this.#store.overlays.has(name) && !this.roster.overlays.has(name)) void this.up({ name });
    });
    this.#waiting.set(name, waiting);
  }

  #forgetWait(name: string): void {
    this.#waiting.get(name)?.stop();
    this.#waiting.delete(name);
  }

  async #restart(stored: StoredOverlay): Promise<void> {
    const { name, id, encap, search, vnetid, mac, properties } = stored;
    const found = { mac: needMac(mac), temporary: false, isNew: false };
    const plan = { name, id, encap, search, vnetid, properties, ...found };
    if (this.roster.withId(id) !== undefined) throw new OverlayError('EXISTS', `varpd/id ${id} is in use`);
    this.#checkLink(name);
    await this.#allOrNothing(async (undo) => {
      await this.#start(plan, undo);
    });
  }

  #restartVnic(
    overlay: Overlay,
    { name, mac, macType, vid, properties = [], leases = [] }: StoredVnic,
  ): void {
    if (this.roster.runs(name)) throw exists();
    this.#checkLink(name);
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
    if (this.roster.isStored(name) || this.roster.runs(name)) throw exists();
    this.#checkLink(name);
  }

  #checkLink(name: string): void {
    if (this.#workshop.links.isForeign(name))
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

/** The command has named it: there is no more to say than the status words. */
function notFound(): OverlayError {
  return new OverlayError('NOT_FOUND', STATUS_WORDS.NOT_FOUND);
}

function exists(): OverlayError {
  return new OverlayError('EXISTS', STATUS_WORDS.EXISTS);
}

function busy(name: string, vnics: readonly string[]): OverlayError {
  return new OverlayError(
    'BUSY',
    `${name} has VNICs over it: ${vnics.slice(0, 10).join(', ')}; delete them first`,
  );
}
