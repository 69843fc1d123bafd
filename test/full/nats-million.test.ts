// The nats plugin with a bucket of a million keys, in its process under varpd: in force, changed, put in force out of its state on
// disk while the server is away; within its memory limit, and never blocked. nats.test.ts has its latencies.
import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import {
  checkProcess,
  ENTRIES,
  makeTimed,
  mapping,
  seconds,
  timeoutMs,
  untilInForce,
  untilSaved,
} from '../helpers/million.js';
import { NatsServer, skipWithoutNats } from '../helpers/nats-server.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { healthBecomes } from '../helpers/site.js';

const VNETID = 23;
const PORT = 4222;

/** Puts keys FROM to END - 1, with the VTEP given or many, by a program inside the namespace of the server. */
const PUT = `
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { connect } from '@nats-io/transport-node';
const [servers, from, end, ip] = process.argv.slice(1);
const connection = await connect({ servers });
await new Kvm(jetstream(connection, { timeout: 60_000 })).create('varpd-${VNETID}');
const manager = await jetstreamManager(connection, { timeout: 60_000 });
const last = async () => (await manager.streams.info('KV_varpd-${VNETID}')).state.last_seq;
const before = await last();
const until = async (count) => {
  while ((await last()) < before + count) await new Promise((resolve) => setTimeout(resolve, 50));
};
let count = 0;
for (let index = Number(from); index < Number(end); index++) {
  const digits = index.toString(16).padStart(6, '0').match(/../g);
  const to = ip ?? '10.88.' + (index % 100) + '.' + (1 + (index % 250));
  const arp = '10.' + (index >> 16) + '.' + ((index >> 8) & 255) + '.' + (index & 255);
  connection.publish('$KV.varpd-${VNETID}.mac.02-00-00-' + digits.join('-'), JSON.stringify({ ip: to, port: 4789, arp }));
  if (++count % 5000 === 0) await until(count - 5000);
}
await until(count);
await connection.close();
`;

await t.test('a million keys', { skip: skipUnlessNetns() || skipWithoutNats }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await a.ip(`route add 10.88.0.0/16 via ${b.underlay.v4}`);
  const server = await NatsServer.start(t, {
    address: a.underlay.v4,
    port: PORT,
    prefix: ['ip', 'netns', 'exec', a.name],
  });
  const put = (from: number, end: number, ...ip: string[]): Promise<string> =>
    a.exec([process.execPath, '--input-type=module', '-e', PUT, server.url, `${from}`, `${end}`, ...ip], {
      timeoutMs,
      cwd: fromRoot('.'),
    });
  await put(1, ENTRIES + 1);
  const plugins = bed.directory();
  makeTimed(plugins, 'nats');
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true, pluginPath: [plugins] })).explain(t);
  const properties = `-p vxlan/listen_ip=${a.underlay.v4},timed/servers=${server.url}`;
  let beginMs = performance.now();
  await daemon.ok(`create-overlay -v ${VNETID} -e vxlan -s timed ${properties} overlay0`);
  t.comment(`create-overlay returned after ${seconds(beginMs)} s`);
  await untilInForce(daemon, ENTRIES, ENTRIES);
  t.comment(`cold start: ${ENTRIES} keys in force after ${seconds(beginMs)} s`);
  checkProcess(t, daemon, 'after the bucket was read');

  beginMs = performance.now();
  await put(1, 10_001, '10.88.99.99');
  await untilInForce(daemon, ENTRIES + 10_000, ENTRIES);
  t.comment(`10,000 changes in force ${seconds(beginMs)} s after the first was sent`);
  await untilSaved(daemon);
  await server.stop();
  await daemon.stop();
  beginMs = performance.now();
  await daemon.start();
  const isInForce = async (): Promise<boolean> =>
    ((await mapping(daemon).catch(() => undefined))?.entries ?? 0) >= ENTRIES;
  await waitUntil(isInForce, { what: 'the state on disk in force', timeoutMs });
  t.comment(
    `without the server: in force out of the state on disk ${seconds(beginMs)} s after the start of varpd`,
  );
  await healthBecomes(t, daemon, /the overlay works on what it knows of the bucket/);
  await server.start();
  await put(ENTRIES + 1, ENTRIES + 2);
  await untilInForce(daemon, ENTRIES + 10_001, ENTRIES + 1);
  await healthBecomes(t, daemon, 'ONLINE');
  checkProcess(t, daemon, 'after the restart');
});
