// Properties of an overlay change while it runs: under ping, under iperf3, over restarts of every kind.
import t, { type Test } from 'tap';

import type { OverlayInfo } from '../../src/control/messages.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { newHosts, overlayOf } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { newBed, startOverlay } from '../helpers/tunnels.js';
import { MappingFile, plumb, SteadyPing } from '../helpers/zlan.js';
import { site, skip as skipFiles } from '../helpers/files-site.js';

const skip = skipUnlessNetns();

async function tunnel(t: Test, more = '') {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const [daemon, other] = [await startOverlay(t, bed, a, b, { more }), await startOverlay(t, bed, b, a)];
  await a.plumb('overlay0');
  await b.plumb('overlay0');
  await daemon.ok('create-vnic -l overlay0 net0');
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemon, other };
}

const valueOf = ({ properties }: OverlayInfo, name: string): string | null | undefined =>
  properties.find(({ property }) => property === name)?.value;

async function deviceMtu(host: Namespace, device: string): Promise<number> {
  const [{ mtu }] = JSON.parse(await host.ip(`-j link show ${device}`)) as [{ mtu: number }];
  return mtu;
}

/** The addresses and ports that varpd has UDP sockets at. */
const sockets = async (host: Namespace): Promise<string[]> =>
  (await host.run(['ss', '-Hnul'])).stdout.split('\n').flatMap((line) => line.split(/\s+/)[3] ?? []);

/** Property, other value, value of before. */
const CHANGES = [
  ['mtu', '1400', undefined],
  ['vxlan/accept', 'any', 'known'],
  ['vxlan/strict-source', 'on', 'off'],
  ['vxlan/dscp', 'copy', 'zero'],
  ['vxlan/vlan', 'drop', 'keep'],
  ['vxlan/loopback', 'off', 'on'],
  ['vxlan/source_ports', '1', '64'],
  ['vxlan/source_ports', '7', '64'],
  ['vxlan/udp_checksum', 'zero', 'auto'],
  ['offload', 'off', 'auto'],
  ['offload', 'checksum,uso', 'auto'],
  ['offload', 'train,coalesce', 'auto'],
  ['link-state', 'follow', 'up'],
] as const;

await t.test('each property under ping', { skip }, async (t) => {
  const { a, b, daemon } = await tunnel(t);
  const mtuBytes = valueOf(await overlayOf(daemon), 'mtu');
  const flows = [await SteadyPing.start(a, b.overlay.v4), await SteadyPing.start(b, a.overlay.v6)];
  for (const [name, value, before] of CHANGES) {
    const marks = flows.map(({ reached }) => reached);
    await daemon.ok(`set-overlayprop -p ${name}=${value} overlay0`);
    t.equal(valueOf(await overlayOf(daemon), name), value, `${name}=${value}`);
    const isOver = (): boolean => flows.every(({ reached }, index) => reached > marks[index] + 10);
    await waitUntil(isOver, { what: `replies with ${name}=${value}` });
    if (before === undefined) await daemon.ok(`reset-overlayprop -p ${name} overlay0`);
    else await daemon.ok(`set-overlayprop -p ${name}=${before} overlay0`);
    t.equal(valueOf(await overlayOf(daemon), name), before ?? mtuBytes, `${name} as before`);
  }
  for (const flow of flows) {
    const { sent, lost, duplicates } = await flow.stop();
    t.same({ lost, duplicates }, { lost: 0, duplicates: 0 }, `0 of ${sent} packets lost`);
  }
  t.match(await overlayOf(daemon), { health: { status: 'ONLINE' } });
});

await t.test('the MTU, at every port', { skip }, async (t) => {
  const { a, b, daemon } = await tunnel(t);
  const before = Number(valueOf(await overlayOf(daemon), 'mtu'));
  await daemon.ok('set-overlayprop -p mtu=1300 overlay0');
  t.same([await deviceMtu(a, 'overlay0'), await deviceMtu(a, 'net0')], [1300, 1300]);
  t.match((await daemon.vnics())[0], { mtuBytes: 1300, state: 'up' });
  t.equal((await ping(a, b.overlay.v4, { packetBytes: 1300 })).received, 3, 'the largest packet passes');
  t.equal((await ping(a, b.overlay.v4, { packetBytes: 1301 })).received, 0, 'and none that is larger');
  await a.ip('link set net0 mtu 1000');
  await daemon.ok('reset-overlayprop -p mtu overlay0');
  t.equal(await deviceMtu(a, 'overlay0'), before, 'the default again');
  t.equal(await deviceMtu(a, 'net0'), 1000, 'a choice of another program stays');
  t.equal((await ping(a, b.overlay.v4, { packetBytes: before })).received, 3);
  const refused = await daemon.dladm('set-overlayprop', '-p', `mtu=${before + 1}`, 'overlay0');
  t.equal(refused.code, 7);
  t.match(refused.stderr, `found '${before + 1}', expected at most ${before}: the route carries no more`);
  t.equal(await deviceMtu(a, 'overlay0'), before);
});

await t.test('under iperf3', { skip: skipUnlessNetns(['iperf3']) }, async (t) => {
  const { a, b, daemon } = await tunnel(t);
  const server = b.spawn(['iperf3', '-s', '-1', '--forceflush', '-B', b.overlay.v4]);
  await server.waitForOutput(/listening/);
  // UDP, since TCP would hide what is lost; a rate that two hosts on a busy machine carry.
  const client = a.spawn(['iperf3', '-u', '-c', b.overlay.v4, '-b', '4M', '-l', '1000', '-t', '6', '-J']);
  const counters = async (): Promise<number> => (await overlayOf(daemon)).counters['tx_frames'] ?? 0;
  const begun = await counters();
  await waitUntil(async () => (await counters()) > begun + 100, { what: 'iperf3 to send' });
  for (const change of [
    'vxlan/source_ports=3,vxlan/dscp=copy',
    'vxlan/udp_checksum=zero',
    'offload=off',
    'offload=checksum,uso',
    'offload=checksum,tso,train',
    'offload=auto,vxlan/udp_checksum=full,mtu=1350',
    'vxlan/accept=any',
  ])
    await daemon.ok(`set-overlayprop -p ${change} overlay0`);
  t.notOk(client.ended, 'all of it while iperf3 sends');
  t.equal((await client.exited).code, 0);
  const { end } = JSON.parse(client.stdout) as { end: { sum: { lost_packets: number; packets: number } } };
  t.equal(end.sum.lost_packets, 0, `none of ${end.sum.packets} packets lost`);
});

await t.test('the listen address under iperf3', { skip: skipUnlessNetns(['iperf3']) }, async (t) => {
  const { a, b, daemon, other } = await tunnel(t);
  const second = '10.88.88.169';
  await a.ip(`addr add ${second}/24 dev ${UNDERLAY_DEVICE}`);
  await other.ok('set-overlayprop -p vxlan/accept=any overlay0');
  const server = b.spawn(['iperf3', '-s', '-1', '--forceflush']);
  await server.waitForOutput(/listening/);
  const client = a.spawn(['iperf3', '-u', '-c', b.overlay.v4, '-b', '4M', '-l', '1000', '-t', '4', '-J']);
  const counters = async (): Promise<number> => (await overlayOf(daemon)).counters['tx_frames'] ?? 0;
  const begun = await counters();
  await waitUntil(async () => (await counters()) > begun + 100, { what: 'iperf3 to send' });
  await daemon.ok(`set-overlayprop -p vxlan/listen_ip=${second} overlay0`);
  await other.ok(`set-overlayprop -p direct/dest_ip=${second} overlay0`);
  t.notOk(client.ended, 'both while iperf3 sends');
  t.equal((await client.exited).code, 0);
  const { end } = JSON.parse(client.stdout) as { end: { sum: { lost_packets: number; packets: number } } };
  t.equal(
    end.sum.lost_packets,
    0,
    `a host that accepts any address loses none of ${end.sum.packets} packets`,
  );
});

await t.test('the destination and the listen address', { skip }, async (t) => {
  const { a, b, daemon, other } = await tunnel(t);
  const [second, third] = ['10.88.88.169', '10.88.88.170'];
  await a.ip(`addr add ${second}/24 dev ${UNDERLAY_DEVICE}`);
  await daemon.ok(`set-overlayprop -p vxlan/listen_ip=${second},vxlan/listen_port=4790 overlay0`);
  t.ok((await sockets(a)).includes(`${second}:4790`), 'a socket at the new address');
  t.notOk((await sockets(a)).includes(`${a.underlay.v4}:4789`), 'the old socket is closed');
  await other.ok(`set-overlayprop -p direct/dest_ip=${second},direct/dest_port=4790 overlay0`);
  t.ok(await reaches(a, b.overlay.v4), 'from the new address');
  t.ok(await reaches(b, a.overlay.v4));
  t.match(await overlayOf(daemon), { health: { status: 'ONLINE' } });
  const { peers } = await overlayOf(other);
  t.equal(peers, 1);

  const state = await overlayOf(daemon);
  const bad: readonly (readonly [change: string, code: number, said: RegExp])[] = [
    [`vxlan/listen_ip=${third}`, 7, /10\.88\.88\.170 is not an address of this host/],
    ['vxlan/listen_ip=fd88::1', 7, /not of the same family/],
    [`direct/dest_ip=${second},direct/dest_port=4790`, 7, /own listen address/],
    ['mtu=1,vxlan/dscp=copy', 7, /found '1', expected a whole number from 576 to 8900/],
    ['vnetid=16777216', 7, /found '16777216', expected a whole number from 0 to 16777215/],
    ['vnetid=7,vxlan/dscp=loud', 7, /found 'loud'/],
    ['queues=2', 7, /read-only: the interfaces of its ports/],
    ['encap=geneve', 7, /read-only/],
    ['search=files', 7, /read-only/],
    ['varpd/id=7', 7, /read-only/],
    ['colour=blue', 4, /no such property, expected one of mtu, vnetid, vxlan/],
    ['mtu=1400,mtu=1300', 7, /it occurs twice/],
  ];
  const flow = await SteadyPing.start(a, b.overlay.v4);
  for (const [change, code, said] of bad) {
    const refused = await daemon.dladm('set-overlayprop', '-p', change, 'overlay0');
    t.equal(refused.code, code, change);
    t.match(refused.stderr, said, change);
    t.same((await overlayOf(daemon)).properties, state.properties, `${change} changes nothing`);
  }
  const { lost } = await flow.stop();
  t.equal(lost, 0, 'and nothing is lost');
});

await t.test('another network: the kernel as a peer with two', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const ends = { from: a.underlay.v4, to: b.underlay.v4 };
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  // VNI 42, 7 and 43 are three networks of the peer.
  for (const [vnetid, device, mac] of [
    [42, 'vx42', '02:00:00:00:00:42'],
    [7, 'vx7', '02:00:00:00:00:07'],
    [43, 'vx43', '02:00:00:00:00:43'],
  ] as const) {
    await addKernelVxlan(b, { device, vnetid, local: ends.to, remote: ends.from });
    await b.ip(`link set ${device} address ${mac} mtu 1400 up`);
    await b.ip(`addr add 10.77.${vnetid}.2/24 dev ${device}`);
  }
  await daemon.ok(directOverlay({ ...ends, vnetid: 42 }));
  await daemon.ok(directOverlay({ ...ends, vnetid: 43, name: 'other0' }));
  await daemon.ok('create-vnic -l overlay0 net0');
  for (const [device, vnetid] of [
    ['overlay0', 42],
    ['net0', 7],
    ['other0', 43],
  ] as const)
    await a.ipBatch(`addr add 10.77.${vnetid}.1/24 dev ${device}`, `link set ${device} up`);
  t.ok(await reaches(a, '10.77.42.2'), 'VNI 42');
  t.equal((await ping(a, '10.77.7.2', { waitMs: 200 })).received, 0, 'not VNI 7');
  const other = await SteadyPing.start(a, '10.77.43.2');

  const refused = await daemon.dladm('set-overlayprop', '-p', 'vnetid=43', 'overlay0');
  t.match(refused, { code: 5, stderr: /virtual network id 43.*by other0/ });
  await daemon.ok('set-overlayprop -p vnetid=7 overlay0');
  t.ok(await reaches(a, '10.77.7.2'), 'VNI 7, through the VNIC that was there');
  t.equal((await ping(a, '10.77.42.2', { waitMs: 200 })).received, 0, 'no longer VNI 42');
  t.ok(await reaches(b, '10.77.7.1'), 'and from there');
  t.match(JSON.parse(await daemon.ok('status --json')), {
    overlays: [
      { name: 'overlay0', vnetid: 7 },
      { name: 'other0', vnetid: 43 },
    ],
  });
  const explained = await daemon.dladm(
    ...['explain', '--inbound', '--from', ends.to, '--src', '02:00:00:00:00:07'],
    ...['--dst', 'ff:ff:ff:ff:ff:ff', 'overlay0'],
  );
  t.match(explained.stdout, /\b7 on /, 'explain');

  await daemon.ok('restart');
  t.equal(valueOf(await overlayOf(daemon), 'vnetid'), '7', 'a restart keeps it');
  t.ok(await reaches(a, '10.77.7.2'));
  await daemon.ok('set-overlayprop -p vnetid=42 overlay0');
  t.ok(await reaches(a, '10.77.42.2'), 'and back');
  const { lost, sent } = await other.stop();
  t.equal(lost, 0, `the other overlay has lost none of ${sent}`);
});

await t.test('a change is kept over restarts of every kind', { skip }, async (t) => {
  const { a, b, daemon } = await tunnel(t);
  await daemon.ok('set-overlayprop -p mtu=1280,vxlan/udp_checksum=zero,vxlan/source_ports=5 overlay0');
  await daemon.ok('set-overlayprop -t -p vxlan/dscp=copy overlay0');
  t.equal(valueOf(await overlayOf(daemon), 'vxlan/dscp'), 'copy');
  t.match(
    daemon.log(),
    /set-overlayprop -p mtu=1280 -p vxlan\/udp_checksum=zero -p vxlan\/source_ports=5 overlay0/,
    'the log has a line about it',
  );
  const isAsChanged = async (what: string): Promise<void> => {
    const overlay = await overlayOf(daemon);
    for (const [name, value] of [
      ['mtu', '1280'],
      ['vxlan/udp_checksum', 'zero'],
      ['vxlan/source_ports', '5'],
      ['vxlan/dscp', 'zero'],
    ])
      t.equal(valueOf(overlay, name), value, `${what}: ${name}`);
    t.match(overlay, { health: { status: 'ONLINE' } }, what);
    t.equal(await deviceMtu(a, 'overlay0'), 1280);
    t.ok(await reaches(a, b.overlay.v4), what);
  };
  const flow = await SteadyPing.start(b, a.overlay.v4);
  await daemon.ok('restart');
  await isAsChanged('restart');
  const { lost } = await flow.stop();
  t.equal(lost, 0, 'nothing is lost in the restart');
  await daemon.stop();
  await daemon.start();
  await a.plumb('overlay0').catch(() => undefined);
  await isAsChanged('stop and start');
  daemon.signal('SIGKILL');
  await daemon.ended();
  await daemon.start();
  await a.plumb('overlay0').catch(() => undefined);
  await isAsChanged('killed');
});

await t.test('an overlay that is OFFLINE for a wrong value', { skip }, async (t) => {
  const { a, daemon } = await tunnel(t);
  await daemon.stop();
  await a.ip(`addr del ${a.underlay.v4}/24 dev ${UNDERLAY_DEVICE}`);
  await a.ip(`addr add 10.88.88.200/24 dev ${UNDERLAY_DEVICE}`);
  await daemon.start();
  const status = async (): Promise<string | undefined> =>
    (await daemon.call('overlay.list', { names: ['overlay0'] })).overlays[0]?.health.status;
  t.equal(await status(), 'OFFLINE');
  t.match(await daemon.dladm('set-overlayprop', '-t', '-p', 'mtu=1400', 'overlay0'), { code: 7 });
  await daemon.ok('set-overlayprop -p vxlan/listen_ip=10.88.88.200 overlay0');
  await waitUntil(async () => (await status()) === 'ONLINE', { what: 'it to come up' });
});

await t.test('another mapping', { skip: skipFiles }, async (t) => {
  const { bed, file, stations } = await site(t);
  const [zlan, zlan2, zlan3] = stations;
  await Promise.all(stations.map((station) => plumb(station)));
  t.ok(await reaches(zlan.host, zlan2.v4));
  t.ok(await reaches(zlan.host, zlan3.v4));
  const other = new MappingFile(bed);
  const { [zlan3.mac]: left, ...kept } = file.article;
  t.ok(left, 'the other mapping lacks a station');
  other.replace(kept);
  const bad = new MappingFile(bed);
  bad.rewrite('{');
  const { daemon } = zlan;

  const flow = await SteadyPing.start(zlan.host, zlan2.v4);
  const refused = await daemon.dladm(
    'set-overlayprop',
    '-p',
    `files/config=${bad.path},mtu=1400`,
    'overlay0',
  );
  t.equal(refused.code, 7);
  t.match(refused.stderr, `${bad.path}:1:`, 'the place of the error');
  t.equal(valueOf(await overlayOf(daemon), 'files/config'), file.path, 'nothing has changed');
  t.not(valueOf(await overlayOf(daemon), 'mtu'), '1400', 'nothing at all');
  const missing = await daemon.dladm('set-overlayprop', '-p', 'files/config=/nonexistent', 'overlay0');
  t.equal(missing.code, 4, missing.stderr);
  t.equal((await ping(zlan.host, zlan3.v4)).received, 3, 'the mapping before is in use');

  await daemon.ok(`set-overlayprop -p files/config=${other.path},files/flood=on overlay0`);
  t.equal((await ping(zlan.host, zlan3.v4, { waitMs: 200 })).received, 0, 'the other mapping is in use');
  await daemon.ok('set-overlayprop -p vxlan/listen_port=4790 overlay0');
  t.match(await daemon.overlays('overlay0'), [{ health: { status: 'ONLINE' } }]);
  await daemon.ok('set-overlayprop -p vxlan/listen_port=4789 overlay0');
  other.replace(file.article);
  t.ok(await reaches(zlan.host, zlan3.v4), 'changes of the other file are followed');
  await daemon.ok(`set-overlayprop -p files/protect=on overlay0`);
  t.ok(await reaches(zlan.host, zlan3.v4), 'with protection');
  await daemon.ok('reset-overlayprop -p files/protect,files/flood overlay0');
  const { lost } = await flow.stop();
  t.comment(`${lost} lost while the port was another one`);
  await daemon.ok('restart');
  t.equal(valueOf(await overlayOf(daemon), 'files/config'), other.path, 'it is kept');
  t.ok(await reaches(zlan.host, zlan3.v4));
});
