// varpd stop, and the names by which ps and pgrep find varpd.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { Daemon, directOverlay, VARPD_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { findProgram, type Result, waitUntil } from '../helpers/process.js';

const skip = skipUnlessNetns();
const GROUP = 60;

const stop = (host: Namespace, args: readonly string[], before: readonly string[] = []): Promise<Result> =>
  host.run([...before, process.execPath, VARPD_MAIN, 'stop', ...args], { timeoutMs: 30_000 });

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
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' }, 'it has ended when the command returns');
  t.match(await daemon.ended(), { code: 0 });
  t.match(daemon.log(), / info change by 65534 \(nobody\), process \d+: stop: done$/m, 'and who ended it');
  t.notOk(await a.hasDevice('overlay0'), 'as by SIGTERM');
  const none = await stop(a, there);
  t.match(none, { code: 3, stderr: `varpd: no varpd runs at ${daemon.socket}: ` }, 'none runs');

  await daemon.start();
  t.match(await stop(a, ['--socket', daemon.socket]), { code: 0 }, 'root, by the socket alone');
  const broken = path.join(daemon.directory, 'broken.yaml');
  writeFileSync(broken, 'socket: x\n');
  t.match(await stop(a, ['--config', broken]), { code: 7, stderr: /broken\.yaml:1:9: socket: / });
  t.match(await stop(a, ['--foreground']), { code: 2, stderr: /usage: / });
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
