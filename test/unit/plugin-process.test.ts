// A plugin process that does not keep to the messages: it is ended with a sentence, and what it sends changes nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';

import { PluginProcess } from '../../src/daemon/plugins/plugin-process.js';
import { Spawner } from '../../src/daemon/plugins/spawner.js';
import { pluginServices } from '../helpers/plugin-services.js';

const WAYS: Readonly<Record<string, readonly [body: string, says: RegExp]>> = {
  garbage: [`fs.writeSync(3, 'not a message\\n')`, /has sent what is no message/],
  unknown: [`fs.writeSync(3, '["hello"]\\n')`, /has sent what is no message/],
  rows: [`fs.writeSync(3, '["rows",1,2]\\n')`, /has sent what is no message/],
  endless: [
    `const all = Buffer.alloc(1024 * 1024, 'x'); for (let at = 0; at < all.length; ) try { at += fs.writeSync(3, all, at); } catch {}`,
    /has sent a message of more than \d+ bytes/,
  ],
  closes: [`fs.closeSync(3)`, /has ended|has closed its channel/],
  exits: [`process.exit(5)`, /has ended \(exit status 5\)/],
  aborts: [`process.abort()`, /has ended \(SIGABRT\)/],
};

await t.test('a process that breaks the rules is ended', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  const { limits, place } = pluginServices(t, { pluginBlockedMs: 2000 });
  const spawner = new Spawner(place);
  t.teardown(() => {
    spawner.close();
    rmSync(directory, { recursive: true });
  });
  for (const [name, [body, says]] of Object.entries(WAYS)) {
    const file = path.join(directory, name, 'index.mjs');
    mkdirSync(path.dirname(file));
    writeFileSync(
      file,
      `import fs from 'node:fs';
      export default { apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [], create: () => ({}),
        refuse: () => { ${body}; } };`,
    );
    const services = { spawner, limits, printed: () => undefined };
    const { process: one, description } = await PluginProcess.start(services, { file, state: name }, 20_000);
    t.match(description, { plugin: { name, create: '[function]' }, line: 2 });
    const ended = new Promise<string>((resolve) => {
      one.onEnded = resolve;
    });
    one.call(0, 'refuse', [{}]).catch(() => undefined);
    t.match(await ended, says, name);
    await t.rejects(one.call(0, 'refuse', [{}]), /its process/, 'and is not called again');
  }
});
