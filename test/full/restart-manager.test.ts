// TAPs that outlive their daemon, and a daemon that root or a service manager starts: what it may do, and how it ends.

import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { createClient } from '../../src/control/client.js';
import { MISHAP } from '../faults/row.js';
import { Daemon, VARPD_MAIN } from '../helpers/daemon.js';
import { get, parseMetrics, valueOf } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { pause } from '../helpers/pause.js';
import { exec, waitUntil } from '../helpers/process.js';
import { BPF_PROGRAMS, bpfProgramsOf } from '../helpers/procfs.js';
import { Manager } from '../helpers/service-manager.js';
import { reaches } from '../helpers/traffic.js';
import { skip, type Site, site, create, identity, OWN, checkRights } from '../helpers/restart-site.js';

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

t.test('TAPs that outlive their daemon', { skip }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const inside = await bed.host();
  const daemon = (await Daemon.start(bed, a, { config: { persistTaps: true } })).explain(t);
  await daemon.ok(create(here));
  for (const name of ['foo0', 'moved0', 'dropped0']) await daemon.ok(`create-vnic -l overlay0 ${name}`);
  await daemon.ok('create-vnic -t -l overlay0 passing0');
  await a.plumb('overlay0');
  await a.ip('addr add 10.66.66.2/24 dev foo0');
  await a.ip('route add 10.99.0.0/16 dev overlay0 proto static');
  const names = ['overlay0', 'foo0', 'dropped0'];
  const all = (): Promise<unknown[]> => Promise.all(names.map((name) => identity(a, name)));
  const before = await all();
  for (const how of ['kill', 'stop'] as const) {
    t.ok(await reaches(a, b.overlay.v4));
    if (how === 'stop') await a.ip(`link set moved0 netns ${inside.name}`);
    await daemon[how]();
    t.same(await all(), before, `after ${how}: MACs, addresses and routes`);
    t.notOk(await a.hasDevice('passing0'), 'what is temporary is gone');
    if (how === 'stop') t.notOk(await inside.hasDevice('moved0'), 'what no daemon would find again is gone');
    // Another daemon, with a state directory of its own.
    const other = await Daemon.start(bed, a);
    const stolen = await other.dladm(...create(here).split(/\s+/));
    t.equal(stolen.code, 5, 'nobody else takes them');
    t.match(stolen.stderr, /overlay0 that is not varpd's/);
    await other.stop();
    await daemon.start();
    t.same(await all(), before, 'taken over as they are');
    t.ok(await reaches(a, b.overlay.v4), 'and in use');
  }
  const taken = await a.run('ip tuntap add mode tap vnet_hdr dev overlay0');
  t.not(taken.code, 0, 'a TAP in use has one owner');

  await daemon.ok('delete-vnic foo0');
  t.notOk(await a.hasDevice('foo0'), 'what is deleted goes');
  await daemon.stop();
  const file = path.join(daemon.stateDir, 'overlay0.json');
  const state = JSON.parse(readFileSync(file, 'utf8')) as { vnics: { name: string }[] };
  state.vnics = state.vnics.filter(({ name }) => name !== 'dropped0');
  writeFileSync(file, JSON.stringify(state));
  t.ok(await a.hasDevice('dropped0'));
  await a.exec('ip tuntap add mode tap theirs0');
  await daemon.start();
  t.notOk(await a.hasDevice('dropped0'), 'what nobody wants is removed at the start');
  t.ok(await a.hasDevice('theirs0'), 'and nothing else');
  await daemon.ok('delete-vnic moved0');
  await daemon.ok('delete-overlay overlay0');
  t.notOk(await a.hasDevice('overlay0'));

  await daemon.ok(create(here));
  await daemon.stop();
  t.ok(await a.hasDevice('overlay0'));
  daemon.writeConfig({ persistTaps: false });
  await daemon.start();
  await daemon.kill();
  t.notOk(await a.hasDevice('overlay0'), 'they are not persistent once that is taken back');
});

t.test('started as root, it becomes its user', { skip: skipUnlessNetns(['setpriv']) }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const gid = (await exec('getent group daemon')).split(':')[2];
  const own = (await exec('id -g nobody')).trim();
  const daemon = new Daemon(bed, a).explain(t);
  const metrics = path.join(daemon.directory, 'run/metrics.sock');
  daemon.writeConfig({ user: 'nobody', group: 'daemon', metrics });
  chownSync(daemon.directory, 65_534, 65_534);
  chmodSync(daemon.directory, 0o755);
  await daemon.start();
  const ids = { uid: '65534', gid: own, groups: gid };
  checkRights(t, daemon.pid, ids);
  t.equal(bpfProgramsOf(daemon.pid), BPF_PROGRAMS, 'the programs that are loaded at the start');
  const socket = statSync(daemon.socket);
  t.same([socket.uid, socket.gid, socket.mode & 0o777], [65_534, Number(gid), 0o660], 'its socket');
  const other = statSync(metrics);
  t.same([other.uid, other.gid, other.mode & 0o777], [65_534, Number(gid), 0o660], 'that of its metrics');
  t.same(
    [statSync(daemon.stateDir).uid, statSync(daemon.stateDir).mode & 0o777],
    [65_534, 0o700],
    'its state',
  );
  await daemon.ok(create(here));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'it makes links and moves frames');
  await daemon.ok('restart');
  checkRights(t, daemon.pid, ids);
  t.equal(bpfProgramsOf(daemon.pid), BPF_PROGRAMS, 'which it keeps');
  t.ok(await reaches(a, b.overlay.v4));
  const fds = valueOf(parseMetrics((await get(metrics)).body), 'process_open_fds') ?? 0;
  t.ok(fds > 60, `it sees its own ${fds} descriptors`);
  await daemon.restart();
  t.equal((await daemon.vnics()).length, 1, 'it reads what it wrote');
  await daemon.stop();

  writeFileSync(daemon.configFile, 'user: nobody-of-this-name\n');
  const { code, stderr } = await a.run(
    daemon.startable([process.execPath, VARPD_MAIN, '--config', daemon.configFile]),
  );
  t.equal(code, 7);
  t.match(stderr, /varpd\.yaml:1:7: user: there is no user of that name/);
  writeFileSync(daemon.configFile, `user: daemon\nstateDir: ${daemon.stateDir}\n`);
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const command = [process.execPath, VARPD_MAIN, '--config', daemon.configFile, '--foreground'];
  const refused = await a.run(daemon.startable([...nobody, ...command]));
  t.equal(refused.code, 6);
  t.match(refused.stderr, /user: only root can become 'daemon', and this is user 65534/);
});

/** With a watchdog that wants a sign of life five times a second. */
function managed(t: Test, { bed, a }: Site, env: Readonly<Record<string, string>> = {}): Manager {
  const manager = new Manager(bed, a, { WATCHDOG_USEC: '200000', ...env });
  t.teardown(() => {
    if (!t.passing()) t.comment(manager.child.stdout, manager.child.stderr);
  });
  return manager;
}

t.test('under a service manager', { skip: skipUnlessNetns(['python3']) }, async (t) => {
  const here = await site(t);
  const { a, b } = here;
  const manager = managed(t, here);
  const { daemon } = manager;
  await manager.ready(1);
  await waitUntil(() => manager.count('WATCHDOG') > 2, { what: 'signs of life' });
  const call = createClient(daemon.socket);
  await daemon.ok(create(here));
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const before = await identity(a, 'overlay0');
  const { ms, lost } = await pause(a, b.overlay.v4, async () => {
    manager.restart();
    await manager.ready(2);
  });
  t.comment(`a pause of ${ms} ms`);
  t.equal(lost, 0, 'frames wait in the descriptors that it keeps');
  t.same(await identity(a, 'overlay0'), before);
  const passed = (): string[] =>
    manager
      .lines()
      .findLast((line) => line.passed !== undefined)
      ?.passed?.sort() ?? [];
  const socket = /^udp\/[0-9a-f]{32}\/4789\/full$/;
  t.match(passed(), ['bridge', 'tap/overlay0', socket]);
  t.equal(manager.count('FDSTOREREMOVE'), 1, 'what was for that start alone is forgotten');
  t.equal(manager.lines().find(({ ended }) => ended !== undefined)?.ended, 0);
  manager.kill();
  await manager.ready(3);
  t.match(passed(), ['tap/overlay0', socket]);
  t.same(await identity(a, 'overlay0'), before, 'after a kill -9, too');
  const { pid } = await call('daemon.status', {});
  checkRights(t, pid, OWN());
  await daemon.ok('restart');
  await manager.ready(4);
  t.equal(
    (await call('daemon.status', {})).pid,
    pid,
    'anew by itself, it is the process that the manager knows',
  );
  await daemon.ok('delete-overlay overlay0');
  t.notOk(await a.hasDevice('overlay0'), 'what is deleted is not kept alive by anybody');

  // A process that is stopped gives no sign, so the manager would know.
  process.kill(pid, 'SIGSTOP');
  await sleep(300);
  const silent = manager.count('WATCHDOG');
  await sleep(700);
  t.equal(manager.count('WATCHDOG'), silent);
  process.kill(pid, 'SIGCONT');
  await waitUntil(() => manager.count('WATCHDOG') > silent, { what: 'a sign of life' });
  manager.child.end();
  t.same(await manager.child.exited, { code: 0, signal: null });
  t.notOk(manager.lines().at(-1)?.ended);
});

/** Ends never. */
const STUCK = `
export default {
  apiVersion: 2, name: 'stuck', mode: 'dynamic', properties: [],
  create: () => ({ start: async () => {}, stop: () => { for (;;); }, resolve: () => ({ kind: 'drop', reason: 'none' }) }),
};`;

t.test('threads that hang', { skip: skipUnlessNetns(['python3']) }, async (t) => {
  const here = await site(t);
  const { bed, a } = here;
  const order = path.join(bed.directory(), 'order');
  const manager = managed(t, here, { LD_PRELOAD: MISHAP, MISHAP: order });
  const { daemon } = manager;
  await manager.ready(1);
  await daemon.ok(create(here, '-p queues=2'));
  const alive = manager.count('WATCHDOG');
  await waitUntil(() => manager.count('WATCHDOG') > alive + 2, { what: 'signs of life' });
  writeFileSync(order, 'hang epoll 2');
  const isSilent = async (): Promise<boolean> => {
    const before = manager.count('WATCHDOG');
    await sleep(1000);
    return manager.count('WATCHDOG') === before;
  };
  await waitUntil(isSilent, { what: 'silence of the watchdog' });
  const { pid } = await daemon.call('daemon.status', {});
  t.ok(pid > 0, 'one of two datapath threads hangs, the main thread does not: no sign of life');
  manager.child.end();
  t.same(await manager.child.exited, { code: 0, signal: null });
  t.equal(manager.lines().at(-1)?.ended, 0, 'SIGTERM ends it all the same');
  t.match(manager.child.stderr, /varpd has not ended in time: it leaves what hangs/);
  t.notOk(await a.hasDevice('overlay0'));

  const plugins = bed.directory();
  mkdirSync(path.join(plugins, 'stuck'));
  writeFileSync(path.join(plugins, 'stuck/index.js'), STUCK);
  const other = await Daemon.start(bed, a, { pluginPath: [plugins] });
  await other.ok(`create-overlay -e vxlan -s stuck -v 42 -p vxlan/listen_ip=${a.underlay.v4} overlay0`);
  other.signal('SIGTERM');
  t.same(await other.ended(), { code: 0, signal: null }, 'and when a plugin does not stop');
  t.match(other.log(), /plugin stuck: did not stop: (?:no answer within 500 ms|the deadline has passed)/);
  t.notMatch(other.log(), /it leaves what hangs/);
});
