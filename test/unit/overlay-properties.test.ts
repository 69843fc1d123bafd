// Changes to the properties of an overlay: all or nothing at each step, and what is stored. The real registry over a fake datapath.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { OverlayError } from '../../src/model/errors.js';
import { asked, type Host, newHost, point, valueOf, vnic } from '../helpers/registry-host.js';
import { waitUntil } from '../helpers/process.js';
import { parseIp } from '../../src/plugin/index.js';

const overlayOf = ({ registry }: Host) => registry.directory.list({ names: ['overlay0'] }).overlays[0];
const stored = ({ stateDir }: Host): Record<string, string> => {
  const text = readFileSync(path.join(stateDir, 'overlay0.json'), 'utf8');
  return Object.fromEntries((JSON.parse(text) as { properties: [string, string][] }).properties);
};
const datapathOf = ({ datapath }: Host) => [...datapath.overlays.values()][0];
const set = (host: Host, properties: Record<string, string>, temporary = false): Promise<void> =>
  host.registry.properties.set({ name: 'overlay0', temporary, properties: Object.entries(properties) });
const reset = (host: Host, properties?: string[], temporary = false): Promise<void> =>
  host.registry.properties.reset({ name: 'overlay0', temporary, ...(properties && { properties }) });

t.test('a change is in force and stored', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point());
  await host.registry.createVnic(vnic('net0'));
  await set(host, { mtu: '1400', 'vxlan/accept': 'any', 'direct/dest_ip': '10.0.0.3' });
  const { config, destination, ports } = datapathOf(host);
  t.match(config, { mtuBytes: 1400, accept: 'any' });
  t.match(destination, { ip: '10.0.0.3', port: 4789 });
  t.same(
    [...ports.values()].map((port) => port.config.mtuBytes),
    [1400, 1400],
  );
  t.match(stored(host), { mtu: '1400', 'vxlan/accept': 'any', 'direct/dest_ip': '10.0.0.3' });
  await set(host, { 'vxlan/dscp': 'copy' }, true);
  t.equal(valueOf(overlayOf(host), 'vxlan/dscp'), 'copy');
  t.notOk('vxlan/dscp' in stored(host), '-t stores nothing');
  await reset(host);
  t.match(datapathOf(host).config, { accept: 'known', dscp: 'zero' });
  t.same(Object.keys(stored(host)).sort(), ['direct/dest_ip', 'direct/dest_port', 'vxlan/listen_ip']);
  const again = await host.restart();
  await again.registry.raise();
  t.equal(valueOf(overlayOf(again), 'direct/dest_ip'), '10.0.0.3');
});

t.test('a step that fails takes back all before it', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(point());
  const change = { mtu: '1400', 'vxlan/source_ports': '3', 'direct/dest_ip': '10.0.0.3' };
  const before = { config: datapathOf(host).config, rows: overlayOf(host).properties, file: stored(host) };
  const isAsBefore = (what: string): void => {
    t.same(datapathOf(host).config, before.config, what);
    t.same(overlayOf(host).properties, before.rows);
    t.same(stored(host), before.file);
    t.match(datapathOf(host).destination, { ip: '10.0.0.2' });
    t.equal(datapathOf(host).ports.get('overlay0')?.config.mtuBytes, before.config.mtuBytes);
  };
  for (const call of ['change', 'setMtu'] as const) {
    let fails = 1;
    host.datapath.failures.set(call, 'EMFILE');
    const failIfTold = host.datapath.failIfTold.bind(host.datapath);
    host.datapath.failIfTold = (asked) => {
      if (asked === call && fails-- <= 0) return;
      failIfTold(asked);
    };
    await t.rejects(set(host, change), call);
    host.datapath.failures.delete(call);
    host.datapath.failIfTold = failIfTold;
    isAsBefore(call);
  }
  await t.rejects(set(host, { ...change, 'direct/dest_ip': '10.0.0.1' }), /own listen address/);
  isAsBefore('the plugin');
  await set(host, change);
  t.match(stored(host), change, 'and then it succeeds');
});

t.test('reasons', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(asked());
  await host.registry.createOverlay(
    asked({ name: 'other0', vnetid: 42, properties: [['vxlan/listen_ip', '10.0.0.7']] }),
  );
  const linesOf = async (work: Promise<void>): Promise<readonly string[]> => {
    const error = await work.catch((error: unknown) => error);
    if (!(error instanceof OverlayError)) throw new Error('it is no OverlayError');
    return error.details.length > 0 ? error.details : [error.message];
  };
  t.match(
    await linesOf(
      set(host, { vnetid: '16777216', queues: '2', mtu: 'much', colour: 'red', 'test/file': '/x' }),
    ),
    [
      /vnetid: found '16777216', expected a whole number from 0 to 16777215/,
      /queues: it is read-only: the interfaces of its ports/,
      /mtu: found 'much', expected a whole number/,
      /colour: no such property/,
      /test\/file: it is read-only: its plugin takes a value only at its start/,
    ],
  );
  t.match(await linesOf(reset(host, ['vxlan/listen_ip', 'vnetid', 'queues', 'colour'])), [
    /vxlan\/listen_ip: it is required and has no default/,
    /vnetid: it is required and has no default/,
    /queues: it is read-only/,
    /colour: no such property/,
  ]);
  t.match(await linesOf(set(host, { 'vxlan/listen_ip': '10.0.0.7' })), [
    /in use on 10\.0\.0\.7:4789 by other0/,
  ]);
  const none = host.registry.properties.set({ name: 'none0', temporary: false, properties: [] });
  t.match(await linesOf(none), [/not found/]);
  const starts = host.life.starts;
  await set(host, { 'vxlan/listen_ip': '10.0.0.8' });
  t.equal(host.life.starts, starts + 1, 'another address, another instance');
  t.match(host.life.host?.listen, { ip: '10.0.0.8' }, 'which knows it');
  host.life.failStart = true;
  await t.rejects(set(host, { 'vxlan/listen_ip': '10.0.0.9' }), /no table/);
  t.equal(
    valueOf(overlayOf(host), 'vxlan/listen_ip'),
    '10.0.0.8',
    'and if it does not start, the one before',
  );
  t.match(datapathOf(host).config.listen, { ip: '10.0.0.8' });
});

t.test('another network', async (t) => {
  const host = await newHost(t);
  await host.registry.createOverlay(asked({ properties: [...asked().properties, ['vnetid', '42']] }));
  await host.registry.createOverlay(asked({ name: 'other0', vnetid: 43 }));
  const overlay = [...host.datapath.overlays.values()][0];
  const before = { starts: host.life.starts, stops: host.life.stops };
  overlay.setPeers([parseIp('10.0.0.4')!]);
  overlay.setTarget(0x020000000001, [{ ip: parseIp('10.0.0.9')!, port: 4789 }], Infinity);

  await t.rejects(
    set(host, { vnetid: '43', mtu: '1300' }),
    /network id 43.*in use on 10\.0\.0\.1:4789 by other0/,
  );
  t.equal(valueOf(overlayOf(host), 'vnetid'), '42');
  host.life.failStart = true;
  await t.rejects(set(host, { vnetid: '7' }), /no table/, 'the plugin does not know it');
  host.life.failStart = false;
  host.datapath.failures.set('change', 'EMFILE');
  await t.rejects(set(host, { vnetid: '7' }));
  host.datapath.failures.delete('change');
  t.match(overlay, { config: { vnetid: 42 }, namedPeers: { length: 1 } }, 'all as it was');
  t.equal(overlay.table.size, 1);
  t.equal(valueOf(overlayOf(host), 'vnetid'), '42');
  const question = {
    lookup: 1,
    destinationMac: 0x020000000002,
    sourceMac: 0x020000000003,
    etherType: 0x0800,
    vlan: 0,
  };
  t.match(await overlay.ask(question), { kind: 'target' }, 'and the plugin answers');

  let open = (): void => undefined;
  host.life.gate = new Promise((resolve) => (open = resolve));
  const { starts } = host.life;
  const changed = set(host, { vnetid: '7', mtu: '1400' });
  await waitUntil(() => host.life.starts > starts, { what: 'the instance of there to start' });
  t.equal(host.life.host?.vnetid, 7, 'it is told the new network');
  for (const vnetid of [42, 7])
    await t.rejects(
      host.registry.createOverlay(asked({ name: 'third0', vnetid })),
      /by overlay0/,
      `${vnetid} is not free while the change may be taken back`,
    );
  open();
  await changed;
  t.match(overlay, { config: { vnetid: 7, mtuBytes: 1400 }, namedPeers: { length: 0 } });
  t.equal(overlay.table.size, 0, 'what was known of the other network is forgotten');
  t.match(await overlay.ask({ ...question, lookup: 2 }), { kind: 'target' });
  t.equal(host.life.starts - host.life.stops, before.starts - before.stops, 'as many instances as before');
  await host.registry.createOverlay(asked({ name: 'third0', vnetid: 42 }));
  await reset(host);
  const state = JSON.parse(readFileSync(path.join(host.stateDir, 'overlay0.json'), 'utf8')) as object;
  t.match(state, { vnetid: 7 });
  t.same(stored(host), { 'vxlan/listen_ip': '10.0.0.1' }, 'it is stored once');
  await set(host, { vnetid: '8' }, true);
  t.equal(valueOf(overlayOf(host), 'vnetid'), '8');
  const again = await host.restart();
  await again.registry.raise();
  t.equal(valueOf(overlayOf(again), 'vnetid'), '7', '-t ends with varpd');
});

t.test('an overlay that does not run', async (t) => {
  const first = await newHost(t);
  await first.registry.createOverlay(asked());
  const host = await first.restart();
  host.life.failStart = true;
  await host.registry.raise();
  t.equal(overlayOf(host).health.status, 'OFFLINE');
  await t.rejects(set(host, { mtu: '1400' }, true), /is OFFLINE/);
  await t.rejects(set(host, { mtu: 'x' }), /found 'x'/);
  host.life.failStart = false;
  await set(host, { mtu: '1400', vnetid: '7' });
  t.match(stored(host), { mtu: '1400' });
  await waitUntil(() => overlayOf(host).health.status === 'ONLINE', { what: 'it to be tried again' });
  t.equal(datapathOf(host).config.vnetid, 7);
});
