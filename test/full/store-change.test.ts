// Properties of http and nats that change while an overlay runs: another store, another way to prove oneself to it, ages,
// flooding and protection; and a store that does not answer, with which nothing changes.
import t from 'tap';

import type { HttpProperties } from '../../plugins/http/specs.js';
import { BROADCAST } from '../../src/wire/mac.js';
import { ask as askHttp, macText, ReferenceStore, startHttp } from '../helpers/http-store.js';
import { ask as askNats, entry, key, mac, type NatsValues, startNats, until } from '../helpers/nats-scene.js';
import { freePort, NatsServer, skipWithoutNats } from '../helpers/nats-server.js';
import { skipUnless } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { TableHost } from '../helpers/table-host.js';

const A = { ip: '10.88.88.70', port: 4789 };
const B = { ip: '10.88.88.71', port: 4789 };
const C = { ip: '10.88.88.72', port: 4789 };
const IPV6 = 0x86dd;
const BUCKET = 'varpd-23';

const HTTP: Omit<HttpProperties, 'url' | 'mode'> = {
  ttl_ms: 30_000,
  timeout_ms: 5000,
  silence_ms: 45_000,
  flood: 'off',
  protect: 'off',
};

for (const mode of ['lookup', 'watch', 'snapshot'] as const)
  t.test(`http, mode ${mode}`, { skip: skipUnless({ programs: ['python3'] }) }, async (t) => {
    const options = ['--keep-alive', '0.5', '--cache-control', 'no-transform'];
    const [one, other] = [await ReferenceStore.start(t, options), await ReferenceStore.start(t, options)];
    await one.put(macText(1), { ...A, arp: '10.0.0.1' });
    await other.put(macText(1), { ...B, arp: '10.0.0.2' });
    await other.put(macText(2), B);
    const host = new TableHost();
    const { instance } = await startHttp(t, one.url, { ...HTTP, mode }, host);
    const change = (more: Partial<HttpProperties>): Promise<void> =>
      instance.change({ ...HTTP, url: one.url, mode, ...more }, AbortSignal.timeout(10_000));
    const answer = (last: number): Promise<unknown> => askHttp(instance, mac(last));
    t.match(await answer(1), { kind: 'target', to: A });

    const closed = `http://127.0.0.1:${await freePort()}`;
    await t.rejects(change({ url: closed, flood: 'on' }), /cannot be reached/);
    t.match(await answer(1), { kind: 'target', to: A }, 'the store before is asked');
    t.match(await askHttp(instance, BROADCAST, IPV6), { kind: 'drop' }, 'and nothing else has changed');

    if (mode !== 'snapshot') {
      await change({ ttl_ms: 7000, stale_ms: 2000 });
      await one.put(macText(5), A);
      t.match(await answer(5), { ttlMs: 7000, staleMs: 2000 });
    }
    await change({ url: other.url });
    const isAt = async (last: number, to: object): Promise<boolean> =>
      JSON.stringify(await answer(last)).includes(JSON.stringify(to));
    await waitUntil(() => isAt(1, B), { what: 'the answer of the other store' });
    t.match(await answer(2), { kind: 'target', to: B });
    await until('its peers', () => host.peers.join() === B.ip);
    await one.put(macText(2), A);
    await other.put(macText(2), C);
    if (mode !== 'lookup') await waitUntil(() => isAt(2, C), { what: 'a change there' });
    await until('health', () => host.degraded === undefined);

    instance.ports([mac(1)]);
    await change({ url: other.url, flood: 'on', protect: 'on' });
    await until('protection', () => host.allowed?.length === 1);
    t.same(host.allowed, [{ mac: mac(1), ips: ['10.0.0.2'] }]);
    t.match(await askHttp(instance, BROADCAST, 0x88cc), { kind: 'flood' });
    await change({ url: other.url });
    t.equal(host.allowed, undefined, 'the rule has ended');
    t.match(await askHttp(instance, BROADCAST, 0x88cc), { kind: 'drop' });

    await other.kill();
    await t.resolves(
      change({ url: other.url, timeout_ms: 300, silence_ms: 5000 }),
      'a store that is away is not asked',
    );
  });

t.test('nats', { skip: skipWithoutNats }, async (t) => {
  const [one, other] = [await NatsServer.start(t), await NatsServer.start(t, { name: 'two' })];
  const [first, second] = [await one.bucket(t, BUCKET), await other.bucket(t, BUCKET)];
  await first.put(key(1), entry({ ...A, arp: '10.0.0.1' }));
  await second.put(key(1), entry({ ...B, arp: '10.0.0.2' }));
  for (const mode of ['snapshot', 'lookup'] as const)
    await t.test(mode, async (t) => {
      const scene = await startNats(t, one, { mode });
      const { host, instance } = scene;
      const change = (more: Partial<NatsValues>): Promise<void> =>
        instance.change!(
          { servers: one.url, mode, flood: 'off', protect: 'off', ...more },
          AbortSignal.timeout(10_000),
        );
      const isAt = async (to: object): Promise<boolean> => {
        const answer = await askNats(scene, mac(1)).catch(() => undefined);
        return JSON.stringify(answer).includes(JSON.stringify(to));
      };
      t.ok(await isAt(A));
      await t.rejects(change({ servers: `127.0.0.1:${await freePort()}`, flood: 'on' }), { code: 'EAGAIN' });
      t.ok(await isAt(A), 'the servers before are asked');
      t.match(await askNats(scene, BROADCAST, 0x88cc), { kind: 'drop' }, 'and nothing else has changed');

      await change({ servers: other.url, ...(mode === 'lookup' && { ttl_ms: 7000, stale_ms: 100 }) });
      await waitUntil(() => isAt(B), { what: 'the answer of the other server' });
      if (mode === 'lookup') t.match(await askNats(scene, mac(1)), { ttlMs: 7000, staleMs: 100 });
      await second.put(key(1), entry({ ...C, arp: '10.0.0.2' }));
      await waitUntil(() => isAt(C), { what: 'a change there' });
      await until('health', () => host.degraded === undefined);

      await instance.ports!([mac(1)]);
      await change({ servers: other.url, flood: 'on', protect: 'on' });
      await until('protection', () => host.allowed?.length === 1);
      t.same(host.allowed, [{ mac: mac(1), ips: ['10.0.0.2'] }]);
      t.match(await askNats(scene, BROADCAST, 0x88cc), { kind: 'flood' });
      await change({ servers: other.url });
      t.equal(host.allowed, undefined, 'the rule has ended');
      await second.put(key(1), entry({ ...B, arp: '10.0.0.2' }));
    });
});
