// A host that says what it would do with each frame before it gets it, and its twin, which never says anything. Throws where the
// host does something else than it said, where saying it has changed anything, or where the two differ in the end.
import type { DrySend } from '../../src/core/dry-run/dry-outputs.js';
import type { DryFrame } from '../../src/core/dry-run/dry-run.js';
import type { Explained } from '../../src/core/dry-run/dry-facts.js';
import { type CounterName, readCounters } from '../../src/core/counts/counters.js';
import type { Question } from '../../src/core/overlay.js';
import { proxy } from '../../src/daemon/plugins/proxy.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import type { EncapsulationName } from '../../src/encap/index.js';
import { DROPS } from '../../src/model/drops.js';
import * as ethernet from '../../src/wire/ethernet.js';
import type { MacAddress } from '../../src/wire/mac.js';
import * as udp from '../../src/wire/udp.js';
import { concat, endpoint, hex, Lab, MAC, type Net, type Tap } from './lab.js';
import { OWN_V4, OWN_V6 } from './guest-frames.js';
import { equal } from './world.js';

export const PEER = '192.0.2.2';
export const STRANGER = '192.0.2.3';
/** Its route leads back into the overlay. */
export const LOOP = '192.0.2.4';
/** Behind a narrow link, of which ICMP tells. */
export const NARROW = '192.0.2.5';
/** Without a route. */
export const AWAY = '192.0.2.6';
const HERE = '192.0.2.1';
const NARROW_BYTES = 1300;
const ENETUNREACH = 101;
const VNETID = 100;

/** Where a MAC is, for the plugin; no place = it does not answer. */
export const PLACES: ReadonlyMap<MacAddress, readonly string[]> = new Map([
  [MAC.b, [PEER]],
  [MAC.c, []],
  [MAC.d, [PEER, NARROW]],
  [0x0200_0000_0055, [HERE]],
  [0x0200_0000_0056, [LOOP]],
  [0x0200_0000_0057, [NARROW]],
  [0x0200_0000_0058, [AWAY]],
]);
export const SILENT: MacAddress = 0x0200_0000_0059;
/** These MACs and the ones after it are silent too: the plugin does not answer. */
export const FIRST_SILENT: MacAddress = 0x0600_0000_0000;
/** EtherType of broadcasts that the plugin does not answer. */
export const SILENT_TYPE = 0x88b6; // IEEE 802, local experimental EtherType 2

export interface PortSpec {
  readonly mac: MacAddress;
  readonly vid: number;
  readonly own: boolean;
  readonly protect: readonly ('mac-nospoof' | 'ip-nospoof' | 'dhcp-nospoof' | 'restricted')[];
}

interface WorldSpec {
  readonly encapsulation: EncapsulationName;
  readonly options: ConstructorParameters<typeof Net>[2];
  readonly ports: readonly PortSpec[];
}

type Counts = Partial<Record<CounterName, number>>;

interface Side {
  readonly lab: Lab;
  readonly net: Net;
  readonly taps: readonly Tap[];
}

/** Counters of messages that come back after the frame has left. */
const LATER: readonly string[] = ['path_mtu_learned', 'path_mtu_refused', 'path_mtu_too_small'];

export class Explainer {
  /** How often frames had which outcome: a reason, `sent`, `delivered`, `waits`. */
  readonly outcomes = new Map<string, number>();
  readonly #host: Side;
  readonly #twin: Side;
  #nowMs = 0;

  constructor(spec: WorldSpec) {
    this.#host = sideOf(spec);
    this.#twin = sideOf(spec);
  }

  get ports(): number {
    return this.#host.taps.length;
  }

  /** The same for both. */
  did(action: (net: Net, taps: readonly Tap[]) => void): void {
    for (const { net, taps } of [this.#host, this.#twin]) {
      action(net, taps);
      for (const tap of taps) tap.take();
    }
  }

  pass(ms: number): void {
    this.#nowMs += ms;
    for (const { lab, net } of [this.#host, this.#twin]) {
      net.vtep.engine.setTime(this.#nowMs);
      lab.run(); // targets may have been asked about
    }
  }

  /** The port sends the frame, and it is not explained. */
  send(index: number, frame: Uint8Array): void {
    this.did((_net, taps) => {
      taps[index].send(frame);
    });
  }

  transmit(index: number, frame: Uint8Array): void {
    const { taps } = this.#host;
    const dry = { frame, from: { port: nameOf(taps[index]) } };
    this.#compare(dry, ({ taps: own }) => {
      own[index].send(frame);
    });
  }

  receive(frame: Uint8Array, from: string, vnetid = VNETID): void {
    const header = new Uint8Array(8);
    const { encapsulation } = this.#host.net.vtep;
    header.set(encapsulation === 'geneve' ? [0, 0, 0x65, 0x58] : [8, 0, 0, 0]);
    header.set([vnetid >> 16, (vnetid >> 8) & 0xff, vnetid & 0xff], 4);
    const peer = endpoint(from, 52000);
    this.#compare({ frame, from: { peer, vnetid } }, ({ lab, net }) => {
      const bytes = concat(header, frame);
      net.vtep.listener.inbox.push({ from: peer, to: net.vtep.endpoint, tos: 0, bytes });
      lab.run();
    });
  }

  /** Whatever the two have done, they have done the same. */
  end(): void {
    equal(stateOf(this.#host), stateOf(this.#twin), 'the host and its twin');
    equal(sentBy(this.#host, 0), sentBy(this.#twin, 0), 'datagrams of the host and its twin');
  }

  #compare(dry: Omit<DryFrame, 'answers'>, action: (side: Side) => void): void {
    const before = stateOf(this.#host);
    const said = explain(this.#host, dry);
    equal(stateOf(this.#host), before, 'the state after it was explained');
    const datagrams = this.#host.lab.datagrams.length;
    const counted = countersOf(this.#host);
    for (const { taps } of [this.#host, this.#twin]) for (const tap of taps) tap.take();
    action(this.#host);
    action(this.#twin);
    const change = difference(countersOf(this.#host), counted);
    const done: Record<string, unknown> = {
      sends: sentBy(this.#host, datagrams),
      deliveries: this.#host.taps.map((tap) => tap.take().map(hex)),
      drops: Object.keys(change).filter((name) => name in DROPS),
      counters: Object.fromEntries(Object.entries(change).filter(([name]) => !(name in DROPS))),
    };
    const told: Record<string, unknown> = {
      sends: said.sends
        .filter(isCarried)
        .map(({ to, socket, bytes, trafficClass }) => [to, socket, hex(bytes), trafficClass]),
      deliveries: this.#host.taps.map((tap) =>
        said.deliveries.filter(({ port }) => port === nameOf(tap)).map(({ bytes }) => hex(bytes)),
      ),
      drops: said.drops,
      counters: said.counters,
    };
    for (const [name, value] of Object.entries(done))
      equal(
        value,
        told[name],
        `${name}: what was done, against what was said (${said.facts.target?.state ?? ''} ${JSON.stringify(done['drops'])} ${JSON.stringify(done['counters'])} ${JSON.stringify(said.counters)} ${JSON.stringify(said.drops)} ${hex(dry.frame.slice(0, 24))})`,
      );
    for (const tap of this.#twin.taps) tap.take();
    this.#note(said);
  }

  #note({ sends, deliveries, drops, question }: Explained): void {
    const outcomes = [
      ...drops,
      ...(sends.length > 0 ? ['sent'] : []),
      ...(deliveries.length > 0 ? ['delivered'] : []),
      ...(question === undefined ? [] : ['waits']),
    ];
    for (const name of outcomes) this.outcomes.set(name, (this.outcomes.get(name) ?? 0) + 1);
  }
}

/** A router on the way drops what is too large for its next link, and tells. */
function isCarried({ to, bytes }: DrySend): boolean {
  return to.ip !== NARROW || udp.overheadBytes(4) + bytes.length <= NARROW_BYTES;
}

function explain({ net }: Side, dry: Omit<DryFrame, 'answers'>): Explained {
  const answers: LookupAnswer[] = [];
  for (;;) {
    const frame = { ...dry, answers };
    const said = net.vtep.ask({ kind: 'explain', overlay: net.id, frame, reply: 1 }) as Explained;
    const answer = said.question && resolve(said.question);
    if (answer === undefined) return said;
    answers.push(answer);
  }
}

/** The plugin. */
function resolve(question: Question): LookupAnswer | undefined {
  const { destinationMac, frame, etherType } = question;
  if (frame !== undefined) return resolveFrame(frame, etherType);
  if (destinationMac === SILENT || destinationMac >= FIRST_SILENT) return undefined;
  const to = PLACES.get(destinationMac);
  if (to === undefined || to.length === 0) return { kind: 'drop', reason: 'lookup_drop' };
  return { kind: 'target', to: to.map((ip) => endpoint(ip)), ttlMs: 3000 };
}

function resolveFrame(frame: Uint8Array, etherType: number): LookupAnswer | undefined {
  const facts = { neighbor: () => MAC.b, dhcpServer: () => MAC.b };
  const ignore = (): void => undefined;
  switch (etherType) {
    case ethernet.ARP:
      return proxy('arp', frame, facts, ignore) as LookupAnswer;
    case ethernet.IPV6:
      return proxy('ndp', frame, facts, ignore) as LookupAnswer;
    case ethernet.IPV4:
      return proxy('dhcp', frame, facts, ignore) as LookupAnswer;
    case SILENT_TYPE:
      return undefined;
    case 0x88b5:
      return { kind: 'target', to: [endpoint(PEER), endpoint(STRANGER)], ttlMs: 0 };
    default:
      return { kind: 'drop', reason: 'lookup_failed' };
  }
}

function sideOf({ encapsulation, options, ports }: WorldSpec): Side {
  const lab = new Lab();
  lab.network.narrow.set(endpoint(NARROW).ip, { mtuBytes: NARROW_BYTES });
  lab.network.errnos.set(endpoint(AWAY).ip, ENETUNREACH);
  const vtep = lab.vtep(HERE, { senders: 5, encapsulation });
  vtep.resolve = resolve;
  const net = vtep.overlay({ vnetid: VNETID, ...options });
  net.setLoops(endpoint(LOOP).ip);
  net.setPeers(endpoint(PEER).ip);
  const taps = ports.map(({ mac, vid, own, protect }) => {
    const tap = net.port(mac, { vid, own });
    const addresses = [OWN_V4, OWN_V6].map((ip) => ({ ip: endpoint(ip).ip, bits: 128 }));
    if (protect.length > 0) tap.protect({ types: protect, addresses, clientIds: [] });
    return tap;
  });
  return { lab, net, taps };
}

function nameOf(tap: Tap): string {
  return `port${tap.token}`;
}

function sentBy({ lab, net }: Side, from: number): unknown[] {
  return lab.datagrams
    .slice(from)
    .filter((datagram) => datagram.from.ip === net.vtep.endpoint.ip)
    .map(({ from: { port }, to, bytes, tos }) => [to, port - 49152, hex(bytes), tos]);
}

function countersOf({ net }: Side): Record<CounterName, number> {
  return readCounters(net.values, net.vtep.socketCounters);
}

function difference(after: Record<string, number>, before: Record<string, number>): Counts {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, value]) => [name, value - before[name]] as const)
      .filter(([name, value]) => value !== 0 && !LATER.includes(name)),
  );
}

/** All that a frame can change, and all that has been reported. */
function stateOf({ net, taps }: Side): unknown {
  const { vtep } = net;
  const scan = { kind: 'scan-recent', overlay: net.id, from: 0, maxIdleTicks: Infinity, reply: 1 } as const;
  return {
    counters: countersOf({ net, taps, lab: vtep.lab }),
    ports: taps.map((tap) => [tap.counters, [...tap.presence], tap.port.inbox.length]),
    examples: [[...net.examples], [...vtep.socketExamples]].map((words) => hex(Uint8Array.from(words))),
    targets: net.targets(),
    used: vtep.ask(scan),
    questions: vtep.questions.map(({ lookup }) => lookup),
    reports: [vtep.leases, vtep.peerChanges, vtep.notices, vtep.paths, vtep.faults],
    datagrams: vtep.lab.datagrams.length,
  };
}
