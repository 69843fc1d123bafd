// The offloads of src/dgram-extra against an independent opinion (helpers/offload.ts): what must stay apart does, byte for byte.
import fc from 'fast-check';
import type { Test } from 'tap';

import * as d from '../../src/wire/descriptor.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { toHex } from '../helpers/frames.js';
import {
  type Bench,
  bit32,
  goesOn,
  KEEP_APART,
  law,
  noise,
  offloadTests,
  packets,
  sameList,
  superframes,
  three,
  through,
  TIMESTAMPS,
  total,
  UDP,
  V6,
  whole,
  wireOf,
} from '../helpers/offload.js';
import { frameOf, layoutOf, type Packet, packetOf, segmentsOf } from '../helpers/superframe.js';

type Edit = (packets: Packet[]) => (Packet | Uint8Array)[];

const second =
  (change: Partial<Packet>): Edit =>
  ([a, b, c]) => [a, { ...b, ...change }, c];
/** Changes bytes of a finished frame, and makes no checksum good. */
const spoil =
  (index: number, where: (layout: ReturnType<typeof layoutOf>) => number): Edit =>
  (packets) =>
    packets.map((packet, at) => {
      if (at !== index) return packet;
      const frame = frameOf(packet);
      frame[where(layoutOf(packet))] ^= 0x21;
      return frame;
    });

interface Apart {
  readonly name: string;
  readonly of?: Partial<Packet>;
  readonly edit: Edit;
  /** Frames that come out, superframes among them. */
  readonly out: readonly [frames: number, superframes: number];
}

const swap: Edit = ([a, b, c]) => [a, c, b];
const APART: readonly Apart[] = [
  { name: 'TCP in order', edit: (packets) => packets, out: [1, 1] },
  { name: 'out of order', edit: swap, out: [3, 0] },
  { name: 'a segment twice', edit: ([a, b, c]) => [a, b, b, c], out: [2, 2] },
  { name: 'the first one twice', edit: ([a, b]) => [a, a, b], out: [2, 1] },
  { name: 'a gap', edit: ([a, , c]) => [a, c], out: [2, 0] },
  { name: 'another acknowledgment', edit: second({ acknowledgment: 2 }), out: [3, 0] },
  { name: 'another window', edit: second({ window: 511 }), out: [3, 0] },
  { name: 'another urgent pointer', edit: second({ urgent: 1 }), out: [3, 0] },
  { name: 'another TTL', edit: second({ ttl: 63 }), out: [3, 0] },
  { name: 'another traffic class', edit: second({ trafficClass: 4 }), out: [3, 0] },
  { name: 'a congestion mark', edit: second({ trafficClass: 3 }), out: [3, 0] },
  { name: 'no DF', edit: second({ dontFragment: false }), out: [3, 0] },
  { name: 'a gap in the ids', edit: second({ identification: 9 }), out: [3, 0] },
  { name: 'an id twice', edit: ([a, b, c]) => [a, { ...b, identification: 1 }, c], out: [3, 0] },
  { name: 'PSH in the middle', edit: second({ flags: tcp.ACK | tcp.PSH }), out: [2, 1] },
  { name: 'FIN in the middle', edit: second({ flags: tcp.ACK | tcp.FIN }), out: [2, 1] },
  { name: 'CWR in the middle', edit: second({ flags: tcp.ACK | tcp.CWR }), out: [2, 1] },
  { name: 'ECE in the middle', edit: second({ flags: tcp.ACK | tcp.ECE }), out: [3, 0] },
  { name: 'URG', of: { flags: tcp.ACK | tcp.URG, urgent: 4 }, edit: (packets) => packets, out: [3, 0] },
  { name: 'SYN', edit: ([a, b, c]) => [{ ...a, flags: tcp.SYN }, b, c], out: [2, 1] },
  { name: 'RST', edit: second({ flags: tcp.RST }), out: [3, 0] },
  { name: 'another source port', edit: second({ sourcePort: 40_001 }), out: [3, 0] },
  { name: 'another destination port', edit: second({ destinationPort: 5002 }), out: [3, 0] },
  {
    name: 'two flows in turn',
    edit: (packets) => packets.flatMap((packet) => [packet, { ...packet, sourcePort: 40_001 }]),
    out: [6, 0],
  },
  {
    name: 'other timestamps',
    of: { tcpOptions: TIMESTAMPS },
    edit: second({ tcpOptions: TIMESTAMPS.map((byte) => byte ^ 4) }),
    out: [3, 0],
  },
  {
    name: 'other IP options',
    of: { options: Uint8Array.of(1, 1, 1, 0) },
    edit: second({ options: Uint8Array.of(1, 1, 0, 0) }),
    out: [3, 0],
  },
  { name: 'another VLAN', of: { tags: [5] }, edit: second({ tags: [6] }), out: [3, 0] },
  { name: 'another priority', of: { tags: [5] }, edit: second({ tags: [0x2005] }), out: [3, 0] },
  {
    name: 'acknowledgments without data',
    edit: ([a]) => Array<Packet>(3).fill({ ...a, payload: new Uint8Array(0) }),
    out: [3, 0],
  },
  {
    name: 'a shorter one, then what would follow',
    edit: ([a, b, c]) => [a, { ...b, payload: b.payload.subarray(50) }, c],
    out: [2, 1],
  },
  { name: 'a wrong TCP checksum', edit: spoil(1, ({ payload }) => payload + 7), out: [3, 0] },
  { name: 'a wrong TCP checksum in the first', edit: spoil(0, ({ payload }) => payload), out: [2, 1] },
  { name: 'a wrong TCP checksum in the last', edit: spoil(2, ({ payload }) => payload + 99), out: [2, 1] },
  { name: 'a wrong IP checksum', edit: spoil(1, ({ network }) => network + 10), out: [3, 0] },
  { name: 'a spoilt IP address', edit: spoil(1, ({ network }) => network + 13), out: [3, 0] },
  { name: 'a fragment', edit: spoil(1, ({ network }) => network + 6), out: [3, 0] },
  { name: 'a spoilt data offset', edit: spoil(1, ({ transport }) => transport + 12), out: [3, 0] },
  {
    name: 'padding behind the packet',
    edit: ([a, b, c]) => [
      a,
      Uint8Array.from([...frameOf({ ...b, payload: b.payload.subarray(8) }), ...noise(1, 8)]),
      c,
    ],
    out: [3, 0],
  },
  { name: 'IPv6 in order', of: V6, edit: (packets) => packets, out: [1, 1] },
  { name: 'IPv6 out of order', of: V6, edit: swap, out: [3, 0] },
  { name: 'another flow label', of: V6, edit: second({ flowLabel: 1 }), out: [3, 0] },
  { name: 'another hop limit', of: V6, edit: second({ ttl: 63 }), out: [3, 0] },
  { name: 'another IPv6 traffic class', of: V6, edit: second({ trafficClass: 0x20 }), out: [3, 0] },
  { name: 'a spoilt IPv6 address', of: V6, edit: spoil(1, ({ network }) => network + 30), out: [3, 0] },
  {
    name: 'extension headers',
    of: {
      ...V6,
      extension: { type: ipv6.DESTINATION_OPTIONS, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) },
    },
    edit: (packets) => packets,
    out: [3, 0],
  },
  { name: 'UDP in order', of: UDP, edit: (packets) => packets, out: [1, 1] },
  { name: 'UDP, another port', of: UDP, edit: second({ sourcePort: 9 }), out: [3, 0] },
  { name: 'UDP, a gap in the ids', of: UDP, edit: second({ identification: 9 }), out: [3, 0] },
  { name: 'UDP, a wrong checksum', of: UDP, edit: spoil(1, ({ payload }) => payload), out: [3, 0] },
  {
    name: 'UDP without checksums',
    of: UDP,
    edit: (packets) =>
      packets.map((packet) => {
        const frame = frameOf(packet);
        return frame.fill(0, layoutOf(packet).transport + 6, layoutOf(packet).transport + 8);
      }),
    out: [3, 0],
  },
  {
    name: 'UDP shorter than its packet',
    of: UDP,
    edit: (packets) =>
      packets.map((packet) => {
        const frame = frameOf(packet);
        frame[layoutOf(packet).transport + 5]--;
        return frame;
      }),
    out: [3, 0],
  },
  { name: 'UDP over IPv6 in order', of: { ...UDP, ...V6 }, edit: (packets) => packets, out: [1, 1] },
  {
    name: 'UDP without payload',
    of: { ...UDP, payload: noise(1, 3) },
    edit: ([a]) => {
      const empty = { ...a, payload: new Uint8Array(0) };
      return [empty, empty, empty];
    },
    out: [3, 0],
  },
];

const framesOf = (list: readonly (Packet | Uint8Array)[]): Uint8Array[] =>
  list.map((each) => (each instanceof Uint8Array ? each : frameOf(each)));

function apart(t: Test, bench: Bench): void {
  for (const { name, of, edit, out } of APART) {
    const frames = framesOf(edit(three(of)));
    for (const segmentation of [1, 0]) {
      const got = through(bench, frames.map(whole), total(frames), 0, segmentation);
      t.same(wireOf(got), frames.map(toHex), `${name}: every byte`);
      t.same([got.length, superframes(got)], out, 'together as far as it may be');
    }
  }
  // A partial checksum, as a kernel peer leaves it: believed, and said to be so.
  for (const of of [{}, V6, UDP, { ...UDP, ...V6 }]) {
    const packets = three(of);
    const frames = packets.map((packet) => frameOf(packet, 'partial'));
    const got = through(bench, frames.map(whole), total(frames), KEEP_APART);
    t.same(
      got.map(({ frame }) => toHex(frame)),
      frames.map(toHex),
      'partial checksums: every byte',
    );
    t.ok(
      got.every(({ fields }) => fields[d.FLAGS] === virtio.NEEDS_CHECKSUM),
      'and left to the device',
    );
    const one = through(bench, frames.map(whole), total(frames));
    t.same(
      wireOf(one),
      packets.map((packet) => toHex(frameOf(packet))),
      'or to a superframe',
    );
    t.equal(superframes(one), 1);
  }
}

/** A step of what a network does to a flow. */
type Mishap = (frames: Uint8Array[], at: number, seed: number) => void;
const remake =
  (change: (packet: Packet, seed: number) => Partial<Packet>): Mishap =>
  (frames, at, seed) => {
    const packet = packetOf(frames[at]);
    frames[at] = frameOf({ ...packet, ...change(packet, seed) });
  };
const MISHAPS: readonly Mishap[] = [
  (frames, at, seed) => {
    const other = seed % frames.length;
    [frames[at], frames[other]] = [frames[other], frames[at]];
  },
  (frames, at) => frames.splice(at, 0, frames[at]),
  (frames, at) => frames.splice(at, 1, frames[at].slice()),
  remake((_, seed) => ({ acknowledgment: seed })),
  remake((_, seed) => ({ window: seed & 0xffff })),
  remake((_, seed) => ({ ttl: 1 + (seed & 0x7f) })),
  remake((_, seed) => ({ trafficClass: seed & 0xff })),
  remake(({ version }, seed) => (version === 4 ? { identification: seed & 0xffff } : {})),
  remake(({ version }, seed) => (version === 4 ? { dontFragment: (seed & 1) === 1 } : {})),
  remake((_, seed) => ({ flags: seed & 0xff })),
  remake((_, seed) => ({ sequence: seed })),
  remake((_, seed) => ({ sourcePort: seed & 1 })),
  // A wrong bit anywhere, but in the EtherType and the length of the packet, which is another story.
  (frames, at, seed) => {
    const { network } = layoutOf(packetOf(frames[at]));
    const from = network + 6;
    const spoilt = frames[at].slice();
    spoilt[from + (seed % (spoilt.length - from))] ^= 1 << (seed & 7);
    frames[at] = spoilt;
  },
];

function mishaps(t: Test, bench: Bench): void {
  const flows = packets
    .map((packet) => ({
      ...packet,
      extension: undefined,
      flags: goesOn(packet.flags),
      tags: packet.tags.slice(1),
    }))
    .map((packet) => ({ ...packet, payload: packet.payload.subarray(0, 40 * 200) }));
  const histories = fc.tuple(
    flows,
    fc.integer({ min: 20, max: 200 }),
    fc.array(fc.tuple(fc.nat(MISHAPS.length - 1), fc.nat(1000), bit32), { maxLength: 6 }),
  );
  law(
    t,
    'a flow that meets with mishaps arrives as it is',
    histories,
    ([packet, size, steps]) => {
      const frames = segmentsOf(packet, Math.max(size, Math.ceil(packet.payload.length / 40))).map(
        (segment) => frameOf(segment),
      );
      const spoilt = new Set<number>();
      for (const [which, at, seed] of steps) {
        const index = at % frames.length;
        // What is no packet any more cannot be made into another one.
        if (which < MISHAPS.length - 1 && spoilt.size > 0) continue;
        if (which === MISHAPS.length - 1) spoilt.add(index);
        MISHAPS[which](frames, index, seed);
      }
      for (const segmentation of [1, 0]) {
        const got = through(bench, frames.map(whole), total(frames), 0, segmentation);
        sameList(wireOf(got), frames.map(toHex));
      }
    },
    500,
  );
}

await offloadTests(import.meta.url, [
  ['what must stay apart does', apart],
  ['mishaps on the way', mishaps],
]);
