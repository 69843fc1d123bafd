// src/dgram-extra against the kernel: TAP devices, their properties, and what is refused. On real devices, from this process.

import { release } from 'node:os';
import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { addressBytes, toHex } from '../helpers/frames.js';
import { nativeTests, closing, fails, MODULE, openUdp, SLAB_BYTES } from '../helpers/native.js';
import { fromRoot } from '../helpers/need.js';
import { here } from '../helpers/own-namespace.js';
import { exec, waitUntil } from '../helpers/process.js';

const LONG_NAME = 'averyverylongname0';

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
  extra.resetTapSettings(fd, 'tap1', 10);
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
      extra.resetTapSettings(fd, 'tap1', 10);
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
  const [major, minor] = release().split('.').map(Number);
  const isSince617 = major > 6 || (major === 6 && minor >= 17);
  t.equal(extra.probeFeatures().tapTunnelSegmentation, isSince617, 'and what 6.17 has added');
  t.equal(await here.ip('-o link show type tun'), '', 'the device it was tried on is gone');
  // Root without the right to administer networks: no TAP, and no error.
  const program = `import(${JSON.stringify(MODULE)}).then((m) => console.log(JSON.stringify(m.probeFeatures())))`;
  const command = ['setpriv', '--bounding-set', '-net_admin', process.execPath, '-e', program];
  const without = JSON.parse(await exec(command)) as extra.Features;
  t.match(without, {
    tapChecksum: false,
    tapTcpSegmentation: false,
    tapUdpSegmentation: false,
    tapTunnelSegmentation: false,
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

await nativeTests(import.meta.url, async () => {
  await t.test('a TAP and its properties', tapProperties);
  await t.test('what others may set on a TAP', tapSettings);
  await t.test('what is refused, and in which words', refusals);
  await t.test('features of the kernel', features);
  await t.test('many TAPs closed at once', closesManyTaps);
});
