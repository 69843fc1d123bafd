// What arrives at an underlay socket, many datagrams in one message of the kernel (UDP_GRO): each is judged alone, whatever
// another one of them says, none is lost for want of room, and what the kernel loses is counted.
//
// The calls of src/dgram-extra in a network namespace of their own (own-namespace.ts); then a varpd, to which a peer's guests
// send by hand.
import path from 'node:path';

import fc from 'fast-check';
import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { ruleWords } from '../../src/encap/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { DATAGRAMS } from '../../src/io/contract.js';
import { LinuxSocket } from '../../src/io/linux.js';
import * as d from '../../src/wire/descriptor.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { addressBytes, encapsulated, filler, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { get, parseMetrics } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { inOwnNamespace, isInside } from '../helpers/own-namespace.js';
import { waitUntil } from '../helpers/process.js';

const { native } = extra;
/** VARPD_TEST_SEED=n tries other cases; the failing one is printed with it. */
const SEED = Number(process.env['VARPD_TEST_SEED'] ?? 1);
const VXLAN_BYTES = 8;
const IP_LENGTH = VXLAN_BYTES + 14 + 2;
const IPV6_LENGTH = VXLAN_BYTES + 14 + 4;
const AMBIGUOUS = 0x4000_0000;
const SLOT = 0;

// ---------------------------------------------------------------- the calls

const SLAB_BYTES = 64 * (d.HEADROOM_BYTES + d.MAX_FRAME_BYTES);
const MOST = 64;

interface Bench {
  readonly outgoing: extra.Batch;
  readonly incoming: extra.Batch;
  /** Of as many messages, with hardly any descriptors. */
  readonly narrow: extra.Batch;
  readonly sender: number;
  readonly receiver: number;
  readonly epoll: number;
}

function openBench(): Bench {
  const open = (port: number, more = {}): number =>
    extra.openUdp({ address: addressBytes('127.0.0.1'), port, label: 'bench', ...more });
  const receiver = open(5001, { coalesce: true, receiveBufferBytes: 64 << 20 });
  native.addressSet(SLOT, addressBytes('127.0.0.1'), 5001);
  const epoll = extra.createPoll();
  extra.addToPoll(epoll, receiver, 1);
  return {
    outgoing: extra.createBatch(MOST, SLAB_BYTES),
    incoming: extra.createBatch(MOST, SLAB_BYTES, MOST * MOST),
    narrow: extra.createBatch(MOST, SLAB_BYTES, MOST),
    sender: open(0),
    receiver,
    epoll,
  };
}

const word = ({ descriptors }: extra.Batch, index: number, name: number): number =>
  descriptors[index * d.DESCRIPTOR_WORDS + name];

/** Sends datagrams of one size so that they arrive as one message. */
function sendMessage({ outgoing, sender }: Bench, datagrams: readonly Uint8Array[]): void {
  datagrams.forEach((bytes, index) => {
    const at = index * d.DESCRIPTOR_WORDS;
    const offset = d.HEADROOM_BYTES + index * 2048;
    outgoing.descriptors.fill(0, at, at + d.DESCRIPTOR_WORDS);
    outgoing.descriptors.set([offset, bytes.length], at);
    outgoing.bytes.set(bytes, offset);
  });
  const entries = Int32Array.from(datagrams.flatMap((_, index) => [index, SLOT]));
  native.udpSend(outgoing.handle, sender, entries, datagrams.length, 0, 1);
}

const RULE = extra.headerRule(ruleWords(VXLAN.rule));

function receiveInto({ epoll, receiver }: Bench, batch: extra.Batch): number {
  native.pollWait(epoll, new Int32Array(1), 5000);
  return native.udpReceive(batch.handle, receiver, MOST, RULE);
}

/** What the descriptors say: runs of datagrams. */
function runsIn(batch: extra.Batch, count: number): Uint8Array[][] {
  return Array.from({ length: count }, (_, index) => {
    const start = word(batch, index, d.OFFSET);
    const length = word(batch, index, d.LENGTH);
    const segment = word(batch, index, d.SEGMENT);
    if (segment === 0) return [batch.bytes.slice(start, start + length)];
    const end = word(batch, index, d.RUN_END);
    const frames: Uint8Array[] = [];
    for (let at = start; at < end; at += segment)
      frames.push(batch.bytes.slice(at, Math.min(at + length, end)));
    return frames;
  });
}

/** What the policy decides by, of a datagram: VXLAN, Ethernet, EtherType, version and traffic class. */
const fate = (datagram: Uint8Array): string => toHex(datagram.subarray(0, VXLAN_BYTES + 14 + 2));

interface Guest {
  readonly vni: number;
  readonly flags: number;
  readonly mac: string;
  readonly isV6: boolean;
  readonly trafficClass: number;
  /** What its IP header says that it is long, beyond what it is. 0 = the truth. */
  readonly lie: number;
}

const GUESTS = fc.record({
  vni: fc.constantFrom(42, 42, 7),
  flags: fc.constantFrom(8, 8, 8, 0x88, 0),
  mac: fc.constantFrom('02:00:00:00:00:0b', '02:00:00:00:00:0c'),
  isV6: fc.boolean(),
  trafficClass: fc.constantFrom(0, 0, 2),
  lie: fc.oneof(
    { weight: 2, arbitrary: fc.constant(0) },
    fc.integer({ min: -20, max: 3000 }),
    fc.constant(60_000),
  ),
});
const PAYLOAD_BYTES = { v4: 120, v6: 100 };

function datagramOf({ vni, flags, mac, isV6, trafficClass, lie }: Guest): Uint8Array {
  const ends = isV6 ? { source: 'fd55::1', destination: 'fd55::2' } : {};
  const payload = filler(isV6 ? PAYLOAD_BYTES.v6 : PAYLOAD_BYTES.v4);
  const bytes = encapsulated(vni, udpFrame({ destinationMac: mac, trafficClass, payload, ...ends }), {
    0: flags,
  });
  const at = isV6 ? IPV6_LENGTH : IP_LENGTH;
  const view = new DataView(bytes.buffer);
  view.setUint16(at, view.getUint16(at) + lie);
  return bytes;
}

/** Whether the first one's IP packet ends exactly where the message does: that alone can be an uncut superframe. */
const claimsAll = ([{ lie }]: readonly Guest[], bytes: number, each: number): boolean => lie === bytes - each;

function judgedAlone(t: Test, bench: Bench): void {
  const property = fc.property(fc.array(GUESTS, { minLength: 2, maxLength: 20 }), (guests) => {
    const datagrams = guests.map(datagramOf);
    const each = datagrams[0].length;
    const sent = datagrams.map(toHex);
    sendMessage(bench, datagrams);
    const count = receiveInto(bench, bench.incoming);
    if (claimsAll(guests, each * datagrams.length, each)) return (count & ~AMBIGUOUS) === 1;
    const runs = runsIn(bench.incoming, count);
    if (runs.flat().map(toHex).join() !== sent.join()) return false;
    return runs.every((run) => run.every((one) => fate(one) === fate(run[0])));
  });
  const result = fc.check(property, { numRuns: 3000, seed: SEED });
  t.notOk(result.failed, result.failed ? String(fc.defaultReportMessage(result)) : `messages (seed ${SEED})`);
  t.end();
}

/** A guest that knows how long the message will be is taken for an uncut superframe, or for what made one up. */
function cannotBeTold(t: Test, bench: Bench): void {
  const honest: Guest = { vni: 42, flags: 8, mac: '02:00:00:00:00:0b', isV6: false, trafficClass: 0, lie: 0 };
  const each = datagramOf(honest).length;
  for (const [name, change] of Object.entries({
    'of its own network': {},
    'of another': { vni: 7 },
    'with other flags': { flags: 0x88 },
    'over IPv6': { isV6: true },
  })) {
    const liar: Guest = { ...honest, mac: '02:00:00:00:00:0c', ...change, lie: 3 * each };
    for (const place of [0, 1, 2, 3]) {
      const guests = [honest, honest, honest];
      guests.splice(place, 0, liar);
      const datagrams = guests.map(datagramOf);
      sendMessage(bench, datagrams);
      const count = receiveInto(bench, bench.incoming);
      if (place > 0) {
        t.same(runsIn(bench.incoming, count).flat().map(toHex), datagrams.map(toHex), `${name}: at ${place}`);
        continue;
      }
      t.equal(count, 1 | AMBIGUOUS, `${name}: first`);
      t.equal(word(bench.incoming, 0, d.LENGTH), 0);
      t.equal(d.runFrames(bench.incoming.descriptors, 0), 4, 'as many as there were');
    }
  }
  // While something waits in the queue, it would be handed over without its size.
  sendMessage(bench, [honest, honest].map(datagramOf));
  t.equal(native.udpCoalesce(bench.receiver, 0), -11, 'not before all is received: EAGAIN');
  t.equal(receiveInto(bench, bench.incoming), 1);
  t.equal(d.runFrames(bench.incoming.descriptors, 0), 2, 'which is as it was');
  // The socket as the datapath has it: the next ones arrive, cut by the kernel, which knows.
  const socket = new LinuxSocket(bench.receiver, VXLAN, DATAGRAMS);
  const datagrams = [{ ...honest, lie: 2 * each }, honest, honest].map(datagramOf);
  const counts = [0, 1].map(() => {
    sendMessage(bench, datagrams);
    native.pollWait(bench.epoll, new Int32Array(1), 5000);
    return socket.receive(bench.incoming);
  });
  t.same(counts, [1, 3], 'from then on one by one');
  t.same(runsIn(bench.incoming, 3).flat().map(toHex), datagrams.map(toHex), 'all of them');
  extra.setUdpCoalescing(bench.receiver, true);
  sendMessage(bench, [honest, honest, honest].map(datagramOf));
  t.equal(receiveInto(bench, bench.incoming), 1, 'until it is left to us again');
  t.end();
}

function moreThanFit(t: Test, bench: Bench): void {
  const { narrow } = bench;
  const all: Uint8Array[] = [];
  const lengths: number[] = [];
  // 64 messages: runs of two, and datagrams of which none is like the one before it.
  for (let message = 0; message < MOST; message++) {
    const datagrams = Array.from({ length: 1 + ((message * 7) % 64) }, (_, index) => {
      const like = message % 3 === 0 ? index >> 1 : index;
      return encapsulated(
        like & 1,
        udpFrame({ payload: filler(20), sourcePort: message, destinationPort: index }),
      );
    });
    lengths.push(datagrams.length);
    all.push(...datagrams);
    sendMessage(bench, datagrams);
  }
  const calls: number[] = [];
  const got: Uint8Array[] = [];
  for (let count = receiveInto(bench, narrow); count > 0; count = native.udpRest(narrow.handle)) {
    calls.push(count);
    got.push(...runsIn(narrow, count).flat());
    for (let index = 0; index < count; index++)
      if (word(narrow, index, d.PORT) === 0 || word(narrow, index, d.GSO_SIZE) !== 0)
        t.fail('whom it is from');
  }
  t.ok(calls.length > 10, `${all.length} datagrams in ${calls.length} calls`);
  t.same(got.map(toHex), all.map(toHex), 'all, in order');
  t.same([...new Set(calls.slice(0, -1))], [MOST], 'each call gives as many as it can');
  t.equal(native.udpRest(narrow.handle), 0, 'and nothing twice');
  t.equal(native.udpRest(bench.incoming.handle), 0, 'no other batch has any of it');
  t.equal(native.udpRest(99), -22, 'no such batch');

  const two = Array.from({ length: MOST + 1 }, (_, index) => encapsulated(index & 1, udpFrame()));
  sendMessage(bench, two.slice(0, MOST));
  sendMessage(bench, two.slice(MOST));
  t.equal(receiveInto(bench, narrow), MOST, 'a rest that nobody wants');
  sendMessage(bench, [withTag(udpFrame(), 5)]);
  t.equal(receiveInto(bench, narrow), 1, 'is not mistaken for what comes next');
  t.end();
}

function counted(t: Test): void {
  const address = addressBytes('127.0.0.1');
  const small = extra.openUdp({ address, port: 5002, label: 'small', receiveBufferBytes: 4096 });
  const sender = extra.openUdp({ address, port: 0, label: 'sender' });
  const batch = extra.createBatch(MOST, SLAB_BYTES);
  native.addressSet(1, address, 5002);
  batch.descriptors.set([d.HEADROOM_BYTES, 1000]);
  const entries = Int32Array.from(Array.from({ length: 50 }, () => [0, 1]).flat());
  t.equal(extra.udpDropped(small), 0);
  t.equal(native.udpSend(batch.handle, sender, entries, 50, 0, 0), 50);
  let received = 0;
  for (let count = 1; count > 0; received += count)
    count = native.udpReceive(batch.handle, small, MOST, RULE);
  t.ok(received < 50 && received > 0, `${received} of 50 found room`);
  t.equal(extra.udpDropped(small), 50 - received, 'and the others are counted');
  t.equal(extra.udpDropped(-1), undefined, 'no such socket');
  t.end();
}

// ---------------------------------------------------------------- a varpd

/** What the guests of one VTEP send: the honest one and its liar are of one size and leave by one source port. Messages are cut
 * by the kernel (UDP_SEGMENT) and arrive whole. */
const VTEP = `
import json, socket, struct, sys, time
s = json.load(sys.stdin)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
sock.connect((s['to'], 4789))
honest = [bytes.fromhex(one) for one in s['honest']]
liars = [bytes.fromhex(one) for one in s['liars']]
size, each = len(honest[0]), s['each']
for k in range(s['messages']):
    parts = [honest[i % len(honest)] for i in range(each)]
    if liars:
        claim = [65535, 3 * size - 22, each * size - 22, 20][k // 3 % 4]
        liar = bytearray(liars[k % len(liars)])
        liar[24:26] = struct.pack('!H', claim)
        parts[[0, each // 2, each - 1][k % 3]] = bytes(liar)
    sock.sendmsg([b''.join(parts)], [(17, 103, struct.pack('=H', size))])
    time.sleep(s['pauseS'])`;

interface Traffic {
  readonly honest: readonly Uint8Array[];
  readonly liars?: readonly Uint8Array[];
  readonly messages: number;
  /** Datagrams a message. */
  readonly each: number;
  readonly pauseS?: number;
}

interface Site {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
  /** Frames that a port got. */
  readonly received: (vnic: string) => Promise<number>;
  readonly send: (traffic: Traffic) => Promise<void>;
}

const MACS = { foo0: '02:00:00:00:00:f0', foo1: '02:00:00:00:00:f1', foo2: '02:00:00:00:00:f2' };
const framesTo = (mac: string, payloadBytes: number): Uint8Array =>
  udpFrame({ destinationMac: mac, payload: filler(payloadBytes) });

/** Two overlays on one socket: foo0 and foo1 in 42, foo2 in 43. */
async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  // So that ports get nothing but what is sent here.
  await a.quietNewDevices();
  const daemon = new Daemon(bed, a, { withoutRoot: true });
  daemon.writeConfig({ metrics: path.join(daemon.directory, 'metrics.sock') });
  await daemon.start();
  daemon.explain(t);
  const ends = { from: a.underlay.v4, to: b.underlay.v4 };
  await daemon.ok(directOverlay(ends));
  await daemon.ok(directOverlay({ ...ends, vnetid: 43, name: 'overlay1' }));
  for (const [name, mac] of Object.entries(MACS)) {
    await daemon.ok(`create-vnic -l ${name === 'foo2' ? 'overlay1' : 'overlay0'} -m ${mac} ${name}`);
    await a.ip(`link set ${name} up`);
  }
  return {
    a,
    b,
    daemon,
    received: async (vnic) =>
      (await daemon.vnics()).find(({ name }) => name === vnic)?.counters['rx_frames'] ?? 0,
    send: async ({ honest, liars = [], messages, each, pauseS = 0 }) => {
      const hex = { honest: honest.map(toHex), liars: liars.map(toHex) };
      const input = JSON.stringify({ to: a.underlay.v4, ...hex, messages, each, pauseS });
      const { code, stderr } = await b.run(['python3', '-c', VTEP], { input });
      if (code !== 0) throw new Error(stderr);
    },
  };
}

/** While it is stopped, what arrives waits in the queue of the socket. */
async function whileStopped({ daemon }: Site, work: () => Promise<void>): Promise<void> {
  process.kill(daemon.pid, 'SIGSTOP');
  try {
    await work();
  } finally {
    process.kill(daemon.pid, 'SIGCONT');
  }
}

async function besideLiars(t: Test): Promise<void> {
  const place = await site(t);
  const [messages, each] = [2000, 20];
  const honest = [encapsulated(42, framesTo(MACS.foo0, 400))];
  const liars = [encapsulated(42, framesTo(MACS.foo1, 400)), encapsulated(43, framesTo(MACS.foo2, 400))];
  // Among the first twelve is the one that nobody can tell; from then on the kernel cuts.
  await place.send({ honest, liars, messages: 12, each, pauseS: 0.01 });
  const inDoubt = async (): Promise<boolean> =>
    (await place.daemon.overlays('overlay0'))[0].counters['rx_ambiguous'] > 0;
  await waitUntil(inDoubt, { what: 'doubt' });
  await place.send({ honest, liars, messages, each, pauseS: 0.0005 });
  const wanted = (12 + messages) * (each - 1);
  const arrived = async (): Promise<boolean> => (await place.received('foo0')) >= 0.999 * wanted;
  await waitUntil(arrived, { what: 'more than 99.9 % of the frames' }).catch(() => undefined);
  const lost = wanted - (await place.received('foo0'));
  t.ok(lost < 0.001 * wanted, `${lost} of ${wanted} frames of the honest guest were lost`);
  const [{ counters }] = await place.daemon.overlays('overlay0');
  t.match(counters, { rx_truncated: 0, rx_no_vni: 0, rx_queue_full: 0 });
  t.ok(counters['rx_ambiguous'] >= lost, `they are counted: ${counters['rx_ambiguous']}`);
}

async function manySegments(t: Test): Promise<void> {
  const place = await site(t);
  const honest = [MACS.foo0, MACS.foo1].map((mac) => encapsulated(42, framesTo(mac, 60)));
  const [messages, each] = [64, 128];
  const work = (): Promise<void> => place.send({ honest, messages, each });
  await whileStopped(place, work);
  const got = async (): Promise<number> => (await place.received('foo0')) + (await place.received('foo1'));
  const arrived = async (): Promise<boolean> => (await got()) === messages * each;
  await waitUntil(arrived, { what: 'all frames' }).catch(() => undefined);
  t.equal(await got(), messages * each, 'every frame of 64 messages of 128, no two of which are a run');
}

async function overflow(t: Test): Promise<void> {
  const place = await site(t);
  const { daemon } = place;
  const honest = [encapsulated(42, framesTo(MACS.foo0, 1000))];
  const sent = 20_000;
  await whileStopped(place, () => place.send({ honest, messages: sent, each: 1 }));
  const counts = async (overlay: string): Promise<Readonly<Record<string, number>>> =>
    (await daemon.overlays(overlay))[0].counters;
  const all = async (): Promise<number> =>
    (await place.received('foo0')) + ((await counts('overlay0'))['rx_queue_full'] ?? 0);
  await waitUntil(async () => (await all()) >= sent, { what: 'frames and losses' }).catch(() => undefined);
  t.equal(await all(), sent, 'what did not arrive is counted');
  const lost = (await counts('overlay0'))['rx_queue_full'];
  t.ok(lost > 1000, `${lost} of ${sent}`);
  t.equal((await counts('overlay1'))['rx_queue_full'], lost, 'shown with each overlay of the socket');
  const shown = async (): Promise<number[]> =>
    parseMetrics((await get(path.join(daemon.directory, 'metrics.sock'))).body)
      .filter(
        ({ name, labels }) => name === 'varpd_socket_drops_total' && labels['reason'] === 'rx_queue_full',
      )
      .map(({ value }) => value);
  t.same(await shown(), [lost], 'once among the metrics');
  await daemon.ok('restart');
  t.same(await shown(), [lost], 'and no less after a restart');
  await place.send({ honest, messages: 10, each: 10, pauseS: 0.01 });
  await waitUntil(async () => (await place.received('foo0')) >= 100, { what: 'frames after it' });
}

// ---------------------------------------------------------------- the two runs

async function inside(): Promise<void> {
  const bench = openBench();
  const using = (work: (t: Test, bench: Bench) => void) => (t: Test) => {
    work(t, bench);
  };
  await t.test('each datagram of a message is judged alone', using(judgedAlone));
  await t.test('what cannot be told', using(cannotBeTold));
  await t.test('more datagrams than descriptors', using(moreThanFit));
  await t.test('what the kernel drops', counted);
}

await inOwnNamespace(import.meta.url, inside);
if (!isInside) {
  const skip = skipUnlessNetns(['python3']);
  await t.test('an honest guest beside one that lies about lengths', { skip }, besideLiars);
  await t.test('128 datagrams a message, from this machine', { skip }, manySegments);
  await t.test('a socket whose queue is full', { skip }, overflow);
}
