/**
 * Whole networks in memory: datapath engines on hosts, joined by an underlay. For the author's kit, and for tests of the policy
 * in src/core by way of the engine that a datapath thread runs.
 *
 *   const lab = new Lab();
 *   const [a, b] = [lab.vtep('192.0.2.1'), lab.vtep('192.0.2.2')];
 *   const net = a.overlay({ vnetid: 7, destination: b.endpoint });
 *   net.port(MAC.a).send(frame(MAC.b, MAC.a));      everything has come to rest when `send` returns
 */
import { type CounterName, type Counters, createCounters, readCounters } from '../core/counts/counters.js';
import { createDropExamples, type DropExample, readDropExample } from '../core/counts/drop-examples.js';
import type { LeaseNews } from '../core/protection/dhcp-leases.js';
import type { Notice } from '../core/notices.js';
import type { PathReport } from '../core/overlay-options.js';
import type { OverlayOptions, Question } from '../core/overlay.js';
import type { PeerMemory } from '../core/peers/peer-records.js';
import type { ProbeNews } from '../core/probe/probe.js';
import { packTargets, type TargetRow } from '../core/tables/target-list.js';
import type { TableRow, TargetFacts, TargetScan } from '../core/tables/target-rows.js';
import type { LookupAnswer } from '../datapath/contract.js';
import type { Command, PeerChange, Report } from '../datapath/userland/protocol.js';
import { DatapathEngine } from '../datapath/userland/thread/engine.js';
import type { EncapsulationName } from '../encap/index.js';
import type { Device } from '../io/contract.js';
import { type Datagram, MemoryHost, MemoryNetwork, type MemorySocket, runUntilQuiet } from '../io/memory.js';
import { type DropReason, DROPS } from '../model/drops.js';
import type { Endpoint, IpAddress } from '../wire/ip.js';
import type { MacAddress } from '../wire/mac.js';
import * as udp from '../wire/udp.js';

import { Tap, type PortOptions } from './tap.js';
import { readTable, readRows, withoutFacts } from './read-table.js';
import { endpoint, tableOf } from './addresses.js';

export class Lab {
  readonly network: MemoryNetwork;
  readonly vteps: Vtep[] = [];
  /** All that any socket sent, in order. */
  readonly datagrams: Datagram[] = [];

  constructor(mtuBytes = 1500) {
    this.network = new MemoryNetwork(mtuBytes);
    this.network.onDatagram = (datagram) => {
      this.datagrams.push(datagram);
    };
  }

  vtep(ip: string, options: VtepOptions = {}): Vtep {
    const vtep = new Vtep(this, ip, options);
    this.vteps.push(vtep);
    return vtep;
  }

  /** A socket with no datapath on it. */
  peer(ip: string): MemorySocket {
    return this.network.bind(endpoint(ip));
  }

  /** Sends a datagram from a peer. `header`: the header of the tunnel in hexadecimal. */
  inject(peer: MemorySocket, to: Vtep, header: string, inner: Uint8Array, tos = 0): void {
    peer.send(to.endpoint, Buffer.concat([Buffer.from(header.replaceAll(/\s/g, ''), 'hex'), inner]), tos);
    this.run();
  }

  /** Runs until nothing moves and no question is left that can be answered. */
  run(): void {
    do {
      runUntilQuiet(this.vteps);
    } while (this.vteps.some((vtep) => vtep.answerOne()));
  }
}

export interface VtepOptions {
  /** VXLAN when left out. */
  readonly encapsulation?: EncapsulationName;
  /** Sockets to send from, at 49152 and up. */
  readonly senders?: number;
  /** Frames a read. */
  readonly batchFrames?: number;
  /** Middleware for each socket that sends. */
  readonly wrapSender?: (device: Device) => Device;
  /** And for the one that listens. */
  readonly wrapListener?: (device: Device) => Device;
}

type Reply = Extract<Report, { kind: 'reply' }>['value'];

const SOCKET_TOKEN = 1;
/** Those of the sending sockets begin here. */
const SENDER_TOKEN = 1_000_000;

export class Vtep {
  readonly lab: Lab;
  readonly encapsulation: EncapsulationName;
  readonly endpoint: Endpoint;
  readonly host: MemoryHost;
  readonly engine: DatapathEngine;
  readonly listener: MemorySocket;
  readonly senders: readonly MemorySocket[];
  readonly socketCounters = createCounters();
  readonly socketExamples = createDropExamples();
  /** Asked, in order. */
  readonly questions: Question[] = [];
  readonly faults: Extract<Report, { kind: 'fault' }>[] = [];
  /** Heard of, in order. */
  readonly leases: LeaseNews[] = [];
  /** Overlay -> memory of its peers' records. */
  readonly peerMemories = new Map<number, PeerMemory>();
  readonly peerChanges: PeerChange[] = [];
  readonly notices: Notice[] = [];
  readonly probes: ProbeNews[] = [];
  readonly paths: (PathReport & { readonly isBelieved: boolean })[] = [];
  /** The plugin, if there is one: what it leaves undefined stays open. */
  resolve: ((question: Question) => LookupAnswer | undefined) | undefined;
  #answered = 0;
  #lastToken = SOCKET_TOKEN;
  #lastOverlay = 0;
  #reply: Reply | undefined;

  constructor(lab: Lab, ip: string, options: VtepOptions) {
    const { encapsulation = 'vxlan', senders = 1, batchFrames, wrapSender, wrapListener } = options;
    this.lab = lab;
    this.encapsulation = encapsulation;
    this.endpoint = endpoint(ip);
    this.host = new MemoryHost(lab.network, batchFrames);
    this.engine = new DatapathEngine(this.host, (report) => {
      this.#hear(report);
    });
    this.listener = this.host.openSocket(this.endpoint);
    if (wrapListener !== undefined) this.host.wrap(this.listener.fd, wrapListener);
    this.engine.obey({
      kind: 'add-socket',
      token: SOCKET_TOKEN,
      fd: this.listener.fd,
      encapsulation,
      counters: this.socketCounters,
      examples: this.socketExamples,
    });
    this.senders = Array.from({ length: senders }, (_, index) =>
      this.host.openSocket({ ip: this.endpoint.ip, port: udp.MIN_DYNAMIC_PORT + index }),
    );
    this.senders.forEach(({ fd }, index) => {
      this.engine.obey({ kind: 'add-sender', token: SENDER_TOKEN + index, fd, socket: SOCKET_TOKEN });
    });
    if (wrapSender !== undefined) for (const { fd } of this.senders) this.host.wrap(fd, wrapSender);
  }

  readonly pump = (token: number): boolean => {
    const isHeard = this.engine.hear(token);
    return this.engine.pump(token) || isHeard;
  };
  readonly resume = (): boolean => this.engine.resume();

  overlay(options: Partial<OverlayOptions> = {}): Net {
    return new Net(this, ++this.#lastOverlay, options);
  }

  nextToken(): number {
    return ++this.#lastToken;
  }

  /** Obeys, and what follows from it happens. */
  obey(command: Command): void {
    this.engine.obey(command);
    this.lab.run();
  }

  ask(command: Command): Reply | undefined {
    this.#reply = undefined;
    this.obey(command);
    return this.#reply;
  }

  /** Whether there was a question that could be put. */
  answerOne(): boolean {
    if (this.resolve === undefined || this.#answered === this.questions.length) return false;
    const question = this.questions[this.#answered++];
    const answer = this.resolve(question);
    const { overlay, lookup } = question;
    if (answer !== undefined) this.engine.obey({ kind: 'answer', overlay, lookup, answer });
    return true;
  }

  #hear(report: Report): void {
    if (report.kind === 'lookups') this.questions.push(...report.questions);
    else if (report.kind === 'fault') this.faults.push(report);
    else if (report.kind === 'leases') this.leases.push(...report.news);
    else if (report.kind === 'peers') this.peerChanges.push(...report.changes);
    else if (report.kind === 'paths') this.paths.push(...report.news);
    else if (report.kind === 'notices') this.notices.push(...report.notices);
    else if (report.kind === 'peers-moved') this.peerMemories.set(report.overlay, report.memory);
    else if (report.kind === 'probes') this.probes.push(...report.news);
    else this.#reply = report.value;
  }
}

/** MTU of an overlay that is not given another. */
export const MTU_BYTES = 1450;

/** An overlay of one host. */
export class Net {
  readonly vtep: Vtep;
  readonly id: number;
  readonly values: Counters = createCounters();
  readonly examples = createDropExamples();

  constructor(vtep: Vtep, id: number, options: Partial<OverlayOptions>) {
    this.vtep = vtep;
    this.id = id;
    vtep.engine.obey({
      kind: 'add-overlay',
      options: {
        id,
        encapsulation: vtep.encapsulation,
        vnetid: 100,
        mtuBytes: MTU_BYTES,
        listen: vtep.endpoint,
        destination: undefined,
        acceptAny: false,
        strictSource: false,
        carryTags: true,
        copyDscp: false,
        keepApart: false,
        negativeTtlMs: 1000,
        maxTargets: 1000,
        ...options,
      },
      socket: SOCKET_TOKEN,
      senderFds: vtep.senders.map(({ fd }) => fd),
      segmentation: false,
      counters: this.values,
      examples: this.examples,
    });
  }

  port(mac: MacAddress, options: PortOptions = {}): Tap<Net> {
    return new Tap<Net>(this, mac, options);
  }

  get counters(): Record<CounterName, number> {
    return readCounters(this.values);
  }

  /** Every drop of this overlay and of the socket, by reason; reasons that did not happen are left out. */
  get drops(): Partial<Record<DropReason, number>> {
    const socket = readCounters(this.vtep.socketCounters);
    const own = this.counters;
    const reasons = Object.keys(DROPS) as DropReason[];
    return Object.fromEntries(
      reasons.map((name) => [name, own[name] + socket[name]] as const).filter(([, count]) => count > 0),
    );
  }

  /** The last frame dropped for this reason, by this overlay or its socket. */
  lastDrop(reason: DropReason): DropExample | undefined {
    return readDropExample(this.examples, reason) ?? readDropExample(this.vtep.socketExamples, reason);
  }

  answer(question: Question | undefined, answer: LookupAnswer): void {
    if (question === undefined) throw new Error('nothing was asked');
    this.vtep.obey({ kind: 'answer', overlay: this.id, lookup: question.lookup, answer });
  }

  setTarget(mac: MacAddress, to: readonly Endpoint[], ttlMs = Infinity): void {
    this.vtep.obey({ kind: 'set-target', overlay: this.id, mac, to, ttlMs, origin: 'set' });
  }

  /** Pushed by a plugin. */
  setTargets(rows: readonly TargetRow[]): void {
    for (const list of packTargets(rows))
      this.vtep.obey({ kind: 'set-targets', overlay: this.id, list, from: 0, end: list.macs.length });
  }

  invalidate(mac?: MacAddress): void {
    this.vtep.obey({
      kind: 'invalidate',
      overlay: this.id,
      macs: mac === undefined ? undefined : Float64Array.of(mac),
    });
  }

  setPeers(...peers: IpAddress[]): void {
    this.vtep.obey({ kind: 'set-peers', overlay: this.id, table: tableOf(peers) });
  }

  setLoops(...destinations: IpAddress[]): void {
    this.vtep.obey({ kind: 'set-loops', overlay: this.id, destinations });
  }

  deleteTarget(mac: MacAddress): boolean {
    return this.vtep.ask({ kind: 'delete-target', overlay: this.id, mac, reply: 1 }) as boolean;
  }

  targets(after: MacAddress = -1, limit = 1000): readonly TableRow[] {
    return this.#table(after).slice(0, limit).map(withoutFacts);
  }

  facts(mac: MacAddress): TargetFacts | undefined {
    return this.#table().find((row) => row.mac === mac)?.facts;
  }

  #table(after: MacAddress = -1): readonly TableRow[] {
    return readTable((command) => this.vtep.ask(command), this.id, after);
  }

  /** The one used last first. */
  recentTargets(limit: number): readonly TableRow[] {
    const request = {
      kind: 'scan-recent',
      overlay: this.id,
      from: 0,
      maxIdleTicks: Infinity,
      reply: 1,
    } as const;
    const { macs, idleTicks } = this.vtep.ask(request) as TargetScan;
    const order = [...macs.keys()].sort((one, other) => idleTicks[one] - idleTicks[other]).slice(0, limit);
    return readRows(
      (command) => this.vtep.ask(command),
      this.id,
      Float64Array.from(order, (index) => macs[index]),
    ).map(withoutFacts);
  }

  remove(): void {
    this.vtep.obey({ kind: 'remove-overlay', overlay: this.id, reply: 1 });
  }
}
