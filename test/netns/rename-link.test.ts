// dladm rename-link on real devices: under ping, and over restarts.
import t from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import type { Namespace } from '../helpers/netns.js';
import { newHosts } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { startOverlay } from '../helpers/tunnels.js';
import { SteadyPing } from '../helpers/zlan.js';

async function identityOf(host: Namespace, device: string): Promise<unknown> {
  const [{ ifindex, mtu, address }] = JSON.parse(await host.ip(`-j link show ${device}`)) as [
    { ifindex: number; mtu: number; address: string },
  ];
  return { ifindex, mtu, address };
}

await t.test('rename-link', { skip: skipUnlessNetns() }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  // As root, so that devices outlive varpd, as they do in use.
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await startOverlay(t, bed, b, a);
  await b.plumb('overlay0');
  await daemon.ok('create-vnic -m 02:00:00:00:00:07 -l overlay0 -p protection=mac-nospoof foo0');
  await daemon.ok('create-vnic -t -l overlay0 passing0');
  await a.plumb('foo0');
  t.ok(await reaches(a, b.overlay.v4));
  const identity = (device: string): Promise<unknown> => identityOf(a, device);
  const before = await identity('foo0');
  const flow = await SteadyPing.start(b, a.overlay.v4);
  await daemon.ok('rename-link foo0 web0');
  await daemon.ok('rename-link passing0 gone0');
  t.same(await identity('web0'), before, 'it is the same interface');
  t.notOk(await a.hasDevice('foo0'));
  t.equal((await ping(a, b.overlay.v4, { from: 'web0' })).received, 3);
  t.match(await daemon.vnics(), [
    { name: 'web0', mac: '02:00:00:00:00:07', state: 'up' },
    { name: 'gone0', state: 'up' },
  ]);
  t.match(await daemon.overlays('overlay0'), [{ health: { status: 'ONLINE' } }]);
  t.match(
    (await daemon.dladm('show-linkprop', '-c', '-o', 'value', '-p', 'protection', 'web0')).stdout,
    'mac-nospoof',
  );
  for (const [args, code, said] of [
    [['web0', 'gone0'], 5, /there is an overlay or a VNIC gone0 already/],
    [['none0', 'x0'], 4, /not found/],
    [['overlay0', 'gone0'], 5, /there is an overlay or a VNIC gone0 already/],
    [['web0'], 2, /expected two names/],
    [['web0', 'x'], 7, /invalid link name/],
  ] as const) {
    const refused = await daemon.dladm('rename-link', ...args);
    t.equal(refused.code, code, args.join(' '));
    t.match(refused.stderr, said);
  }
  await daemon.ok('restart');
  t.same(await identity('web0'), before, 'a restart finds it by its new name');
  t.notOk(await a.hasDevice('gone0'), 'and the temporary one is gone');
  await daemon.ok('rename-link web0 foo0');
  t.same(await identity('foo0'), before, 'and back');
  const { lost } = await flow.stop();
  t.equal(lost, 0, 'a flow has not felt any of it');
  daemon.signal('SIGKILL');
  await daemon.ended();
  await daemon.start();
  t.match(await daemon.vnics(), [{ name: 'foo0', mac: '02:00:00:00:00:07', state: 'up' }]);
  t.notOk(await a.hasDevice('web0'));
  t.match(await daemon.overlays('overlay0'), [{ health: { status: 'ONLINE' } }]);
  await daemon.ok('delete-vnic foo0');
  t.notOk(await a.hasDevice('foo0'), 'and it can be deleted');
});

await t.test('rename-link of an overlay', { skip: skipUnlessNetns() }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok(
    directOverlay({ name: 'passing0', vnetid: 43, from: a.underlay.v4, to: b.underlay.v4 }, '-t'),
  );
  await startOverlay(t, bed, b, a);
  await b.plumb('overlay0');
  await daemon.ok('create-vnic -m 02:00:00:00:00:07 -l overlay0 -p protection=mac-nospoof foo0');
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const before = await identityOf(a, 'overlay0');
  const flow = await SteadyPing.start(b, a.overlay.v4);
  await daemon.ok('rename-link overlay0 tenant0');
  await daemon.ok('rename-link passing0 gone0');
  t.same(await identityOf(a, 'tenant0'), before, 'it is the same interface');
  t.notOk(await a.hasDevice('overlay0'));
  t.match(await daemon.overlays(), [
    { name: 'tenant0', health: { status: 'ONLINE' } },
    { name: 'gone0', temporary: true },
  ]);
  t.match(await daemon.vnics(), [{ name: 'foo0', over: 'tenant0', state: 'up' }]);
  await a.ip('link add other0 type bridge');
  for (const [args, code, said] of [
    [['overlay0', 'x0'], 4, /not found/],
    [['tenant0', 'other0'], 5, /there is a network interface other0/],
    [['tenant0', 'foo0'], 5, /there is an overlay or a VNIC foo0 already/],
    [['tenant0', 'x'], 7, /invalid link name/],
  ] as const) {
    const refused = await daemon.dladm('rename-link', ...args);
    t.equal(refused.code, code, args.join(' '));
    t.match(refused.stderr, said);
  }
  await daemon.ok('restart');
  t.same(await identityOf(a, 'tenant0'), before, 'a restart finds it by its new name');
  t.notOk(await a.hasDevice('gone0'), 'and the temporary one is gone');
  await daemon.ok('set-overlayprop -p mtu=1400 tenant0');
  await daemon.ok('rename-link tenant0 overlay0');
  await daemon.ok('create-vnic -l overlay0 bar0');
  t.match(await daemon.vnics(), [
    { name: 'foo0', over: 'overlay0', state: 'up', mtuBytes: 1400 },
    { name: 'bar0', over: 'overlay0', state: 'up' },
  ]);
  const { lost } = await flow.stop();
  t.equal(lost, 0, 'a flow has not felt any of it');
  await daemon.ok('delete-vnic foo0');
  await daemon.ok('delete-vnic bar0');
  await daemon.ok('delete-overlay overlay0');
  t.notOk(await a.hasDevice('overlay0'), 'and it can be deleted');
});
