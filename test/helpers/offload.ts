// Tools for the offloads of src/dgram-extra against an independent opinion (superframe.ts).
//
// Superframes go out of a UDP socket on the loopback and come back in as single datagrams, or as runs (UDP_GRO); runs go into one
// TAP, over a bridge, and are read from another one that takes superframes, so what the stack was told of each frame is seen too.
import { existsSync } from 'node:fs';

import fc from 'fast-check';
import t, { type Test } from 'tap';

import { deliveredOf } from '../../src/core/outputs.js';
import * as extra from '../../src/dgram-extra/index.js';
import { ruleWords } from '../../src/encap/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as d from '../../src/wire/descriptor.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { addressBytes, encapsulated, toHex } from './frames.js';
import { holds } from './law.js';
import { type Namespace } from './netns.js';
import { here, inOwnNamespace, isInside } from './own-namespace.js';
import { frameOf, onTheWire, type Packet, PLAIN, segmentsOf, superframeFields } from './superframe.js';

export const { native } = extra;
/** VARPD_TEST_SEED=n tries other cases; the failing one is printed with it. */
export const SEED = Number(process.env['VARPD_TEST_SEED'] ?? 1);

export const ERRNO = { EIO: 5, EINVAL: 22, EMSGSIZE: 90 } as const;
export const VNETID = 42;
export const VXLAN_BYTES = 8;
export const STRIP_TAG = 1;
export const KEEP_APART = 2;
export const NESTED = 4;
export const REFUSED = 0x4000_0000;
/** Of udpReceive: nobody can tell what was received (udp-receive.c). */
export const AMBIGUOUS = 0x4000_0000;
/** Of another frame of the same run or superframe that was lost (framed.h, lose). */
export const ANOTHER = 65_536;
export const MAX_RUN = 64;
export const MAX_DATAGRAM = 65_000;
export const MAX_FRAME = d.HEADROOM_BYTES + d.MAX_FRAME_BYTES;

export type Fields = Readonly<Record<number, number>>;
export interface Framed {
  readonly frame: Uint8Array;
  readonly fields: Fields;
}

export const SLAB_BYTES = 64 * MAX_FRAME;
export const [outgoing, incoming] = (isInside ? [0, 1] : []).map(() =>
  extra.createBatch(64, SLAB_BYTES, 64 * MAX_RUN),
) as [extra.Batch, extra.Batch];

/** Puts frames into the outgoing batch, each behind a VXLAN header. */
export function put(frames: readonly Framed[]): void {
  let offset = d.HEADROOM_BYTES;
  frames.forEach(({ frame, fields }, index) => {
    const at = index * d.DESCRIPTOR_WORDS;
    outgoing.descriptors.fill(0, at, at + d.DESCRIPTOR_WORDS);
    outgoing.bytes.set(encapsulated(VNETID, frame), offset - VXLAN_BYTES);
    outgoing.descriptors[at + d.OFFSET] = offset;
    outgoing.descriptors[at + d.LENGTH] = frame.length;
    for (const [name, value] of Object.entries(fields)) outgoing.descriptors[at + Number(name)] = value;
    offset = ((offset + frame.length + 15) & ~15) + d.HEADROOM_BYTES;
  });
}

export const superframe = (packet: Packet, segmentBytes: number): Framed => ({
  frame: frameOf(packet, 'partial'),
  fields: superframeFields(packet, segmentBytes),
});
export const whole = (frame: Uint8Array): Framed => ({ frame, fields: {} });

export const word = (batch: extra.Batch, index: number, name: number): number =>
  batch.descriptors[index * d.DESCRIPTOR_WORDS + name];

/** Sockets and devices that all laws share. */
export interface Bench {
  readonly sender: number;
  readonly plain: number;
  readonly coalescing: number;
  readonly into: number;
  readonly outOf: number;
  readonly epoll: number;
}
export const PLAIN_PORT = 5000;
export const COALESCING_PORT = 5001;
export const [PLAIN_SLOT, COALESCING_SLOT] = [0, 1];
export const ready = new Int32Array(1);

export function send(fd: number, frames: readonly Framed[], slot: number, segmentation = 1): number[] {
  put(frames);
  const entries = Int32Array.from(frames.flatMap((_, index) => [index, slot]));
  const sent = native.udpSend(outgoing.handle, fd, entries, frames.length, VXLAN_BYTES, segmentation);
  return [deliveredOf(sent) | (sent & REFUSED), ...entries.filter((_, at) => at % 2 === 1)];
}

export const RULE = extra.headerRule(ruleWords(VXLAN.rule));

/** Every datagram that is there, once `bytes` of them are. */
export function receiveAll(bench: Bench, fd: number, bytes: number): Uint8Array[] {
  const datagrams: Uint8Array[] = [];
  for (let got = 0; got < bytes;) {
    if (native.pollWait(bench.epoll, ready, 2000) !== 1) break;
    const count = native.udpReceive(incoming.handle, fd, 64, RULE);
    for (let index = 0; index < count; index++) {
      const offset = word(incoming, index, d.OFFSET);
      datagrams.push(incoming.bytes.slice(offset, offset + word(incoming, index, d.LENGTH)));
      got += datagrams.at(-1)!.length;
    }
  }
  return datagrams;
}

/** Sends frames as one message or more, receives them as runs, writes those to the first TAP, reads the second. Without
 * segmentation each frame is a message and no run. */
export function through(
  bench: Bench,
  frames: readonly Framed[],
  bytes: number,
  argument = 0,
  segmentation = 1,
): Framed[] {
  const out: Framed[] = [];
  send(bench.sender, frames, COALESCING_SLOT, segmentation);
  for (let got = 0; got < bytes;) {
    if (native.pollWait(bench.epoll, ready, 2000) !== 1) break;
    const count = native.udpReceive(incoming.handle, bench.coalescing, 64, RULE);
    const entries: number[] = [];
    for (let index = 0; index < count; index++) {
      const at = index * d.DESCRIPTOR_WORDS;
      got += d.runBytes(incoming.descriptors, at);
      incoming.descriptors[at + d.OFFSET] += VXLAN_BYTES;
      incoming.descriptors[at + d.LENGTH] -= VXLAN_BYTES;
      entries.push(index, argument);
    }
    native.tapWrite(incoming.handle, bench.into, Int32Array.from(entries), count);
    out.push(...readAll(bench.outOf));
  }
  return out;
}

/** All that the stack handed to a TAP with virtio-net headers of this size. */
export function readAll(fd: number, headerBytes?: number): Framed[] {
  const out: Framed[] = [];
  for (let count = 1; count > 0;) {
    count = native.tapRead(outgoing.handle, fd, 64, headerBytes);
    for (let index = 0; index < count; index++) {
      const at = index * d.DESCRIPTOR_WORDS;
      const offset = word(outgoing, index, d.OFFSET);
      const fields = Object.fromEntries(outgoing.descriptors.subarray(at, at + d.INNER_L3 + 1).entries());
      out.push({ frame: outgoing.bytes.slice(offset, offset + word(outgoing, index, d.LENGTH)), fields });
    }
  }
  return out;
}

export const wireOf = (frames: readonly Framed[]): string[] =>
  frames.flatMap(({ frame, fields }) => onTheWire(frame, fields)).map(toHex);
export const total = (frames: readonly { length: number }[]): number =>
  frames.reduce((sum, { length }) => sum + length + VXLAN_BYTES, 0);
export const superframes = (frames: readonly Framed[]): number =>
  frames.filter(({ fields }) => fields[d.GSO_TYPE] !== virtio.GSO_NONE).length;

export function sameList(found: readonly string[], expected: readonly string[]): void {
  if (found.length !== expected.length)
    throw new Error(
      `${found.length} frames, expected ${expected.length}\n${found.join('\n').slice(0, 2000)}`,
    );
  expected.forEach((hex, index) => {
    if (found[index] !== hex)
      throw new Error(`frame ${index} of ${expected.length}:\n${found[index]}\nexpected:\n${hex}`);
  });
}

/** One assertion about a law, tried as often. */
export function law<Value>(
  t: Test,
  name: string,
  arbitrary: fc.Arbitrary<Value>,
  predicate: (value: Value) => undefined,
  numRuns: number,
): void {
  holds(t, name, [arbitrary], predicate, { numRuns, seed: SEED });
}

/** xorshift32: cheaper than drawing each byte. */
export function noise(seed: number, length: number): Uint8Array {
  let state = seed | 1;
  return Uint8Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 0xff;
  });
}

export const bit16 = fc.nat(0xffff);
export const bit32 = fc.nat(0xffff_ffff);
/** Numbers near the end of their range run over. */
export const near = (end: number): fc.Arbitrary<number> =>
  fc.oneof(fc.nat(end), fc.integer({ min: end - 70, max: end }));
export const tags = fc.array(fc.integer({ min: 1, max: 0xffff }), { maxLength: 2 });
export const quads = (max: number): fc.Arbitrary<Uint8Array> =>
  fc.tuple(fc.nat(max), bit32).map(([length, seed]) => noise(seed, 4 * length));
export const TIMESTAMPS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7); // RFC 7323 3.2
export const tcpOptions = fc.oneof(fc.constant(new Uint8Array(0)), fc.constant(TIMESTAMPS), quads(10));
export const padding = fc.nat(3).map((more) => ({
  type: ipv6.DESTINATION_OPTIONS,
  bytes: Uint8Array.from([0, more, 1, 4 + 8 * more, ...noise(1, 4 + 8 * more)]), // PadN, RFC 8200 4.2
}));
export const routing = bit32.map((seed) => ({
  type: ipv6.ROUTING,
  bytes: Uint8Array.from([0, 2, 0, 1, 0, 0, 0, 0, ...noise(seed, 16)]), // RFC 2460 4.4
}));

export const packets: fc.Arbitrary<Packet> = fc
  .record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    tags,
    trafficClass: fc.nat(0xff),
    ttl: fc.integer({ min: 1, max: 255 }),
    identification: near(0xffff),
    dontFragment: fc.boolean(),
    options: fc.oneof({ weight: 3, arbitrary: fc.constant(new Uint8Array(0)) }, quads(10)),
    flowLabel: fc.nat(0xfffff),
    extension: fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, padding, routing),
    sourcePort: bit16,
    destinationPort: bit16,
    sequence: near(0xffff_ffff),
    acknowledgment: bit32,
    flags: fc.nat(0xff),
    window: bit16,
    urgent: fc.oneof(fc.constant(0), bit16),
    tcpOptions,
    payload: fc
      .tuple(bit32, fc.oneof(fc.integer({ min: 1, max: 60_000 }), fc.integer({ min: 1, max: 100 })))
      .map(([seed, length]) => noise(seed, length)),
  })
  .map((packet) =>
    packet.version === 4
      ? { ...packet, extension: undefined }
      : { ...packet, options: new Uint8Array(0), identification: 0, dontFragment: false },
  );

/** A packet and the bytes a segment, at most `maxSegments` of them. */
export const cuttable = (from: fc.Arbitrary<Packet>, maxSegments: number): fc.Arbitrary<[Packet, number]> =>
  from.chain((packet) => {
    const least = Math.ceil(packet.payload.length / maxSegments);
    const sizes = fc.oneof(
      fc.integer({ min: least, max: Math.max(least, 9000) }),
      fc.integer({ min: least, max: Math.max(least, 1500) }),
      fc.constant(Math.max(least, 1348)),
    );
    return fc.tuple(fc.constant(packet), sizes);
  });

export const goesOn = (flags: number): number => (flags & ~(tcp.SYN | tcp.RST | tcp.URG)) | tcp.ACK;

/** Three segments that would be one superframe. */
export function three(change: Partial<Packet> = {}): Packet[] {
  return segmentsOf({ ...PLAIN, payload: noise(3, 300), ...change }, 100);
}

export const V6: Partial<Packet> = { version: 6, identification: 0, dontFragment: false };
export const UDP: Partial<Packet> = { protocol: 'udp', flags: 0 };

/** Sends bytes so that they arrive as one message with this segment size. */
export function asMessage(bench: Bench, bytes: Uint8Array, segmentBytes: number): number {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += segmentBytes) pieces.push(bytes.subarray(at, at + segmentBytes));
  put(pieces.map(whole));
  const entries = Int32Array.from(pieces.flatMap((_, index) => [index, COALESCING_SLOT]));
  native.udpSend(outgoing.handle, bench.sender, entries, pieces.length, 0, 1);
  native.pollWait(bench.epoll, ready, 2000);
  return native.udpReceive(incoming.handle, bench.coalescing, 64, RULE);
}

export function openUdp(address: string, port: number, options: Partial<extra.UdpOptions> = {}): number {
  const buffers = { receiveBufferBytes: 64 << 20, sendBufferBytes: 16 << 20 };
  return extra.openUdp({ address: addressBytes(address), port, label: address, ...buffers, ...options });
}

async function setUp(host: Namespace): Promise<Bench> {
  await host.quietNewDevices();
  await host.ip('link add bridge0 type bridge mcast_snooping 0');
  // A bridge with a firewall looks into the packets, and keeps those with a wrong header to itself.
  for (const family of ['ip', 'ip6']) {
    const name = `bridge-nf-call-${family}tables`;
    if (existsSync(`/proc/sys/net/bridge/${name}`)) await host.sysctl(`net.bridge.${name}`, 0);
  }
  const [into, outOf] = ['into0', 'outof0'].map((name) => extra.openTap(name, { exclusive: true }));
  const { CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6 } = extra.TUN_F;
  if (!extra.setTapOffload(outOf, CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6, 'outof0'))
    throw new Error('this kernel has no USO');
  for (const name of ['into0', 'outof0']) {
    await host.ip(`link set ${name} master bridge0 mtu 65000 up`);
  }
  await host.ip('link set bridge0 mtu 65000 up');
  const sockets = {
    sender: openUdp('127.0.0.1', 0),
    plain: openUdp('127.0.0.1', PLAIN_PORT),
    coalescing: openUdp('127.0.0.1', COALESCING_PORT, { coalesce: true }),
  };
  native.addressSet(PLAIN_SLOT, addressBytes('127.0.0.1'), PLAIN_PORT);
  native.addressSet(COALESCING_SLOT, addressBytes('127.0.0.1'), COALESCING_PORT);
  const epoll = extra.createPoll();
  extra.addToPoll(epoll, sockets.plain, 1);
  extra.addToPoll(epoll, sockets.coalescing, 1);
  return { ...sockets, into, outOf, epoll };
}

/** The tests of the file with this URL. */
export const offloadTests = (
  url: string,
  tests: readonly (readonly [name: string, work: (t: Test, bench: Bench) => unknown])[],
): Promise<void> =>
  inOwnNamespace(url, async () => {
    const bench = await setUp(here);
    for (const [name, work] of tests) {
      await t.test(name, async (t) => {
        await work(t, bench);
      });
    }
  });
