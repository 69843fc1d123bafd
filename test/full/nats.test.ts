// The nats plugin at its limits: a million keys, and a cluster of three servers of which one is killed under traffic.

import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { connect } from '@nats-io/transport-node';
import t from 'tap';
import { freePort, NatsServer, putAll, skipWithoutNats } from '../helpers/nats-server.js';
import { ask, entry, key, mac, startNats, stateDirectory, until } from '../helpers/nats-scene.js';
import { succeeds, waitUntil } from '../helpers/process.js';

const skip = skipWithoutNats;
const BUCKET = 'varpd-23';
const KEYS = 1_000_000;
const PATIENCE_MS = 900_000;

const millis = (since: number): number => Math.round((performance.now() - since) * 10) / 10;

t.test('a million keys', { skip }, async (t) => {
  const server = await NatsServer.start(t);
  const kv = await server.bucket(t, BUCKET);
  const client = await server.client(t);
  const records = function* (): Generator<[string, string]> {
    for (let index = 1; index <= KEYS; index++)
      yield [
        key(index),
        entry({
          ip: `10.88.${index % 100}.${1 + (index % 250)}`,
          arp: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
        }),
      ];
  };
  await putAll(client, BUCKET, records());
  const stateDir = stateDirectory(t);
  const beginMs = performance.now();
  const { host, instance, stop } = await startNats(t, server, { stateDir });
  t.comment(`start resolved after ${millis(beginMs)} ms`);
  const isAnswered = () =>
    ask({ host, instance, stop }, mac(KEYS)).then(
      ({ kind }) => kind === 'target',
      () => false,
    );
  await waitUntil(isAnswered, { what: 'an answer before all is read', timeoutMs: PATIENCE_MS });
  t.comment(`the first answer after ${millis(beginMs)} ms`);
  await waitUntil(() => host.snapshot !== undefined, { what: 'the snapshot', timeoutMs: PATIENCE_MS });
  t.equal(host.snapshot?.targets.size, KEYS);
  t.equal(host.snapshot?.addresses.size, KEYS);
  t.comment(
    `cold start: ${KEYS} keys after ${millis(beginMs)} ms, resident ${process.memoryUsage().rss >> 20} MiB`,
  );

  const latencies: number[] = [];
  for (let index = 1; index <= 200; index++) {
    const sentMs = performance.now();
    const changed = new Promise<void>((resolve) => {
      host.onSnapshot = () => {
        if (host.destinationOf(mac(index)) === '10.88.99.99:4789') resolve();
      };
    });
    client.publish(`$KV.${BUCKET}.${key(index)}`, entry({ ip: '10.88.99.99' }));
    await changed;
    latencies.push(millis(sentMs));
  }
  latencies.sort((a, b) => a - b);
  t.comment(`put to table: p50 ${latencies[100]} ms, p99 ${latencies[198]} ms`);
  t.equal(host.snapshots, 1);

  // The state on disk, and a start without the store.
  await waitUntil(() => stateIsSaved(stateDir), {
    what: 'the state on disk',
    timeoutMs: PATIENCE_MS,
  });
  await stop();
  await kv.put(key(KEYS + 1), entry());
  await server.stop();
  const coldMs = performance.now();
  const second = await startNats(t, server, { stateDir });
  t.comment(`start resolved after ${millis(coldMs)} ms`);
  await waitUntil(() => (second.host.snapshot?.targets.size ?? 0) >= KEYS, {
    what: 'the list out of the state on disk',
    timeoutMs: PATIENCE_MS,
  });
  t.comment(`all keys out of the state on disk after ${millis(coldMs)} ms`);
  await server.start();
  await waitUntil(() => second.host.destinationOf(mac(KEYS + 1)) !== undefined, {
    what: 'the new key',
    timeoutMs: PATIENCE_MS,
  });
  t.equal(second.host.snapshots, 1, 'only the changes are read');
  await second.stop();
});

function stateIsSaved(directory: string): boolean {
  const names = readdirSync(directory).filter((name) => name.endsWith('.state'));
  return names.length === 1 && statSync(path.join(directory, names[0])).size > 1_000_000;
}

t.test('a cluster of three, one killed under traffic', { skip }, async (t) => {
  const ports = await Promise.all([1, 2, 3].map(() => freePort()));
  const routes = ports.map((port) => `"nats://127.0.0.1:${port}"`).join(', ');
  const servers = await Promise.all(
    ports.map((port, index) =>
      NatsServer.start(t, {
        name: `n${index}`,
        config: `cluster { name: c1, listen: "127.0.0.1:${port}", routes: [${routes}] }`,
      }),
    ),
  );
  const url = servers.map((server) => server.url).join(',');
  const writer = await connect({
    servers: servers.map((server) => `127.0.0.1:${server.port}`),
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
  });
  t.teardown(() => writer.close());
  const js = jetstream(writer, { timeout: 1000 });
  const made = () => succeeds(new Kvm(js).create(BUCKET, { replicas: 3 }));
  await waitUntil(made, { what: 'the cluster to have a leader', stepMs: 200 });
  /** Puts until the cluster has taken it. */
  const put = async (index: number, ip: string): Promise<void> => {
    for (;;)
      try {
        await js.publish(`$KV.${BUCKET}.${key(index)}`, entry({ ip }));
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
  };
  for (let index = 1; index <= 50; index++) await put(index, '10.88.88.70');
  const { host } = await startNats(t, { url });
  await until('the snapshot', () => host.snapshot?.targets.size === 50);
  let round = 0;
  for (const what of ['the leader of the bucket', 'the next leader'] as const) {
    round++;
    const manager = await jetstreamManager(writer, { checkAPI: false });
    const { cluster } = await manager.streams.info(`KV_${BUCKET}`);
    const victim = servers[Number(cluster?.leader?.slice(1) ?? 0)];
    const traffic = (async () => {
      for (let index = 1; index <= 200; index++) await put(index, `10.88.${round}.1`);
    })();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await victim.stop('SIGKILL');
    await traffic;
    const isWhole = () =>
      Array.from({ length: 200 }, (_, at) => host.destinationOf(mac(at + 1))).every(
        (to) => to === `10.88.${round}.1:4789`,
      );
    await waitUntil(isWhole, { what: `every change, with ${what} killed`, timeoutMs: 120_000 });
    await until('the overlay to be current', () => host.degraded === undefined);
    t.equal(host.snapshot?.targets.size, 200, what);
    t.equal(host.snapshots, 1, 'nothing was read twice');
    await victim.start();
    const isReplicated = async () =>
      (await manager.streams.info(`KV_${BUCKET}`).catch(() => undefined))?.cluster?.replicas?.every(
        ({ current }) => current,
      ) === true;
    await waitUntil(isReplicated, { what: 'three current copies', timeoutMs: 120_000, stepMs: 200 });
  }
});
