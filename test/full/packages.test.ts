// The packages: their bytes are the same wherever they are made, they have what runs and nothing else, and they work on a Debian
// that has neither a compiler nor Node.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import { textOf } from '../helpers/documents.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { packageRegistry } from '../helpers/package-registry.js';
import { buildPackages, CleanRoot, type Packages } from '../helpers/packages.js';
import { exec, run, waitUntil } from '../helpers/process.js';

const skip = skipUnlessNetns(['dpkg-deb', 'npm', 'git', 'tar', 'unshare', 'chroot']);
const TIMEOUT_MS = 3_000_000;
const { version, man } = JSON.parse(textOf('package.json')) as { version: string; man: string[] };
/** e_machine of <elf.h>: EM_X86_64, EM_AARCH64. */
const MACHINES = { x64: 62, arm64: 183 } as const;

const PLUGIN = `
export default {
  apiVersion: 2,
  name: 'one',
  mode: 'dynamic',
  properties: [],
  create: () => ({
    start: async () => {},
    stop: async () => {},
    resolve: () => ({ kind: 'drop', reason: 'nothing is known' }),
  }),
};
`;

await t.test('packages', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const packages = await buildPackages(path.join(bed.directory(), 'tree'));
  const sumsOf = ({ directory }: Packages): string =>
    readFileSync(path.join(directory, 'SHA256SUMS'), 'utf8');

  await t.test('another clone makes the same bytes', async (t) => {
    const again = await buildPackages(path.join(bed.directory(), 'elsewhere'), { TZ: 'Asia/Tokyo' });
    t.equal(sumsOf(again), sumsOf(packages));
    t.equal(sumsOf(again).trim().split('\n').length, 3);
  });

  const unpacked = bed.directory();
  await exec(['tar', '-xzf', packages.npm, '-C', unpacked]);
  const files = readdirSync(unpacked, { recursive: true, encoding: 'utf8' });

  await t.test('the npm package has what runs and nothing else', async (t) => {
    const idle = files.filter(
      (file) => /(?:^|\/)test\/|\.test\.|\.map$|\.code$|\.ts$/.test(file) && !file.endsWith('.d.ts'),
    );
    t.same(idle, []);
    const { scripts } = JSON.parse(readFileSync(path.join(unpacked, 'package/package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    t.same(
      Object.keys(scripts).filter((name) => /install/.test(name)),
      [],
      'no script runs where it is installed',
    );
    for (const [arch, machine] of Object.entries(MACHINES)) {
      const addon = path.join(unpacked, `package/dist/src/dgram-extra/dgram_extra-${arch}.node`);
      t.equal(readFileSync(addon).readUInt16LE(18), machine, `the native part for ${arch}`);
      const confine = path.join(unpacked, `package/dist/src/plugin-process/confine-${arch}`);
      t.equal(readFileSync(confine).readUInt16LE(18), machine);
      t.equal(statSync(confine).mode & 0o111, 0o111, 'and the program that confines plugins');
      const symbols = readFileSync(addon, 'latin1').match(/GLIBC_2\.\d+/g) ?? [];
      const newest = Math.max(...symbols.map((symbol) => Number(symbol.slice('GLIBC_2.'.length))));
      t.ok(newest <= 34, `it needs glibc 2.${newest}`);
    }
    for (const file of [...man, 'config/prometheus/varpd.rules.yaml', 'config/grafana/varpd.json'])
      t.ok(files.includes(`package/${file}`), file);
    t.ok(statSync(packages.npm).size < 4 << 20, `${statSync(packages.npm).size} bytes`);
  });

  await t.test('lintian finds no error', { skip: skipUnless({ programs: ['lintian'] }) }, async (t) => {
    for (const deb of Object.values(packages.deb)) {
      const { code, stdout, stderr } = await run(
        ['lintian', '--allow-root', '--fail-on', 'error', '--display-level', '>=error', deb],
        { timeoutMs: TIMEOUT_MS },
      );
      t.equal(code, 0, `${path.basename(deb)}: ${stdout}${stderr}`);
    }
  });

  const qemu = skipUnless({ programs: ['qemu-aarch64'], files: ['/usr/aarch64-linux-gnu/lib'] });
  await t.test('the package for arm64 runs in an emulator', { skip: qemu }, async (t) => {
    const root = bed.directory();
    await exec(['dpkg-deb', '-x', packages.deb.arm64, root], { timeoutMs: TIMEOUT_MS });
    const emulated = (...args: string[]): Promise<string> =>
      exec(
        ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu', path.join(root, 'usr/lib/varpd/bin/node'), ...args],
        { timeoutMs: TIMEOUT_MS },
      );
    const at = (file: string): string => path.join(root, 'usr/lib/varpd', file);
    t.equal((await emulated('-p', 'process.arch')).trim(), 'arm64');
    t.equal((await emulated(at('dist/src/cli/main.js'), '--version')).trim(), version);
    t.match(await emulated(at('dist/src/daemon/main.js'), '--help'), /^usage: varpd /);
    const mapping = fromRoot('config/hosts.json');
    t.match(await emulated(at('dist/src/cli/main.js'), 'check-mapping', mapping), /3 entries/);
    // The native part itself: an event that is signalled and read.
    const event = `
      const io = await import('${at('dist/src/dgram-extra/index.js')}');
      const event = io.createEvent();
      io.signalEvent(event);
      console.log(event > 2, io.native.eventClear(event));`;
    t.match(await emulated('--input-type=module', '-e', event), /^true /);
    await emulated(at('dist/programs/program.mjs'));
    t.ok(readdirSync(at('dist/programs')).some((name) => name.endsWith('.code')));
  });

  const noRoot = skipUnless({ programs: ['debootstrap', 'apt-get'] });
  await t.test('a clean Debian', { skip: noRoot }, async (t) => {
    const [host] = await bed.twoHosts();
    const root = await CleanRoot.make(path.join(bed.directory(), 'root'));
    for (const program of ['cc', 'gcc', 'node', 'npm', 'python3'])
      t.not((await root.run(['sh', '-c', `command -v ${program}`])).code, 0, `it has no ${program}`);
    const before = await root.files();

    /** Starts a varpd there, makes a link, and ends it. */
    const works = async (t: Test, varpd: string, cni: string): Promise<void> => {
      // A plugin of another author, which runs in a process of its own.
      mkdirSync(root.at('opt/plugins/one'), { recursive: true });
      writeFileSync(root.at('opt/plugins/one/index.mjs'), PLUGIN);
      t.match(await root.exec([varpd, 'check-plugin', '/opt/plugins/one']), /^plugin +one, mode dynamic/m);
      const child = host.spawn(root.command([varpd, '--foreground', '-i', '/opt/plugins']));
      t.teardown(() => child.stop('SIGKILL'));
      const answers = async (): Promise<boolean> => (await root.run(['dladm', 'status'])).code === 0;
      await waitUntil(answers, { what: 'varpd to answer' }).catch((error: unknown) => {
        throw new Error(`${(error as Error).message}: ${child.stdout}${child.stderr}`);
      });
      const create =
        `dladm create-overlay -e vxlan -s direct -v 23 -p vxlan/listen_ip=${host.underlay.v4} ` +
        '-p direct/dest_ip=10.88.88.70 -p direct/dest_port=4789 demo0';
      await root.exec(create);
      t.match(await root.exec(['dladm', 'show-overlay', '-f']), /^demo0 +ONLINE /m);
      const another = create.replace('-s direct -v 23', '-s one -v 24').replace(/ -p direct\S+/g, '');
      await root.exec(another.replace('demo0', 'demo1'));
      t.match(await root.exec(['dladm', 'show-overlay', '-f']), /^demo1 +ONLINE /m);
      await root.exec(['dladm', 'delete-overlay', 'demo1']);
      await root.exec(['dladm', 'create-vnic', '-l', 'demo0', 'foo0']);
      t.match(await host.ip('link show foo0'), /foo0/);
      await root.exec(['dladm', 'delete-vnic', 'foo0']);
      await root.exec(['dladm', 'delete-overlay', 'demo0']);
      const version = ['sh', '-c', `echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION ${cni}`];
      t.match(await root.exec(version), /"1\.1\.0"/, 'a plugin for containers');
      t.same(await child.stop('SIGTERM'), { code: 0, signal: null });
      rmSync(root.at('opt/plugins'), { recursive: true });
    };

    await t.test('npm install -g', async (t) => {
      // Node alone, and npm: no compiler.
      const npm = path.dirname(
        path.dirname(await exec(['readlink', '-f', (await exec('which npm')).trim()])),
      );
      cpSync(npm, root.at('usr/local/lib/npm'), { recursive: true, dereference: true });
      const node = bed.directory();
      await exec(['dpkg-deb', '-x', packages.deb.amd64, node], { timeoutMs: TIMEOUT_MS });
      cpSync(path.join(node, 'usr/lib/varpd/bin/node'), root.at('usr/local/bin/node'));
      symlinkSync('../lib/npm/bin/npm-cli.js', root.at('usr/local/bin/npm'));
      await root.exec(['apt-get', '--version']);
      cpSync(packages.npm, root.at(`tmp/varpd.tgz`));
      const registry = await packageRegistry();
      try {
        const install = [
          'npm',
          'install',
          '-g',
          '--registry',
          registry.url,
          '--no-audit',
          '--no-fund',
          '--no-update-notifier',
          '/tmp/varpd.tgz',
        ];
        await root.exec(install, { timeoutMs: TIMEOUT_MS });
        t.same(registry.missing, []);
      } finally {
        registry.close();
      }
      t.equal((await root.exec('dladm --version')).trim(), version);
      t.ok(existsSync(root.at('usr/local/share/man/man8/dladm.8')), 'with its manual pages');
      const [, compile] = /`(node "\$\(npm root -g\)[^`]*)`/.exec(textOf('docs/install.md')) ?? [];
      await root.exec(['sh', '-c', compile]);
      mkdirSync(root.at('etc/varpd'));
      await root.exec(['sh', '-c', 'echo "user: root" > /etc/varpd/varpd.yaml']);
      await works(t, 'varpd', 'varpd-cni');
      await root.exec('npm uninstall -g varpd');
      await root.exec([
        'sh',
        '-c',
        'rm -r /etc/varpd /var/lib/varpd /run/varpd /usr/local/lib/* /usr/local/bin/*',
      ]);
      await root.exec(['sh', '-c', 'rm -rf /usr/local/share/man/* /usr/local/etc/* /root/.npm /tmp/*']);
    });

    await t.test('dpkg -i', async (t) => {
      cpSync(packages.deb.amd64, root.at('tmp/varpd.deb'));
      const install = async (): Promise<void> => {
        // What it depends on is there, or is one small package of this release.
        await root.exec(['dpkg', '-i', '/tmp/varpd.deb'], { timeoutMs: TIMEOUT_MS });
      };
      await install();
      t.equal((await root.exec('dladm --version')).trim(), version);
      t.match(await root.exec('getent passwd varpd varpd-plugin'), /^varpd:.*\nvarpd-plugin:/);
      t.ok(readdirSync(root.at('usr/lib/varpd/dist/programs')).some((name) => name.endsWith('.code')));
      t.match(await root.exec(['sh', '-c', 'gunzip -c /usr/share/man/man5/varpd.yaml.5.gz']), /^\.Sh NAME/m);
      for (const file of [
        'usr/share/bash-completion/completions/dladm',
        'usr/share/zsh/vendor-completions/_dladm',
        'usr/share/fish/vendor_completions.d/dladm.fish',
        'usr/share/varpd/prometheus/varpd.rules.yaml',
        'usr/share/varpd/grafana/varpd.json',
      ])
        t.ok(existsSync(root.at(file)), file);
      await works(t, 'varpd', '/usr/lib/cni/varpd-cni');

      await root.exec(['sh', '-c', 'echo "# mine" >> /etc/varpd/varpd.yaml']);
      await install();
      t.match(
        readFileSync(root.at('etc/varpd/varpd.yaml'), 'utf8'),
        /# mine/,
        'a configuration stays as it is',
      );
      await root.exec('dpkg --remove varpd');
      t.notOk(existsSync(root.at('usr/lib/varpd')), 'remove takes the program');
      t.ok(existsSync(root.at('var/lib/varpd')), 'and leaves the state');
      t.ok(existsSync(root.at('etc/varpd/varpd.yaml')));
      await root.exec('dpkg --purge varpd');
      await root.exec('rm /tmp/varpd.deb');
      t.same(await root.files(), before, 'purge leaves nothing');
      t.not((await root.run('getent passwd varpd')).code, 0, 'nor a user');
    });
  });
});
