// varpd as a service of a real systemd, installed as docs/service.md says, with config/varpd.service as it is.
import { existsSync, statSync } from 'node:fs';

import t from 'tap';

import { directOverlay } from '../helpers/daemon.js';
import { block } from '../helpers/documents.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { pause } from '../helpers/pause.js';
import { waitUntil } from '../helpers/process.js';
import { SYSTEMD, Systemd } from '../helpers/systemd.js';
import { reaches } from '../helpers/traffic.js';

/** Other users may read the project. */
const mayRead = (): false | string =>
  (statSync(fromRoot('dist/src/daemon/main.js')).mode & 0o004) === 0
    ? 'needs a clone that every user can read'
    : false;

const skip =
  skipUnlessNetns(['unshare', 'nsenter', 'systemctl', 'useradd']) ||
  skipUnless({ files: [SYSTEMD] }) ||
  mayRead();

/** Some distributions have it as a package of its own. Its unit there wants more of a system than this one has. */
const NETWORKD = '/lib/systemd/systemd-networkd';
const NETWORKD_UNIT = `[Service]\nType=notify\nExecStart=${NETWORKD}\n`;
const hasNetworkd = existsSync(NETWORKD);

/** What a restart must leave alone. */
async function identity(host: Namespace, device: string): Promise<unknown> {
  const [{ ifindex, address, addr_info: addresses }] = JSON.parse(
    await host.ip(`-j addr show dev ${device}`),
  ) as {
    ifindex: number;
    address: string;
    addr_info: { local: string }[];
  }[];
  return { ifindex, address, addresses: addresses.map(({ local }) => local) };
}

await t.test('a service of systemd', { skip, timeout: 180_000 }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  let systemd: Systemd | undefined;
  t.teardown(() => systemd?.end());
  try {
    systemd = await Systemd.boot(a, fromRoot('.'));
    await systemd.probe();
  } catch (error) {
    const skip = `systemd cannot run services here: ${(error as Error).message}`;
    await t.test('it runs', { skip }, () => undefined);
    return;
  }
  const manager = systemd;
  const show = async (property: string): Promise<string> =>
    (await manager.exec(`systemctl show --value -p ${property} varpd`)).trim();
  const isActive = (what: string): Promise<void> =>
    waitUntil(async () => (await show('ActiveState')) === 'active', { timeoutMs: 30_000, what });
  const ok = (line: string): Promise<string> => manager.exec(`dladm ${line}`);

  await manager.install();
  t.same([await show('ActiveState'), await show('SubState')], ['active', 'running'], 'it has said READY=1');
  const said = await show('WatchdogTimestampMonotonic');
  const modes = await manager.exec([
    'stat',
    '-c',
    '%n %U:%G %a',
    '/run/varpd',
    '/run/varpd/varpd.sock',
    '/var/lib/varpd',
  ]);
  t.same(modes.trim().split('\n'), [
    '/run/varpd varpd:varpd 750',
    '/run/varpd/varpd.sock varpd:varpd 660',
    '/var/lib/varpd varpd:varpd 700',
  ]);
  const status = await manager.exec(['cat', `/proc/${await show('MainPID')}/status`]);
  t.match(status, /^NoNewPrivs:\t1$/m);
  t.match(status, /^Seccomp:\t2$/m);
  for (const set of ['Inh', 'Prm', 'Eff', 'Amb'])
    t.match(status, new RegExp(`^Cap${set}:\\t0000000000001000$`, 'm'), `CAP_NET_ADMIN alone: ${set}`);
  // Nobody can gain it with no_new_privs; to take it out of this set would need CAP_SETPCAP.
  t.match(status, /^CapBnd:\t0000008000001000$/m, 'the bounding set alone has CAP_BPF too');
  const isSteered = async (): Promise<boolean> =>
    (await manager.exec(`ls -l /proc/${await show('MainPID')}/fd`)).includes('anon_inode:bpf-prog');
  t.ok(await isSteered(), 'the program that steers flows was loaded before');

  await ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await ok('create-vnic -l overlay0 foo0');
  await ok(
    `create-overlay -e vxlan -s files -v 7 -p vxlan/listen_ip=${a.underlay.v4} -p files/config=/etc/varpd/hosts.json files0`,
  );
  await a.plumb('overlay0');
  // A file that the operator sees and the service does not.
  await manager.exec('cp /etc/varpd/hosts.json /var/tmp/hosts.json');
  const hidden = 'vxlan/listen_ip=10.88.88.69,files/config=/var/tmp/hosts.json hidden0';
  const refused = await manager.run(`dladm create-overlay -e vxlan -s files -v 8 -p ${hidden}`);
  t.match(refused.stderr, /\/var\/tmp\/hosts\.json is not there; as a service, varpd may not see this path/);
  // docs/addresses.md: addresses come from where the host's others come from.
  if (hasNetworkd) {
    await manager.write('/etc/systemd/network/foo0.network', block('docs/addresses.md', 'ini'));
    await manager.write('/etc/systemd/system/networkd.service', NETWORKD_UNIT);
    await manager.exec('systemctl daemon-reload');
    await manager.exec('systemctl start networkd');
  } else t.comment(`without ${NETWORKD} nothing gives foo0 its address again`);
  const hasAddress = (): Promise<void> =>
    waitUntil(async () => (await a.ip('-4 addr show dev foo0')).includes('10.55.55.2/24'), {
      timeoutMs: 30_000,
      what: 'systemd-networkd to give foo0 its address',
    });
  if (hasNetworkd) await hasAddress();
  await a.ip('addr add 10.66.66.2/24 dev foo0');
  t.ok(await reaches(a, b.overlay.v4), 'it makes links and moves frames');
  const health = (expected: RegExp): Promise<void> =>
    waitUntil(async () => expected.test(await ok('show-overlay -f -p -o status,details overlay0')), {
      what: `health: ${expected}`,
    });
  await a.ip('link set under0 down');
  await health(/^DEGRADED:.*under0 is down/);
  await a.ip('link set under0 up');
  await health(/^ONLINE/);
  await waitUntil(() => reaches(a, b.overlay.v4), { what: 'the link to work again' });

  const all = (): Promise<unknown[]> =>
    Promise.all(['overlay0', 'foo0', 'files0'].map((name) => identity(a, name)));
  const before = await all();
  const ways: readonly (readonly [string, string, boolean])[] = [
    ['systemctl restart', 'systemctl restart varpd', true],
    ['dladm restart', 'dladm restart', false],
    ['kill -9', 'systemctl kill -s KILL varpd', true],
  ];
  for (const [what, command, isNew] of ways) {
    const pid = await show('MainPID');
    const { ms, lost } = await pause(a, b.overlay.v4, async () => {
      await manager.exec(command);
      if (isNew)
        await waitUntil(async () => !['0', pid].includes(await show('MainPID')), {
          timeoutMs: 30_000,
          what: `another process after ${what}`,
        });
      await isActive(`the service after ${what}`);
    });
    t.comment(`${what}: a pause of ${ms} ms`);
    t.equal(lost, 0, `${what}: frames wait, none is lost`);
    t.equal((await show('MainPID')) !== pid, isNew, `${what}: ${isNew ? 'another' : 'the same'} process`);
    t.same(await all(), before, `${what}: links stay as they are`);
    t.ok(await isSteered(), `${what}: flows are steered`);
  }
  t.equal(await show('NRestarts'), '1', 'systemd itself has started it anew once');

  await ok('create-vnic -l overlay0 bar0');
  await ok('delete-vnic bar0');
  t.notOk(await a.hasDevice('bar0'), 'no copy that systemd keeps holds what is deleted');
  await ok('delete-overlay files0');
  await ok(
    directOverlay(
      { from: a.underlay.v4, to: b.underlay.v4, name: 'direct0', vnetid: 8 },
      '-p vxlan/listen_port=4790',
    ),
  );
  await ok('delete-overlay direct0');
  await ok(
    directOverlay(
      { from: a.underlay.v4, to: b.underlay.v4, name: 'direct0', vnetid: 9 },
      '-p vxlan/listen_port=4790',
    ),
  );
  const { code, stderr } = await manager.run('dladm create-vnic -l nothing0 foo1');
  t.same([code, stderr.trim()], [4, 'dladm: vnic creation over nothing0 failed: object not found']);
  // A small system has no package procps.
  await manager.exec('rm -f /bin/kill /usr/bin/kill');
  await manager.exec('systemctl reload varpd');
  await waitUntil(async () => (await show('WatchdogTimestampMonotonic')) !== said, {
    timeoutMs: 60_000,
    what: 'a sign of life',
  });
  await manager.exec('systemctl stop varpd');
  t.equal(await show('Result'), 'success');
  t.notOk(await a.hasDevice('overlay0'), 'after a stop nothing is left');
  t.equal(await show('NFileDescriptorStore'), '0');

  await manager.exec('systemctl start varpd');
  t.ok(await a.hasDevice('foo0'), 'a start makes the links again');
  t.notMatch(await a.ip('-4 addr show dev foo0'), /10\.66\.66\.2/, 'without what was typed');
  if (hasNetworkd) await hasAddress();
  await manager.exec('systemctl stop varpd');
  if (!t.passing()) t.comment(manager.output);
});
