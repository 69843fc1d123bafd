/**
 * The control side's half of the datapath: opens and closes TAPs and sockets, posts commands to the worker thread,
 * reads the counters it shares with it.
 */
import { Worker } from 'node:worker_threads';
import { createCounters, readCounters } from '../../core/counters.js';
import type { ProtectionRules } from '../../core/link-protection.js';
import type { OverlayOptions } from '../../core/overlay.js';
import {
  closeDescriptor,
  createEvent,
  deleteLink,
  errnoName,
  linkInfo,
  probeFeatures,
  routeMtuBytes,
  setTapCarrier,
  setTapPersistent,
  type Features,
} from '../../dgram-extra/index.js';
import { toBytes, type Endpoint, type IpAddress } from '../../wire/ip.js';
import * as mac from '../../wire/mac.js';
import { Channel } from './channel.js';
import type {
  Datapath,
  DatapathEvents,
  Heritage,
  KnownTarget,
  Legacy,
  LookupAnswer,
  Offload,
  OverlayConfig,
  PortConfig,
  TargetEntry,
} from './contract.js';
import { WAKE, type BareCommand, type PeerChange, type Report, type Token } from './protocol.js';
import { legacy, type OverlayState, type PortState } from './legacy.js';
import { openPortTap, portOfDescriptor, tapDescriptor } from './taps.js';
import { Underlay } from './underlay.js';

/** Targets of one overlay that go on being used while varpd begins again; the others are asked for after it. */
const MAX_BRIDGED = 16_384;
/** Of the datapath thread's heap. */
const YOUNG_GENERATION_MIB = 6;

export class DatapathControl implements Datapath {
  readonly features: Readonly<Record<keyof Features, boolean>> = { ...probeFeatures() };
  readonly #events: DatapathEvents;
  readonly #heritage: Heritage;
  readonly #wakeFd: number;
  readonly #worker: Worker;
  readonly #channel: Channel;
  readonly #overlays = new Map<number, OverlayState>();
  readonly #ports = new Map<Token, PortState>();
  readonly #underlay: Underlay;
  #lastToken = WAKE;
  #closing = false;

  private constructor(events: DatapathEvents, heritage: Heritage, wakeFd: number, worker: Worker) {
    this.#events = events;
    this.#heritage = heritage;
    this.#wakeFd = wakeFd;
    this.#worker = worker;
    this.#channel = new Channel(worker, wakeFd);
    this.#underlay = new Underlay({
      left: (name) => heritage.take(name),
      nextToken: () => ++this.#lastToken,
      opened: (token, fd, counters) => {
        this.#channel.post({ kind: 'add-socket', token, fd, counters });
      },
      closing: async (token) => {
        await this.#channel.request({ kind: 'remove-socket', token });
      },
    });
    worker.on('message', (report: Report) => {
      this.#hear(report);
    });
  }

  /** Resolves when the worker thread runs. */
  static async start(events: DatapathEvents, heritage: Heritage): Promise<DatapathControl> {
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
    const control = new DatapathControl(events, heritage, wakeFd, worker);
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
    this.#overlays.set(config.id, {
      config,
      options,
      lease,
      counters,
      ports: new Map(),
      peers: [],
      carrier: true,
    });
    const { token: socket, senderFds, segmentation } = lease;
    this.#channel.post({ kind: 'add-overlay', options, socket, senderFds, segmentation, counters });
  }

  async removeOverlay(id: number): Promise<void> {
    const state = this.#overlays.get(id);
    if (state === undefined) return;
    this.#overlays.delete(id);
    await this.#channel.request({ kind: 'remove-overlay', overlay: id });
    for (const port of state.ports.values()) this.#removeDevice(port);
    await state.lease.release();
  }

  addPort(config: PortConfig): mac.MacAddress {
    const { overlay, name, mac: wanted, vid, own, protection, temporary } = config;
    const state = this.#overlay(overlay);
    const address = wanted ?? mac.randomLocalMac(Math.random);
    const fd = openPortTap(config, address, state, this.#heritage);
    const counters = createCounters();
    const token = ++this.#lastToken;
    const command = {
      kind: 'add-port',
      token,
      overlay,
      name,
      fd,
      mac: address,
      vid,
      own,
      protection,
    } as const;
    const port: PortState = { token, name, overlay, temporary, fd, command, counters };
    state.ports.set(name, port);
    this.#ports.set(port.token, port);
    this.#channel.post({ ...command, counters });
    return address;
  }

  async removePort(overlay: number, name: string): Promise<void> {
    const port = this.#overlay(overlay).ports.get(name);
    if (port === undefined) return;
    await this.#channel.request({ kind: 'remove-port', token: port.token });
    this.#overlay(overlay).ports.delete(name);
    this.#removeDevice(port);
  }

  discard(name: string): void {
    const fd = this.#heritage.take(tapDescriptor(name));
    if (fd !== undefined) closeDescriptor(fd);
    if (linkInfo(name)?.alias === this.#heritage.alias) deleteLink(name);
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
    if (port === undefined) return;
    port.command = { ...port.command, protection };
    this.#channel.post({ kind: 'protect', token: port.token, protection });
  }

  answer(overlay: number, lookup: number, answer: LookupAnswer): void {
    this.#channel.post({ kind: 'answer', overlay, lookup, answer });
  }

  setTarget(overlay: number, mac: mac.MacAddress, to: readonly Endpoint[], ttlMs: number): void {
    this.#channel.post({ kind: 'set-target', overlay, mac, to, ttlMs });
  }

  invalidate(overlay: number, mac?: mac.MacAddress): void {
    this.#channel.invalidate(overlay, mac);
  }

  setPeers(overlay: number, peers: readonly IpAddress[]): void {
    const state = this.#overlays.get(overlay);
    if (state !== undefined) state.peers = peers;
    this.#channel.post({ kind: 'set-peers', overlay, peers });
  }

  announce(overlay: number, frame: Uint8Array): void {
    this.#channel.post({ kind: 'announce', overlay, frame });
  }

  async deleteTarget(overlay: number, mac: mac.MacAddress): Promise<boolean> {
    return (await this.#channel.request({ kind: 'delete-target', overlay, mac })) as boolean;
  }

  async targets(overlay: number, after: mac.MacAddress, limit: number): Promise<readonly TargetEntry[]> {
    return (await this.#channel.request({
      kind: 'targets',
      overlay,
      after,
      limit,
    })) as readonly TargetEntry[];
  }

  async recentTargets(overlay: number, limit: number): Promise<readonly TargetEntry[]> {
    return (await this.#channel.request({
      kind: 'recent-targets',
      overlay,
      limit,
    })) as readonly TargetEntry[];
  }

  restoreTargets(overlay: number, targets: readonly KnownTarget[]): void {
    // The first to be put in is the first to make room.
    this.#channel.post({ kind: 'restore-targets', overlay, targets: [...targets].reverse() });
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

  async ping(): Promise<void> {
    await this.#channel.request({ kind: 'ping' });
  }

  async release(): Promise<Legacy> {
    if (this.#closing) return { descriptors: [], commands: [] };
    this.#closing = true;
    const known: BareCommand[] = [];
    for (const { config } of this.#overlays.values()) {
      if (config.mode !== 'dynamic') continue;
      const targets = await this.recentTargets(config.id, MAX_BRIDGED);
      known.push({ kind: 'restore-targets', overlay: config.id, targets: [...targets].reverse() });
    }
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.#channel.request({ kind: 'stop' });
    await exited;
    closeDescriptor(this.#wakeFd);
    const ports = [...this.#ports.values()];
    for (const { temporary, fd } of ports) if (temporary) closeDescriptor(fd);
    return legacy(this.#underlay.release(), this.#overlays.values(), known, ports);
  }

  async close(): Promise<void> {
    const { alias, persistTaps } = this.#heritage;
    for (const { name, fd } of (await this.release()).descriptors) {
      const port = portOfDescriptor(name);
      // One that was moved to another namespace is out of reach for the next daemon: nobody would ever remove it.
      if (persistTaps && port !== undefined && linkInfo(port)?.alias !== alias)
        setTapPersistent(fd, false, port);
      closeDescriptor(fd);
    }
  }

  #overlay(id: number): OverlayState {
    const state = this.#overlays.get(id);
    if (state === undefined) throw new Error(`the datapath has no overlay ${id}`);
    return state;
  }

  /** Closes it, and whatever it was to outlive, it is gone. */
  #removeDevice(port: PortState): void {
    if (port.fd >= 0 && this.#heritage.persistTaps && !port.temporary) {
      try {
        setTapPersistent(port.fd, false, port.name);
      } catch {
        // the device is gone already
      }
    }
    const isOpen = port.fd >= 0;
    this.#closePort(port);
    if (!isOpen) this.discard(port.name);
  }

  #closePort(port: PortState): void {
    this.#ports.delete(port.token);
    if (port.fd < 0) return;
    closeDescriptor(port.fd);
    port.fd = -1;
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
        this.#channel.replied(report.reply, report.value);
    }
  }
}

/** What is dropped before its overlay is known is counted for the socket, and shown with each of its overlays. */
function addUp(own: Record<string, number>, socket: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(own).map(([name, value]) => [name, value + (socket[name] ?? 0)]));
}
