// What README lists is all there is: commands, counters, reasons for drops, plugins; and its plugin works as it stands.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';

import { dladm } from '../../src/cli/dladm.js';
import { COUNTER_NAMES, TRAFFIC } from '../../src/core/counters.js';
import { DROPS } from '../../src/core/drops.js';
import { METRIC_NAMES } from '../../src/daemon/metrics.js';
import type { Host, LookupPlugin } from '../../src/plugin/index.js';
import { fromRoot } from '../helpers/need.js';

const readme = readFileSync(fromRoot('README.md'), 'utf8');
/** First cells of table rows. */
const listed = readme
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) => line.split(/(?<!\\)\|/)[1]);
const isListed = (text: string): boolean => listed.some((cell) => cell.includes(text));

t.test('every counter and every reason for a drop has a row', (t) => {
  for (const name of COUNTER_NAMES) t.ok(isListed(`\`${name}\``), name);
  t.end();
});

t.test('no row names a reason that there is not', (t) => {
  const known = new Set<string>(COUNTER_NAMES);
  const prefixes = new Set(Object.keys(DROPS).map((name) => name.split('_')[0]));
  const named = listed.flatMap((cell) => [...cell.matchAll(/`([a-z]+_[a-z_]+)`/g)].map(([, name]) => name));
  for (const name of named) if (prefixes.has(name.split('_')[0])) t.ok(known.has(name), name);
  t.end();
});

t.test('every metric has a row', (t) => {
  const alike = new Set<string>(TRAFFIC.map((name) => `varpd_overlay_${name}_total`));
  for (const name of METRIC_NAMES)
    t.ok(isListed(`\`${alike.has(name) ? 'varpd_overlay_NAME_total' : name}\``), name);
  const named = listed.flatMap((cell) => [...cell.matchAll(/`(varpd_\w+)`/g)].map(([, name]) => name));
  t.same(
    named.filter((name) => name !== 'varpd_overlay_NAME_total' && !METRIC_NAMES.includes(name)),
    [],
    'and no row names one that there is not',
  );
  t.end();
});

t.test('every command has a row, with its synopsis', async (t) => {
  let help = '';
  const out = (text: string): void => {
    help += text;
  };
  await dladm(['--help'], { out, err: out, env: {} });
  const synopses = [...help.matchAll(/^ {4}([a-z].*)$/gm)].map(([, synopsis]) => synopsis);
  t.ok(synopses.length >= 10);
  for (const synopsis of synopses) t.ok(isListed(`\`dladm ${synopsis.replaceAll('|', '\\|')}\``), synopsis);
});

t.test('every plugin that comes along has a row', (t) => {
  for (const name of readdirSync(fromRoot('plugins'))) {
    t.ok(isListed(`[${name}](plugins/${name}/README.md)`), name);
  }
  t.end();
});

t.test('the mapping is the one in config', (t) => {
  const mapping = readFileSync(fromRoot('config/hosts.json'), 'utf8');
  const indented = mapping
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => `    ${line}\n`);
  t.ok(readme.includes(indented.join('')));
  t.end();
});

t.test('the plugin works as it stands', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-readme-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const file = path.join(directory, 'index.mjs');
  writeFileSync(file, /^```js\n(.*?)^```$/ms.exec(readme)![1]);
  const { default: plugin } = (await import(pathToFileURL(file).href)) as { default: LookupPlugin };
  t.equal(plugin.apiVersion, 1);
  const instance = plugin.create({} as Host);
  const { signal } = new AbortController();
  const resolve = async (destinationMac: number, etherType: number): Promise<unknown> =>
    instance.resolve?.({ destinationMac, sourceMac: 0xdeadbeef0000, etherType, vlan: 0 }, signal);
  t.match(await resolve(0xdeadbeef0001, 0x0800), { kind: 'target', to: { ip: '10.88.88.70', port: 4789 } });
  t.match(await resolve(0xdeadbeef0002, 0x0800), { kind: 'drop' });
  t.match(await resolve(0xffffffffffff, 0x0806), { kind: 'proxy', what: 'arp' });
  t.equal(await instance.neighbor?.('10.55.55.3' as never, signal), 0xdeadbeef0001);
  t.equal(await instance.neighbor?.('10.55.55.9' as never, signal), null);
});

t.test('every threat names tests that there are', (t) => {
  const rows = readFileSync(fromRoot('test/THREATS.md'), 'utf8').match(/^\| S\d+ .*$/gm) ?? [];
  t.equal(rows.length, 22);
  for (const row of rows) {
    const [, id, , tests] = row.split('|').map((cell) => cell.trim());
    const files = [...tests.matchAll(/`([^`]+\.test\.ts)`([^`]*)/g)];
    t.ok(files.length > 0, id);
    for (const [, file, after] of files) {
      const text = readFileSync(fromRoot(`test/${file}`), 'utf8');
      for (const [, title] of after.matchAll(/"([^"]+)"/g)) t.ok(text.includes(title), `${id}: ${title}`);
    }
  }
  t.end();
});
