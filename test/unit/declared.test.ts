// Overlays as a document declares them: all or nothing at every step. The real registry over a fake datapath.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { documentOf, readDocument, yamlOf } from '../../src/cli/declare/document.js';
import { CommandError } from '../../src/cli/command.js';
import type { Methods } from '../../src/control/methods.js';
import { type Host, newHost, point, vnic } from '../helpers/registry-host.js';

type Apply = Methods['overlay.apply']['params'];

const declared = (more: Partial<Apply> = {}): Apply => {
  const { name, encap, search, vnetid, properties } = point();
  const rest = { vnics: [], prune: false, dryRun: false };
  return { name, encap, search, vnetid, properties, ...rest, ...more };
};
const stored = ({ stateDir }: Host, name = 'overlay0'): string =>
  readFileSync(path.join(stateDir, `${name}.json`), 'utf8');
const apply = async (host: Host, more: Partial<Apply> = {}): Promise<readonly string[]> =>
  (await host.registry.declared.apply(declared(more))).changes;
const ports = ({ datapath }: Host): string[] =>
  [...datapath.overlays.values()].flatMap((overlay) => [...overlay.ports.keys()]);

t.test('an overlay becomes as declared, and stays so', async (t) => {
  const host = await newHost(t);
  const vnics: Apply['vnics'] = [
    [
      'foo0',
      [
        ['mac', ['2:0:0:0:0:1']],
        ['protection', ['restricted', 'mac-nospoof']],
      ],
    ],
    ['bar0', [['vid', ['7']]]],
  ];
  t.same(await apply(host, { vnics, dryRun: true }), ['+ overlay0', '+ foo0', '+ bar0']);
  t.same(ports(host), [], 'a dry run makes nothing');
  t.same(await apply(host, { vnics }), ['+ overlay0', '+ foo0', '+ bar0']);
  t.same(ports(host), ['overlay0', 'foo0', 'bar0']);
  const { changes } = host.datapath;
  const file = stored(host);
  t.same(await apply(host, { vnics }), [], 'the second time nothing is to be done');
  t.same([host.datapath.changes, stored(host)], [changes, file], 'and nothing is touched');
  const again = await host.restart();
  await again.registry.raise();
  t.same(await apply(again, { vnics }), [], 'after a restart too');

  const properties = point().properties.concat([['mtu', '1400']]);
  const other: Apply['vnics'] = [
    ['foo0', [['protection', ['mac-nospoof']]]],
    ['baz0', []],
  ];
  const lines = [
    '~ overlay0 mtu -- -> 1400',
    '~ foo0 protection mac-nospoof,restricted -> mac-nospoof',
    '+ baz0',
  ];
  t.same(await apply(host, { properties, vnics: other, dryRun: true }), lines);
  t.equal(stored(host), file);
  t.same(await apply(host, { properties, vnics: other }), lines);
  t.same(ports(host), ['overlay0', 'foo0', 'bar0', 'baz0'], 'without prune nothing goes');
  t.same(await apply(host, { properties, vnics: other, prune: true }), ['- bar0']);
  t.same(ports(host), ['overlay0', 'foo0', 'baz0']);
  t.same((await host.registry.declared.prune({ name: 'overlay0', dryRun: true })).changes, [
    '- foo0',
    '- baz0',
    '- overlay0',
  ]);
  t.same(ports(host), ['overlay0', 'foo0', 'baz0']);
  await host.registry.declared.prune({ name: 'overlay0', dryRun: false });
  t.same([ports(host), host.registry.directory.names()], [[], []]);
});

t.test('what is exported is what is there', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point());
  await host.registry.createVnic(vnic('net0', { vid: 7, properties: [['protection', ['mac-nospoof']]] }));
  await host.registry.createVnic(vnic('passing0', { temporary: true }));
  await host.registry.createOverlay(point({ name: 'temporary0', vnetid: 7, temporary: true }));
  const { overlays, missing } = host.registry.declared.export({ names: ['overlay0', 'temporary0', 'none0'] });
  t.match(missing, [{ name: 'temporary0', message: 'temporary0 is temporary' }, { name: 'none0' }]);
  t.match(overlays, [{ name: 'overlay0', vnics: [{ name: 'net0', vid: 7 }] }]);
  for (const text of [yamlOf(documentOf(overlays)), JSON.stringify(documentOf(overlays))]) {
    const [{ place, vnics, ...overlay }, ...none] = readDocument(text, 'x.yaml');
    t.same(none, []);
    t.match(place, /^x\.yaml:\d+:\d+$/);
    const request = { vnics: vnics.map(({ name, settings }): Apply['vnics'][0] => [name, settings]) };
    t.same(await apply(host, { ...overlay, ...request, prune: true }), [], 'applied, it changes nothing');
  }
  t.ok(ports(host).includes('passing0'), 'what is temporary is not of its concern');
});

t.test('an overlay with VNICs that no document declares is not pruned', async (t) => {
  const host = await newHost(t);
  const { registry } = host;
  await apply(host, { vnics: [['foo0', []]] });
  const attachment = 'cni:net/4711/eth0';
  await registry.createVnic(vnic('c0', { attachment }));
  await registry.createVnic(vnic('tmp0', { temporary: true }));
  const file = stored(host);
  const prune = (dryRun: boolean): Promise<unknown> => registry.declared.prune({ name: 'overlay0', dryRun });
  for (const dryRun of [true, false])
    await t.rejects(prune(dryRun), {
      code: 'BUSY',
      message: /^overlay0 has VNICs .*: c0 \(cni:net\/4711\/eth0\), tmp0 \(temporary\); delete them first$/,
    });
  t.equal(stored(host), file);
  t.same(ports(host).sort(), ['c0', 'foo0', 'overlay0', 'tmp0']);
  await registry.deleteVnic({ name: 'tmp0', temporary: true });
  await t.rejects(prune(false), { message: /: c0 \(cni:net\/4711\/eth0\); delete them first$/ });
  await registry.deleteVnic({ name: 'c0', temporary: false });
  t.same(await prune(false), { changes: ['- foo0', '- overlay0'] });
  t.same(ports(host), []);
});

t.test('another MAC and another VLAN of a VNIC that runs', async (t) => {
  const host = await newHost(t);
  const mac = (text: string): [string, string[]] => ['mac', [text]];
  const vnics: Apply['vnics'] = [
    ['foo0', [mac('02:00:00:00:00:07'), ['protection', ['mac-nospoof']]]],
    ['bar0', [mac('02:00:00:00:00:08')]],
  ];
  await apply(host, { vnics });
  const file = stored(host);
  const port = () => [...host.datapath.overlays.values()][0].ports.get('foo0');
  const before = port()?.config;
  const change = (...settings: [string, string[]][]): Promise<readonly string[]> =>
    apply(host, { vnics: [['foo0', [...settings, ['protection', ['mac-nospoof']]]]] });

  await t.rejects(change(mac('02:00:00:00:00:08')), /in use on overlay0/);
  host.datapath.failures.set('setAddress', 'ENODEV');
  await t.rejects(
    change(mac('02:00:00:00:00:09'), ['vid', ['7']]),
    /foo0: its interface is not in the network namespace of varpd, so its MAC is not changed/,
  );
  host.datapath.failures.delete('setAddress');
  host.datapath.failures.set('addPort', 'EMFILE');
  const more: Apply['vnics'] = [
    ['foo0', [mac('02:00:00:00:00:09'), ['vid', ['7']]]],
    ['baz0', []],
  ];
  await t.rejects(apply(host, { vnics: more }));
  host.datapath.failures.delete('addPort');
  t.same(port()?.config, before, 'a later step that fails takes it back');
  t.equal(stored(host), file);

  const lines = ['~ foo0 mac 02:00:00:00:00:07 -> 02:00:00:00:00:09', '~ foo0 vid 0 -> 7'];
  t.same(await change(mac('02:00:00:00:00:09'), ['vid', ['7']]), lines);
  t.match(port()?.config, {
    mac: 0x020000000009,
    vid: 7,
    protection: { types: ['mac-nospoof'] },
  });
  const vnic = (one: Host) => one.registry.directory.listVnics({ names: ['foo0'] }).vnics[0];
  t.match(vnic(host), { mac: '02:00:00:00:00:09', configuredMac: '02:00:00:00:00:09', vid: 7, state: 'up' });
  t.same(await change(mac('02:00:00:00:00:09'), ['vid', ['7']]), [], 'the second time nothing is to be done');
  const again = await host.restart();
  await again.registry.raise();
  t.match(vnic(again), { mac: '02:00:00:00:00:09', vid: 7, state: 'up' }, 'it is kept');
});

t.test('another vnetid', async (t) => {
  const host = await newHost(t);
  await apply(host, { vnics: [['foo0', []]] });
  await host.registry.createOverlay(point({ name: 'other0', vnetid: 43 }));
  await t.rejects(apply(host, { vnetid: 43, vnics: [['bar0', []]] }), /in use on .* by other0/);
  t.same(ports(host).includes('bar0'), false, 'all or nothing');
  t.same(await apply(host, { vnetid: 7, dryRun: true }), ['~ overlay0 vnetid 42 -> 7'], 'a dry run');
  t.match(JSON.parse(stored(host)), { vnetid: 42 });
  t.same(await apply(host, { vnetid: 7 }), ['~ overlay0 vnetid 42 -> 7']);
  t.match([...host.datapath.overlays.values()][0].config, { vnetid: 7 });
  t.match(JSON.parse(stored(host)), { vnetid: 7, vnics: [{ name: 'foo0' }] });
  t.same(await apply(host, { vnetid: 7 }), []);
});

t.test('a step that fails leaves all as it was', async (t) => {
  const host = await newHost(t);
  const vnics: Apply['vnics'] = [['foo0', [['protection', ['mac-nospoof']]]]];
  const properties = point().properties.concat([['mtu', '1400']]);
  const taken: Apply['vnics'] = [
    ...vnics,
    ['bar0', [['mac', ['02:00:00:00:00:07']]]],
    ['baz0', [['mac', ['02:00:00:00:00:07']]]],
  ];
  await t.rejects(apply(host, { vnics: taken }), /in use/);
  t.same([ports(host), host.registry.directory.names()], [[], []], 'nothing is left of a new overlay');
  await apply(host, { vnics });
  const file = stored(host);
  const config = [...host.datapath.overlays.values()][0].config;
  const unchanged = (what: string): void => {
    t.equal(stored(host), file, what);
    t.same([...host.datapath.overlays.values()][0].config, config, what);
    t.same(ports(host), ['overlay0', 'foo0'], what);
    const rules = host.registry.directory.overlays.get('overlay0')?.vnics.get('foo0')?.protection.values;
    t.same(rules?.get('protection'), ['mac-nospoof'], what);
  };
  const opened: Apply['vnics'] = [['foo0', []], ...taken.slice(1)];
  await t.rejects(apply(host, { properties, vnics: opened }), /in use/);
  unchanged('a VNIC');
  host.datapath.failures.set('addPort', 'EMFILE');
  await t.rejects(
    apply(host, {
      properties,
      vnics: [
        ['foo0', []],
        ['bar0', []],
      ],
    }),
  );
  host.datapath.failures.delete('addPort');
  unchanged('a device');
  for (const [more, said] of [
    [
      {
        encap: 'geneve',
        properties: [
          ['geneve/listen_ip', '10.0.0.1'],
          ['direct/dest_ip', '10.0.0.2'],
          ['direct/dest_port', '1'],
        ],
      },
      /encap is vxlan/,
    ],
    [{ properties: [...properties, ['queues', '2']] }, /queues: it is read-only/],
    [{ vnics: [['foo0', [['vid', ['4095']]]]] }, /foo0: vid: found '4095', expected 0 to 4094/],
    [{ vnics: [['foo0', [['mac', ['01:00:00:00:00:09']]]]] }, /expected a unicast address/],
    [{ vnics: [['overlay0', []]] }, /there is an overlay or a VNIC overlay0/],
    [{ vnics: [['foo0', [['colour', ['red']]]]] }, /colour/],
    [{ properties: [['mtu', '1']] }, /./],
    [{ search: 'none' }, /no search plugin/],
  ] as const satisfies readonly (readonly [unknown, RegExp])[])
    for (const dryRun of [true, false]) {
      await t.rejects(
        apply(host, { ...(structuredClone(more) as Partial<Apply>), dryRun }).catch((error: unknown) => {
          throw new Error(JSON.stringify([String(error), (error as { details?: unknown }).details]));
        }),
        said,
      );
      unchanged(String(said));
    }
});

t.test('the document is read strictly, with places', (t) => {
  const bad: readonly (readonly [text: string, ...reasons: RegExp[]])[] = [
    ['', /^d:1:1: found nothing, expected the document: a map with version, overlays/],
    ['version: 2\noverlays: []', /^d:1:10: found version 2, expected version: 1/],
    ['version: 1\noverlays: [', /^d:\d+:\d+: /],
    ['version: 1\noverlais: []', /^d:2:1: found the key overlais, expected one of version, overlays/],
    ['version: 1\noverlays: x', /^d:2:11: found 'x', expected overlays: a list/],
    ['version: 1\nversion: 1', /^d:2:1: Map keys must be unique/],
    ['a: &x 1\nb: *x', /found an alias, expected the value itself/],
    [
      'version: 1\noverlays:\n  - name: 0x\n    vnetid: 99999999\n    vnics: [{ mac: x, vid: 5000 }]',
      /^d:3:11: found '0x', expected a name/,
      /^d:4:13: found '99999999', expected vnetid: a whole number from 0 to 16777215/,
      /^d:5:13: name is missing/,
      /^d:5:20: found 'x', expected a MAC address/,
      /^d:5:28: found '5000', expected vid: a whole number from 0 to 4094/,
      /^d:3:5: encap is missing/,
      /^d:3:5: search is missing/,
    ],
    [
      'version: 1\noverlays:\n  - { name: a0, encap: e, search: s, vnetid: 1 }\n  - { name: a0, encap: e, search: s, vnetid: 1, properties: { x: {} } }',
      /^d:4:13: found a0 again, expected each name once/,
      /^d:4:66: found a map, expected x: a text or a number/,
    ],
  ];
  for (const [text, ...reasons] of bad) {
    try {
      readDocument(text, 'd');
      t.fail(text);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      t.match(error.details, reasons, text);
      t.equal(error.details.length, reasons.length, text);
      t.equal(error.status, 7);
    }
  }
  const [{ properties }] = readDocument(
    'version: 1\noverlays: [{ name: a0, encap: e, search: s, vnetid: 1, properties: { mtu: 1400, x: on, y: true } }]',
    'd',
  );
  t.same(properties, [
    ['mtu', '1400'],
    ['x', 'on'],
    ['y', 'true'],
  ]);
  t.end();
});
