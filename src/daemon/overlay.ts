/**
 * One running overlay: its properties, its plugin instance, its own port, its VNICs.
 *
 * Starting one is a row of steps that each may fail, and what was done before is undone then. Afterwards the object
 * only holds state and answers questions; who may exist beside whom is decided by the registry.
 */
import { availableParallelism } from 'node:os';
import type { RunningOverlayInfo, TargetPage, VnicInfo } from '../control/messages.js';
import type { LeaseNews } from '../core/dhcp-leases.js';
import { OverlayError } from '../core/errors.js';
import type { ProtectionRules } from '../core/link-protection.js';
import type { Notice } from '../core/notices.js';
import {
  ACCEPT,
  DSCP,
  foundExpected,
  LINK_STATE,
  OFFLOAD,
  overlaySpecs,
  PropertySet,
  queueCount,
  STRICT_SOURCE,
  UDP_CHECKSUM,
  VLAN,
} from '../core/properties.js';
import type { LookupPlugin, MacAddress } from '../plugin/contract.js';
import * as vlan from '../wire/vlan.js';
import { type Endpoint, formatEndpoint, type IpAddress } from '../wire/ip.js';
import { formatMac } from '../wire/mac.js';
import type { LookupRequest } from './datapath/contract.js';
import { Health } from './health.js';
import { defaultMtuBytes, largestMtuBytes } from './mtu.js';
import { bindError, deviceFault, needDestination, needMac, tapError, unknownKind } from './overlay-errors.js';
import { OverlayLinks } from './overlay-links.js';
import type { OverlayPlan, Vnic, VnicPlan, Workshop } from './overlay-plan.js';
import { OverlayPlugin, type Prepare } from './overlay-plugin.js';
import { isSame } from './plugin-answer.js';
import type { OverlaySnapshot, PortSnapshot } from './snapshot.js';
import { SourceWatch } from './source-watch.js';
import type { UndoStack } from './undo.js';
import { VnicProtection } from './vnic-protection.js';

/** Rows of `show-overlay -t` in one answer, as illumos fetches them. */
export const TARGET_PAGE_ROWS = 100;

type PortInfo = Pick<VnicInfo, 'name' | 'state' | 'counters'>;

const POINT_TARGET = '*:*:*:*:*:*';

export class Overlay {
  readonly vnics = new Map<string, Vnic>();
  readonly #workshop: Workshop;
  /** What the route carried when the overlay was started. */
  #largestMtuBytes = Infinity;
  mode: 'point' | 'dynamic';
  #properties: PropertySet;
  readonly #plugin: OverlayPlugin;
  /** Of an overlay that goes on from an earlier daemon, what that knew. */
  readonly #before: OverlaySnapshot | undefined;
  readonly #health: Health;
  readonly #links: OverlayLinks;
  readonly #sources: SourceWatch;
  /** Of a point overlay, once it has started. */
  #destination: Endpoint | undefined;
  /** Why the overlay's own device does not work. */
  #fault: string | undefined;

  private constructor(
    readonly plan: OverlayPlan,
    plugin: LookupPlugin | undefined,
    properties: PropertySet,
    workshop: Workshop,
  ) {
    this.#workshop = workshop;
    this.#properties = properties;
    this.#health = new Health(plan.name, workshop.log);
    const { datapath, log, limits, watch, links, snapshot } = workshop;
    const { listen } = this;
    const before = plan.isNew ? undefined : snapshot.of(plan.name, plan.mac, listen);
    this.mode = plugin?.mode ?? before?.mode ?? 'dynamic';
    // A plugin of another mode than it had knows better.
    this.#before = before?.mode === this.mode ? before : undefined;
    const place = { overlay: plan.name, id: plan.id, listenIp: listen.ip };
    const macChanged = (port: string, mac: MacAddress): void => {
      this.#macChanged(port, mac);
    };
    this.#links = new OverlayLinks(place, { watch, datapath, links, health: this.#health, log, macChanged });
    this.#sources = new SourceWatch(plan.name, this.#health, log);
    const site = { overlay: plan.name, id: plan.id, vnetid: plan.vnetid, listen };
    const reprotect = (): void => {
      for (const vnic of this.vnics.values()) this.#reprotect(vnic);
    };
    const around = { log, health: this.#health, datapath, limits, reprotect };
    const prepare: Prepare = async () => {
      await workshop.plugins.find(plan.search);
      const found = needPlugin(plan, workshop);
      if (found.mode === 'dynamic' && this.mode === 'point')
        throw new OverlayError(
          'INVALID',
          'it had one destination for all, and now is asked for each MAC: make the overlay anew',
        );
      return { plugin: found, properties: plugin === undefined ? this.#typed(found) : this.#properties };
    };
    this.#plugin = new OverlayPlugin(plan.search, site, around, prepare, {
      started: (properties, destination) => {
        this.#pluginStarted(properties, destination);
        reprotect();
      },
    });
  }

  /** Checks the plan without doing anything. Throws an OverlayError that names all that is wrong with the properties. An
   * overlay whose links are there may lack its plugin for now. */
  static check(plan: OverlayPlan, workshop: Workshop): Overlay {
    if (plan.encap !== 'vxlan') throw unknownKind('encapsulation', plan.encap, ['vxlan']);
    const plugin = workshop.plugins.get(plan.search);
    if (plugin === undefined && (plan.isNew || !workshop.datapath.hasLeft(plan.name)))
      needPlugin(plan, workshop);
    return new Overlay(plan, plugin, readProperties(plan, plugin, workshop), workshop);
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
    return { ip: this.properties.ip('vxlan/listen_ip'), port: this.properties.uint('vxlan/listen_port') };
  }

  get properties(): PropertySet {
    return this.#properties;
  }

  /** Of a point overlay. */
  get destination(): Endpoint | undefined {
    return this.#destination;
  }

  get mtuBytes(): number {
    return this.properties.uint('mtu');
  }

  /** Plugin, underlay socket, own port. Rejects with an OverlayError; `undo` holds what was done. An overlay whose own link
   * an earlier daemon has left goes on at once: it waits for its plugin only where nothing is known without it. */
  async start(undo: UndoStack): Promise<void> {
    const { datapath } = this.#workshop;
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
    const before = goesOn || failure !== undefined ? this.#before : undefined;
    this.#destination ??= before?.destination;
    this.#chooseMtu();
    this.#addToDatapath(isLeft);
    undo.push(() => (plan.isNew ? datapath.removeOverlay(plan.id) : datapath.withdrawOverlay(plan.id)));
    // Before the first frame can come, and before the plugin knows better.
    if (before !== undefined) datapath.setPeers(plan.id, before.peers);
    if (before !== undefined || this.#before?.isRecent === true) this.#restoreTargets();
    this.#links.start(linkState, this.#destination?.ip);
    undo.push(() => {
      this.#links.stop();
      this.#sources.stop();
    });
    this.#openPort(this.name, plan.mac, 0, true);
    this.#plugin.attach();
    if (goesOn || failure !== undefined) this.#plugin.startLater(failure);
  }

  #addToDatapath(mayLackAddress: boolean): void {
    const { datapath, limits, log } = this.#workshop;
    const { plan, properties, listen } = this;
    const destination = this.#destination;
    const queues = queueCount(properties.text('queues'), availableParallelism());
    if (queues > 1 && !datapath.features['tapSteering'])
      log.warn(
        `queues ${plan.name}`,
        `${plan.name}: one thread carries all that its links send, so that flows stay in order: varpd could not load its BPF program (start it with CAP_BPF)`,
      );
    try {
      datapath.addOverlay({
        id: plan.id,
        vnetid: plan.vnetid,
        mtuBytes: this.mtuBytes,
        mode: this.mode,
        ...(destination !== undefined && { destination }),
        listen,
        mayLackAddress,
        queues,
        sourcePorts: properties.uint('vxlan/source_ports'),
        udpChecksum: properties.word('vxlan/udp_checksum', UDP_CHECKSUM),
        accept: properties.word('vxlan/accept', ACCEPT),
        strictSource: properties.word('vxlan/strict-source', STRICT_SOURCE) === 'on',
        vlan: properties.word('vxlan/vlan', VLAN),
        dscp: properties.word('vxlan/dscp', DSCP),
        offload: properties.word('offload', OFFLOAD),
        negativeTtlMs: limits().negativeTtlMs,
        maxTargets: limits().maxTargets,
      });
    } catch (error) {
      throw bindError(error, listen);
    }
  }

  /** What an earlier daemon knew: used at once, and asked about. */
  #restoreTargets(): void {
    const targets = this.#before?.targets ?? [];
    if (targets.length > 0) this.#workshop.datapath.restoreTargets(this.id, targets);
  }

  /** After the overlay: it had none, or that of an earlier daemon. */
  #pluginStarted(properties: PropertySet, destination: Endpoint | undefined): void {
    this.#properties = properties;
    if (destination === undefined) return;
    const before = this.#destination;
    this.mode = 'point';
    this.#destination = destination;
    if (before === undefined || !isSame(before, destination))
      this.#workshop.datapath.setDestination(this.id, destination);
  }

  /** The properties of an overlay that has been without its plugin until now. */
  #typed(plugin: LookupPlugin): PropertySet {
    const properties = readProperties(this.plan, plugin, this.#workshop);
    properties.setDefault('mtu', this.mtuBytes);
    return properties;
  }

  /** Resolves when its plugin has been tried once. */
  get settled(): Promise<void> {
    return this.#plugin.settled;
  }

  /** Nobody is asked any more; what is known goes on. */
  async quiesce(): Promise<void> {
    this.#links.stop();
    this.#sources.stop();
    for (const { protection } of this.vnics.values()) protection.stop();
    await this.#plugin.stop();
  }

  /** Plugin first, so that nobody is asked about an overlay that is going away. */
  async stop(): Promise<void> {
    await this.quiesce();
    await this.#workshop.datapath.removeOverlay(this.id);
  }

  /** Rejects with an OverlayError when what the plugin read is no good. */
  reload(): Promise<void> {
    return this.#plugin.reload();
  }

  // -- VNICs

  hasMac(mac: MacAddress): boolean {
    const isConfigured = this.plan.mac === mac || [...this.vnics.values()].some((vnic) => vnic.mac === mac);
    return isConfigured || this.#links.hasMac(mac);
  }

  /** The port that has this MAC. */
  #portWith(mac: MacAddress): string | undefined {
    return [this.name, ...this.vnics.keys()].find((name) => this.#links.macOf(name) === mac);
  }

  addVnic({ properties, leases, ...plan }: VnicPlan): void {
    const protection = new VnicProtection(properties, leases, () => {
      this.protect(plan.name);
    });
    const before = this.#before?.ports.get(plan.name)?.allowedIps ?? undefined;
    protection.setNamed(this.#plugin.allowedIps(plan.mac, before));
    // Before its interface is looked at, which may tell of another MAC.
    this.vnics.set(plan.name, { ...plan, protection, fault: undefined });
    try {
      this.#openPort(plan.name, plan.mac, plan.vid, false, protection.rules(), plan.temporary);
    } catch (error) {
      this.vnics.delete(plan.name);
      protection.stop();
      throw error;
    }
  }

  async removeVnic(name: string): Promise<void> {
    this.vnics.get(name)?.protection.stop();
    this.vnics.delete(name);
    this.#links.forgetPort(name);
    this.#health.restore(`port ${name}`);
    await this.#workshop.datapath.removePort(this.id, name);
  }

  /** Puts the rules of a VNIC in force as they are now. */
  protect(name: string): void {
    const vnic = this.vnics.get(name);
    if (vnic === undefined) return;
    this.#links.protectionChanged(name);
    this.#workshop.datapath.setProtection(this.id, name, vnic.protection.rules());
  }

  /** Whether something is to be kept on disk that was not. */
  leased(news: LeaseNews): boolean {
    const vnic = this.vnics.get(news.port);
    if (vnic?.protection.hear(news) !== true) return false;
    this.protect(vnic.name);
    return !vnic.temporary;
  }

  /** The datapath has let go of a device. */
  portFault(port: string, code: string): void {
    const fault = deviceFault(code);
    const vnic = this.vnics.get(port);
    if (vnic !== undefined) vnic.fault = fault;
    else if (port === this.name) this.#fault = fault;
    else return;
    this.#links.forgetPort(port);
    this.#health.degrade(`port ${port}`, `port ${port}: ${fault}`);
  }

  /** Opens again the devices that were lost, and starts the plugin where it is not. Rejects with an OverlayError at the
   * first that cannot be had. */
  async mend(): Promise<void> {
    if (this.#fault !== undefined) {
      await this.#reopenPort(this.name, this.plan.mac, 0, true);
      this.#fault = undefined;
    }
    for (const vnic of this.vnics.values()) {
      if (vnic.fault === undefined) continue;
      vnic.protection.setNamed(this.#plugin.allowedIps(vnic.mac, vnic.protection.named));
      await this.#reopenPort(vnic.name, vnic.mac, vnic.vid, false, vnic.protection.rules(), vnic.temporary);
      vnic.fault = undefined;
    }
    await this.#plugin.mend();
  }

  // -- Questions from the datapath and about it

  /** Frames go to these addresses now, and to those no longer. */
  peersChanged(added: readonly IpAddress[], removed: readonly IpAddress[]): void {
    this.#links.peersChanged(added, removed);
  }

  noticed(notice: Notice): void {
    this.#sources.heard(notice, this.#portWith(notice.mac));
  }

  lookup(request: LookupRequest): void {
    this.#plugin.lookup(request);
  }

  info(): RunningOverlayInfo {
    return {
      name: this.name,
      temporary: this.plan.temporary,
      mode: this.mode,
      properties: this.properties.rows(),
      health: this.#health.report(),
      underlay: this.#links.info,
      offloads: this.#workshop.datapath.overlayOffloads(this.id),
      counters: this.#workshop.datapath.overlayCounters(this.id),
    };
  }

  vnicInfo(vnic: Vnic): VnicInfo {
    return {
      ...this.#portInfo(vnic),
      over: this.name,
      mac: formatMac(this.#links.macOf(vnic.name) ?? vnic.mac),
      configuredMac: formatMac(vnic.mac),
      macType: vnic.macType,
      vid: vnic.vid,
      mtuBytes: this.#links.mtuBytesOf(vnic.name) ?? this.#portMtuBytes(vnic.vid),
      temporary: vnic.temporary,
    };
  }

  /** Its own port and those of its VNICs. */
  ports(): PortInfo[] {
    return [{ name: this.name, fault: this.#fault }, ...this.vnics.values()].map((port) =>
      this.#portInfo(port),
    );
  }

  #portInfo({ name, fault }: Pick<Vnic, 'name' | 'fault'>): PortInfo {
    return {
      name,
      state: fault ?? this.#links.portTrouble(name) ?? 'up',
      counters: fault === undefined ? this.#workshop.datapath.portCounters(this.id, name) : {},
    };
  }

  *portSnapshots(): Generator<[string, PortSnapshot]> {
    yield [this.name, { mtuBytes: this.mtuBytes, allowedIps: null }];
    for (const { name, vid, temporary, protection } of this.vnics.values())
      if (!temporary)
        yield [name, { mtuBytes: this.#portMtuBytes(vid), allowedIps: protection.named ?? null }];
  }

  get links(): Pick<OverlayLinks, 'carrier' | 'destinationCount'> {
    return this.#links;
  }

  /** `after` and the `next` of the answer are MACs as text. */
  async targets(after: string | undefined, limit = TARGET_PAGE_ROWS): Promise<TargetPage> {
    if (this.#destination !== undefined) {
      const destinations = [formatEndpoint(this.#destination)];
      return { rows: [{ mac: POINT_TARGET, state: 'valid', destinations }], next: null };
    }
    const start = after === undefined ? -1 : needMac(after);
    const entries = await this.#workshop.datapath.targets(this.id, start, limit);
    const rows = entries.map(({ mac, state, to }) => ({
      mac: formatMac(mac),
      state: state === 'valid' && to.length > 1 ? ('flood' as const) : state,
      destinations: to.map(formatEndpoint),
    }));
    return { rows, next: rows.length < limit ? null : (rows.at(-1)?.mac ?? null) };
  }

  /** `destination` is an endpoint or `drop`. Throws an OverlayError. */
  setTarget(mac: string, destination: string): void {
    this.#needTable();
    const address = needMac(mac);
    const to = destination.toLowerCase() === 'drop' ? [] : [needDestination(destination, this)];
    this.#workshop.datapath.setTarget(this.id, address, to, Infinity);
  }

  /** Rejects with an OverlayError when the MAC is not in the table. */
  async deleteTarget(mac: string): Promise<void> {
    this.#needTable();
    if (await this.#workshop.datapath.deleteTarget(this.id, needMac(mac))) return;
    throw new OverlayError('NOT_FOUND', `${mac} is not in the target table of ${this.name}`);
  }

  flushTargets(): void {
    this.#needTable();
    this.#workshop.datapath.invalidate(this.id);
  }

  #needTable(): void {
    if (this.mode !== 'point') return;
    throw new OverlayError('UNSUPPORTED', `${this.name} has one destination for all and no target table`);
  }

  // -- Steps

  #chooseMtu(): void {
    const { datapath, links, log } = this.#workshop;
    const named = this.#plugin.peers ?? this.#before?.peers ?? [];
    const destinations = this.#destination === undefined ? named : [this.#destination.ip];
    const underlay = { datapath, links, listenIp: this.listen.ip, destinations };
    this.properties.setDefault('mtu', defaultMtuBytes(underlay));
    const largest = largestMtuBytes(underlay);
    this.#largestMtuBytes = largest ?? Infinity;
    if (largest === undefined || this.mtuBytes <= largest) return;
    const line = `mtu: ${foundExpected(String(this.mtuBytes), `at most ${largest}: the route carries no more`)}`;
    if (this.plan.isNew && this.properties.wasGiven('mtu'))
      throw new OverlayError('INVALID', `failed to set property ${line}`);
    log.warn(`mtu ${this.name}`, `${this.name}: ${line}; larger frames will be dropped`);
  }

  /** The frames of an access port get a tag on the overlay, and must fit the path with it. */
  #portMtuBytes(vid: number): number {
    return vid === 0 ? this.mtuBytes : Math.min(this.mtuBytes, this.#largestMtuBytes - vlan.HEADER_BYTES);
  }

  #openPort(
    name: string,
    mac: MacAddress,
    vid: number,
    own: boolean,
    protection?: ProtectionRules,
    temporary = this.plan.temporary,
  ): void {
    try {
      this.#workshop.datapath.addPort({
        overlay: this.id,
        name,
        mac,
        vid,
        mtuBytes: this.#portMtuBytes(vid),
        previousMtuBytes: this.#before?.ports.get(name)?.mtuBytes,
        own,
        protection,
        temporary,
      });
    } catch (error) {
      throw tapError(error, name);
    }
    const isPinned = (): boolean => {
      const guard = this.vnics.get(name)?.protection;
      if (guard === undefined) return false;
      return guard.restsOnMac || this.#plugin.allowedIps(mac, guard.named) !== undefined;
    };
    this.#links.followPort({ name, configured: mac, isPinned, mtuBytes: this.#portMtuBytes(vid) });
  }

  /** What the plugin says of the MAC holds with it. */
  #macChanged(port: string, mac: MacAddress): void {
    const protection = this.vnics.get(port)?.protection;
    protection?.setNamed(this.#plugin.allowedIps(mac, protection.named));
    this.#workshop.datapath.setMac(this.id, port, mac, protection?.rules());
  }

  /** What the plugin says of its MAC may have changed. */
  #reprotect({ name, mac, protection }: Vnic): void {
    protection.setNamed(this.#plugin.allowedIps(this.#links.macOf(name) ?? mac, protection.named));
    this.protect(name);
  }

  async #reopenPort(
    name: string,
    mac: MacAddress,
    vid: number,
    own: boolean,
    protection?: ProtectionRules,
    temporary?: boolean,
  ): Promise<void> {
    await this.#workshop.datapath.removePort(this.id, name);
    this.#openPort(name, mac, vid, own, protection, temporary);
    this.#health.restore(`port ${name}`);
  }
}

/** Throws an OverlayError when there is no such plugin. */
function needPlugin({ search }: OverlayPlan, { plugins }: Workshop): LookupPlugin {
  const plugin = plugins.get(search);
  if (plugin !== undefined) return plugin;
  const failure = plugins.failureOf(search);
  if (failure !== undefined) throw new OverlayError('INVALID', failure, [failure]);
  throw unknownKind('search', search, [...plugins.keys()]);
}

/** Without the plugin its properties are taken as they are. */
function readProperties(
  { search, properties, vnetid, encap, id }: OverlayPlan,
  plugin: LookupPlugin | undefined,
  { plugins }: Workshop,
): PropertySet {
  const untyped = properties
    .filter(([name]) => name.startsWith(`${search}/`))
    .map(([name]) => ({ name, type: 'string' as const, required: false }));
  const specs = overlaySpecs(plugin?.properties ?? untyped, [...plugins.keys(), search]);
  return PropertySet.from(specs, properties, { vnetid, encap, search, 'varpd/id': id });
}
