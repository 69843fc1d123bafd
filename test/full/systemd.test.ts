// varpd as a service of a real systemd, installed as docs/service.md says, with config/varpd.service as it is.
import { existsSync, statSync } from 'node:fs';

import t from 'tap';

import type { DaemonStatus } from '../../src/control/daemon-messages.js';
import { landlockVersion } from '../../src/dgram-extra/index.js';
import { directOverlay } from '../helpers/daemon.js';
import { block, textOf } from '../helpers/documents.js';
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
/** networkctl speaks to networkd over it. */
const DBUS = '/usr/bin/dbus-daemon';
const DBUS_UNIT = `[Service]\nType=notify\nRuntimeDirectory=dbus\nExecStart=${DBUS} --system --nofork --nopidfile --systemd-activation\n`;
const hasNetworkd = existsSync(NETWORKD) && existsSync(DBUS);

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

await t.test('a service of systemd', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  const manager = await Systemd.bootWhereItRuns(a, fromRoot('.'));
  if (typeof manager === 'string') {
    await t.test('it runs', { skip: manager }, () => undefined);
    return;
  }
  t.teardown(() => manager.end());
  const show = async (property: string): Promise<string> =>
    (await manager.exec(`systemctl show --value -p ${property} varpd`)).trim();
  const isActive = (what: string): Promise<void> =>
    waitUntil(async () => (await show('ActiveState')) === 'active', { what });
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
  const environment = await manager.exec(['cat', `/proc/${await show('MainPID')}/environ`]);
  t.notMatch(environment, /VARPD_WITHOUT_RIGHTS/, 'and for that it has not become another process');
  // Nobody can gain it with no_new_privs; to take it out of this set would need CAP_SETPCAP.
  t.match(status, /^CapBnd:\t0000008000001000$/m, 'the bounding set alone has CAP_BPF too');
  const isSteered = async (): Promise<boolean> =>
    (await manager.exec(`ls -l /proc/${await show('MainPID')}/fd`)).includes('anon_inode:bpf-prog');
  t.ok(await isSteered(), 'the program that steers flows was loaded before');
  const isJoined = async (): Promise<boolean> =>
    (await manager.exec('dladm status')).includes('plugins as user varpd-plugin');
  await waitUntil(isJoined, { what: 'the spawner of plugins to be reached' });
  const { varpd } = JSON.parse(await ok('status --json')) as { varpd: DaemonStatus };
  const version = landlockVersion();
  t.match(varpd.pluginConfinement, version > 0 ? { landlock: version, lack: null } : { landlock: 0 });
  const store = 'http/url=http://127.0.0.1:1,http/mode=lookup';
  const asked = await manager.run(
    `dladm create-overlay -e vxlan -s http -v 9 -p vxlan/listen_ip=${a.underlay.v4},${store} store0`,
  );
  t.match(asked.stderr, /cannot be reached \(ECONNREFUSED\)/, 'a plugin process starts, and asks its store');
  t.match(
    await manager.exec(['stat', '-c', '%U %a', '/var/lib/varpd-plugins/http']),
    /^varpd-plugin 700$/m,
    'it has a state directory',
  );

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
    await manager.write('/etc/systemd/system/dbus.service', DBUS_UNIT);
    await manager.write('/etc/systemd/system/networkd.service', NETWORKD_UNIT);
    await manager.exec('systemctl daemon-reload');
    await manager.exec('systemctl start dbus networkd');
    const [place] = /\/etc\/systemd\/network\/\S+\.network/.exec(textOf('docs/addresses.md')) ?? [''];
    await manager.write(place, block('docs/addresses.md', 'ini'));
    await manager.exec('networkctl reload');
  } else t.comment(`without ${NETWORKD} and ${DBUS} nothing gives foo0 its address again`);
  const hasAddress = (): Promise<void> =>
    waitUntil(async () => (await a.ip('-4 addr show dev foo0')).includes('10.55.55.2/24'), {
      what: 'systemd-networkd to give foo0 its address',
    });
  if (hasNetworkd) {
    await hasAddress();
    const status = await manager.exec('networkctl status foo0');
    t.match(status, /Network File: \/etc\/systemd\/network\/foo0\.network/, 'it says which file is in force');
  }
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

await t.test('an upgrade that has left the units of plugins out', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a] = await bed.twoHosts();
  const manager = await Systemd.bootWhereItRuns(a, fromRoot('.'));
  if (typeof manager === 'string') {
    await t.test('it runs', { skip: manager }, () => undefined);
    return;
  }
  t.teardown(() => manager.end());
  await manager.install();
  const units = '/etc/systemd/system';
  const status = async (): Promise<DaemonStatus> =>
    (JSON.parse(await manager.exec('dladm status --json')) as { varpd: DaemonStatus }).varpd;
  const store = `vxlan/listen_ip=${a.underlay.v4},http/url=http://127.0.0.1:1,http/mode=lookup`;
  let vnetid = 9;
  /** A plugin process starts, and asks its store. */
  const works = async (what: string): Promise<void> => {
    const line = `dladm create-overlay -e vxlan -s http -v ${vnetid++} -p ${store} store0`;
    t.match((await manager.run(line)).stderr, /cannot be reached \(ECONNREFUSED\)/, what);
  };

  await manager.exec('systemctl stop varpd');
  await manager.exec('systemctl disable --now varpd-plugins.socket');
  await manager.exec(['sh', '-c', `rm -f ${units}/varpd-plugins.*`]);
  const out = '/var/lib/varpd.out';
  await manager.write(`${units}/varpd.service.d/out.conf`, `[Service]\nStandardOutput=append:${out}\n`);
  await manager.exec('systemctl daemon-reload');
  await manager.exec('systemctl start varpd');
  const missing =
    /varpd-plugins\.socket is not installed, or was stopped\. Meanwhile plugins run as the user of varpd: copy config\/varpd-plugins\.\*/;
  t.match(await status(), { pluginUser: null, pluginLack: missing }, 'without the units: status says it');
  t.match((await manager.exec('dladm status')).replaceAll(/\s+/g, ' '), missing, 'also to a reader');
  await works('and plugins work');
  t.match(await status(), { pluginUser: 'varpd', pluginLack: missing });
  t.match(await manager.exec(`cat ${out}`), missing, 'and the log');

  await manager.exec(['sh', '-c', `cp /opt/varpd/config/varpd-plugins.* ${units}/`]);
  await manager.exec('systemctl daemon-reload');
  await manager.exec('systemctl start varpd-plugins.socket');
  await manager.exec('dladm restart');
  const isJoined = async (): Promise<boolean> => (await status()).pluginUser === 'varpd-plugin';
  await waitUntil(isJoined, { what: 'the spawner of the unit' });
  t.equal((await status()).pluginLack, null, 'after what the sentence says, nothing is missing');
  await works('and they work as their own user');

  await manager.exec(['sed', '-i', '/varpd-plugins/d', `${units}/varpd.service`]);
  await manager.exec('systemctl daemon-reload');
  await manager.exec('systemctl restart varpd');
  t.equal((await status()).pluginUser, null);
  await works('with a unit of before there were any');
  t.match(await status(), {
    pluginUser: 'varpd',
    pluginLack: /varpd\.service is of an earlier version, without VARPD_SPAWNER/,
  });
  await manager.exec('systemctl stop varpd');
  if (!t.passing()) t.comment(manager.output);
});
