// The nats plugin in mode lookup, against a real nats-server on the loopback address.

import t from 'tap';
import { NatsServer, purgeTrace, skipWithoutNats } from '../helpers/nats-server.js';
import { ask, entry, key, mac, macText, startNats, stateDirectory, until } from '../helpers/nats-scene.js';

const BUCKET = 'varpd-23';

t.test('mode lookup', { skip: skipWithoutNats }, async (t) => {
  const server = await NatsServer.start(t);
  const kv = await server.bucket(t, BUCKET);
  await kv.put(key(1), entry({ arp: '10.0.0.1' }));
  await kv.put(key(2), entry({ ip: '10.88.88.71', arp: '10.0.0.2', 'dhcp-proxy': macText(1) }));
  for (const [ip, index] of [
    ['10-0-0-1', 1],
    ['10-0-0-2', 2],
    ['fe80--9', 2],
  ] as const)
    await kv.put(`ip.${ip}`, JSON.stringify({ mac: macText(index) }));
  await kv.put('vtep.10-88-88-70.4789', '{}');
  await kv.put('vtep.10-88-88-71.4789', '{}');
  const stateDir = stateDirectory(t);
  const values = { mode: 'lookup', ttl_ms: 60_000, stale_ms: 5000, flood: 'on', stateDir } as const;
  const scene = await startNats(t, server, values);
  const { host, instance } = scene;
  const owner = (ip: string) => instance.neighbor!(ip as never, AbortSignal.timeout(1000));

  t.test('questions', async (t) => {
    t.equal(host.snapshot, undefined, 'there is no snapshot');
    const target = { kind: 'target', to: { ip: '10.88.88.71', port: 4789 }, ttlMs: 60_000, staleMs: 5000 };
    t.strictSame(await ask(scene, mac(2)), target);
    t.match(await ask(scene, mac(7)), { kind: 'drop', reason: /no such MAC/ });
    const many = Array.from({ length: 20 }, () => ask(scene, mac(1)));
    for (const answer of await Promise.all(many)) t.match(answer, { kind: 'target' });
    t.equal(await owner('10.0.0.1'), mac(1));
    t.equal(await owner('10.0.0.9'), null);
    t.equal(await owner('fe80::9'), null, 'the entry of the MAC does not have the address');
    t.equal(await instance.dhcpServer!(mac(2), host.signal), mac(1));
    t.strictSame(await instance.placeOf!(mac(1), host.signal), { ip: '10.88.88.70', port: 4789 });
    t.equal(await instance.placeOf!(mac(8), host.signal), null);
    t.strictSame([...host.peers].sort(), ['10.88.88.70', '10.88.88.71']);
    t.match(await ask(scene, 0x0100_5e00_00fb), { kind: 'flood', to: [{ port: 4789 }, { port: 4789 }] });
  });

  t.test('what becomes of entries in use', async (t) => {
    await kv.put(key(2), entry({ ip: '10.88.88.72', arp: '10.0.0.2' }));
    await until('the move of a MAC in use', () => host.targets.get(mac(2)) !== undefined);
    t.match(host.targets.get(mac(2)), { to: { ip: '10.88.88.72' }, ttlMs: 60_000 });
    await kv.put(key(3), entry());
    await kv.put(key(7), entry());
    await until('a MAC that was asked for in vain', () => host.invalidated.includes(mac(7)));
    t.notOk(host.invalidated.includes(mac(3)), 'nobody has asked for this one');
    t.match(await ask(scene, mac(7)), { kind: 'target' });
    await kv.delete(key(7));
    await until('a deletion', () => host.invalidated.filter((each) => each === mac(7)).length === 2);
    t.match(await ask(scene, mac(7)), { kind: 'drop' });
    await kv.put('vtep.10-88-88-72.4789', '{}');
    await until('a new VTEP', () => host.peers.includes('10.88.88.72'));
    await kv.delete('vtep.10-88-88-72.4789');
    await until('a VTEP that has gone', () => !host.peers.includes('10.88.88.72'));
    // The address 10.0.0.1 moves from one MAC to another, and the ports were told the first one.
    await kv.put(key(1), entry());
    await kv.put(key(3), entry({ arp: '10.0.0.1' }));
    await kv.put('ip.10-0-0-1', JSON.stringify({ mac: macText(3) }));
    await until('the announcement', () => host.announced.length === 1);
    t.strictSame(host.announced, [['10.0.0.1', mac(3)]]);
    t.equal(await owner('10.0.0.1'), mac(3));
  });

  t.test('a poisoned record', async (t) => {
    await kv.put(key(2), '{"ip": 5}');
    await until('a note', () => host.noted?.includes(key(2)));
    t.match(
      await ask(scene, mac(2)),
      { kind: 'target', to: { ip: '10.88.88.72' } },
      'the one before is in force',
    );
    await kv.put('ip.10-0-0-5', 'hello');
    t.equal(await owner('10.0.0.5'), null);
    await until('a note about both', () => host.noted?.startsWith('2 records'));
    await kv.put(key(2), entry({ ip: '10.88.88.72', arp: '10.0.0.2' }));
    await kv.put('ip.10-0-0-5', JSON.stringify({ mac: macText(2) }));
    t.equal(await owner('10.0.0.5'), null);
    await until('the note to end', () => host.noted === undefined);
  });

  t.test('while the server is away', async (t) => {
    await ask(scene, mac(3));
    await server.stop();
    await until('the overlay to be degraded', () => host.degraded !== undefined);
    t.match(await ask(scene, mac(2)), { kind: 'target' }, 'a known MAC');
    await t.rejects(ask(scene, mac(9)), /NATS is not connected/);
    t.equal(await instance.placeOf!(mac(9), host.signal), undefined);
    await scene.stop();
    const second = await startNats(t, server, values);
    t.match(await ask(second, mac(2)), { kind: 'target' }, 'known from the disk');
    t.strictSame([...second.host.peers].sort(), ['10.88.88.70', '10.88.88.71']);
    t.match(second.host.degraded, /does not answer; the overlay works on what it knows/);
    await server.start();
    await until('the overlay to be current', () => second.host.degraded === undefined);
    await second.stop();

    // Deleted without a trace, and changed, while this host is away.
    const other = await server.bucket(t, BUCKET);
    await other.delete(key(2));
    await purgeTrace(await server.client(t), BUCKET, key(2));
    await other.put(key(3), entry({ ip: '10.88.88.71' }));
    const third = await startNats(t, server, values);
    await until('the deletion', () => third.host.invalidated.includes(mac(2)));
    await until('the change', () => third.host.targets.has(mac(3)));
    t.match(await ask(third, mac(2)), { kind: 'drop' });
  });
});
