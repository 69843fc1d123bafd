/**
 * Makes the packages of varpd in dist/packages, after `node src/setup.mjs package`: `npm run package`.
 *
 *   varpd-VERSION.tgz             for npm: `npm install -g ./varpd-VERSION.tgz`
 *   varpd_VERSION_amd64.deb       for Debian and its kin, with a Node of its own; and the same for arm64
 *   SHA256SUMS
 *
 * The same commit makes the same bytes, wherever and whenever: times are those of the commit, files come in the order of their
 * names, owners are root.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Buffer } from 'node:buffer';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const output = path.join(root, 'dist/packages');
const work = path.join(root, 'dist/packages.work');
const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
const { version } = manifest;

/** Node in the Debian packages, as the npm packages node-linux-ARCH have it: Debian 12 has 18, which is too old. */
const NODE_VERSION = '24.22.3';
const NODES = {
  amd64: {
    arch: 'x64',
    integrity:
      'sha512-KHsob+Fv9YerATvYujMbiyJqnRCvLtrcr/eTNqRqiOSGp97EOiRP1yP47+knGgQ/xnc3XY8xzkW587dlZzNqRA==',
  },
  arm64: {
    arch: 'arm64',
    integrity:
      'sha512-IZx0J52/1NDwAsY2iyWR9nlPIYuYviTWetjj8+ElvYQh2+XRhLfCfkbFEF/2O5vGI2hcUbyPNHV+nz342FbJXw==',
  },
};
const MAINTAINER = 'varpd authors <varpd@users.noreply.github.com>';
/** Where the package has the program. */
const HOME = 'usr/lib/varpd';
/** Packages that the plugins and the kit of their authors import: those of `dependencies`, and those of the plugin nats. */
const MODULES = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)];
/** In a module, files that do not run. */
const IDLE =
  /^bin\.mjs$|\.(?:map|md|flow)$|\.d\.[cm]?ts$|^(?:src|test|tests|docs?|benchmark|examples?|\.github)\//;

function fail(text) {
  console.error(`package: ${text}`);
  process.exit(1);
}

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    cwd: root,
    ...options,
  });
  if (status !== 0) fail(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout.trim();
}

/** Seconds since 1970: of the commit, or as the environment has it (reproducible-builds.org). */
function sourceDate() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  return Number(run('git', ['-c', 'safe.directory=*', 'log', '-1', '--format=%ct']));
}
const dateS = sourceDate();

const filesUnder = (directory) =>
  fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .map((entry) => ({ entry, file: path.join(entry.parentPath ?? entry.path, entry.name) }))
    .sort((one, other) => (one.file < other.file ? -1 : 1));

// -- Node

/** The directory of the npm package. It is loaded once, and its bytes are those that are wanted. */
function nodeFor({ arch, integrity }) {
  const name = `node-linux-${arch}-${NODE_VERSION}.tgz`;
  const cache = path.join(root, 'dist/packages.cache');
  fs.mkdirSync(cache, { recursive: true });
  const file = path.join(cache, name);
  const isThere = () =>
    fs.existsSync(file) &&
    `sha512-${createHash('sha512').update(fs.readFileSync(file)).digest('base64')}` === integrity;
  if (!isThere()) {
    console.log(`package: npm pack node-linux-${arch}@${NODE_VERSION}`);
    run('npm', ['pack', '--silent', '--pack-destination', cache, `node-linux-${arch}@${NODE_VERSION}`]);
    if (!isThere()) fail(`${name} has other bytes than this version of varpd expects`);
  }
  const directory = path.join(work, `node-${arch}`);
  fs.mkdirSync(directory, { recursive: true });
  run('tar', ['-xzf', file, '-C', directory, '--strip-components=1', 'package/bin/node', 'package/LICENSE']);
  return directory;
}

// -- The npm package

function packNpm() {
  run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', output]);
  return path.join(output, `varpd-${version}.tgz`);
}

// -- The Debian package

/** Node finds a module in the directory of the package, and what it needs beside it. */
function copyModules(to) {
  const seen = new Set();
  const copy = (name) => {
    if (seen.has(name)) return;
    seen.add(name);
    const from = path.join(root, 'node_modules', name);
    const { dependencies = {} } = JSON.parse(fs.readFileSync(path.join(from, 'package.json'), 'utf8'));
    for (const { entry, file } of filesUnder(from)) {
      const relative = path.relative(from, file);
      if (!entry.isFile() || IDLE.test(relative)) continue;
      const place = path.join(to, name, relative);
      fs.mkdirSync(path.dirname(place), { recursive: true });
      fs.copyFileSync(file, place);
    }
    Object.keys(dependencies).forEach(copy);
  };
  MODULES.forEach(copy);
}

const licenceText = (text) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');

/** In the form of Debian's copyright files. */
function copyright(to, nodeDirectory) {
  const parts = fs
    .readdirSync(path.join(to, 'node_modules'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /(?:^|\/)licen[cs]e(?:\.\w+)?$/i.test(file))
    .sort()
    .map((file) => {
      const text = fs.readFileSync(path.join(to, 'node_modules', file), 'utf8');
      return `${path.dirname(file)}:\n\n${text.trim()}\n`;
    });
  const node = fs.readFileSync(path.join(nodeDirectory, 'LICENSE'), 'utf8');
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: varpd

Files: *
Copyright: 2026 the varpd authors
License: Expat
${licenceText(fs.readFileSync(path.join(root, 'LICENSE'), 'utf8'))}

Files: ${HOME}/bin/node
Copyright: Node.js contributors
License: Node.js
${licenceText(node)}

Files: ${HOME}/node_modules/*
Copyright: their authors
License: of-each-module
${licenceText(parts.join('\n'))}
`;
}

/** CHANGELOG.md in the form of Debian's changelogs. */
function changelog() {
  const text = fs.readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8');
  const date = new Date(dateS * 1000).toUTCString().replace('GMT', '+0000');
  return text
    .split(/^## /m)
    .slice(1)
    .map((part) => {
      const [number, ...lines] = part.trim().split('\n');
      const items = lines.filter((line) => line.trim() !== '').map((line) => line.replace(/^- /, '  * '));
      return `varpd (${number.trim()}) unstable; urgency=medium\n\n${items.join('\n')}\n\n -- ${MAINTAINER}  ${date}\n`;
    })
    .join('\n');
}

/** The same bytes each time: no name and no time in it. */
const gzipped = (text) => gzipSync(text, { level: 9 });

function control(architecture, installedKib) {
  return `Package: varpd
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${installedKib}
Depends: adduser, init-system-helpers (>= 1.54~), libc6 (>= 2.34), libgcc-s1, libstdc++6
Recommends: iproute2, logrotate
Section: net
Priority: optional
Description: overlay networks in VXLAN or Geneve, with lookup plugins
 varpd carries virtual Ethernet networks between Linux hosts in VXLAN or
 Geneve over UDP, as the overlay networks of illumos do. It asks a plugin of
 your choice where each MAC address lives. dladm is its command line.
`;
}

/** A unit of config/ with the places of this package. */
function unit(name) {
  const text = fs.readFileSync(path.join(root, 'config', name), 'utf8');
  return text
    .replaceAll('/usr/local/bin/varpd-spawner', `/${HOME}/bin/varpd-spawner`)
    .replaceAll('/usr/local/bin/varpd', '/usr/sbin/varpd')
    .replaceAll(/^Documentation=.*$/gm, 'Documentation=man:varpd(8) man:dladm(8)');
}

function stage(tarball, architecture, directory) {
  const { arch } = NODES[architecture];
  const at = (...parts) => path.join(directory, ...parts);
  const write = (file, content, mode = 0o644) => {
    fs.mkdirSync(path.dirname(at(file)), { recursive: true });
    fs.writeFileSync(at(file), content, { mode });
    fs.chmodSync(at(file), mode);
  };
  const home = at(HOME);
  fs.mkdirSync(home, { recursive: true });
  run('tar', ['-xzf', tarball, '-C', home, '--strip-components=1']);
  for (const other of Object.values(NODES))
    if (other.arch !== arch)
      for (const file of [
        `dgram-extra/dgram_extra-${other.arch}.node`,
        `plugin-process/confine-${other.arch}`,
      ])
        fs.rmSync(path.join(home, 'dist/src', file));
  copyModules(path.join(home, 'node_modules'));
  const node = nodeFor(NODES[architecture]);
  fs.mkdirSync(path.join(home, 'bin'));
  fs.copyFileSync(path.join(node, 'bin/node'), path.join(home, 'bin/node'));

  // The programs run on the Node of the package, whatever is on the PATH.
  const links = {
    varpd: 'usr/sbin',
    dladm: 'usr/bin',
    'varpd-spawner': `${HOME}/bin`,
    // Beside the plugins of the package containernetworking-plugins.
    'varpd-cni': 'usr/lib/cni',
  };
  for (const [name, place] of Object.entries(links)) {
    const file = path.join(home, manifest.bin[name]);
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^#!.*/, `#!/${HOME}/bin/node`));
    fs.mkdirSync(at(place), { recursive: true });
    fs.symlinkSync(path.relative(at(place), file), at(place, name));
  }
  for (const page of manifest.man) {
    const section = path.extname(page).slice(1);
    write(
      `usr/share/man/man${section}/${path.basename(page)}.gz`,
      gzipped(fs.readFileSync(path.join(home, page))),
    );
  }
  fs.rmSync(path.join(home, 'man'), { recursive: true });
  const completion = (shell) => fs.readFileSync(path.join(home, `config/completion/dladm.${shell}`));
  write('usr/share/bash-completion/completions/dladm', completion('bash'));
  write('usr/share/zsh/vendor-completions/_dladm', completion('zsh'));
  write('usr/share/fish/vendor_completions.d/dladm.fish', completion('fish'));
  fs.mkdirSync(at('usr/share/varpd'));
  for (const name of ['prometheus', 'grafana'])
    fs.renameSync(path.join(home, 'config', name), at('usr/share/varpd', name));
  for (const name of ['varpd.service', 'varpd-plugins.service', 'varpd-plugins.socket'])
    write(`lib/systemd/system/${name}`, unit(name));
  const own = (name) => fs.readFileSync(path.join(root, 'config/deb', name));
  write('usr/lib/tmpfiles.d/varpd.conf', own('tmpfiles'));
  write('etc/logrotate.d/varpd', own('logrotate'));
  write('etc/varpd/varpd.yaml', fs.readFileSync(path.join(root, 'config/varpd.yaml')));
  write('usr/share/lintian/overrides/varpd', own('lintian-overrides'));
  write('usr/share/doc/varpd/changelog.gz', gzipped(changelog()));
  write('usr/share/doc/varpd/copyright', copyright(home, node));
  for (const name of ['README.md', 'docs', 'CHANGELOG.md', 'LICENSE'])
    if (name !== 'LICENSE') fs.renameSync(path.join(home, name), at('usr/share/doc/varpd', name));
    else fs.rmSync(path.join(home, name));

  for (const name of ['postinst', 'prerm', 'postrm']) write(`DEBIAN/${name}`, own(name), 0o755);
  write('DEBIAN/conffiles', '/etc/logrotate.d/varpd\n/etc/varpd/varpd.yaml\n');
  const files = filesUnder(directory).filter(
    ({ entry, file }) => entry.isFile() && !file.startsWith(at('DEBIAN')),
  );
  const sums = files.map(({ file }) => {
    const sum = createHash('md5').update(fs.readFileSync(file)).digest('hex');
    return `${sum}  ${path.relative(directory, file)}\n`;
  });
  write('DEBIAN/md5sums', sums.join(''));
  const bytes = files.reduce((sum, { file }) => sum + fs.statSync(file).size, 0);
  write('DEBIAN/control', control(architecture, Math.ceil(bytes / 1024)));
}

/** Modes and times do not depend on the umask and on the clock. */
function settle(directory) {
  for (const { entry, file } of [
    ...filesUnder(directory),
    { entry: fs.statSync(directory), file: directory },
  ]) {
    if (entry.isSymbolicLink()) fs.lutimesSync(file, dateS, dateS);
    else {
      const isProgram = entry.isFile() && /^(?:#!|\x7fELF)/.test(head(file)) && !file.endsWith('.node');
      fs.chmodSync(file, entry.isDirectory() || isProgram ? 0o755 : 0o644);
      fs.utimesSync(file, dateS, dateS);
    }
  }
}

function head(file) {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(4);
    return bytes.latin1Slice(0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    fs.closeSync(fd);
  }
}

function packDeb(tarball, architecture) {
  const directory = path.join(work, architecture);
  stage(tarball, architecture, directory);
  settle(directory);
  const name = `varpd_${version}_${architecture}.deb`;
  // Node is most of it, and hardly gets smaller by a higher level, which takes some times as long.
  const options = ['--root-owner-group', '-Zxz', '-z1', '--threads-max=1', '--build', directory];
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(dateS) };
  run('dpkg-deb', [...options, path.join(output, name)], { env });
  return name;
}

for (const directory of [output, work]) fs.rmSync(directory, { recursive: true, force: true });
fs.mkdirSync(output, { recursive: true });
const tarball = packNpm();
const names = [
  path.basename(tarball),
  ...Object.keys(NODES).map((architecture) => packDeb(tarball, architecture)),
];
const sums = names.map((name) => {
  const sum = createHash('sha256')
    .update(fs.readFileSync(path.join(output, name)))
    .digest('hex');
  return `${sum}  ${name}\n`;
});
fs.writeFileSync(path.join(output, 'SHA256SUMS'), sums.join(''));
fs.rmSync(work, { recursive: true });
for (const name of names)
  console.log(
    `dist/packages/${name}  ${(fs.statSync(path.join(output, name)).size / 2 ** 20).toFixed(1)} MiB`,
  );
