// A daemon that ends and comes again under traffic: what stays, what waits, who takes over; and what it may do meanwhile.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { createClient } from '../../src/control/client.js';
import { MISHAP } from '../faults/row.js';
import { Daemon, directOverlay, VARPD_MAIN } from '../helpers/daemon.js';
import { daemonUser, giveToDaemon } from '../helpers/daemon-user.js';
import { get, parseMetrics, valueOf } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { pause } from '../helpers/pause.js';
import { exec, waitUntil } from '../helpers/process.js';
import { bpfProgramsOf } from '../helpers/procfs.js';
import { Manager } from '../helpers/service-manager.js';
import { ping, reaches } from '../helpers/traffic.js';

const skip = skipUnlessNetns();

interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
}

async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  return { bed, a, b };
}

const create = ({ a, b }: Site, more = ''): string =>
  directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, more);

/** All of a device that a restart must leave alone: its number, MAC, addresses, and the routes over it. */
async function identity(host: Namespace, device: string): Promise<unknown> {
  // The overlay's own interface gets its automatic address only once it is used.
  const hasAutomatic = async (): Promise<boolean> =>
    (await host.ip(`-6 addr show dev ${device} scope link`)) !== '';
  await waitUntil(hasAutomatic, { what: `the automatic address of ${device}` });
  const [link] = JSON.parse(await host.ip(`-j addr show dev ${device}`)) as {
    ifindex: number;
    address: string;
    addr_info: { local: string }[];
  }[];
  const routes = await host.ip(`route show dev ${device} proto static`);
  const { ifindex, address, addr_info: addresses } = link;
  return {
    ifindex,
    address,
    addresses: addresses.map(({ local }) => local),
    routes: routes.replaceAll('linkdown', '').trim(),
  };
}

/** Of every thread of a process: what it may do, and as whom. */
function threads(pid: number): Record<string, string>[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => {
    const text = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
    return Object.fromEntries(
      [...text.matchAll(/^(\w+):[\t ]*(.*)$/gm)].map(([, name, value]) => [name, value]),
    );
  });
}

const NET_ADMIN = '0000000000001000';
/** Root, in whatever groups this test is. */
const OWN = (): { uid: string; gid: string; groups: string } => ({
  uid: `${daemonUser().uid}`,
  gid: `${daemonUser().gid}`,
  groups: '',
});

function checkRights(t: Test, pid: number, ids: { uid: string; gid: string; groups: string }): void {
  const all = threads(pid);
  t.ok(all.length > 5, `${all.length} threads`);
  const wrong = all.filter(
    (one) =>
      ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].some((name) => one[name] !== NET_ADMIN) ||
      one['NoNewPrivs'] !== '1' ||
      one['Seccomp'] !== '2' ||
      one['Uid'] !== Array(4).fill(ids.uid).join('\t') ||
      one['Gid'] !== Array(4).fill(ids.gid).join('\t') ||
      one['Groups'].trim() !== ids.groups,
  );
  t.same(wrong, [], 'each has CAP_NET_ADMIN alone, can have no more, and may not make every system call');
}

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

t.test('dladm restart during a TCP transfer', { skip: skipUnlessNetns(['iperf3']) }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const inside = await bed.host();
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(create(here));
  await daemon.ok('create-vnic -l overlay0 moved0');
  await daemon.ok('create-vnic -t -l overlay0 passing0');
  await a.plumb('overlay0');
  await a.ip('route add 10.99.0.0/16 dev overlay0 proto static');
  await a.ip(`link set moved0 netns ${inside.name}`);
  await inside.ip('addr add 10.55.55.9/24 dev moved0');
  await inside.ip('link set moved0 up');
  t.ok(await reaches(a, b.overlay.v4));
  t.ok(await reaches(inside, b.overlay.v4));
  const before = await identity(a, 'overlay0');
  const { pid } = daemon;

  const server = b.spawn(['iperf3', '-s', '-1', '--forceflush', '-B', b.overlay.v4]);
  await server.waitForOutput(/listening/);
  const client = a.spawn(['iperf3', '-c', b.overlay.v4, '-b', '200M', '-t', '6', '-i', '0.1', '-J']);
  const gaps = [
    await pause(a, b.overlay.v4, () => daemon.ok('restart')),
    await pause(inside, b.overlay.v4, async () => {
      const { startedAt } = await daemon.call('daemon.status', {});
      daemon.signal('SIGUSR2');
      const isNew = async (): Promise<boolean> =>
        ((await daemon.call('daemon.status', {}).catch(() => undefined))?.startedAt ?? startedAt) !==
        startedAt;
      await waitUntil(isNew, { what: 'varpd to begin again' });
    }),
  ];
  const { code } = await client.exited;
  t.equal(code, 0, 'the connection has lived through two restarts');
  const { end, intervals } = JSON.parse(client.stdout) as {
    end: { sum_received: { bytes: number } };
    intervals: { sum: { bytes: number } }[];
  };
  t.ok(end.sum_received.bytes > 10e6, `${end.sum_received.bytes} bytes arrived`);
  const silent = intervals.map(({ sum }) => (sum.bytes === 0 ? '.' : '#')).join('');
  t.comment(
    `pauses by ping: ${gaps.map(({ ms }) => ms).join(' and ')} ms; TCP by tenths of a second: ${silent}`,
  );
  for (const { ms, lost } of gaps) {
    t.ok(ms < 5000, `a pause of ${ms} ms`);
    t.equal(lost, 0, 'frames waited, none was lost');
  }
  t.same(await identity(a, 'overlay0'), before, 'nothing has happened to the link');
  t.equal(daemon.pid, pid);
  t.ok(daemon.running, 'it is the same process');
  t.notOk(await a.hasDevice('passing0'), 'what was temporary is gone');
  t.same(
    (await daemon.vnics()).map(({ name, state }) => [name, state]),
    [['moved0', 'up']],
  );
  checkRights(t, pid, OWN());
  writeFileSync(daemon.configFile, 'colour: blue\n');
  const refused = await daemon.dladm('restart');
  t.equal(refused.code, 7, 'a daemon that would not come back does not go');
  t.match(refused.stderr, /:\d+:1: (?:at '.*': )?unknown key/);
  t.ok(await reaches(a, b.overlay.v4));
  await daemon.ok('delete-vnic moved0');
  t.notOk(await inside.hasDevice('moved0'), 'no copy of a descriptor keeps a device alive');
});

t.test('a restart that is kept off the processor', { skip }, async (t) => {
  const here = await site(t);
  const { a, b } = here;
  const daemon = (await Daemon.start(here.bed, a)).explain(t);
  await daemon.ok(create(here));
  await a.plumb('overlay0');
  const { startedAt } = await daemon.call('daemon.status', {});
  daemon.signal('SIGUSR2');
  await waitUntil(() => daemon.log().includes('varpd restarts'), { stepMs: 1, what: 'it to begin' });
  daemon.signal('SIGSTOP');
  await sleep(2500);
  daemon.signal('SIGCONT');
  const isNew = async (): Promise<boolean> =>
    ((await daemon.call('daemon.status', {}).catch(() => undefined))?.startedAt ?? startedAt) !== startedAt;
  await waitUntil(isNew, { what: 'varpd to begin again' });
  t.ok(await reaches(a, b.overlay.v4), 'longer than it has to end');
});

t.test('a restart that cannot start after all goes on trying, and frames go on', { skip }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const daemon = new Daemon(bed, a).explain(t);
  const log = { file: path.join(daemon.directory, 'own.log') };
  daemon.writeConfig({ log });
  await daemon.start();
  await daemon.ok(create(here));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const before = await identity(a, 'overlay0');
  const { startedAt } = await daemon.call('daemon.status', {});
  const isSaid = (text: RegExp) => (): boolean => text.test(readFileSync(log.file, 'utf8'));
  daemon.signal('SIGUSR2');
  await waitUntil(isSaid(/varpd restarts/), {
    stepMs: 1,
    what: 'the point of no return',
  });
  daemon.writeConfig({ log, group: 'no-such-group' });
  await waitUntil(isSaid(/not restarted yet: .*group: there is no group of that name/), {
    what: 'the first attempt to fail',
  });
  t.ok(await reaches(a, b.overlay.v4), 'the stand-in moves frames');
  await waitUntil(() => readFileSync(log.file, 'utf8').split('not restarted yet').length > 2, {
    what: 'the second attempt to fail',
  });
  t.ok(await reaches(a, b.overlay.v4), 'as long as it takes');
  daemon.writeConfig({ log });
  const isBack = async (): Promise<boolean> =>
    ((await daemon.call('daemon.status', {}).catch(() => undefined))?.startedAt ?? startedAt) !== startedAt;
  await waitUntil(isBack, { what: 'varpd to be back' });
  t.ok(await reaches(a, b.overlay.v4));
  t.same(await identity(a, 'overlay0'), before);
  t.match((await daemon.overlays('overlay0'))[0].health, { status: 'ONLINE' });
});

/** Of the process that moves frames meanwhile: its number, once varpd has started it. */
function standInOf(pid: number): number | undefined {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return processes.map(Number).find((one) => {
    try {
      const parent = /\) \S (\d+)/.exec(readFileSync(`/proc/${one}/stat`, 'utf8'))?.[1];
      return (
        Number(parent) === pid && readFileSync(`/proc/${one}/cmdline`, 'utf8').includes('stand-in-process')
      );
    } catch {
      return false; // it has just ended
    }
  });
}

t.test('a stand-in that hangs is ended, and keeps no link', { skip }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  for (const moment of ['while it starts', 'when it has taken over']) {
    const daemon = (await Daemon.start(bed, a)).explain(t);
    await daemon.ok(create(here));
    await daemon.ok('create-vnic -l overlay0 foo0');
    await a.plumb('overlay0');
    const before = await identity(a, 'overlay0');
    const restarted = daemon.dladm('restart');
    let standIn: number | undefined;
    const isThere = (): boolean => (standIn = standInOf(daemon.pid)) !== undefined;
    await waitUntil(isThere, { stepMs: 1, what: 'the stand-in to be started' });
    if (moment === 'when it has taken over')
      await waitUntil(() => daemon.log().includes('varpd restarts'), { stepMs: 1, what: 'varpd to let go' });
    process.kill(standIn!, 'SIGSTOP');
    const { code, stderr } = await restarted;
    t.same([code, stderr], [0, ''], `${moment}: varpd restarts all the same`);
    t.same(await identity(a, 'overlay0'), before);
    t.ok(await reaches(a, b.overlay.v4));
    await waitUntil(() => !existsSync(`/proc/${standIn}`), { what: 'the stand-in to be gone' });
    await daemon.stop();
    t.notOk(await a.hasDevice('foo0'), 'nobody keeps the links when varpd has ended');
    t.notOk(await a.hasDevice('overlay0'));
  }
});

t.test('a restart is refused with every reason, and nothing changes', { skip }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(create(here));
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const { startedAt } = await daemon.call('daemon.status', {});
  const file = path.join(daemon.directory, 'a-file');
  writeFileSync(file, '');
  const wrong: [config: Record<string, unknown>, reasons: RegExp[]][] = [
    [{ user: 'no-such-user' }, [/at '.*no-such-user.*': user: there is no user of that name/]],
    [{ user: 'nobody' }, [/user: it is another one than when varpd was started: only a stop and a start/]],
    [{ group: 'no-such-group' }, [/at '.*no-such-group.*': group: there is no group of that name/]],
    [{ stateDir: `${daemon.directory}/other` }, [/stateDir: .*where the overlays are not/]],
    [
      { group: 'no-such-group', pluginPath: ['/nowhere', '/no/where'], log: { file: `${file}/log` } },
      [/no group/, /pluginPath: .*\/nowhere/, /pluginPath: .*\/no\/where/, /log\.file: cannot open/],
    ],
    [{ colour: 'blue' }, [/varpd\.yaml:\d+:1: (?:at '.*': )?unknown key/]],
  ];
  for (const [config, reasons] of wrong) {
    daemon.writeConfig(config);
    const { code, stderr } = await daemon.dladm('restart');
    t.equal(code, 7, JSON.stringify(config));
    for (const reason of reasons) t.match(stderr, reason);
    t.match(stderr, /restart refused/);
  }
  daemon.writeConfig({ metrics: '192.0.2.77:9560' });
  const warned = await daemon.dladm('restart');
  t.equal(warned.code, 0, 'metrics are no reason to stay as it is');
  t.match(warned.stderr, /metrics: cannot listen on 192\.0\.2\.77:9560/);
  daemon.writeConfig();
  for (const socket of [file + '/s', '/proc/varpd.sock', file]) {
    writeFileSync(daemon.configFile, `socket: ${socket}\nstateDir: ${daemon.stateDir}\n`);
    // The daemon of this test has its socket from the command line, which goes before the file.
    const { code } = await daemon.dladm('restart');
    t.equal(code, 0, 'what is not used is not tried');
  }
  daemon.writeConfig();
  t.ok(await reaches(a, b.overlay.v4));
  t.not((await daemon.call('daemon.status', {})).startedAt, startedAt, 'what is right is accepted');
});

/** A plugin that does what a file says: `hang`, `drop`, or an address. */
const TOLD = `
import { readFileSync, appendFileSync } from 'node:fs';
const told = (name) => readFileSync(new URL(name, import.meta.url), 'utf8').trim();
export default {
  apiVersion: 1, name: 'told', mode: 'dynamic', properties: [],
  create: () => ({
    start: async () => {}, stop: async () => {},
    resolve: ({ destinationMac }) => {
      if (Math.floor(destinationMac / 2 ** 40) % 2 === 1) return { kind: 'drop', reason: 'a group' };
      appendFileSync(new URL('asked', import.meta.url), 'x');
      const word = told('word');
      if (word === 'hang') return new Promise(() => {});
      if (word === 'drop') return { kind: 'drop', reason: 'told so' };
      return { kind: 'target', to: { ip: word, port: 4789 } };
    },
  }),
};`;

t.test('what was known before is used at once, and asked about', { skip }, async (t) => {
  const here = await site(t);
  const { bed, a, b } = here;
  const plugins = bed.directory();
  mkdirSync(path.join(plugins, 'told'));
  writeFileSync(path.join(plugins, 'told/index.js'), TOLD);
  const tell = (word: string): void => {
    writeFileSync(path.join(plugins, 'told/word'), word);
  };
  giveToDaemon(path.join(plugins, 'told'));
  const asked = (): number => readFileSync(path.join(plugins, 'told/asked'), 'utf8').length;
  tell(b.underlay.v4);
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins] })).explain(t);
  await daemon.ok(`create-overlay -e vxlan -s told -v 42 -p vxlan/listen_ip=${a.underlay.v4} overlay0`);
  await a.plumb('overlay0');
  const macs = { a: await a.macOf('overlay0'), b: await b.macOf('vx0') };
  const neighbours = async (): Promise<void> => {
    await a.ip(`neigh replace ${b.overlay.v4} lladdr ${macs.b} dev overlay0 nud permanent`);
    await b.ip(`neigh replace ${a.overlay.v4} lladdr ${macs.a} dev vx0 nud permanent`);
  };
  await neighbours();
  t.ok(await reaches(a, b.overlay.v4));
  t.equal(asked(), 1);

  tell('hang');
  await daemon.ok('restart');
  t.ok(await reaches(a, b.overlay.v4), 'a plugin that hangs keeps nobody waiting');
  await waitUntil(() => asked() > 1, { what: 'it to be asked' });
  const rows = async () => (await daemon.call('overlay.targets', { name: 'overlay0' })).rows;
  t.match(await rows(), [{ mac: macs.b, state: 'valid', destinations: [`${b.underlay.v4}:4789`] }]);
  await daemon.restart();
  await a.plumb('overlay0');
  await neighbours();
  t.ok(await reaches(a, b.overlay.v4), 'nor after SIGTERM and a start');

  tell(b.underlay.v4);
  const confirmed = async (): Promise<boolean> => {
    const before = asked();
    await ping(a, b.overlay.v4, { count: 2, intervalMs: 1100 });
    return asked() === before;
  };
  await waitUntil(confirmed, { what: 'the target to be confirmed' });
  t.match(await rows(), [{ mac: macs.b, state: 'valid' }], 'an answer ends the questions');

  tell('drop');
  await daemon.ok('restart');
  await ping(a, b.overlay.v4, { count: 1 });
  await waitUntil(async () => (await rows()).at(0)?.state !== 'valid', { what: 'the answer to count' });
  const pingIt = () => ping(a, b.overlay.v4, { waitMs: 500 });
  const grown = await daemon.counted(pingIt, 'overlay0', { lookup_drop: 1 });
  t.ok(grown['lookup_drop'] > 0, 'what the plugin says replaces it');
});

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
  t.equal(bpfProgramsOf(daemon.pid), 1, 'the program that steers flows');
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
  t.equal(bpfProgramsOf(daemon.pid), 1, 'which it keeps');
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
  apiVersion: 1, name: 'stuck', mode: 'dynamic', properties: [],
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
  t.same(await other.ended(), { code: 0, signal: null }, 'and when the main thread hangs');
  t.match(other.log(), /Z error varpd has not ended in time: it leaves what hangs, its control thread\n$/);
});
