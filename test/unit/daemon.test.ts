// The registry over a datapath that moves nothing: the life of overlays and VNICs, and what is left when a step fails.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { OverlayInfo } from '../../src/control/messages.js';
import type { Methods } from '../../src/control/methods.js';
import { parseConfig } from '../../src/daemon/config-file.js';
import { Registry } from '../../src/daemon/overlays/registry.js';
import { PluginCatalog } from '../../src/daemon/plugins/plugin-catalog.js';
import { StateStore } from '../../src/daemon/state/persistence.js';
import { Snapshot } from '../../src/daemon/state/snapshot.js';
import { StateDirectory } from '../../src/daemon/state/state-directory.js';
import { LinkWatch } from '../../src/daemon/underlay/link-watch.js';
import {
  definePlugin,
  type Host as PluginHost,
  type IpAddress,
  type LookupPlugin,
  type MacAddress,
  parseIp,
} from '../../src/plugin/index.js';
import { FakeDatapath, fakeOverlay } from '../helpers/fake-datapath.js';
import { FakeKernel } from '../helpers/fake-kernel.js';
import { waitUntil } from '../helpers/process.js';

interface Context {
  teardown(work: () => unknown): unknown;
}

function newDirectory(t: Context): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/** What is expected of an error. */
interface Refusal {
  code: string;
  message?: string | RegExp;
}

interface Life {
  starts: number;
  stops: number;
  failStart: boolean;
  /** What a start waits for. */
  gate: Promise<void>;
  /** What every MAC may use, unless `allowedOf` has it. */
  allowed: unknown;
  readonly allowedOf: Map<MacAddress, readonly IpAddress[]>;
  host?: PluginHost;
}

/** Answers with the address 10.0.0.9 always; `life` counts its starts and stops. */
const dynamic = (life: Life): LookupPlugin =>
  definePlugin({
    apiVersion: 1,
    name: 'test',
    mode: 'dynamic',
    properties: [{ name: 'test/file', type: 'string', required: false }],
    create: (host) => {
      life.host = host;
      return {
        start: () => {
          life.starts++;
          return life.failStart ? Promise.reject(new Error('no table')) : life.gate;
        },
        stop: () => {
          life.stops++;
          return Promise.resolve();
        },
        resolve: () => ({ kind: 'target', to: { ip: parseIp('10.0.0.9')!, port: 4789 } }),
        allowedIps: (mac) => life.allowedOf.get(mac) ?? (life.allowed as IpAddress[] | undefined),
      };
    },
  });

interface Host {
  readonly registry: Registry;
  readonly datapath: FakeDatapath;
  readonly links: Set<string>;
  readonly kernel: FakeKernel;
  readonly life: Life;
  readonly stateDir: string;
  /** The same state directory, as after a restart. */
  restart(): Promise<Host>;
}

async function newHost(t: Context, stateDir = path.join(newDirectory(t), 'state')): Promise<Host> {
  const datapath = new FakeDatapath();
  const life = {
    starts: 0,
    stops: 0,
    failStart: false,
    gate: Promise.resolve(),
    allowed: undefined,
    allowedOf: new Map(),
  };
  const state = await StateDirectory.open(stateDir);
  t.teardown(() => state.close());
  const links = new Set<string>();
  const catalog = await PluginCatalog.load([], LOG);
  const own = dynamic(life);
  const plugins = {
    get: (name: string) => (name === 'test' ? own : catalog.get(name)),
    find: (name: string) => Promise.resolve(plugins.get(name)),
    keys: () => [...catalog.keys(), 'test'],
    failureOf: () => undefined,
  };
  const limits = parseConfig('', '').limits;
  const kernel = new FakeKernel();
  kernel.setLink(1, 'under0');
  for (const ip of ['10.0.0.1', '2001:db8::1']) kernel.setAddress(parseIp(ip)!, 1);
  kernel.defaultRoute = 1;
  const watch = new LinkWatch(kernel, LOG);
  t.teardown(() => {
    watch.close();
  });
  const services = {
    datapath,
    plugins,
    links: {
      exists: (name: string) => links.has(name),
      mtuBytesOf: () => 9000,
      isSilent: () => false,
      allowAutomaticAddress: () => undefined,
    },
    watch,
    log: LOG,
    limits: () => limits,
    snapshot: Snapshot.empty(),
  };
  const registry = new Registry(services, await StateStore.load(state));
  return { registry, datapath, links, kernel, life, stateDir, restart: () => newHost(t, stateDir) };
}

type Create = Methods['overlay.create']['params'];

const point = (more: Partial<Create> = {}): Create => ({
  name: 'overlay0',
  encap: 'vxlan',
  search: 'direct',
  vnetid: 42,
  temporary: false,
  properties: [
    ['vxlan/listen_ip', '10.0.0.1'],
    ['direct/dest_ip', '10.0.0.2'],
    ['direct/dest_port', '4789'],
  ],
  ...more,
});
const asked = (more: Partial<Create> = {}): Create =>
  point({ search: 'test', properties: [['vxlan/listen_ip', '10.0.0.1']], ...more });

const vnic = (
  name: string,
  more: Partial<Methods['vnic.create']['params']> = {},
): Methods['vnic.create']['params'] => ({
  name,
  over: 'overlay0',
  temporary: false,
  ...more,
});

/** Of the overlays that run. */
const names = ({ registry }: Host): string[] => [...registry.directory.overlays.keys()];
const valueOf = (overlay: OverlayInfo | undefined, property: string): string | null | undefined =>
  overlay?.properties.find((row) => row.property === property)?.value;

t.test('creating an overlay', async (t) => {
  t.test('sets up datapath, port and file', async (t) => {
    const { registry, datapath, stateDir } = await newHost(t);
    await registry.createOverlay(point());
    t.match(datapath.overlays.get(1)?.config, {
      vnetid: 42,
      mtuBytes: 1450,
      mode: 'point',
      destination: { ip: '10.0.0.2', port: 4789 },
      listen: { ip: '10.0.0.1', port: 4789 },
      queues: 1,
      sourcePorts: 64,
      udpChecksum: 'auto',
      accept: 'known',
      vlan: 'keep',
      dscp: 'zero',
      offload: 'auto',
    });
    t.match(datapath.overlays.get(1)?.ports.get('overlay0')?.config, { vid: 0, mtuBytes: 1450, own: true });
    t.ok(existsSync(path.join(stateDir, 'overlay0.json')));
    const [overlay] = registry.directory.list({}).overlays;
    t.match(overlay, { name: 'overlay0', temporary: false, mode: 'point', health: { status: 'ONLINE' } });
    t.equal(valueOf(overlay, 'varpd/id'), '1');
    t.same(await registry.targets({ name: 'overlay0' }), {
      rows: [{ mac: '*:*:*:*:*:*', state: 'valid', destinations: ['10.0.0.2:4789'] }],
      next: null,
    });
  });

  t.test('is refused with a reason, and then nothing was touched', async (t) => {
    const host = await newHost(t);
    const { registry, datapath, links } = host;
    await registry.createOverlay(point());
    await registry.createVnic(vnic('foo0'));
    links.add('eth0');
    const { changes } = datapath;
    const other = (more: Partial<Create>): Create => point({ name: 'overlay1', vnetid: 43, ...more });
    const with_ = (...more: Create['properties']): Create =>
      other({ properties: [...point().properties, ...more] });
    const cases: [Create, Refusal][] = [
      [point({ vnetid: 43 }), { code: 'EXISTS' }],
      [other({ name: 'foo0' }), { code: 'EXISTS' }],
      [other({ name: 'eth0' }), { code: 'EXISTS', message: /network interface eth0/ }],
      [other({ name: 'overlay' }), { code: 'INVALID', message: /invalid link name 'overlay'/ }],
      [other({ name: '../../etc/x0' }), { code: 'INVALID' }],
      [other({ vnetid: 42 }), { code: 'EXISTS', message: /id 42 is in use on 10\.0\.0\.1:4789 by overlay0/ }],
      [other({ encap: 'nvgre' }), { code: 'NOT_FOUND', message: /found 'nvgre', expected one of vxlan/ }],
      [
        other({ search: 'nope' }),
        { code: 'NOT_FOUND', message: /found 'nope', expected one of direct, files, test/ },
      ],
      [other({ properties: [] }), { code: 'INVALID', message: 'invalid argument' }],
      [with_(['mtu', '1451']), { code: 'INVALID', message: /found '1451', expected at most 1450/ }],
      [
        other({
          properties: [
            ['vxlan/listen_ip', '10.0.0.1'],
            ['direct/dest_ip', '10.0.0.1'],
            ['direct/dest_port', '4789'],
          ],
        }),
        { code: 'INVALID', message: /own listen address/ },
      ],
      [
        other({
          properties: [
            ['vxlan/listen_ip', '2001:db8::1'],
            ['direct/dest_ip', '10.0.0.1'],
            ['direct/dest_port', '4789'],
          ],
        }),
        { code: 'INVALID', message: /not of the same family/ },
      ],
    ];
    for (const [params, error] of cases) await t.rejects(registry.createOverlay(params), error);
    t.equal(datapath.changes, changes);
    t.same(names(host), ['overlay0']);
    await registry.createOverlay(with_(['vxlan/listen_port', '4790'], ['mtu', '1000']));
    t.equal(datapath.ports.get('overlay1')?.config.mtuBytes, 1000);
    await registry.createOverlay(
      other({ name: 'overlay2', vnetid: 42, properties: with_(['vxlan/listen_port', '4790']).properties }),
    );
  });

  t.test('undoes every step before the one that failed', async (t) => {
    const host = await newHost(t);
    const { registry, datapath, life, stateDir } = host;
    const broken: ['addOverlay' | 'addPort', string, Refusal][] = [
      [
        'addOverlay',
        'EADDRNOTAVAIL',
        { code: 'INVALID', message: 'vxlan/listen_ip: 10.0.0.1 is not an address of this host' },
      ],
      [
        'addOverlay',
        'EADDRINUSE',
        { code: 'BUSY', message: /listen_port: port 4789 of 10\.0\.0\.1 is in use/ },
      ],
      ['addPort', 'EPERM', { code: 'DENIED', message: /CAP_NET_ADMIN/ }],
      ['addPort', 'ENOENT', { code: 'NOT_FOUND', message: /modprobe tun/ }],
      ['addPort', 'EBUSY', { code: 'EXISTS', message: /exists already/ }],
    ];
    const nothingLeft = (what: string): void => {
      t.equal(life.starts, life.stops, `${what}: the plugin is stopped`);
      t.same([datapath.overlays.size, datapath.ports.size, names(host).length], [0, 0, 0], what);
      t.notOk(existsSync(path.join(stateDir, 'overlay0.json')), what);
    };
    for (const [call, errno, error] of broken) {
      datapath.failures.set(call, errno);
      await t.rejects(registry.createOverlay(asked()), error, `${call} ${errno}`);
      datapath.failures.clear();
      nothingLeft(call);
    }
    life.failStart = true;
    await t.rejects(registry.createOverlay(asked()), {
      message: 'failed to activate varpd instance: no table',
    });
    life.failStart = false;
    nothingLeft('start');
    // A directory in the place of the file: rename fails, whoever runs this test.
    mkdirSync(path.join(stateDir, 'overlay0.json/x'), { recursive: true });
    await t.rejects(registry.createOverlay(asked()), { message: /cannot save overlay0/ });
    rmSync(path.join(stateDir, 'overlay0.json'), { recursive: true });
    nothingLeft('save');
    await registry.createOverlay(asked());
    t.same(names(host), ['overlay0'], 'and then it works');
  });

  t.test('is not seen by anybody before it is done', async (t) => {
    const host = await newHost(t);
    let open!: () => void;
    host.life.gate = new Promise((resolve) => (open = resolve));
    const created = host.registry.createOverlay(asked());
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(host.life.starts, 1);
    t.same(names(host), []);
    open();
    await created;
    t.same(names(host), ['overlay0']);
  });

  t.test('the default MTU is what the underlay carries', async (t) => {
    const { registry, datapath } = await newHost(t);
    const mtuOf = async (name: string, params: Partial<Create>): Promise<number | undefined> => {
      await registry.createOverlay({
        ...params,
        ...point({ ...params, name, vnetid: 100 + datapath.ports.size }),
      });
      return datapath.ports.get(name)?.config.mtuBytes;
    };
    const { properties } = asked();
    t.equal(
      await mtuOf('a0', { search: 'test', properties }),
      8900,
      'of the link with the listen address, and bounded',
    );
    datapath.routeMtu = 1280;
    t.equal(await mtuOf('b0', {}), 1230);
    const v6: Create['properties'] = [
      ['vxlan/listen_ip', '2001:db8::1'],
      ['direct/dest_ip', '2001:db8::2'],
      ['direct/dest_port', '4789'],
    ];
    t.equal(await mtuOf('c0', { properties: v6 }), 1210);
    datapath.routeMtu = 500;
    t.equal(await mtuOf('d0', {}), 576);
    datapath.failures.set('routeMtuBytes', 'ENETUNREACH');
    t.equal(await mtuOf('e0', {}), 8900, 'no route yet: the link');
  });
});

t.test('deleting an overlay', async (t) => {
  const host = await newHost(t);
  const { registry, datapath, life, stateDir } = host;
  await t.rejects(registry.deleteOverlay({ name: 'overlay0', temporary: false }), { code: 'NOT_FOUND' });
  await registry.createOverlay(asked());
  await registry.createVnic(vnic('foo0'));
  await t.rejects(registry.deleteOverlay({ name: 'overlay0', temporary: false }), {
    code: 'BUSY',
    message: /foo0/,
  });
  await t.rejects(registry.deleteOverlay({ name: 'overlay0', temporary: true }), { code: 'BUSY' });
  await registry.deleteVnic({ name: 'foo0', temporary: false });
  await registry.deleteOverlay({ name: 'overlay0', temporary: true });
  t.equal(life.starts, life.stops);
  t.same([names(host), datapath.overlays.size], [[], 0]);
  t.ok(existsSync(path.join(stateDir, 'overlay0.json')), '-t leaves the file');
  await t.rejects(registry.createOverlay(asked()), { code: 'EXISTS' }, 'and the name is taken');
  t.match(registry.directory.list({ names: ['overlay0', 'nothing0'] }), {
    overlays: [
      {
        name: 'overlay0',
        health: {
          status: 'OFFLINE',
          details: "it is not running; 'dladm up-overlay overlay0' starts it",
        },
      },
    ],
    missing: [{ name: 'nothing0', message: 'object not found' }],
  });
  t.same(await registry.up({ name: 'overlay0' }), { failures: [] });
  t.same(names(host), ['overlay0']);
  await registry.deleteOverlay({ name: 'overlay0', temporary: false });
  t.notOk(existsSync(path.join(stateDir, 'overlay0.json')));
});

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
    message: /overlay0 is an overlay; .*: to change one, delete its VNICs \(foo0, bar0\), then overlay0/,
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
  life.host?.allowedIpsChanged();
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', ''], 'nothing');
  life.allowed = ['x'];
  life.host?.allowedIpsChanged();
  t.same(inForce(), ['mac-nospoof,restricted,ip-nospoof', ''], 'nonsense allows nothing');
  t.equal(registry.directory.list({}).overlays[0]?.health.status, 'DEGRADED');
  life.allowed = undefined;
  life.host?.allowedIpsChanged();
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
  life.host?.allowedIpsChanged();
  t.same(inForce(), [changed, '10.0.0.1'], 'what the plugin says of it holds');
  life.allowedOf.set(configured, [parseIp('10.0.0.2')!]);
  life.host?.allowedIpsChanged();
  t.same(inForce(), [configured, '10.0.0.2'], 'the configured one, once the plugin speaks for that');
  t.match(known(), { mac: '02:00:00:00:00:a1', state: 'has the MAC 02:00:00:00:00:ee' });
  life.allowedOf.clear();
  life.host?.allowedIpsChanged();
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
  life.host?.allowedIpsChanged();
  const port = datapath.ports.get('foo0')!;
  port.fail('EBADFD');
  const remove = port.remove.bind(port);
  port.remove = async () => {
    await remove();
    life.allowed = ['10.0.0.2'];
    life.host?.allowedIpsChanged();
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
