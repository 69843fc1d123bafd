// A VNIC gets another name: all or nothing. The real registry over a fake datapath.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { type Host, newHost, point, vnic } from '../helpers/registry-host.js';

const stored = ({ stateDir }: Host): string[] => {
  const text = readFileSync(path.join(stateDir, 'overlay0.json'), 'utf8');
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
  await registry.renameVnic('foo0', 'web0');
  await registry.renameVnic('passing0', 'gone0');
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
    ['overlay0', 'other0', /overlay0 is an overlay, and only VNICs are renamed/],
    ['none0', 'other0', /not found/],
    ['foo0', 'bar0', /there is an overlay or a VNIC bar0 already/],
    ['foo0', 'overlay0', /there is an overlay or a VNIC overlay0 already/],
    ['foo0', 'eth7', /there is a network interface eth7/],
    ['foo0', 'x'.repeat(16), /invalid link name/],
    ['foo0', 'foo0', /there is an overlay or a VNIC foo0 already/],
  ] as const)
    await t.rejects(registry.renameVnic(from, to), { message: said });
  for (const [code, said] of [
    [
      'EBUSY',
      /foo0: its interface is up, and a kernel before Linux 6\.2 renames none that is: 'ip link set foo0 down' first/,
    ],
    ['EEXIST', /other0: a link of this name exists already/],
    ['ENODEV', /foo0: its interface is not in the network namespace of varpd/],
  ] as const) {
    datapath.failures.set('rename', code);
    await t.rejects(registry.renameVnic('foo0', 'other0'), { message: said });
    datapath.failures.delete('rename');
  }
  t.same(stored(host), ['foo0', 'bar0']);
  t.same(listed(host), ['foo0 up', 'bar0 up']);
  t.same(ports(host), ['overlay0', 'foo0', 'bar0']);
});
