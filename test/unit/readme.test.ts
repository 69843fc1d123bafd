// What README and docs list is all there is: commands, counters, reasons for drops, plugins. netns/readme.test.ts types what it prints.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { dladm } from '../../src/cli/dladm.js';
import { COUNTER_NAMES } from '../../src/core/counts/counters.js';
import { METRICS } from '../../src/daemon/observe/metrics.js';
import { DROPS } from '../../src/model/drops.js';
import { documentation, DOCUMENTS, textOf } from '../helpers/documents.js';
import { fromRoot } from '../helpers/need.js';

const text = documentation();
/** First cells of table rows. */
const listed = text
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
  const names = METRICS.map(({ name }) => name);
  for (const name of names) t.ok(isListed(`\`${name}\``), name);
  const named = listed.flatMap((cell) => [...cell.matchAll(/`(varpd_\w+)`/g)].map(([, name]) => name));
  t.same(
    named.filter((name) => !names.includes(name)),
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
    t.ok(isListed(`[${name}](../plugins/${name}/README.md)`), name);
  }
  t.end();
});

t.test('the mapping is the one in config', (t) => {
  const mapping = readFileSync(fromRoot('config/hosts.json'), 'utf8');
  const indented = mapping
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => `    ${line}\n`);
  t.ok(textOf('README.md').includes(indented.join('')));
  t.end();
});

t.test('the drops that are by design, and no other', (t) => {
  const names = [...text.matchAll(/^\| `([a-z_]+)` \| by design \|/gm)].map(([, name]) => name);
  t.same(names, [
    'tx_hairpin',
    'restricted',
    'tx_group',
    'arp_ignored',
    'ndp_ignored',
    'ndp_router',
    'proxy_unknown',
    'proxy_own',
    'proxy_local',
    'rx_loopback',
  ]);
  t.end();
});

t.test('the mapping is where the service sees it', (t) => {
  for (const file of ['README.md', 'plugins/files/README.md']) {
    const text = readFileSync(fromRoot(file), 'utf8');
    const paths = [...text.matchAll(/\S*hosts\.json/g)].map(([one]) => one.replace(/^.*[=`(]/, ''));
    const absolute = paths.filter((one) => one.startsWith('/'));
    t.ok(absolute.includes('/etc/varpd/hosts.json'), file);
    // PrivateTmp= and ProtectHome= of the unit.
    t.same(
      absolute.filter((one) => /^\/(tmp|var\/tmp|home|root)\//.test(one)),
      [],
      file,
    );
  }
  t.end();
});

t.test('README is short, and leads to every page', (t) => {
  const readme = textOf('README.md');
  t.ok(readme.split('\n').length <= 200, `${readme.split('\n').length} lines`);
  for (const page of DOCUMENTS.slice(1)) t.ok(readme.includes(`](${page})`), page);
  t.end();
});

/** As GitHub makes it of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\s-]/g, '')
    .replaceAll(' ', '-');
const anchorsOf = (document: string): string[] =>
  [...textOf(document).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading));

t.test('every link leads somewhere', (t) => {
  const plugins = readdirSync(fromRoot('plugins')).map((name) => `plugins/${name}/README.md`);
  const documents = [...DOCUMENTS, ...plugins, 'src/dgram-extra/README.md', 'test/THREATS.md'];
  for (const document of documents)
    for (const [, link] of textOf(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue;
      const file = link.replace(/#.*/, '');
      const anchor = /#(.+)$/.exec(link)?.[1];
      const target = file === '' ? document : path.join(path.dirname(document), file);
      t.ok(existsSync(fromRoot(target)), `${document}: ${link}`);
      if (anchor !== undefined) t.ok(anchorsOf(target).includes(anchor), `${document}: ${link}`);
    }
  t.end();
});

t.test('architecture: every file that it names is there', (t) => {
  const named = [...textOf('docs/architecture.md').matchAll(/`((?:[\w-]+\/)+[\w.-]*)`/g)].map(
    ([, file]) => file,
  );
  t.ok(named.length > 80, `${named.length} files`);
  for (const file of new Set(named))
    t.ok(existsSync(fromRoot(`src/${file}`)) || existsSync(fromRoot(file)), file);
  t.end();
});

t.test('the license', (t) => {
  t.match(readFileSync(fromRoot('LICENSE'), 'utf8'), /^MIT License\n\nCopyright .* the varpd authors\n/);
  t.equal((JSON.parse(readFileSync(fromRoot('package.json'), 'utf8')) as { license: string }).license, 'MIT');
  t.end();
});

t.test('every threat names tests that there are', (t) => {
  const rows = readFileSync(fromRoot('test/THREATS.md'), 'utf8').match(/^\| [A-Z]\d+ .*$/gm) ?? [];
  t.equal(rows.filter((row) => row.startsWith('| S')).length, 24);
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
