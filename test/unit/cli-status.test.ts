// dladm status: one screen about varpd and its overlays, against a daemon that answers from a script.
import t from 'tap';
import type { DaemonStatus } from '../../src/control/daemon-messages.js';
import type { OverlayInfo, PropertyRow, VnicInfo } from '../../src/control/messages.js';
import { textOf } from '../helpers/documents.js';
import { fakeDaemon, run } from '../helpers/fake-control.js';

const VARPD: DaemonStatus = {
  version: '1.2.3',
  pid: 4711,
  startedAt: '2026-11-23T12:00:00.000Z',
  uptimeSeconds: 3 * 86_400 + 4 * 3600 + 59,
  user: 'varpd',
  configuration: '/etc/varpd/varpd.yaml',
  isSettled: true,
  overlays: 3,
  vnics: 3,
  features: {},
};

interface Shape {
  readonly encap?: string;
  readonly vnetid?: number;
  readonly ip?: string;
  readonly status?: OverlayInfo['health']['status'];
  readonly details?: string | null;
}

function overlay(name: string, shape: Shape): OverlayInfo {
  const { encap = 'vxlan', vnetid = 23, ip = '10.88.88.69', status = 'ONLINE', details = null } = shape;
  const values = {
    vnetid,
    encap,
    search: 'files',
    [`${encap}/listen_ip`]: ip,
    [`${encap}/listen_port`]: 4789,
  };
  const properties = Object.entries(values).map(([property, value]): PropertyRow => ({
    property,
    permission: 'rw',
    required: false,
    value: String(value),
    default: null,
    possible: null,
  }));
  const isOffline = status === 'OFFLINE';
  return {
    name,
    temporary: false,
    mode: 'dynamic',
    properties,
    health: { status, details },
    underlay: isOffline ? null : { state: 'up', losses: 0, changedAt: '' },
    peers: isOffline ? null : 2,
    offloads: [],
    counters: {},
  };
}

function vnic(name: string, over: string, state = 'up'): VnicInfo {
  return {
    name,
    over,
    mac: '02:00:00:00:00:01',
    configuredMac: '02:00:00:00:00:01',
    macType: 'fixed',
    vid: 0,
    mtuBytes: 1450,
    temporary: false,
    state,
    counters: {},
  };
}

const OVERLAYS = [
  overlay('well0', { details: 'read again: +0 -0 ~0 entries, 3 now' }),
  overlay('half0', { encap: 'geneve', vnetid: 16777215 }),
  overlay('sick0', {
    status: 'DEGRADED',
    details:
      'files: /etc/varpd/hosts.json:7:25: found a string, expected a whole number from 1 to 65535; the mapping before is in use',
  }),
  overlay('off0', {
    status: 'OFFLINE',
    details: 'vxlan/listen_ip: 10.88.88.69 is not an address of this host',
  }),
];
const VNICS = [
  vnic('a0', 'well0'),
  vnic('b0', 'well0'),
  vnic('c0', 'half0', 'OFFLINE: there is a network interface c0'),
  vnic('d0', 'off0', 'OFFLINE: off0 is OFFLINE: x'),
];

const daemonWith = (
  overlays: readonly OverlayInfo[],
  vnics: readonly VnicInfo[],
  varpd: DaemonStatus = VARPD,
) =>
  fakeDaemon({
    'daemon.status': () => varpd,
    'overlay.list': () => ({ overlays, missing: [], next: null }),
    'vnic.list': () => ({ vnics, missing: [], next: null }),
  });

const SCREEN = `\
varpd 1.2.3: process 4711, user varpd, up 3 d 4 h, /etc/varpd/varpd.yaml

LINK     ENCAP  VNETID   PLUGIN LISTEN           PEERS PORTS STATE
off0     vxlan  23       files  10.88.88.69:4789 --    0/2   OFFLINE
    vxlan/listen_ip: 10.88.88.69 is not an address of this host
sick0    vxlan  23       files  10.88.88.69:4789 2     1     DEGRADED
    files: /etc/varpd/hosts.json:7:25: found a string, expected a whole number
    from 1 to 65535; the mapping before is in use
half0    geneve 16777215 files  10.88.88.69:4789 2     1/2   ONLINE
    c0 is OFFLINE: there is a network interface c0
well0    vxlan  23       files  10.88.88.69:4789 2     3     ONLINE
`;

t.test('one screen: trouble first, each with its reason', async (t) => {
  const { socket } = await daemonWith(OVERLAYS, VNICS);
  t.same(await run(socket, 'status'), { status: 0, out: SCREEN, err: '' }, 'also when it is not well');
  for (const text of SCREEN.split('\n')) t.ok(text.length <= 80, text);
  t.ok(
    textOf('docs/overlays.md').includes(SCREEN.replace(/^(?=.)/gm, '    ')),
    'docs/overlays.md has this screen',
  );
});

t.test('the user of plugins, and how they are confined', async (t) => {
  const ways: readonly [DaemonStatus['pluginConfinement'], text: string][] = [
    [undefined, ''],
    [{ landlock: 7, lack: null }, ' with Landlock (ABI 7)'],
    [{ landlock: 0, lack: 'this kernel has none' }, ' without Landlock (this kernel has none)'],
    [{ landlock: 3, lack: 'files can be read' }, ' with Landlock (ABI 3; files can be read)'],
  ];
  for (const [pluginConfinement, text] of ways) {
    const varpd = { ...VARPD, pluginUser: 'varpd-plugin', ...(pluginConfinement && { pluginConfinement }) };
    const { socket } = await daemonWith(OVERLAYS, VNICS, varpd);
    const { out } = await run(socket, 'status');
    t.match(out.replaceAll('\n', ' '), `, plugins as user varpd-plugin${text}, up 3 d`, text);
    t.match(JSON.parse((await run(socket, 'status', '--json')).out), { varpd });
  }
  const lacking = {
    ...VARPD,
    pluginUser: 'varpd',
    pluginLack: 'there is no varpd-plugins.socket: '.repeat(4),
  };
  const { socket } = await daemonWith(OVERLAYS, VNICS, lacking);
  const { out } = await run(socket, 'status');
  t.match(out, /^Plugins: there is no varpd-plugins\.socket/m);
  for (const text of out.split('\n')) t.ok(text.length <= 80, text);
});

t.test('a screen of long names and addresses has 80 columns too', async (t) => {
  const ip = '2001:db8:1234:5678:9abc:def0:1234:5678';
  const long = overlay('abcdefghijklmn0', {
    encap: 'geneve',
    vnetid: 16777215,
    ip,
    status: 'DEGRADED',
    details: 'x',
  });
  const { socket } = await daemonWith([long], []);
  const { out } = await run(socket, 'status');
  for (const text of out.split('\n')) t.ok(text.length <= 80, text);
  t.match(out, `\n    listens on [${ip}]:4789\n    x\n`);
});

t.test('an overlay that works and has notes comes before those without', async (t) => {
  const noted = overlay('noted0', { details: 'read again: 3 entries; odd' });
  const { socket } = await daemonWith(
    [overlay('well0', {}), { ...noted, health: { ...noted.health, notes: 'odd' } }],
    [],
  );
  const { out } = await run(socket, 'status');
  t.match(out, /\nnoted0 .* ONLINE\n {4}odd\nwell0 .* ONLINE\n$/, 'the news of its plugin are not there');
  const json = JSON.parse((await run(socket, 'status', '--json')).out) as { overlays: object[] };
  t.match(json.overlays, [
    { name: 'noted0', notes: 'odd', reason: /; odd$/ },
    { name: 'well0', notes: null },
  ]);
});

t.test('nothing there, just started, without a file, by an unnamed user', async (t) => {
  const varpd = { ...VARPD, uptimeSeconds: 0, user: '1000', configuration: null, isSettled: false };
  const { socket } = await daemonWith([], [], varpd);
  t.same(await run(socket, 'status'), {
    status: 0,
    out: `varpd 1.2.3: process 4711, user 1000, up 0 s, without a configuration file
Overlays are still being brought up.

There are no overlays.
`,
    err: '',
  });
  for (const [uptimeSeconds, text] of [
    [59, '59 s'],
    [61, '1 min 1 s'],
    [3600, '1 h 0 min'],
    [86_399, '23 h 59 min'],
  ] as const) {
    const there = await daemonWith([], [], { ...VARPD, uptimeSeconds });
    t.match((await run(there.socket, 'status')).out, `, up ${text}, `);
  }
});

t.test('for programs', async (t) => {
  const { socket } = await daemonWith(OVERLAYS, VNICS);
  const { out, status } = await run(socket, 'status', '--json');
  t.equal(status, 0);
  const { v, varpd, overlays } = JSON.parse(out) as { v: number; varpd: object; overlays: object[] };
  t.same([v, varpd], [1, VARPD]);
  t.same(overlays[2], {
    name: 'half0',
    temporary: false,
    encap: 'geneve',
    vnetid: 16777215,
    plugin: 'files',
    listen: '10.88.88.69:4789',
    peers: 2,
    ports: 2,
    portsRunning: 1,
    state: 'ONLINE',
    reason: null,
    notes: null,
    offlineVnics: [{ name: 'c0', reason: 'there is a network interface c0' }],
  });
  t.match(overlays[3], { name: 'well0', reason: /^read again/ }, 'news are in JSON alone');
  for (const member of Object.keys(overlays[0]))
    t.ok(textOf('docs/overlays.md').includes(`\`${member}\``), `${member} is documented`);

  const fields = await run(socket, 'status', '-p', '-o', 'link,state,peers,ports');
  t.same(fields, {
    status: 0,
    out: 'off0:OFFLINE:--:0/2\nsick0:DEGRADED:2:1\nhalf0:ONLINE:2:1/2\nwell0:ONLINE:2:3\n',
    err: '',
  });
  const own = await run(socket, 'status', '-p', '-o', 'version,pid,uptime,user,configuration');
  t.same(own, { status: 0, out: '1.2.3:4711:273659:varpd:/etc/varpd/varpd.yaml\n', err: '' });
  t.match(await run(socket, 'status', '-o', 'link,reason'), { status: 0, out: /^LINK +REASON\noff0 +vxlan/ });

  t.match(await run(socket, 'status', '-p', '-o', 'link,pid'), {
    status: 7,
    err: /unknown output field: 'pid'/,
  });
  t.match(await run(socket, 'status', '--json', '-o', 'link'), { status: 2 });
  t.match(await run(socket, 'status', 'well0'), { status: 2, err: /expected no operand, got: well0/ });
  t.match(await run('/nowhere/varpd.sock', 'status'), { status: 3, err: /is varpd running\?/ });
});
