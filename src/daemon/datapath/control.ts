/**
 * The control side's half of the datapath: opens and closes TAPs and sockets, posts commands to the datapath threads,
 * reads the counters it shares with them.
 *
 * The first thread is always there. An overlay with several queues is carried by as many threads: the further ones are
 * started for the first overlay that wants them, and end with the last. Queue 0 of everything belongs to thread 0, and
 * so on.
 */
import { createCounters, readCounters, type Counters } from '../../core/counters.js';
import { createAskedLeases } from '../../core/dhcp-leases.js';
import type { ProtectionRules } from '../../core/link-protection.js';
import type { OverlayOptions } from '../../core/overlay.js';
import {
  TUN_F,
  closeDescriptor,
  errnoName,
  openTap,
  probeFeatures,
  routeMtuBytes,
  setLink,
  setTapCarrier,
  setTapOffload,
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
import { OverlayThreads } from './overlay-threads.js';
import { WAKE, type PeerChange, type Report, type Token } from './protocol.js';
import { steerByFlow } from './steering.js';
import { DatapathThread } from './thread.js';
import { Underlay, type Lease } from './underlay.js';

interface OverlayState {
  readonly config: OverlayConfig;
  readonly lease: Lease;
  readonly threads: OverlayThreads;
  /** One a queue. */
  readonly counters: readonly Counters[];
  readonly ports: Map<string, PortState>;
  /** Underlay address -> the threads whose peer it is, as bits. */
  readonly peers: Map<IpAddress, number>;
  carrier: boolean;
}

interface PortState {
  readonly name: string;
  readonly overlay: number;
  readonly queues: readonly PortQueue[];
  /** Set once it is to be closed; resolves when it is. */
  closed?: Promise<unknown>;
}

interface PortQueue {
  readonly token: Token;
  readonly fd: number;
  readonly counters: Counters;
}

export class DatapathControl implements Datapath {
  readonly features: Readonly<Record<keyof Features, boolean>> = { ...probeFeatures() };
  readonly #events: DatapathEvents;
  readonly #threads: DatapathThread[] = [];
  readonly #overlays = new Map<number, OverlayState>();
  /** Overlay -> queues, also while it is being removed. */
  readonly #queues = new Map<number, number>();
  readonly #ports = new Map<Token, PortState>();
  readonly #underlay: Underlay;
  #lastToken = WAKE;
  #closing = false;

  private constructor(events: DatapathEvents) {
    this.#events = events;
    this.#underlay = new Underlay({
      nextToken: () => ++this.#lastToken,
      opened: (queue, token, fd, counters) => {
        this.#threads[queue].post({ kind: 'add-socket', token, fd, counters });
      },
      closing: async (queue, token) => {
        await this.#threads[queue].request({ kind: 'remove-socket', token });
      },
    });
  }

  /** Resolves when the first thread runs. */
  static async start(events: DatapathEvents): Promise<DatapathControl> {
    const control = new DatapathControl(events);
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
      void this.#dismiss();
      throw error;
    }
    const options: OverlayOptions = {
      id,
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
    const counters = threads.map(() => createCounters());
    this.#queues.set(id, queues);
    this.#overlays.set(id, {
      config,
      lease,
      threads: new OverlayThreads(id, threads, (request) => {
        this.#events.lookup(request);
      }),
      counters,
      ports: new Map(),
      peers: new Map(),
      carrier: true,
    });
    const { tokens, senderFds, segmentation } = lease;
    threads.forEach((thread, queue) => {
      const own = { socket: tokens[queue], counters: counters[queue] };
      thread.post({ kind: 'add-overlay', options, senderFds, segmentation, ...own });
    });
  }

  async removeOverlay(id: number): Promise<void> {
    const state = this.#overlays.get(id);
    if (state === undefined) return;
    this.#overlays.delete(id);
    await state.threads.remove();
    for (const port of state.ports.values()) await this.#closePort(port, () => true);
    await state.lease.release();
    this.#queues.delete(id);
    await this.#dismiss();
  }

  addPort({ overlay, name, mac: wanted, vid, mtuBytes, own, protection }: PortConfig): mac.MacAddress {
    const state = this.#overlay(overlay);
    const { queues, offload } = state.config;
    const address = wanted ?? mac.randomLocalMac(Math.random);
    const fds: number[] = [];
    try {
      fds.push(openTap(name, { exclusive: true, multiQueue: queues > 1 }));
      while (fds.length < queues) fds.push(openTap(name, { exclusive: false, multiQueue: true }));
      const bytes = new Uint8Array(mac.BYTES);
      mac.writeMac(bytes, 0, address);
      const wanted = offload === 'off' ? [TUN_F.CSUM] : [TSO_AND_USO, TSO, TUN_F.CSUM];
      wanted.find((flags) => setTapOffload(fds[0], flags, name));
      if (queues > 1) steerByFlow(fds[0], queues, name);
      setLink(name, { mac: bytes, mtuBytes, gsoMaxBytes: superframeBytes(mtuBytes) });
      if (!state.carrier) setTapCarrier(fds[0], false, name);
      setLink(name, { up: true });
    } catch (error) {
      fds.forEach(closeDescriptor);
      throw error;
    }
    const port: PortState = {
      name,
      overlay,
      queues: fds.map((fd) => ({ token: ++this.#lastToken, fd, counters: createCounters() })),
    };
    state.ports.set(name, port);
    const shared = queues > 1 ? { askedLeases: createAskedLeases() } : {};
    port.queues.forEach(({ token, fd, counters }, queue) => {
      this.#ports.set(token, port);
      const config = { overlay, name, mac: address, vid, own, protection };
      this.#threads[queue].post({ kind: 'add-port', ...config, ...shared, token, fd, counters });
    });
    return address;
  }

  async removePort(overlay: number, name: string): Promise<void> {
    const { ports } = this.#overlay(overlay);
    const port = ports.get(name);
    if (port === undefined) return;
    await this.#closePort(port);
    ports.delete(name);
  }

  setCarrier(overlay: number, on: boolean): void {
    const state = this.#overlay(overlay);
    state.carrier = on;
    for (const { queues, name, closed } of state.ports.values()) {
      if (closed !== undefined) continue;
      try {
        setTapCarrier(queues[0].fd, on, name);
      } catch {
        // The device has just gone; the worker will say so.
      }
    }
  }

  setProtection(overlay: number, name: string, protection: ProtectionRules | undefined): void {
    const port = this.#overlay(overlay).ports.get(name);
    port?.queues.forEach(({ token }, queue) => {
      this.#threads[queue].post({ kind: 'protect', token, protection });
    });
  }

  /** What follows is harmless for an overlay that is gone. */
  answer(overlay: number, lookup: number, answer: LookupAnswer): void {
    this.#overlays.get(overlay)?.threads.answer(lookup, answer);
  }

  setTarget(overlay: number, mac: mac.MacAddress, to: readonly Endpoint[], ttlMs: number): void {
    this.#overlays.get(overlay)?.threads.setTarget(mac, to, ttlMs);
  }

  invalidate(overlay: number, mac?: mac.MacAddress): void {
    this.#overlays.get(overlay)?.threads.invalidate(mac);
  }

  setPeers(overlay: number, peers: readonly IpAddress[]): void {
    this.#overlays.get(overlay)?.threads.setPeers(peers);
  }

  announce(overlay: number, frame: Uint8Array): void {
    this.#overlays.get(overlay)?.threads.announce(frame);
  }

  async deleteTarget(overlay: number, mac: mac.MacAddress): Promise<boolean> {
    return (await this.#overlays.get(overlay)?.threads.deleteTarget(mac)) ?? false;
  }

  async targets(overlay: number, after: mac.MacAddress, limit: number): Promise<readonly TargetEntry[]> {
    return (await this.#overlays.get(overlay)?.threads.targets(after, limit)) ?? [];
  }

  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number {
    return routeMtuBytes(toBytes(listenIp), toBytes(to), `the route from ${listenIp} to ${to}`);
  }

  /** What is dropped before its overlay is known is counted for the socket, and shown with each of its overlays. */
  overlayCounters(id: number): Record<string, number> {
    const { counters, lease, threads } = this.#overlay(id);
    const total = readCounters(...counters, ...lease.counters);
    return { ...total, lookups: total.lookups - threads.joined };
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
    return port === undefined ? {} : readCounters(...port.queues.map(({ counters }) => counters));
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    for (const id of this.#overlays.keys()) await this.removeOverlay(id);
    await Promise.all(this.#threads.map((thread) => thread.stop()));
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
      const thread = new DatapathThread(index, {
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

  /** Each queue once its thread has let go of it; `hasLetGo` tells of those that have already. */
  #closePort(port: PortState, hasLetGo: (token: Token) => boolean = () => false): Promise<unknown> {
    port.closed ??= Promise.all(
      port.queues.map(async ({ token, fd }, queue) => {
        this.#ports.delete(token);
        if (!hasLetGo(token)) await this.#threads[queue].request({ kind: 'remove-port', token });
        closeDescriptor(fd);
      }),
    );
    return port.closed;
  }

  /** An address may come and go within one report, and is a peer as long as it is one of any thread. */
  #hearPeers(thread: number, changes: readonly PeerChange[]): void {
    const overlays = new Map<number, Map<IpAddress, boolean>>();
    for (const { overlay, ip, isPeer } of changes) {
      const last = overlays.get(overlay) ?? new Map<IpAddress, boolean>();
      overlays.set(overlay, last.set(ip, isPeer));
    }
    for (const [overlay, last] of overlays) {
      const peers = this.#overlays.get(overlay)?.peers;
      if (peers === undefined) continue;
      const added: IpAddress[] = [];
      const removed: IpAddress[] = [];
      for (const [ip, isPeer] of last) {
        const before = peers.get(ip) ?? 0;
        const after = isPeer ? before | (1 << thread) : before & ~(1 << thread);
        if (after === 0) peers.delete(ip);
        else peers.set(ip, after);
        if (before === 0 && after !== 0) added.push(ip);
        if (before !== 0 && after === 0) removed.push(ip);
      }
      this.#events.peers(overlay, added, removed);
    }
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
      case 'peers':
        this.#hearPeers(index, report.changes);
        return;
      case 'fault': {
        // The first queue to find out speaks for all.
        const port = this.#ports.get(report.token);
        if (port === undefined) return;
        void this.#closePort(port, (token) => token === report.token);
        this.#events.portFault(port.overlay, port.name, errnoName(-report.errno));
      }
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
