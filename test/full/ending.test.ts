// What must not end varpd, and what must: a log that cannot be opened again, plugins that exit, exceptions of its own,
// descriptors that run out, a service manager that refuses; and SIGTERM, whatever hangs.
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync, chownSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { giveToDaemon, limitFiles } from '../helpers/daemon-user.js';
import { Daemon, directOverlay, hangingPreload, VARPD_MAIN as VARPD } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { exec, isRunning, waitUntil } from '../helpers/process.js';
import { Manager } from '../helpers/service-manager.js';
import { isTried } from '../helpers/whole.js';

const skip = skipUnlessNetns();

function newBed(t: Test): Bed {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  return bed;
}

const sees = (daemon: Daemon, expected: RegExp): Promise<void> =>
  waitUntil(() => expected.test(daemon.log()), { what: `the log to say ${expected}` });

/** Its process has not changed, and answers. */
async function lives(t: Test, daemon: Daemon, what: string): Promise<void> {
  t.match(await daemon.call('daemon.status', {}), { pid: daemon.pid }, what);
}

/** A plugin whose module does something while it is imported. */
function addPlugin(directory: string, name: string, body: string, instance = ''): string {
  mkdirSync(path.join(directory, name));
  const file = path.join(directory, name, 'index.mjs');
  writeFileSync(
    file,
    `${body}
    export default {
      apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [],
      create: () => ({ start: async () => {}, stop: async () => {}, resolve: () => ({ kind: 'drop', reason: 'none' }), ${instance} }),
    };`,
  );
  return file;
}

await t.test('a log file that cannot be opened again', { skip }, async (t) => {
  const bed = newBed(t);
  const a = await bed.host();
  const directory = bed.directory();
  const places = path.join(directory, 'logs');
  const file = path.join(places, 'v.log');
  mkdirSync(places);
  giveToDaemon(places);
  const daemon = await Daemon.start(bed, a, { config: { log: { file } } });
  const log = (name = places): string => readFileSync(path.join(name, 'v.log'), 'utf8');
  const says = (expected: RegExp, name = places): Promise<void> =>
    waitUntil(() => expected.test(log(name)), { what: `${name} to say ${expected}` });
  const why =
    /log:? not reopened, goes on where it went: log\.file: cannot open .*v\.log: no such file or directory/;

  const old = path.join(directory, 'old');
  renameSync(places, old);
  daemon.signal('SIGHUP');
  await says(why, old);
  await says(/configuration read again: nothing has changed/, old);
  await lives(t, daemon, 'its directory is gone: SIGHUP');
  const { code, stderr } = await daemon.dladm('reload');
  t.equal(code, 1);
  t.match(stderr, why, 'dladm reload says so');
  t.match(
    log(old).match(new RegExp(why, 'g')),
    { length: 3 },
    'twice in a row, and in the line of the change',
  );

  mkdirSync(file, { recursive: true });
  t.match((await daemon.dladm('reload')).stderr, /cannot open .*v\.log: illegal operation on a directory/);
  rmSync(places, { recursive: true });
  mkdirSync(places);
  await exec(['mkfifo', file]);
  giveToDaemon(places, file);
  t.match((await daemon.dladm('reload')).stderr, /cannot open .*v\.log: no such device or address/, 'a FIFO');
  rmSync(file);
  await limitFiles(daemon.pid, '10:');
  daemon.signal('SIGHUP');
  await says(/cannot open .*v\.log: too many open files/, old);
  await limitFiles(daemon.pid, '4096:');

  await daemon.ok('reload');
  await says(/nothing has changed/);
  t.notMatch(log(), why, 'it can be opened again');
  symlinkSync('/dev/full', path.join(places, 'full'));
  rmSync(file);
  symlinkSync('/dev/full', file);
  await daemon.ok('reload');
  await daemon.ok('reload');
  rmSync(file);
  await daemon.ok('reload');
  await says(/warn (?:1 line|\d+ lines) missing here: no space left on device\n.*info/);
  await lives(t, daemon, 'a disk that was full');

  const other = new Daemon(bed, a, { config: { log: { file: '/nonexistent/v.log' } } });
  await t.rejects(other.start(), {
    message: /varpd: log\.file: cannot open \/nonexistent\/v\.log: no such file or directory/,
  });
});

await t.test('a log file that another user may not open', { skip }, async (t) => {
  const bed = newBed(t);
  const a = await bed.host();
  const places = bed.directory();
  await exec(['chmod', '755', places]);
  const user = 'nobody';
  const uid = Number(await exec(['id', '-u', user]));
  const logs = path.join(places, 'logs');
  mkdirSync(logs);
  chownSync(logs, uid, 0);
  const file = path.join(logs, 'v.log');
  const [state, run] = ['state', 'run'].map((name) => path.join(places, name));
  const options = { config: { user, log: { file }, stateDir: state, socket: path.join(run, 's') } };
  const daemon = new Daemon(bed, a, options);
  const config = path.join(places, 'varpd.yaml');
  writeFileSync(config, readFileSync(daemon.configFile));
  const child = a.spawn(
    daemon.startable([process.execPath, ...process.execArgv, VARPD, '--config', config, '--foreground']),
  );
  const log = (name: string): string => {
    try {
      return readFileSync(path.join(logs, name), 'utf8');
    } catch {
      return '';
    }
  };
  await waitUntil(() => child.ended || /serves/.test(log('v.log')), {
    what: 'varpd to serve',
  });
  renameSync(file, path.join(logs, 'v.log.1'));
  chownSync(logs, 0, 0);
  child.signal('SIGHUP');
  await waitUntil(() => child.ended || /nothing has changed/.test(log('v.log.1')), { what: 'a reload' });
  t.match(log('v.log.1'), /log not reopened, .*v\.log: permission denied/);
  t.notOk(child.ended, 'it goes on');
});

const ODD: Readonly<Record<string, string>> = {
  bare: 'Object.create(null)',
  nothing: 'null',
  proxy: `new Proxy({}, { getPrototypeOf() { throw 1; }, get() { throw 1; }, has() { throw 1; } })`,
  getter: `Object.defineProperty(new Error('x'), 'message', { get() { throw new Error('no'); } })`,
  stack: `Object.defineProperty(new Error('good'), 'stack', { get() { throw new Error('no'); } })`,
  symbol: `Symbol('sign')`,
};

await t.test('plugins that exit, or throw what nobody can read', { skip }, async (t) => {
  const bed = newBed(t);
  const a = await bed.host();
  const directory = bed.directory();
  const ends = {
    exit: 'process.exit(3)',
    abort: 'process.abort()',
    kills: 'process.kill(process.pid)',
    killed: `process.kill(-process.pid, 'SIGKILL')`,
    really: 'process.reallyExit(4)',
  };
  const expected: [string, RegExp][] = [];
  const add = (name: string, body: string, said: RegExp, instance?: string): void => {
    expected.push([addPlugin(directory, name, body, instance), said]);
  };
  const said = /its process has ended \((?:exit status \d|SIG\w+)\)/;
  const moments: readonly ((call: string) => string)[] = [
    (call) => call,
    (call) => `queueMicrotask(() => ${call})`,
    (call) => `setTimeout(() => ${call}, 1)`,
    (call) => `await null; Promise.resolve().then(() => ${call})`,
  ];
  const throwing: readonly ((value: string) => string)[] = [
    (value) => `throw ${value}`,
    (value) => `setTimeout(() => { throw ${value}; }, 1)`,
    (value) => `Promise.reject(${value})`,
  ];
  const addAll = (
    values: Readonly<Record<string, string>>,
    bodies: readonly ((value: string) => string)[],
    says: RegExp,
  ): void => {
    for (const [row, [name, value]] of Object.entries(values).entries())
      for (const [column, body] of bodies.entries())
        if (isTried(row % bodies.length === column)) add(`${name}${column}`, body(value), says);
  };
  addAll(ends, moments, said);
  addAll(ODD, throwing, /./);
  const odd = Object.values(ODD).join(', ');
  addPlugin(
    directory,
    'odd',
    `let at = 0; const odd = () => [${odd}][at++ % 6];`,
    'resolve: () => { throw odd(); }',
  );
  const daemon = await Daemon.start(bed, a, { pluginPath: [directory] });
  for (const [file, said] of expected) {
    const name = path.basename(path.dirname(file));
    // On a busy machine, so many processes may not all start in time. One that was late is tried again for an overlay.
    const isSaid = async (): Promise<boolean> => {
      const lines = daemon.log().split('\n');
      if (lines.some((line) => line.includes(file) && said.test(line))) return true;
      const { stderr } = await daemon.dladm('create-overlay', '-e', 'vxlan', '-s', name, '-v', '8', 'never0');
      return stderr.includes(file) && said.test(stderr);
    };
    await waitUntil(isSaid, { stepMs: 200, what: `varpd to say ${said} of ${file}` });
    t.pass(name);
  }
  await a.ip('link add under9 type veth peer name under8');
  await a.ip('addr add 10.99.0.1/24 dev under9');
  await a.ip('link set under9 up');
  await a.ip('link set under8 up');
  await daemon.ok('create-overlay -e vxlan -s odd -v 7 -p vxlan/listen_ip=10.99.0.1 odd0');
  await a.ip('addr add 10.98.0.1/24 dev odd0');
  for (let host = 2; host < 9; host++) {
    await a.ip(`neigh add 10.98.0.${host} lladdr 2:0:0:0:0:${host} dev odd0`);
    await a.run(['ping', '-c', '1', '-W', '0.1', `10.98.0.${host}`]);
  }
  const degraded = async (): Promise<boolean> =>
    (await daemon.overlays('odd0'))[0].health.status === 'DEGRADED';
  await waitUntil(degraded, { what: 'odd0 to be degraded' });
  await lives(t, daemon, 'varpd');
  t.same(await daemon.stop(), { code: 0, signal: null });
});

await t.test('exceptions of its own are logged as bugs and end nothing', { skip }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const directory = bed.directory();
  const preload = path.join(directory, 'preload.mjs');
  const throws = Object.values(ODD).map(
    (value) => `setTimeout(() => { throw ${value}; }, 1); Promise.reject(${value});`,
  );
  writeFileSync(
    preload,
    `process.on('SIGWINCH', () => { ${throws.join(' ')} setTimeout(() => { nowhere.to; }); });`,
  );
  const daemon = await Daemon.start(bed, a, { nodeArgs: ['--import', preload] });
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  for (let round = 0; round < 2; round++) daemon.signal('SIGWINCH');
  await sees(
    daemon,
    /bug: uncaught exception: ReferenceError: nowhere is not defined\\x0a +at .*preload\.mjs/,
  );
  await sees(daemon, /bug: unhandled rejection: a value of type object that cannot be shown/);
  await lives(t, daemon, 'varpd');
  t.ok(await a.hasDevice('overlay0'), 'its links stay');
  await daemon.ok('create-vnic -l overlay0 foo0');
  t.same(await daemon.stop(), { code: 0, signal: null });
});

await t.test('SIGTERM while a plugin is in an endless loop', { skip }, async (t) => {
  const bed = newBed(t);
  const a = await bed.host();
  const directory = bed.directory();
  addPlugin(directory, 'endless', 'setTimeout(() => { console.log("loops"); for (;;); }, 20);');
  const daemon = await Daemon.start(bed, a, { pluginPath: [directory] });
  await sees(daemon, /printed: loops/);
  daemon.signal('SIGTERM');
  t.same(await daemon.ended(), { code: 0, signal: null });
  t.notMatch(daemon.log(), /has not ended in time/);
});

await t.test('SIGTERM while the control thread hangs', { skip }, async (t) => {
  const bed = newBed(t);
  const a = await bed.host();
  const directory = bed.directory();
  giveToDaemon(directory);
  const nodeArgs = ['--import', hangingPreload(directory)];
  for (const format of ['text', 'json'] as const) {
    const file = path.join(directory, format);
    const config = { log: { format, file } };
    const daemon = await Daemon.start(bed, a, { nodeArgs, config });
    renameSync(file, `${file}.1`);
    await daemon.ok('reload');
    const before = daemon.cpuSeconds();
    daemon.signal('SIGWINCH');
    await waitUntil(() => daemon.cpuSeconds() > before + 0.2, { what: 'the thread to loop' });
    daemon.signal('SIGTERM');
    daemon.signal('SIGINT');
    t.same(await daemon.ended(), { code: 0, signal: null }, format);
    const last = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1) ?? '';
    const said = 'varpd has not ended in time: it leaves what hangs, its control thread';
    if (format === 'json')
      t.match(JSON.parse(last), { level: 'error', time: /Z$/, pid: daemon.pid, msg: said });
    else t.match(last, new RegExp(`^[-0-9]{10}T[0-9:.]{12}Z error ${said}$`));
  }
});

function managed(t: Test, bed: Bed, a: Namespace, env: Record<string, string> = {}): Manager {
  const manager = new Manager(bed, a, { WATCHDOG_USEC: '200000', ...env });
  t.teardown(() => {
    if (!t.passing()) t.comment(manager.child.stdout, manager.child.stderr);
  });
  return manager;
}

const ended = (manager: Manager): number | undefined => {
  manager.child.end();
  return manager.lines().at(-1)?.ended;
};

const withPython = { skip: skipUnlessNetns(['python3']) };

await t.test('a service manager that refuses to hear', withPython, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const manager = managed(t, bed, a);
  const { daemon } = manager;
  await manager.ready(1);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await waitUntil(() => manager.count('WATCHDOG') > 1, { what: 'signs of life' });
  await manager.deafen();
  const { pid } = await daemon.call('daemon.status', {});
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('delete-vnic foo0');
  await daemon.ok('reload');
  await daemon.ok('restart');
  const isBack = async (): Promise<boolean> =>
    (await daemon.call('daemon.status', {}).catch(() => undefined))?.overlays === 1;
  await waitUntil(isBack, { what: 'varpd after a restart' });
  t.equal(
    (await daemon.call('daemon.status', {})).pid,
    pid,
    'FDSTORE, FDSTOREREMOVE, WATCHDOG, RELOADING, READY',
  );
  manager.child.end();
  t.same(await manager.child.exited, { code: 0, signal: null });
  t.equal(ended(manager), 0, 'STOPPING');
});

await t.test('a service manager that does not read', withPython, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const manager = managed(t, bed, a);
  const { daemon } = manager;
  await manager.ready(1);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const { pid } = await daemon.call('daemon.status', {});
  process.kill(manager.child.pid, 'SIGSTOP');
  t.teardown(() => {
    manager.child.signal('SIGCONT');
  });
  // More than the kernel keeps for it.
  const limit = Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8'));
  for (let index = 0; index < Math.min(limit, 64) + 4; index++)
    await daemon.call('vnic.create', { name: `foo${index}`, over: 'overlay0', temporary: false });
  t.equal((await daemon.call('daemon.status', {})).pid, pid, 'it goes on');
  process.kill(pid, 'SIGTERM');
  await waitUntil(() => !isRunning(pid), { what: 'the end' });
  t.pass('SIGTERM ends it');
});

await t.test('signs of life when descriptors have run out', withPython, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const manager = managed(t, bed, a);
  const { daemon } = manager;
  await manager.ready(1);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const { pid } = await daemon.call('daemon.status', {});
  await limitFiles(pid, '10:');
  const before = manager.count('WATCHDOG');
  await waitUntil(() => manager.count('WATCHDOG') > before + 5, { what: 'more signs of life' });
  const client = daemon.call('daemon.status', {}).catch((error: unknown) => error as Error);
  await limitFiles(pid, '4096:');
  t.match(await client, { pid }, 'a client that came meanwhile is answered');
  await daemon.ok('delete-overlay overlay0');
  manager.child.end();
  t.same(await manager.child.exited, { code: 0, signal: null });
  t.equal(ended(manager), 0);
});
