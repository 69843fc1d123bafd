// The http plugin beside the reference server, a process of its own: what is answered in each mode, and what is seen of
// changes.
import { execFileSync } from 'node:child_process';
import t from 'tap';

import http from '../../plugins/http/index.js';
import { ask, mac, macText, ReferenceStore, startHttp } from '../helpers/http-store.js';
import { skipUnless } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { parseIp } from '../../src/plugin/index.js';

const skip = skipUnless({ programs: ['python3'] });
const BROADCAST = 0xffff_ffff_ffff;
const ip = (text: string) => parseIp(text)!;

const VTEP = { ip: '10.88.88.70', port: 4789 };
const OTHER = { ip: '10.88.88.71', port: 4790 };
const AGE = { ttlMs: 30_000, staleMs: 86_400_000 };

for (const mode of ['lookup', 'watch', 'snapshot'] as const)
  t.test(`${mode}: what is answered`, { skip }, async (t) => {
    const store = await ReferenceStore.start(t);
    await store.put(macText(1), {
      ...VTEP,
      arp: '10.0.0.1',
      ndp: ['FE80::1', '2001:db8::1'],
      'dhcp-proxy': macText(2),
    });
    await store.put('02-0-0-0-0-2', { ip: '2001:db8::70', port: 4789 });
    await store.put(macText(3), OTHER);
    const { host, instance } = await startHttp(t, store.url, { mode });
    const age = mode === 'snapshot' ? {} : AGE;
    t.same(await ask(instance, mac(1)), { kind: 'target', to: VTEP, ...age });
    t.match(await ask(instance, mac(4)), { kind: 'drop', reason: 'the store has no such MAC' });
    t.match(await ask(instance, mac(2)), { kind: 'drop', reason: /^2001:db8::70 is not of the family/ });
    t.equal(await instance.neighbor(ip('10.0.0.1')), mac(1));
    t.equal(await instance.neighbor(ip('2001:db8::1')), mac(1));
    t.equal(await instance.neighbor(ip('10.0.0.9')), null);
    t.equal(await instance.dhcpServer(mac(1)), mac(2));
    t.equal(await instance.dhcpServer(mac(3)), null);
    t.same(await instance.placeOf(mac(1)), VTEP);
    t.equal(await instance.placeOf(mac(9)), null);
    t.strictSame([...host.peers].sort(), ['10.88.88.70', '10.88.88.71', '2001:db8::70']);
    t.same(await ask(instance, BROADCAST, 0x0806), { kind: 'proxy', what: 'arp' });
    t.same(await ask(instance, 0x3333_ff00_0001, 0x86dd), { kind: 'proxy', what: 'ndp' });
    t.same(await ask(instance, BROADCAST), { kind: 'proxy', what: 'dhcp' });
    t.match(await ask(instance, 0x0100_5e00_00fb), { kind: 'drop', reason: /http\/flood/ });
    t.equal(host.degraded, undefined);
  });

t.test(
  'the reference server counts entries and VTEPs, also in a database without counts',
  { skip },
  async (t) => {
    const store = await ReferenceStore.start(t);
    const network = async (): Promise<unknown> => (await fetch(store.network)).json();
    t.same(await network(), { entries: 0, vteps: [] });
    for (const last of [1, 2, 3]) await store.put(macText(last), VTEP);
    await store.put(macText(3), OTHER);
    await store.put(macText(4), {});
    const counted = { entries: 4, vteps: [VTEP, OTHER, { ip: null, port: null }] };
    t.same(await network(), counted);
    await store.kill();
    const drop = `import sqlite3; sqlite3.connect('${store.directory}/net.db').execute('DROP TABLE vteps')`;
    execFileSync('python3', ['-c', drop]);
    await store.start();
    t.same(await network(), counted);
    for (const last of [1, 4]) await store.remove(macText(last));
    t.same(await network(), { entries: 2, vteps: [VTEP, OTHER] });
    await store.put(macText(2), OTHER);
    t.same(await network(), { entries: 2, vteps: [OTHER] }, 'a VTEP without entries is none');
  },
);

t.test('http/flood: each VTEP of the family once', { skip }, async (t) => {
  const store = await ReferenceStore.start(t);
  await store.put(macText(1), VTEP);
  await store.put(macText(2), OTHER);
  await store.put(macText(3), OTHER);
  await store.put(macText(4), { ip: '2001:db8::70', port: 4789 });
  const { instance } = await startHttp(t, store.url, { flood: 'on', mode: 'lookup' });
  const to = [VTEP, OTHER];
  t.same(await ask(instance, 0x0100_5e00_00fb), { kind: 'flood', to });
  t.same(await ask(instance, BROADCAST, 0x0806), { kind: 'proxy', what: 'arp', otherwise: to });
});

t.test('http/protect: the addresses of each port, also after a change', { skip }, async (t) => {
  for (const mode of ['watch', 'snapshot'] as const) {
    const store = await ReferenceStore.start(t, ['--keep-alive', '0.2']);
    await store.put(macText(1), { ...VTEP, arp: '10.0.0.1', ndp: '2001:db8::1' });
    const { host, instance } = await startHttp(t, store.url, { mode, protect: 'on' });
    instance.ports([mac(1), mac(2)]);
    await waitUntil(() => host.allowed !== undefined, { what: 'the first rule' });
    t.same(host.allowed, [
      { mac: mac(1), ips: ['10.0.0.1', '2001:db8::1'] },
      { mac: mac(2), ips: [] },
    ]);
    await waitUntil(
      async () => {
        // The stream of watch may not be open yet: the change after it is seen in any case.
        await store.put(macText(1), { ...VTEP, arp: '10.0.0.7' });
        return host.allowed?.[0].ips.join() === '10.0.0.7';
      },
      { what: 'the new rule', stepMs: 100 },
    );
    t.same(host.allowed, [
      { mac: mac(1), ips: ['10.0.0.7'] },
      { mac: mac(2), ips: [] },
    ]);
  }
});

t.test(
  'watch: what is in use moves at once, and what is unknown is asked about again',
  { skip },
  async (t) => {
    const store = await ReferenceStore.start(t);
    await store.put(macText(1), { ...VTEP, arp: '10.0.0.1' });
    const { host, instance } = await startHttp(t, store.url);
    await waitUntil(() => host.lines.length >= 0, { what: 'the start' });
    t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP });
    t.match(await ask(instance, mac(5)), { kind: 'drop' });
    t.equal(await instance.neighbor(ip('10.0.0.1')), mac(1));
    await waitUntil(
      async () => {
        await store.put(macText(1), { ...OTHER, arp: '10.0.0.2' });
        return host.targets.has(mac(1));
      },
      { what: 'the target that has moved', stepMs: 100 },
    );
    t.match(host.targets.get(mac(1)), { to: OTHER });
    t.strictSame([...host.peers].sort(), ['10.88.88.70', '10.88.88.71'], 'a new VTEP is a peer at once');
    t.equal(await instance.neighbor(ip('10.0.0.1')), null, 'the address it had is asked about again');

    t.equal(await instance.neighbor(ip('10.0.0.2')), mac(1));
    host.invalidated.length = 0;
    await store.put(macText(5), { ...VTEP, arp: '10.0.0.2' });
    await waitUntil(() => host.announced.length > 0, { what: 'the address that has moved' });
    t.strictSame(host.announced, [['10.0.0.2', mac(5)]]);
    t.equal(await instance.neighbor(ip('10.0.0.2')), mac(5));
    t.match(host.targets.get(mac(5)), { to: VTEP }, 'one that was unknown has a target');

    await store.put(macText(6), VTEP);
    await waitUntil(() => host.invalidated.includes(mac(6)), { what: 'a MAC that was never asked about' });
    await store.remove(macText(1));
    await waitUntil(() => host.invalidated.includes(mac(1)), { what: 'the removal' });
    t.match(await ask(instance, mac(1)), { kind: 'drop' });
    t.equal(host.degraded, undefined);
  },
);

t.test('snapshot: add, move, remove; addresses with their later owner', { skip }, async (t) => {
  const store = await ReferenceStore.start(t);
  await store.put(macText(1), { ...VTEP, arp: '10.0.0.1' });
  await store.put(macText(2), { ...VTEP, arp: '10.0.0.2' });
  const { host, instance } = await startHttp(t, store.url, { mode: 'snapshot' });
  t.equal(host.snapshot?.revision, '2');
  t.strictSame(
    [...(host.snapshot?.addresses ?? [])],
    [
      ['10.0.0.1', mac(1)],
      ['10.0.0.2', mac(2)],
    ],
  );
  await store.put(macText(1), { ...OTHER, arp: ['10.0.0.1', '10.0.0.2'] });
  await waitUntil(() => host.snapshot?.revision === '3', { what: 'the move' });
  t.match(host.snapshot?.targets.get(mac(1)), { to: OTHER });
  t.equal(host.snapshot?.addresses.get('10.0.0.2'), mac(1));
  await store.put(macText(2), VTEP);
  await waitUntil(() => host.snapshot?.revision === '4', { what: 'the loss of an address it has no more' });
  t.equal(host.snapshot?.addresses.get('10.0.0.2'), mac(1), 'the other one keeps it');
  await store.put(macText(3), { ...OTHER, ndp: 'fd00::3', 'dhcp-proxy': macText(1) });
  await waitUntil(() => host.snapshot?.revision === '5', { what: 'an entry more' });
  t.equal(await instance.dhcpServer(mac(3)), mac(1));
  await store.remove(macText(1));
  await waitUntil(() => host.snapshot?.revision === '6', { what: 'the removal' });
  t.strictSame([...(host.snapshot?.targets.keys() ?? [])], [mac(2), mac(3)]);
  t.strictSame([...(host.snapshot?.addresses ?? [])], [['fd00::3', mac(3)]]);
  t.equal(host.snapshots, 1, 'one snapshot, and changes');
  t.equal(host.degraded, undefined);
});

t.test('properties that exclude each other, or would show a token', async (t) => {
  const values = {
    mode: 'watch',
    ttl_ms: 1000,
    timeout_ms: 1,
    silence_ms: 1,
    flood: 'off',
    protect: 'off',
  } as const;
  const refused = async (more: Readonly<Record<string, string>>): Promise<string | undefined> =>
    http.refuse?.({ ...values, url: 'https://store.example/', ...more });
  t.equal(await refused({ token: 'a', cert: '/c', key: 'k', ca: '/ca' }), undefined);
  t.match(await refused({ cert: '/c' }), /http\/cert and http\/key/);
  t.match(await refused({ url: 'https://store.example/?a=b' }), /query/);
  t.match(await refused({ url: 'http://store.example', ca: '/ca' }), /https URL/);
  t.match(await refused({ url: 'http://store.example', token: 'a' }), /http\/token needs an https URL/);
  for (const loopback of ['http://127.0.0.1:1', 'http://localhost', 'http://[::1]:8080'])
    t.equal(await refused({ url: loopback, token: 'a' }), undefined, loopback);
});
