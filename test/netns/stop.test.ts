// varpd stop, of a varpd that does not answer as well, and the names by which ps and pgrep find varpd.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';

import t from 'tap';

import { Daemon, directOverlay, hangingPreload, VARPD_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { findProgram, isRunning, type Result, waitUntil } from '../helpers/process.js';

const skip = skipUnlessNetns();
const GROUP = 60;

const stop = (host: Namespace, args: readonly string[], before: readonly string[] = []): Promise<Result> =>
  host.run([...before, process.execPath, VARPD_MAIN, 'stop', ...args]);

const as = (uid: number, ...groups: number[]): string[] => [
  'setpriv',
  `--reuid=${uid}`,
  '--regid=65534',
  ...(groups.length === 0 ? ['--clear-groups'] : [`--groups=${groups.join()}`]),
];

const threadNames = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/task`).map((task) =>
    readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').trim(),
  );

t.test('varpd stop', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a, { config: { group: 'games' } })).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const there = ['--config', daemon.configFile];

  t.match(await stop(a, there, as(65534)), { code: 6, stderr: /permission denied/ }, 'others may not');
  t.ok(daemon.running);
  const byName = statSync(daemon.socket).gid;
  t.equal(byName, GROUP, 'games');
  const line =
    'change by 0 \\(root\\), process \\d+: create-overlay -e vxlan -s direct -v 42 .* overlay0: done';
  t.match(daemon.log(), new RegExp(`^\\S+ info ${line}$`, 'm'), 'the log has who created it');
  daemon.signal('SIGHUP');
  await waitUntil(() => daemon.log().includes(' info change by a signal: SIGHUP: done\n'), {
    what: 'SIGHUP',
  });
  const { pid } = daemon;
  t.match(await stop(a, there, as(65534, GROUP)), { code: 0, stdout: '', stderr: '' }, 'the group may');
  t.notOk(isRunning(pid), 'it has ended when the command returns');
  t.match(await daemon.ended(), { code: 0 });
  t.match(daemon.log(), / info change by 65534 \(nobody\), process \d+: stop: done$/m, 'and who ended it');
  t.notOk(await a.hasDevice('overlay0'), 'as by SIGTERM');
  const none = await stop(a, there);
  t.match(
    none,
    { code: 3, stderr: `varpd: no varpd runs at ${daemon.socket}: no such file or directory` },
    'none runs',
  );

  await daemon.start();
  t.match(await stop(a, ['--socket', daemon.socket]), { code: 0 }, 'root, by the socket alone');
  const broken = path.join(daemon.directory, 'broken.yaml');
  writeFileSync(broken, 'socket: x\n');
  t.match(await stop(a, ['--config', broken]), { code: 7, stderr: /broken\.yaml:1:9: socket: / });
  t.match(await stop(a, ['--socket', '']), { code: 2, stderr: /'--socket' requires an argument/ });
  t.match(await stop(a, ['--foreground']), { code: 2, stderr: /usage: / });
});

/** Whether SIGTERM was sent to it and waits for it to go on (proc(5)). */
function hasSigtermPending(pid: number): boolean {
  const pending = /^ShdPnd:\s*(\S+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
  return ((BigInt(`0x${pending}`) >> BigInt(constants.signals.SIGTERM - 1)) & 1n) === 1n;
}

t.test('a varpd that does not answer gets SIGTERM', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const a = await bed.host();
  const options = { config: { group: 'games' }, nodeArgs: ['--import', hangingPreload(bed.directory())] };
  const daemon = (await Daemon.start(bed, a, options)).explain(t);
  const there = ['--socket', daemon.socket];

  daemon.signal('SIGSTOP');
  const denied =
    /does not answer, and cannot be signalled: operation not permitted: only root and its user may$/m;
  t.match(await stop(a, there, as(65534, GROUP)), { code: 6, stderr: denied }, 'the group may only ask');
  t.notOk(hasSigtermPending(daemon.pid));
  t.match(await stop(a, there), { code: 0, stdout: '', stderr: '' }, 'it goes on, and ends');
  t.match(await daemon.ended(), { code: 0, signal: null });

  await daemon.start();
  daemon.signal('SIGWINCH');
  t.match(await stop(a, there), { code: 0, stdout: '', stderr: '' }, 'its control thread hangs');
  t.match(daemon.log(), /it leaves what hangs, its control thread$/m);
  t.match(await daemon.ended(), { signal: null });

  const [socket, deafSocket] = ['mute.sock', 'deaf.sock'].map((name) => path.join(bed.directory(), name));
  const mute = (file: string): string => `require('node:net').createServer(() => {}).listen('${file}');`;
  const other = a.spawn([process.execPath, '-e', mute(socket)]);
  await waitUntil(() => existsSync(socket), { what: 'a program that listens and says nothing' });
  t.match(await stop(a, ['--socket', socket]), { code: 0, stdout: '', stderr: '' });
  t.match(await other.exited, { signal: 'SIGTERM' }, 'nothing but SIGTERM ended it');

  const deaf = a.spawn([process.execPath, '-e', `process.on('SIGTERM', () => {}); ${mute(deafSocket)}`]);
  await waitUntil(() => existsSync(deafSocket), { what: 'one that ignores SIGTERM as well' });
  t.match(await stop(a, ['--socket', deafSocket]), {
    code: 1,
    stderr: `varpd (process ${deaf.pid}) has not ended within 10 s`,
  });
  await deaf.stop('SIGKILL');
});

t.test('the names of the processes beside varpd', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const plugins = bed.directory();
  const holds = (name: string): string => path.join(plugins, `hold-${name}`);
  mkdirSync(path.join(plugins, 'slow'));
  // The trial of the next varpd waits for the plugin. The next varpd waits while the stand-in moves frames.
  writeFileSync(
    path.join(plugins, 'slow/index.mjs'),
    `import { existsSync } from 'node:fs';
    while (existsSync(${JSON.stringify(holds('varpd-trial'))})) await new Promise((go) => setTimeout(go, 10));
    export default { apiVersion: 2, name: 'slow', mode: 'point', properties: [], create: () => ({}) };`,
  );
  const preload = path.join(plugins, 'preload.mjs');
  writeFileSync(
    preload,
    `import { existsSync } from 'node:fs';
    const clock = new Int32Array(new SharedArrayBuffer(4));
    while (process.env.VARPD_RESTARTED !== undefined && existsSync(${JSON.stringify(holds('varpd'))})) Atomics.wait(clock, 0, 0, 10);`,
  );
  const options = { pluginPath: [plugins], nodeArgs: ['--import', preload] };
  const daemon = (await Daemon.start(bed, a, options)).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const { startedAt } = await daemon.call('daemon.status', {});
  for (const name of ['varpd-trial', 'varpd']) writeFileSync(holds(name), '');
  const restart = daemon.ok('restart');

  for (const [held, shown] of [
    ['varpd-trial', 'varpd-trial'],
    ['varpd', 'varpd-standin'],
  ]) {
    const children = async (program: string): Promise<string[]> =>
      (await a.run(program)).stdout.split('\n').map((line) => line.trim());
    await waitUntil(async () => (await children(`ps -o comm= --ppid ${daemon.pid}`)).includes(shown), {
      what: `ps to show ${shown}`,
    });
    if (findProgram('pgrep') !== undefined) {
      const [pid] = await children(`pgrep -x -P ${daemon.pid} ${shown}`);
      t.match(pid, /^\d+$/, `pgrep finds ${shown}`);
      t.same(await children(`pgrep -x -P ${daemon.pid} varpd`), [''], 'and does not take it for a varpd');
    }
    rmSync(holds(held));
  }
  await restart;
  const isBack = async (): Promise<boolean> =>
    (await daemon.call('daemon.status', {}).catch(() => undefined))?.startedAt !== startedAt;
  await waitUntil(isBack, { what: 'the next varpd' });
  t.pass('the restart goes on');
});

t.test('the names of its process and threads, also after a restart', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, '-p queues=2'));
  const { pid } = daemon;
  for (const when of ['at first', 'after a restart']) {
    const comm = readFileSync(`/proc/${pid}/comm`, 'utf8');
    t.equal(comm, 'varpd\n', when);
    const names = threadNames(pid);
    for (const name of ['datapath', 'datapath 1']) t.ok(names.includes(name), `${when}: ${name}`);
    if (when === 'at first') t.ok(names.includes('disk'), 'disk');
    if (findProgram('pgrep') !== undefined) {
      const { stdout } = await a.run(['pgrep', '-x', 'varpd']);
      t.ok(stdout.split('\n').includes(String(pid)), `${when}: pgrep`);
    }
    const { startedAt } = await daemon.call('daemon.status', {});
    if (when === 'at first') await daemon.ok('restart');
    await waitUntil(
      async () => when !== 'at first' || (await daemon.call('daemon.status', {})).startedAt !== startedAt,
      { what: 'the next varpd' },
    );
  }
  t.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /main\.js/, 'its command line stays');
});
