// Superframes inside a UDP tunnel (Linux 6.17): src/dgram-extra cuts them as the kernel's own segmentation does.
//
// A superframe goes into one TAP, over a bridge, and out of two others: one takes it whole, and what varpd's cutter makes of
// that must be what the other gets, which has no offload, so that the kernel cuts.
import fc from 'fast-check';
import type { Test } from 'tap';

import { deliveredOf } from '../../src/core/outputs.js';
import * as extra from '../../src/dgram-extra/index.js';
import * as d from '../../src/wire/descriptor.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { Backlog } from '../../src/core/queues/backlog.js';
import { PART_SEGMENTS } from '../../src/core/queues/superframe-part.js';
import { toHex } from '../helpers/frames.js';
import { type Nested, nestedSuperframe, segmentsOfNested } from '../helpers/nested.js';
import {
  type Bench,
  ERRNO,
  type Fields,
  type Framed,
  incoming,
  law,
  native,
  NESTED,
  noise,
  offloadTests,
  outgoing,
  packets,
  PLAIN_SLOT,
  put,
  readAll,
  receiveAll,
  sameList,
  send,
  STRIP_TAG,
  VXLAN_BYTES,
  whole,
  word,
} from '../helpers/offload.js';
import { here } from '../helpers/own-namespace.js';
import { PLAIN, type Packet } from '../helpers/superframe.js';

const HEADER = extra.TUNNEL_HEADER_BYTES;
const { CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6, UDP_TUNNEL_GSO, UDP_TUNNEL_GSO_CSUM } = extra.TUN_F;
const ALL = CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6 | UDP_TUNNEL_GSO | UDP_TUNNEL_GSO_CSUM;
/** Ethernet, IP, UDP, VXLAN and the inner Ethernet header, and something for options. */
const MAX_OUTER_BYTES = 400;

/** The kernel takes no superframe of UDP with more (linux/udp.h). */
const UDP_MAX_SEGMENTS = 128;

/** VXLAN, or Geneve with options (a multiple of 4 bytes). */
const tunnelHeaders = fc.tuple(fc.nat(30), fc.nat()).map(([words, seed]) => noise(seed, 8 + 4 * words));

const nested: fc.Arbitrary<[Nested, number]> = fc
  .record({
    outer: packets,
    tunnelHeader: tunnelHeaders,
    inner: packets,
    hasOuterChecksum: fc.boolean(),
    segments: fc.integer({ min: 1, max: 300 }),
    size: fc.integer({ min: 1, max: 9000 }),
  })
  .map(({ inner, segments, size, ...rest }) => {
    const payload = inner.payload.subarray(0, 65_000 - MAX_OUTER_BYTES - 200);
    const most = inner.protocol === 'udp' ? Math.min(segments, UDP_MAX_SEGMENTS) : segments;
    const segmentBytes = Math.max(size, Math.ceil(payload.length / most));
    return [{ ...rest, inner: { ...inner, payload } }, segmentBytes] as [Nested, number];
  })
  .filter(([{ inner }, segmentBytes]) => inner.payload.length > segmentBytes);

interface Taps {
  /** Into the bridge. */
  readonly into: number;
  readonly whole: number;
  readonly cut: number;
  /** Into the bridge, with a virtio-net header that has no room for a tunnel. */
  readonly small: number;
}

async function openTaps(): Promise<Taps> {
  await here.ip('link add bridge1 type bridge mcast_snooping 0');
  const open = (name: string, headerBytes: number, offload: number): number => {
    const fd = extra.openTap(name, { exclusive: true });
    extra.resetTapSettings(fd, name, headerBytes);
    if (!extra.setTapOffload(fd, offload, name)) throw new Error('this kernel lacks an offload');
    return fd;
  };
  const taps = {
    into: open('from1', HEADER, 0),
    whole: open('whole1', HEADER, ALL),
    cut: open('cut1', 10, 0),
    small: open('small1', 10, 0),
  };
  for (const name of ['from1', 'whole1', 'cut1', 'small1'])
    await here.ip(`link set ${name} master bridge1 mtu 65000 up`);
  await here.ip('link set bridge1 mtu 65000 up');
  return taps;
}

function write(fd: number, frame: Framed, headerBytes: number, argument = 0): number {
  put([frame]);
  return deliveredOf(native.tapWrite(outgoing.handle, fd, Int32Array.of(0, argument), 1, headerBytes));
}

/** The frames that go to the underlay. */
function cutByVarpd(bench: Bench, frames: readonly Framed[], bytes: number, segmentation: number): string[] {
  const [sent] = send(bench.sender, frames, PLAIN_SLOT, segmentation);
  if (sent !== frames.length) throw new Error(`udpSend: ${sent}`);
  return receiveAll(bench, bench.plain, bytes).map((datagram) => toHex(datagram.subarray(VXLAN_BYTES)));
}

const bytesOf = (frames: readonly Framed[]): number =>
  frames.reduce((sum, { frame }) => sum + frame.length + VXLAN_BYTES, 0);

/** The stack handed over the one superframe. */
function isSame(found: readonly Framed[], made: Framed): void {
  sameList(
    found.map(({ frame }) => toHex(frame)),
    [toHex(made.frame)],
  );
  for (const [name, value] of Object.entries(made.fields))
    if (found[0].fields[Number(name)] !== value) throw new Error(`word ${name} is not ${value}`);
}

function asTheKernel(t: Test, bench: Bench, taps: Taps): void {
  law(
    t,
    'by the kernel and by varpd alike',
    fc.tuple(nested, fc.boolean()),
    ([[one, segmentBytes], segmentation]) => {
      const made = nestedSuperframe(one, segmentBytes);
      const written = write(taps.into, made, HEADER);
      if (written !== 1) throw new Error(`tapWrite: ${written}`);
      const whole = readAll(taps.whole, HEADER);
      const cut = readAll(taps.cut);
      if (cut.length < 2) throw new Error(`${cut.length} segments`);
      // The kernel itself cuts what has a VLAN tag (Linux 6.18).
      if (one.outer.tags.length === 0) isSame(whole, made);
      const found = cutByVarpd(bench, [made], bytesOf(cut), segmentation ? 1 : 0);
      sameList(
        found,
        cut.map((each) => toHex(each.frame)),
      );
    },
    600,
  );
}

/** What varpd itself cuts before it decides (core/queues/superframe-part.ts). */
function inParts(t: Test, bench: Bench): void {
  const long = nested
    .map(([one, size]): [Nested, number] => {
      const least = Math.ceil(one.inner.payload.length / 600);
      return [
        one,
        Math.max(least, Math.min(size, Math.floor(one.inner.payload.length / (PART_SEGMENTS + 1)))),
      ];
    })
    .filter(([{ inner }, size]) => inner.payload.length > PART_SEGMENTS * size);
  law(
    t,
    'in parts as in one',
    long,
    ([one, segmentBytes]) => {
      const made = nestedSuperframe(one, segmentBytes);
      const headers = made.fields[d.HEADER_BYTES];
      const segments = Math.ceil((made.frame.length - headers) / segmentBytes);
      const bytes = made.frame.length + (segments - 1) * headers + segments * VXLAN_BYTES;
      const expected = cutByVarpd(bench, [made], bytes, 1);
      if (expected.length !== segments) throw new Error(`${expected.length} segments, not ${segments}`);
      put([made]);
      const backlog = new Backlog();
      backlog.keep(outgoing, 0, 1);
      const count = backlog.refill(incoming, Infinity);
      if (count < 2) throw new Error('one part is none');
      const parts = Array.from({ length: count }, (_, index): Framed => {
        const offset = word(incoming, index, d.OFFSET);
        const names = [...Object.keys(made.fields).map(Number)];
        const fields = Object.fromEntries(names.map((name) => [name, word(incoming, index, name)]));
        return { frame: incoming.bytes.slice(offset, offset + word(incoming, index, d.LENGTH)), fields };
      });
      sameList(cutByVarpd(bench, parts, bytes, 1), expected);
    },
    100,
  );
}

/** From one port to another. */
function intoTaps(t: Test, taps: Taps): void {
  law(
    t,
    'without its outer tag',
    nested,
    ([one, segmentBytes]) => {
      const withTags = (tags: readonly number[]): Framed =>
        nestedSuperframe({ ...one, outer: { ...one.outer, tags } }, segmentBytes);
      if (write(taps.into, withTags([7]), HEADER, STRIP_TAG) !== 1) throw new Error('not written');
      readAll(taps.cut);
      isSame(readAll(taps.whole, HEADER), withTags([]));
    },
    200,
  );
  law(
    t,
    'into a TAP with a small header it goes in segments',
    nested,
    ([one, segmentBytes]) => {
      const made = nestedSuperframe(one, segmentBytes);
      if (write(taps.into, made, HEADER) !== 1) throw new Error('not written');
      const expected = readAll(taps.cut).map(({ frame }) => toHex(frame));
      readAll(taps.whole, HEADER);
      if (write(taps.small, made, 10) !== 1) throw new Error('not written in segments');
      sameList(
        readAll(taps.cut).map(({ frame }) => toHex(frame)),
        expected,
      );
      readAll(taps.whole, HEADER);
    },
    200,
  );
}

/** VXLAN (RFC 7348 5), or Geneve with an Ethernet frame (RFC 8926 3.4) and options. */
const realHeaders = fc.tuple(fc.boolean(), fc.nat(30), fc.nat(0xff_ffff)).map(([isVxlan, words, seed]) => {
  const header = noise(seed, isVxlan ? 8 : 8 + 4 * words);
  header.set(isVxlan ? [8, 0, 0, 0] : [words, 0, 0x65, 0x58]);
  return header;
});

/** Segments with complete checksums, as they come out of the underlay. */
const segmented = fc
  .tuple(nested, realHeaders)
  .map(([[one, size], tunnelHeader]): [Nested, number, Framed[]] => {
    const flags = (one.inner.flags & ~(tcp.SYN | tcp.RST | tcp.URG)) | tcp.ACK;
    const inner = { ...one.inner, flags: flags & ~tcp.PSH & ~tcp.CWR };
    const outer = { ...one.outer, tags: [] };
    const changed = { ...one, tunnelHeader, outer, inner };
    return [changed, size, segmentsOfNested(changed, size).map(whole)];
  })
  .filter(([, , segments]) => segments.length > 1 && segments.length <= 60);

/** What arrives for an end of a tunnel is one superframe for the stack again, which stands for the same frames. */
function joins(t: Test, taps: Taps): void {
  const into = (frames: readonly Framed[], argument: number): Framed[] => {
    put(frames);
    const entries = Int32Array.from(frames.flatMap((_, index) => [index, argument]));
    const written = native.tapWrite(outgoing.handle, taps.into, entries, frames.length, HEADER);
    if (deliveredOf(written) !== frames.length) throw new Error('not written');
    return readAll(taps.whole, HEADER);
  };
  const hexOf = (frames: readonly Framed[]): string[] => frames.map(({ frame }) => toHex(frame));
  let joined = 0;
  law(
    t,
    'segments become one superframe again, which the kernel cuts into the same segments',
    segmented,
    ([one, segmentBytes, segments]) => {
      const found = into(segments, NESTED);
      sameList(hexOf(readAll(taps.cut)), hexOf(segments));
      const isWhole = segments.reduce((sum, { frame }) => sum + frame.length, 0) < 60_000;
      if (
        !isWhole ||
        (one.inner.version === 6 && one.inner.extension !== undefined) ||
        one.outer.extension !== undefined
      )
        return;
      isSame(found, nestedSuperframe(one, segmentBytes));
      joined++;
    },
    300,
  );
  t.ok(joined > 50, `${joined} of them`);
  law(
    t,
    'a segment with another byte stays as it is',
    fc.tuple(segmented, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 })),
    ([[, , segments], which, where, value]) => {
      const changed = segments.map(({ frame }) => whole(frame.slice()));
      const { frame } = changed[which % changed.length];
      // The addresses decide about bridge and multicast.
      frame[12 + (where % (frame.length - 12))] ^= value;
      into(changed, NESTED);
      sameList(hexOf(readAll(taps.cut)), hexOf(changed));
    },
    300,
  );
}

function refusals(t: Test, bench: Bench, taps: Taps): void {
  const inner: Packet = { ...PLAIN, payload: noise(5, 1000) };
  const outer: Packet = { ...PLAIN, protocol: 'udp' };
  const good = nestedSuperframe({ outer, tunnelHeader: noise(1, 8), inner, hasOuterChecksum: true }, 100);
  const { [d.CSUM_START]: start, [d.INNER_L3]: innerIp } = good.fields;
  const bad: readonly [name: string, fields: Fields][] = [
    ['a type of both IP versions', { [d.GSO_TYPE]: virtio.GSO_TCPV4 | virtio.GSO_TUNNEL }],
    ['of the other one', { [d.GSO_TYPE]: virtio.GSO_TCPV4 | virtio.GSO_TUNNEL_V6 }],
    ['of another one inside', { [d.GSO_TYPE]: virtio.GSO_TCPV6 | virtio.GSO_TUNNEL_V4 }],
    ['no type inside', { [d.GSO_TYPE]: virtio.GSO_TUNNEL_V4 }],
    ['an outer header inside the IP header', { [d.OUTER_L4]: 32 }],
    ['one before the frame', { [d.OUTER_L4]: -2 }],
    ['one behind the inner IP header', { [d.OUTER_L4]: innerIp }],
    ['one at an odd place', { [d.OUTER_L4]: 35 }],
    ['an inner IP header behind the frame', { [d.INNER_L3]: 5000 }],
    ['one before the frame', { [d.INNER_L3]: -6 }],
    ['one that is none', { [d.INNER_L3]: 42 }],
    ['one at the TCP header', { [d.INNER_L3]: start }],
    ['headers that are too long', { [d.CSUM_START]: 600 }],
  ];
  for (const [name, fields] of bad) {
    const wrong = { ...good, fields: { ...good.fields, ...fields } };
    t.same(send(bench.sender, [wrong], PLAIN_SLOT), [0, -ERRNO.EINVAL], name);
    t.equal(write(taps.small, wrong, 10), 0, 'and in segments');
  }
  t.same(send(bench.sender, [good], PLAIN_SLOT), [1, PLAIN_SLOT], 'the good one');
  const segments = 10 * (good.fields[d.HEADER_BYTES] + VXLAN_BYTES);
  t.equal(receiveAll(bench, bench.plain, 1000 + segments).length, 10);
}

await offloadTests(import.meta.url, [
  [
    'superframes inside a UDP tunnel',
    async (t, bench) => {
      if (!extra.probeFeatures().tapTunnelSegmentation) {
        t.pass('cut', { skip: 'this kernel has no superframes inside a tunnel (Linux 6.17)' });
        return;
      }
      const taps = await openTaps();
      asTheKernel(t, bench, taps);
      inParts(t, bench);
      intoTaps(t, taps);
      joins(t, taps);
      refusals(t, bench, taps);
    },
  ],
]);
