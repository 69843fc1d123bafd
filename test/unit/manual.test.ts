// The manual pages say what the tables in src say, and are good mdoc(7).
import t from 'tap';
import { allCommands } from '../../src/cli/dladm.js';
import { CONFIG_KEYS } from '../../src/daemon/config.js';
import { MANUAL_PAGES, manualPages } from '../docs/manual.js';
import { filled, literal } from '../docs/mdoc.js';
import { textOf } from '../helpers/documents.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { exec, run } from '../helpers/process.js';

const skip = skipUnless({ programs: ['mandoc'] });

t.test('the pages are as `npm run docs` writes them', async (t) => {
  for (const [page, text] of await manualPages()) t.equal(textOf(page), text, `${page}: npm run docs`);
});

t.test('npm installs every page', async (t) => {
  const { man } = JSON.parse(textOf('package.json')) as { man: string[] };
  t.same(man, [...MANUAL_PAGES].sort());
});

t.test('text is safe in a page', async (t) => {
  t.equal(filled('.a `-p x` bb\\cc. Next - one.'), '\\&.a \\fB\\-p x\\fR bb\\ecc.\nNext \\- one.\n');
  t.match(literal(["'quoted", 'a -b']), "\n\\&'quoted\na \\-b\n");
});

t.test('mandoc finds nothing to say', { skip }, async (t) => {
  for (const page of MANUAL_PAGES) {
    const { stdout, stderr } = await run(['mandoc', '-Tlint', fromRoot(page)]);
    // It looks for other pages among those of the system, where ours need not be.
    const isOurs = (line: string): boolean => {
      const [, name, section] = /: referenced manual not found: Xr (\S+) (\S+)/.exec(line) ?? [];
      return MANUAL_PAGES.includes(`man/${name}.${section}`);
    };
    const lines = (stdout + stderr).split('\n').filter((line) => line !== '');
    t.same(
      lines.filter((line) => !isOurs(line)),
      [],
      page,
    );
  }
  const { code } = await run(['mandoc', '-Tlint'], { input: '.Dd x\nword. Word\n' });
  t.not(code, 0, 'it has something to say of another page');
});

t.test('a page shows all that it is about', { skip }, async (t) => {
  const shown = async (page: string): Promise<string> =>
    // Overstriking is how a terminal of paper prints bold text.
    (await exec(['mandoc', '-Tutf8', '-O', 'width=1000', fromRoot(page)])).replaceAll(/.[\b]/gu, '');
  const dladm = await shown('man/dladm.8');
  for (const { synopsis, options } of await allCommands()) {
    t.ok(dladm.includes(`     dladm ${synopsis}\n`), synopsis);
    for (const { name } of options) t.ok(dladm.includes(`--${name}`), name);
  }
  const yaml = await shown('man/varpd.yaml.5');
  for (const { section, name } of CONFIG_KEYS)
    t.ok(yaml.includes(`     ${section === undefined ? '' : `${section}.`}${name}`), name);
  t.match(await shown('man/varpd-plugin.7'), /^ {5}resolve\?\(lookup: Lookup/m);
  t.match(await shown('man/overlay_files.5'), /^ {5}dhcp-proxy/m);
  t.match(await shown('man/varpd.8'), /^ {5}--foreground/m);
});
