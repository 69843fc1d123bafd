// Whom varpd obeys, what it tells, and how it lives on when something is taken from it.

import { chmodSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { metricOf } from '../../src/daemon/observe/metrics.js';
import { type DropReason, DROPS, SOCKET_DROPS } from '../../src/model/drops.js';
import { Daemon, DLADM_MAIN } from '../helpers/daemon.js';
import { get, parseMetrics, type Sample, valueOf } from '../helpers/metrics.js';
import { Bed, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';
import { skip, IDLE_LIMIT_KIB, site, create, plumbPeer } from '../helpers/control-site.js';

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

const GROUP = { name: 'games', gid: 60 };
const asNobody = (groups: string): readonly string[] => [
  'setpriv',
  '--reuid',
  '65534',
  '--regid',
  '65534',
  ...groups.split(' '),
];
const mayRead =
  skip === false && (await run([...asNobody('--clear-groups'), 'test', '-r', DLADM_MAIN])).code === 0;
const skipUsers = skip || (mayRead ? false : `needs ${DLADM_MAIN} to be readable by all users`);

t.test('who may do what', { skip: skipUsers }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  for (const { config, groups, may } of [
    { config: {}, groups: '--clear-groups', may: false },
    { config: {}, groups: `--groups ${GROUP.gid}`, may: false },
    { config: { group: GROUP.name }, groups: '--clear-groups', may: false },
    { config: { group: GROUP.name }, groups: `--groups ${GROUP.gid}`, may: true },
  ]) {
    const daemon = (await Daemon.start(bed, a, { config })).explain(t);
    chmodSync(daemon.directory, 0o755);
    const env = { VARPD_SOCKET: daemon.socket };
    const words = `${'group' in config ? 'a group may' : 'root alone may'}, ${groups}`;
    for (const line of [create({ a, b }), 'show-overlay', 'delete-overlay overlay0']) {
      const command = [...asNobody(groups), process.execPath, DLADM_MAIN, ...line.split(/\s+/)];
      const { code, stderr } = await a.run(command, { env });
      t.equal(code, may ? 0 : 6, `${words}: ${line.split(' ')[0]} ${may ? 'is done' : 'is refused'}`);
      if (!may) t.match(stderr, /permission denied/);
    }
    t.notOk(await a.hasDevice('overlay0'));
    await daemon.stop();
  }
});

t.test('an idle daemon with one overlay is small', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  await a.plumb('overlay0');
  await sleep(1000);
  const kib = daemon.residentKib();
  t.ok(kib > 0 && kib < IDLE_LIMIT_KIB, `${Math.round(kib / 1024)} MiB`);
});

t.test('metrics', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  const daemon = new Daemon(bed, a).explain(t);
  const socket = path.join(daemon.directory, 'metrics.sock');
  daemon.writeConfig({ metrics: socket });
  await daemon.start();
  await daemon.ok(create({ a, b }, '-p link-state=follow'));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  await a.ip('link set foo0 up');
  t.ok(await reaches(a, b.overlay.v4));
  t.equal((await ping(a, b.overlay.v4, { count: 10 })).received, 10);

  let last: readonly Sample[] = [];
  const read = async (): Promise<readonly Sample[]> => {
    const samples = parseMetrics((await get(socket)).body);
    const isCounter = ({ name }: Sample): boolean => /^varpd_.*_total$/.test(name);
    const less = last
      .filter(isCounter)
      .filter(({ name, labels, value }) => (valueOf(samples, name, labels) ?? Infinity) < value);
    t.same(less, [], 'no counter goes back');
    last = samples;
    return samples;
  };
  const of = (name: string, labels: Record<string, string> = {}): number | undefined =>
    valueOf(last, `varpd_${name}`, { overlay: 'overlay0', ...labels });
  /** What dladm shows, under the names that metrics have. */
  const shown = async (): Promise<Sample[]> => {
    const [{ counters }] = await daemon.overlays('overlay0');
    const [vnic] = await daemon.vnics();
    const dropLabels = (labels: Record<string, string>, reason: string): Record<string, string> => ({
      ...labels,
      reason,
      kind: DROPS[reason as DropReason].kind,
    });
    const samples = (
      prefix: string,
      labels: Record<string, string>,
      values: Record<string, number>,
    ): Sample[] =>
      Object.entries(values).map(([name, value]) =>
        name in DROPS
          ? { name: `varpd_${prefix}_drops_total`, labels: dropLabels(labels, name), value }
          : { name: `varpd_${prefix}_${metricOf(name)}_total`, labels, value },
      );
    return [
      ...samples('overlay', { overlay: 'overlay0' }, counters).filter(
        ({ labels }) => !(labels['reason'] in SOCKET_DROPS),
      ),
      ...samples('port', { overlay: 'overlay0', port: 'foo0' }, vnic.counters).filter(
        ({ value }) => value > 0,
      ),
    ];
  };
  const agree = async (): Promise<boolean> => {
    const before = await shown();
    await read();
    // A host says something of its own accord now and then.
    if (JSON.stringify(await shown()) !== JSON.stringify(before)) return false;
    return before.every(({ name, labels, value }) => valueOf(last, name, labels) === value);
  };
  await waitUntil(agree, { stepMs: 100, what: 'metrics and dladm to say the same' });
  t.ok((of('overlay_tx_frames_total') ?? 0) >= 10);
  t.ok((of('overlay_rx_bytes_total') ?? 0) >= 10 * 84);
  t.ok((of('port_rx_frames_total', { port: 'overlay0' }) ?? 0) >= 10, 'its own port');
  t.equal(of('overlay_online'), 1);
  t.equal(of('overlay_destinations'), 1);
  t.equal(valueOf(last, 'varpd_kernel_feature', { feature: 'tapChecksum' }), 1);
  const becomes = (isOn: boolean): Promise<void> =>
    waitUntil(async () => (await read(), of('overlay_online')) === Number(isOn), {
      what: `the overlay to be ${isOn ? 'online' : 'degraded'}`,
    });
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await becomes(false);
  t.equal(of('overlay_underlay_state', { state: 'down' }), 1);
  t.equal(of('overlay_underlay_losses_total'), 1);
  t.equal(of('port_carrier', { port: 'foo0' }), 0);
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  await becomes(true);
  t.equal(of('port_carrier', { port: 'foo0' }), 1);

  const junk = `require('dgram').createSocket('udp4').send('x', 4789, '${a.underlay.v4}', () => process.exit())`;
  await b.exec([process.execPath, '-e', junk]);
  const listen = `${a.underlay.v4}:4789`;
  const isCounted = async (): Promise<boolean> => {
    await read();
    return valueOf(last, 'varpd_socket_drops_total', { listen, reason: 'rx_truncated' }) === 1;
  };
  await waitUntil(isCounted, { what: 'a drop of no overlay' });

  await daemon.ok('delete-vnic foo0');
  await read();
  t.notOk(
    last.some(({ labels }) => labels['port'] === 'foo0'),
    'what is deleted has no metrics',
  );

  const address = '127.0.0.1:9560';
  const other = await Daemon.start(bed, a, { config: { metrics: address } });
  const ask = `fetch('http://${address}/metrics').then((answer) => answer.text()).then(console.log)`;
  const samples = parseMetrics(await a.exec([process.execPath, '-e', ask]));
  t.equal(valueOf(samples, 'varpd_overlays', { state: 'running' }), 0, 'over TCP');
  const twin = new Daemon(bed, a, { config: { metrics: address } });
  await t.rejects(twin.start(), /varpd\.yaml:3:10: metrics: another program uses 127\.0\.0\.1:9560/);
  daemon.writeConfig({ metrics: address });
  await daemon.ok('restart');
  await waitUntil(() => /another program uses .*; tried again/.test(daemon.log()), {
    what: 'the log',
  });
  t.ok(await reaches(a, b.overlay.v4), 'it goes on without');
  await other.stop();
  await daemon.stop();
});

// ---------------------------------------------------------------- what is taken from it

/** CPU seconds of two seconds in which nothing happens: one that spins takes two or more. */
async function idleCpuSeconds(daemon: Daemon): Promise<number> {
  const before = daemon.cpuSeconds();
  await sleep(2000);
  return daemon.cpuSeconds() - before;
}

t.test('devices that are removed', { skip }, async (t) => {
  const { bed, a, b, daemon } = await site(t);
  const inside = await bed.host();
  await daemon.ok(create({ a, b }));
  await daemon.ok(create({ a, b }, '', 'other0', 43));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('create-vnic -l overlay0 bar0');
  for (const vnetid of [42, 43]) await plumbPeer({ a, b }, vnetid);
  await b.plumb('vx42');
  await b.ip('addr add 10.66.66.3/24 dev vx43');
  await b.ip('link set vx43 up');
  await a.ip('addr add 10.66.66.2/24 dev other0');
  await a.ip(`link set foo0 netns ${inside.name}`);
  await inside.plumb('foo0');
  t.ok(await reaches(a, '10.66.66.3'));
  t.ok(await reaches(inside, b.overlay.v4));
  const health = async (name: string): Promise<unknown> => (await daemon.overlays(name))[0].health;
  const isDegraded = async (): Promise<boolean> =>
    (await daemon.overlays('overlay0'))[0].health.status === 'DEGRADED';

  await a.ip('link delete overlay0');
  await waitUntil(isDegraded, { what: 'the overlay to be degraded' });
  t.match(await health('overlay0'), { status: 'DEGRADED', details: /overlay0.* removed/ }, 'in a sentence');
  t.match(
    await daemon.ok('show-overlay -f overlay0'),
    /overlay0 +DEGRADED +port overlay0: the device was removed/,
  );
  t.same(await health('other0'), { status: 'ONLINE', details: null }, 'others are not concerned');
  t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');
  t.equal((await ping(a, '10.66.66.3')).received, 3, 'the other overlay goes on');
  t.equal((await ping(inside, b.overlay.v4)).received, 3, 'so does a VNIC of this one');

  await inside.ip('link delete foo0');
  await a.ip('link delete bar0');
  const states = async (): Promise<unknown> => (await daemon.vnics()).map(({ name, state }) => [name, state]);
  await waitUntil(async () => (await daemon.vnics()).every(({ state }) => state !== 'up'), {
    what: 'the VNICs to be missed',
  });
  t.same(await states(), [
    ['foo0', 'the device was removed'],
    ['bar0', 'the device was removed'],
  ]);
  t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');

  await daemon.ok('up-overlay overlay0');
  t.same(await health('overlay0'), { status: 'ONLINE', details: null }, 'up-overlay mends it');
  t.same(await states(), [
    ['foo0', 'up'],
    ['bar0', 'up'],
  ]);
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'and traffic flows');

  // A namespace takes its VNICs along when it goes.
  await a.ip(`link set foo0 netns ${inside.name}`);
  await run(['ip', 'netns', 'delete', inside.name]);
  await waitUntil(isDegraded, { what: 'the VNIC in the namespace to be missed' });
  t.match(await health('overlay0'), { details: /foo0/ });
  await daemon.ok('delete-vnic foo0');
  t.same(await health('overlay0'), { status: 'ONLINE', details: null }, 'what is deleted is no trouble');
  await a.ip('link delete bar0');
  await waitUntil(isDegraded, { what: 'the VNIC to be missed' });
  await daemon.restart('kill');
  t.same(await states(), [['bar0', 'up']], 'a restart mends too');
});

t.test('an underlay that goes and comes', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await daemon.ok(create({ a, b }));
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const away: readonly (readonly [what: string, go: string, come: readonly string[]])[] = [
    ['down', 'link set under0 down', ['link set under0 up']],
    [
      'without its address',
      `addr delete ${a.underlay.v4}/24 dev under0`,
      [`addr add ${a.underlay.v4}/24 dev under0`],
    ],
  ];
  for (const [what, go, come] of away) {
    await a.ip(go);
    const nothingPasses = async (): Promise<void> => {
      t.equal(
        (await ping(a, b.overlay.v4, { count: 2, waitMs: 200 })).received,
        0,
        `${what}: nothing passes`,
      );
    };
    const grown = await daemon.counted(nothingPasses, 'overlay0', { tx_unreachable: 1 });
    t.ok(grown['tx_unreachable'] >= 1, 'and is counted');
    t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');
    for (const command of come) await a.ip(command);
    t.ok(await reaches(a, b.overlay.v4), 'it passes again');
  }
  // A start without the address: the overlay waits for it, and says so.
  await a.ip(`addr delete ${a.underlay.v4}/24 dev under0`);
  await daemon.restart();
  t.same(await daemon.overlays(), []);
  const asked = await daemon.dladm('show-overlay', 'overlay0');
  t.equal(asked.code, 0);
  t.match(asked.stderr, /overlay0 is OFFLINE: .*10\.88\.88\.69 is not an address of this host/);
  t.equal((await daemon.dladm('up-overlay')).code, 1, 'too early');
  await a.ip(`addr add ${a.underlay.v4}/24 dev under0`);
  await daemon.ok('up-overlay');
  await a.plumb('overlay0');
  await b.ip('neigh flush dev vx42');
  t.ok(await reaches(a, b.overlay.v4), 'up-overlay, once the address is there');

  // A peer that is not there says so (ICMP); that is no trouble of the socket.
  await b.ip('link delete vx42');
  t.equal((await ping(a, b.overlay.v4, { count: 3, waitMs: 200 })).received, 0);
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await a.ip('neigh flush dev overlay0'); // the new one has another MAC
  t.ok(await reaches(a, b.overlay.v4), 'the peer is back');
  // A port that is down takes nothing; that costs only its frames.
  await a.ip('link set overlay0 down');
  const pingIt = () => ping(b, a.overlay.v4, { count: 2, waitMs: 200 });
  const grown = await daemon.counted(pingIt, 'overlay0', { port_down: 1 });
  t.ok(grown['port_down'] >= 1, 'a port that is down');
  await a.plumb('overlay0');
  t.ok(await reaches(b, a.overlay.v4), 'and up again');
});
