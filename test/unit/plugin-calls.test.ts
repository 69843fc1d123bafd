// The calls of a plugin in its process: long lists go out in slices, in the order of the calls, and all or nothing.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';

import { PluginProcess } from '../../src/daemon/plugins/plugin-process.js';
import { Spawner } from '../../src/daemon/plugins/spawner.js';
import type { Snapshot, SnapshotChange } from '../../src/plugin/index.js';
import { pluginServices } from '../helpers/plugin-services.js';
import { waitUntil } from '../helpers/process.js';
import { TableHost } from '../helpers/table-host.js';

const ROWS = 100_000;
const MAC = (index: number): number => 0x0200_0000_0000 + index;

/** All that the plugin does in its `resolve`; each returns what the test compares. */
const SOURCE = `
const A = { ip: '10.88.88.70', port: 4789 };
const B = { ip: '10.88.88.71', port: 4789 };
const mac = (index) => 0x020000000000 + index;
const address = (index) => '10.' + (index >> 16) + '.' + ((index >> 8) & 255) + '.' + (index & 255);
function* targets(count, last) {
  for (let index = 1; index <= count; index++) yield { mac: mac(index), to: A };
  if (last !== undefined) yield last;
}
function* addresses(count) {
  for (let index = 1; index <= count; index++) yield { ip: address(index), mac: mac(index) };
}
export default {
  apiVersion: 2, name: 'mine', mode: 'dynamic', properties: [],
  create: (host) => {
    const whole = (count, last) => host.replaceAll({ targets: targets(count, last), addresses: addresses(count), revision: 'whole' });
    const message = (error) => error.message;
    const words = {
      idle: () => 'idle',
      whole: (count) => whole(count),
      order: async (count) => {
        const calls = [whole(count), host.changeSnapshot({ targets: [{ mac: mac(1), to: B }], revision: 'change' })];
        host.setTargets([{ mac: mac(2), to: B }]);
        host.setPeers(['10.88.88.70']);
        host.note('after the rest');
        await Promise.all(calls);
      },
      invalid: async (count) => {
        const error = await whole(count, { mac: -1, to: A }).catch(message);
        await host.changeSnapshot({ targets: [{ mac: mac(7), to: B }], revision: 'change' });
        return error;
      },
      many: async (count) => {
        const done = whole(count);
        for (let index = 0; index < 5000; index++) host.setTargets([{ mac: mac(index), to: B }]);
        await done;
      },
      list: async (count) => {
        const list = [...targets(count)];
        host.setTargets(list);
        for (const row of list) row.to = B;
        list.length = 0;
        try {
          host.setTargets([...targets(count), { mac: 'x' }]);
        } catch (error) {
          return error.message;
        }
      },
      text: () => host.replaceAll({ targets: 'abc', addresses: [], revision: 'r' }).catch(message),
    };
    return { start: async () => {}, stop: async () => {}, resolve: (word, count) => words[word](count) };
  },
};
`;

/** Keeps the order of the calls. */
class OrderedHost extends TableHost {
  readonly order: string[] = [];

  override replaceAll(snapshot: Snapshot): ReturnType<TableHost['replaceAll']> {
    this.order.push('replaceAll');
    return super.replaceAll(snapshot);
  }

  override changeSnapshot(change: SnapshotChange): ReturnType<TableHost['changeSnapshot']> {
    const targets = [...(change.targets ?? [])];
    this.order.push(`changeSnapshot ${targets.length}`);
    return super.changeSnapshot({ ...change, targets });
  }

  override setTargets(...args: Parameters<TableHost['setTargets']>): void {
    this.order.push('setTargets');
    super.setTargets(...args);
  }

  override setPeers(...args: Parameters<TableHost['setPeers']>): void {
    this.order.push('setPeers');
    super.setPeers(...args);
  }

  override note(sentence?: string): void {
    this.order.push(`note ${sentence}`);
  }
}

interface Plugged {
  readonly host: OrderedHost;
  readonly plugin: PluginProcess;
  readonly id: number;
  readonly say: (word: string, count?: number) => Promise<unknown>;
}

async function plugged(t: Test): Promise<Plugged> {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  const { limits, place } = pluginServices(t);
  const spawner = new Spawner(place);
  t.teardown(() => {
    spawner.close();
    rmSync(directory, { recursive: true });
  });
  const file = path.join(directory, 'index.mjs');
  writeFileSync(file, SOURCE);
  const services = { spawner, limits, printed: () => undefined };
  const { process: plugin } = await PluginProcess.start(services, { file, state: 'mine' }, 20_000);
  const host = new OrderedHost();
  const id = plugin.add(host);
  const { overlay, vnetid, listen } = host;
  await plugin.call(id, 'start', [{ overlay, vnetid, listen }, {}]);
  const say = (word: string, count = ROWS): Promise<unknown> => plugin.call(id, 'resolve', [word, count]);
  return { host, plugin, id, say };
}

await t.test('lookups are answered while a long list goes out', async (t) => {
  const { host, say } = await plugged(t);
  let isOver = false;
  let answered = 0;
  const whole = say('whole').finally(() => {
    isOver = true;
  });
  while (!isOver) {
    if ((await say('idle')) === 'idle') answered++;
  }
  t.match(await whole, { added: ROWS, changed: 0, removed: 0 });
  t.equal(host.snapshot?.addresses.size, ROWS);
  t.equal(host.snapshot?.addresses.get('10.1.134.160'), MAC(ROWS));
  t.ok(answered > 20, `${answered} lookups were answered meanwhile`);
});

await t.test('the calls after a long one wait for it', async (t) => {
  const { host, say } = await plugged(t);
  await say('order');
  t.same(host.order, ['replaceAll', 'changeSnapshot 1', 'setTargets', 'setPeers', 'note after the rest']);
  t.equal(host.snapshot?.revision, 'change');
  t.match(host.snapshot?.targets.get(MAC(1)), { to: { ip: '10.88.88.71' } });
  t.equal(host.snapshot?.targets.size, ROWS);
});

await t.test('very many calls behind a long one', async (t) => {
  const { host, say } = await plugged(t);
  await say('many');
  t.equal(host.order[0], 'replaceAll');
  await waitUntil(() => host.order.length === 5001, { what: 'every call' });
});

await t.test('an invalid row behind many good ones: nothing of the list is used', async (t) => {
  const { host, say } = await plugged(t);
  t.match(await say('whole', 10), { added: 10 });
  t.match(await say('invalid'), /^replaceAll: gave -1 where a MAC as a 48-bit number was expected/);
  t.same(host.order, ['replaceAll', 'changeSnapshot 1'], 'the next call has its own row alone');
  t.equal(host.snapshot?.targets.size, 10);
  t.equal(host.snapshot?.addresses.size, 10);
});

await t.test('a list of setTargets is that of the call, and is checked in it', async (t) => {
  const { host, say } = await plugged(t);
  t.match(await say('list'), /^setTargets: gave "?'x'"? where a MAC/);
  await waitUntil(() => host.targets.size === ROWS, { what: 'every row' });
  t.match(host.targets.get(MAC(ROWS)), { to: { ip: '10.88.88.70' } }, 'each row is that of the call too');
  t.match(await say('text'), /^replaceAll: gave 'abc' where a list of targets was expected/);
});

await t.test('an instance that is stopped in the middle of a list', async (t) => {
  const { host, plugin, id, say } = await plugged(t);
  const whole = say('whole', 1_000_000);
  const refused = t.rejects(whole, /has been stopped/);
  await plugin.call(id, 'stop', []);
  await refused;
  t.equal(host.snapshot, undefined);
});
