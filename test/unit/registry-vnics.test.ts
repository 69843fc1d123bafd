// VNICs of the registry: what is created, set, leased, and allowed.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Methods } from '../../src/control/methods.js';
import { parseIp } from '../../src/plugin/index.js';
import { waitUntil } from '../helpers/process.js';
import { type Refusal, type Host, newHost, point, asked, vnic } from '../helpers/registry-host.js';

t.test('VNICs', async (t) => {
  const host = await newHost(t);
  const { registry, datapath } = host;
  await registry.createOverlay(point());
  await registry.createVnic(vnic('foo0', { mac: 'DE:AD:BE:EF:0:1', vid: 7 }));
  t.match(datapath.overlays.get(1)?.ports.get('foo0')?.config, {
    mac: 0xdeadbeef0001,
    vid: 7,
    mtuBytes: 1446,
    own: false,
  });
  const cases: [Partial<Methods['vnic.create']['params']>, Refusal][] = [
    [{ mac: 'de:ad:be:ef:00:01' }, { code: 'EXISTS', message: /de:ad:be:ef:00:01 is in use on overlay0/ }],
    [{ mac: '00:00:00:00:00:00' }, { code: 'INVALID', message: /unicast/ }],
    [{ mac: '01:00:5e:00:00:01' }, { code: 'INVALID', message: /unicast/ }],
    [{ mac: 'de:ad:be:ef' }, { code: 'INVALID', message: /invalid mac address/ }],
    [{ vid: 4095 }, { code: 'INVALID', message: /found '4095', expected 0 to 4094/ }],
    [{ vid: -1 }, { code: 'INVALID' }],
    [{ over: 'overlay1' }, { code: 'NOT_FOUND' }],
    [{ over: 'foo0' }, { code: 'NOT_FOUND', message: 'foo0 is not an overlay' }],
    [{ name: 'foo0' }, { code: 'EXISTS' }],
    [{ name: 'overlay0' }, { code: 'EXISTS' }],
  ];
  for (const [params, error] of cases)
    await t.rejects(registry.createVnic({ ...vnic('bar0'), ...params }), error);
  datapath.failures.set('addPort', 'EPERM');
  await t.rejects(registry.createVnic(vnic('bar0')), { code: 'DENIED' });
  datapath.failures.clear();
  t.equal(registry.directory.counts.vnics, 1);

  await registry.createVnic(vnic('bar0', { temporary: true }));
  t.match(registry.directory.listVnics({}), {
    vnics: [
      {
        name: 'foo0',
        over: 'overlay0',
        mac: 'de:ad:be:ef:00:01',
        macType: 'fixed',
        vid: 7,
        temporary: false,
        state: 'up',
      },
      { name: 'bar0', vid: 0, temporary: true },
    ],
    missing: [],
  });
  t.match(registry.directory.listVnics({ names: ['foo0', 'overlay0', 'x0'], over: 'overlay0' }), {
    vnics: [{ name: 'foo0' }],
    missing: [{ message: 'overlay0 is not a VNIC' }, { message: 'object not found' }],
  });
  const near = { reason: 'NOT_FOUND', message: 'object not found' };
  t.same(registry.directory.listVnics({ names: ['fo0', 'x0'] }).missing, [
    { ...near, name: 'fo0', hint: 'did you mean foo0?' },
    { ...near, name: 'x0' },
  ]);
  t.same(registry.directory.list({ names: ['overlya0', 'fo0'] }).missing, [
    { ...near, name: 'overlya0', hint: 'did you mean overlay0?' },
    { ...near, name: 'fo0' },
  ]);
  const refused = async (work: Promise<unknown>, hint: string | null): Promise<void> => {
    await t.rejects(work, { code: 'NOT_FOUND', hint });
  };
  await refused(registry.deleteOverlay({ name: 'overlay', temporary: false }), 'did you mean overlay0?');
  await refused(registry.deleteOverlay({ name: 'foo0', temporary: false }), null);
  await refused(registry.deleteVnic({ name: 'bra0', temporary: false }), 'did you mean bar0?');
  await refused(registry.createVnic(vnic('new0', { over: 'overly0' })), 'did you mean overlay0?');
  await refused(registry.linkProperties.reset({ name: 'bart0', temporary: false }), 'did you mean bar0?');
  await refused(registry.createOverlay(point({ name: 'new0', search: 'direkt' })), 'did you mean direct?');
  await refused(registry.createOverlay(point({ name: 'new0', encap: 'vxlna' })), 'did you mean vxlan?');
  await refused(registry.reloadPlugin({ name: 'driect' }), 'did you mean direct?');
  await registry.createOverlay(point({ name: 'temp0', vnetid: 1, temporary: true }));
  await t.rejects(registry.createVnic(vnic('baz0', { over: 'temp0' })), {
    code: 'INVALID',
    message: /use -t/,
  });
  await registry.createVnic(vnic('baz0', { over: 'temp0', temporary: true }));
  await t.rejects(registry.deleteVnic({ name: 'overlay0', temporary: false }), {
    code: 'NOT_FOUND',
    message: 'overlay0 is an overlay: use delete-overlay',
  });
  await t.rejects(registry.deleteOverlay({ name: 'foo0', temporary: false }), {
    code: 'NOT_FOUND',
    message: 'foo0 is a VNIC: use delete-vnic',
  });
});

t.test('link properties', async (t) => {
  const host = await newHost(t);
  const { registry, datapath, stateDir } = host;
  const properties = registry.linkProperties;
  await registry.createOverlay(point());
  await registry.createVnic(
    vnic('foo0', { mac: 'de:ad:be:ef:0:1', properties: [['protection', ['ip-nospoof', 'mac-nospoof']]] }),
  );
  await registry.createVnic(vnic('bar0', { temporary: true }));
  const inForce = (name: string) => datapath.ports.get(name)?.config.protection;
  const shown = (name: string, persistent = false) =>
    Object.fromEntries(
      properties
        .list({ names: [name], persistent })
        .rows.filter(({ value, effective }) => value.length + effective.length > 0)
        .map(({ property, value, effective }) => [property, [value.join(), effective.join()]]),
    );
  const nobody = ['false', ''];

  t.match(inForce('foo0'), { types: ['mac-nospoof', 'ip-nospoof'], addresses: [], clientIds: [] });
  t.equal(inForce('bar0'), undefined, 'nothing is in force unless it is set');
  t.equal(inForce('overlay0'), undefined);
  await properties.set({
    name: 'foo0',
    temporary: false,
    properties: [['allowed-ips', ['10.0.0.0/8', 'fd00::1']]],
  });
  await properties.set({ name: 'foo0', temporary: true, properties: [['allowed-dhcp-cids', ['0x01']]] });
  t.match(inForce('foo0'), {
    addresses: [
      { ip: '10.0.0.0', bits: 8 },
      { ip: 'fd00::1', bits: 128 },
    ],
  });
  t.same(shown('foo0'), {
    protection: ['mac-nospoof,ip-nospoof', 'mac-nospoof,ip-nospoof'],
    'allowed-ips': ['10.0.0.0/8,fd00::1', '10.0.0.0/8,fd00::1'],
    'allowed-dhcp-cids': ['0x01', ''],
    'allow-all-dhcp-cids': nobody,
  });
  t.same(shown('foo0', true), {
    protection: ['mac-nospoof,ip-nospoof', ''],
    'allowed-ips': ['10.0.0.0/8,fd00::1', ''],
    'allow-all-dhcp-cids': nobody,
  });
  await properties.set({ name: 'foo0', temporary: true, properties: [['protection', ['restricted']]] });
  t.same(inForce('foo0')?.types, ['restricted']);
  await properties.set({
    name: 'foo0',
    temporary: true,
    properties: [
      ['protection', ['dhcp-nospoof']],
      ['allow-all-dhcp-cids', ['true']],
    ],
  });
  t.match(inForce('foo0'), { types: ['dhcp-nospoof'], clientIds: 'any' });
  await properties.reset({
    name: 'foo0',
    temporary: true,
    properties: ['protection', 'allow-all-dhcp-cids'],
  });
  t.equal(inForce('foo0'), undefined);
  t.equal(shown('foo0', true)['protection'][0], 'mac-nospoof,ip-nospoof', '-t leaves the disk alone');

  const after = await host.restart();
  await after.registry.up({});
  t.match(after.datapath.ports.get('foo0')?.config.protection, {
    types: ['mac-nospoof', 'ip-nospoof'],
    addresses: [
      { ip: '10.0.0.0', bits: 8 },
      { ip: 'fd00::1', bits: 128 },
    ],
    clientIds: [],
  });

  await properties.reset({ name: 'foo0', temporary: false });
  t.same(shown('foo0', true), { 'allow-all-dhcp-cids': nobody });
  t.notMatch(readFileSync(path.join(stateDir, 'overlay0.json'), 'utf8'), /properties": \[\[/);
  await properties.set({ name: 'bar0', temporary: true, properties: [['protection', ['restricted']]] });
  t.same(inForce('bar0')?.types, ['restricted']);

  const set = (name: string, temporary: boolean, ...given: [string, string[]][]) =>
    properties.set({ name, temporary, properties: given });
  const good: [string, string[]] = ['protection', ['restricted']];
  await t.rejects(set('bar0', false, good), { code: 'INVALID', message: /bar0 is temporary.*use -t/ });
  await t.rejects(set('overlay0', true, good), {
    code: 'UNSUPPORTED',
    message: /overlay0 is an overlay; .*: use set-overlayprop/,
  });
  await t.rejects(set('x0', false, good), { code: 'NOT_FOUND' });
  await t.rejects(set('foo0', false, good, ['mtu', ['1']]), {
    code: 'NOT_FOUND',
    message: /mtu: no such property, expected one of protection, /,
  });
  await t.rejects(set('foo0', false, ['protection', ['x']], ['allowed-ips', ['y']]), {
    code: 'INVALID',
    details: [/found 'x', expected one of mac-nospoof/, /found 'y', expected an address/],
  });
  await t.rejects(properties.reset({ name: 'foo0', temporary: false, properties: ['x'] }), {
    code: 'NOT_FOUND',
  });
  t.throws(() => properties.list({ persistent: false, properties: ['x'] }), { code: 'NOT_FOUND' });
  t.equal(inForce('foo0'), undefined, 'all or nothing');
  await t.rejects(registry.createVnic(vnic('baz0', { properties: [['protection', ['x']]] })), {
    code: 'INVALID',
  });
  t.notOk(datapath.ports.has('baz0'));
  t.match(properties.list({ names: ['overlay0', 'x0'], persistent: false }).missing, [
    { message: 'overlay0 is not a VNIC' },
    { message: 'object not found' },
  ]);
  t.match(properties.list({ names: ['bar0'], persistent: true }).missing, [{ message: 'bar0 is temporary' }]);
  t.equal(properties.list({ persistent: false, properties: ['allowed-ips', 'protection'] }).rows.length, 4);
});

t.test('leases make addresses usable, end, and outlast the daemon', async (t) => {
  const host = await newHost(t);
  const { registry } = host;
  const properties = registry.linkProperties;
  await registry.createOverlay(point());
  await registry.createVnic(vnic('foo0', { properties: [['protection', ['ip-nospoof']]] }));
  const addresses = ({ datapath }: Host) =>
    datapath.ports.get('foo0')?.config.protection?.addresses.map(({ ip }) => ip);
  const hear = (ip: string | undefined, validS: number, family: 4 | 6 = 4) => {
    host.datapath.overlays.get(1)?.listener?.leased([
      {
        overlay: 1,
        port: 'foo0',
        family,
        ip: ip === undefined ? undefined : parseIp(ip),
        validS,
      },
    ]);
  };
  hear('10.0.0.7', 3600);
  hear('fd00::7', 0xffff_ffff, 6);
  t.same(addresses(host), ['10.0.0.7', 'fd00::7']);
  t.equal(
    properties
      .list({ persistent: false })
      .rows.find(({ property }) => property === 'allowed-ips')
      ?.effective.join(),
    '10.0.0.7,fd00::7',
  );
  const set = (name: string, ...values: string[]) =>
    properties.set({ name: 'foo0', temporary: true, properties: [[name, values]] });
  await set('allowed-ips', '10.0.0.1');
  t.same(addresses(host), ['10.0.0.1'], 'what is listed is all');
  await set('dynamic-methods', 'dhcpv6');
  t.same(addresses(host), ['10.0.0.1', 'fd00::7'], 'but for what is to be learned besides');
  await properties.reset({ name: 'foo0', temporary: true, properties: ['allowed-ips', 'dynamic-methods'] });

  hear('10.0.0.8', 0.05);
  t.same(addresses(host), ['10.0.0.7', 'fd00::7', '10.0.0.8']);
  for (let waits = 0; waits < 200 && addresses(host)?.length === 3; waits++) await sleep(10);
  t.same(addresses(host), ['10.0.0.7', 'fd00::7'], 'its time is over');
  hear(undefined, 0);
  t.same(addresses(host), ['fd00::7'], 'refused: all of the family');
  hear('10.0.0.9', 3600);
  hear('fd00::7', 0, 6);
  hear('fd00::1', 0, 6);
  t.same(addresses(host), ['10.0.0.9']);
  registry.leased({ overlay: 1, port: 'x0', family: 4, ip: parseIp('10.0.0.1'), validS: 1 });
  registry.leased({ overlay: 9, port: 'foo0', family: 4, ip: parseIp('10.0.0.1'), validS: 1 });
  for (let n = 1; n <= 33; n++) hear(`10.1.0.${n}`, 10_000 + n);
  t.equal(addresses(host)?.length, 32, 'no more than may be listed');
  t.notOk(addresses(host)?.includes(parseIp('10.0.0.9')!), 'the one that ends first makes room');
  hear(undefined, 0);
  hear('10.0.0.7', 3600);
  hear('10.0.0.8', 0xffff_ffff);

  await registry.stop(() => Promise.resolve());
  const after = await host.restart();
  await after.registry.up({});
  t.same(addresses(after), ['10.0.0.7', '10.0.0.8']);
  await after.registry.stop(() => Promise.resolve());
});

t.test('a plugin that says what a MAC may use has the last word', async (t) => {
  const { registry, datapath, life } = await newHost(t);
  life.allowed = [parseIp('10.0.0.1')];
  await registry.createOverlay(asked());
  await registry.createVnic(
    vnic('foo0', {
      properties: [
        ['allowed-ips', ['10.9.9.9']],
        ['protection', ['restricted']],
      ],
    }),
  );
  const inForce = () => {
    const rules = datapath.ports.get('foo0')?.config.protection;
    return rules && [rules.types.join(), rules.addresses.map(({ ip }) => ip).join()];
  };
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', '10.0.0.1']);
  t.equal(
    datapath.ports.get('overlay0')?.config.protection,
    undefined,
    "the overlay's own port is the host's",
  );
  registry.leased({
    overlay: 1,
    port: 'foo0',
    family: 4,
    ip: parseIp('10.0.0.2'),
    validS: 60,
  });
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', '10.0.0.1'], 'whatever a DHCP server says');
  life.allowed = [];
  life.allow();
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', ''], 'nothing');
  life.allowed = ['x'];
  t.throws(() => {
    life.allow();
  }, /gave "?'x'/);
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', ''], 'the list before holds');
  life.allowed = undefined;
  life.allow();
  t.same(inForce(), ['restricted', '10.9.9.9'], 'no say: what was set');
  await registry.stop(() => Promise.resolve());
});

t.test('a MAC that somebody gives to the interface of a port', async (t) => {
  const host = await newHost(t);
  const { registry, datapath, kernel, life } = host;
  const [configured, changed] = [0x0200_0000_00a1, 0x0200_0000_00ee];
  kernel.setLink(50, 'foo0', { mac: configured });
  await registry.createOverlay(asked());
  await registry.createVnic(vnic('foo0', { mac: '2:0:0:0:0:a1' }));
  const known = () => registry.directory.listVnics({ names: ['foo0'] }).vnics[0];
  const inForce = (): unknown => {
    const { mac, protection } = datapath.ports.get('foo0')?.config ?? {};
    return [mac, protection?.addresses.map(({ ip }) => ip).join()];
  };
  t.match(known(), { mac: '02:00:00:00:00:a1', configuredMac: '02:00:00:00:00:a1', state: 'up' });
  const { changes } = datapath;
  kernel.setLink(50, 'foo0', { mac: changed });
  kernel.tell({ about: 'link', index: 50, name: 'foo0', kind: 'tun' });
  await waitUntil(() => datapath.changes > changes, { what: 'the datapath to be told' });
  t.equal(datapath.changes, changes + 1, 'once');
  t.same(inForce(), [changed, undefined], 'in force');
  t.match(known(), { mac: '02:00:00:00:00:ee', configuredMac: '02:00:00:00:00:a1', state: 'up' });
  for (const mac of ['2:0:0:0:0:a1', '2:0:0:0:0:ee'])
    await t.rejects(registry.createVnic(vnic('bar0', { mac })), { message: /is in use on overlay0/ }, mac);

  life.allowedOf.set(changed, [parseIp('10.0.0.1')!]);
  life.allow();
  t.same(
    inForce(),
    [configured, ''],
    'a plugin with a list protects every MAC, so the configured one is in force',
  );
  life.allowedOf.set(configured, [parseIp('10.0.0.2')!]);
  life.allow();
  t.same(inForce(), [configured, '10.0.0.2'], 'with its own addresses');
  t.match(known(), { mac: '02:00:00:00:00:a1', state: 'has the MAC 02:00:00:00:00:ee' });
  life.allowedOf.clear();
  life.allow();
  t.same(inForce(), [changed, undefined], 'and back');
  await registry.linkProperties.set({
    name: 'foo0',
    temporary: false,
    properties: [['protection', ['ip-nospoof']]],
  });
  t.same(inForce(), [configured, ''], 'protection keeps it to the configured one');
  await registry.linkProperties.reset({ name: 'foo0', temporary: false });
  t.same(inForce(), [changed, undefined]);
  await registry.createVnic(vnic('bar0', { mac: '2:0:0:0:0:b1' }));
  datapath.ports.get('foo0')?.fail('EBADFD');
  t.match(known(), { mac: '02:00:00:00:00:a1' }, 'a device that is gone has none');
  await registry.stop(() => Promise.resolve());

  const after = await host.restart();
  await after.registry.up({});
  const [again] = after.registry.directory.listVnics({ names: ['foo0'] }).vnics;
  t.match(again, { mac: '02:00:00:00:00:a1' }, 'the configured one is what is stored');
  await after.registry.stop(() => Promise.resolve());
});
