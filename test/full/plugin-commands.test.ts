// The commands of varpd for authors of plugins, and the packages that are plugins. test/full/plugin-author.test.ts has the tutorial.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';

import { entryOf, mayBeNamed } from '../../src/daemon/plugins/plugin-entry.js';
import { entryFiles } from '../../src/daemon/plugins/plugin-loader.js';
import { fromRoot } from '../helpers/need.js';

const directory = mkdtempSync(path.join(tmpdir(), 'varpd-author-'));
t.teardown(() => {
  rmSync(directory, { recursive: true, force: true });
});

const at = (...parts: string[]): string => path.join(directory, ...parts);

/** varpd, typed in the directory of this test. */
function run(args: readonly string[]): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [fromRoot('dist/src/daemon/main.js'), ...args],
    { cwd: directory, encoding: 'utf8' },
  );
  return { status, output: stdout + stderr };
}

t.test('create-plugin and check-plugin refuse what is wrong, and change nothing', async (t) => {
  const cases: readonly [args: string[], status: number, says: RegExp][] = [
    [['create-plugin'], 2, /create-plugin: the name of the plugin is missing/],
    [['create-plugin', 'a', 'b', 'c'], 2, /unexpected argument 'c'/],
    [['create-plugin', '--resolve', 'x', 'a'], 2, /create-plugin has no option --resolve/],
    [['create-plugin', '1x'], 7, /'1x' is not the name of a plugin: a letter and at most 30/],
    [['create-plugin', 'vxlan'], 7, /'vxlan' is not the name of a plugin/],
    [['create-plugin', 'Capital'], 7, /'Capital' has capitals/],
    [['create-plugin', 'x', 'wrong'], 5, /wrong is there already, and is not empty/],
    [['check-plugin'], 2, /check-plugin: the directory of the plugin is missing/],
    [['check-plugin', 'nowhere'], 4, /nowhere: no plugin is here: index\.js, index\.mjs, or a package\.json/],
    [['check-plugin', 'broken', '-p', 'x'], 7, /-p x: NAME=VALUE was expected/],
    [['check-plugin', 'broken', '--resolve', 'x'], 7, /--resolve: 'x' is not a MAC address/],
    [['check-plugin', 'broken'], 10, /problem {4}.*broken\/index\.js:2:17: .*syntax error/],
    [
      ['check-plugin', 'old'],
      10,
      /problem {4}.*old\/index\.js:2: apiVersion: apiVersion 2; docs\/plugins\.md/,
    ],
    [['check-plugin', 'busy'], 10, /problem {4}the import sets a timer at .*busy\/index\.js:1:1/],
    [
      ['check-plugin', 'wrong', '--resolve', '02:00:00:00:00:07'],
      10,
      /problem {4}the overlay would be DEGRADED: plugin wrong: gave/,
    ],
    [
      ['check-plugin', 'wrong', '-p', 'nope=1'],
      10,
      /problem {4}failed to set property wrong\/nope: no such property/,
    ],
    [['check-plugin', 'wrong', '--secret', 'x'], 7, /--secret x: NAME=FILE was expected/],
    [['check-plugin', 'wrong', '--secret', 'a/b=x'], 7, /--secret a\/b=x: expected the name of a secret/],
    [
      ['check-plugin', 'wrong', '--secret', 'a=nowhere'],
      7,
      /--secret a: secret nowhere cannot be read: no such file or directory/,
    ],
    [['check-plugin', 'wrong', '--secret', 'a=wrong'], 7, /--secret a: secret wrong is no regular file/],
  ];
  const good = (name: string): string =>
    `export default { apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [], create: () => ` +
    `({ start: async () => {}, stop: async () => {}, resolve: () => ({ kind: 'target', to: 7 }) }) };`;
  const sources = {
    broken: 'export default {\n  apiVersion: 2,,',
    old: `import { definePlugin } from 'varpd/plugin';\nexport default definePlugin({ apiVersion: 1, name: 'old', mode: 'dynamic', properties: [], create: () => ({}) });`,
    busy: `setInterval(() => {}, 1000); ${good('busy')}`,
    wrong: good('wrong'),
  };
  for (const [name, source] of Object.entries(sources)) {
    mkdirSync(at(name));
    writeFileSync(at(name, 'index.js'), source);
  }
  const before = readdirSync(directory).sort();
  for (const [args, status, says] of cases) {
    const ended = run(args);
    t.equal(ended.status, status, `varpd ${args.join(' ')}: ${ended.output}`);
    t.match(ended.output, says, `varpd ${args.join(' ')}`);
  }
  t.same(readdirSync(directory).sort(), before);
});

t.test('check-plugin gives secrets to the plugin, and shows none', (t) => {
  const source = `export default { apiVersion: 2, name: 'shy', mode: 'dynamic',
    properties: [{ name: 'shy/token', type: 'string', required: true, kind: 'secret' }],
    create: (host) => ({
      start: async ({ token }) => {
        const value = await host.secret(token);
        host.log.info(value === 'tell me' ? 'the login is ' + value : 'the secret has ' + value.length + ' characters');
      },
      stop: async () => {},
      resolve: () => ({ kind: 'target', to: { ip: '192.0.2.7', port: 4789 } }),
    }) };`;
  mkdirSync(at('shy'));
  writeFileSync(at('shy', 'index.js'), source);
  writeFileSync(at('quiet'), 'hush hush\n', { mode: 0o666 });
  writeFileSync(at('loud'), 'tell me\n');
  const command = ['check-plugin', 'shy', '-p', 'token=store', '--resolve', '02:00:00:00:00:07'];
  const good = run([...command, '--secret', 'store=quiet']);
  t.equal(good.status, 0, good.output);
  t.match(good.output, /the secret has 9 characters/, 'without the line feed');
  t.match(good.output, /answer {5}02:00:00:00:00:07: 192\.0\.2\.7:4789/);
  const bad = run([...command, '--secret', 'store=loud', '--secret', 'other=quiet']);
  t.equal(bad.status, 10);
  t.match(bad.output, /the login is \(the secret store\)/);
  t.match(bad.output, /problem {4}a message has the secret store in it/);
  t.notMatch(bad.output, /tell me/);
  const absent = run(command);
  t.equal(absent.status, 10);
  t.match(absent.output, /there is no secret 'store': give its file, --secret store=FILE/);
  t.end();
});

t.test('plugins are found in packages', async (t) => {
  const make = (place: string, files: Readonly<Record<string, string>>): string => {
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(path.dirname(at('found', place, file)), { recursive: true });
      writeFileSync(at('found', place, file), text);
    }
    return at('found', place);
  };
  const manifest = JSON.stringify({ varpd: { plugin: './dist/main.js' } });
  const plugin = make('node_modules/varpd-plugin-shop', { 'package.json': manifest, 'index.js': '' });
  t.equal(entryOf(plugin), path.join(plugin, 'dist/main.js'), 'package.json comes before index.js');
  t.same(entryFiles(plugin), [path.join(plugin, 'dist/main.js')], '-i may name a package');
  make('node_modules/other', { 'package.json': '{"name": "other"}', 'index.js': '' });
  t.same(
    entryFiles(at('found/node_modules')),
    [path.join(plugin, 'dist/main.js')],
    'other packages of node_modules are no plugins',
  );
  make('plain/a', { 'index.mjs': '' });
  make('plain/b', { 'index.js': '', 'index.mjs': '' });
  make('plain/c', { 'package.json': manifest });
  make('plain/d', { 'package.json': 'not JSON', 'index.js': '' });
  make('plain/e', { 'package.json': 'null', README: '' });
  make('plain/f', { 'package.json': JSON.stringify({ varpd: { plugin: '../../elsewhere.js' } }) });
  t.same(
    entryFiles(at('found/plain')),
    ['a/index.mjs', 'b/index.js', 'c/dist/main.js', 'd/index.js', 'f/index.js'].map((file) =>
      at('found/plain', file),
    ),
    'and a path that leaves its package is not followed',
  );
  const entry = path.join(plugin, 'dist/main.js');
  t.ok(mayBeNamed(entry, 'shop'));
  t.ok(mayBeNamed('/x/shop/index.js', 'shop'));
  t.notOk(mayBeNamed(entry, 'dish'));
});
