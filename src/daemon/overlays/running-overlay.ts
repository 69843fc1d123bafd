/**
 * One running overlay: its properties, and its parts: plugin, links, ports, targets.
 *
 * Starting it is a row of steps that each may fail; the steps before are undone then. Afterwards the object
 * only holds state and answers questions. The registry decides which overlays may exist side by side.
 */
import { availableParallelism } from 'node:os';
import type { RunningOverlayInfo, VnicInfo } from '../../control/messages.js';
import type { LeaseNews } from '../../core/dhcp-leases.js';
import type { Notice } from '../../core/notices.js';
import type { KnownPlaces, OverlayDatapath, OverlayListener } from '../../datapath/contract.js';
import { type Encapsulation, overheadBytes } from '../../encap/index.js';
import { OverlayError } from '../../model/errors.js';
import {
  LINK_STATE,
  OFFLOAD,
  queueCount,
  type TunnelValues,
  tunnelValues,
} from '../../model/overlay-specs.js';
import { foundExpected, type PropertySet } from '../../model/properties.js';
import { failedToSet } from '../../model/sentences.js';
import type { LookupPlugin, MacAddress } from '../../plugin/contract.js';
import { type Endpoint, family, isSameEndpoint } from '../../wire/ip.js';
import { Health } from '../health.js';
import type { OverlaySnapshot, PortSnapshot } from '../state/snapshot.js';
import { defaultMtuBytes, largestMtuBytes } from '../underlay/mtu.js';
import type { UndoStack } from '../undo.js';
import { bindError } from './overlay-errors.js';
import { OverlayLinks } from './overlay-links.js';
import type { OverlayPlan, OverlayServices, Vnic, VnicPlan } from './overlay-plan.js';
import { OverlayPlugin, type Prepare } from './overlay-plugin.js';
import { OverlayPorts, type PortInfo, type PortPlace } from './overlay-ports.js';
import { needEncapsulation, needPlugin, readProperties } from './overlay-properties.js';
import { OverlayTargets } from './overlay-targets.js';
import { PathWatch } from './path-watch.js';
import { SourceWatch } from './source-watch.js';

export class RunningOverlay {
  readonly targets = new OverlayTargets(this);
  readonly #services: OverlayServices;
  mode: 'point' | 'dynamic';
  #properties: PropertySet;
  readonly #encapsulation: Encapsulation;
  readonly #tunnel: TunnelValues;
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
  /** Destination of a point overlay, once it has started. */
  #destination: Endpoint | undefined;

  private constructor(
    readonly plan: OverlayPlan,
    plugin: LookupPlugin | undefined,
    properties: PropertySet,
    services: OverlayServices,
  ) {
    this.#services = services;
    this.#properties = properties;
    this.#encapsulation = needEncapsulation(plan);
    this.#tunnel = tunnelValues(this.#encapsulation, properties);
    this.health = new Health(plan.name, services.log);
    const { datapath, log, limits, watch, links, snapshot } = services;
    const { listen } = this;
    const before = plan.isNew ? undefined : snapshot.of(plan.name, plan.mac, listen);
    this.mode = plugin?.mode ?? before?.mode ?? 'dynamic';
    // A snapshot of another mode than the plugin's is not used.
    this.#before = before?.mode === this.mode ? before : undefined;
    const headerBytes = overheadBytes(this.#encapsulation, family(listen.ip));
    const place = { overlay: plan.name, listenIp: listen.ip, overheadBytes: headerBytes };
    const macChanged = (port: string, mac: MacAddress): void => {
      this.#ports.macChanged(port, mac);
    };
    this.#links = new OverlayLinks(place, { watch, datapath, links, health: this.health, log, macChanged });
    this.#sources = new SourceWatch(plan.name, this.health, log);
    this.#paths = new PathWatch(this.#encapsulation, this.health);
    const served = { overlay: plan.name, vnetid: plan.vnetid, listen };
    const reprotect = (): void => {
      this.#ports.reprotect();
    };
    const pluginServices = { log, health: this.health, limits, reprotect };
    const prepare: Prepare = async () => {
      await services.plugins.find(plan.search);
      const found = needPlugin(plan, services);
      if (found.mode === 'dynamic' && this.mode === 'point')
        throw new OverlayError(
          'INVALID',
          'it had one destination for all, and now is asked for each MAC: delete it and create it again',
        );
      return { plugin: found, properties: plugin === undefined ? this.#typed(found) : this.#properties };
    };
    this.#plugin = new OverlayPlugin(plan.search, served, pluginServices, prepare, {
      started: (properties, destination) => {
        this.#pluginStarted(properties, destination);
        reprotect();
      },
    });
    this.#ports = new OverlayPorts(plan, {
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
    return this.#tunnel.listen;
  }

  /** Throws before the overlay has started. */
  get datapath(): OverlayDatapath {
    if (this.#datapath === undefined) throw new Error(`${this.name} is not in the datapath`);
    return this.#datapath;
  }

  get properties(): PropertySet {
    return this.#properties;
  }

  /** Destination of a point overlay. */
  get destination(): Endpoint | undefined {
    return this.#destination;
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
    const linkState = properties.word('link-state', LINK_STATE);
    if (linkState === 'follow' && !datapath.features['tapCarrier'])
      throw new OverlayError('UNSUPPORTED', "link-state: 'follow' needs Linux 5.0 or newer");
    const isLeft = !plan.isNew && datapath.hasLeft(plan.name);
    const goesOn = isLeft && this.#before?.isRecent === true;
    let failure: unknown;
    undo.push(() => this.#plugin.stop());
    if (!goesOn) {
      try {
        this.#destination = await this.#plugin.start();
      } catch (error) {
        if (!isLeft) throw error;
        failure = error;
      }
    }
    // Until the plugin knows better.
    const before = goesOn || failure !== undefined ? this.#before : undefined;
    this.#destination ??= before?.destination;
    const largestMtuBytes = this.#chooseMtu();
    const targets = before ?? (this.#before?.isRecent === true ? this.#before : undefined);
    const known = { peers: before?.peers ?? [], targets: targets?.targets ?? [] };
    const handle = await this.#addToDatapath(isLeft, known);
    this.#datapath = handle;
    undo.push(() => (plan.isNew ? handle.remove() : handle.withdraw()));
    this.#links.start(handle, linkState, this.#destination?.ip);
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
    const { datapath, limits, log } = this.#services;
    const { plan, properties } = this;
    const destination = this.#destination;
    const queues = queueCount(properties.text('queues'), availableParallelism());
    if (queues > 1 && !datapath.features['tapSteering'])
      log.warn(
        `queues ${plan.name}`,
        `${plan.name}: one thread carries all that its links send, so that flows stay in order: varpd could not load its BPF program (start it with CAP_BPF)`,
      );
    try {
      const config = {
        id: plan.id,
        encapsulation: this.#encapsulation.name,
        vnetid: plan.vnetid,
        mtuBytes: this.mtuBytes,
        mode: this.mode,
        ...(destination !== undefined && { destination }),
        ...this.#tunnel,
        mayLackAddress,
        queues,
        offload: properties.word('offload', OFFLOAD),
        negativeTtlMs: limits().negativeTtlMs,
        maxTargets: limits().maxTargets,
        known,
      };
      return await datapath.addOverlay(config, this.#listener());
    } catch (error) {
      throw bindError(error, plan.encap, this.listen);
    }
  }

  #listener(): OverlayListener {
    return {
      lookups: this.#plugin.lookups,
      portFault: (port, code) => {
        this.#ports.failed(port, code);
      },
      leased: (news) => {
        this.leased(news);
      },
      peers: (added, removed) => {
        this.#links.peersChanged(added, removed);
      },
      pathLearned: (to, mtuBytes) => {
        this.#paths.learned(to, mtuBytes);
      },
      noticed: (notices) => {
        for (const notice of notices) this.#noticed(notice);
      },
    };
  }

  /** The plugin has started after the overlay, which had no destination, or that of the snapshot. */
  #pluginStarted(properties: PropertySet, destination: Endpoint | undefined): void {
    this.#properties = properties;
    if (destination === undefined) return;
    const before = this.#destination;
    this.mode = 'point';
    this.#destination = destination;
    if (before === undefined || !isSameEndpoint(before, destination))
      this.datapath.setDestination(destination);
  }

  /** The properties of an overlay that has been without its plugin until now. */
  #typed(plugin: LookupPlugin): PropertySet {
    const properties = readProperties(this.plan, plugin, this.#services);
    properties.setDefault('mtu', this.mtuBytes);
    return properties;
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

  removeVnic(name: string): Promise<void> {
    return this.#ports.removeVnic(name);
  }

  /** Puts the present rules of a VNIC in force. */
  protect(name: string): void {
    this.#ports.protect(name);
  }

  /** VNICs of this overlay were granted addresses by DHCP, or have given some up. */
  leased(news: readonly LeaseNews[]): void {
    if (this.#ports.leased(news)) this.#services.leasesChanged(this.name);
  }

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
      underlay: this.#links.info,
      peers: this.#links.destinationCount,
      offloads: this.datapath.offloads,
      counters: this.datapath.counters(),
    };
  }

  get plugin(): Pick<OverlayPlugin, 'lookupTimes' | 'answerOf' | 'neighbor' | 'placeOf'> {
    return this.#plugin;
  }

  get links(): Pick<OverlayLinks, 'carrier' | 'destinationCount' | 'macOf'> {
    return this.#links;
  }

  // -- Steps

  #noticed(notice: Notice): void {
    if (notice.kind === 'narrowPath') this.#paths.heard(notice);
    else this.#sources.heard(notice, this.#ports.withMac(notice.mac));
  }

  /** The largest MTU that the route carries, or undefined when there is no route to tell. */
  #chooseMtu(): number | undefined {
    const { datapath, links, log } = this.#services;
    const named = this.#plugin.peers ?? this.#before?.peers ?? [];
    const destinations = this.#destination === undefined ? named : [this.#destination.ip];
    const encapsulation = this.#encapsulation;
    const underlay = { datapath, links, encapsulation, listenIp: this.listen.ip, destinations };
    this.properties.setDefault('mtu', defaultMtuBytes(underlay));
    const largest = largestMtuBytes(underlay);
    if (largest === undefined || this.mtuBytes <= largest) return largest;
    const why = foundExpected(String(this.mtuBytes), `at most ${largest}: the route carries no more`);
    if (this.plan.isNew && this.properties.wasGiven('mtu'))
      throw new OverlayError('INVALID', failedToSet('mtu', why));
    log.warn(`mtu ${this.name}`, `${this.name}: mtu: ${why}; larger frames will be dropped`);
    return largest;
  }
}
