// What the registry keeps over a restart, and what it does about what is not there.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parseIp } from '../../src/plugin/index.js';
import { fakeOverlay } from '../helpers/fake-datapath.js';
import { newHost, point, asked, vnic, names, valueOf } from '../helpers/registry-host.js';

t.test('what is persistent comes back, as it was', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point({ properties: [...point().properties, ['vxlan/dscp', 'copy']] }));
  await host.registry.createOverlay(asked({ name: 'overlay1', vnetid: 43 }));
  await host.registry.createOverlay(asked({ name: 'temp0', vnetid: 44, temporary: true }));
  await host.registry.createVnic(vnic('foo0', { vid: 9 }));
  await host.registry.createVnic(vnic('bar0', { temporary: true }));
  await host.registry.createVnic(vnic('baz0'));
  await host.registry.deleteVnic({ name: 'baz0', temporary: true });

  const after = await host.restart();
  t.same(await after.registry.up({}), { failures: [] });
  t.same(names(after), ['overlay0', 'overlay1']);
  t.same(after.datapath.overlays.get(1)?.config, host.datapath.overlays.get(1)?.config);
  for (const port of ['overlay0', 'overlay1', 'foo0'])
    t.same(after.datapath.ports.get(port)?.config, host.datapath.ports.get(port)?.config, port);
  t.same(
    after.registry.directory.listVnics({}).vnics.map(({ name }) => name),
    ['foo0', 'baz0'],
    '-t holds until the restart',
  );
  await after.registry.createOverlay(asked({ name: 'overlay2', vnetid: 45 }));
  t.equal(
    valueOf(after.registry.directory.list({ names: ['overlay2'] }).overlays[0], 'varpd/id'),
    '3',
    'no id is given twice',
  );
});

t.test('links that an earlier varpd has left', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point());
  await host.registry.createVnic(vnic('foo0'));
  const after = await host.restart();
  const { registry, datapath } = after;
  for (const name of ['overlay0', 'foo0', 'gone0']) datapath.left.add(name);
  t.same(
    registry.removeOrphans([...datapath.left]),
    ['gone0'],
    'those that are wanted stay, whether they are up or not',
  );
  t.same([...datapath.left], ['overlay0', 'foo0']);
  await registry.deleteVnic({ name: 'foo0', temporary: false });
  await registry.deleteOverlay({ name: 'overlay0', temporary: false });
  t.same([...datapath.left], [], 'what is deleted takes its link along, also when it does not run');
  writeFileSync(path.join(after.stateDir, 'bad0.json'), '{');
  const last = await after.restart();
  last.datapath.left.add('foo0');
  t.same(last.registry.removeOrphans(['foo0']), [], 'who knows what the bad one wants');
});

t.test('what cannot be brought up is not lost, and does not stop the others', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point());
  await host.registry.createVnic(vnic('foo0'));
  await host.registry.createOverlay(asked({ name: 'overlay1', vnetid: 43 }));

  const after = await host.restart();
  const { life } = after;
  life.failStart = true;
  after.links.add('foo0');
  t.match(await after.registry.up({}), {
    failures: [
      { name: 'foo0', message: /network interface foo0/ },
      { name: 'overlay1', message: 'failed to activate varpd instance: no table' },
    ],
  });
  life.failStart = false;
  t.same(names(after), ['overlay0']);
  const { directory } = after.registry;
  t.match(directory.list({}), {
    overlays: [
      { name: 'overlay0', health: { status: 'ONLINE' } },
      {
        name: 'overlay1',
        mode: 'dynamic',
        health: { status: 'OFFLINE', details: /no table/ },
        underlay: null,
      },
    ],
    missing: [],
  });
  t.match(
    directory
      .list({ names: ['overlay1'] })
      .overlays[0]?.properties.find(({ property }) => property === 'vxlan/listen_ip'),
    { value: '10.0.0.1' },
    'with the properties that are stored',
  );
  t.match(directory.listVnics({ over: 'overlay0' }).vnics, [
    { name: 'foo0', over: 'overlay0', state: /^OFFLINE: .*network interface foo0/, mtuBytes: null },
  ]);
  t.same(
    [directory.counts, directory.offline],
    [
      { overlays: 1, vnics: 0 },
      { overlays: 1, vnics: 1 },
    ],
  );
  t.throws(() => void after.registry.targets({ name: 'overlay1' }), {
    code: 'AGAIN',
    message: /^overlay1 is OFFLINE: .*no table/,
  });
  await t.rejects(after.registry.deleteOverlay({ name: 'overlay0', temporary: false }), { code: 'BUSY' });
  after.links.clear();
  t.same(await after.registry.up({}), { failures: [] });
  t.same(names(after), ['overlay0', 'overlay1']);
  await t.rejects(after.registry.up({ name: 'nothing0' }), { code: 'NOT_FOUND' });

  const again = await after.restart();
  await again.registry.deleteVnic({ name: 'foo0', temporary: false });
  await again.registry.deleteOverlay({ name: 'overlay0', temporary: false });
  await again.registry.deleteOverlay({ name: 'overlay1', temporary: false });
  t.same((await again.restart()).registry.directory.counts, { overlays: 0, vnics: 0 });
});

t.test('an mtu that the route no longer carries does not keep an overlay down', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point({ properties: [...point().properties, ['mtu', '1450']] }));
  const after = await host.restart();
  after.datapath.routeMtu = 1400;
  t.same(await after.registry.up({}), { failures: [] });
  t.equal(after.datapath.ports.get('overlay0')?.config.mtuBytes, 1450);
});

t.test('the target table', async (t) => {
  const { registry } = await newHost(t);
  await registry.createOverlay(asked());
  await registry.createOverlay(point({ name: 'point0', vnetid: 43 }));
  const set = (mac: string, destination: string) => () => {
    registry.setTarget({ name: 'overlay0', mac, destination });
  };
  for (let count = 0; count < 250; count++) set(`2:0:0:0:0:${count.toString(16)}`, '10.0.0.2:4789')();
  set('2:0:0:0:1:0', 'DROP')();
  const first = await registry.targets({ name: 'overlay0' });
  t.equal(first.rows.length, 100);
  t.match(first.rows[0], { mac: '02:00:00:00:00:00', state: 'valid', destinations: ['10.0.0.2:4789'] });
  const second = await registry.targets({ name: 'overlay0', after: first.next! });
  const third = await registry.targets({ name: 'overlay0', after: second.next! });
  t.equal(first.rows.length + second.rows.length + third.rows.length, 251);
  t.match(third.rows.at(-1), { mac: '02:00:00:00:01:00', state: 'drop', destinations: [] });
  t.equal(third.next, null);

  t.throws(set('2:0:0:0:0', '10.0.0.2:4789'), { code: 'INVALID' });
  t.throws(set('2:0:0:0:0:1', '10.0.0.2'), { code: 'INVALID', message: /expected drop, 192/ });
  t.throws(set('2:0:0:0:0:1', '[2001:db8::1]:4789'), { code: 'INVALID', message: /family/ });
  await registry.deleteTarget({ name: 'overlay0', mac: '2:0:0:0:0:1' });
  await t.rejects(registry.deleteTarget({ name: 'overlay0', mac: '2:0:0:0:0:1' }), { code: 'NOT_FOUND' });
  registry.flushTargets({ name: 'overlay0' });
  t.same(await registry.targets({ name: 'overlay0' }), { rows: [], next: null });

  const unsupported = { code: 'UNSUPPORTED', words: 'operation not supported' };
  t.throws(() => {
    registry.setTarget({ name: 'point0', mac: '2:0:0:0:0:1', destination: 'drop' });
  }, unsupported);
  await t.rejects(registry.deleteTarget({ name: 'point0', mac: '2:0:0:0:0:1' }), unsupported);
  t.throws(() => {
    registry.flushTargets({ name: 'point0' });
  }, unsupported);
});

t.test('devices that are gone degrade, and come back with up', async (t) => {
  const { registry, datapath } = await newHost(t);
  await registry.createOverlay(asked());
  await registry.createVnic(vnic('foo0'));
  const health = () => registry.directory.list({}).overlays.at(0)?.health;
  const { ports } = datapath;
  const stranger = fakeOverlay().addPort({ ...ports.get('foo0')!.config, name: 'strange0' });
  ports.get('foo0')?.fail('EBADFD');
  ports.get('overlay0')?.fail('EIO');
  datapath.overlays.get(1)?.listener?.portFault(stranger, 'EIO');
  t.same(health(), {
    status: 'DEGRADED',
    details: 'port foo0: the device was removed; port overlay0: the device failed (EIO)',
  });
  t.match(registry.directory.listVnics({}).vnics, [{ state: 'the device was removed', counters: {} }]);
  const shapes = () => new Map([...datapath.ports].map(([name, { config }]) => [name, config]));
  const before = shapes();
  t.same(await registry.up({}), { failures: [] });
  t.equal(health()?.status, 'ONLINE');
  t.same(shapes(), before, 'with the same MACs');
  ports.get('foo0')?.fail('EIO');
  t.equal(health()?.status, 'ONLINE', 'late news of a port that is another now');
  datapath.ports.get('foo0')?.fail('EBADFD');
  await registry.deleteVnic({ name: 'foo0', temporary: false });
  t.equal(health()?.status, 'ONLINE');
});

t.test('what the plugin allows a port while its device is opened again is in force with it', async (t) => {
  const { registry, datapath, life } = await newHost(t);
  await registry.createOverlay(asked());
  await registry.createVnic(vnic('foo0'));
  life.allowed = ['10.0.0.1'];
  life.allow();
  const port = datapath.ports.get('foo0')!;
  port.fail('EBADFD');
  const remove = port.remove.bind(port);
  port.remove = async () => {
    await remove();
    life.allowed = ['10.0.0.2'];
    life.allow();
  };
  t.same(await registry.up({}), { failures: [] });
  t.match(datapath.ports.get('foo0')?.config.protection, { addresses: [{ ip: '10.0.0.2' }] });
});

t.test('lookups find the plugin of their overlay', async (t) => {
  const { registry, datapath } = await newHost(t);
  await registry.createOverlay(asked());
  const overlay = datapath.overlays.get(1)!;
  const question = { lookup: 5, destinationMac: 7, sourceMac: 8, etherType: 0x800, vlan: 0 };
  t.match(await overlay.ask(question), { kind: 'target', to: [{ ip: '10.0.0.9' }] });
  t.equal(overlay.answers.length, 1);
});

t.test('changes never interleave', async (t) => {
  const host = await newHost(t);
  const creates = Array.from({ length: 20 }, () => host.registry.createOverlay(asked()));
  const results = await Promise.allSettled(creates);
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  t.equal(host.datapath.overlays.size, 1);
  await Promise.all([
    host.registry.deleteOverlay({ name: 'overlay0', temporary: false }),
    host.registry.createOverlay(asked()),
    host.registry.deleteOverlay({ name: 'overlay0', temporary: false }),
  ]);
  t.equal(host.datapath.overlays.size, 0);
});

t.test('ports without a carrier', async (t) => {
  const { registry, datapath, kernel } = await newHost(t);
  const follow: [string, string] = ['link-state', 'follow'];
  const wanted = point({ properties: [...point().properties, follow] });
  datapath.features = { fake: true };
  await t.rejects(registry.createOverlay(wanted), { code: 'UNSUPPORTED', message: /link-state/ });
  datapath.features = { tapCarrier: true };
  kernel.setLink(1, 'under0', { carrier: false });
  await registry.createOverlay(wanted);
  t.match(registry.directory.list({}).overlays[0], {
    health: { status: 'DEGRADED', details: 'link under0 has no carrier' },
    underlay: { state: 'down', losses: 1 },
  });
  t.same(
    [...datapath.overlays.values()].map(({ carrier }) => carrier),
    [false],
  );
  t.equal(datapath.ports.get('overlay0')?.firstCarrier, false, 'before there is a port to see one');
});

t.test('an overlay whose address comes later than varpd', async (t) => {
  const before = await newHost(t);
  await before.registry.createOverlay(point());
  await before.registry.createOverlay(point({ name: 'other0', vnetid: 43 }));
  const host = await before.restart();
  const { registry, datapath, kernel } = host;
  const ip = parseIp('10.0.0.1')!;
  kernel.hostAddresses.clear();
  kernel.defaultRoute = undefined;
  datapath.failures.set('addOverlay', 'EADDRNOTAVAIL');
  t.equal((await registry.up({})).failures.length, 2);
  await registry.deleteOverlay({ name: 'other0', temporary: false });
  datapath.failures.clear();
  kernel.tell({ about: 'route' });
  await sleep(50);
  t.same(names(host), [], 'it waits');
  t.match(registry.directory.list({}).overlays, [{ name: 'overlay0', health: { status: 'OFFLINE' } }]);
  kernel.setAddress(ip, 1);
  kernel.defaultRoute = 1;
  kernel.tell({ about: 'address', gone: false, ip, index: 1, state: 'good' });
  while (names(host).length === 0) await sleep(5);
  t.same(names(host), ['overlay0'], 'by itself, and not what was deleted');
});
