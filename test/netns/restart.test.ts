// A daemon that restarts under traffic: what stays, what waits, and who moves frames meanwhile.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { pause } from '../helpers/pause.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';
import { skip, site, create, identity, OWN, checkRights } from '../helpers/restart-site.js';
import { part } from '../helpers/whole.js';

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
  const client = a.spawn(['iperf3', '-c', b.overlay.v4, '-b', '50M', '-t', '6', '-i', '0.1', '-J']);
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
  for (const socket of [file + '/s', '/proc/varpd.sock', file].slice(0, part(3))) {
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
  apiVersion: 2, name: 'told', mode: 'dynamic', properties: [],
  create: (host) => ({
    start: async () => {}, stop: async () => {},
    resolve: ({ destinationMac }) => {
      if (Math.floor(destinationMac / 2 ** 40) % 2 === 1) return { kind: 'drop', reason: 'a group' };
      appendFileSync(host.stateDir + '/asked', 'x');
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
  tell(b.underlay.v4);
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins] })).explain(t);
  const asked = (): number => readFileSync(path.join(daemon.pluginState('told'), 'asked'), 'utf8').length;
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
