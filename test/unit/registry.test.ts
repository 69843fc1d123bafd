// Overlays of the registry: creating and deleting them.

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { USUAL_OFFLOADS } from '../../src/model/offloads.js';
import {
  type Refusal,
  newHost,
  type Create,
  point,
  asked,
  vnic,
  names,
  valueOf,
} from '../helpers/registry-host.js';

const NO_FACTS = { origin: null, ageMs: null, idleMs: null, ttlMs: null, isStale: false, staleMs: null };

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
      offload: USUAL_OFFLOADS,
    });
    t.match(datapath.overlays.get(1)?.ports.get('overlay0')?.config, { vid: 0, mtuBytes: 1450, own: true });
    t.ok(existsSync(path.join(stateDir, 'overlay0.json')));
    const [overlay] = registry.directory.list({}).overlays;
    t.match(overlay, { name: 'overlay0', temporary: false, mode: 'point', health: { status: 'ONLINE' } });
    t.equal(valueOf(overlay, 'varpd/id'), '1');
    t.same(await registry.targets({ name: 'overlay0' }), {
      rows: [{ mac: '*:*:*:*:*:*', state: 'valid', destinations: ['10.0.0.2:4789'], ...NO_FACTS }],
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
        { code: 'NOT_FOUND', message: /found 'nope', expected one of direct, files, http, nats, test/ },
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
