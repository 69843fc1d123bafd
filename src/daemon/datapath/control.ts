/**
 * The control side's half of the datapath: opens and closes TAPs and sockets, posts commands to the worker thread,
 * reads the counters it shares with it.
 */
import { Worker } from 'node:worker_threads';
import { createCounters, readCounters, type Counters } from '../../core/counters.js';
import type { ProtectionRules } from '../../core/link-protection.js';
import type { OverlayOptions } from '../../core/overlay.js';
import {
  TUN_F,
  closeDescriptor,
  createEvent,
  errnoName,
  openTap,
  probeFeatures,
  routeMtuBytes,
  setLink,
  setTapCarrier,
  setTapOffload,
  signalEvent,
  type Features,
} from '../../dgram-extra/index.js';
import { toBytes, type Endpoint, type IpAddress } from '../../wire/ip.js';
import * as ethernet from '../../wire/ethernet.js';
import * as vxlan from '../../wire/vxlan.js';
import * as mac from '../../wire/mac.js';
import type {
  Datapath,
  DatapathEvents,
  LookupAnswer,
  Offload,
  OverlayConfig,
  PortConfig,
  TargetEntry,
} from './contract.js';
import { WAKE, type Command, type PeerChange, type Report, type Token } from './protocol.js';
import { Underlay, type Lease } from './underlay.js';

interface OverlayState {
  readonly config: OverlayConfig;
  readonly lease: Lease;
  readonly counters: Counters;
  readonly ports: Map<string, PortState>;
  carrier: boolean;
}

interface PortState {
  readonly token: Token;
  readonly name: string;
  readonly overlay: number;
  /** -1 once it is closed. */
  fd: number;
  readonly counters: Counters;
}

/** Command members that a caller leaves to `#request`. */
type Request<C = Command> = C extends { readonly reply: number } ? Omit<C, 'reply'> : never;

/** In one message (worker.ts says why there is a bound). */
const MAX_COMMANDS = 64;
/** In one `invalidate`. */
const MAX_MACS = 2048;

/** Of the datapath thread's heap. */
const YOUNG_GENERATION_MIB = 6;

export class DatapathControl implements Datapath {
  readonly features: Readonly<Record<keyof Features, boolean>> = { ...probeFeatures() };
  readonly #events: DatapathEvents;
  readonly #wakeFd: number;
  readonly #worker: Worker;
  readonly #overlays = new Map<number, OverlayState>();
  readonly #ports = new Map<Token, PortState>();
  readonly #waiting = new Map<number, (value: unknown) => void>();
  readonly #underlay: Underlay;
  #outbox: Command[] = [];
  /** The beginning of the next `invalidate`. */
  readonly #stale = { overlay: 0, macs: new Float64Array(MAX_MACS), count: 0 };
  #lastToken = WAKE;
  #lastReply = 0;
  #closing = false;

  private constructor(events: DatapathEvents, wakeFd: number, worker: Worker) {
    this.#events = events;
    this.#wakeFd = wakeFd;
    this.#worker = worker;
    this.#underlay = new Underlay({
      nextToken: () => ++this.#lastToken,
      opened: (token, fd, counters) => {
        this.#post({ kind: 'add-socket', token, fd, counters });
      },
      closing: async (token) => {
        await this.#request({ kind: 'remove-socket', token });
      },
    });
    worker.on('message', (report: Report) => {
      this.#hear(report);
    });
  }

  /** Resolves when the worker thread runs. */
  static async start(events: DatapathEvents): Promise<DatapathControl> {
    const wakeFd = createEvent();
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { wakeFd },
      // Known traffic allocates nothing; in a storm of lookups, V8's own 48 MiB would fill with garbage.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
      name: 'datapath',
    });
    await new Promise<void>((resolve, reject) => {
      worker.once('online', resolve);
      worker.once('error', reject);
    });
    const control = new DatapathControl(events, wakeFd, worker);
    worker.removeAllListeners('error');
    worker.on('error', (error) => {
      events.failed(error instanceof Error ? error : new Error(String(error)));
    });
    worker.on('exit', (code) => {
      if (!control.#closing) events.failed(new Error(`the datapath thread ended with code ${code}`));
    });
    return control;
  }

  addOverlay(config: OverlayConfig): void {
    const lease = this.#underlay.lease(config);
    const counters = createCounters();
    const options: OverlayOptions = {
      id: config.id,
      vnetid: config.vnetid,
      mtuBytes: config.mtuBytes,
      listenIp: config.listen.ip,
      destination: config.destination,
      acceptAny: config.accept === 'any',
      strictSource: config.strictSource,
      carryTags: config.vlan === 'keep',
      copyDscp: config.dscp === 'copy',
      keepApart: config.offload === 'off',
      negativeTtlMs: config.negativeTtlMs,
      maxTargets: config.maxTargets,
    };
    this.#overlays.set(config.id, { config, lease, counters, ports: new Map(), carrier: true });
    const { token: socket, senderFds, segmentation } = lease;
    this.#post({ kind: 'add-overlay', options, socket, senderFds, segmentation, counters });
  }

  async removeOverlay(id: number): Promise<void> {
    const state = this.#overlays.get(id);
    if (state === undefined) return;
    this.#overlays.delete(id);
    await this.#request({ kind: 'remove-overlay', overlay: id });
    for (const port of state.ports.values()) this.#closePort(port);
    await state.lease.release();
  }

  addPort({ overlay, name, mac: wanted, vid, mtuBytes, own, protection }: PortConfig): mac.MacAddress {
    const state = this.#overlay(overlay);
    const address = wanted ?? mac.randomLocalMac(Math.random);
    const fd = openTap(name, { exclusive: true });
    try {
      const bytes = new Uint8Array(mac.BYTES);
      mac.writeMac(bytes, 0, address);
      const wanted = state.config.offload === 'off' ? [TUN_F.CSUM] : [TSO_AND_USO, TSO, TUN_F.CSUM];
      wanted.find((flags) => setTapOffload(fd, flags, name));
      setLink(name, { mac: bytes, mtuBytes, gsoMaxBytes: superframeBytes(mtuBytes) });
      if (!state.carrier) setTapCarrier(fd, false, name);
      setLink(name, { up: true });
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
    const port: PortState = { token: ++this.#lastToken, name, overlay, fd, counters: createCounters() };
    state.ports.set(name, port);
    this.#ports.set(port.token, port);
    const { token, counters } = port;
    this.#post({ kind: 'add-port', token, overlay, name, fd, mac: address, vid, own, protection, counters });
    return address;
  }

  async removePort(overlay: number, name: string): Promise<void> {
    const port = this.#overlay(overlay).ports.get(name);
    if (port === undefined) return;
    await this.#request({ kind: 'remove-port', token: port.token });
    this.#overlay(overlay).ports.delete(name);
    this.#closePort(port);
  }

  setCarrier(overlay: number, on: boolean): void {
    const state = this.#overlay(overlay);
    state.carrier = on;
    for (const { fd, name } of state.ports.values()) {
      if (fd < 0) continue;
      try {
        setTapCarrier(fd, on, name);
      } catch {
        // The device has just gone; the worker will say so.
      }
    }
  }

  setProtection(overlay: number, name: string, protection: ProtectionRules | undefined): void {
    const port = this.#overlay(overlay).ports.get(name);
    if (port !== undefined) this.#post({ kind: 'protect', token: port.token, protection });
  }

  answer(overlay: number, lookup: number, answer: LookupAnswer): void {
    this.#post({ kind: 'answer', overlay, lookup, answer });
  }

  setTarget(overlay: number, mac: mac.MacAddress, to: readonly Endpoint[], ttlMs: number): void {
    this.#post({ kind: 'set-target', overlay, mac, to, ttlMs });
  }

  invalidate(overlay: number, mac?: mac.MacAddress): void {
    if (mac === undefined) {
      this.#post({ kind: 'invalidate', overlay, macs: undefined });
      return;
    }
    // A million at once, when a mapping is replaced: packed, a message each 2,048.
    if (this.#stale.overlay !== overlay || this.#stale.count === MAX_MACS) this.#flush();
    if (this.#outbox.length + this.#stale.count === 0) queueMicrotask(this.#flush);
    this.#stale.overlay = overlay;
    this.#stale.macs[this.#stale.count++] = mac;
  }

  setPeers(overlay: number, peers: readonly IpAddress[]): void {
    this.#post({ kind: 'set-peers', overlay, peers });
  }

  announce(overlay: number, frame: Uint8Array): void {
    this.#post({ kind: 'announce', overlay, frame });
  }

  async deleteTarget(overlay: number, mac: mac.MacAddress): Promise<boolean> {
    return (await this.#request({ kind: 'delete-target', overlay, mac })) as boolean;
  }

  async targets(overlay: number, after: mac.MacAddress, limit: number): Promise<readonly TargetEntry[]> {
    return (await this.#request({ kind: 'targets', overlay, after, limit })) as readonly TargetEntry[];
  }

  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number {
    return routeMtuBytes(toBytes(listenIp), toBytes(to), `the route from ${listenIp} to ${to}`);
  }

  overlayCounters(id: number): Record<string, number> {
    const { counters, lease } = this.#overlay(id);
    return addUp(readCounters(counters), readCounters(lease.counters));
  }

  overlayOffloads(id: number): readonly Offload[] {
    const { config, lease } = this.#overlay(id);
    const { features } = this;
    const isOn = config.offload === 'auto';
    const offloads: Readonly<Record<Offload, boolean>> = {
      checksum: features.tapChecksum,
      tso: isOn && features.tapTcpSegmentation,
      uso: isOn && features.tapUdpSegmentation,
      gso: lease.segmentation && features.udpSegmentation,
      gro: isOn && features.udpCoalescing,
    };
    return (Object.keys(offloads) as Offload[]).filter((name) => offloads[name]);
  }

  portCounters(overlay: number, name: string): Record<string, number> {
    const port = this.#overlay(overlay).ports.get(name);
    return port === undefined ? {} : readCounters(port.counters);
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    for (const id of this.#overlays.keys()) await this.removeOverlay(id);
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.#request({ kind: 'stop' });
    await exited;
    closeDescriptor(this.#wakeFd);
  }

  #overlay(id: number): OverlayState {
    const state = this.#overlays.get(id);
    if (state === undefined) throw new Error(`the datapath has no overlay ${id}`);
    return state;
  }

  #closePort(port: PortState): void {
    this.#ports.delete(port.token);
    if (port.fd < 0) return;
    closeDescriptor(port.fd);
    port.fd = -1;
  }

  /** A message and a wake-up for all that is said in one go: answers come in as many as the questions did. */
  #post(command: Command): void {
    this.#packStale();
    if (this.#outbox.push(command) === 1) queueMicrotask(this.#flush);
    if (this.#outbox.length >= MAX_COMMANDS) this.#flush();
  }

  readonly #flush = (): void => {
    this.#packStale();
    if (this.#outbox.length === 0) return;
    this.#worker.postMessage(this.#outbox);
    this.#outbox = [];
    signalEvent(this.#wakeFd);
  };

  /** Before anything that is said after it. */
  #packStale(): void {
    const { overlay, macs, count } = this.#stale;
    if (count === 0) return;
    this.#stale.count = 0;
    this.#outbox.push({ kind: 'invalidate', overlay, macs: macs.slice(0, count) });
  }

  #request(request: Request): Promise<unknown> {
    const reply = ++this.#lastReply;
    return new Promise((resolve) => {
      this.#waiting.set(reply, resolve);
      this.#post({ ...request, reply });
    });
  }

  /** In order, an address may come and go within one report. */
  #hearPeers(changes: readonly PeerChange[]): void {
    const overlays = new Map<number, Map<IpAddress, boolean>>();
    for (const { overlay, ip, isPeer } of changes) {
      const last = overlays.get(overlay) ?? new Map<IpAddress, boolean>();
      overlays.set(overlay, last.set(ip, isPeer));
    }
    for (const [overlay, last] of overlays) {
      const pick = (wanted: boolean) => [...last].filter(([, isPeer]) => isPeer === wanted).map(([ip]) => ip);
      this.#events.peers(overlay, pick(true), pick(false));
    }
  }

  #hear(report: Report): void {
    switch (report.kind) {
      case 'lookups':
        for (const question of report.questions) this.#events.lookup(question);
        return;
      case 'leases':
        for (const news of report.news) this.#events.leased(news);
        return;
      case 'peers':
        this.#hearPeers(report.changes);
        return;
      case 'fault': {
        const port = this.#ports.get(report.token);
        if (port === undefined) return;
        this.#closePort(port);
        this.#events.portFault(port.overlay, port.name, errnoName(-report.errno));
        return;
      }
      case 'reply':
        this.#waiting.get(report.reply)?.(report.value);
        this.#waiting.delete(report.reply);
    }
  }
}

/** What the stack may leave to us. A kernel that lacks one of a set is offered the next set. */
const TSO = TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN;
const TSO_AND_USO = TSO | TUN_F.USO4 | TUN_F.USO6;

/** A superframe that leaves as one datagram of at most 64 segments and 65,000 bytes (udp-send.c): one byte more and
 * every superframe would cost two. Headers of a TCP segment over IPv6 with timestamps: 72 bytes. */
function superframeBytes(mtuBytes: number): number {
  const segments = Math.min(64, Math.floor(65_000 / (mtuBytes + ethernet.HEADER_BYTES + vxlan.HEADER_BYTES)));
  return Math.min(65_536, segments * (mtuBytes - 72));
}

/** What is dropped before its overlay is known is counted for the socket, and shown with each of its overlays. */
function addUp(own: Record<string, number>, socket: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(own).map(([name, value]) => [name, value + (socket[name] ?? 0)]));
}
