// The plugins by name: which are there, which are left out, and when.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { Log } from '../../src/daemon/log.js';
import { NameClaims } from '../../src/daemon/plugins/name-claims.js';
import { BUILT_IN_NAMES, PluginCatalog } from '../../src/daemon/plugins/plugin-catalog.js';
import { checkPlugin } from '../../src/daemon/plugins/plugin-loader.js';
import type { Instance, LookupPlugin } from '../../src/plugin/index.js';
import { newLog } from '../helpers/kept-log.js';
import { pluginServices } from '../helpers/plugin-services.js';

/**
 * A directory of plugins: name -> source. It is no testdir(), since root takes no plugin out of a directory that belongs to
 * another user.
 */
function directoryOf(
  t: { teardown(work: () => unknown): unknown },
  sources: Readonly<Record<string, string>>,
): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  writeFileSync(path.join(directory, 'README'), 'not a directory');
  for (const [name, source] of Object.entries(sources)) {
    mkdirSync(path.join(directory, name));
    writeFileSync(path.join(directory, name, 'index.mjs'), source);
  }
  return directory;
}
const loadAll = (
  t: { teardown(work: () => unknown): unknown },
  directory: string,
  log: Log,
): PluginCatalog => {
  const plugins = PluginCatalog.load([directory], log, pluginServices(t));
  t.teardown(() => {
    plugins.close(false);
  });
  return plugins;
};
const source = (more: string, name = 'good'): string =>
  `export default { apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [], create: () => ({}), ${more} };`;

/** All orders of these files. */
function ordersOf(files: readonly string[]): string[][] {
  if (files.length === 0) return [[]];
  return files.flatMap((first) =>
    ordersOf(files.filter((file) => file !== first)).map((rest) => [first, ...rest]),
  );
}

t.test('varpd comes with four plugins, and knows the facts of those that run in a process', async (t) => {
  const plugins = PluginCatalog.load([], newLog(), pluginServices(t));
  t.same([...plugins.keys()], BUILT_IN_NAMES);
  for (const name of BUILT_IN_NAMES) {
    const entry = new URL(`../../plugins/${name}/index.js`, import.meta.url);
    const own = checkPlugin(((await import(entry.href)) as { default: unknown }).default);
    const factsOf = (plugin: LookupPlugin): unknown => ({
      ...{ mode: plugin.mode, properties: plugin.properties },
      mayRefuse: typeof plugin.refuse === 'function',
    });
    t.same(factsOf(plugins.get(name)!), factsOf(own), name);
  }
});

t.test('a bad plugin is logged and left out, the first of a name wins', async (t) => {
  const log = newLog();
  const directory = directoryOf(t, {
    a: source(''),
    b: source("mode: 'point'"),
    c: source('apiVersion: 1', 'c'),
    d: source("properties: [{ name: 'x/y', type: 'uint', required: false }]", 'd'),
    e: source("properties: [{ name: 'e/y', type: 'uint', required: false, default: 'no', max: 3 }]", 'e'),
    f: 'throw new Error("at load");',
    g: 'export default 42;',
    h: 'this is not JavaScript',
    i: source('', '../../etc'),
    j: source('create: undefined', 'j'),
    k: source("properties: [{ name: 'k/y', type: 'choice', required: false }]", 'k'),
    l: source('', 'vxlan'),
  });
  const plugins = loadAll(t, directory, log);
  t.equal(await plugins.find('nobody'), undefined);
  t.same([...plugins.keys()], ['direct', 'files', 'http', 'nats', 'good']);
  t.equal(plugins.get('good')?.mode, 'dynamic');
  const directoryIn = (line: string): string => /\/(.)\/index\.mjs/.exec(line)![1];
  const trouble = log.lines.filter((line) => !line.startsWith('debug'));
  t.match(
    trouble.sort((a, b) => directoryIn(a).localeCompare(directoryIn(b))),
    [
      /warn .*\/b\/index\.mjs: there is a plugin 'good' already/,
      /error .*\/c\/index\.mjs:1: left out: apiVersion: apiVersion 2; /,
      /\/d\/.*property x\/y must begin with 'd\/'/,
      /\/e\/.*property e\/y has a default that is not a whole number from 0 to 3/,
      /\/f\/.*at load/,
      /\/g\/.*default export: /,
      /\/h\/.*left out: /,
      /\/i\/.*name: a letter and at most 30/,
      /\/j\/.*create: a function/,
      /\/k\/.*property k\/y is a choice without choices/,
      /\/l\/.*name: a name other than vxlan, geneve, varpd/,
    ],
  );
});

/** Source that is evaluated once this file exists. */
const after = (mark: string, more: string): string =>
  `import { existsSync } from 'node:fs'; while (!existsSync('${mark}')) await new Promise((next) => setTimeout(next, 5)); ${more}`;

t.test('one that hangs at its import keeps no other one waiting', async (t) => {
  const log = newLog();
  const directory = directoryOf(t, {
    a: 'await new Promise(() => setTimeout(() => undefined, 1e6));',
    good: source(''),
    other: source('', 'other'),
  });
  const plugins = loadAll(t, directory, log);
  const found = await Promise.all(['good', 'other', 'good'].map((name) => plugins.find(name)));
  t.match(found, [{ name: 'good' }, { name: 'other' }, { name: 'good' }]);
  t.equal(plugins.failureOf('a'), undefined, 'the one that hangs is still being loaded');
});

t.test('which of several with one name is taken does not depend on the time that they take', (t) => {
  const files = ['a', 'b', 'good', 'z'].map((directory) => `/plugins/${directory}/index.js`);
  const called = (name: string): LookupPlugin => ({ name }) as LookupPlugin;
  for (const [names, winner] of [
    [{ a: 'good', b: 'good', z: 'good' }, 'a'],
    [{ a: 'other', b: 'good', z: 'good' }, 'b'],
    [{ a: 'good', good: 'good', z: 'good' }, 'good'],
    [{ a: 'other', good: 'third', z: 'good' }, 'z'],
  ] as const) {
    const pluginOf = (file: string): LookupPlugin | undefined => {
      const name = (names as Partial<Record<string, string>>)[file.split('/')[2]];
      return name === undefined ? undefined : called(name);
    };
    for (const order of ordersOf(files)) {
      const claims = new NameClaims(files);
      const decided = order.flatMap((file) => claims.settle(file, pluginOf(file)));
      const what = `${JSON.stringify(names)}, loaded in the order ${order.join()}`;
      t.equal(decided.length, Object.keys(names).length, what);
      t.equal(
        decided.find(({ plugin }) => plugin.name === 'good')?.file,
        `/plugins/${winner}/index.js`,
        what,
      );
    }
  }
  t.end();
});

t.test('one in a directory of its own name is there at once, one elsewhere waits for it', async (t) => {
  for (const late of ['a', 'good']) {
    const log = newLog();
    const mark = path.join(directoryOf(t, {}), 'go');
    const sources = { a: source(''), good: source("mode: 'point'") };
    const plugins = loadAll(
      t,
      directoryOf(t, { ...sources, [late]: after(mark, sources[late as keyof typeof sources]) }),
      log,
    );
    const finding = plugins.find('good');
    if (late === 'good') writeFileSync(mark, '');
    const found = await finding;
    t.match(found, { mode: 'point' }, `${late} is late`);
    writeFileSync(mark, '');
    await plugins.find('nobody');
    t.equal(plugins.get('good'), found, 'and stays');
    t.match(
      log.lines.filter((line) => !line.startsWith('debug')),
      [/warn .*\/a\/index.mjs: there is a plugin 'good' already/],
    );
  }
});

t.test('a file is loaded once, although two ask for it in the same moment', async (t) => {
  const log = newLog();
  const directory = directoryOf(t, {});
  const plugins = loadAll(t, directory, log);
  await plugins.find('nobody');
  mkdirSync(path.join(directory, 'good'));
  writeFileSync(path.join(directory, 'good/index.mjs'), source(''));
  const [one, another] = await Promise.all([plugins.find('good'), plugins.find('good')]);
  t.match(one, { name: 'good' });
  t.equal(one, another);
  t.same(
    log.lines.filter((line) => !line.startsWith('debug')),
    [],
  );
});

t.test('one that is mended, or comes later, is found when somebody wants it', async (t) => {
  const log = newLog();
  const directory = directoryOf(t, { good: 'this is not JavaScript' });
  const plugins = loadAll(t, directory, log);
  t.equal(await plugins.find('good'), undefined);
  t.match(plugins.failureOf('good'), /\/good\/index\.mjs:1:6: a syntax error$/);
  t.equal(plugins.failureOf('late'), undefined);
  const complaints = log.lines.length;
  t.equal(await plugins.find('good'), undefined);
  t.equal(log.lines.length, complaints, 'what has not changed is not tried again');
  writeFileSync(path.join(directory, 'good/index.mjs'), source(''));
  mkdirSync(path.join(directory, 'late'));
  // Node of itself would have to find out what an index.js is, and the hooks of the test runner disturb it in that.
  writeFileSync(path.join(directory, 'late/package.json'), '{ "type": "module" }');
  writeFileSync(path.join(directory, 'late/index.js'), source('', 'late'));
  const found = await plugins.find('good');
  t.match(found, { name: 'good' });
  t.equal(plugins.failureOf('good'), undefined);
  t.match(await plugins.find('late'), { name: 'late' }, plugins.failureOf('late') ?? 'one that comes later');
  t.equal(await plugins.find('good'), found, 'what was found once stays');
});

t.test('one whose process ends without a word is tried again, with the same files', async (t) => {
  const log = newLog();
  const directory = directoryOf(t, { good: '' });
  const mark = path.join(directory, 'is-over');
  writeFileSync(
    path.join(directory, 'good/index.mjs'),
    `import { existsSync } from 'node:fs'; if (!existsSync('${mark}')) process.exit(3); ${source('')}`,
  );
  const plugins = loadAll(t, directory, log);
  t.equal(await plugins.find('good'), undefined);
  t.match(plugins.failureOf('good'), /its process has ended \(exit status 3\)$/);
  const complaints = log.lines.length;
  t.equal(await plugins.find('another'), undefined);
  t.equal(log.lines.length, complaints, 'not for the sake of another plugin');
  writeFileSync(mark, '');
  t.match(await plugins.find('good'), { name: 'good' });
});

t.test('a directory that is not there is fatal', (t) => {
  t.throws(() => PluginCatalog.load(['/nowhere'], newLog(), pluginServices(t)), {
    code: 'NOT_FOUND',
    message: 'pluginPath: failed to load from /nowhere: no such file or directory',
  });
  t.end();
});

t.test('a plugin may be an object of a class', async (t) => {
  class Plugin implements LookupPlugin {
    readonly apiVersion = 2;
    readonly name = 'classy';
    readonly mode = 'dynamic';
    readonly properties = [];
    create(): Instance {
      throw new Error('not here');
    }
  }
  const value = new Plugin();
  t.equal(checkPlugin(value), value);
});
