/**
 * Starts overlays, and brings up the stored ones: at the start of varpd, when an operator asks, and by itself
 * again and again as long as a part does not run (retries.ts). An overlay or VNIC that fails prevents no
 * other from starting.
 */
import type { Failure } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import { readLinkValues } from '../../model/link-properties.js';
import { inUse } from '../../model/sentences.js';
import { type IpAddress, parse as parseIp } from '../../wire/ip.js';
import type { StateStore } from '../state/persistence.js';
import type { StoredOverlay, StoredVnic } from '../state/state-schema.js';
import { allOrNothing, type UndoStack } from '../../model/undo.js';
import { type KeyedQueue, undoFailed } from '../undo.js';
import type { OverlayDirectory } from './directory.js';
import { exists, type NewNames } from './change/new-names.js';
import type { Earlier } from './change/overlay-values.js';
import { needMac } from './overlay-errors.js';
import type { OverlayPlan, OverlayServices } from './overlay-plan.js';
import { RunningOverlay } from './running-overlay.js';
import { Retries } from './retries.js';

type UpResult = Methods['overlay.up']['result'];

export class BringUp {
  readonly #services: OverlayServices;
  readonly #store: Pick<StateStore, 'overlays' | 'save'>;
  readonly #directory: OverlayDirectory;
  readonly #names: NewNames;
  readonly #changes: KeyedQueue;
  readonly #changed: () => void;
  readonly #retries: Retries;

  /** `changed`: called when something was brought up, or failed to come up. */
  constructor(
    services: OverlayServices,
    store: Pick<StateStore, 'overlays' | 'save'>,
    directory: OverlayDirectory,
    names: NewNames,
    changes: KeyedQueue,
    changed: () => void,
  ) {
    this.#services = services;
    this.#store = store;
    this.#directory = directory;
    this.#names = names;
    this.#changes = changes;
    this.#changed = changed;
    this.#retries = new Retries(services.watch, (name) => this.#retry(name));
  }

  /** Called at the start of varpd: starts everything stored. Until it is up it is shown as being started. */
  raise(): Promise<UpResult> {
    for (const { name, vnics } of this.#store.overlays.values())
      for (const one of [name, ...vnics.map((vnic) => vnic.name)])
        this.#directory.reasons.set(one, 'it is being started');
    return this.up();
  }

  /**
   * Starts stored overlays and VNICs that do not run, and opens lost devices again; goes on past failures.
   */
  async up(name?: string): Promise<UpResult> {
    if (name !== undefined && this.#directory.idOf(name) === 0) this.#directory.need(name);
    const names = name === undefined ? this.#directory.names() : [name];
    const failures = await Promise.all(
      names.map((one) => this.#changes.run(one, () => this.#bringUp(one, false))),
    );
    return { failures: failures.flat() };
  }

  /** The overlay is not tried again. */
  forget(name: string): void {
    this.#retries.forget(name);
  }

  /** The overlay has another name, under which its parts that do not run are tried again. */
  renamed(from: string, to: string): void {
    this.#retries.forget(from);
    const stored = this.#store.overlays.get(to);
    if (stored !== undefined && !this.#isWhole(stored)) this.#retries.later(to, undefined, 0);
  }

  /** No overlay is tried again. */
  stop(): void {
    this.#retries.stop();
  }

  /** Checks a plan without any effect. Throws an OverlayError, also when another overlay has the same network. */
  check(plan: OverlayPlan, earlier?: Earlier): RunningOverlay {
    const overlay = RunningOverlay.check(plan, this.#services);
    for (const network of overlay.networks) this.#directory.refuseTwin(network, plan.name, earlier);
    return overlay;
  }

  /**
   * Starts a new or stored overlay. Fails when another overlay has the same network. Adds its steps to
   * `undo`.
   */
  async start(plan: OverlayPlan, undo: UndoStack): Promise<RunningOverlay> {
    const overlay = this.check(plan);
    this.#directory.starting.set(plan.name, overlay);
    try {
      await overlay.start(undo);
    } finally {
      this.#directory.starting.delete(plan.name);
    }
    // Only an overlay that works is visible to others.
    undo.push(() => this.#directory.overlays.delete(plan.name));
    this.#directory.overlays.set(plan.name, overlay);
    return overlay;
  }

  /**
   * Brings up one overlay with its VNICs. A failure is recorded with its reason, and tried again. `isRetry`:
   * no operator has asked, so only news is logged, and VNICs that were deleted with -t stay away.
   */
  async #bringUp(name: string, isRetry: boolean): Promise<Failure[]> {
    const failures: Failure[] = [];
    const { reasons } = this.#directory;
    const attempt = async (what: string, work: () => void | Promise<void>): Promise<void> => {
      try {
        await work();
        if (reasons.delete(what) && isRetry) this.#services.log.info(`up ${what}`, `${what} is up now`);
      } catch (error) {
        const { message, details } = asOverlayError(error);
        const reason = details.length === 0 ? message : details.join('; ');
        if (!isRetry || reasons.get(what) !== reason)
          this.#services.log.error(`up ${what}`, `${what} could not be brought up: ${reason}`);
        // An overlay that runs reports its trouble by its health.
        if (!this.#directory.runs(what)) reasons.set(what, reason);
        failures.push({ name: what, message: reason });
      }
    };
    const startedMs = performance.now();
    let stored = this.#store.overlays.get(name);
    const running = this.#directory.overlays.get(name);
    await attempt(name, async () => {
      if (running !== undefined) await running.mend();
      else if (stored !== undefined) await this.#restart(stored);
    });
    const overlay = this.#directory.overlays.get(name);
    if (overlay !== undefined && stored !== undefined)
      await attempt(name, async () => {
        stored = await this.#withoutEnded(overlay, stored!);
      });
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

  /**
   * Forgets VNICs with interfaces in other network namespaces that have ended, with the namespace or with the
   * previous varpd. Made again, an interface would be in the wrong namespace. Resolves to what is stored then.
   */
  async #withoutEnded(overlay: RunningOverlay, stored: StoredOverlay): Promise<StoredOverlay> {
    const hasEnded = ({ name, attachment }: StoredVnic): boolean =>
      attachment !== undefined && !overlay.vnics.has(name) && !this.#services.datapath.hasLeft(name);
    const ended = stored.vnics.filter(hasEnded);
    if (ended.length === 0) return stored;
    const rest = { ...stored, vnics: stored.vnics.filter((vnic) => !ended.includes(vnic)) };
    await this.#store.save(rest);
    for (const { name, attachment } of ended) {
      this.#directory.reasons.delete(name);
      this.#services.log.warn(
        `ended ${name}`,
        `${name}: its interface has ended; it was that of ${attachment}`,
      );
    }
    return rest;
  }

  /** Whether no part of the overlay waits for another attempt. */
  #isWhole({ name, vnics }: StoredOverlay): boolean {
    return ![name, ...vnics.map((vnic) => vnic.name)].some((one) => this.#directory.reasons.has(one));
  }

  /** Tries again to bring up the parts that do not run. Never rejects. */
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
    if (this.#directory.withId(id) !== undefined)
      throw new OverlayError('EXISTS', `varpd/id ${id} is in use`);
    const { datapath, plugins, snapshot } = this.#services;
    const isLeft = datapath.hasLeft(name);
    if (!isLeft) this.#names.checkLink(name);
    // A plugin that is being imported is waited for, unless the overlay can go on without it.
    if (!isLeft || !snapshot.hasRecent(name, plan.mac)) await plugins.find(search);
    await allOrNothing((undo) => this.start(plan, undo), undoFailed(this.#services.log));
  }

  #restartVnic(
    overlay: RunningOverlay,
    { name, mac, macType, vid, properties = [], leases = [], attachment }: StoredVnic,
  ): void {
    if (this.#directory.runs(name)) throw exists(name);
    if (!this.#services.datapath.hasLeft(name)) this.#names.checkLink(name);
    const address = needMac(mac);
    if (overlay.hasMac(address)) throw inUse(mac, overlay.name);
    const found = { temporary: false, properties: readLinkValues(properties), leases };
    const rest = { macType, vid, ...(attachment !== undefined && { attachment }) };
    overlay.addVnic({ name, mac: address, ...rest, ...found });
  }
}

function listenIpOf({ encap, properties }: StoredOverlay): IpAddress | undefined {
  return parseIp(properties.find(([property]) => property === `${encap}/listen_ip`)?.[1] ?? '');
}
