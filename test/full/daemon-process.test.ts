// varpd as a command: starting, ending, signals. No overlay is made: that needs root, and is tested in test/netns.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { createClient } from '../../src/control/client.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { Child, type Exit, type Result, run, waitUntil } from '../helpers/process.js';
import { residentConstantsKib } from '../helpers/procfs.js';

interface Context {
  teardown(work: () => unknown): unknown;
}

function newDirectory(t: Context): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

const VARPD = [fromRoot('dist/src/daemon/main.js')];
/** Nothing here is about whom root becomes. */
const AS_IT_IS = process.getuid?.() === 0 ? 'user: root\n' : '';

interface Running {
  readonly child: Child;
  readonly socket: string;
  readonly log: () => string;
}

function spawnVarpd(t: Context, file: string): Omit<Running, 'socket'> {
  const child = new Child([process.execPath, ...VARPD, '--config', file, '--foreground']);
  t.teardown(() => child.stop('SIGKILL'));
  return { child, log: () => child.stderr };
}

async function startVarpd(t: Context, directory: string, config = ''): Promise<Running> {
  const socket = path.join(directory, 'varpd.sock');
  const file = path.join(directory, 'varpd.yaml');
  writeFileSync(file, `socket: ${socket}\nstateDir: ${directory}/state\n${config}${AS_IT_IS}`);
  const varpd = spawnVarpd(t, file);
  await waitUntil(() => varpd.log().includes(' serves ') || varpd.child.ended, {
    what: 'varpd to listen',
  });
  return { ...varpd, socket };
}

/** Runs varpd to its end, or until it has become a daemon. */
const varpd = (...args: string[]): Promise<Result> => run([process.execPath, ...VARPD, ...args]);

const CLEAN: Exit = { code: 0, signal: null };

// Each has a directory and a varpd of its own, and waits for them most of the time.
t.jobs = 4;

t.test('varpd ends cleanly, and once', async (t) => {
  for (const signals of [['SIGTERM'], ['SIGINT', 'SIGTERM', 'SIGTERM']] as const) {
    const { child, socket } = await startVarpd(t, newDirectory(t));
    t.match(await createClient(socket)('daemon.status', {}), { pid: child.pid, overlays: 0, vnics: 0 });
    t.equal(statSync(socket).mode & 0o777, 0o660);
    for (const signal of signals) child.signal(signal);
    t.same(await child.exited, CLEAN);
    t.notOk(existsSync(socket));
  }
});

t.test('a second varpd refuses, and a killed one is replaced', async (t) => {
  const directory = newDirectory(t);
  const first = await startVarpd(t, directory);
  const config = path.join(directory, 'varpd.yaml');
  const same = await varpd('--config', config, '--foreground');
  t.match(same, {
    code: 7,
    stderr: new RegExp(`^varpd: another varpd \\(process ${first.child.pid}\\) uses the state`),
  });
  const other = path.join(directory, 'other.yaml');
  writeFileSync(other, `${AS_IT_IS}stateDir: ${directory}/other\n`);
  const socket = await varpd('--config', other, '--socket', first.socket, '--foreground');
  t.match(socket, { code: 7, stderr: `varpd: another varpd serves ${first.socket}\n` });
  await first.child.stop('SIGKILL');
  t.ok(existsSync(first.socket), 'stale');
  const next = await startVarpd(t, directory);
  t.match(await createClient(next.socket)('daemon.status', {}), { pid: next.child.pid });
});

t.test('SIGHUP applies what can be applied and says what cannot', async (t) => {
  const directory = newDirectory(t);
  const { child, socket, log } = await startVarpd(t, directory);
  const reload = async (config: string, expected: RegExp): Promise<void> => {
    writeFileSync(path.join(directory, 'varpd.yaml'), `${config}${AS_IT_IS}`);
    child.signal('SIGHUP');
    await waitUntil(() => expected.test(log()), { what: String(expected) });
    t.match(log(), expected);
  };
  const same = `socket: ${socket}\nstateDir: ${directory}/state\n`;
  await reload(same, /nothing has changed/);
  await reload(`${same}group: root\n`, /group has changed: takes effect at the next start/);
  await reload(
    `${same}limits: {clients: 0}\n`,
    /configuration not reloaded: .*varpd\.yaml:3:19: limits\.clients: found a number, expected/,
  );
  await reload(`${same}limits: {clients: 1}\n`, /limits\.clients has changed: applied/);
  t.match(await createClient(socket)('daemon.status', {}), { pid: child.pid });
});

t.test('a SIGHUP or SIGUSR2 that comes while it loads does not end it, and is obeyed then', async (t) => {
  for (const [signal, obeyed] of [
    ['SIGHUP', / serves [^]*nothing has changed/],
    ['SIGUSR2', /varpd restarts[^]* serves /],
  ] as const) {
    const directory = newDirectory(t);
    const [file, socket] = ['varpd.yaml', 'varpd.sock'].map((name) => path.join(directory, name));
    const config = `${AS_IT_IS}socket: ${socket}\nstateDir: ${directory}/state\n`;
    // Whoever reads a FIFO waits for somebody who writes. Root reads twice: before and after it has given up rights.
    const places = [file, `${file}.second`, `${file}.last`];
    t.equal(spawnSync('mkfifo', places.slice(0, 2)).status, 0);
    writeFileSync(places[2], config);
    const { child, log } = spawnVarpd(t, file);
    const step = (): boolean => {
      try {
        const fd = openSync(file, constants.O_WRONLY | constants.O_NONBLOCK);
        if (places.length > 1) {
          child.signal(signal);
          renameSync(places[1], file);
          places.shift();
          writeSync(fd, config);
        }
        closeSync(fd);
      } catch {
        // nobody reads yet
      }
      return obeyed.test(log()) || child.ended;
    };
    await waitUntil(step, { what: `${signal} to be obeyed` });
    t.match(log(), obeyed, signal);
    t.match(await createClient(socket)('daemon.status', {}), { pid: child.pid });
  }
});

t.test('in the background: it returns when the daemon is ready, or says why it is not', async (t) => {
  const directory = newDirectory(t);
  const socket = path.join(directory, 'varpd.sock');
  const config = path.join(directory, 'varpd.yaml');
  writeFileSync(config, `${AS_IT_IS}stateDir: ${directory}/state\n`);
  const good = await varpd('--config', config, '--socket', socket);
  t.match(good, { code: 0, stdout: '', stderr: '' });
  const { pid } = await createClient(socket)('daemon.status', {});
  t.teardown(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended, as it should
    }
  });
  t.match(await varpd('--config', config, '--socket', socket), { code: 7, stderr: /another varpd/ });
  t.match(readFileSync(path.join(directory, 'state/varpd.log'), 'utf8'), /info varpd .* serves /);
  process.kill(pid, 'SIGTERM');
  await waitUntil(() => !existsSync(socket), { what: 'varpd to end' });

  writeFileSync(config, 'socket: x\ncolour: blue\n');
  t.match(await varpd('--config', config), {
    code: 7,
    stderr:
      /^varpd: .*varpd\.yaml:1:9: socket: found another text, .*\nvarpd: .*varpd\.yaml:2:1: unknown key/,
  });
  writeFileSync(config, `${AS_IT_IS}stateDir: ${directory}/state\n`);
  t.match(await varpd('--config', config, '-i', '/nowhere'), {
    code: 4,
    stderr: 'varpd: pluginPath: failed to load from /nowhere: no such file or directory\n',
  });
  chmodSync(path.join(directory, 'state'), 0o777);
  t.match(await varpd('--config', config), {
    code: 6,
    stderr: /state directory .*writable by group or others/,
  });
});

t.test('the service file', { skip: skipUnless({ programs: ['systemd-analyze'] }) }, (t) => {
  const analyze = (...args: string[]) =>
    spawnSync('systemd-analyze', args, { encoding: 'utf8', timeout: 60_000 });
  const unit = fromRoot('config/varpd.service');
  const { stdout } = analyze('security', '--offline=true', '--no-pager', unit);
  const [line, level] = /Overall exposure level for varpd\.service: ([\d.]+) /.exec(stdout) ?? [];
  t.ok(Number(level) <= 2.0, line ?? 'no level');
  const text = readFileSync(unit, 'utf8');
  const [, command, args] = /^ExecStart=(\S+) (.*)$/m.exec(text) ?? [];
  t.match([command, args], [/\/varpd$/, '--foreground']);
  // It is verified for programs that are there, and varpd need not be installed.
  const copy = path.join(newDirectory(t), 'varpd.service');
  writeFileSync(copy, text.replace(`ExecStart=${command}`, `ExecStart=${process.execPath} ${VARPD[0]}`));
  t.match(analyze('verify', '--man=no', copy), { status: 0, stderr: '' });
  t.end();
});

t.test('every thread may do what it must, and no more', { skip: skipUnless({ root: true }) }, async (t) => {
  const { child } = await startVarpd(t, newDirectory(t));
  const tasks = readdirSync(`/proc/${child.pid}/task`);
  t.ok(tasks.length > 5);
  for (const task of tasks) {
    const status = readFileSync(`/proc/${child.pid}/task/${task}/status`, 'utf8');
    t.match(status, /^CapPrm:\s*0000000000001000\nCapEff:\s*0000000000001000\nCapBnd:\s*0000000000001000$/m);
    t.match(status, /^NoNewPrivs:\s*1$/m);
  }
  const environment = readFileSync(`/proc/${child.pid}/environ`, 'latin1');
  t.notMatch(environment, /VARPD_WITHOUT_RIGHTS/, 'the process that was started is the one that runs');
});

/** A Node whose constants are in a part of the file with its code has none of them here. */
const SOME_KIB = 4096;
const hasConstants = residentConstantsKib(process.pid) > SOME_KIB;

t.test('the parts of Node that a start alone uses do not stay', { skip: !hasConstants }, async (t) => {
  const { child } = await startVarpd(t, newDirectory(t));
  const isReleased = (): boolean => residentConstantsKib(child.pid) < SOME_KIB;
  await waitUntil(isReleased, { what: 'the constants of Node to be released' });
});

t.test('the command line', async (t) => {
  const help = await varpd('--help');
  t.match(help, { code: 0, stdout: /^usage: varpd \[--config FILE\]/ });
  t.equal((await varpd('-h')).stdout, help.stdout);
  t.match(await varpd('--version'), { code: 0, stdout: /^varpd \d+\.\d+\.\d+\n$/ });
  t.match(await varpd('--colour'), {
    code: 2,
    stderr: /^varpd: unknown option '--colour'\nvarpd: usage: /,
  });
  t.match(await varpd('--chek'), {
    code: 2,
    stderr: /^varpd: unknown option '--chek': did you mean --check\?\nvarpd: usage: /,
  });
  t.match(await varpd('extra'), { code: 2, stderr: /^varpd: unexpected argument 'extra'\nvarpd: usage:/ });
  t.match(await varpd('sotp'), {
    code: 2,
    stderr: /^varpd: unexpected argument 'sotp': did you mean stop\?\nvarpd: usage:/,
  });
});
