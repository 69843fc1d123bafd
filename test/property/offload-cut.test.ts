// The offloads of src/dgram-extra against an independent opinion (helpers/offload.ts): what is cut is cut right, and whatever
// cannot be cut is refused, and costs only itself.
import fc from 'fast-check';
import type { Test } from 'tap';

import { Backlog } from '../../src/core/queues/backlog.js';
import { PART_SEGMENTS } from '../../src/core/queues/superframe-part.js';
import { deliveredOf } from '../../src/core/outputs.js';
import * as extra from '../../src/dgram-extra/index.js';
import { read16 } from '../../src/wire/bytes.js';
import * as d from '../../src/wire/descriptor.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { addressBytes, encapsulated, toHex } from '../helpers/frames.js';
import {
  ANOTHER,
  asMessage,
  type Bench,
  COALESCING_SLOT,
  cuttable,
  ERRNO,
  type Fields,
  type Framed,
  incoming,
  law,
  MAX_RUN,
  native,
  noise,
  offloadTests,
  openUdp,
  outgoing,
  packets,
  PLAIN_PORT,
  PLAIN_SLOT,
  put,
  readAll,
  ready,
  receiveAll,
  REFUSED,
  RULE,
  sameList,
  send,
  SLAB_BYTES,
  superframe,
  total,
  UDP,
  VNETID,
  VXLAN_BYTES,
  whole,
  wireOf,
  word,
} from '../helpers/offload.js';
import { here } from '../helpers/own-namespace.js';
import {
  frameOf,
  layoutOf,
  type Packet,
  packetOf,
  PLAIN,
  segmentsOf,
  withZeroSum,
} from '../helpers/superframe.js';

/** Of more segments than go in one part (core/queues/superframe-part.ts). */
const long = packets
  .filter(({ payload }) => payload.length > 2 * PART_SEGMENTS)
  .chain((packet) => {
    const size = (segments: number): number => Math.floor(packet.payload.length / segments);
    const most = Math.max(size(400), 1);
    return fc.tuple(fc.constant(packet), fc.integer({ min: most, max: size(PART_SEGMENTS) }));
  })
  .filter(([{ payload }, size]) => payload.length > PART_SEGMENTS * size && payload.length <= 600 * size);

/** What waits for a port's next turn comes out of its backlog in parts. */
function partsOf(whole: Framed): Framed[] {
  put([whole]);
  const backlog = new Backlog();
  backlog.keep(outgoing, 0, 1);
  const count = backlog.refill(incoming, Infinity);
  backlog.done(count);
  if (!backlog.isEmpty) throw new Error('more parts than a batch holds');
  return Array.from({ length: count }, (_, index) => {
    const offset = word(incoming, index, d.OFFSET);
    const names = [d.FLAGS, d.GSO_TYPE, d.GSO_SIZE, d.HEADER_BYTES, d.CSUM_START, d.CSUM_OFFSET];
    const fields = Object.fromEntries(names.map((name) => [name, word(incoming, index, name)]));
    return { frame: incoming.bytes.slice(offset, offset + word(incoming, index, d.LENGTH)), fields };
  });
}

function cutting(t: Test, bench: Bench): void {
  const received = ([packet, size]: [Packet, number], segmentation: number): void => {
    const expected = segmentsOf(packet, size).map((segment) => frameOf(segment));
    const [sent] = send(bench.sender, [superframe(packet, size)], PLAIN_SLOT, segmentation);
    if (sent !== 1) throw new Error(`udpSend: ${sent}`);
    const datagrams = receiveAll(bench, bench.plain, total(expected));
    sameList(
      datagrams.map(toHex),
      expected.map((frame) => toHex(encapsulated(VNETID, frame))),
    );
    for (const datagram of datagrams.slice(0, 3)) judge(datagram.subarray(VXLAN_BYTES), packet);
  };
  const all = cuttable(packets, 300);
  law(
    t,
    'in messages that the kernel cuts',
    all,
    (value) => {
      received(value, 1);
    },
    400,
  );
  law(
    t,
    'in messages of their own',
    all,
    (value) => {
      received(value, 0);
    },
    200,
  );

  law(
    t,
    'and in parts as in one',
    long,
    (value) => {
      const whole = segmentsOf(...value).map((segment) => toHex(encapsulated(VNETID, frameOf(segment))));
      const parts = partsOf(superframe(...value));
      if (parts.length < 2) throw new Error('one part is none');
      const [sent] = send(bench.sender, parts, PLAIN_SLOT);
      if (sent !== parts.length) throw new Error(`udpSend: ${sent}`);
      sameList(receiveAll(bench, bench.plain, whole.join('').length / 2).map(toHex), whole);
    },
    60,
  );

  for (const version of [4, 6] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      const parts = segmentsOf({ ...PLAIN, version, protocol, payload: noise(7, 200) }, 100);
      const payload = Buffer.concat(parts.map((part) => withZeroSum(part).payload));
      const packet: Packet = { ...PLAIN, version, protocol, payload };
      const [made] = segmentsOf(packet, 100).map((segment) => frameOf(segment));
      const field = layoutOf(packet).transport + (protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM);
      const wanted = protocol === 'udp' ? 0xffff : 0; // RFC 768; RFC 1624 3
      t.equal(read16(made, field), wanted, `IPv${version} ${protocol}: a checksum of zero`);
      t.doesNotThrow(() => {
        received([packet, 100], 1);
      }, 'in each segment');
    }
  }
}

/** Another look at a segment, by the code that reads frames in varpd: whole, and its checksums good. */
function judge(frame: Uint8Array, { version, extension, protocol }: Packet): void {
  if (extension !== undefined || protocol === 'udp') return;
  const { network, transport } = layoutOf(packetOf(frame));
  if (!tcp.verifyChecksum(frame, network, transport, frame.length - transport))
    throw new Error(`IPv${version}: the TCP checksum is wrong`);
}

function bounds(t: Test, bench: Bench): void {
  // More segments than one message, one superframe or one call takes.
  const packet: Packet = { ...PLAIN, payload: noise(5, 60_000) };
  const frames = segmentsOf(packet, 12).map((segment) => frameOf(segment));
  send(bench.sender, [superframe(packet, 12)], PLAIN_SLOT);
  const got = receiveAll(bench, bench.plain, total(frames));
  sameList(
    got.map((datagram) => toHex(datagram.subarray(VXLAN_BYTES))),
    frames.map(toHex),
  );
  t.pass('5,000 segments of 12 bytes');

  // A run that is longer than the kernel makes one: nothing is read or written outside.
  const tiny = frameOf({ ...PLAIN, ...UDP, payload: noise(1, 1) });
  const stride = tiny.length;
  for (let index = 0; index < 1000; index++) {
    const each = frameOf({ ...PLAIN, ...UDP, payload: noise(1, 1), identification: index });
    outgoing.bytes.set(each, 16 + index * stride);
  }
  outgoing.descriptors.fill(0, 0, d.DESCRIPTOR_WORDS);
  outgoing.descriptors.set([16, stride], d.OFFSET);
  outgoing.descriptors.set([stride, 16 + 1000 * stride], d.SEGMENT);
  const entries = Int32Array.of(0, 0);
  t.equal(deliveredOf(native.tapWrite(outgoing.handle, bench.into, entries, 1)), 1, 'a run of 1,000');
  const read = readAll(bench.outOf);
  t.equal(wireOf(read).length, 1000, 'all of them');
  t.ok(
    read.every(({ frame }) => frame.length <= 14 + 28 + MAX_RUN),
    'at most 64 in a superframe',
  );
}

function refusals(t: Test, bench: Bench): void {
  const packet: Packet = { ...PLAIN, payload: noise(5, 1000) };
  const good = superframe(packet, 100);
  const bad: readonly [name: string, fields: Fields][] = [
    ['no segment size', { [d.GSO_SIZE]: 0 }],
    ['a negative one', { [d.GSO_SIZE]: -1 }],
    ['an unknown type', { [d.GSO_TYPE]: 2 }],
    ['of another IP version', { [d.GSO_TYPE]: virtio.GSO_TCPV6 }],
    ['a transport header before the IP header', { [d.CSUM_START]: 14 }],
    ['one before the frame', { [d.CSUM_START]: -34 }],
    ['one behind the frame', { [d.CSUM_START]: 2000 }],
    ['one at its end', { [d.CSUM_START]: good.frame.length - 20 }],
    ['one too far in', { [d.CSUM_START]: 600 }],
    ['a run', { [d.SEGMENT]: 2000, [d.RUN_END]: 3000 }],
  ];
  for (const [name, fields] of bad) {
    const result = send(bench.sender, [{ ...good, fields: { ...good.fields, ...fields } }], PLAIN_SLOT);
    t.same(result, [0, -ERRNO.EINVAL], name);
  }
  t.same(send(bench.sender, [good], PLAIN_SLOT), [1, PLAIN_SLOT], 'the good one');
  receiveAll(bench, bench.plain, total(segmentsOf(packet, 100).map((segment) => frameOf(segment))));
}

/** What the kernel or the path refuses is sent segment by segment, and each that is lost is counted. */
async function fallback(t: Test, bench: Bench): Promise<void> {
  // A socket without checksums cannot be given several datagrams at once: EINVAL.
  const without = openUdp('127.0.0.1', 0, { zeroChecksumSend: true });
  t.teardown(() => {
    extra.closeDescriptor(without);
  });
  const packet: Packet = { ...PLAIN, payload: noise(5, 1000) };
  const expected = segmentsOf(packet, 100).map((segment) => toHex(frameOf(segment)));
  for (const refused of [REFUSED, 0]) {
    t.same(
      send(without, [superframe(packet, 100), superframe(packet, 100)], PLAIN_SLOT),
      [2 | refused, PLAIN_SLOT, PLAIN_SLOT],
      refused === 0 ? 'and is not tried again' : 'a refusal is told once',
    );
    const got = receiveAll(bench, bench.plain, 2 * (1000 + 10 * 62));
    t.same(
      got.map((datagram) => toHex(datagram.subarray(VXLAN_BYTES))),
      [...expected, ...expected],
      'nothing is lost',
    );
  }
  native.addressSet(PLAIN_SLOT, addressBytes('127.0.0.1'), PLAIN_PORT);
  t.equal(
    send(without, [superframe(packet, 100)], PLAIN_SLOT)[0],
    1 | REFUSED,
    'until the address is set anew',
  );
  receiveAll(bench, bench.plain, 1000 + 10 * 62);
  native.addressSet(PLAIN_SLOT, addressBytes('127.0.0.1'), PLAIN_PORT);

  // Segments that are too long for the path are lost one by one; the short last one passes.
  extra.setLink('lo', { mtuBytes: 1500 });
  const long: Packet = { ...PLAIN, payload: noise(5, 5 * 1500 + 7) };
  t.same(
    send(bench.sender, [superframe(long, 1500)], PLAIN_SLOT),
    [0, -ERRNO.EMSGSIZE - 4 * ANOTHER],
    'five segments that are too long',
  );
  const rest = receiveAll(bench, bench.plain, 1);
  t.same(rest.length, 1, 'the short one arrives');
  t.equal(send(bench.sender, [superframe(packet, 100)], PLAIN_SLOT)[0], 1, 'and nothing was refused');
  receiveAll(bench, bench.plain, 1000 + 10 * 62);
  extra.setLink('lo', { mtuBytes: 65_536 });

  // A device that is down.
  extra.setLink('into0', { up: false });
  const run = segmentsOf(packet, 100).map((segment) => frameOf(segment));
  send(bench.sender, run.map(whole), COALESCING_SLOT);
  native.pollWait(bench.epoll, ready, 2000);
  native.udpReceive(incoming.handle, bench.coalescing, 64, RULE);
  incoming.descriptors[d.OFFSET] += VXLAN_BYTES;
  incoming.descriptors[d.LENGTH] -= VXLAN_BYTES;
  const entries = Int32Array.of(0, 0);
  t.equal(native.tapWrite(incoming.handle, bench.into, entries, 1), 0);
  t.equal(entries[1], -ERRNO.EIO - 9 * ANOTHER, 'all ten frames of a run are counted');
  extra.setLink('into0', { up: true });
  await here.ip('link set into0 up');
}

/** Whatever a descriptor says and the bytes are, nothing is touched outside the batch: at worst it is refused. */
function nonsense(t: Test, bench: Bench): void {
  const values = fc.oneof(
    fc.integer({ min: -2, max: 300 }),
    fc.integer({ min: 0, max: 70_000 }),
    fc.constantFrom(-(2 ** 31), 2 ** 31 - 1, SLAB_BYTES, SLAB_BYTES - 60),
    fc.integer(),
  );
  const rows = fc.array(values, { minLength: d.DESCRIPTOR_WORDS, maxLength: d.DESCRIPTOR_WORDS });
  const cases = fc.tuple(
    fc.array(rows, { minLength: 1, maxLength: 4 }),
    packets,
    fc.array(fc.tuple(fc.integer({ min: -1, max: 5 }), values), { minLength: 1, maxLength: 6 }),
    fc.integer({ min: -1, max: 17 }),
    fc.nat(3),
  );
  law(
    t,
    'descriptors and lists of any kind',
    cases,
    ([descriptors, packet, pairs, headerBytes, mask]) => {
      put([superframe(packet, 100), whole(frameOf(packet).subarray(0, 60_000))]);
      // Some words are kept as they were, so that some of it gets further than the first check.
      descriptors.forEach((row, index) => {
        row.forEach((value, name) => {
          if (name <= d.LENGTH ? mask & 1 : mask & 2 || name % 3 === mask)
            outgoing.descriptors[index * d.DESCRIPTOR_WORDS + name] = value;
        });
      });
      const list = (): Int32Array => Int32Array.from(pairs.flat());
      native.udpSend(outgoing.handle, bench.sender, list(), pairs.length, headerBytes, mask & 1);
      native.tapWrite(outgoing.handle, bench.into, list(), pairs.length);
      while (native.udpReceive(incoming.handle, bench.plain, 64, RULE) > 0);
      while (native.udpReceive(incoming.handle, bench.coalescing, 64, RULE) > 0);
      while (native.tapRead(incoming.handle, bench.outOf, 64) > 0);
    },
    2000,
  );
  law(
    t,
    'messages of any bytes and any segment size',
    fc.tuple(
      packets,
      fc.integer({ min: 12, max: 2000 }),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }),
    ),
    ([packet, size, spoils]) => {
      const bytes = encapsulated(VNETID, frameOf(packet, 'partial')).slice(0, 60 * size);
      for (const [at, value] of spoils) if (at < bytes.length) bytes[at] = value;
      const count = asMessage(bench, bytes, size);
      const entries = Array.from({ length: Math.max(count, 0) }, (_, index) => [index, index & 3]).flat();
      for (let index = 0; index < count; index++) {
        const at = index * d.DESCRIPTOR_WORDS;
        if (incoming.descriptors[at + d.LENGTH] < 22) continue;
        incoming.descriptors[at + d.OFFSET] += VXLAN_BYTES;
        incoming.descriptors[at + d.LENGTH] -= VXLAN_BYTES;
      }
      native.tapWrite(incoming.handle, bench.into, Int32Array.from(entries), count);
      while (native.tapRead(incoming.handle, bench.outOf, 64) > 0);
    },
    1000,
  );
}

await offloadTests(import.meta.url, [
  ['superframes are cut right', cutting],
  ['more than fits', bounds],
  ['superframes that cannot be cut', refusals],
  ['refused by the kernel', fallback],
  ['nonsense', nonsense],
]);
