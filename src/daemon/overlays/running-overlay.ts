/**
 * One running overlay: its properties, and its parts: plugin, links, ports, targets.
 *
 * Starting it is a row of steps that each may fail; the steps before are undone then. Afterwards the object
 * only holds state and answers questions. The registry decides which overlays may exist side by side.
 */
import type { RunningOverlayInfo, VnicInfo } from '../../control/messages.js';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { KnownPlaces, OverlayDatapath } from '../../datapath/contract.js';
import { type Encapsulation, overheadBytes } from '../../encap/index.js';
import { tunnelValues } from '../../model/overlay-specs.js';
import type { PropertySet } from '../../model/properties.js';
import type { LookupPlugin, MacAddress } from '../../plugin/contract.js';
import { type Endpoint, family, type IpAddress, isSameEndpoint } from '../../wire/ip.js';
import { Health } from '../health.js';
import type { Swap } from '../plugins/attempts.js';
import type { ServedOverlay } from '../plugins/knowledge.js';
import type { OverlaySnapshot, PortSnapshot } from '../state/snapshot.js';
import type { UndoStack } from '../../model/undo.js';
import { type Change, planChange, type PlannedChange } from './change/live-change.js';
import {
  chooseMtu,
  linkStateOf,
  type Network,
  networksOf,
  type OverlayValues,
  queuesOf,
  servedOf,
  settingsOf,
} from './change/overlay-values.js';
import { bindError } from './overlay-errors.js';
import { listenerOf } from './overlay-events.js';
import { OverlayLinks } from './overlay-links.js';
import type { OverlayPlan, OverlayServices, Vnic, VnicChange, VnicPlan } from './overlay-plan.js';
import { OverlayPlugin, type Prepare } from './overlay-plugin.js';
import { OverlayPorts, type PortInfo, type PortPlace } from './overlay-ports.js';
import { checkMode, needEncapsulation, needPlugin, readProperties } from './overlay-properties.js';
import { OverlayTargets } from './overlay-targets.js';
import { PathWatch } from './path-watch.js';
import { SourceWatch } from './source-watch.js';

export class RunningOverlay {
  readonly targets = new OverlayTargets(this);
  readonly #services: OverlayServices;
  mode: 'point' | 'dynamic';
  /** The values in force. */
  readonly #values: OverlayValues;
  readonly #encapsulation: Encapsulation;
  readonly #plugin: OverlayPlugin;
  /** Snapshot of an overlay that goes on from an earlier daemon. */
  readonly #before: OverlaySnapshot | undefined;
  readonly health: Health;
  readonly #links: OverlayLinks;
  readonly #ports: OverlayPorts;
  readonly #sources: SourceWatch;
  readonly #paths: PathWatch;
  /** Set once the overlay has started. */
  #datapath: OverlayDatapath | undefined;

  private constructor(
    plan: OverlayPlan,
    plugin: LookupPlugin | undefined,
    properties: PropertySet,
    services: OverlayServices,
  ) {
    this.#services = services;
    this.#encapsulation = needEncapsulation(plan);
    const tunnel = tunnelValues(this.#encapsulation, properties);
    this.#values = { plan, properties, tunnel, destination: undefined, leaving: undefined };
    this.health = new Health(plan.name, services.log);
    const { datapath, log, limits, watch, links, snapshot } = services;
    const before = plan.isNew ? undefined : snapshot.of(plan.name, plan.mac, this.listen);
    this.mode = plugin?.mode ?? before?.mode ?? 'dynamic';
    // A snapshot of another mode than the plugin's is not used.
    this.#before = before?.mode === this.mode ? before : undefined;
    const overhead = overheadBytes(this.#encapsulation, family(this.listen.ip));
    const place = { overlay: plan.name, listenIp: this.listen.ip, overheadBytes: overhead };
    const macChanged = (port: string, mac: MacAddress): void => {
      this.#ports.macChanged(port, mac);
    };
    this.#links = new OverlayLinks(place, { watch, datapath, links, health: this.health, log, macChanged });
    this.#sources = new SourceWatch(this.health, log);
    this.#paths = new PathWatch(this.#encapsulation, this.health);
    const reprotect = (): void => {
      this.#ports.reprotect();
    };
    const pluginServices = { log, health: this.health, limits, files: services.pluginFiles, reprotect };
    const prepare: Prepare = async () => {
      await services.plugins.find(plan.search);
      const found = checkMode(needPlugin(plan, services), this.mode);
      return { plugin: found, properties: plugin === undefined ? this.#typed(found) : this.properties };
    };
    this.#plugin = new OverlayPlugin(plan.search, servedOf(this.#values), pluginServices, prepare, {
      started: (properties, destination) => {
        this.#pluginStarted(properties, destination);
        reprotect();
      },
    });
    this.#ports = new OverlayPorts(this.#values, {
      links: this.#links,
      plugin: this.#plugin,
      health: this.health,
      before: this.#before?.ports,
    });
  }

  /**
   * Checks the plan without any effect. Throws an OverlayError that names all errors of the properties. An
   * overlay with links from an earlier daemon may lack its plugin for now.
   */
  static check(plan: OverlayPlan, services: OverlayServices): RunningOverlay {
    needEncapsulation(plan);
    const plugin = services.plugins.get(plan.search);
    if (plugin === undefined && (plan.isNew || !services.datapath.hasLeft(plan.name)))
      needPlugin(plan, services);
    return new RunningOverlay(plan, plugin, readProperties(plan, plugin, services), services);
  }

  get plan(): OverlayPlan {
    return this.#values.plan;
  }

  get name(): string {
    return this.plan.name;
  }

  get mac(): MacAddress {
    return this.plan.mac;
  }

  get id(): number {
    return this.plan.id;
  }

  get listen(): Endpoint {
    return this.#values.tunnel.listen;
  }

  /** The networks that no other overlay may have: as `networksOf`. */
  get networks(): readonly Network[] {
    return networksOf(this.#values);
  }

  /** Throws before the overlay has started. */
  get datapath(): OverlayDatapath {
    if (this.#datapath === undefined) throw new Error(`${this.name} is not in the datapath`);
    return this.#datapath;
  }

  get properties(): PropertySet {
    return this.#values.properties;
  }

  /** Destination of a point overlay. */
  get destination(): Endpoint | undefined {
    return this.#values.destination;
  }

  get mtuBytes(): number {
    return this.properties.uint('mtu');
  }

  /**
   * Starts plugin, underlay socket and own port. Rejects with an OverlayError; `undo` holds the steps done.
   * An overlay with an own link from an earlier daemon goes on at once: it waits for its plugin only if it
   * has no recent snapshot.
   */
  async start(undo: UndoStack): Promise<void> {
    const { datapath } = this.#services;
    const { plan, properties } = this;
    const linkState = linkStateOf(properties, datapath);
    const isLeft = !plan.isNew && datapath.hasLeft(plan.name);
    const goesOn = isLeft && this.#before?.isRecent === true;
    let failure: unknown;
    undo.push(() => this.#plugin.stop());
    if (!goesOn) {
      try {
        this.#values.destination = await this.#plugin.start();
      } catch (error) {
        if (!isLeft) throw error;
        failure = error;
      }
    }
    // Until the plugin knows better.
    const before = goesOn || failure !== undefined ? this.#before : undefined;
    this.#values.destination ??= before?.destination;
    const asked = { encapsulation: this.#encapsulation, isAsked: plan.isNew, destinations: this.#mtuPeers };
    const largestMtuBytes = chooseMtu({ ...this.#values, ...asked }, this.#services);
    const targets = before ?? (this.#before?.isRecent === true ? this.#before : undefined);
    const known = { peers: before?.peers ?? [], targets: targets?.targets ?? [] };
    const handle = await this.#addToDatapath(isLeft, known);
    this.#datapath = handle;
    undo.push(() => (plan.isNew ? handle.remove() : handle.withdraw()));
    this.#links.start(handle, linkState, this.destination?.ip);
    undo.push(() => {
      this.#links.stop();
      this.#sources.stop();
      this.#paths.stop();
    });
    this.#ports.openOwn(handle, this.mtuBytes, largestMtuBytes);
    this.#plugin.attach(handle);
    if (goesOn || failure !== undefined) this.#plugin.startLater(failure);
  }

  async #addToDatapath(mayLackAddress: boolean, known: KnownPlaces): Promise<OverlayDatapath> {
    const { datapath, limits } = this.#services;
    const { plan, destination } = this;
    try {
      const config = {
        id: plan.id,
        encapsulation: this.#encapsulation.name,
        mode: this.mode,
        ...(destination !== undefined && { destination }),
        ...settingsOf(this.#values),
        mayLackAddress,
        queues: queuesOf(this.#values, this.#services),
        negativeTtlMs: limits().negativeTtlMs,
        maxTargets: limits().maxTargets,
        known,
      };
      const own = { plugin: this.#plugin, ports: this.#ports, links: this.#links, leased: this.leased };
      const listener = listenerOf({ ...own, paths: this.#paths, sources: this.#sources });
      return await datapath.addOverlay(config, listener);
    } catch (error) {
      throw bindError(error, plan.encap, this.listen);
    }
  }

  /** The plugin has started after the overlay, which had no destination, or that of the snapshot. */
  #pluginStarted(properties: PropertySet, destination: Endpoint | undefined): void {
    this.#values.properties = properties;
    if (destination === undefined) return;
    const before = this.destination;
    this.mode = 'point';
    this.#values.destination = destination;
    if (before === undefined || !isSameEndpoint(before, destination))
      this.datapath.setDestination(destination);
  }

  /** The properties of an overlay that has been without its plugin until now. */
  #typed(plugin: LookupPlugin): PropertySet {
    const properties = readProperties(this.plan, plugin, this.#services);
    properties.setDefault('mtu', this.mtuBytes);
    return properties;
  }

  /** Other values of properties. Throws an OverlayError: live-change.ts. */
  change(change: Change): PlannedChange {
    const parts = { plugin: this.#plugin, ports: this.#ports, links: this.#links, datapath: this.datapath };
    const [values, encapsulation, services] = [this.#values, this.#encapsulation, this.#services];
    return planChange({ ...parts, values, encapsulation, services, peers: this.#mtuPeers }, change);
  }

  /** Gives it and its interface another name, as `change`. */
  async rename(to: string, undo: UndoStack): Promise<() => Promise<void>> {
    const { name } = this;
    const code = this.#services.plugins.get(this.plan.search);
    const swap = code && (await this.prepareSwap(code, servedOf(this.#values, to)));
    if (swap !== undefined) undo.push(swap.abandon);
    const stored = this.#setName(to);
    undo.push(() => {
      this.#setName(name)();
    });
    return async () => {
      stored();
      await swap?.commit();
    };
  }

  #setName(name: string): () => void {
    return this.#ports.renameOwn(name, () => {
      this.#values.plan = { ...this.plan, name };
      this.health.overlay = name;
      this.#links.renamed(name);
    });
  }

  /** Addresses that decide about the default MTU. */
  get #mtuPeers(): readonly IpAddress[] {
    const { destination } = this;
    return destination === undefined ? (this.#plugin.peers ?? this.#before?.peers ?? []) : [destination.ip];
  }

  /** As `OverlayPlugin.prepareSwap`. */
  async prepareSwap(plugin: LookupPlugin, served?: ServedOverlay): Promise<Swap> {
    return this.#plugin.prepareSwap(checkMode(plugin, this.mode), this.#typed(plugin), served);
  }

  /** Resolves when the plugin has been tried once. */
  get settled(): Promise<void> {
    return this.#plugin.settled;
  }

  /** Stops lookups and events; frames with known targets still move. */
  async quiesce(): Promise<void> {
    this.#datapath?.mute();
    this.#links.stop();
    this.#sources.stop();
    this.#ports.stop();
    await this.#plugin.stop();
  }

  /** The plugin stops first, so that it gets no lookup of an overlay that is going away. */
  async stop(): Promise<void> {
    await this.quiesce();
    await this.#datapath?.remove();
  }

  /** Rejects with an OverlayError when the plugin's new data is not valid. */
  reload(): Promise<void> {
    return this.#plugin.reload();
  }

  // -- Ports

  get vnics(): ReadonlyMap<string, Vnic> {
    return this.#ports.vnics;
  }

  hasMac(mac: MacAddress): boolean {
    return this.#ports.hasMac(mac);
  }

  addVnic(plan: VnicPlan): void {
    this.#ports.addVnic(plan);
  }

  changeVnic(name: string, change: VnicChange): void {
    this.#ports.changeVnic(name, change);
  }

  renameVnic(from: string, to: string): () => void {
    return this.#ports.renameVnic(from, to);
  }

  removeVnic(name: string): Promise<void> {
    return this.#ports.removeVnic(name);
  }

  /** Puts the present rules of a VNIC in force. */
  protect(name: string): void {
    this.#ports.protect(name);
  }

  /** VNICs of this overlay were granted addresses by DHCP, or have given some up. */
  readonly leased = (news: readonly LeaseNews[]): void => {
    if (this.#ports.leased(news)) this.#services.leasesChanged(this.id);
  };

  /**
   * Opens lost devices again, and starts the plugin if it does not run. Rejects with an OverlayError at the
   * first that fails.
   */
  async mend(): Promise<void> {
    await this.#ports.mend();
    await this.#plugin.mend();
  }

  vnicInfo(vnic: Vnic): VnicInfo {
    return this.#ports.vnicInfo(vnic);
  }

  /** The overlay's own port and those of its VNICs. */
  ports(): PortInfo[] {
    return this.#ports.list();
  }

  places(): Iterable<PortPlace> {
    return this.#ports.places();
  }

  portSnapshots(): Iterable<[string, PortSnapshot]> {
    return this.#ports.snapshots();
  }

  // -- Information about the overlay

  info(): RunningOverlayInfo {
    return {
      name: this.name,
      temporary: this.plan.temporary,
      mode: this.mode,
      properties: this.properties.rows(),
      health: this.health.report(),
      mapping: this.#plugin.mapping,
      underlay: this.#links.info,
      peers: this.#links.destinationCount,
      offloads: this.datapath.offloads,
      counters: this.datapath.counters(),
    };
  }

  get plugin(): Pick<OverlayPlugin, 'lookupTimes' | 'counts' | 'answerOf' | 'neighbor' | 'placeOf'> {
    return this.#plugin;
  }

  get links(): Pick<OverlayLinks, 'carrier' | 'destinationCount' | 'info' | 'macOf'> {
    return this.#links;
  }
}
