// An overlay or a VNIC gets another name: all or nothing. The real registry over a fake datapath.
import { mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { asked, type Host, newHost, point, vnic } from '../helpers/registry-host.js';

const stored = ({ stateDir }: Host, overlay = 'overlay0'): string[] => {
  const text = readFileSync(path.join(stateDir, `${overlay}.json`), 'utf8');
  return (JSON.parse(text) as { vnics: { name: string }[] }).vnics.map(({ name }) => name);
};
const ports = ({ datapath }: Host): string[] =>
  [...datapath.overlays.values()].flatMap((overlay) => [...overlay.ports.keys()]);
const listed = ({ registry }: Host): string[] =>
  registry.directory.listVnics({}).vnics.map(({ name, state }) => `${name} ${state}`);

t.test('a VNIC is renamed', async (t) => {
  const host = await newHost(t);
  const { registry } = host;
  await registry.createOverlay(point());
  await registry.createVnic(vnic('foo0', { properties: [['protection', ['mac-nospoof']]], vid: 7 }));
  await registry.createVnic(vnic('bar0'));
  await registry.createVnic(vnic('passing0', { temporary: true }));
  const [before] = registry.directory.listVnics({ names: ['foo0'] }).vnics;
  await registry.renameLink({ name: 'foo0', to: 'web0' });
  await registry.renameLink({ name: 'passing0', to: 'gone0' });
  t.same(stored(host), ['web0', 'bar0']);
  t.same(listed(host), ['web0 up', 'bar0 up', 'gone0 up'], 'in the place of before');
  t.same(ports(host).sort(), ['bar0', 'gone0', 'overlay0', 'web0']);
  t.same(registry.directory.listVnics({ names: ['web0'] }).vnics, [{ ...before, name: 'web0' }]);
  await registry.linkProperties.set({
    name: 'web0',
    temporary: false,
    properties: [['protection', ['restricted']]],
  });
  const port = [...host.datapath.overlays.values()][0].ports.get('web0');
  t.match(port?.config.protection, { types: ['restricted'] }, 'its rules follow');
  await registry.createVnic(vnic('foo0'));
  const again = await host.restart();
  await again.registry.raise();
  t.same(listed(again), ['web0 up', 'bar0 up', 'foo0 up']);
  await registry.deleteVnic({ name: 'web0', temporary: false });
  t.same(stored(host), ['bar0', 'foo0']);
});

t.test('and what fails changes nothing', async (t) => {
  const host = await newHost(t);
  const { registry, datapath, links } = host;
  await registry.createOverlay(point());
  await registry.createVnic(vnic('foo0'));
  await registry.createVnic(vnic('bar0'));
  links.add('eth7');
  for (const [from, to, said] of [
    ['overlay0', 'bar0', /there is an overlay or a VNIC bar0 already/],
    ['overlay0', 'overlay0', /there is an overlay or a VNIC overlay0 already/],
    ['overlay0', 'eth7', /there is a network interface eth7/],
    ['none0', 'other0', /not found/],
    ['foo0', 'bar0', /there is an overlay or a VNIC bar0 already/],
    ['foo0', 'overlay0', /there is an overlay or a VNIC overlay0 already/],
    ['foo0', 'eth7', /there is a network interface eth7/],
    ['foo0', 'x'.repeat(16), /invalid link name/],
    ['foo0', 'foo0', /there is an overlay or a VNIC foo0 already/],
  ] as const)
    await t.rejects(registry.renameLink({ name: from, to }), { message: said });
  for (const [code, said] of [
    [
      'EBUSY',
      /foo0: its interface is up, and a kernel before Linux 6\.2 renames none that is: 'ip link set foo0 down' first/,
    ],
    ['EEXIST', /other0: a link of this name exists already/],
    ['ENODEV', /foo0: its interface is not in the network namespace of varpd/],
  ] as const) {
    datapath.failures.set('rename', code);
    await t.rejects(registry.renameLink({ name: 'foo0', to: 'other0' }), { message: said });
    datapath.failures.delete('rename');
  }
  t.same(stored(host), ['foo0', 'bar0']);
  t.same(listed(host), ['foo0 up', 'bar0 up']);
  t.same(ports(host), ['overlay0', 'foo0', 'bar0']);
});

t.test('an overlay is renamed', async (t) => {
  const host = await newHost(t);
  const { registry, life } = host;
  const { directory } = registry;
  await registry.createOverlay(point());
  await registry.createOverlay(asked({ name: 'overlay1', vnetid: 43 }));
  await registry.createOverlay(asked({ name: 'passing1', vnetid: 44, temporary: true }));
  await registry.createVnic(vnic('foo0', { over: 'overlay1' }));
  const said = JSON.stringify(directory.list({ names: ['overlay1'] }).overlays[0]).replaceAll(
    'overlay1',
    'tenant1',
  );
  const first = life.host;
  const { starts, stops } = life;

  // What was asked before a rename comes before it, and what is asked of the VNIC meanwhile comes after it.
  const changes = [
    registry.renameLink({ name: 'overlay1', to: 'tenant1' }),
    registry.createVnic(vnic('late0', { over: 'overlay1' })),
    registry.renameLink({ name: 'foo0', to: 'bar0' }),
  ];
  t.match(await Promise.allSettled(changes), [
    { status: 'fulfilled' },
    { status: 'rejected', reason: { code: 'NOT_FOUND' } },
    { status: 'fulfilled' },
  ]);
  await registry.renameLink({ name: 'passing1', to: 'gone1' });
  t.same([...directory.overlays.keys()], ['overlay0', 'tenant1', 'gone1'], 'each in its place');
  t.same(directory.names(), ['overlay0', 'tenant1', 'gone1']);
  t.match(directory.list({ names: ['tenant1'] }).overlays, [JSON.parse(said) as object]);
  t.match(directory.listVnics({ names: ['bar0'] }).vnics, [{ over: 'tenant1', state: 'up' }]);
  t.same(ports(host).sort(), ['bar0', 'gone1', 'overlay0', 'tenant1']);
  t.same(stored(host, 'tenant1'), ['bar0']);
  t.same(
    readdirSync(host.stateDir)
      .filter((file) => file.endsWith('.json'))
      .sort(),
    ['overlay0.json', 'tenant1.json'],
  );
  t.equal(first?.overlay, 'passing1');
  t.equal(life.host?.overlay, 'gone1', 'a new instance of the plugin knows the name');
  t.same([life.starts - starts, life.stops - stops], [2, 2]);

  await registry.createVnic(vnic('next0', { over: 'tenant1' }));
  await registry.createOverlay(asked({ name: 'overlay1', vnetid: 45 }));
  t.same(stored(host, 'overlay1'), [], 'the name is free');
  const again = await host.restart();
  await again.registry.raise();
  t.same(listed(again), ['bar0 up', 'next0 up']);
  t.same(again.registry.directory.names(), ['overlay0', 'tenant1', 'overlay1']);
});

t.test('an overlay that cannot be renamed goes on as it is', async (t) => {
  const host = await newHost(t);
  const { registry, datapath, life, stateDir } = host;
  await registry.createOverlay(asked({ name: 'overlay0' }));
  await registry.createVnic(vnic('foo0'));
  const rename = (): Promise<void> => registry.renameLink({ name: 'overlay0', to: 'other0' });
  const isAsBefore = (): void => {
    t.same(stored(host), ['foo0']);
    t.same(registry.directory.names(), ['overlay0']);
    t.match(registry.directory.list({}).overlays, [{ name: 'overlay0', health: { status: 'ONLINE' } }]);
    t.same(ports(host).sort(), ['foo0', 'overlay0']);
  };
  for (const code of ['EBUSY', 'ENODEV'] as const) {
    datapath.failures.set('rename', code);
    await t.rejects(rename(), { message: /^overlay0: its interface is/ });
    isAsBefore();
  }
  datapath.failures.clear();
  life.failStart = true;
  await t.rejects(rename(), { message: /no table/ }, 'the plugin does not start under the name');
  isAsBefore();
  life.failStart = false;
  mkdirSync(path.join(stateDir, 'other0.json'));
  await t.rejects(rename(), { message: /cannot rename overlay0: / }, 'the disk refuses it');
  isAsBefore();
  rmdirSync(path.join(stateDir, 'other0.json'));
  t.match(life.starts - life.stops, 1, 'one instance is left');
  await rename();
  t.same(stored(host, 'other0'), ['foo0']);

  await registry.deleteVnic({ name: 'foo0', temporary: false });
  await registry.deleteOverlay({ name: 'other0', temporary: true });
  await t.rejects(registry.renameLink({ name: 'other0', to: 'overlay0' }), {
    code: 'AGAIN',
    message: /^other0 is OFFLINE: /,
  });
  await t.rejects(
    registry
      .createOverlay(asked({ name: 'next0' }))
      .then(() => registry.renameLink({ name: 'next0', to: 'other0' })),
    { code: 'EXISTS' },
    'the name of an overlay that does not run',
  );
});
