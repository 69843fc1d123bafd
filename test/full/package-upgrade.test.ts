// The Debian package under a real systemd: installed, upgraded under pings, removed and purged.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { buildPackages } from '../helpers/packages.js';
import { exec, waitUntil } from '../helpers/process.js';
import { SYSTEMD, Systemd } from '../helpers/systemd.js';
import { reaches } from '../helpers/traffic.js';
import { SteadyPing } from '../helpers/zlan.js';

const skip =
  skipUnlessNetns(['unshare', 'nsenter', 'systemctl', 'useradd', 'dpkg-deb', 'npm', 'git', 'adduser']) ||
  skipUnless({ files: [SYSTEMD] });
const TIMEOUT_MS = 3_000_000;
const PING_INTERVAL_S = 0.02;

/** The same package with a later version, and another unit. */
async function laterVersion(deb: string, directory: string): Promise<string> {
  const tree = path.join(directory, 'tree');
  await exec(['dpkg-deb', '-R', deb, tree], { timeoutMs: TIMEOUT_MS });
  const control = path.join(tree, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: (.*)$/m, 'Version: $1+later'));
  const unit = path.join(tree, 'lib/systemd/system/varpd.service');
  writeFileSync(
    unit,
    readFileSync(unit, 'utf8').replace('[Service]\n', '[Service]\nEnvironment=LATER=yes\n'),
  );
  const later = path.join(directory, 'later.deb');
  await exec(['dpkg-deb', '--root-owner-group', '-Znone', '--build', tree, later], { timeoutMs: TIMEOUT_MS });
  return later;
}

await t.test('the Debian package under systemd', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const directory = bed.directory();
  const { deb } = await buildPackages(path.join(directory, 'built'));
  const later = await laterVersion(deb.amd64, directory);
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');

  const systemd = await Systemd.bootWhereItRuns(a, fromRoot('.'));
  if (typeof systemd === 'string') {
    await t.test('it runs', { skip: systemd }, () => undefined);
    return;
  }
  t.teardown(() => systemd.end());
  // The directory of state is empty there, and dpkg's own is below it.
  cpSync('/var/lib/dpkg', systemd.inside('/var/lib/dpkg'), { recursive: true });
  for (const [name, file] of [
    ['varpd.deb', deb.amd64],
    ['later.deb', later],
  ] as const)
    cpSync(file, systemd.inside(`/root/${name}`));
  // A machine that starts no service of a package says so by this.
  await systemd.exec('rm -f /usr/sbin/policy-rc.d');
  const install = (file: string): Promise<string> => systemd.exec(`dpkg -i /root/${file}`);
  const dladm = (...args: string[]): Promise<string> => systemd.exec(['/usr/bin/dladm', ...args]);
  const settled = async (): Promise<boolean> =>
    /^foo0/m.test((await systemd.run('/usr/bin/dladm show-vnic -p -o link')).stdout);

  await install('varpd.deb');
  t.equal((await systemd.exec('systemctl is-active varpd')).trim(), 'active', 'it runs at once');
  t.match((await systemd.run('systemctl is-enabled varpd')).stdout, /^enabled/, 'and at boot');
  t.match(await systemd.exec('ps -o user=,args= -C varpd'), /^varpd +\/usr\/lib\/varpd\/bin\/node /m);
  await dladm(
    ...'create-overlay -e vxlan -s direct -v 42'.split(' '),
    ...[
      '-p',
      `vxlan/listen_ip=${a.underlay.v4},direct/dest_ip=${b.underlay.v4},direct/dest_port=4789`,
      'demo0',
    ],
  );
  await dladm('create-vnic', '-l', 'demo0', 'foo0');
  await a.plumb('foo0');
  t.ok(await reaches(a, b.overlay.v4), 'the peer answers');
  const pid = (): Promise<string> => systemd.exec('systemctl show -P MainPID varpd');
  const link = (): Promise<string> => a.ip('-o link show foo0');
  const [pidBefore, linkBefore] = [await pid(), await link()];

  await t.test('an upgrade loses no frame', async (t) => {
    const flow = await SteadyPing.start(a, b.overlay.v4, PING_INTERVAL_S);
    await install('later.deb');
    await waitUntil(settled, { what: 'the VNIC to be back' });
    const { sent, lost } = await flow.stop();
    t.equal(lost, 0, `none of ${sent} is lost`);
    t.ok(sent > 10);
    t.not(await pid(), pidBefore, 'it is another process');
    t.match(await systemd.exec('systemctl show -P Environment varpd'), /LATER=yes/, 'of the later unit');
    t.equal(await link(), linkBefore, 'the link is the same');
  });

  await t.test('a version that would not start leaves the earlier one alone', async (t) => {
    await systemd.exec(['sh', '-c', 'echo "nonsense: 1" >> /etc/varpd/varpd.yaml']);
    const before = await pid();
    const { code, stdout, stderr } = await systemd.run('dpkg -i /root/later.deb');
    t.equal(code, 0);
    t.match(stdout + stderr, /varpd\.yaml:\d+:1: unknown key/);
    t.match(stdout + stderr, /varpd was not restarted/);
    t.equal(await pid(), before);
    t.ok(await reaches(a, b.overlay.v4));
    await systemd.exec(['sh', '-c', "sed -i '/^nonsense/d' /etc/varpd/varpd.yaml"]);
  });

  await t.test('remove keeps the state', async (t) => {
    await systemd.exec('dpkg --remove varpd');
    t.not((await systemd.run('systemctl is-active varpd')).code, 0);
    t.not((await systemd.run('test -e /usr/lib/varpd')).code, 0);
    t.match(await systemd.exec('cat /var/lib/varpd/demo0.json'), /"foo0"/);
    await install('varpd.deb');
    await waitUntil(settled, { what: 'the VNIC to be back' });
    await a.plumb('foo0');
    t.ok(await reaches(a, b.overlay.v4), 'installed again, it goes on');
  });

  await t.test('purge leaves nothing', async (t) => {
    await systemd.exec('dpkg --purge varpd');
    const places =
      '/usr/lib/varpd /etc/varpd /var/lib/varpd /var/lib/varpd-plugins /run/varpd /run/varpd-plugins.sock /etc/logrotate.d/varpd ' +
      '/usr/bin/dladm /usr/sbin/varpd /lib/systemd/system/varpd.service /usr/share/doc/varpd';
    for (const place of places.split(' ')) t.not((await systemd.run(['test', '-e', place])).code, 0, place);
    t.equal(
      (await systemd.exec(['sh', '-c', 'find /etc/systemd -name "*varpd*" | grep -v probe || true'])).trim(),
      '',
    );
    t.not((await a.run('ip link show demo0')).code, 0, 'no link');
    t.not((await systemd.run('getent passwd varpd')).code, 0, 'no user');
  });
});
