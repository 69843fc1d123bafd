// Rows as a plugin process sends them: text in parts, which is read when its call comes.
import t from 'tap';

import { PluginRequests } from '../../src/daemon/plugins/plugin-requests.js';
import { SentRows } from '../../src/daemon/plugins/mapping/sent-rows.js';
import { readRowsLine, rowsLine } from '../../src/plugin-process/messages.js';
import type { Difference, Host, Snapshot } from '../../src/plugin/index.js';
import { newSite } from '../helpers/hosted.js';

const A = { ip: '10.0.0.2', port: 4789 };
const MAC = (number: number): number => 0x0200_0000_0000 + number;
const targets = [1, 2, 3].map((number) => ({ mac: MAC(number), to: A }));

function sent(...parts: readonly string[]): SentRows {
  const rows = new SentRows();
  for (const part of parts) rows.add(Buffer.from(part));
  return rows;
}

await t.test('a line of rows is read without its list; any other line is not one', (t) => {
  const line = rowsLine(7, 'targets', '{"mac":1},"ü"');
  const read = readRowsLine(Buffer.from(line));
  t.match(read, { instance: 7, list: 'targets' });
  t.equal(read?.rows.toString(), '[{"mac":1},"ü"]');
  t.same(JSON.parse(line), ['rows', 7, 'targets', [{ mac: 1 }, 'ü']], 'as an earlier varpd reads it');
  for (const other of [
    '',
    '["rows"]',
    '["rows",1,2,[]]',
    '["rows",-1,"a",[]]',
    '["done",1,[]]',
    '["rows",1,"a",{}]',
  ])
    t.equal(readRowsLine(Buffer.from(other)), undefined, other);
  t.end();
});

await t.test('parts are one list, in their order', (t) => {
  const rows = sent('[1,2]', '[]', '["three"]');
  t.same([...rows], [1, 2, 'three']);
  t.ok(rows.isShort);
  t.notOk(sent(JSON.stringify(Array.from({ length: 2000 }, () => 1e6))).isShort);
  for (const bad of ['[1],[2]', '{}', '[1', 'null'])
    t.throws(() => [...sent('[1]', bad)], /sent rows that are none/, bad);
  t.end();
});

await t.test(
  'a snapshot of such rows; a part that is none leaves the snapshot before in force',
  async (t) => {
    const site = newSite();
    const { host } = await site.start({
      onCreate: (host: Host) => void host.replaceAll({ targets, addresses: [], revision: 'r1' }),
    });
    const replace = (rows: SentRows): Promise<Difference> =>
      host.replaceAll({ targets: rows, addresses: new SentRows(), revision: 'r2' } as unknown as Snapshot);
    const parts = targets.slice(1).map((target) => JSON.stringify([target]));
    t.same(await replace(sent(...parts)), { added: 0, changed: 0, removed: 1, moved: 0 });
    await t.rejects(replace(sent(parts[0], '[{')), /sent rows that are none/);
    await t.rejects(replace(sent(parts[0], '[{"mac":-1}]')), /in targets\[1\]/);
    t.equal(site.knowledge.mapping?.entries, 2);
  },
);

await t.test('rows that wait are bounded by their bytes and their number of parts', (t) => {
  const requests = new PluginRequests({
    host: () => ({}) as Host,
    tick: () => Promise.resolve(),
    done: () => undefined,
    failed: () => undefined,
  });
  const add = (instance: number, rows: Buffer): void => {
    requests.addRows({ instance, list: 'targets', rows });
  };
  const tiny = Buffer.from('[]');
  const most = (): number => {
    for (let count = 0; ; count++)
      try {
        add(1, tiny);
      } catch {
        return count;
      }
  };
  const parts = most();
  t.ok(parts > 8192, `${parts} parts`);
  requests.forget(1);
  add(1, tiny);
  const large = Buffer.alloc(64 * 1024 * 1024);
  t.throws(() => {
    for (let count = 0; count < 100; count++) add(2, large);
  }, /too many rows/);
  t.end();
});
