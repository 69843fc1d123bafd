#!/usr/bin/env node
// Makes a fresh clone ready for one goal:  node src/setup.mjs [build | test | demo | bench | faults | fuzz | soak]
//
// In order: Node's version, the system programs the goal needs, node modules, the C parts, TypeScript, the programs in few
// files (bundle.mjs); and, as root, the user that varpd runs as.
// Each step looks first whether there is anything to do and says nothing when there is not, so that this can
// stand before every run. Only node: modules are imported, since it has to work before any other is installed.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = 20;
const DAEMON_USER = 'varpd';
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const goals = ['build', 'test', 'demo', 'bench', 'faults', 'fuzz', 'soak'];
const goal = process.argv[2] ?? 'build';

// program -> Debian packages, and the goals that want it. A compiler alone cannot compile: libc6-dev has the headers.
// says: what it answers to -V, where there is another program of that name.
const programs = {
  cc: { packages: ['gcc', 'libc6-dev'], goals },
  ip: { packages: ['iproute2'], goals: ['demo', 'test', 'bench', 'faults', 'fuzz', 'soak'] },
  ping: { packages: ['iputils-ping'], goals: ['demo', 'test', 'bench', 'faults', 'fuzz', 'soak'] },
  ethtool: { packages: ['ethtool'], goals: ['test', 'bench'] },
  iperf3: { packages: ['iperf3'], goals: ['test', 'bench'] },
  faketime: { packages: ['faketime', 'libfaketime'], goals: ['test', 'faults'] },
  clang: { packages: ['clang', 'libclang-rt-14-dev'], goals: ['fuzz'] },
  tcpdump: { packages: ['tcpdump'], goals: ['test'] },
  tshark: { packages: ['tshark'], goals: ['test'] },
  arping: { packages: ['iputils-arping'], goals: ['test'], says: 'iputils' },
  ndisc6: { packages: ['ndisc6'], goals: ['test'] },
  dnsmasq: { packages: ['dnsmasq-base'], goals: ['demo', 'test'] },
  udhcpc: { packages: ['udhcpc'], goals: ['demo', 'test'] },
  dhclient: { packages: ['isc-dhcp-client'], goals: ['test'] },
  dhcpcd: { packages: ['dhcpcd-base'], goals: ['test'] },
  keepalived: { packages: ['keepalived'], goals: ['test'] },
  'avahi-autoipd': { packages: ['avahi-autoipd'], goals: ['test'] },
  python3: { packages: ['python3'], goals: ['test'] },
  '/usr/lib/python3/dist-packages/prometheus_client': {
    packages: ['python3-prometheus-client'],
    goals: ['test'],
  },
  promtool: { packages: ['prometheus'], goals: ['test'] },
  nft: { packages: ['nftables'], goals: ['test'] },
  'wireguard-go': { packages: ['wireguard-go'], goals: ['test'] },
  'wg-quick': { packages: ['wireguard-tools'], goals: ['test'] },
  bindfs: { packages: ['bindfs'], goals: ['test', 'faults'] },
  'systemd-analyze': { packages: ['systemd'], goals: ['test'] },
  'ovs-vsctl': { packages: ['openvswitch-switch'], goals: ['test'] },
  'ovs-vswitchd': { packages: ['openvswitch-switch'], goals: ['test'] },
};

// C programs beside the tests: source -> the goals that build it. Each becomes dist/<same path without .c>.
const helperSources = {
  'test/helpers/rawframe.c': ['test', 'bench', 'faults', 'fuzz', 'soak'],
  'test/helpers/flow-order.c': ['test'],
  'test/helpers/ways-to-root.c': ['test'],
  'test/faults/mishap.c': ['test', 'faults'],
  'test/bench/plain-forwarder.c': ['bench'],
  'test/bench/udp-load.c': ['test', 'bench', 'faults', 'soak'],
};

// Those of them that are loaded into other programs (LD_PRELOAD).
const sharedSources = ['test/faults/mishap.c'];

const compiler = (process.env.CC || 'cc').split(/\s+/);
const warnings = ['-Wall', '-Wextra', '-Werror', '-std=gnu11'];

const inRoot = (...parts) => path.join(root, ...parts);
const say = (text) => console.log(`setup: ${text}`);
function fail(text) {
  console.error(`setup: ${text}`);
  process.exit(1);
}

/** Modification time in ms; 0 when there is no such file, which makes it older than everything. */
const mtimeMs = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Every file under a directory whose name the filter accepts; nothing when the directory is absent. */
function filesUnder(directory, accept) {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && accept(entry.name))
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) say(`${command}: ${result.error.message}`);
  return result.status === 0;
}

function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < OLDEST_NODE) fail(`Node.js ${OLDEST_NODE} or newer is needed, this is ${process.version}`);
}

/** The system directories are searched too: they are not on the path of an ordinary user on Debian. */
function hasProgram(name) {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  const wanted = name === 'cc' ? compiler[0] : name;
  if (wanted.includes('/')) return fs.existsSync(wanted);
  const { says } = programs[name] ?? {};
  return directories
    .filter((directory) => directory !== '')
    .map((directory) => path.join(directory, wanted))
    .some((file) => fs.existsSync(file) && (says === undefined || versionOf(file).includes(says)));
}

const versionOf = (file) => spawnSync(file, ['-V'], { encoding: 'utf8', timeout: 5000 }).stdout ?? '';

const missingPrograms = () =>
  Object.keys(programs).filter((name) => programs[name].goals.includes(goal) && !hasProgram(name));
const packagesOf = (names) => [...new Set(names.flatMap((name) => programs[name].packages))];

function aptInstall(packages) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Nothing that is there is removed for it: one of two packages that exclude each other was chosen by somebody.
  const options = ['-qq', '--no-remove', '-o', 'DPkg::Lock::Timeout=300'];
  const apt = (...args) =>
    run('apt-get', [...options, ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const install = (...names) => apt('install', '-y', '--no-install-recommends', ...names);
  apt('update');
  // One package that this release does not have makes apt-get refuse all of them: then go one by one.
  if (!install(...packages)) for (const name of packages) install(name);
}

function ensurePrograms() {
  if (process.env.CC && !hasProgram('cc')) fail(`the compiler that CC names is not there: ${process.env.CC}`);
  let missing = missingPrograms();
  if (missing.length === 0) return;
  const byHand = `apt-get install -y --no-install-recommends ${packagesOf(missing).join(' ')}`;
  say(`missing: ${missing.join(', ')}; installed by: ${byHand}`);
  if (process.getuid?.() === 0 && hasProgram('apt-get')) {
    aptInstall(packagesOf(missing));
    missing = missingPrograms();
  }
  if (missing.length === 0) return;
  const rest = `${missing.join(', ')} not found; as root: apt-get install -y --no-install-recommends ${packagesOf(missing).join(' ')}`;
  // Tests skip, with the reason, what they have no program for; without a compiler there is nothing to test.
  if (goal === 'test' && !missing.includes('cc')) say(`${rest} (the tests that need them will be skipped)`);
  else fail(rest);
}

/** True when node_modules holds what package-lock.json asks for. Times decide first, contents where times are in doubt. */
function modulesAreCurrent() {
  const wantedFile = inRoot('package-lock.json');
  const installedFile = inRoot('node_modules', '.package-lock.json');
  if (!fs.existsSync(installedFile)) return false;
  if (mtimeMs(installedFile) >= mtimeMs(wantedFile)) return true;
  const installed = JSON.parse(fs.readFileSync(installedFile, 'utf8')).packages;
  const wanted = JSON.parse(fs.readFileSync(wantedFile, 'utf8')).packages;
  const same = Object.entries(wanted).every(
    ([name, entry]) => name === '' || entry.optional || installed[name]?.integrity === entry.integrity,
  );
  if (same) fs.utimesSync(installedFile, new Date(), new Date());
  return same;
}

function ensureModules() {
  if (modulesAreCurrent()) return;
  say('npm ci');
  if (!run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])) fail('npm ci failed');
}

/** Compiles when a source is newer. Written beside and renamed: a process that has the old file loaded keeps it. */
function compile(output, sources, dependencies, args) {
  if (mtimeMs(output) > Math.max(...dependencies.map(mtimeMs))) return;
  say(`${compiler[0]} -> ${path.relative(root, output)}`);
  fs.mkdirSync(path.dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}.tmp`;
  const [command, ...own] = compiler;
  if (!run(command, [...own, ...args, ...warnings, '-o', fresh, ...sources])) {
    fs.rmSync(fresh, { force: true });
    fail(`${path.relative(root, output)} did not compile (a C compiler and libc6-dev are needed)`);
  }
  fs.renameSync(fresh, output);
}

function buildNative() {
  const sources = filesUnder(inRoot('src/dgram-extra'), (name) => name.endsWith('.c')).sort();
  const headers = filesUnder(inRoot('src/dgram-extra'), (name) => name.endsWith('.h'));
  if (sources.length > 0) {
    compile(
      inRoot('dist/src/dgram-extra/dgram_extra.node'),
      sources,
      [...sources, ...headers],
      [
        '-O2',
        '-g',
        '-fPIC',
        '-pthread',
        '-shared',
        '-DNAPI_VERSION=8',
        '-I',
        inRoot('node_modules/node-api-headers/include'),
      ],
    );
  }
  for (const [source, wantedBy] of Object.entries(helperSources)) {
    const file = inRoot(source);
    if (!wantedBy.includes(goal) || !fs.existsSync(file)) continue;
    const shared = sharedSources.includes(source) ? ['-shared', '-fPIC'] : [];
    compile(inRoot('dist', source.replace(/\.c$/, '')), [file], [file], ['-O2', '-g', ...shared]);
  }
}

/** A test whose source was deleted or renamed would go on running out of dist. */
function removeStaleOutput() {
  for (const folder of ['src', 'plugins', 'test']) {
    for (const file of filesUnder(inRoot('dist', folder), (name) => name.endsWith('.js'))) {
      const source = inRoot(path.relative(inRoot('dist'), file)).replace(/\.js$/, '.ts');
      if (fs.existsSync(source)) continue;
      for (const ending of ['.js', '.js.map', '.d.ts'])
        fs.rmSync(file.replace(/\.js$/, ending), { force: true });
    }
  }
}

function buildTypeScript() {
  const buildInfo = inRoot('dist/tsconfig.tsbuildinfo');
  const sources = ['src', 'plugins', 'test'].flatMap((folder) =>
    filesUnder(inRoot(folder), (name) => name.endsWith('.ts')),
  );
  removeStaleOutput();
  const others = ['tsconfig.json', 'package.json', 'src/bundle.mjs'].map((name) => inRoot(name));
  const newestMs = Math.max(...[...sources, ...others].map(mtimeMs));
  if (mtimeMs(buildInfo) > newestMs) return;
  say('tsc');
  const started = new Date();
  const ok =
    run(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '-p', root]) &&
    run(process.execPath, [inRoot('src/bundle.mjs')]);
  // tsc leaves the time alone when the text did not change, and writes the file also after errors.
  if (fs.existsSync(buildInfo))
    fs.utimesSync(buildInfo, ok ? started : new Date(0), ok ? started : new Date(0));
  if (!ok) fail('TypeScript did not compile');
}

function markBinsExecutable() {
  const { bin } = JSON.parse(fs.readFileSync(inRoot('package.json'), 'utf8'));
  for (const file of Object.values(bin).map((name) => inRoot(name))) {
    const mode = fs.statSync(file, { throwIfNoEntry: false })?.mode;
    if (mode !== undefined && (mode & 0o111) !== 0o111) fs.chmodSync(file, mode | 0o111);
  }
}

/** The default of `user` in the configuration: without one of that name varpd refuses to start as root. */
function ensureUser() {
  if (process.getuid?.() !== 0 || spawnSync('id', ['-u', DAEMON_USER]).status === 0) return;
  say(`useradd ${DAEMON_USER}`);
  const options = ['--system', '--user-group', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin'];
  if (!run('useradd', [...options, DAEMON_USER]))
    say(
      `there is no user ${DAEMON_USER}: varpd, started as root, will want one, or 'user: root' in its configuration`,
    );
}

/** That user runs what root has built here, whatever root's umask is. Directories above are somebody's choice. */
function letUserRead() {
  if (process.getuid?.() !== 0) return;
  const closed = (file, bits) => (fs.statSync(file).mode & bits) !== bits;
  if (closed(root, 0o005)) fs.chmodSync(root, (fs.statSync(root).mode & 0o7777) | 0o055);
  if (!closed(inRoot('dist/src/daemon/main.js'), 0o005) && !closed(inRoot('package.json'), 0o004)) return;
  const program = ['package.json', 'dist', 'node_modules', 'plugins', 'config'].map((name) => inRoot(name));
  if (!run('chmod', ['-R', 'a+rX', ...program])) fail('the program cannot be made readable');
}

if (!goals.includes(goal)) fail(`unknown goal '${goal}', one of: ${goals.join(', ')}`);
checkNode();
ensurePrograms();
ensureModules();
buildNative();
buildTypeScript();
markBinsExecutable();
ensureUser();
letUserRead();
