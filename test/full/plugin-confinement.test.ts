// Plugin processes under Landlock: two real ones beside each other, and a spawner that they would like to reach.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';

import { probableName } from '../../src/daemon/plugins/plugin-entry.js';
import { PluginProcess } from '../../src/daemon/plugins/plugin-process.js';
import { PluginRunner } from '../../src/daemon/plugins/plugin-runner.js';
import { Spawner, type SpawnerPlace } from '../../src/daemon/plugins/spawner.js';
import { landlockVersion } from '../../src/dgram-extra/index.js';
import { placesBeside } from '../../src/plugin-process/confinement.js';
import { newLog } from '../helpers/link-watch.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { pluginServices } from '../helpers/plugin-services.js';
import { exec, waitUntil } from '../helpers/process.js';

const VERSION = landlockVersion();
const HAS_SCOPES = VERSION >= 6;

/** A plugin that runs code, and says what became of it: `done`, `done RESULT`, or the code of the error. */
const source = (name: string): string => `
import fs from 'node:fs';
import cp from 'node:child_process';
import net from 'node:net';
const Code = (async () => {}).constructor;
export default {
  apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [], create: () => ({}),
  refuse: async ({ code, at }) => {
    try {
      const result = await new Code('fs', 'cp', 'net', 'at', code)(fs, cp, net, at);
      return result === undefined ? 'done' : 'done ' + result;
    } catch (error) {
      return error.code ?? error.message;
    }
  },
};
`;

interface Scene {
  readonly directory: string;
  readonly spawner: Spawner;
  /** Starts a process for the plugin of this name. */
  readonly start: (name: string, state?: string | null) => Promise<PluginProcess>;
  /** Has a process run code. */
  readonly run: (one: PluginProcess, code: string, at?: unknown) => Promise<unknown>;
  readonly file: (name: string) => string;
  readonly stateRoot: string;
  readonly place: SpawnerPlace;
}

function scene(t: { teardown(work: () => unknown): unknown }): Scene {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  const services = pluginServices(t);
  const spawner = new Spawner(services.place);
  t.teardown(() => {
    spawner.close();
    rmSync(directory, { recursive: true });
  });
  const file = (name: string): string => path.join(directory, name, 'index.mjs');
  return {
    directory,
    spawner,
    file,
    stateRoot: services.stateRoot,
    place: services.place,
    start: async (name, state = name) => {
      mkdirSync(path.dirname(file(name)), { recursive: true });
      writeFileSync(file(name), source(name));
      const { process } = await PluginProcess.start(
        { spawner, limits: services.limits, printed: () => undefined },
        { file: file(name), state },
        20_000,
      );
      return process;
    },
    run: (one, code, at) => one.call(0, 'refuse', [{ code, at }]),
  };
}

const WITHOUT = VERSION <= 0 ? 'needs a kernel with Landlock' : false;

/** `at`: secret and pid of another plugin, its state directory, and others. Since which version it is so. */
const ROWS: readonly [what: string, code: string, expected: RegExp, since?: number][] = [
  ['its state directory is its own', `fs.writeFileSync('a', 'x'); fs.renameSync('a', 'b'); fs.mkdirSync('c/d', { recursive: true }); fs.symlinkSync('b', 's'); fs.truncateSync('b'); fs.rmSync('b'); fs.rmSync('c', { recursive: true })`, /^done$/],
  ['a rename between its own directories', `fs.mkdirSync('e'); fs.writeFileSync('f', ''); fs.renameSync('f', 'e/f')`, /^done$/, 2],
  ['a temporary directory', `const os = await import('node:os'); fs.mkdtempSync(os.tmpdir() + '/x'); return os.tmpdir() === process.cwd()`, /^done true$/],
  ['files of the host are read', `return fs.readFileSync('/etc/passwd', 'utf8').length > 0 && fs.readdirSync('/etc').length > 0`, /^done true$/],
  ['its own code is read', `return fs.readFileSync(at.file, 'utf8').length > 0`, /^done true$/],
  ['its own code stays', `fs.appendFileSync(at.file, '//')`, /^EACCES$/],
  ['devices without data', `fs.writeFileSync('/dev/null', 'x'); return fs.readSync(fs.openSync('/dev/zero', 'r+'), Buffer.alloc(1))`, /^done 1$/],
  ['nothing is written elsewhere', `fs.writeFileSync(at.directory + '/x', '')`, /^EACCES$/],
  ['not in /tmp', `fs.mkdirSync('/tmp/varpd-confined')`, /^EACCES$/],
  ['nor by a thread of the pool', `await fs.promises.writeFile(at.directory + '/x', '')`, /^EACCES$/],
  ['nor by a worker', `const { Worker } = await import('node:worker_threads'); const w = new Worker("require('fs').writeFileSync(" + JSON.stringify(at.directory + '/x') + ", '')", { eval: true }); await new Promise((resolve, reject) => w.on('error', reject).on('exit', resolve))`, /^EACCES$/],
  ['children run', `return cp.execFileSync('/bin/sh', ['-c', 'echo x > y; cat y'], { encoding: 'utf8' }).trim()`, /^done x$/],
  ['and are confined', `return cp.spawnSync('/bin/sh', ['-c', 'echo x > "$0/x"', at.directory]).status`, /^done [12]$/],
  ['other plugins are not listed', `fs.readdirSync(at.stateRoot)`, /^EACCES$/],
  ['the state of another is not read', `fs.readFileSync(at.secret)`, /^EACCES$/],
  ['nor listed', `fs.readdirSync(at.other)`, /^EACCES$/],
  ['nor read by a link', `fs.symlinkSync(at.secret, 'l'); fs.readFileSync('l')`, /^EACCES$/],
  ['nor linked', `fs.linkSync(at.secret, 'h')`, /^(?:EXDEV|EACCES)$/],
  ['nor read by a child', `return cp.spawnSync('cat', [at.secret]).status`, /^done 1$/],
  ['nor over /proc', `fs.readFileSync('/proc/' + at.pid + '/cwd/secret')`, /^EACCES$/],
  ['nor written', `fs.appendFileSync(at.secret, 'x')`, /^EACCES$/],
  ['nor removed', `fs.rmSync(at.secret)`, /^EACCES$/],
  ['nor moved', `fs.renameSync(at.secret, 'moved')`, /^(?:EXDEV|EACCES)$/],
  ['nor replaced', `fs.renameSync(at.other, at.other + '2')`, /^(?:EXDEV|EACCES)$/],
  ['no place for a plugin that is not there yet', `fs.mkdirSync(at.stateRoot + '/third')`, /^EACCES$/],
  ['the memory of another is not written', `fs.openSync('/proc/' + at.pid + '/mem', 'r+')`, /^EACCES$/],
  ['nor that of the spawner', `fs.openSync('/proc/' + process.ppid + '/mem', 'r+')`, /^EACCES$/],
  ['nor its environment read', `fs.readFileSync('/proc/' + process.ppid + '/environ')`, /^EACCES$/],
  ['another plugin is not signalled', `process.kill(at.pid, 0)`, /^EPERM$/, 6],
  ['nor killed', `process.kill(at.pid, 'SIGKILL')`, /^EPERM$/, 6],
  ['nor its group', `process.kill(-at.pid, 'SIGKILL')`, /^EPERM$/, 6],
  ['nor the spawner', `process.kill(process.ppid, 'SIGKILL')`, /^EPERM$/, 6],
  ['nor this test', `process.kill(at.test, 'SIGKILL')`, /^EPERM$/, 6],
  ['nor by a child', `return cp.spawnSync('/bin/sh', ['-c', 'kill -9 $0', String(at.pid)]).status`, /^done 1$/, 6],
  ['its own child is killed', `const child = cp.spawn('sleep', ['60']); const end = new Promise((resolve) => child.on('exit', (code, signal) => resolve(signal))); child.kill('SIGKILL'); return end`, /^done SIGKILL$/],
  ['an abstract socket of others', `await new Promise((resolve, reject) => net.connect(at.abstract).on('connect', resolve).on('error', reject))`, /^EPERM$/, 6],
  ['the network', `await new Promise((resolve, reject) => net.connect(at.port, '127.0.0.1').on('connect', resolve).on('error', reject))`, /^done$/],
  ['it has no descriptor of the ruleset', `return fs.readdirSync('/proc/self/fd').map((fd) => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch { return '' } }).filter((link) => /landlock/.test(link)).length`, /^done 0$/],
]; // prettier-ignore

await t.test('two plugins beside each other', { skip: WITHOUT }, async (t) => {
  const { directory, spawner, start, run, file, stateRoot } = scene(t);
  const [first, second] = [await start('first'), await start('second')];
  t.match(spawner.confinement, { landlock: VERSION, lack: null });
  const other = path.join(stateRoot, 'second');
  const secret = path.join(other, 'secret');
  t.equal(await run(second, `fs.writeFileSync('secret', 'hidden')`), 'done');
  const abstract = `\0varpd-test-${process.pid}`;
  const local = createServer().listen(abstract);
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await Promise.all([local, server].map((one) => waitUntil(() => one.listening, { what: 'a server' })));
  t.teardown(() => {
    local.close();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const at = {
    directory,
    stateRoot,
    other,
    secret,
    abstract,
    port,
    pid: second.pid,
    test: process.pid,
    file: file('first'),
  };
  for (const [what, code, expected, since = 1] of ROWS)
    if (VERSION >= since) t.match(await run(first, code, at), expected, what);
  t.equal(readFileSync(secret, 'utf8'), 'hidden');
  t.equal(await run(second, `return fs.readFileSync('secret', 'utf8')`), 'done hidden', 'the other goes on');
  const ended = new Promise<string>((resolve) => {
    first.onEnded = resolve;
  });
  await waitUntil(() => first.memoryKib > 0, { what: 'its memory to be known' });
  first.kill('was ended by the test');
  t.match(await ended, /was ended by the test/, 'the spawner reaches it');
});

await t.test('a process without a state directory writes nothing', { skip: WITHOUT }, async (t) => {
  const { start, run } = scene(t);
  const one = await start('trial', null);
  t.equal(await run(one, `fs.writeFileSync('x', '')`), 'EACCES');
  t.equal(await run(one, `fs.mkdirSync('trial')`), 'EACCES');
});

await t.test('a plugin that is not named as its directory', async (t) => {
  const { directory, spawner, stateRoot } = scene(t);
  const file = path.join(directory, 'alias', 'index.mjs');
  mkdirSync(path.dirname(file));
  writeFileSync(file, source('real'));
  const { limits } = pluginServices(t);
  const runner = new PluginRunner(file, { spawner, limits, log: newLog() });
  t.teardown(() => {
    runner.close();
  });
  t.match(await runner.describe(), { plugin: { name: 'real' }, stateDir: stateRoot });
  const code = `fs.writeFileSync('x', ''); return process.cwd()`;
  t.equal(await runner.refuse({ code }), `done ${path.join(stateRoot, 'real')}`);
});

const OLDER: readonly [text: string, expected: object, rows: readonly [code: string, expected: string][]][] = [
  ['-38', { landlock: 0, lack: 'this kernel has none' }, [[`fs.writeFileSync(at.directory + '/x', '')`, 'done']]],
  ['-95', { landlock: 0, lack: 'it was not enabled when this kernel was started' }, []],
  ['-1', { landlock: 0, lack: 'landlock_create_ruleset(2) has failed: EPERM' }, []],
  [
    '1',
    { landlock: 1, lack: null },
    [
      [`fs.writeFileSync(at.directory + '/x', '')`, 'EACCES'],
      [`process.kill(process.ppid, 0)`, 'done'],
    ],
  ],
  ['2', { landlock: 2, lack: null }, [[`fs.mkdirSync('e'); fs.writeFileSync('f', ''); fs.renameSync('f', 'e/f')`, 'done']]],
  ['3', { landlock: 3, lack: null }, []],
  ['5', { landlock: 5, lack: null }, [[`process.kill(process.ppid, 0)`, 'done']]],
  ['6', { landlock: 6, lack: null }, HAS_SCOPES ? [[`process.kill(process.ppid, 0)`, 'EPERM']] : []],
]; // prettier-ignore

await t.test('an older kernel', { skip: skipUnless({ programs: ['cc'] }) }, async (t) => {
  const library = path.join(t.testdir(), 'older.so');
  const source = fromRoot('test/helpers/older-landlock.c');
  await exec([process.env['CC'] ?? 'cc', '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
  for (const [version, expected, rows] of OLDER) {
    if (Number(version) > Math.max(0, VERSION)) continue;
    const { directory, spawner, start, run, file } = scene(t);
    Object.assign(process.env, { LD_PRELOAD: library, OLDER_LANDLOCK: version });
    try {
      const one = await start('mine');
      t.match(spawner.confinement, expected, version);
      t.equal(await run(one, `fs.writeFileSync('x', '')`), 'done', 'its state directory is there');
      for (const [code, wanted] of rows)
        t.equal(await run(one, code, { directory, file: file('mine') }), wanted, `${version}: ${code}`);
    } finally {
      for (const name of ['LD_PRELOAD', 'OLDER_LANDLOCK']) Reflect.deleteProperty(process.env, name);
    }
  }
});

/** Sends the first line of a connection, and returns the connection with all lines that come. */
async function opened(file: string, opening: object): Promise<{ socket: Socket; lines: string[] }> {
  const socket = connect(file);
  const lines: string[] = [];
  createInterface(socket).on('line', (line) => lines.push(line));
  await once(socket, 'connect');
  socket.write(`${JSON.stringify(opening)}\n`);
  return { socket, lines };
}

await t.test('a varpd of an earlier version, which names no state directory', async (t) => {
  const { directory, spawner, stateRoot, file, place } = scene(t);
  mkdirSync(path.dirname(file('mine')));
  writeFileSync(file('mine'), source('mine'));
  await place.begin?.();
  const { socket, lines } = await opened(place.socket, { kind: 'control' });
  await waitUntil(() => lines.length > 0, { what: 'the spawner to answer' });
  const { session } = JSON.parse(lines[0]) as { session: number };
  t.teardown(() => socket.end(`${JSON.stringify({ kind: 'end' })}\n`));
  const channel = await opened(place.socket, { kind: 'start', session, process: 1 });
  // The spawner must not read what is for the process.
  await waitUntil(() => lines.some((line) => line.includes('started')), { what: 'the process to start' });
  channel.socket.write(`${JSON.stringify(['load', { file: file('mine') }])}\n`);
  await waitUntil(() => channel.lines.length > 0, { what: 'the plugin to be loaded' });
  t.match(JSON.parse(channel.lines[0]), ['loaded', { stateDir: path.join(stateRoot, 'mine') }]);
  const code = `fs.writeFileSync(at.directory + '/x', '')`;
  channel.socket.write(`${JSON.stringify(['call', 1, 0, 'refuse', [{ code, at: { directory } }]])}\n`);
  await waitUntil(() => channel.lines.length > 1, { what: 'its answer' });
  t.same(JSON.parse(channel.lines[1]), ['done', 1, 'done'], 'has plugins that run as they did');
  channel.socket.destroy();
  t.equal(spawner.confinement, undefined, 'without a connection nothing is known');
});

await t.test('a spawner of an earlier version', async (t) => {
  const socket = path.join(t.testdir(), 's');
  const server = createServer((one) => {
    one.write(`${JSON.stringify({ kind: 'session', session: 1, pid: process.pid, uid: 0 })}\n`);
  }).listen(socket);
  await once(server, 'listening');
  const spawner = new Spawner({ socket });
  t.teardown(() => {
    spawner.leave();
    server.close();
  });
  spawner.hold();
  await waitUntil(() => spawner.confinement !== undefined, { what: 'a session' });
  t.same(spawner.confinement, {
    landlock: 0,
    lack: 'the spawner was started by an earlier version of varpd',
  });
});

t.test('the places beside a directory', (t) => {
  const root = t.testdir({
    a: { file: '', below: { more: '' } },
    b: { hidden: { secret: '' }, beside: {}, file: '' },
  });
  symlinkSync('/etc', path.join(root, 'b/link'));
  const places = placesBeside(path.join(root, 'b/hidden'));
  const found = (file: string): boolean | undefined =>
    places.find((place) => place.file === file)?.isDirectory;
  t.equal(found(path.join(root, 'a')), true);
  t.equal(found(path.join(root, 'b/beside')), true);
  t.equal(found(path.join(root, 'b/file')), false, 'a file');
  t.equal(found('/etc'), true);
  const files = places.map(({ file }) => file);
  t.notOk(
    files.includes('/') || files.includes(root) || files.includes(path.join(root, 'b')),
    'no directory above',
  );
  t.notOk(files.some((file) => file.includes('hidden') || file.includes('below')));
  t.notOk(files.includes(path.join(root, 'b/link')), 'no link');
  t.throws(() => placesBeside(path.join(root, 'a/file/x')), /file cannot be listed \(ENOTDIR\)$/);
  t.throws(() => placesBeside(root, 3), { message: '/ has more than 3 entries' });
  t.end();
});

t.test('the probable name of a plugin', (t) => {
  const packageJson = JSON.stringify({ varpd: { plugin: './dist/index.js' } });
  const root = t.testdir({
    'varpd-plugin-hosts': { 'package.json': packageJson },
    other: { 'package.json': packageJson },
  });
  t.equal(probableName(path.join(root, 'varpd-plugin-hosts/dist/index.js')), 'hosts');
  t.equal(probableName(path.join(root, 'other/dist/index.js')), 'other');
  t.equal(probableName('/nowhere/static/index.mjs'), 'static');
  t.equal(probableName('/nowhere/varpd-plugin-x/index.js'), 'x');
  t.end();
});
