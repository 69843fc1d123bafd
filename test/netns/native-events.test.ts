// src/dgram-extra against the kernel: waiting, news of links, and other processes. On real devices and sockets, from this process.
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { release } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { addressBytes, filler } from '../helpers/frames.js';
import {
  nativeTests,
  closing,
  directory,
  ERRNO,
  fails,
  list,
  MODULE,
  native,
  openUdp,
  outgoing,
  put,
} from '../helpers/native.js';
import { skipUnless } from '../helpers/need.js';
import { Child, exec, waitUntil } from '../helpers/process.js';

async function slice(t: Test): Promise<void> {
  const read = (): number => {
    const text = readFileSync('/proc/thread-self/sched', 'utf8');
    return Number(/^se\.slice +: +(\d+)$/m.exec(text)?.[1]);
  };
  const [major, minor] = release().split('.').map(Number);
  const isKept = major < 6 || (major === 6 && minor < 12);
  const beforeNs = read();
  const worker = new Worker(
    `import('${MODULE}').then(({ shortenSlice }) => {
       const { parentPort } = require('node:worker_threads');
       shortenSlice();
       parentPort.postMessage(require('node:fs').readFileSync('/proc/thread-self/sched', 'utf8'));
     })`,
    { eval: true },
  );
  const [text] = (await once(worker, 'message')) as [string];
  if (!isKept) t.match(text, /^se\.slice +: +100000$/m);
  t.equal(read(), beforeNs, 'the other threads keep theirs');
  await worker.terminate();
}

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

await nativeTests(import.meta.url, async () => {
  await t.test('waiting, and waking another thread', waiting);
  await t.test('a thread with a short slice', slice);
  await t.test('links that come and go', netlink);
  await t.test('who is at the other end of a Unix socket', credentials);
  await t.test('word to the service manager', { skip: skipUnless({ programs: ['python3'] }) }, notification);
  await t.test('a lock on a file', locks);
});
