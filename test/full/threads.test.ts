// A datapath thread that cannot start: the overlay that needs it fails alone. Other overlays lose no frame.
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { limitFiles, limitThreads } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';

const skip = skipUnlessNetns();

const THREAD_FAILED =
  /datapath threads? does not start: .+: raise varpd's limits of open files, memory and threads/;
const FILES_FAILED = /EMFILE/;

/** `-p queues=N`, on a UDP port of its own: overlays with other queues cannot share one. */
function withQueues(name: string, from: Namespace, to: Namespace, queues: number): string[] {
  const vnetid = 100 + Number(/\d+$/.exec(name)?.[0]);
  const places = { name, vnetid, from: from.underlay.v4, to: to.underlay.v4 };
  const udpPort = 5000 + vnetid;
  const command = directOverlay(places, `-p queues=${queues},vxlan/listen_port=${udpPort}`);
  return command.replace('dest_port=4789', `dest_port=${udpPort}`).split(' ');
}

/** overlay0 between two hosts, on one thread. Its ping runs until the test ends, and must lose nothing. */
async function carryingPair(t: Test, before?: string) {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const [daemon, peer] = [
    await Daemon.start(bed, a, { ...(before !== undefined && { before }) }),
    await Daemon.start(bed, b, { withoutRoot: true }),
  ];
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await peer.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4 }));
  await a.exec(['ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'overlay0']);
  await b.exec(['ip', 'addr', 'add', '10.0.0.2/24', 'dev', 'overlay0']);
  await a.exec(['ping', '-c', '1', '-w', '5', '10.0.0.2']);
  const ping = a.spawn(['ping', '-i', '0.02', '10.0.0.2']);
  const { pid } = daemon;
  const goesOn = async (): Promise<void> => {
    ping.signal('SIGINT');
    await ping.exited;
    const [sent = 0, received = NaN] = (/(\d+) packets transmitted, (\d+) received/.exec(ping.stdout) ?? [])
      .slice(1)
      .map(Number);
    t.ok(
      sent > 10 && sent - received <= 1,
      `overlay0 loses nothing: ${received} of ${sent}, one may be on its way`,
    );
    t.match(await daemon.call('daemon.status', {}), { pid, overlays: 1 });
  };
  return { bed, a, b, daemon, peer, pid, goesOn };
}

await t.test('descriptors run out at each step of the start', { skip }, async (t) => {
  const { a, b, daemon, pid, goesOn } = await carryingPair(t);
  const before = await daemon.descriptorsAtRest();
  const failures = new Set<string>();
  for (let free = 1, isCreated = false; !isCreated; free += free < 4 ? 1 : 10) {
    await limitFiles(pid, `${daemon.descriptors + free}:`);
    const { code, stderr } = await daemon.dladm(...withQueues('overlay1', a, b, 3));
    await limitFiles(pid, '4096:');
    isCreated = code === 0;
    if (isCreated) await daemon.ok('delete-overlay overlay1');
    else {
      t.match(stderr, FILES_FAILED, `${free} free: says why`);
      failures.add(THREAD_FAILED.test(stderr) ? 'no thread' : 'no socket');
    }
    t.notOk(await a.hasDevice('overlay1'), `${free} free: leaves no device`);
    await waitUntil(() => daemon.descriptors <= before, { what: `${before} open descriptors again` });
  }
  t.same([...failures].sort(), ['no socket', 'no thread'], 'both failures were met');
  await goesOn();
});

await t.test('no further thread is allowed', { skip }, async (t) => {
  const { a, b, daemon, peer, pid, goesOn } = await carryingPair(t);
  const before = await daemon.descriptorsAtRest();
  const isAsBefore = (): Promise<void> =>
    waitUntil(() => daemon.descriptors <= before, { what: `${before} open descriptors again` });
  await limitThreads(pid, 1);
  const attempts = ['overlay1', 'overlay2', 'overlay3'].map((name, index) =>
    daemon.dladm(...withQueues(name, a, b, 2 + index)),
  );
  for (const { code, stderr } of await Promise.all(attempts)) {
    t.equal(code, 1);
    t.match(stderr, THREAD_FAILED);
  }
  await isAsBefore();
  await goesOn();
  await limitThreads(pid);
  await Promise.all([
    daemon.ok(withQueues('overlay1', a, b, 2).join(' ')),
    daemon.ok(withQueues('overlay2', a, b, 4).join(' ')),
    peer.ok(withQueues('overlay2', b, a, 1).join(' ')),
  ]);
  await a.exec(['ip', 'addr', 'add', '10.2.0.1/24', 'dev', 'overlay2']);
  await b.exec(['ip', 'addr', 'add', '10.2.0.2/24', 'dev', 'overlay2']);
  await a.exec(['ping', '-c', '3', '-i', '0.1', '-w', '5', '10.2.0.2']);
  t.pass('with threads, the same overlays work');
  await daemon.ok('delete-overlay overlay2');
  await daemon.ok('delete-overlay overlay1');
  await isAsBefore();
});

await t.test('at the start of varpd: OFFLINE with the reason', { skip }, async (t) => {
  // Node raises the soft limit to the hard one.
  const { a, b, daemon } = await carryingPair(t, 'ulimit -n "$(cat limit 2>/dev/null || echo 4096)"');
  await daemon.ok(withQueues('overlay1', a, b, 2).join(' '));
  await daemon.ok('create-vnic -l overlay1 foo1');
  await daemon.stop();
  const limitFile = path.join(daemon.directory, 'limit');
  let offline = 0;
  for (const limit of [100, 120, 130, 140, 150, 160]) {
    writeFileSync(limitFile, `${limit}`);
    try {
      await daemon.start();
    } catch {
      t.match(
        daemon.log().trimEnd().split('\n').at(-1),
        /^varpd: .*(?:too many open files|EMFILE)/,
        `${limit}: no start`,
      );
      continue;
    }
    const { stdout } = await daemon.dladm('show-overlay', '-f', '-p', '-o', 'link,status,details');
    for (const line of stdout.trimEnd().split('\n')) {
      t.match(line, /^overlay[01]:(ONLINE:-|OFFLINE:.*EMFILE)/, `${limit}: ${line}`);
      if (line.includes('OFFLINE')) offline++;
    }
    t.same(await daemon.stop(), { code: 0, signal: null });
  }
  t.ok(offline > 0, 'some were OFFLINE');
  rmSync(limitFile);
  await daemon.start();
  t.match(await daemon.call('daemon.status', {}), { overlays: 2, vnics: 1 }, 'nothing was thrown away');
});
