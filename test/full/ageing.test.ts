// Answers that age, for real: a slow backend, and one that has died, cost a flow nothing.
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { ping, reaches } from '../helpers/traffic.js';
import { part } from '../helpers/whole.js';

const skip = skipUnlessNetns();
const VNETID = 42;
const NEAR_MAC = '02:00:00:00:00:0a';
const FAR_MAC = '02:00:00:00:00:0b';
/** 10 s in all: five times and more the ttl, also in `npm test`, which sends a quarter for half of the time. */
const PINGS = { count: part(2000), intervalMs: 10 };

await t.test('ttl 1 s, a backend of 500 ms, and one that is dead', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const plugins = bed.directory();
  const folder = path.join(plugins, 'slow');
  const mood = path.join(plugins, 'mood');
  writeFileSync(mood, '');
  chmodSync(mood, 0o644); // for the user of plugins
  const source = `
    import { readFileSync } from 'node:fs';
    import { setTimeout } from 'node:timers/promises';
    export default {
      apiVersion: 2, name: 'slow', mode: 'dynamic', properties: [],
      create: () => ({
        start: async () => {}, stop: async () => {},
        resolve: async ({ destinationMac }) => {
          if (destinationMac !== 0x${FAR_MAC.replaceAll(':', '')}) return { kind: 'drop', reason: 'not asked for' };
          const mood = readFileSync(${JSON.stringify(mood)}, 'utf8');
          if (mood === 'dead') return new Promise(() => {});
          if (mood === 'wrong') throw new Error('the backend is away');
          await setTimeout(500);
          return { kind: 'target', to: { ip: '${b.underlay.v4}', port: 4789 }, ttlMs: 1000 };
        },
      }),
    };`;
  await a.exec(['mkdir', folder]);
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  writeFileSync(path.join(folder, 'index.js'), source);
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins] })).explain(t);
  const listen = `-p vxlan/listen_ip=${a.underlay.v4} -p vxlan/accept=any`;
  await daemon.ok(`create-overlay -e vxlan -s slow -v ${VNETID} ${listen} overlay0`);
  const device = await addKernelVxlan(b, { vnetid: VNETID, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip(`link set ${device} address ${FAR_MAC}`);
  await b.plumb(device, { mtuBytes: 1450, v6: false });
  await a.quietIpv6('overlay0');
  await a.ip(`link set overlay0 address ${NEAR_MAC}`);
  await a.plumb('overlay0', { v6: false });
  await a.ip(`neigh replace ${b.overlay.v4} lladdr ${FAR_MAC} dev overlay0`);
  await b.ip(`neigh replace ${a.overlay.v4} lladdr ${NEAR_MAC} dev ${device}`);
  t.ok(await reaches(a, b.overlay.v4));
  const row = async (): Promise<string> => daemon.ok('show-overlay -t -s overlay0');

  for (const [how, isStale] of [
    ['slow', false],
    ['dead', true],
    ['wrong', true],
  ] as const) {
    writeFileSync(mood, how);
    const { sent, received, text } = await ping(a, b.overlay.v4, PINGS);
    t.equal(received, sent, `${how}: each of ${sent} is answered: ${text.trim().split('\n').at(-2)}`);
    if (isStale) t.match(await row(), /plugin .* stale/, 'the row says so');
    else t.match(await daemon.ok('show-overlay -f overlay0'), /ONLINE/);
    if (isStale) t.match(await daemon.ok('show-overlay -f overlay0'), /DEGRADED/);
  }
});
