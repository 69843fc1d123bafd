/**
 * The control side's half of the datapath: has the overlays, the ports (ports.ts) and the sockets (underlay.ts), posts
 * commands to the datapath threads, reads the counters it shares with them.
 *
 * The first thread is always there. An overlay with several queues is carried by as many threads: the further ones are
 * started for the first overlay that wants them, and end with the last. Queue 0 of everything belongs to thread 0, and
 * so on.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { AddressTable } from '../../../core/address-table.js';
import { createCounters, readCounters } from '../../../core/counters.js';
import type { ProtectionRules } from '../../../core/link-protection.js';
import { createStationMemory } from '../../../core/stations.js';
import { closeTaps, type Features, probeFeatures, routeMtuBytes } from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import type { RouteMtu } from '../../../model/underlay-state.js';
import { type Endpoint, type IpAddress, toBytes } from '../../../wire/ip.js';
import type { MacAddress } from '../../../wire/mac.js';
import type {
  Datapath,
  DatapathEvents,
  Inherited,
  KnownTarget,
  Handover,
  Retained,
  LookupAnswer,
  Offload,
  OverlayConfig,
  PortConfig,
  PortDeviceInfo,
  PortFindings,
  TargetEntries,
  TargetEntry,
} from '../../contract.js';
import { type Report, WAKE } from '../protocol.js';
import { retain, type OverlayState, type Inventory, storedLists, tapDescriptors } from './handover.js';
import { NamedPeers } from './named-peers.js';
import { offloadsOf, optionsOf } from './overlay-config.js';
import { countTargets, OverlayThreads } from './overlay-threads.js';
import { tellOfPaths } from './paths.js';
import { mergePeers, type Peers } from './peers.js';
import { NOTHING_FOUND, Ports } from './ports.js';
import { canSteer } from './steering.js';
import { DatapathThread } from './thread.js';
import { type Lease, Underlay } from './underlay.js';

/** For the threads to come round, of the 2 s that varpd has to end: one may have a thousand copies of a frame to write. */
const THREADS_END_MS = 300;

export class DatapathControl implements Datapath {
  #features = probeFeatures();
  readonly #events: DatapathEvents;
  readonly #threads: DatapathThread[] = [];
  readonly #overlays = new Map<number, OverlayState>();
  /** Overlay -> queues, also while it is being removed. */
  readonly #queues = new Map<number, number>();
  readonly #ports: Ports;
  readonly #underlay: Underlay;
  #lastToken = WAKE;
  #isHeld: boolean;
  #closing = false;

  private constructor(events: DatapathEvents, inherited: Inherited) {
    this.#events = events;
    this.#isHeld = inherited.hasStandIn;
    this.#ports = new Ports(this.#threads, inherited, () => this.features, {
      nextToken: () => ++this.#lastToken,
      fault: (overlay, port, code) => {
        events.portFault(overlay, port, code);
      },
    });
    this.#underlay = new Underlay({
      left: (name) => inherited.take(name),
      giveBack: inherited.giveBack,
      nextToken: () => ++this.#lastToken,
      forget: inherited.forget,
      opened: (queue, socket) => {
        const { token, fd, encapsulation, counters } = socket;
        inherited.keep([socket]);
        this.#threads[queue].post({ kind: 'add-socket', token, fd, encapsulation, counters });
      },
      closing: async (queue, token) => {
        await this.#threads[queue].request({ kind: 'remove-socket', token });
      },
      senderOpened: (queue, sender) => {
        this.#threads[queue].post({ kind: 'add-sender', ...sender });
      },
      senderClosing: (queue, token) => this.#threads[queue].request({ kind: 'remove-sender', token }),
    });
  }

  /** Of TAPs nothing is known until one can be made: /dev/net/tun may come later than varpd. */
  get features(): Readonly<Record<keyof Features | 'tapSteering', boolean>> {
    if (!this.#features.tapChecksum) this.#features = probeFeatures();
    return { ...this.#features, tapSteering: canSteer() };
  }

  /** Resolves when the first thread runs. */
  static async start(events: DatapathEvents, inherited: Inherited): Promise<DatapathControl> {
    const control = new DatapathControl(events, inherited);
    await control.#need(1)[0].started();
    return control;
  }

  addOverlay(config: OverlayConfig): void {
    const { id, queues } = config;
    const threads = this.#need(queues);
    let lease: Lease;
    try {
      lease = this.#underlay.lease(config);
    } catch (error) {
      inBackground('ending datapath threads', this.#dismiss());
      throw error;
    }
    const options = optionsOf(config);
    const counters = threads.map(() => createCounters());
    this.#queues.set(id, queues);
    const carriers = new OverlayThreads(id, threads, (request) => {
      this.#events.lookup(request);
    });
    const peers: Peers = new Map();
    const tell = (table: AddressTable): void => {
      carriers.setPeers(table);
    };
    this.#overlays.set(id, {
      config,
      options,
      lease,
      threads: carriers,
      counters,
      ports: new Map(),
      peers,
      named: new NamedPeers(id, peers, tell, this.#events),
      loops: [],
      routeMtus: [],
      carrier: true,
    });
    const { tokens, senderFds, segmentation } = lease;
    // One that is asked about becomes one of a fixed destination if its plugin, started later, is such.
    const stations = createStationMemory();
    threads.forEach((thread, queue) => {
      const own = { socket: tokens[queue], counters: counters[queue] };
      thread.post({ kind: 'add-overlay', options, senderFds, segmentation, stations, ...own });
    });
  }

  removeOverlay(id: number): Promise<void> {
    return this.#removeOverlay(id, false);
  }

  withdrawOverlay(id: number): Promise<void> {
    return this.#removeOverlay(id, true);
  }

  /** `isKept`: what an earlier daemon had left. */
  async #removeOverlay(id: number, isKept: boolean): Promise<void> {
    const state = this.#overlays.get(id);
    if (state === undefined) return;
    this.#overlays.delete(id);
    state.named.end();
    await state.threads.remove();
    await this.#ports.removeAll(state, isKept);
    await state.lease.release(isKept);
    this.#queues.delete(id);
    await this.#dismiss();
  }

  setDestination(id: number, destination: Endpoint): void {
    const state = this.#overlay(id);
    state.options = { ...state.options, destination };
    state.threads.setDestination(destination);
  }

  hasLeft(port: string): boolean {
    return this.#ports.hasLeft(port);
  }

  addPort(config: PortConfig): MacAddress {
    return this.#ports.add(this.#overlay(config.overlay), config);
  }

  async removePort(overlay: number, name: string): Promise<void> {
    await this.#ports.remove(this.#overlay(overlay), name);
  }

  portDevice(overlay: number, name: string): PortDeviceInfo | undefined {
    const state = this.#overlays.get(overlay);
    return state && this.#ports.device(state, name);
  }

  checkPort(...[overlay, name, device, tun]: Parameters<Datapath['checkPort']>): PortFindings {
    const state = this.#overlays.get(overlay);
    return state === undefined ? NOTHING_FOUND : this.#ports.check(state, name, device, tun);
  }

  discard(name: string): void {
    this.#ports.discard(name);
  }

  setCarrier(overlay: number, on: boolean): void {
    this.#ports.setCarrier(this.#overlay(overlay), on);
  }

  setPortDown(overlay: number, name: string, isDown: boolean): void {
    const state = this.#overlays.get(overlay);
    if (state !== undefined) this.#ports.setDown(state, name, isDown);
  }

  setProtection(overlay: number, name: string, protection: ProtectionRules | undefined): void {
    this.#ports.setProtection(this.#overlay(overlay), name, protection);
  }

  setMac(overlay: number, name: string, mac: MacAddress, protection: ProtectionRules | undefined): void {
    this.#ports.setMac(this.#overlay(overlay), name, mac, protection);
  }

  /** What follows is harmless for an overlay that is gone. */
  answer(overlay: number, lookup: number, answer: LookupAnswer): void {
    this.#overlays.get(overlay)?.threads.answer(lookup, answer);
  }

  setTarget(overlay: number, mac: MacAddress, to: readonly Endpoint[], ttlMs: number): void {
    this.#overlays.get(overlay)?.threads.setTarget(mac, to, ttlMs);
  }

  invalidate(overlay: number, mac?: MacAddress): void {
    this.#overlays.get(overlay)?.threads.invalidate(mac);
  }

  setPeers(overlay: number, peers: readonly IpAddress[]): void {
    this.#overlays.get(overlay)?.named.set(peers);
  }

  setLoops(overlay: number, destinations: readonly IpAddress[]): void {
    const state = this.#overlays.get(overlay);
    if (state === undefined) return;
    state.loops = destinations;
    state.threads.setLoops(destinations);
  }

  setRouteMtus(overlay: number, routes: readonly RouteMtu[]): void {
    const state = this.#overlays.get(overlay);
    if (state !== undefined) state.routeMtus = routes;
    state?.threads.setRouteMtus(routes);
  }

  namedPeers(overlay: number): readonly IpAddress[] {
    return this.#overlays.get(overlay)?.named.list ?? [];
  }

  announce(overlay: number, frame: Uint8Array): void {
    this.#overlays.get(overlay)?.threads.announce(frame);
  }

  async deleteTarget(overlay: number, mac: MacAddress): Promise<boolean> {
    return (await this.#overlays.get(overlay)?.threads.deleteTarget(mac)) ?? false;
  }

  async targets(overlay: number, after: MacAddress, limit: number): Promise<TargetEntries> {
    const entries = await this.#overlays.get(overlay)?.threads.targets(after, limit);
    return entries ?? { entries: [], next: undefined };
  }

  async recentTargets(overlay: number, limit: number): Promise<readonly TargetEntry[]> {
    return (await this.#overlays.get(overlay)?.threads.recentTargets(limit)) ?? [];
  }

  targetCounts(): Promise<ReadonlyMap<number, number>> {
    return countTargets(this.#threads);
  }

  restoreTargets(overlay: number, targets: readonly KnownTarget[]): void {
    this.#overlays.get(overlay)?.threads.restoreTargets(targets);
  }

  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number {
    return routeMtuBytes(toBytes(listenIp), toBytes(to), `the route from ${listenIp} to ${to}`);
  }

  /** What is dropped before its overlay is known is counted for the socket, and shown with each of its overlays. */
  overlayCounters(id: number): Record<string, number> {
    const { counters, lease, threads } = this.#overlay(id);
    return { ...readCounters(...counters, ...lease.counters()), lookups: threads.asked };
  }

  socketCounters(): ReadonlyMap<string, Record<string, number>> {
    return this.#underlay.counters();
  }

  overlayOffloads(id: number): readonly Offload[] {
    const { config, lease } = this.#overlay(id);
    return offloadsOf(config, lease.segmentation, this.features);
  }

  portCounters(overlay: number, name: string): Record<string, number> {
    return this.#ports.counters(this.#overlay(overlay), name);
  }

  async ping(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.request({ kind: 'ping' })));
  }

  async begin(): Promise<void> {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    await Promise.all(this.#threads.map((thread) => thread.request({ kind: 'begin' })));
  }

  retain(): Retained {
    return retain(() => this.#inventory(), this.#threads.length);
  }

  async release(): Promise<Handover> {
    if (this.#closing) return { descriptors: [], lists: [] };
    this.#closing = true;
    const inventory = this.#inventory();
    const lists = await storedLists(inventory);
    await Promise.all(this.#threads.map((thread) => thread.stop()));
    this.#ports.closeTemporary();
    return { descriptors: [...this.#underlay.release(), ...tapDescriptors(this.#ports.lasting)], lists };
  }

  #inventory(): Inventory {
    return {
      sockets: this.#underlay.sockets,
      overlays: [...this.#overlays.values()],
      ports: this.#ports.lasting,
    };
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const stopping = Promise.all(this.#threads.map((thread) => thread.stop()));
    const late = delay(THREADS_END_MS, 'late' as const, { ref: false });
    const isLate = (await Promise.race([stopping, late])) === 'late';
    this.#ports.dropElsewhere();
    // What a thread still uses is closed by the end of the process: its number would soon be something else's.
    if (isLate) throw new Error('a datapath thread does not come round, and is left with its descriptors');
    closeTaps([...this.#ports.open, ...this.#underlay.release()].map(({ fd }) => fd));
  }

  #overlay(id: number): OverlayState {
    const state = this.#overlays.get(id);
    if (state === undefined) throw new Error(`the datapath has no overlay ${id}`);
    return state;
  }

  /** The first `count` threads; those that are not there yet are started. */
  #need(count: number): DatapathThread[] {
    while (this.#threads.length < count) {
      const index = this.#threads.length;
      const thread = new DatapathThread(index, this.#isHeld, {
        heard: (report) => {
          this.#hear(index, report);
        },
        failed: (error) => {
          this.#events.failed(error);
        },
      });
      this.#threads.push(thread);
    }
    return this.#threads.slice(0, count);
  }

  /** Ends the threads that no overlay wants. */
  async #dismiss(): Promise<void> {
    const wanted = Math.max(1, ...this.#queues.values());
    await Promise.all(this.#threads.splice(wanted).map((thread) => thread.stop()));
  }

  #hear(index: number, report: Exclude<Report, { kind: 'reply' }>): void {
    switch (report.kind) {
      case 'lookups':
        for (const question of report.questions)
          this.#overlays.get(question.overlay)?.threads.heard(index, question);
        return;
      case 'leases':
        for (const news of report.news) this.#events.leased(news);
        return;
      case 'notices':
        for (const notice of report.notices) this.#events.noticed(notice);
        return;
      case 'paths':
        tellOfPaths(index, report.news, this.#threads, this.#events);
        return;
      case 'peers':
        mergePeers(index, report.changes, (id) => this.#overlays.get(id)?.peers, this.#events);
        return;
      case 'fault':
        this.#ports.fault(report);
    }
  }
}
