// src/dgram-extra against the kernel: every call, on real devices and sockets.
//
// The file runs twice: tap starts it, and it starts itself again inside a network namespace of its own, whose name
// is its argument. So the calls can be made from this process, and what they make is gone with the namespace.
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import t, { type Test } from 'tap';

import { openSteering, steerByFlow } from '../../src/datapath/userland/main/steering.js';
import * as extra from '../../src/dgram-extra/index.js';
import { ruleWords } from '../../src/encap/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { read16 } from '../../src/wire/bytes.js';
import * as d from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import { createPathNews } from '../../src/wire/path-news.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import { endAgents } from '../helpers/agents.js';
import { fieldsOf, writeCapture } from '../helpers/capture.js';
import { addressBytes, filler, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed, Namespace, overlayAddresses, underlayAddresses } from '../helpers/netns.js';
import { Child, exec, waitUntil } from '../helpers/process.js';
import { ringReads } from '../helpers/procfs.js';
import { frameOf as writtenFrame, layoutOf, PLAIN, withZeroSum } from '../helpers/superframe.js';
import { FrameSink, sendDatagrams, sendFrames } from '../helpers/traffic.js';

const { native } = extra;
const ERRNO = { EIO: 5, EBADF: 9, EINVAL: 22, EBADFD: 77, EMSGSIZE: 90, ENETUNREACH: 101 } as const;
const LOOPBACK = ['127.0.0.1', '::1'] as const;
const ETHERNET_MTU = 1500;
const MODULE = fromRoot('dist/src/dgram-extra/index.js');

const SELF = fileURLToPath(import.meta.url);
const LONG_NAME = 'averyverylongname0';

/** Undefined in the outer run. */
const namespace = process.argv.at(2);
const here = new Namespace(namespace ?? '', 0, underlayAddresses(0), overlayAddresses(0));
const directory = namespace === undefined ? '' : mkdtempSync(path.join(tmpdir(), `${namespace}-`));

// ---------------------------------------------------------------- tools

/** A failed call says which errno, which system call, and what it was done to. */
function fails(t: Test, call: () => unknown, code: string, syscall: string, device: string): void {
  const message = `${code}: ${syscall} on ${device}`;
  t.throws(call, { name: 'NativeError', code, syscall, device, message }, message);
}

/** Descriptors that pass through it are closed when the test ends, however it ends. */
function closing(t: Test): (fd: number) => number {
  return (fd) => {
    t.teardown(() => {
      extra.closeDescriptor(fd);
    });
    return fd;
  };
}

const field = (batch: extra.Batch, index: number, name: number): number =>
  batch.descriptors[index * d.DESCRIPTOR_WORDS + name];

/** Puts a frame into a batch by hand, each in 2 KiB of its own. */
function put(
  batch: extra.Batch,
  index: number,
  bytes: Uint8Array,
  more: Readonly<Record<number, number>> = {},
): void {
  const at = index * d.DESCRIPTOR_WORDS;
  const offset = d.HEADROOM_BYTES + index * 2048;
  batch.descriptors.fill(0, at, at + d.DESCRIPTOR_WORDS);
  batch.bytes.set(bytes, offset);
  batch.descriptors[at + d.OFFSET] = offset;
  batch.descriptors[at + d.LENGTH] = bytes.length;
  for (const [name, value] of Object.entries(more)) batch.descriptors[at + Number(name)] = value;
}

function frameOf(batch: extra.Batch, index: number): Uint8Array {
  const offset = field(batch, index, d.OFFSET);
  return batch.bytes.slice(offset, offset + field(batch, index, d.LENGTH));
}

const list = (...entries: readonly (readonly [frame: number, argument: number])[]): Int32Array =>
  Int32Array.from(entries.flat());

/** The argument of each entry, which is a negated errno where the frame was refused. */
const results = (entries: Int32Array): number[] => [...entries].filter((_, at) => at % 2 === 1);

/** Two batches for all: at most 16 a thread, and they are never given back. */
const SLAB_BYTES = 8 * (d.HEADROOM_BYTES + d.MAX_FRAME_BYTES);
const batches = namespace === undefined ? [] : [0, 1].map(() => extra.createBatch(8, SLAB_BYTES));
const [outgoing, incoming] = batches as [extra.Batch, extra.Batch];

/** A TAP that is up, and on which nothing speaks of its own accord. */
async function silentTap(t: Test, name: string): Promise<number> {
  const fd = closing(t)(extra.openTap(name, { exclusive: true }));
  await here.quietIpv6(name);
  extra.setLink(name, { up: true });
  return fd;
}

/** Reads until that many are there: a socket or device may still be about to be told. */
async function receive(read: () => number, wanted: number): Promise<number> {
  let count = 0;
  const enough = (): boolean => {
    count = read();
    return count !== 0;
  };
  await waitUntil(enough, { what: `${wanted} frames`, stepMs: 5 });
  return count;
}

const RULE = extra.headerRule(ruleWords(VXLAN.rule));
const udpIn = (fd: number): number => native.udpReceive(incoming.handle, fd, incoming.capacityFrames, RULE);

function openUdp(address: string, port: number, options: Partial<extra.UdpOptions> = {}): number {
  return extra.openUdp({ address: addressBytes(address), port, label: `${address}:${port}`, ...options });
}

// ---------------------------------------------------------------- devices

async function tapProperties(t: Test): Promise<void> {
  const shown = (): Promise<string> => here.ip('-o link show dev tap0');

  const fd = extra.openTap('tap0', { exclusive: true });
  t.ok(extra.linkInfo('tap0'), 'it is there');
  t.match(await shown(), /state DOWN/, 'and down');
  fails(t, () => extra.openTap('tap0', { exclusive: true }), 'EBUSY', 'TUNSETIFF', 'tap0');
  fails(t, () => extra.openTap('tap0', { exclusive: false }), 'EBUSY', 'TUNSETIFF', 'tap0');
  fails(t, () => extra.openTap('lo', { exclusive: false }), 'EINVAL', 'TUNSETIFF', 'lo');

  extra.setLink('tap0', { mac: Uint8Array.of(2, 0, 0, 0, 0, 0x77) });
  t.equal(toHex(extra.linkInfo('tap0')!.mac), '020000000077', 'MAC');
  t.equal(await here.macOf('tap0'), '02:00:00:00:00:77', 'MAC as ip shows it');
  for (const mtuBytes of [576, 1450, 8900]) {
    extra.setLink('tap0', { mtuBytes });
    t.equal(extra.linkInfo('tap0')?.mtuBytes, mtuBytes, `MTU ${mtuBytes}`);
    t.equal(await here.mtuOf('tap0'), mtuBytes, `MTU ${mtuBytes} as ip shows it`);
  }
  extra.setLink('tap0', { up: true });
  t.match(await shown(), /<[^>]*\bUP\b/, 'up');
  t.ok(extra.setTapCarrier(fd, false, 'tap0'));
  t.match(await shown(), /NO-CARRIER/, 'without carrier');
  t.ok(extra.setTapCarrier(fd, true, 'tap0'));
  t.match(await shown(), /LOWER_UP/, 'with carrier');
  extra.setLink('tap0', { up: false });
  t.match(await shown(), /state DOWN/, 'down again');

  const { CSUM, TSO4, TSO6, TSO_ECN } = extra.TUN_F;
  t.ok(extra.setTapOffload(fd, CSUM | TSO4 | TSO6 | TSO_ECN, 'tap0'), 'offloads');
  t.ok(extra.setTapOffload(fd, 0, 'tap0'), 'none');
  t.notOk(extra.setTapOffload(fd, 0x4000, 'tap0'), 'one that no kernel has');

  extra.closeDescriptor(fd);
  t.notOk(extra.linkInfo('tap0'), 'gone with its descriptor');

  extra.closeDescriptor(extra.openTap('tap1', { exclusive: true, persistent: true }));
  t.ok(extra.linkInfo('tap1'), 'a persistent one stays');
  fails(t, () => extra.openTap('tap1', { exclusive: true }), 'EBUSY', 'TUNSETIFF', 'tap1');
  extra.closeDescriptor(extra.openTap('tap1', { exclusive: false, persistent: false }));
  t.notOk(extra.linkInfo('tap1'), 'taken over and made temporary it goes');
}

/** What belongs to a device, whoever of those that have it sets it. */
async function tapSettings(t: Test): Promise<void> {
  const close = closing(t);
  const open = (name: string, exclusive: boolean, multiQueue = true): number =>
    close(extra.openTap(name, { exclusive, multiQueue }));
  const asNew = { isPersistent: false, isFramed: true, ...extra.TAP_DEFAULTS };
  const single = open('tap0', true, false);
  t.same(extra.tapSettings(single), asNew, 'of a new one');
  t.same(extra.linkInfo('tap0')!.tun, { ownerUid: 0, ownerGid: 0, queues: 0, disabledQueues: 0 }, 'is ours');
  t.ok(extra.isOwn(extra.linkInfo('tap0')!.tun!));
  for (const [ownerUid, ownerGid] of [
    [1, 0],
    [0, 1],
    [undefined, 0],
    [0, undefined],
  ])
    t.notOk(extra.isOwn({ ownerUid, ownerGid }), `${ownerUid} and ${ownerGid} are not we`);
  t.match(await here.ip('-d link show dev tap0'), /user root group root/);

  const [fd] = [open('tap1', true), open('tap1', false)];
  t.match(extra.linkInfo('tap1')!.tun, { ownerUid: 0, ownerGid: 0, queues: 2, disabledQueues: 0 });
  extra.setTapQueue(fd, false, 'tap1');
  t.match(extra.linkInfo('tap1')!.tun, { queues: 1, disabledQueues: 1 });
  extra.setTapQueue(fd, true, 'tap1');
  const user = here.spawn(
    ['python3', fromRoot('test/helpers/tap-user.py'), '/dev/net/tun', 'tap1', 'multi'],
    {},
    'pipe',
  );
  t.teardown(() => {
    user.end();
    return user.exited;
  });
  const lines = ['header 20', 'little 1', 'sndbuf 1000', 'persist 1', 'owner 1', 'group 2', 'txfilter 1'];
  user.write(lines.map((line) => `${line}\n`).join(''));
  await waitUntil(() => user.stdout.trim().split('\n').length === lines.length + 1, {
    what: 'it to be done',
  });
  t.equal(user.stdout, `ready\n${'0\n'.repeat(lines.length)}`);
  t.same(extra.tapSettings(fd), {
    isPersistent: true,
    isFramed: true,
    headerBytes: 20,
    isNativeOrder: false,
    sendBufferBytes: 1000,
  });
  t.match(extra.linkInfo('tap1')!.tun, { ownerUid: 1, ownerGid: 2, queues: 3 });
  extra.resetTapSettings(fd, 'tap1');
  extra.setTapPersistent(fd, false, 'tap1');
  extra.setTapOwner(fd, 'tap1');
  extra.unfilterTap(fd, 'tap1');
  t.same(extra.tapSettings(fd), asNew, 'as before');
  t.match(extra.linkInfo('tap1')!.tun, { ownerUid: 0, ownerGid: 0 });

  const { CSUM, TSO4, TSO6, TSO_ECN } = extra.TUN_F;
  const all = CSUM | TSO4 | TSO6 | TSO_ECN;
  t.match(extra.linkOffloads('tap0'), { inForce: 0 }, 'none that it was not given');
  extra.setTapOffload(single, all, 'tap0');
  t.same(extra.linkOffloads('tap0'), { wanted: all, inForce: all });
  await here.exec('ethtool -K tap0 tx-tcp6-segmentation off');
  t.same(extra.linkOffloads('tap0'), { wanted: all & ~TSO6, inForce: all & ~TSO6 });
  await here.exec('ethtool -K tap0 sg off tx-tcp6-segmentation on').catch(() => undefined);
  t.same(extra.linkOffloads('tap0'), { wanted: all, inForce: CSUM }, 'wanted and not to be had');
  t.equal(extra.linkOffloads('none0'), undefined);
  t.equal(extra.linkOffloads('a name that is too long'), undefined);

  extra.deleteLink('tap1');
  t.equal(extra.tapSettings(fd), undefined, 'of one that is gone');
  fails(
    t,
    () => {
      extra.resetTapSettings(fd, 'tap1');
    },
    'EBADFD',
    'TUNSETVNETHDRSZ',
    'tap1',
  );
  fails(
    t,
    () => {
      extra.setTapOwner(fd, 'tap1');
    },
    'EBADFD',
    'TUNSETOWNER',
    'tap1',
  );
  fails(
    t,
    () => {
      extra.unfilterTap(fd, 'tap1');
    },
    'EBADFD',
    'TUNSETFILTEREBPF',
    'tap1',
  );
}

function refusals(t: Test): void {
  const close = closing(t);
  const mac = new Uint8Array(6);
  const taken = { port: 5100, label: 'taken', address: addressBytes('127.0.0.1') };
  close(extra.openUdp(taken));
  const from = addressBytes('127.0.0.1');
  const rows: readonly [call: () => unknown, code: string, syscall: string, device: string][] = [
    [
      (): void => {
        extra.setLink('none0', { mac });
      },
      'ENODEV',
      'RTM_NEWLINK',
      'none0',
    ],
    [
      (): void => {
        extra.setLink('none0', { mtuBytes: 1500 });
      },
      'ENODEV',
      'RTM_NEWLINK',
      'none0',
    ],
    [
      (): void => {
        extra.setLink('none0', { up: true });
      },
      'ENODEV',
      'RTM_NEWLINK',
      'none0',
    ],
    [
      (): void => {
        extra.setLink('lo', { mac: mac.subarray(1) });
      },
      'EINVAL',
      'RTM_NEWLINK',
      'lo',
    ],
    [
      (): void => {
        extra.setLink('lo', { mtuBytes: -1 });
      },
      'EINVAL',
      'RTM_NEWLINK',
      'lo',
    ],
    [() => extra.setTapOffload(-1, 0, 'none0'), 'EBADF', 'TUNSETOFFLOAD', 'none0'],
    [() => extra.setTapCarrier(-1, true, 'none0'), 'EBADF', 'TUNSETCARRIER', 'none0'],
    [() => openUdp('192.0.2.1', 4789), 'EADDRNOTAVAIL', 'bind', '192.0.2.1:4789'],
    [() => openUdp('2001:db8::1', 4789), 'EADDRNOTAVAIL', 'bind', '2001:db8::1:4789'],
    [() => extra.openUdp(taken), 'EADDRINUSE', 'bind', 'taken'],
    [() => extra.openUdp({ ...taken, reusePort: true }), 'EADDRINUSE', 'bind', 'taken'],
    [
      () => extra.routeMtuBytes(from, addressBytes('192.0.2.1'), 'there'),
      'ENETUNREACH',
      'RTM_GETROUTE',
      'there',
    ],
    [
      (): void => {
        extra.addToPoll(-1, 0, 1);
      },
      'EBADF',
      'epoll_ctl',
      'descriptor 0',
    ],
    [
      (): void => {
        extra.removeFromPoll(-1, 0);
      },
      'EBADF',
      'epoll_ctl',
      'descriptor 0',
    ],
    [
      (): void => {
        extra.signalEvent(-1);
      },
      'EBADF',
      'eventfd_write',
      'eventfd',
    ],
    [
      (): void => {
        extra.closeDescriptor(-1);
      },
      'EBADF',
      'close',
      'descriptor -1',
    ],
    [() => extra.lockFile(-1), 'EBADF', 'flock', 'lock file'],
    [() => extra.peerCredentials(-1), 'EBADF', 'SO_PEERCRED', 'descriptor -1'],
    [() => extra.createBatch(8, 1000), 'EINVAL', 'batchCreate', '1000 bytes'],
    [() => extra.createBatch(0, SLAB_BYTES), 'EINVAL', 'batchCreate', `${SLAB_BYTES} bytes`],
    [() => extra.createBatch(1025, SLAB_BYTES), 'EINVAL', 'batchCreate', `${SLAB_BYTES} bytes`],
    [() => close(extra.openTap(LONG_NAME, { exclusive: true })), 'ENAMETOOLONG', 'TUNSETIFF', LONG_NAME],
  ];
  for (const row of rows) fails(t, ...row);
  t.notOk(extra.linkInfo('none0'));
  t.notOk(extra.linkInfo(LONG_NAME.slice(0, 15)), 'a name that is too long is not cut to fit');
  t.end();
}

async function features(t: Test): Promise<void> {
  const all = { tapChecksum: true, tapTcpSegmentation: true, udpSegmentation: true, udpCoalescing: true };
  t.match(extra.probeFeatures(), all, 'what every kernel since 5.0 has');
  t.equal(await here.ip('-o link show type tun'), '', 'the device it was tried on is gone');
  // Root without the right to administer networks: no TAP, and no error.
  const program = `import(${JSON.stringify(MODULE)}).then((m) => console.log(JSON.stringify(m.probeFeatures())))`;
  const command = ['setpriv', '--bounding-set', '-net_admin', process.execPath, '-e', program];
  const without = JSON.parse(await exec(command)) as extra.Features;
  t.match(without, {
    tapChecksum: false,
    tapTcpSegmentation: false,
    tapUdpSegmentation: false,
    tapCarrier: false,
  });
}

async function closesManyTaps(t: Test): Promise<void> {
  const open = (name: string, more = {}): number => extra.openTap(name, { exclusive: true, ...more });
  const links = async (): Promise<string[]> =>
    (JSON.parse(await here.ip('-j link show')) as { ifname: string }[]).map(({ ifname }) => ifname).sort();
  const rest = await links();
  const elsewhere = `${here.name}-x`;
  await exec(['ip', 'netns', 'add', elsewhere]);
  t.teardown(() => exec(['ip', 'netns', 'delete', elsewhere]));
  const held = closing(t)(open('held0'));
  t.ok(held > 0);
  const several = async (): Promise<number[]> => {
    const fds = ['c0', 'c1', 'c2', 'moved0'].map((name) => open(name));
    await here.ip(`link set moved0 netns ${elsewhere}`);
    const queue = { exclusive: false, multiQueue: true };
    fds.push(...[0, 1].map(() => extra.openTap('queues0', queue)), open('stays0', { persistent: true }));
    return fds;
  };
  const queue = { exclusive: true, multiQueue: true };
  const shared = [extra.openTap('shared0', queue), extra.openTap('shared0', { ...queue, exclusive: false })];
  extra.closeTaps([shared[0], ...(await several())]);
  t.same(await links(), [...rest, 'held0', 'shared0', 'stays0'].sort(), 'others may have the same device');
  await here.ip('link delete stays0');
  extra.keepTaps(false);
  t.teardown(() => {
    extra.keepTaps(true);
  });
  extra.closeTaps([closing(t)(shared[1]), ...(await several())].slice(1));
  t.same(await links(), [...rest, 'held0', 'shared0', 'stays0'].sort(), 'all those, and no other');
  extra.closeTaps([extra.openTap('shared0', { ...queue, exclusive: false }), open('c0')]);
  t.same(await links(), [...rest, 'held0', 'stays0'].sort(), 'a device whatever else keeps it');
  t.equal((await exec(['ip', '-n', elsewhere, '-o', 'link', 'show', 'type', 'tun'])).trim(), '', 'elsewhere');
  await here.ip('link delete stays0');
  const fds = Array.from({ length: 50 }, (_, index) => open(`c${index}`));
  extra.closeTaps(fds);
  for (const fd of fds) t.throws(() => extra.setTapCarrier(fd, true, 'c'), { code: 'EBADF' });
  extra.closeTaps([]);
  t.same(await links(), [...rest, 'held0'].sort());
}

// ---------------------------------------------------------------- frames

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
  await openSteering();
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

// ---------------------------------------------------------------- sockets

async function udpOptions(t: Test): Promise<void> {
  const close = closing(t);
  for (const [slot, address] of LOOPBACK.entries()) {
    const port = 5001;
    const plain = close(openUdp(address, port));
    native.addressSet(slot, addressBytes(address), port);
    const send = (fd: number, index: number): number[] => {
      const entries = list([index, slot]);
      native.udpSend(outgoing.handle, fd, entries, 1, 0, 0);
      return results(entries);
    };
    const sender = close(openUdp(address, 50_123));

    // Never fragmented: RFC 7348 4.3.
    const largest = ETHERNET_MTU - (address === '::1' ? 48 : 28);
    [largest, largest + 1].forEach((bytes, index) => {
      put(outgoing, index, filler(bytes));
    });
    t.same(send(sender, 0), [slot], `${address}: ${largest} bytes pass`);
    t.same(send(sender, 1), [-ERRNO.EMSGSIZE], 'one more does not');
    t.equal(await receive(() => udpIn(plain), 1), 1);
    t.same(frameOf(incoming, 0), filler(largest), 'whole');
    t.equal(field(incoming, 0, d.PORT), 50_123, 'from the port the socket is bound to');
    t.equal(
      ip.readV6(new Uint8Array(incoming.descriptors.slice(d.ADDRESS, d.PORT).buffer), 0),
      address,
      'and address',
    );

    // Traffic classes, sent and received.
    const classes = [0x00, 0x01, 0x02, 0x03, 0xb8, 0xbb];
    classes.forEach((tos, index) => {
      put(outgoing, index, filler(64 + index), { [d.TOS]: tos });
    });
    for (const index of classes.keys()) send(sender, index);
    await receive(() => udpIn(plain), classes.length);
    t.same(
      classes.map((_, index) => field(incoming, index, d.TOS)),
      classes,
      'traffic class as sent',
    );

    // A socket that only sends: what comes for it is dropped by the kernel.
    const sendOnly = close(openUdp(address, 5002, { sendOnly: true }));
    native.addressSet(slot, addressBytes(address), 5002);
    t.same(send(sender, 0), [slot]);
    t.equal(udpIn(sendOnly), 0, 'nothing is received by a socket that only sends');
    native.addressSet(slot, addressBytes(address), port);
    t.same(send(sendOnly, 0), [slot]);
    t.equal(await receive(() => udpIn(plain), 1), 1, 'and it sends');

    const shared = [0, 1].map(() => close(openUdp(address, 5003, { reusePort: true })));
    t.equal(new Set(shared).size, 2, 'two sockets share one port where both say so');
    const first = close(openUdp(address, 5005, { admitOthers: true }));
    const further = close(openUdp(address, 5005, { reusePort: true }));
    const taken = `${address}:5005`;
    fails(t, () => openUdp(address, 5005, { admitOthers: true }), 'EADDRINUSE', 'bind', taken);
    native.addressSet(slot, addressBytes(address), 5005);
    for (let count = 0; count < 32; count++) send(close(openUdp(address, 0)), 0);
    const shares = [first, further].map((fd) => {
      let count = 0;
      for (let more = udpIn(fd); more > 0; more = udpIn(fd)) count += more;
      return count;
    });
    t.equal(shares[0] + shares[1], 32, 'each datagram comes to one of them');
    t.ok(Math.min(...shares) > 0, 'and both have some of the flows');
  }

  const buffers = { receiveBufferBytes: 6 << 20, sendBufferBytes: 5 << 20 };
  close(openUdp('127.0.0.1', 5004, buffers));
  // The kernel doubles what it is asked for (socket(7)).
  const shown = await here.exec('ss -Hulnm sport = :5004');
  t.match(shown, /\brb12582912\b.*\btb10485760\b/s, 'buffers beyond the bound of the system');
}

/** RFC 7348 5: a VTEP must accept a zero checksum. On IPv6 that has to be asked for (RFC 6935). */
async function zeroChecksums(t: Test): Promise<void> {
  const close = closing(t);
  const rows = [
    // [address, sender leaves it out, receiver takes it, arrives]
    ['127.0.0.1', true, false, true],
    ['127.0.0.1', true, true, true],
    ['::1', true, false, false],
    ['::1', true, true, true],
    ['::1', false, false, true],
  ] as const;
  for (const [index, [address, zeroChecksumSend, zeroChecksumReceive, arrives]] of rows.entries()) {
    const port = 5010 + index;
    const receiver = close(openUdp(address, port, { zeroChecksumReceive }));
    const sender = close(openUdp(address, 0, { zeroChecksumSend }));
    put(outgoing, 0, filler(100));
    native.addressSet(0, addressBytes(address), port);
    native.udpSend(outgoing.handle, sender, list([0, 0]), 1, 0, 0);
    await sleep(20);
    const words = `${address}, ${zeroChecksumSend ? 'no' : 'a'} checksum`;
    const asked = zeroChecksumReceive ? ', asked for' : '';
    t.equal(udpIn(receiver), arrives ? 1 : 0, `${words}${asked}: ${arrives ? 'arrives' : 'is dropped'}`);
  }
}

async function datagrams(t: Test): Promise<void> {
  const close = closing(t);
  const receiver = close(openUdp('127.0.0.1', 5020));
  const sender = close(openUdp('127.0.0.1', 0));
  const [GOOD, UNSET, NO_ROUTE] = [0, 4000, 2];
  native.addressSet(GOOD, addressBytes('127.0.0.1'), 5020);
  native.addressSet(NO_ROUTE, addressBytes('192.0.2.1'), 5020);
  const take = async (count: number): Promise<string[]> => {
    const got: string[] = [];
    while (got.length < count) {
      const more = await receive(() => udpIn(receiver), count);
      for (let index = 0; index < more; index++) got.push(toHex(frameOf(incoming, index)));
    }
    return got;
  };

  t.equal(udpIn(receiver), 0, 'nothing to receive');
  // A header before the frame, as VXLAN's, is sent with it.
  const frame = Uint8Array.of(...filler(8), ...udpFrame());
  put(outgoing, 0, frame, { [d.OFFSET]: d.HEADROOM_BYTES + 8, [d.LENGTH]: frame.length - 8 });
  t.equal(native.udpSend(outgoing.handle, sender, list([0, GOOD]), 1, 8, 0), 1);
  t.same(await take(1), [toHex(frame)], 'with the bytes that stand before it');
  t.equal(field(incoming, 0, d.OFFSET) % 16, 8, 'the inner frame is 16-aligned');

  // What cannot be sent costs only itself.
  [filler(100), filler(2000), filler(102), filler(103)].forEach((bytes, index) => {
    put(outgoing, index, bytes);
  });
  put(outgoing, 4, filler(10), { [d.LENGTH]: SLAB_BYTES });
  put(outgoing, 5, filler(10), { [d.OFFSET]: 4 });
  const entries = list(
    [0, GOOD],
    [1, GOOD], // too big
    [2, GOOD],
    [2, UNSET],
    [2, -1],
    [2, NO_ROUTE],
    [4, GOOD], // outside the slab
    [5, GOOD], // no room for the header
    [99, GOOD], // no such frame
    [3, GOOD],
  );
  const { EINVAL, EMSGSIZE, ENETUNREACH } = ERRNO;
  const expected = [GOOD, -EMSGSIZE, GOOD, -EINVAL, -EINVAL, -ENETUNREACH, -EINVAL, -EINVAL, -EINVAL, GOOD];
  t.equal(native.udpSend(outgoing.handle, sender, entries, 10, 8, 0), 3, 'three of ten can be sent');
  t.same(results(entries), expected, 'the others say why not');
  const bodies = (await take(3)).map((hex) => hex.slice(16));
  t.same(
    bodies,
    [100, 102, 103].map((bytes) => toHex(filler(bytes))),
    'in order',
  );

  // More entries than the batch has frames, and more datagrams than one receive takes.
  const many = list(...Array.from({ length: 50 }, (_, at) => [at % 4 === 1 ? 0 : at % 4, GOOD] as const));
  t.equal(native.udpSend(outgoing.handle, sender, many, 50, 0, 0), 50, 'a list longer than the batch');
  t.equal((await take(50)).length, 50);
  t.equal(
    native.udpReceive(incoming.handle, receiver, 1000, RULE),
    0,
    'more is asked for than there is room',
  );

  for (const [name, got] of [
    ['no such batch', native.udpSend(99, sender, list([0, GOOD]), 1, 0, 0)],
    ['a list that is too short', native.udpSend(outgoing.handle, sender, list([0, GOOD]), 2, 0, 0)],
    ['no such batch to receive into', native.udpReceive(99, receiver, 8, RULE)],
    ['an address of no length', native.addressSet(0, new Uint8Array(4), 1)],
    ['a slot below zero', native.addressSet(-1, addressBytes('127.0.0.1'), 1)],
    ['a slot above 2^24', native.addressSet(1 << 24, addressBytes('127.0.0.1'), 1)],
  ] as const)
    t.equal(got, -ERRNO.EINVAL, name);
  t.equal(udpIn(-1), -ERRNO.EBADF, 'no such descriptor');
  const heard = createPathNews(4);
  const told = (fd: number, max: number, words = heard.words): number =>
    native.udpErrors(fd, words, heard.quotes, max);
  t.equal(told(sender, 4), 0, 'no news of paths');
  t.equal(told(-1, 4), -ERRNO.EBADF, 'nor of one that is closed');
  t.equal(told(sender, 5), -ERRNO.EINVAL, 'no room for so much');
  t.equal(told(sender, 0), -ERRNO.EINVAL);
  const closed = list([0, GOOD], [2, GOOD]);
  t.equal(native.udpSend(outgoing.handle, -1, closed, 2, 0, 0), 0);
  t.same(results(closed), [-ERRNO.EBADF, -ERRNO.EBADF]);
}

async function routeMtus(t: Test): Promise<void> {
  closing(t)(extra.openTap('tap0', { exclusive: true }));
  await here.plumb('tap0');
  for (const route of ['10.9.0.0/24 via 10.55.55.9 mtu 1400', 'fd99::/64 via fd55::9 mtu 1380'])
    await here.ip(`route add ${route}`);
  for (const [from, to, mtuBytes] of [
    ['127.0.0.1', '127.0.0.1', ETHERNET_MTU],
    ['10.55.55.2', '10.55.55.9', 1500],
    ['10.55.55.2', '10.9.0.1', 1400],
    ['fd55::2', 'fd55::9', 1500],
    ['fd55::2', 'fd99::1', 1380],
  ] as const) {
    t.equal(extra.routeMtuBytes(addressBytes(from), addressBytes(to), to), mtuBytes, `${to}: ${mtuBytes}`);
  }
}

// ---------------------------------------------------------------- waiting

async function waiting(t: Test): Promise<void> {
  const close = closing(t);
  const epoll = close(extra.createPoll());
  const wake = close(extra.createEvent());
  const socket = close(openUdp('127.0.0.1', 5030));
  const ready = new Int32Array(8);
  const tokens = (timeoutMs = 0): number[] => {
    const count = native.pollWait(epoll, ready, timeoutMs);
    return count < 0 ? [count] : [...ready.slice(0, count).sort()];
  };
  extra.addToPoll(epoll, wake, 7);
  extra.addToPoll(epoll, socket, 0x7fff_ffff);
  fails(
    t,
    () => {
      extra.addToPoll(epoll, wake, 7);
    },
    'EEXIST',
    'epoll_ctl',
    `descriptor ${wake}`,
  );
  t.same(tokens(10), [], 'a wait that ends by its time');
  extra.signalEvent(wake);
  t.same(tokens(), [7]);
  t.same(tokens(), [7], 'until it is cleared');
  t.equal(native.eventClear(wake), 0);
  t.same(tokens(), []);
  put(outgoing, 0, filler(20));
  native.addressSet(0, addressBytes('127.0.0.1'), 5030);
  native.udpSend(outgoing.handle, socket, list([0, 0]), 1, 0, 0);
  extra.signalEvent(wake);
  t.same(tokens(1000), [7, 0x7fff_ffff], 'both');
  extra.removeFromPoll(epoll, wake);
  t.same(tokens(), [0x7fff_ffff], 'one that was removed is silent');
  t.equal(native.pollWait(epoll, new Int32Array(0), 0), -ERRNO.EINVAL, 'no room for an answer');
  t.equal(native.pollWait(-1, ready, 0), -ERRNO.EBADF);

  // Another thread blocks for good; a signal from this one wakes it. Batches are the thread's own.
  extra.removeFromPoll(epoll, socket);
  native.eventClear(wake);
  extra.addToPoll(epoll, wake, 9);
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ native, createBatch }) => {
      const batches = Array.from({ length: 16 }, () => createBatch(1, 131072).handle);
      let seventeenth = 'given';
      try { createBatch(1, 131072); } catch (error) { seventeenth = error.code; }
      parentPort.postMessage({ batches, seventeenth });
      const ready = new Int32Array(1);
      const count = native.pollWait(workerData.epoll, ready, -1);
      parentPort.postMessage({ count, token: ready[0] });
    });`;
  const worker = new Worker(program, { eval: true, workerData: { module: MODULE, epoll } });
  const messages: unknown[] = [];
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  worker.on('message', (message) => messages.push(message));
  await waitUntil(() => messages.length === 1, { what: 'the thread' });
  t.same(messages[0], { batches: Array.from({ length: 16 }, (_, at) => at), seventeenth: 'EINVAL' });
  await sleep(100);
  t.equal(messages.length, 1, 'it blocks');
  extra.signalEvent(wake);
  await waitUntil(() => messages.length === 2, { what: 'the thread to wake' });
  t.same(messages[1], { count: 1, token: 9 });
  await exited;
}

/** Events while nobody reads, and the one call that says that there are some. */
async function netlink(t: Test): Promise<void> {
  let calls = 0;
  const source = new extra.LinkEvents(() => calls++);
  t.teardown(() => {
    source.close();
  });
  const heard: extra.LinkEvent[] = [];
  const hears = async (what: string, test: (event: extra.LinkEvent) => boolean): Promise<void> => {
    const isHeard = (): boolean => {
      heard.push(...source.read().events);
      return heard.some(test);
    };
    await waitUntil(isHeard, { what });
    heard.length = 0;
  };
  const tap = extra.openTap('tap8', { exclusive: true });
  await waitUntil(() => calls === 1, { what: 'a call' });
  extra.setLink('tap8', { up: true });
  await sleep(100);
  t.equal(calls, 1, 'no second one before it was asked for');
  const index = extra.linkInfo('tap8')!.index;
  t.match(extra.linkInfo(index), { name: 'tap8', up: true, carrier: true }, 'a link by its index');
  await hears('a link', (event) => event.about === 'link' && event.index === index && event.name === 'tap8');

  const address = [...new Array<number>(10).fill(0), 0xff, 0xff, 192, 0, 2, 8];
  const bytes = Uint8Array.from(address);
  source.again();
  await exec('ip addr add 192.0.2.8/24 dev tap8');
  await waitUntil(() => calls === 2, { what: 'a call, as there is more' });
  await hears(
    'an address',
    (event) =>
      event.about === 'address' &&
      !event.gone &&
      event.index === index &&
      event.address.join() === bytes.join(),
  );
  const own = extra.hostAddresses().find((one) => one.address.join() === bytes.join());
  t.match(own, { index, state: 'good' }, 'it is among the addresses');
  t.match(extra.routeTo(bytes), { isLocal: true }, 'and local');
  const neighbour = Uint8Array.from([...address.slice(0, 15), 9]);
  t.same(extra.routeTo(neighbour, bytes), { isLocal: false, index }, 'a route');
  await exec('ip route add 198.51.100.0/24 via 192.0.2.9');
  await hears('a route', (event) => event.about === 'route');
  await exec('ip route add unreachable 203.0.113.0/24');
  const prefix = address.slice(0, 12);
  t.equal(extra.routeTo(Uint8Array.from([...prefix, 203, 0, 113, 1])), undefined, 'one that says no');
  await exec('ip route del unreachable 203.0.113.0/24');
  t.equal(
    extra.routeTo(neighbour, Uint8Array.from([...prefix, 192, 0, 2, 77])),
    undefined,
    'from a stranger',
  );

  extra.setTapCarrier(tap, false, 'tap8');
  t.match(extra.linkInfo('tap8'), { up: true, carrier: false }, 'a cable that is drawn');
  extra.closeDescriptor(tap);
  await hears('the end of the address', (event) => event.about === 'address' && event.gone);
  t.equal(extra.linkInfo('tap8'), undefined);
  t.equal(extra.linkInfo(index), undefined);
}

// ---------------------------------------------------------------- processes

async function credentials(t: Test): Promise<void> {
  const file = path.join(directory, 'peer.sock');
  const connections: net.Socket[] = [];
  const server = net.createServer((socket) => connections.push(socket));
  await new Promise<void>((resolve) => server.listen(file, resolve));
  const connect = `require('node:net').connect(${JSON.stringify(file)}).on('data', () => process.exit())`;
  await exec(['chmod', '777', file, directory]);
  for (const [ids, expected] of [
    [['--reuid', '0', '--regid', '0', '--clear-groups'], { uid: 0, gid: 0, groups: [] }],
    [
      ['--reuid', '65534', '--regid', '100', '--groups', '4,24,100'],
      { uid: 65534, gid: 100, groups: [4, 24, 100] },
    ],
  ] as const) {
    const child = new Child(['setpriv', ...ids, process.execPath, '-e', connect]);
    await waitUntil(() => connections.length > 0, { what: 'a connection' });
    const socket = connections.pop()!;
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const who = extra.peerCredentials(fd);
    t.match(who, expected, `user ${expected.uid}`);
    t.same(who.groups, expected.groups);
    t.equal(who.pid, child.pid);
    socket.end('x');
    await child.exited;
  }
  await new Promise((resolve) => server.close(resolve));
  const datagram = closing(t)(openUdp('127.0.0.1', 0));
  t.match(extra.peerCredentials(datagram), { uid: -1 }, 'another kind of socket has no peer');
}

const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('ready', flush=True)
print(s.recv(1000).decode(), flush=True)`;

async function notification(t: Test): Promise<void> {
  const say = (to: string | undefined): boolean => {
    if (to === undefined) delete process.env['NOTIFY_SOCKET'];
    else process.env['NOTIFY_SOCKET'] = to;
    return extra.sdNotify('READY=1\nSTATUS=two overlays');
  };
  t.teardown(() => delete process.env['NOTIFY_SOCKET']);
  for (const name of [path.join(directory, 'notify.sock'), `@varpd-test-${process.pid}`]) {
    const receiver = new Child(['python3', '-c', RECEIVER, name]);
    await receiver.waitForOutput(/ready/);
    t.ok(say(name), name.startsWith('@') ? 'an abstract name' : 'a path');
    await receiver.exited;
    t.equal(receiver.stdout, 'ready\nREADY=1\nSTATUS=two overlays\n');
  }
  for (const nobody of [undefined, '']) t.notOk(say(nobody), 'nobody to tell');
  t.notOk(say(path.join(directory, 'none.sock')), 'nobody listens there');
  t.notOk(say(`/${'x'.repeat(200)}`), 'no such name can be');
}

function locks(t: Test): void {
  const file = path.join(directory, 'lock');
  const [first, second] = [0, 1].map(() => openSync(file, 'w'));
  t.ok(extra.lockFile(first));
  t.ok(extra.lockFile(first), 'again, by its holder');
  t.notOk(extra.lockFile(second), 'somebody has it');
  closeSync(first);
  t.ok(extra.lockFile(second), 'it goes with the descriptor');
  closeSync(second);
  t.end();
}

// ---------------------------------------------------------------- the two runs

async function outside(): Promise<void> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const { name } = await bed.host();
  const command = ['netns', 'exec', name, process.execPath, SELF, name];
  await t.spawn('ip', command, {}, 'in a namespace of its own');
}

async function inside(): Promise<void> {
  t.teardown(() => {
    endAgents();
    rmSync(directory, { recursive: true });
  });
  extra.setLink('lo', { mtuBytes: ETHERNET_MTU });
  await t.test('a TAP and its properties', tapProperties);
  await t.test('what others may set on a TAP', tapSettings);
  await t.test('what is refused, and in which words', refusals);
  await t.test('features of the kernel', features);
  await t.test('many TAPs closed at once', closesManyTaps);
  await t.test('frames out of a TAP', tapReads);
  await t.test('many frames out of a TAP', tapReadsMany);
  await t.test('frames out of the queues of a TAP', tapQueues);
  await t.test('frames into a TAP', tapWrites);
  await t.test('checksums left to the device', { skip: skipUnless({ programs: ['tshark'] }) }, checksums);
  await t.test('UDP sockets as RFC 7348 wants them', udpOptions);
  await t.test('datagrams without a checksum', zeroChecksums);
  await t.test('datagrams in batches', datagrams);
  await t.test('the MTU of a route', routeMtus);
  await t.test('waiting, and waking another thread', waiting);
  await t.test('links that come and go', netlink);
  await t.test('who is at the other end of a Unix socket', credentials);
  const python = skipUnless({ programs: ['python3'] });
  await t.test('word to the service manager', { skip: python }, notification);
  await t.test('a lock on a file', locks);
}

if (namespace !== undefined) await inside();
else if (skipUnlessNetns() === false) await outside();
else t.pass('src/dgram-extra against the kernel', { skip: skipUnlessNetns() });
