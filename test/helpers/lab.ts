// Whole networks in memory: datapath engines on hosts, joined by an underlay, and frames for them. For tests of the
// policy in src/core by way of the engine that the worker runs.
//
//   const lab = new Lab();
//   const [a, b] = [lab.vtep('192.0.2.1'), lab.vtep('192.0.2.2')];
//   const net = a.overlay({ vnetid: 7, destination: b.endpoint });
//   net.port(MAC.a).send(frame(MAC.b, MAC.a));      everything has come to rest when `send` returns

import { type AddressTable, createTable, put } from '../../src/core/address-table.js';
import { type CounterName, type Counters, createCounters, readCounters } from '../../src/core/counters.js';
import { createDropExamples, type DropExample, readDropExample } from '../../src/core/drop-examples.js';
import type { LeaseNews } from '../../src/core/dhcp-leases.js';
import type { ProtectionRules } from '../../src/core/link-protection.js';
import type { Notice } from '../../src/core/notices.js';
import type { PathReport } from '../../src/core/overlay-options.js';
import type { OverlayOptions, Question } from '../../src/core/overlay.js';
import type { PeerMemory } from '../../src/core/peer-records.js';
import type { ProbeNews } from '../../src/core/probe.js';
import { createPresence, setDown } from '../../src/core/presence.js';
import type { TargetDescription, TableRow, TargetFacts, TargetScan } from '../../src/core/target-rows.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import type { Command, PeerChange, Report } from '../../src/datapath/userland/protocol.js';
import { DatapathEngine } from '../../src/datapath/userland/thread/engine.js';
import type { EncapsulationName } from '../../src/encap/index.js';
import type { Device } from '../../src/io/contract.js';
import {
  type Datagram,
  type MemoryFrame,
  MemoryHost,
  MemoryNetwork,
  type MemoryPort,
  type MemorySocket,
  runUntilQuiet,
} from '../../src/io/memory.js';
import { type DropReason, DROPS } from '../../src/model/drops.js';
import { write16 } from '../../src/wire/bytes.js';
import * as checksum from '../../src/wire/checksum.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import { ANY_V4, type Endpoint, type IpAddress, type Ipv4Address, parse } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import type { MacAddress } from '../../src/wire/mac.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import type * as virtio from '../../src/wire/virtio-net.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { fromHex } from '../vectors/frames.js';

// -- Networks

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

  /** A datagram from a peer, with the tunnel's header written out. */
  inject(peer: MemorySocket, to: Vtep, header: string, inner: Uint8Array, tos = 0): void {
    peer.send(to.endpoint, concat(fromHex(header), inner), tos);
    this.run();
  }

  /** Until nothing moves and no question is left that someone answers. */
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
/** And the others. */
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

  /** Whether there was a question that someone answers. */
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

/** Of an overlay that is not told another. */
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

  port(mac: MacAddress, options: PortOptions = {}): Tap {
    return new Tap(this, mac, options);
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
    return wholeTable((command) => this.vtep.ask(command), this.id, after);
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
    return describeAll(
      (command) => this.vtep.ask(command),
      this.id,
      Float64Array.from(order, (index) => macs[index]),
    ).map(withoutFacts);
  }

  remove(): void {
    this.vtep.obey({ kind: 'remove-overlay', overlay: this.id, reply: 1 });
  }
}

/** A whole table, as the control side reads it. `ask` is replied to at once. */
const withoutFacts = ({ mac, state, to }: TableRow): TableRow => ({ mac, state, to });

export function wholeTable(
  ask: (command: Command) => unknown,
  overlay: number,
  after: MacAddress = -1,
): readonly TableRow[] {
  const found: MacAddress[] = [];
  for (let from: number | undefined = 0; from !== undefined;) {
    const scan = ask({ kind: 'scan-targets', overlay, from, after, before: 2 ** 48, reply: 1 }) as TargetScan;
    found.push(...scan.macs);
    from = scan.next;
  }
  return describeAll(ask, overlay, Float64Array.from(found).sort());
}

function describeAll(
  ask: (command: Command) => unknown,
  overlay: number,
  macs: Float64Array,
): readonly TableRow[] {
  const rows: TableRow[] = [];
  for (let done = 0; done < macs.length;) {
    const request = { kind: 'describe-targets', overlay, macs: macs.slice(done), reply: 1 } as const;
    const description = ask(request) as TargetDescription;
    rows.push(...description.rows);
    done += description.count;
  }
  return rows;
}

interface PortOptions {
  readonly vid?: number;
  readonly own?: boolean;
  /** Middleware for its device. */
  readonly wrap?: (device: Device) => Device;
}

/** A port of an overlay, and whoever is behind it. */
export class Tap {
  readonly net: Net;
  readonly mac: MacAddress;
  readonly vid: number;
  readonly port: MemoryPort;
  readonly token: number;
  readonly values = createCounters();
  readonly presence = createPresence();

  constructor(net: Net, mac: MacAddress, { vid = 0, own = false, wrap }: PortOptions) {
    this.net = net;
    this.mac = mac;
    this.vid = vid;
    this.port = net.vtep.host.openPort();
    if (wrap !== undefined) net.vtep.host.wrap(this.port.fd, wrap);
    this.token = net.vtep.nextToken();
    net.vtep.engine.obey({
      kind: 'add-port',
      token: this.token,
      overlay: net.id,
      name: `port${this.token}`,
      fd: this.port.fd,
      mac,
      vid,
      own,
      presence: this.presence,
      counters: this.values,
    });
  }

  get counters(): Record<CounterName, number> {
    return readCounters(this.values);
  }

  /** What the control side hears of the interface. */
  setDown(isDown: boolean): void {
    setDown(this.presence, isDown);
  }

  /** Undefined = it may send anything. */
  protect(protection: ProtectionRules | undefined): void {
    this.net.vtep.obey({ kind: 'protect', token: this.token, protection });
  }

  /** Its device has this MAC now. */
  setMac(mac: MacAddress, protection?: ProtectionRules): void {
    this.net.vtep.obey({ kind: 'set-mac', token: this.token, mac, protection });
  }

  send(...frames: readonly Uint8Array[]): void {
    for (const bytes of frames) this.port.send(bytes);
    this.net.vtep.lab.run();
  }

  sendWith(header: virtio.Repr, bytes: Uint8Array): void {
    this.port.send(bytes, header);
    this.net.vtep.lab.run();
  }

  /** What has come out since it was last asked. */
  take(): Uint8Array[] {
    return this.port.take().map(({ bytes }) => bytes);
  }

  takeWhole(): MemoryFrame[] {
    return this.port.take();
  }

  remove(): void {
    this.net.vtep.obey({ kind: 'remove-port', token: this.token, reply: 1 });
  }
}

export function tableOf(ips: readonly IpAddress[]): AddressTable {
  const table = createTable(ips.length);
  for (const ip of ips) put(table, ip);
  return table;
}

export function endpoint(ip: string, port = vxlan.PORT): Endpoint {
  return { ip: address(ip), port };
}

export function address(text: string): IpAddress {
  const ip = parse(text);
  if (ip === undefined) throw new Error(`not an address: ${text}`);
  return ip;
}

// -- Frames

/** No byte of theirs is zero, so that one left behind shows. */
export const MAC = {
  a: 0x02a1_a2a3_a40a,
  b: 0x02b1_b2b3_b40b,
  c: 0x02c1_c2c3_c40c,
  d: 0x02d1_d2d3_d40d,
  e: 0x02e1_e2e3_e40e,
  all: 0xffff_ffff_ffff,
  group: 0x0100_5e00_0001,
} as const;

const EXPERIMENTAL = 0x88b5; // IEEE 802, local experimental EtherType 1

/** 802.1Q tag: control word, or one with another type than 0x8100. */
export type Tag = number | readonly [type: number, control: number];

/** A frame that no layer above Ethernet is looked at in; `bytes` long in all. */
export function frame(to: MacAddress, from: MacAddress, bytes = 60, ...tags: readonly Tag[]): Uint8Array {
  const payload = Uint8Array.from(
    { length: Math.max(0, bytes - 14 - 4 * tags.length) },
    (_, at) => at & 0xff,
  );
  return enclose(to, from, tags, EXPERIMENTAL, payload);
}

function enclose(
  to: MacAddress,
  from: MacAddress,
  tags: readonly Tag[],
  etherType: number,
  payload: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(ethernet.HEADER_BYTES);
  ethernet.write({ destination: to, source: from, etherType }, header, 0);
  const middle = tags.flatMap((tag) => {
    const [type, control] = typeof tag === 'number' ? [0x8100, tag] : tag;
    return [type >> 8, type & 0xff, control >> 8, control & 0xff];
  });
  return concat(header.subarray(0, 12), Uint8Array.from(middle), header.subarray(12), payload);
}

export interface Packet {
  readonly to?: MacAddress;
  readonly from?: MacAddress;
  readonly tags?: readonly Tag[];
  readonly version?: 4 | 6;
  readonly source?: string;
  readonly destination?: string;
  readonly trafficClass?: number;
  /** UDP unless said otherwise. */
  readonly protocol?: number;
  readonly ports?: readonly [source: number, destination: number];
  readonly tcpFlags?: number;
  readonly payloadBytes?: number;
  /** Of the payload. */
  readonly firstByte?: number;
  /** In place of one made up. */
  readonly payload?: Uint8Array;
  /** `partial`: the sum of the pseudo-header alone. */
  readonly checksum?: 'full' | 'partial';
  /** The 16 bits of flags and fragment offset (IPv4), or a fragment header with them (IPv6). */
  readonly fragment?: number;
  /** IPv6 destination options before the transport header, 8 bytes each. */
  readonly extensions?: number;
}

/** An Ethernet frame with an IP packet in it. */
export function packet(spec: Packet): Uint8Array {
  const { to = MAC.b, from = MAC.a, tags = [], version = 4 } = spec;
  const etherType = version === 4 ? ethernet.IPV4 : ethernet.IPV6;
  return enclose(to, from, tags, etherType, version === 4 ? packetV4(spec) : packetV6(spec));
}

function packetV4(spec: Packet): Uint8Array {
  const { source = '10.0.0.1', destination = '10.0.0.2', protocol = ipv4.UDP, trafficClass = 0 } = spec;
  const segment = transport(spec, protocol);
  const bytes = concat(new Uint8Array(ipv4.HEADER_BYTES), segment);
  const repr: ipv4.Repr = {
    source: address(source) as Ipv4Address,
    destination: address(destination) as Ipv4Address,
    protocol,
    ttl: 64,
    trafficClass,
    identification: 0x1234,
    dontFragment: true,
    payloadLength: segment.length,
  };
  ipv4.write(repr, bytes, 0);
  if (spec.fragment !== undefined) {
    write16(bytes, 6, spec.fragment);
    ipv4.fillChecksum(bytes, 0);
  }
  fillTransport(spec, protocol, bytes, ipv4.HEADER_BYTES);
  return bytes;
}

function packetV6(spec: Packet): Uint8Array {
  const { source = 'fd00::1', destination = 'fd00::2', protocol = ipv4.UDP, trafficClass = 0 } = spec;
  const { extensions = 0, fragment } = spec;
  const chain: number[][] = Array.from({ length: extensions }, () => [0, 0, 1, 4, 0, 0, 0, 0]); // PadN
  const types: number[] = chain.map(() => ipv6.DESTINATION_OPTIONS);
  if (fragment !== undefined) {
    chain.push([0, 0, fragment >> 8, fragment & 0xff, 0, 0, 0, 1]);
    types.push(ipv6.FRAGMENT);
  }
  types.push(protocol);
  const before = Uint8Array.from(chain.flatMap((header, index) => [types[index + 1], ...header.slice(1)]));
  const segment = transport(spec, protocol);
  const bytes = concat(new Uint8Array(ipv6.HEADER_BYTES), before, segment);
  const repr: ipv6.Repr = {
    source: address(source),
    destination: address(destination),
    nextHeader: types[0],
    hopLimit: 64,
    trafficClass,
    flowLabel: 0,
    payloadLength: before.length + segment.length,
  };
  ipv6.write(repr, bytes, 0);
  fillTransport(spec, protocol, bytes, ipv6.HEADER_BYTES + before.length);
  return bytes;
}

function transport(spec: Packet, protocol: number): Uint8Array {
  const { ports = [40000, 5001], tcpFlags = tcp.ACK } = spec;
  const [sourcePort, destinationPort] = ports;
  const length = spec.payload?.length ?? spec.payloadBytes ?? 32;
  const payload = spec.payload?.slice() ?? Uint8Array.from({ length }, (_, at) => (at * 7) & 0xff);
  if (spec.firstByte !== undefined) payload[0] = spec.firstByte;
  if (protocol === ipv4.TCP) {
    const header = new Uint8Array(tcp.HEADER_BYTES);
    const rest = { sequence: 1, acknowledgment: 2, flags: tcpFlags, window: 1000 };
    tcp.write({ sourcePort, destinationPort, ...rest }, header, 0);
    return concat(header, payload);
  }
  if (protocol === ipv4.UDP) {
    const header = new Uint8Array(udp.HEADER_BYTES);
    udp.write({ sourcePort, destinationPort, payloadLength: length }, header, 0);
    return concat(header, payload);
  }
  return payload;
}

/** `bytes` is the IP packet, `at` where its transport header begins. */
function fillTransport(spec: Packet, protocol: number, bytes: Uint8Array, at: number): void {
  if (protocol !== ipv4.TCP && protocol !== ipv4.UDP) return;
  const length = bytes.length - at;
  if (spec.checksum === 'partial') {
    const field = protocol === ipv4.TCP ? tcp.CHECKSUM : udp.CHECKSUM;
    write16(bytes, at + field, checksum.pseudo(bytes, 0, protocol, length));
  } else if (protocol === ipv4.TCP) {
    tcp.fillChecksum(bytes, 0, at, length);
  } else {
    udp.fillChecksum(bytes, 0, at);
  }
}

/** A message of a DHCP client, or what `more` makes of it, broadcast. */
export function dhcpFrame(more: Partial<dhcpv4.Repr> = {}, spec: Packet = {}): Uint8Array {
  const repr: dhcpv4.Repr = {
    operation: dhcpv4.REQUEST,
    hops: 0,
    transactionId: 0x1234_5678,
    secs: 0,
    wantsBroadcast: false,
    ciaddr: ANY_V4,
    yiaddr: ANY_V4,
    siaddr: ANY_V4,
    giaddr: ANY_V4,
    clientMac: MAC.a,
    options: new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.DISCOVER)]]),
    ...more,
  };
  const message = new Uint8Array(dhcpv4.byteLength(repr));
  dhcpv4.write(repr, message, 0);
  const isReply = repr.operation === dhcpv4.REPLY;
  return packet({
    to: MAC.all,
    source: isReply ? '10.0.0.1' : '0.0.0.0',
    destination: '255.255.255.255',
    ports: isReply ? [67, 68] : [68, 67],
    payload: message,
    ...spec,
  });
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
