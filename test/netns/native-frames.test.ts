// src/dgram-extra against the kernel: frames out of TAP devices and into them. On real devices, from this process.
import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';

import t, { type Test } from 'tap';

import { steerByFlow, steering } from '../../src/datapath/userland/main/steering.js';
import * as extra from '../../src/dgram-extra/index.js';
import { read16 } from '../../src/wire/bytes.js';
import * as d from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import { fieldsOf, writeCapture } from '../helpers/capture.js';
import { addressBytes, filler, toHex, udpFrame, withTag } from '../helpers/frames.js';
import {
  nativeTests,
  closing,
  directory,
  ERRNO,
  fails,
  field,
  frameOf,
  incoming,
  list,
  MODULE,
  native,
  openUdp,
  outgoing,
  put,
  receive,
  results,
  RULE,
  silentTap,
  SLAB_BYTES,
} from '../helpers/native.js';
import { skipUnless } from '../helpers/need.js';
import { here } from '../helpers/own-namespace.js';
import { ringReads } from '../helpers/procfs.js';
import { frameOf as writtenFrame, layoutOf, PLAIN, withZeroSum } from '../helpers/superframe.js';
import { FrameSink, sendDatagrams, sendFrames } from '../helpers/traffic.js';

async function tapReads(t: Test): Promise<void> {
  const fd = await silentTap(t, 'tap0');
  t.equal(native.tapRead(incoming.handle, fd, 8), 0, 'nothing to read');
  const frames = [60, 61, 590, 1514, 60].map((bytes) => udpFrame({ payload: filler(bytes - 42) }));
  await sendFrames(here, 'tap0', frames);
  const count = native.tapRead(incoming.handle, fd, 8);
  const got = Array.from({ length: count }, (_, index) => toHex(frameOf(incoming, index)));
  t.same(got, frames.map(toHex), 'whole, in order');
  for (let index = 0; index < count; index++) {
    const offset = field(incoming, index, d.OFFSET);
    t.equal(offset % 16, 0, 'starts 16-aligned');
    const before = index === 0 ? 0 : field(incoming, index - 1, d.OFFSET) + frames[index - 1].length;
    t.ok(offset - before >= d.HEADROOM_BYTES, 'behind headroom');
  }

  await sendFrames(here, 'tap0', frames);
  const rounds = [2, 2, 8, 8].map((max) => native.tapRead(incoming.handle, fd, max));
  t.same(rounds, [2, 2, 1, 0], 'as many as are asked for');

  // Room for the largest frame must be left before each read, so a slab that is short of it gives fewer.
  const frame = udpFrame({ payload: filler(1400) });
  const slot = (frame.length + d.HEADROOM_BYTES + 15) & ~15;
  const short = extra.createBatch(8, d.HEADROOM_BYTES + d.MAX_FRAME_BYTES + 2 * slot);
  await sendFrames(here, 'tap0', Array<Uint8Array>(7).fill(frame));
  t.same(
    [0, 1, 2, 3].map(() => native.tapRead(short.handle, fd, 8)),
    [3, 3, 1, 0],
    'a packed slab gives the rest at the next call',
  );

  t.equal(native.tapRead(99, fd, 8), -ERRNO.EINVAL, 'no such batch');
  t.equal(native.tapRead(-1, fd, 8), -ERRNO.EINVAL);
  t.equal(native.tapRead(incoming.handle, -1, 8), -ERRNO.EBADF, 'no such descriptor');
  await here.ip('link delete tap0');
  t.equal(native.tapRead(incoming.handle, fd, 8), -ERRNO.EBADFD, 'a device that was deleted');
}

/** What another thread reads from a TAP: the frames of each call in hexadecimal. */
async function readElsewhere(fd: number, ring: extra.Ring | undefined): Promise<string[][]> {
  const program = `
    const { parentPort, workerData: { module, fd, slabBytes, ring } } = require('node:worker_threads');
    import(module).then(({ native, createBatch, useRing }) => {
      if (ring !== undefined && !useRing(ring)) throw new Error('the ring cannot be used');
      const batch = createBatch(64, slabBytes);
      const frame = (_, index) => {
        const [offset, length] = batch.descriptors.subarray(16 * index);
        return Buffer.from(batch.bytes.buffer, offset, length).toString('hex');
      };
      const calls = [];
      for (let count; (count = native.tapRead(batch.handle, fd, 64)) > 0;)
        calls.push(Array.from({ length: count }, frame));
      parentPort.postMessage(calls);
    });`;
  const slabBytes = 65 * (d.MAX_FRAME_BYTES + 336);
  const worker = new Worker(program, { eval: true, workerData: { module: MODULE, fd, slabBytes, ring } });
  const [calls] = (await once(worker, 'message')) as [string[][]];
  await worker.terminate();
  return calls;
}

/** Small frames are read many at once with a ring; one by one without, and with one that the kernel has closed. */
async function tapReadsMany(t: Test): Promise<void> {
  const fd = await silentTap(t, 'tap0');
  extra.setLink('tap0', { mtuBytes: 9000 });
  const sizes = [...Array<number>(40).fill(60), 9000, 1514, 8000, ...Array<number>(30).fill(200), 5000, 61];
  const frames = sizes.map((bytes, index) =>
    udpFrame({ sourcePort: 1000 + index, payload: filler(bytes - 42) }),
  );
  const wanted = frames.map(toHex);
  const ring = extra.openRing();
  if (ring === undefined) throw new Error('this kernel makes no ring');
  t.teardown(() => {
    extra.closeDescriptor(ring.fd);
  });
  const reads = (): number => ringReads(process.pid, ring.fd);
  for (const [how, used] of [
    ['with a ring', ring],
    ['without', undefined],
    ['with the same ring, in another thread', ring],
  ] as const) {
    const before = reads();
    await sendFrames(here, 'tap0', frames);
    const calls = await readElsewhere(fd, used);
    t.same(calls.flat(), wanted, `${how}: whole, in order`);
    t.ok(calls[0].length > 30, `${how}: ${calls.map((each) => each.length).join(', ')} frames`);
    t.equal(reads() > before, used !== undefined, `${how}: ${reads() - before} reads by the ring`);
  }
}

/** A flow has one queue, both ways, whoever writes to the device: its order is kept. */
async function tapQueues(t: Test): Promise<void> {
  const close = closing(t);
  const open = (exclusive: boolean) => close(extra.openTap('tap0', { exclusive, multiQueue: true }));
  const queues = [open(true), open(false)];
  fails(t, () => open(true), 'EBUSY', 'TUNSETIFF', 'tap0');
  fails(t, () => extra.openTap('tap0', { exclusive: false }), 'EINVAL', 'TUNSETIFF', 'tap0');
  await here.quietIpv6('tap0');
  extra.setLink('tap0', { up: true });
  const flow = (index: number, version: 4 | 6, backward = false): Uint8Array => {
    const macs = ['02:00:00:00:00:0a', '02:00:00:00:00:0b'];
    const ends = version === 4 ? ['10.55.55.200', '10.55.55.201'] : ['fd55::200', 'fd55::201'];
    const ports = [40_000 + index, 9];
    if (backward) for (const pair of [macs, ends, ports]) pair.reverse();
    const [sourceMac, destinationMac] = macs;
    const [source, destination] = ends;
    const [sourcePort, destinationPort] = ports;
    return udpFrame({ sourceMac, destinationMac, source, destination, sourcePort, destinationPort });
  };
  /** The frames that come out of each queue. */
  const sent = async (...frames: Uint8Array[]): Promise<string[][]> => {
    await sendFrames(here, 'tap0', frames);
    return queues.map((fd) => {
      const hexes: string[] = [];
      for (let count = 1; count > 0;) {
        count = native.tapRead(incoming.handle, fd, 8);
        for (let index = 0; index < count; index++) hexes.push(toHex(frameOf(incoming, index)));
      }
      return hexes;
    });
  };
  const indices = Array.from({ length: 16 }, (_, index) => index);
  t.notOk(steerByFlow(queues, 'tap0'), 'without a program');
  t.equal((await sent(...indices.map((index) => flow(index, 4))))[0].length, 16, 'one queue gets all frames');
  put(outgoing, 0, flow(0, 4, true));
  t.equal(
    native.tapWrite(outgoing.handle, queues[1], list([0, 0]), 1),
    1,
    'and all of them can be written to',
  );
  await steering.open();
  t.ok(steerByFlow(queues, 'tap0'), 'with a program');
  t.ok(steerByFlow(queues, 'tap0'), 'again, as at a restart');
  for (const version of [4, 6] as const) {
    const there = await sent(...indices.map((index) => flow(index, version)));
    const back = await sent(...indices.map((index) => flow(index, version, true)));
    const share = there.map((hexes) => indices.filter((at) => hexes.includes(toHex(flow(at, version)))));
    t.ok(
      share.every(({ length }) => length >= 3),
      `IPv${version}: each queue has some of the flows: ${share.map(({ length }) => length).join(', ')}`,
    );
    const backward = share.map((flows) => flows.map((at) => toHex(flow(at, version, true))));
    t.same(back, backward, `IPv${version}: and both directions of them, in order`);
    // What the kernel goes by when it is left alone: who wrote a frame of the flow last.
    for (const [queue, flows] of share.entries()) {
      put(outgoing, 0, flow(flows[0], version, true));
      t.equal(native.tapWrite(outgoing.handle, queues[1 - queue], list([0, 0]), 1), 1);
    }
    t.same(await sent(...indices.map((index) => flow(index, version))), there, 'whoever writes');
  }
  for (const index of indices) {
    for (const version of [4, 6] as const) {
      const frame = flow(index, version);
      const tagged = withTag(frame, 5);
      const forms = [tagged, withTag(tagged, 6, vlan.SERVICE_TAG), withTag(withTag(tagged, 7), 8)];
      if (version === 6) forms.push(...EXTENSIONS.map((chain) => withExtensions(frame, chain)));
      const lengths = (await sent(frame, ...forms)).map(({ length }) => length).sort((x, y) => x - y);
      t.same(lengths, [0, 1 + forms.length], `IPv${version}, flow ${index}: with tags, with extensions`);
    }
  }
  for (const version of [4, 6] as const) {
    const fragments = indices.map((index) => fragmentOf(flow(index, version)));
    t.ok(
      (await sent(...fragments)).some(({ length }) => length === 16),
      `IPv${version}: fragments by address`,
    );
  }
  t.equal((await sent(flow(0, 4).slice(0, 20))).flat().length, 1, 'cut short');
}

/** Next header, and its bytes from the second on: RFC 8200 4.3, 4.6; RFC 4302 2. */
const EXTENSIONS: readonly (readonly (readonly [number, number[]])[])[] = [
  [[ipv6.HOP_BY_HOP, [0, 1, 4, 0, 0, 0, 0]]],
  [
    [ipv6.DESTINATION_OPTIONS, [1, 1, 12, ...Array<number>(12).fill(0)]],
    [ipv6.AUTHENTICATION, [4, ...Array<number>(22).fill(0)]],
  ],
];

/** An IPv6 frame with these headers before that of its transport. */
function withExtensions(frame: Uint8Array, chain: (typeof EXTENSIONS)[number]): Uint8Array {
  const start = ethernet.HEADER_BYTES + ipv6.HEADER_BYTES;
  const protocols = [...chain.map(([protocol]) => protocol), frame[ethernet.HEADER_BYTES + 6]];
  const headers = chain.flatMap(([, rest], index) => [protocols[index + 1], ...rest]);
  const bytes = Uint8Array.of(...frame.subarray(0, start), ...headers, ...frame.subarray(start));
  bytes[ethernet.HEADER_BYTES + 6] = protocols[0];
  new DataView(bytes.buffer).setUint16(ethernet.HEADER_BYTES + ipv6.PAYLOAD_LENGTH, bytes.length - start);
  return bytes;
}

/** The same as a first fragment, which has ports. */
function fragmentOf(frame: Uint8Array): Uint8Array {
  if (frame[ethernet.HEADER_BYTES] >> 4 === 6)
    return withExtensions(frame, [[ipv6.FRAGMENT, [0, 0, 1, 0, 0, 0, 9]]]);
  const bytes = frame.slice();
  bytes[ethernet.HEADER_BYTES + 6] = 0x20; // more fragments: RFC 791 3.1
  return bytes;
}

async function tapWrites(t: Test): Promise<void> {
  const fd = await silentTap(t, 'tap0');
  const frames = [udpFrame(), udpFrame({ payload: filler(1472) }), withTag(udpFrame(), 77)];
  const write = (entries: Int32Array): number =>
    native.tapWrite(outgoing.handle, fd, entries, entries.length / 2);
  frames.forEach((frame, index) => {
    put(outgoing, index, frame);
  });
  put(outgoing, 3, new Uint8Array(13));
  put(outgoing, 4, frames[0], { [d.LENGTH]: SLAB_BYTES });
  put(outgoing, 5, frames[0], { [d.OFFSET]: -1 });
  put(outgoing, 6, new Uint8Array(4));

  const sink = await FrameSink.open(here, 'tap0');
  const bad = [3, 4, 5, 6, 99, -1] as const;
  const entries = list([0, 0], ...bad.map((frame) => [frame, 0] as const), [1, 0], [2, 0], [2, 1]);
  t.equal(write(entries), 4, 'the good ones are delivered');
  const refused = bad.map(() => -ERRNO.EINVAL);
  t.same(results(entries), [0, ...refused, 0, 0, 1], 'the bad ones say why, and cost only themselves');
  const expected = [frames[0], frames[1], frames[2], udpFrame()].map((frame) => toHex(frame));
  t.same((await sink.waitFor(4)).map(toHex), expected, 'whole; without its tag where that was asked for');

  // A partial checksum is the receiving stack's to know; behind a tag that is taken out it starts 4 bytes earlier.
  const partial = { [d.FLAGS]: virtio.NEEDS_CHECKSUM, [d.CSUM_START]: 34, [d.CSUM_OFFSET]: 6 };
  put(outgoing, 0, frames[0], partial);
  put(outgoing, 1, frames[2], { ...partial, [d.CSUM_START]: 38 });
  t.equal(write(list([0, 0], [1, 1])), 2);
  t.same((await sink.waitFor(6)).slice(4).map(toHex), [toHex(frames[0]), toHex(frames[0])]);
  t.same(sink.partialChecksum.slice(4), [true, true], 'and it is known to be partial');
  await sink.close();

  t.equal(native.tapWrite(outgoing.handle, fd, list([0, 0]), 2), -ERRNO.EINVAL, 'a list that is too short');
  t.equal(native.tapWrite(outgoing.handle, fd, list([0, 0]), -1), -ERRNO.EINVAL);
  t.equal(native.tapWrite(99, fd, list([0, 0]), 1), -ERRNO.EINVAL, 'no such batch');
  extra.setLink('tap0', { up: false });
  const down = list([0, 0]);
  t.equal(write(down), 0);
  t.same(results(down), [-ERRNO.EIO], 'a device that is down');
  await here.ip('link delete tap0');
  const gone = list([0, 0]);
  t.equal(write(gone), 0);
  t.same(results(gone), [-ERRNO.EBADFD], 'a device that was deleted');
}

/** What the stack leaves to "the device": frames read with a partial checksum, completed on their way out. */
async function checksums(t: Test): Promise<void> {
  const close = closing(t);
  const fd = close(extra.openTap('tap0', { exclusive: true }));
  t.ok(extra.setTapOffload(fd, extra.TUN_F.CSUM, 'tap0'));
  await here.sysctl('net.ipv6.conf.tap0.router_solicitations', 0);
  await here.plumb('tap0');
  const peers = ['10.55.55.9', 'fd55::9'];
  for (const peer of peers) await here.ip(`neigh replace ${peer} lladdr 02:00:00:00:00:09 dev tap0`);
  await here.ip(['link', 'set', 'tap0', 'multicast', 'off']);
  while (native.tapRead(incoming.handle, fd, 8) > 0);

  const [receiver, sender] = [close(openUdp('127.0.0.1', 5000)), close(openUdp('127.0.0.1', 0))];
  native.addressSet(0, addressBytes('127.0.0.1'), 5000);
  const sizes = [1, 2, 3, 1000, 1001, 1399, 1400];
  const completed: Uint8Array[] = [];
  for (const peer of peers) {
    const payloads = sizes.map((size) => filler(size + peer.length).subarray(peer.length));
    await sendDatagrams(here, { to: peer, port: 9, payloads });
    // The stack may say more than it was asked to: groups are joined when an address is given.
    for (let count = native.tapRead(incoming.handle, fd, 8); count > 0;) {
      const indices = Array.from({ length: count }, (_, index) => index);
      const asking = indices.filter((index) => field(incoming, index, d.FLAGS) === virtio.NEEDS_CHECKSUM);
      const entries = list(...asking.map((index) => [index, 0] as const));
      if (asking.length > 0)
        t.equal(native.udpSend(incoming.handle, sender, entries, asking.length, 0, 0), asking.length);
      for (let left = asking.length; left > 0;) {
        const got = await receive(() => native.udpReceive(outgoing.handle, receiver, 8, RULE), left);
        for (let index = 0; index < got; index++) completed.push(frameOf(outgoing, index));
        left -= got;
      }
      count = native.tapRead(incoming.handle, fd, 8);
    }
  }
  const file = path.join(directory, 'completed.pcapng');
  writeCapture(file, completed);
  const rows = await fieldsOf(file, 'udp.dstport == 9', ['udp.checksum.status', 'udp.length']);
  const good = peers.flatMap(() =>
    sizes.map((size) => ({ 'udp.checksum.status': ['1'], 'udp.length': [`${size + 8}`] })),
  );
  t.same(rows, good, 'tshark finds every checksum good');

  for (const version of [4, 6] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      const packet = withZeroSum({ ...PLAIN, version, protocol, payload: filler(100) });
      const { transport } = layoutOf(packet);
      const offset = protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM;
      const left = { [d.FLAGS]: virtio.NEEDS_CHECKSUM, [d.CSUM_START]: transport, [d.CSUM_OFFSET]: offset };
      put(outgoing, 0, writtenFrame(packet, 'partial'), left);
      t.equal(native.udpSend(outgoing.handle, sender, list([0, 0]), 1, 0, 0), 1);
      await receive(() => native.udpReceive(incoming.handle, receiver, 8, RULE), 1);
      const sum = read16(frameOf(incoming, 0), transport + offset);
      t.equal(sum, protocol === 'udp' ? 0xffff : 0, `IPv${version} ${protocol}: a checksum of zero`);
    }
  }

  const outside = { [d.FLAGS]: virtio.NEEDS_CHECKSUM, [d.CSUM_START]: 34, [d.CSUM_OFFSET]: 6 };
  const frame = udpFrame();
  const wrong = [
    { ...outside, [d.CSUM_START]: frame.length - 7 },
    { ...outside, [d.CSUM_START]: 13 },
    { ...outside, [d.CSUM_OFFSET]: -1 },
    { ...outside, [d.CSUM_START]: 0x7fff_ffff, [d.CSUM_OFFSET]: 0x7fff_ffff },
  ];
  wrong.forEach((more, index) => {
    put(outgoing, index, frame, more);
  });
  const entries = list(...wrong.map((_, index) => [index, 0] as const));
  t.equal(native.udpSend(outgoing.handle, sender, entries, wrong.length, 0, 0), 0);
  t.same(
    results(entries),
    wrong.map(() => -ERRNO.EINVAL),
    'a checksum outside its frame is refused',
  );
}

await nativeTests(import.meta.url, async () => {
  await t.test('frames out of a TAP', tapReads);
  await t.test('many frames out of a TAP', tapReadsMany);
  await t.test('frames out of the queues of a TAP', tapQueues);
  await t.test('frames into a TAP', tapWrites);
  await t.test('checksums left to the device', { skip: skipUnless({ programs: ['tshark'] }) }, checksums);
});
