// The http plugin passes the checks that every plugin must pass (varpd/plugin-test), beside the reference server: stopped,
// silent and back. The check `blocking` measures time, and is left out.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import http from '../../plugins/http/index.js';
import { checks } from '../../src/plugin-test/index.js';
import { mac, macText, ReferenceStore, scratch } from '../helpers/http-store.js';
import { fromRoot, skipUnless } from '../helpers/need.js';

const skip = skipUnless({ programs: ['python3'] });
const TOKEN = 'a-token-that-nothing-shows';

for (const mode of ['lookup', 'watch', 'snapshot'])
  t.test(mode, { skip }, async (t) => {
    const tokenFile = path.join(scratch(t), 'token');
    writeFileSync(tokenFile, `${TOKEN}\n`);
    const store = await ReferenceStore.start(t, ['--token-file', tokenFile, '--keep-alive', '0.5']);
    for (const vnetid of [100, 101])
      for (const last of [1, 2]) {
        const entry = { ip: '192.0.2.7', port: 4789, arp: `10.0.0.${last + 10}` };
        const response = await fetch(`${store.url}/v1/networks/${vnetid}/macs/${macText(last + 0x40)}`, {
          method: 'PUT',
          body: JSON.stringify(entry),
          headers: { authorization: `Bearer ${TOKEN}` },
        });
        t.equal(response.status, 200);
      }
    let isRunning = true;
    const all = checks(http, {
      properties: { url: store.url, mode, token: 'store-token', timeout_ms: 200, ttl_ms: 1000 },
      secrets: { 'store-token': TOKEN },
      changes: { ttl_ms: 2000, timeout_ms: 300, flood: 'on' },
      known: [mac(0x41), mac(0x42)],
      entry: fromRoot('dist/plugins/http/index.js'),
      backend: {
        fail: async () => {
          await store.kill();
          isRunning = false;
        },
        hang: () => {
          store.signal('SIGSTOP');
        },
        mend: async () => {
          store.signal('SIGCONT');
          if (!isRunning) await store.start();
          isRunning = true;
        },
      },
    });
    for (const { name, about, skip: why, run } of all)
      if (name !== 'blocking' && why === undefined) await t.resolves(run(), `${name}: ${about}`);
    t.ok(all.filter(({ skip: why }) => why === undefined).length >= 18, 'none was skipped');
  });
