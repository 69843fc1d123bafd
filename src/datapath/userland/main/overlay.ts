/**
 * An overlay as the control side has it. Its handle is for all threads that carry it: each command goes to
 * all of them, and their reports go to the listener.
 *
 * With one thread, questions and answers pass unchanged. With several, shared-questions.ts is between them
 * and the listener. Once the overlay has ended, no thread gets commands about it, since the threads may have
 * ended too.
 */
import type { AddressTable } from '../../../core/tables/address-table.js';
import type { CaptureRules } from '../../../core/capture/capture-tap.js';
import { type Counters, createCounters, readCounters } from '../../../core/counts/counters.js';
import type { Explained } from '../../../core/dry-run/dry-facts.js';
import type { DryFrame } from '../../../core/dry-run/dry-run.js';
import { createDropExamples, type DropExamples } from '../../../core/counts/drop-examples.js';
import type { OverlayOptions } from '../../../core/overlay.js';
import type { TargetRow } from '../../../core/tables/target-list.js';
import type { PeerPlace } from '../../../core/peers/peer-places.js';
import type { PeerMemory } from '../../../core/peers/peer-records.js';
import type { ProbeNews, ProbeRules } from '../../../core/probe/probe.js';
import type { Features } from '../../../dgram-extra/index.js';
import { AddressMap } from '../../../model/address-map.js';
import type { Offload } from '../../../model/offloads.js';
import type { PeerList, PeerReport, Sending } from '../../../model/peer-report.js';
import type { RouteFacts } from '../../../model/underlay-state.js';
import { type Endpoint, type IpAddress, isSameEndpoint } from '../../../wire/ip.js';
import type { MacAddress } from '../../../wire/mac.js';
import type {
  DropReport,
  FrameCapture,
  KnownPlaces,
  LookupAnswer,
  LookupRequest,
  OverlayConfig,
  OverlayDatapath,
  OverlayListener,
  OverlaySettings,
  PortConfig,
  PortHandle,
  TargetEntries,
  TargetEntry,
} from '../../contract.js';
import type { FrameProbe, ProbeListener } from '../../probe-contract.js';
import type { FrameExplanation } from '../../explain-contract.js';
import type { TargetNews } from '../../watch-contract.js';
import { LIST_SLICE, type PeerChange } from '../protocol.js';
import { RingCapture } from './capture.js';
import { dropReports } from './drop-reports.js';
import type { OverlayState } from './handover.js';
import { NamedPeers } from './named-peers.js';
import { needsSockets, offloadsInForce, optionsOf, sendingOf } from './overlay-config.js';
import { describePeers, PeerReports } from './peer-reports.js';
import { mergePeers, type PeerThreads } from './peers.js';
import type { Ports } from './ports.js';
import { OverlayProbe } from './probe.js';
import { SharedQuestions } from './shared-questions.js';
import { TargetWatch } from './target-watch.js';
import type { PortOwner, TapPort } from './tap-port.js';
import { createRefusals } from './tap-settings.js';
import { pushTargets } from './push-targets.js';
import { readRecent, readTargets } from './table-reader.js';
import type { Link, Request } from './thread.js';
import type { OverlaySockets } from './underlay.js';

/** The parts of the datapath that an overlay needs. */
export interface OverlayContext {
  /** The threads that carry it. */
  readonly links: readonly Link[];
  readonly sockets: OverlaySockets;
  readonly openSockets: (config: OverlayConfig) => OverlaySockets;
  readonly ports: Pick<Ports, 'add' | 'offload'>;
  readonly features: () => Features;
  /** Called when the overlay is about to end and still needs its threads. */
  readonly leaving: () => void;
  /** Called when the overlay has ended. */
  readonly left: () => Promise<void>;
}

export class UserlandOverlay implements OverlayDatapath, OverlayState, PortOwner {
  config: OverlayConfig;
  options: OverlayOptions;
  sockets: OverlaySockets;
  /** One array per thread. */
  readonly counterArrays: readonly Counters[];
  /** One array per thread. */
  readonly exampleArrays: readonly DropExamples[];
  readonly ports = new Set<TapPort>();
  readonly refusals = createRefusals();
  readonly named: NamedPeers;
  loops: readonly IpAddress[] = [];
  routes: readonly RouteFacts[] = [];
  carrier = true;
  listener: OverlayListener | undefined;
  readonly #peers: PeerThreads = new AddressMap();
  readonly #peerReports = new PeerReports();
  readonly #captures = new Set<RingCapture>();
  #probe: OverlayProbe | undefined;
  #watch: TargetWatch | undefined;
  readonly #context: OverlayContext;
  readonly #id: number;
  /** Empty once the overlay has ended. */
  #links: readonly Link[];
  readonly #shared: SharedQuestions | undefined;
  #asked = 0;

  constructor(config: OverlayConfig, context: OverlayContext, listener: OverlayListener) {
    this.config = config;
    this.options = optionsOf(config);
    this.sockets = context.sockets;
    this.listener = listener;
    this.#context = context;
    this.#id = config.id;
    this.#links = context.links;
    this.#shared = context.links.length > 1 ? new SharedQuestions() : undefined;
    this.counterArrays = context.links.map(() => createCounters());
    this.exampleArrays = context.links.map(() => createDropExamples());
    this.named = new NamedPeers(
      this.#peers,
      (table) => {
        this.#setPeerTable(table);
      },
      (added, removed) => this.listener?.peers(added, removed),
    );
  }

  /** Restores the peers and targets that an earlier varpd knew, before the first frame. */
  restore({ peers, targets }: KnownPlaces): void {
    if (peers.length > 0) this.setPeers(peers);
    // Sent from the end, since the first to be inserted is the first to make room.
    for (let end = targets.length; end > 0; end -= LIST_SLICE) {
      const some = targets.slice(Math.max(0, end - LIST_SLICE), end);
      for (const link of this.#links)
        link.post({ kind: 'restore-targets', overlay: this.#id, targets: some });
    }
  }

  // -- Reports of the threads

  /** Handles questions of a thread. A question is not counted if it is not passed on because another thread
   * has asked it. */
  heard(thread: number, questions: readonly LookupRequest[]): void {
    const news = this.#shared?.take(thread, questions) ?? questions;
    this.#asked += news.length;
    this.#watch?.asked(news);
    if (news.length > 0) this.listener?.lookups(news);
  }

  peersChanged(thread: number, changes: readonly PeerChange[]): void {
    mergePeers(thread, changes, this.#peers, (added, removed) => this.listener?.peers(added, removed));
  }

  peersMoved(thread: number, memory: PeerMemory): void {
    this.#peerReports.moved(thread, memory);
  }

  probed(news: readonly ProbeNews[]): void {
    this.#probe?.heard(news);
  }

  /** Returns whether the overlay sends frames to this underlay address. */
  sendsTo(ip: IpAddress): boolean {
    return this.#peers.has(ip);
  }

  // -- Ports

  addPort(config: PortConfig): PortHandle {
    if (this.#links.length === 0) throw new Error(`overlay ${this.#id} has ended`);
    return this.#context.ports.add(this, config);
  }

  setCarrier(on: boolean): void {
    this.carrier = on;
    for (const port of this.ports) port.setCarrier(on);
  }

  // -- Targets and peers

  answer(lookup: number, answer: LookupAnswer): void {
    if (this.#links.length === 0) return;
    if (this.#shared !== undefined) this.#shared.answer(this.#id, lookup, answer, this.#links);
    else this.#links[0].post({ kind: 'answer', overlay: this.#id, lookup, answer });
    this.#watch?.answered(lookup, answer);
  }

  setTarget(mac: MacAddress, to: readonly Endpoint[], ttlMs: number, origin: 'set' | 'pushed'): void {
    this.#shared?.forget(mac);
    for (const link of this.#links)
      link.post({ kind: 'set-target', overlay: this.#id, mac, to, ttlMs, origin });
    this.#watch?.set(mac, to, origin);
  }

  setTargets(rows: readonly TargetRow[]): void {
    this.#watch?.pushed(rows);
    for (const { mac } of this.#shared === undefined ? [] : rows) this.#shared?.forget(mac);
    pushTargets(this.#links, this.#id, rows);
  }

  invalidate(macs?: readonly MacAddress[]): void {
    this.#watch?.forgotten(macs);
    if (macs === undefined) {
      this.#shared?.forgetAll();
      for (const link of this.#links) link.invalidate(this.#id, undefined);
    }
    for (const mac of macs ?? []) {
      this.#shared?.forget(mac);
      for (const link of this.#links) link.invalidate(this.#id, mac);
    }
  }

  async change(settings: OverlaySettings): Promise<void> {
    if (this.#links.length === 0) throw new Error(`overlay ${this.#id} has ended`);
    const [config, sockets] = [this.config, this.sockets];
    const next = { ...config, ...settings };
    this.sockets = needsSockets(config, next) ? this.#context.openSockets(next) : sockets;
    this.config = next;
    this.options = { ...optionsOf(next), destination: this.options.destination };
    if (String(next.offload) !== String(config.offload))
      for (const port of this.ports) this.#context.ports.offload(port);
    const { options } = this;
    if (next.vnetid !== config.vnetid || !isSameEndpoint(next.listen, config.listen)) {
      // The threads forget all targets with the change.
      this.#watch?.forgotten(undefined);
      this.#shared?.forgetAll();
    }
    const { tokens, senders } = this.sockets;
    await Promise.all(
      this.#links.map((link, queue) =>
        link.request({ kind: 'change-overlay', options, socket: tokens[queue], ...senders }),
      ),
    );
    if (this.sockets !== sockets) await sockets.release(false);
  }

  setDestination(destination: Endpoint): void {
    this.options = { ...this.options, destination };
    for (const link of this.#links) link.post({ kind: 'set-destination', overlay: this.#id, destination });
  }

  setPeers(peers: readonly IpAddress[]): void {
    this.named.set(peers);
  }

  get namedPeers(): readonly IpAddress[] {
    return this.named.list;
  }

  setLoops(destinations: readonly IpAddress[]): void {
    this.loops = destinations;
    for (const link of this.#links) link.post({ kind: 'set-loops', overlay: this.#id, destinations });
  }

  setRoutes(routes: readonly RouteFacts[]): void {
    this.routes = routes;
    for (const link of this.#links) link.post({ kind: 'set-route-mtus', overlay: this.#id, routes });
  }

  /** One thread announces, so that each port gets the frame once. */
  announce(frame: Uint8Array): void {
    this.#links[0]?.post({ kind: 'announce', overlay: this.#id, frame });
  }

  async deleteTarget(mac: MacAddress): Promise<boolean> {
    this.#shared?.forget(mac);
    this.#watch?.forgotten([mac]);
    const replies = await this.#requestAll({ kind: 'delete-target', overlay: this.#id, mac });
    return replies.includes(true);
  }

  targets(after: MacAddress, limit: number): Promise<TargetEntries> {
    return readTargets(this.#links, this.#id, after, limit);
  }

  recentTargets(limit: number): Promise<readonly TargetEntry[]> {
    return readRecent(this.#links, this.#id, limit);
  }

  async targetCount(): Promise<number> {
    const counts = await this.#requestAll({ kind: 'count-targets', overlay: this.#id });
    return Math.max(0, ...(counts as number[]));
  }

  watchTargets(heard: (news: readonly TargetNews[] | undefined) => void): () => void {
    const watch = new TargetWatch(heard);
    this.#watch = watch;
    return () => {
      if (this.#watch === watch) this.#watch = undefined;
    };
  }

  // -- Facts

  async capture(rules: CaptureRules): Promise<FrameCapture> {
    const capture = new RingCapture(
      {
        overlay: this.#id,
        links: this.#links,
        listen: this.config.listen,
        senderPorts: this.sockets.senderPorts,
        stopped: (one) => this.#captures.delete(one),
      },
      rules,
    );
    this.#captures.add(capture);
    await capture.begun;
    return capture;
  }

  async explain(frame: DryFrame): Promise<FrameExplanation> {
    const replies = await this.#requestAll({ kind: 'explain', overlay: this.#id, frame });
    const threads = (replies as (Explained | undefined)[]).filter((one) => one !== undefined);
    return { threads, sourcePorts: this.sockets.senderPorts };
  }

  async probe(rules: ProbeRules, heard: ProbeListener): Promise<FrameProbe> {
    const probe = new OverlayProbe(
      {
        overlay: this.#id,
        links: this.#links,
        sourcePorts: this.sockets.senderPorts,
        stopped: () => {
          if (this.#probe === probe) this.#probe = undefined;
        },
      },
      rules,
      heard,
    );
    this.#probe = probe;
    await probe.begun;
    return probe;
  }

  /** Drops before the overlay is known are counted for the socket, and included for each of its overlays. */
  counters(): Record<string, number> {
    const read = readCounters(...this.counterArrays, ...this.sockets.counters());
    return { ...read, ...this.refusals, lookups: this.#asked };
  }

  drops(counters: Readonly<Record<string, number>>): readonly DropReport[] {
    return dropReports(counters, [...this.exampleArrays, ...this.sockets.examples]);
  }

  peers(): PeerList {
    return this.#peerReports.read(this.#peers, this.options.acceptAny);
  }

  recordedPeers(): readonly PeerReport[] {
    return this.#peerReports.readRecorded(this.#peers, this.options.acceptAny);
  }

  describePeers(ips: readonly IpAddress[]): Promise<readonly PeerPlace[]> {
    return describePeers(this.#links, this.config, ips);
  }

  get sending(): Sending {
    return sendingOf(this.config);
  }

  get offloads(): readonly Offload[] {
    return offloadsInForce(this.config, this.sockets.senders, this.#context.features());
  }

  // -- End

  mute(): void {
    this.listener = undefined;
  }

  remove(): Promise<void> {
    return this.#end(false);
  }

  withdraw(): Promise<void> {
    return this.#end(true);
  }

  /** `isKept`: what an earlier varpd left is kept. */
  async #end(isKept: boolean): Promise<void> {
    if (this.#links.length === 0) return;
    this.mute();
    this.named.end();
    this.#context.leaving();
    const removed = this.#requestAll({ kind: 'remove-overlay', overlay: this.#id });
    this.#links = [];
    await removed;
    for (const capture of this.#captures) capture.isOver = true;
    for (const port of this.ports) await port.end(isKept);
    await this.sockets.release(isKept);
    await this.#context.left();
  }

  #setPeerTable(table: AddressTable): void {
    for (const link of this.#links) link.post({ kind: 'set-peers', overlay: this.#id, table });
  }

  #requestAll(request: Request): Promise<unknown[]> {
    return Promise.all(this.#links.map((link) => link.request(request)));
  }
}
