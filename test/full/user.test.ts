// Whom varpd becomes when root starts it, what is handed over to that user, and that nothing in its process comes back to root.
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';

import t from 'tap';

import { createClient } from '../../src/control/client.js';
import { Daemon, directOverlay, VARPD_MAIN } from '../helpers/daemon.js';
import { daemonUser, startable } from '../helpers/daemon-user.js';
import { filler, udpFrame } from '../helpers/frames.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { exec, waitUntil } from '../helpers/process.js';
import { Manager } from '../helpers/service-manager.js';
import { newHosts } from '../helpers/site.js';
import { linkOf, ringReads } from '../helpers/procfs.js';
import { reaches, sendFrames } from '../helpers/traffic.js';
import { part } from '../helpers/whole.js';

const skip = skipUnlessNetns(['unshare', 'setpriv', 'python3']);
const SAYS_ROOT = /varpd goes on as root/;
const WAYS = fromRoot('dist/test/helpers/ways-to-root');

const MAKE_SOCKETS = `
import socket, sys
for name in 'varpd.sock', 'other.sock': socket.socket(socket.AF_UNIX).bind(sys.argv[1] + '/' + name)
`;

/** An option of node's child_process is a way, too. Each says what came of it; `done` is what must not be. */
const plugin = (victim: string, shell: string, stateDir: string, report: string): string => `
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';

const victim = ${JSON.stringify(victim)};
const stateDir = ${JSON.stringify(stateDir)};
const opened = (file, flags) => fs.closeSync(fs.openSync(file, flags));
const uidOf = (command, args = [], options = {}) => {
  const { stdout, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 5000, ...options });
  if (error) throw error;
  if (stdout.trim() !== '0') throw new Error('it is user ' + stdout.trim());
};
const ways = {
  'process.setuid': () => process.setuid(0),
  'process.seteuid': () => process.seteuid(0),
  'process.setgid': () => process.setgid(0),
  'process.setgroups': () => process.setgroups([0]),
  'spawn as root': () => uidOf('id', ['-u'], { uid: 0 }),
  'a program of root with the set-user-ID bit': () => uidOf(${JSON.stringify(shell)}, ['-u']),
  'su': () => uidOf('su', ['-c', 'id -u'], { input: '' }),
  'unshare, for root of a namespace': () => uidOf('unshare', ['-r', 'id', '-u']),
  'a new file in /etc': () => fs.writeFileSync('/etc/varpd-was-here', ''),
  '/etc/passwd': () => opened('/etc/passwd', 'a'),
  '/etc/shadow': () => opened('/etc/shadow', 'r'),
  'a file of root': () => fs.writeFileSync(victim, 'varpd'),
  'its mode': () => fs.chmodSync(victim, 0o666),
  'its owner': () => fs.chownSync(victim, process.getuid(), process.getgid()),
  'another file in its place': () => fs.renameSync(victim, victim + '.old'),
  'the program of varpd': () => opened(process.argv[1], 'r+'),
  'the program node': () => opened(process.execPath, 'r+'),
  'the program that the kernel runs at a crash': () => opened('/proc/sys/kernel/core_pattern', 'r+'),
  'the memory of process 1': () => opened('/proc/1/mem', 'r+'),
  'the files of process 1': () => fs.readdirSync('/proc/1/root/'),
  'a signal to process 1': () => process.kill(1, 0),
  'control groups': () => fs.mkdirSync('/sys/fs/cgroup/varpd-was-here'),
  'a file in the state directory of varpd': () => fs.symlinkSync(victim, stateDir + '/varpd.log'),
  'a signal to varpd': () => {
    const pids = fs.readdirSync('/proc').filter((pid) => /^\\d+$/.test(pid));
    const varpds = pids.filter((pid) => fs.readFileSync('/proc/' + pid + '/comm', 'utf8') === 'varpd\\n');
    if (varpds.length === 0) return;
    for (const pid of varpds) process.kill(Number(pid), 0);
  },
};
const found = {};
for (const [name, way] of Object.entries(ways))
  try {
    way();
    found[name] = 'done';
  } catch (error) {
    found[name] = String(error.message);
  }
const native = spawnSync(${JSON.stringify(WAYS)}, { encoding: 'utf8', timeout: 20000 });
const report = ${JSON.stringify(report)};
fs.writeFileSync(report + '.new', JSON.stringify({ found, native: native.stdout, error: native.stderr }));
fs.renameSync(report + '.new', report);
export default { name: 'wayback', apiVersion: 2, create: () => ({ lookup: () => null }) };
`;

/** Name and errno of each line that ways-to-root.c prints. */
const answers = (text: string): Map<string, number> =>
  new Map(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(' '))
      .map(([name, errno]) => [name, Number(errno)]),
  );

/** EPERM, EACCES; ENOSYS of what is to look as if the kernel did not have it. */
const REFUSED = [1, 13, 38];

function status(pid: number): string {
  return readFileSync(`/proc/${pid}/status`, 'utf8');
}

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

t.test('a plugin finds no way back to root', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const [plugins, roots] = [bed.directory(), bed.directory()];
  const victim = path.join(roots, 'victim');
  writeFileSync(victim, 'of root\n');
  const shell = path.join(roots, 'id');
  copyFileSync((await exec(['sh', '-c', 'command -v id'])).trim(), shell);
  chmodSync(shell, 0o4755);
  const daemon = new Daemon(bed, a, { pluginPath: [plugins] }).explain(t);
  const report = path.join(daemon.pluginState('wayback'), 'report.json');
  mkdirSync(path.join(plugins, 'wayback'));
  writeFileSync(path.join(plugins, 'wayback/package.json'), '{"type":"module"}');
  writeFileSync(path.join(plugins, 'wayback/index.js'), plugin(victim, shell, daemon.stateDir, report));
  await daemon.start();
  await waitUntil(() => existsSync(report), { what: 'the report of the plugin' });
  const { found, native, error } = JSON.parse(readFileSync(report, 'utf8')) as {
    found: Record<string, string>;
    native: string;
    error: string;
  };
  t.ok(Object.keys(found).length >= 20, `${Object.keys(found).length} ways`);
  for (const [name, what] of Object.entries(found)) t.not(what, 'done', `${name}: ${what}`);
  const asVarpd = answers(native);
  t.ok(asVarpd.size >= 20, `${asVarpd.size} system calls ${error}`);
  for (const [name, errno] of asVarpd) t.ok(REFUSED.includes(errno), `${name}: errno ${errno}`);
  // Of a kernel that lets root do it, the same calls: these are no calls that fail for another reason.
  const asRoot = answers(await exec(['unshare', '--mount', WAYS]));
  const told = [...asRoot].filter(([, errno]) => !REFUSED.includes(errno)).map(([name]) => name);
  t.ok(told.length >= 20, `root may: ${told.join(', ')}`);

  await daemon.stop();
  // For the next start by root: links that lead elsewhere, where that start looks.
  const { uid, gid } = daemonUser();
  for (const name of ['varpd.log', 'links', 'overlay9.json', 'plugins.sock', 'plugins.sock.new']) {
    const link = path.join(daemon.stateDir, name);
    rmSync(link, { force: true });
    symlinkSync(victim, link);
    lchownSync(link, uid, gid);
  }
  await daemon.start();
  t.equal(
    readFileSync(victim, 'utf8'),
    'of root\n',
    'what leads to it from the state directory leads nowhere',
  );
  t.match(lstatSync(victim), { uid: 0, nlink: 1 });
  t.equal(statSync(victim).mode & 0o777, 0o644);
});

t.test('without a name in the configuration it is the user varpd', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const { uid, gid } = daemonUser();
  const daemon = await Daemon.start(bed, a);
  const ids = (name: string): string[] =>
    new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status(daemon.pid))?.[1].split('\t') ?? [];
  t.strictSame([...new Set(ids('Uid')), ...new Set(ids('Gid'))], [`${uid}`, `${gid}`]);
  t.match(status(daemon.pid), /^CapEff:\s+0000000000001000$/m, 'CAP_NET_ADMIN');
  t.match(status(daemon.pid), /^CapBnd:\s+0000000000001000$/m);
  for (const task of readdirSync(`/proc/${daemon.pid}/task`)) {
    const text = readFileSync(`/proc/${daemon.pid}/task/${task}/status`, 'utf8');
    if (!/^Seccomp:\s+2$/m.test(text)) t.fail(`thread ${task} may make any system call`);
  }
  const filters = (): string | undefined => /^Seccomp_filters:\s+(\d+)$/m.exec(status(daemon.pid))?.[1];
  const before = filters();
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('restart');
  t.equal(filters(), before, 'a restart adds no filter');
  t.strictSame([...new Set(ids('Uid'))], [`${uid}`]);
});

/** Made before it may make none, and left to each process that it becomes. */
t.test('it reads small frames many a call, after a restart too', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const daemon = await Daemon.start(bed, a, {});
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await a.plumb('overlay0');
  const rings = (): string[] =>
    readdirSync(`/proc/${daemon.pid}/fd`).filter(
      (fd) => linkOf(`/proc/${daemon.pid}/fd/${fd}`) === 'anon_inode:[io_uring]',
    );
  const reads = (): number => rings().reduce((sum, fd) => sum + ringReads(daemon.pid, Number(fd)), 0);
  const isReadByRing = async (): Promise<void> => {
    const before = reads();
    const burst = Array.from({ length: 60 }, () => udpFrame({ payload: filler(20) }));
    await waitUntil(
      async () => {
        await sendFrames(a, 'overlay0', burst);
        return reads() > before;
      },
      { what: 'reads by a ring' },
    );
  };
  const count = rings().length;
  t.equal(count, Math.min(16, availableParallelism()), 'one for each processor');
  await isReadByRing();
  await daemon.ok('restart');
  t.equal(rings().length, count, 'after a restart');
  await isReadByRing();
});

t.test('user: root has it stay root, with CAP_NET_ADMIN alone', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const daemon = new Daemon(bed, a, { config: { user: 'root' } });
  await daemon.start();
  t.match(status(daemon.pid), /^Uid:\s+0\t0\t0\t0$/m);
  t.match(status(daemon.pid), /^CapEff:\s+0000000000001000$/m);
  t.match(status(daemon.pid), /^Seccomp:\s+2$/m);
  await daemon.ok('restart');
  t.notMatch(daemon.log(), /goes on as root/, 'as it was told');
});

t.test('what an older varpd has left as root is handed over', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const { uid, gid } = daemonUser();
  const owner = (file: string): number[] => [lstatSync(file).uid, lstatSync(file).gid];
  const daemon = new Daemon(bed, a, { config: { user: 'root' } }).explain(t);
  const sockets = path.join(daemon.directory, 'run');
  const keys = {
    persistTaps: true,
    socket: path.join(sockets, 'varpd.sock'),
    log: { file: path.join(daemon.directory, 'own.log') },
  };
  daemon.useSocket(keys.socket);
  daemon.writeConfig({ user: 'root', ...keys });
  await daemon.start();
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  const number = await a.exec('cat /sys/class/net/foo0/ifindex');
  await daemon.kill();
  t.ok(existsSync(keys.socket), 'a socket is left');
  for (const file of [daemon.stateDir, sockets, keys.log.file]) t.same(owner(file), [0, 0]);

  await t.test('not by a restart, which is refused where the user is another one', async (t) => {
    await daemon.start();
    daemon.writeConfig(keys);
    const { code, stderr } = await daemon.dladm('restart');
    t.equal(code, 7, 'it is another one than when varpd was started');
    t.match(stderr, /user: it is another one than when varpd was started: only a stop and a start/);
    await daemon.kill();
  });

  daemon.writeConfig(keys);
  await t.test('not while another varpd has it', async (t) => {
    daemon.writeConfig({ user: 'root', ...keys });
    await daemon.start();
    const other = path.join(bed.directory(), 'varpd.yaml');
    writeFileSync(other, `stateDir: ${daemon.stateDir}\nsocket: ${daemon.directory}/other/varpd.sock\n`);
    const { code, stderr } = await a.run(startable(bed, [process.execPath, VARPD_MAIN, '--config', other]));
    t.equal(code, 7);
    t.match(stderr, new RegExp(`another varpd \\(process ${daemon.pid}\\) uses the state directory`));
    t.same(owner(daemon.stateDir), [0, 0]);
    await daemon.kill();
    daemon.writeConfig(keys);
  });

  const victim = path.join(bed.directory(), 'victim');
  writeFileSync(victim, 'of root\n');
  symlinkSync(victim, path.join(daemon.stateDir, 'overlay1.json'));
  linkSync(victim, path.join(daemon.stateDir, 'overlay2.json'));
  await daemon.start();
  t.same(owner(victim), [0, 0], 'what a link leads to, and what has a second name, is not');
  for (const name of ['overlay1.json', 'overlay2.json'])
    rmSync(path.join(daemon.stateDir, name), { force: true });
  for (const name of readdirSync(daemon.stateDir))
    if (name.includes('.bad-')) rmSync(path.join(daemon.stateDir, name));
  t.match(status(daemon.pid), new RegExp(`^Uid:\\s+${uid}\\s`, 'm'));
  for (const file of [daemon.stateDir, keys.log.file]) t.same(owner(file), [uid, gid], file);
  t.equal(owner(sockets)[0], uid);
  // The socket of the spawner is made by root at each start.
  for (const name of readdirSync(daemon.stateDir).filter((each) => each !== 'plugins.sock'))
    t.equal(owner(path.join(daemon.stateDir, name))[0], uid, name);
  t.equal(await a.exec('cat /sys/class/net/foo0/ifindex'), number, 'the link is the same');
  const [link] = JSON.parse(await a.ip('-d -j link show dev foo0')) as [
    { linkinfo: { info_data: { user: string } } },
  ];
  t.equal(link.linkinfo.info_data.user, 'varpd', 'and its own');
  t.match(await daemon.ok('show-vnic -p -o link,state'), /foo0:up/);
  await daemon.ok('create-vnic -l overlay0 bar0');
  await daemon.restart();
  t.equal((await daemon.vnics()).length, 2, 'it writes and reads');
});

/** As the process that a restart of an older version becomes: root's number with CAP_NET_ADMIN alone, which it cannot change. */
const AS_OLDER =
  'set -- env VARPD_WITHOUT_RIGHTS=1 setpriv --no-new-privs --bounding-set=-all,+net_admin ' +
  '--inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin "$@"';

t.test('after a restart of an older varpd it goes on as root, and says so', { skip }, async (t) => {
  for (const keys of [{}, { user: null }, { user: 'varpd' }].slice(0, part(3))) {
    const { bed, a, b } = await newHosts(t);
    const older = { before: AS_OLDER, config: { user: null } };
    const manager = new Manager(bed, a, { WATCHDOG_USEC: '10000000' }, older);
    const { daemon } = manager;
    chownSync(daemon.directory, 0, 0);
    await manager.ready(1);
    const { pid } = await createClient(daemon.socket)('daemon.status', {});
    t.match(status(pid), /^Uid:\s+0\t0\t0\t0$/m);
    await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
    daemon.writeConfig(keys);
    const { code, stderr } = await daemon.dladm('restart');
    t.equal(code, 0, `${JSON.stringify(keys)}: ${stderr}`);
    t.match(
      stderr,
      /user: varpd goes on as root, .*: only a stop and a start make it 'varpd'/,
      'on the screen',
    );
    const said = (): boolean =>
      manager.lines().some(({ message }) => SAYS_ROOT.test(message?.['STATUS'] ?? ''));
    await waitUntil(said, { what: 'the service manager to be told' });
    t.match(status(pid), /^Uid:\s+0\t0\t0\t0$/m, 'the same process, as it was');
    t.match(status(pid), /^CapEff:\s+0000000000001000$/m);
    t.equal((await daemon.overlays())[0].health.status, 'ONLINE');
  }
});

t.test('nothing is handed over that may be anything else', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const place = bed.directory();
  const config = path.join(place, 'varpd.yaml');
  const cases: readonly [string, (directory: string) => unknown, Record<string, string>, RegExp][] = [
    [
      'a directory of other things as stateDir',
      (directory) => {
        writeFileSync(path.join(directory, 'data'), '');
      },
      { stateDir: '' },
      /state directory .*: it belongs to user 0 \(root\), expected/,
    ],
    [
      'a directory of other things for the socket',
      (directory) => {
        writeFileSync(path.join(directory, 'data'), '');
      },
      { socket: '/varpd.sock' },
      /cannot listen on .*varpd.sock: permission denied/,
    ],
    [
      'sockets of others beside the one of varpd',
      (directory) => exec(['python3', '-c', MAKE_SOCKETS, directory]),
      { socket: '/varpd.sock' },
      /varpd\.sock is there and belongs to user 0 \(root\), not to \d+ \(varpd\)/,
    ],
    [
      'a file of others as the log',
      () => undefined,
      { 'log.file': fileOf(place) },
      /log\.file: cannot open .*: permission denied to user \d+ \(varpd\)/,
    ],
  ];
  for (const [what, fill, keys, expected] of cases) {
    const directory = bed.directory();
    await fill(directory);
    const lines = {
      stateDir: path.join(bed.directory(), 'state'),
      socket: path.join(bed.directory(), 'run/varpd.sock'),
      ...Object.fromEntries(
        Object.entries(keys).map(([key, value]) => [
          key,
          value.startsWith(place) ? value : `${directory}${value}`,
        ]),
      ),
    };
    writeFileSync(
      config,
      Object.entries(lines)
        .map(([key, value]) => (key === 'log.file' ? `log: { file: ${value} }\n` : `${key}: ${value}\n`))
        .join(''),
    );
    const varpd = [process.execPath, VARPD_MAIN, '--config', config, '--foreground'];
    const { code, stderr } = await a.run(startable(bed, varpd));
    t.equal(code, 6, `${what}: refused`);
    t.match(stderr, expected, what);
    t.equal(lstatSync(directory).uid, 0, `${what}: it is still root's`);
  }
});

/** A file of root's. */
function fileOf(place: string): string {
  const file = path.join(place, 'passwd');
  writeFileSync(file, 'root:x:0:0:root:/root:/bin/bash\n');
  return file;
}

t.test('what is missing is said, with what to do', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const place = bed.directory();
  const config = path.join(place, 'varpd.yaml');
  const keys = `stateDir: ${place}/state\nsocket: ${place}/run/varpd.sock\n`;
  const varpd = [VARPD_MAIN, '--config', config, '--foreground'];
  const start = (before: string, node = process.execPath) => a.run(startable(bed, [node, ...varpd], before));
  writeFileSync(config, keys);
  const without = path.join(place, 'passwd');
  writeFileSync(without, readFileSync('/etc/passwd', 'utf8').replace(/^varpd:.*\n/m, ''));
  const noUser = await start(`mount --bind ${without} /etc/passwd`);
  t.equal(noUser.code, 7);
  t.match(
    noUser.stderr,
    /^varpd: user: there is no user 'varpd', .*: 'useradd --system .* varpd' as root makes it\n$/,
  );
  const made = await a.run([
    'sh',
    '-c',
    `mount -t tmpfs tmpfs /mnt && cp -a /etc/. /mnt && mount --move /mnt /etc && ` +
      `sed -i /^varpd:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow && ${/'(useradd .*)' as root/.exec(noUser.stderr)?.[1]} && id -u varpd`,
  ]);
  t.equal(made.code, 0, `the line does: ${made.stderr}`);

  const closed = path.join(place, 'closed');
  mkdirSync(closed, { mode: 0o700 });
  const node = path.join(closed, 'node');
  const program = await start(`touch ${node} && mount --bind ${process.execPath} ${node}`, node);
  t.equal(program.code, 6);
  t.match(
    program.stderr,
    /^varpd: the user of varpd, 'varpd', cannot run \S+\/closed\/node: permission denied: put it/,
  );
  chmodSync(config, 0o600);
  const unread = await start('true');
  t.match(
    unread.stderr,
    /^varpd: the user of varpd, 'varpd', cannot read \S+varpd\.yaml: permission denied: put it/,
  );
});

t.test('who may not open /dev/net/tun is told so', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const daemon = await Daemon.start(bed, a, { before: 'chmod 600 /dev/net/tun' });
  const { code, stderr } = await daemon.dladm(
    ...directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }).split(/\s+/),
  );
  t.equal(code, 6);
  t.match(
    stderr,
    /overlay0: varpd runs as user \d+ \(varpd\), who may not open \/dev\/net\/tun: 'chmod 666 \/dev\/net\/tun'/,
  );
  await exec(['chmod', '666', daemon.inside('/dev/net/tun')]);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await a.plumb('overlay0');
  t.notOk(await reaches(a, '10.55.55.99', 300), 'nobody is there');
});
