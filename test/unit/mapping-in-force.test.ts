// Which mapping a plugin answers out of, as `show-overlay --json` says it: that of a file, and that of a snapshot.
import { createHash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { MappingInfo } from '../../src/control/messages.js';
import { GOOD, one } from '../helpers/bad-mappings.js';
import { asked, newDirectory, newHost, point } from '../helpers/registry-host.js';

const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

await t.test('a mapping file', async (t) => {
  const file = path.join(newDirectory(t), 'hosts.json');
  const put = (text: string): void => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };
  const first = one(GOOD);
  const second = `{"2:0:0:0:0:1": {${GOOD}}, "2:0:0:0:0:2": {${GOOD}}}`;
  put(first);
  const { registry } = await newHost(t);
  const mapping = (): MappingInfo | null | undefined =>
    registry.directory.list({ names: ['overlay0'] }).overlays.at(0)?.mapping;
  const config: [string, string] = ['files/config', file];
  await registry.createOverlay(point({ search: 'files', properties: [point().properties[0], config] }));
  t.match(mapping(), { revision: digestOf(first), entries: 1, at: TIME });
  put(second);
  t.same(await registry.reload(), []);
  const after = mapping();
  t.match(after, { revision: digestOf(second), entries: 2, at: TIME });
  put('{');
  t.match(await registry.reload(), [{ name: 'overlay0', message: /expected/ }]);
  t.same(mapping(), after, 'a refused file is not in force');
  await registry.deleteOverlay({ name: 'overlay0', temporary: true });
  t.equal(mapping(), null, 'offline');
});

await t.test('a snapshot', async (t) => {
  const { registry, life } = await newHost(t);
  await registry.createOverlay(asked());
  const mapping = (): MappingInfo | null | undefined => registry.directory.list({}).overlays.at(0)?.mapping;
  t.equal(mapping(), null, 'none was told');
  const host = life.host!;
  const to = { ip: '10.0.0.9', port: 4789 };
  await host.replaceAll({ revision: 'r7', targets: [{ mac: 0x0200_0000_0001, to }], addresses: [] });
  t.match(mapping(), { revision: 'r7', entries: 1, at: TIME });
  await host.changeSnapshot({ revision: 'r8', targets: [{ mac: 0x0200_0000_0002, to }] });
  t.match(mapping(), { revision: 'r8', entries: 2 });
  host.inForce('mine', 3);
  t.match(mapping(), { revision: 'mine', entries: 3 });
  for (const [revision, entries] of [
    ['x'.repeat(256), 1],
    [5, 1],
    ['x', -1],
    ['x', 1.5],
    ['x', NaN],
    ['x', '1'],
  ])
    t.throws(
      () => {
        host.inForce(revision as string, entries as number);
      },
      `${String(revision)} ${String(entries)}`,
    );
  t.match(mapping(), { revision: 'mine', entries: 3 }, 'an invalid call changes nothing');
  await registry.createOverlay(point({ name: 'direct0', vnetid: 7 }));
  t.equal(registry.directory.list({ names: ['direct0'] }).overlays[0].mapping, null, 'direct has none');
});
