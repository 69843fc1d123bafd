// varpd --check: everything that a start needs is tried, as the user that varpd would be, and nothing is changed.
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { giveToDaemon } from '../helpers/daemon-user.js';
import { Daemon, directOverlay, VARPD_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import type { Result } from '../helpers/process.js';

const skip = skipUnlessNetns();
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

const check = (host: Namespace, config: string, before: readonly string[] = []): Promise<Result> =>
  host.run([...before, process.execPath, VARPD_MAIN, '--check', '--config', config]);

/** Names, owners, modes, sizes and times of all files below, without the log: a varpd that runs writes it. */
function traces(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name !== 'varpd.log')
    .sort()
    .map((name) => {
      const { uid, mode, size, mtimeMs } = statSync(path.join(directory, name));
      return [name, uid, mode.toString(8), size, mtimeMs].join(' ');
    });
}

t.test('beside a varpd that runs, and before it has ever run', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a, { config: { metrics: '127.0.0.1:9560' } })).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  const { startedAt } = await daemon.call('daemon.status', {});
  const before = traces(daemon.directory);
  t.match(await check(a, daemon.configFile), {
    code: 0,
    stdout: `varpd would start with ${daemon.configFile}\n`,
    stderr: '',
  });
  t.same(traces(daemon.directory), before, 'nothing has changed');
  t.equal((await daemon.call('daemon.status', {})).startedAt, startedAt, 'the same varpd answers');
  const own = ['setpriv', `--reuid=${statSync(daemon.stateDir).uid}`, '--regid=65534', '--clear-groups'];
  t.match(await check(a, daemon.configFile, own), { code: 0, stderr: '' }, 'so says its own user');

  const fresh = path.join(bed.directory(), 'varpd.yaml');
  chmodSync(path.dirname(fresh), 0o755);
  const [stateDir, socket] = ['state', 'run/varpd.sock'].map((name) => path.join(path.dirname(fresh), name));
  writeFileSync(fresh, `stateDir: ${stateDir}\nsocket: ${socket}\n`);
  t.match(await check(a, fresh), { code: 0, stdout: /^varpd would start/ }, 'root makes the directories');
  t.same(readdirSync(path.dirname(fresh)), ['varpd.yaml'], 'and did not');
  const refused = await check(a, fresh, NOBODY);
  t.equal(refused.code, 10, 'nobody cannot make them');
  t.match(
    refused.stdout,
    `${fresh}:1:11: stateDir: user 65534 (nobody) cannot write to ${path.dirname(fresh)}`,
  );
  t.match(refused.stdout, `${fresh}:2:9: socket: user 65534 (nobody) cannot write to ${path.dirname(fresh)}`);
});

t.test('every error is named, with its place', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const a = await bed.host();
  const base = bed.directory();
  chmodSync(base, 0o755);
  const at = (...names: string[]): string => path.join(base, ...names);
  const state = (name: string, text: string): void => {
    writeFileSync(at('state', name), text, { mode: 0o600 });
    giveToDaemon(at('state', name));
  };
  const config = at('varpd.yaml');
  const says = async (text: string, lines: readonly (string | RegExp)[]): Promise<void> => {
    writeFileSync(config, text);
    const before = traces(base);
    const { code, stdout, stderr } = await check(a, config);
    t.equal(code, 10, text);
    t.equal(stderr, `varpd: ${lines.length} error${lines.length === 1 ? '' : 's'}\n`);
    const printed = stdout.trimEnd().split('\n');
    for (const [index, line] of lines.entries()) t.match(printed[index], line);
    t.equal(printed.filter((line) => !line.startsWith('warning: ')).length, lines.length, stdout);
    t.same(traces(base), before, 'nothing has changed');
  };

  await says('socket: x\nlog: {level: loud}\ncolour: blue\n', [
    `${config}:1:9: socket: found another text, expected an absolute path`,
    `${config}:2:14: log.level: found`,
    `${config}:3:1: unknown key`,
  ]);
  await says(`user: nobody-of-this-name\nstateDir: ${at('state')}\n`, [
    `${config}:1:7: user: there is no user of that name`,
  ]);
  await says(`group: no-such-group\nstateDir: ${at('state')}\n`, [
    `${config}:1:8: group: there is no group of that name`,
  ]);

  mkdirSync(at('state'), { mode: 0o700 });
  giveToDaemon(at('state'));
  state('half0.json', '{\n  "version": 1,\n  "name": ');
  state('kind0.json', '{\n  "version": 1,\n  "name": "kind0",\n  "id": "x"\n}');
  state('open0.json', '{}');
  chmodSync(at('state/open0.json'), 0o666);
  const whole = { id: 1, encap: 'vxlan', search: 'mine', vnetid: 1, mac: '02:00:00:00:00:01' };
  state('other0.json', JSON.stringify({ version: 1, name: 'other0', ...whole, properties: [], vnics: [] }));
  state('gone0.bad-1', '');
  mkdirSync(at('plugins/torn'), { recursive: true });
  writeFileSync(at('plugins/torn/index.mjs'), 'export default {\n  name: ,\n};\n');
  mkdirSync(at('closed'), { mode: 0o700 });
  writeFileSync(at('sock'), 'no socket');
  const keys = {
    stateDir: at('state'),
    socket: at('sock'),
    metrics: at('closed/metrics.sock'),
    log: { file: at('closed/varpd.log') },
    pluginPath: [at('plugins'), at('nowhere')],
  };
  const lines = Object.entries(keys).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
  await says(lines.join(''), [
    `${at('state/half0.json')}:3:11: not valid JSON`,
    `${at('state/kind0.json')}:4:9: id: `,
    `${at('state/open0.json')}: it is writable by group or others`,
    new RegExp(`^${config}:4:6: log\\.file: cannot open .*: permission denied to user \\d+ \\(varpd\\)`),
    `${config}:2:9: socket: ${at('sock')} exists and is not a socket: remove it, or choose another path`,
    new RegExp(`^${config}:3:10: metrics: user \\d+ \\(varpd\\) cannot look at ${at('closed/metrics.sock')}`),
    `${config}:5:13: ${at('plugins/torn/index.mjs')}:2:9: left out: a syntax error`,
    `${config}:5:13: pluginPath: failed to load from ${at('nowhere')}: no such file or directory`,
    `${at('state/other0.json')}: its plugin 'mine' is not there`,
  ]);
  const { stdout } = await check(a, config);
  t.match(stdout, `warning: ${at('state/gone0.bad-1')}: it was set aside by an earlier start`);

  chownSync(at('state'), 0, 0);
  await says(`stateDir: ${at('state')}\nsocket: ${at('closed/varpd.sock')}\n`, [
    new RegExp(
      `^${config}:1:11: state directory ${at('state')}: it belongs to user 0 \\(root\\), expected \\d+ \\(varpd\\)`,
    ),
    `${config}:2:9: socket: user`,
  ]);
  writeFileSync(config, `user: root\nstateDir: ${at('state')}\n`);
  const other = await check(a, config, NOBODY);
  t.match(other, {
    code: 0,
    stdout: /^warning: .*:1:7: user: this is user 65534, so nothing was opened that is for 'root'/,
  });
});

t.test('the command line of --check', (t) => {
  const run = (...args: string[]) => spawnSync(process.execPath, [VARPD_MAIN, ...args], { encoding: 'utf8' });
  t.match(run('--check', '--foreground'), { status: 2, stderr: /exclude each other\n.*usage: varpd/ });
  t.match(run('--check', '--config', '/no/varpd.yaml'), {
    status: 10,
    stdout: '/no/varpd.yaml: cannot be read',
  });
  t.notOk(existsSync('/no'));
  t.end();
});
