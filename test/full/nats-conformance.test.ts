// The nats plugin passes the checks that every plugin must pass (varpd/plugin-test), beside a server: ended, silent and back.
// The check `blocking` measures time, and is left out.
import t from 'tap';

import nats from '../../plugins/nats/index.js';
import { checks } from '../../src/plugin-test/index.js';
import { fromRoot } from '../helpers/need.js';
import { entry, key, mac } from '../helpers/nats-scene.js';
import { NatsServer, skipWithoutNats } from '../helpers/nats-server.js';

for (const mode of ['snapshot', 'lookup'])
  await t.test(mode, { skip: skipWithoutNats }, async (t) => {
    const server = await NatsServer.start(t);
    for (const vnetid of [100, 101]) {
      const kv = await server.bucket(t, `varpd-${vnetid}`);
      for (const index of [0x41, 0x42])
        await kv.put(key(index), entry({ ip: '192.0.2.7', arp: `10.0.0.${index}` }));
    }
    let isRunning = true;
    const all = checks(nats, {
      properties: { servers: server.url, mode },
      changes: { flood: 'on', ...(mode === 'lookup' && { ttl_ms: 2000 }) },
      known: [mac(0x41), mac(0x42)],
      entry: fromRoot('dist/plugins/nats/index.js'),
      backend: {
        fail: async () => {
          await server.stop('SIGKILL');
          isRunning = false;
        },
        hang: () => {
          server.signal('SIGSTOP');
        },
        mend: async () => {
          server.signal('SIGCONT');
          if (!isRunning) await server.start();
          isRunning = true;
        },
      },
    });
    for (const { name, about, skip: why, run } of all)
      if (name !== 'blocking' && why === undefined) await t.resolves(run(), `${name}: ${about}`);
  });
