#!/usr/bin/env node
// Prepares a clone for one goal:  node src/setup.mjs [build | test | demo | bench | faults | fuzz | soak | sim | package]
//
// The steps in order: check the version of Node, install system programs that the goal needs, install node modules,
// compile C, compile TypeScript, bundle each program into few files (bundle.mjs). As root, also make the user that varpd runs as.
//
// A step with nothing to do prints nothing, so this program can run before every command. It imports only node: modules,
// since no others are installed at first.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = 20;
const DAEMON_USERS = ['varpd', 'varpd-plugin'];
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const goals = ['build', 'test', 'demo', 'bench', 'faults', 'fuzz', 'soak', 'sim', 'package'];
const goal = process.argv[2] ?? 'build';

// program -> Debian packages, and the goals that need it. The compiler also needs the headers in libc6-dev.
// says: a part of the program's answer to -V, since another program may have the same name.
const programs = {
  cc: { packages: ['gcc', 'libc6-dev'], goals },
  'dpkg-deb': { packages: ['dpkg'], goals: ['package'] },
  ip: { packages: ['iproute2'], goals: ['demo', 'test', 'bench', 'faults', 'fuzz', 'soak', 'sim'] },
  ping: { packages: ['iputils-ping'], goals: ['demo', 'test', 'bench', 'faults', 'fuzz', 'soak', 'sim'] },
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
  go: { packages: ['golang-go'], goals: ['test'] },
  '/usr/lib/cni/host-local': { packages: ['containernetworking-plugins'], goals: ['test'] },
  '/usr/share/gocode/src/github.com/containernetworking/cni': {
    packages: ['golang-github-appc-cni-dev'],
    goals: ['test'],
  },
  chromium: { packages: ['chromium', 'fonts-dejavu-core'], goals: ['test'] },
  'nats-server': { packages: ['nats-server'], goals: ['test', 'faults', 'sim'] },
  openssl: { packages: ['openssl'], goals: ['test'] },
  '/usr/lib/python3/dist-packages/prometheus_client': {
    packages: ['python3-prometheus-client'],
    goals: ['test'],
  },
  promtool: { packages: ['prometheus'], goals: ['test'] },
  'ansible-playbook': { packages: ['ansible-core'], goals: ['test'] },
  mandoc: { packages: ['mandoc'], goals: ['test'] },
  debootstrap: { packages: ['debootstrap'], goals: ['test'] },
  lintian: { packages: ['lintian'], goals: ['test'] },
  'qemu-aarch64': { packages: ['qemu-user', 'libstdc++6-arm64-cross'], goals: ['test'] },
  'qemu-system-x86_64': { packages: ['qemu-system-x86'], goals: ['test'] },
  busybox: { packages: ['busybox'], goals: ['test'] },
  'virt-xml-validate': { packages: ['libvirt-clients'], goals: ['test'] },
  xmllint: { packages: ['libxml2-utils'], goals: ['test'] },
  podman: { packages: ['podman'], goals: ['test'] },
  crun: { packages: ['crun'], goals: ['test'] },
  zsh: { packages: ['zsh'], goals: ['test'] },
  fish: { packages: ['fish'], goals: ['test'] },
  nft: { packages: ['nftables'], goals: ['test', 'bench'] },
  'wireguard-go': { packages: ['wireguard-go'], goals: ['test'] },
  'wg-quick': { packages: ['wireguard-tools'], goals: ['test'] },
  bindfs: { packages: ['bindfs'], goals: ['test', 'faults'] },
  'systemd-analyze': { packages: ['systemd'], goals: ['test'] },
  'ovs-vsctl': { packages: ['openvswitch-switch'], goals: ['test'] },
  'ovs-vswitchd': { packages: ['openvswitch-switch'], goals: ['test'] },
};

// C programs for the tests: source -> the goals that need it. Each is compiled to dist/<same path without .c>.
const helperSources = {
  'test/helpers/runner.c': goals,
  'test/helpers/rawframe.c': ['test', 'bench', 'faults', 'fuzz', 'soak'],
  'test/helpers/flow-order.c': ['test'],
  'test/helpers/ways-to-root.c': ['test'],
  'test/faults/mishap.c': ['test', 'faults'],
  'test/bench/delay-relay.c': ['test', 'bench'],
  'test/bench/plain-forwarder.c': ['bench'],
  'test/bench/udp-load.c': ['test', 'bench', 'faults', 'soak'],
};

// C sources that become libraries, to be loaded into other programs (LD_PRELOAD).
const sharedSources = ['test/faults/mishap.c'];

const compiler = (process.env.CC || 'cc').split(/\s+/);

/** Architecture, as Node calls it -> the compiler that makes code for it on any machine. Packages have the addon for each. */
const crossCompilers = {
  x64: { command: 'x86_64-linux-gnu-gcc', packages: ['gcc-x86-64-linux-gnu', 'libc6-dev-amd64-cross'] },
  arm64: { command: 'aarch64-linux-gnu-gcc', packages: ['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross'] },
};
for (const [arch, { command, packages }] of Object.entries(crossCompilers))
  if (arch !== process.arch) programs[command] = { packages, goals: ['package'] };
const warnings = ['-Wall', '-Wextra', '-Werror', '-std=gnu11'];

const inRoot = (...parts) => path.join(root, ...parts);
const say = (text) => console.log(`setup: ${text}`);
function fail(text) {
  console.error(`setup: ${text}`);
  process.exit(1);
}

/** Returns the modification time in ms; 0 for an absent file, which so is older than every other. */
const mtimeMs = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Returns every file below a directory with a name that `accept` accepts; none when the directory is absent. */
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

/** Tells whether a program is installed. Also looks into the sbin directories, which an ordinary user of Debian has not
 * on the path. */
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
  // No installed package is removed. If a package excludes an installed one, an administrator has chosen the installed
  // one.
  const options = ['-qq', '--no-remove', '-o', 'DPkg::Lock::Timeout=300'];
  const apt = (...args) =>
    run('apt-get', [...options, ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const install = (...names) => apt('install', '-y', '--no-install-recommends', ...names);
  apt('update');
  // apt-get refuses all packages if this release lacks one of them. Then each is installed on its own.
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
  // A test without its program is skipped with the reason. Without a compiler no test can run.
  if (goal === 'test' && !missing.includes('cc')) say(`${rest} (the tests that need them will be skipped)`);
  else fail(rest);
}

/** Tells whether node_modules has the packages of package-lock.json. If the lock file is newer, the contents are
 * compared. */
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

/** Compiles when a source is newer than the output. The new file is renamed over the old one, so a process that has loaded
 * the old file keeps it. */
function compile(output, sources, dependencies, args, cc = compiler) {
  if (mtimeMs(output) > Math.max(...dependencies.map(mtimeMs))) return;
  say(`${cc[0]} -> ${path.relative(root, output)}`);
  fs.mkdirSync(path.dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}.tmp`;
  const [command, ...own] = cc;
  if (!run(command, [...own, ...args, ...warnings, '-o', fresh, ...sources])) {
    fs.rmSync(fresh, { force: true });
    fail(`${path.relative(root, output)} did not compile (a C compiler and libc6-dev are needed)`);
  }
  fs.renameSync(fresh, output);
}

function buildNative() {
  buildPrograms(process.arch, compiler);
  if (goal === 'package')
    for (const [arch, { command }] of Object.entries(crossCompilers))
      if (arch !== process.arch) buildPrograms(arch, [command]);
  for (const [source, wantedBy] of Object.entries(helperSources)) {
    const file = inRoot(source);
    if (!wantedBy.includes(goal) || !fs.existsSync(file)) continue;
    const shared = sharedSources.includes(source) ? ['-shared', '-fPIC'] : [];
    compile(inRoot('dist', source.replace(/\.c$/, '')), [file], [file], ['-O2', '-g', ...shared]);
  }
}

/** The addon, and the program that confines plugins. Their code does not depend on the place of the clone. */
function buildPrograms(arch, cc) {
  const places = `-ffile-prefix-map=${root}=.`;
  const sources = filesUnder(inRoot('src/dgram-extra'), (name) => name.endsWith('.c')).sort();
  const headers = filesUnder(inRoot('src/dgram-extra'), (name) => name.endsWith('.h'));
  compile(
    inRoot(`dist/src/dgram-extra/dgram_extra-${arch}.node`),
    sources,
    [...sources, ...headers],
    [
      '-O2',
      '-g',
      '-fPIC',
      '-pthread',
      '-shared',
      '-DNAPI_VERSION=8',
      places,
      '-I',
      inRoot('node_modules/node-api-headers/include'),
    ],
    cc,
  );
  const confine = inRoot('src/plugin-process/confine.c');
  const output = inRoot(`dist/src/plugin-process/confine-${arch}`);
  compile(output, [confine], [confine], ['-O2', '-g', places], cc);
}

/** Removes output without a source, since a deleted or renamed test would still run. */
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
    filesUnder(inRoot(folder), (name) => /\.(?:tsx?|html|css)$/.test(name)),
  );
  removeStaleOutput();
  // TypeScript lists the types of a union in the order in which it met them, which is another one when it compiles a part alone.
  if (goal === 'package') fs.rmSync(buildInfo, { force: true });
  const others = ['tsconfig.json', 'package.json', 'src/bundle.mjs', 'src/packed.mjs', 'src/program.mjs'].map(
    (name) => inRoot(name),
  );
  // A Node that was installed after the build may refuse the code of the programs (program.mjs).
  const nodeMs = fs.statSync(process.execPath).ctimeMs;
  const newestMs = Math.max(nodeMs, ...[...sources, ...others].map(mtimeMs));
  if (mtimeMs(buildInfo) > newestMs) return;
  say('tsc');
  const started = new Date();
  const ok =
    run(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '-p', root]) &&
    run(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '-p', inRoot('src/web/page')]) &&
    run(process.execPath, [inRoot('src/bundle.mjs')]);
  // tsc does not change the time when the text is the same, and writes the file even after errors.
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

/** Makes the user that `user` names in the default configuration, without which varpd refuses to start as root, and the
 * user of plugin processes, without which plugins run as varpd does. */
function ensureUsers() {
  if (process.getuid?.() !== 0) return;
  const options = ['--system', '--user-group', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin'];
  for (const name of DAEMON_USERS) {
    if (spawnSync('id', ['-u', name]).status === 0) continue;
    say(`useradd ${name}`);
    if (!run('useradd', [...options, name]))
      say(
        `there is no user ${name}: varpd, started as root, will want one, or 'user: root' in its configuration`,
      );
  }
}

/** Lets that user read the program that root has built, whatever root's umask is. Does not change the directories
 * above. */
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
ensureUsers();
letUserRead();
