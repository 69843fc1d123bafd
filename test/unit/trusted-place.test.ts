// Where others can put something in the place of a file of varpd: every directory up to the root, links one by one.
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { readInto, Whole } from '../../plugins/files/read.js';
import { LogFile } from '../../src/daemon/log-file.js';
import { PluginCatalog } from '../../src/daemon/plugins/plugin-catalog.js';
import { claimSocket } from '../../src/daemon/socket-file.js';
import { StateDirectory } from '../../src/daemon/state/state-directory.js';
import { trustedPlace } from '../../src/plugin/index.js';
import { type Trust, trustedPlaceNow } from '../../src/plugin/trusted-place.js';
import { pluginServices } from '../helpers/plugin-services.js';
import { skipUnless } from '../helpers/need.js';

const NOBODY = 65534;
const OTHER = 12345;

/** With nothing in it that others can write to, but the sticky /tmp above. */
function newDirectory(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  chmodSync(directory, 0o755);
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** Both ways of asking give the same answer: the path, or why not. */
async function judge(t: Test, file: string, trust?: Trust): Promise<string> {
  const soon = await trustedPlace(file, trust).then(
    (place) => place.path,
    (error: unknown) => (error as Error).message,
  );
  let now;
  try {
    now = trustedPlaceNow(file, trust).path;
  } catch (error) {
    now = (error as Error).message;
  }
  t.equal(now, soon, 'at once or later');
  return now;
}

t.test('directories that others can write to', async (t) => {
  const base = newDirectory(t);
  const file = path.join(base, 'a/b/file');
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, '');
  t.equal(await judge(t, file), file);
  t.equal(await judge(t, path.join(base, 'a/./b/../b//file')), file, 'whatever the spelling');
  t.equal(await judge(t, path.join(base, 'a/b/new/file')), path.join(base, 'a/b/new/file'), 'not there yet');
  for (const directory of [path.dirname(file), path.join(base, 'a'), base]) {
    for (const mode of [0o775, 0o757, 0o777]) {
      chmodSync(directory, mode);
      const why = await judge(t, file);
      t.match(why, `others may change what is in ${directory}: it belongs to user `);
      t.match(why, ` and has mode ${mode.toString(8)}, expected user `);
      t.match(why, `: 'chmod go-w ${directory}'`);
      t.equal(await judge(t, path.join(base, 'a/b/new')), why, 'so with what is not there yet');
    }
    chmodSync(directory, 0o755);
  }
  t.equal(await judge(t, file), file);
});

t.test('sticky directories', async (t) => {
  const base = newDirectory(t);
  const shared = path.join(base, 'shared');
  const file = path.join(shared, 'own/file');
  mkdirSync(path.dirname(file), { recursive: true });
  chmodSync(shared, 0o1777);
  writeFileSync(file, '');
  writeFileSync(path.join(shared, 'file'), '');
  t.equal(await judge(t, file), file, 'are good above a directory of ours');
  t.match(await judge(t, path.join(shared, 'file')), /others may change what is in .*\/shared: .* mode 1777/);
  t.match(await judge(t, path.join(shared, 'new')), /others may change/, 'nor to make something in');
  t.equal(await judge(t, path.join(shared, 'file'), { sticky: true }), path.join(shared, 'file'));
});

t.test('of others', { skip: skipUnless({ root: true }) }, async (t) => {
  const base = newDirectory(t);
  const file = path.join(base, 'home/file');
  const home = path.dirname(file);
  mkdirSync(home);
  writeFileSync(file, '');
  chownSync(home, NOBODY, NOBODY);
  const why = await judge(t, file);
  t.match(why, `it belongs to user 65534 (nobody) and has mode 755, expected user 0 (root), and no write`);
  t.match(why, `'chown 0 ${home}'`);
  t.match(
    await judge(t, file, { owner: true }),
    /belongs to user 65534/,
    "a file of root's in another's home",
  );
  chownSync(file, NOBODY, NOBODY);
  t.equal(await judge(t, file, { owner: true }), file, "a file of one's own at home");
  chownSync(file, OTHER, OTHER);
  t.match(await judge(t, file, { owner: true }), /belongs to user 65534/, 'of a third one');
  t.equal(await judge(t, file, { users: [NOBODY] }), file, 'one who is trusted');
  chmodSync(home, 0o777);
  t.match(await judge(t, file, { users: [NOBODY] }), `'chmod go-w ${home}'`);
  chownSync(home, OTHER, OTHER);
  t.match(await judge(t, file, { users: [NOBODY] }), `'chown 65534 ${home} && chmod go-w ${home}'`);

  const sticky = path.join(base, 'sticky');
  const theirs = path.join(sticky, 'theirs');
  mkdirSync(sticky);
  chmodSync(sticky, 0o1777);
  writeFileSync(theirs, '');
  chownSync(theirs, NOBODY, NOBODY);
  t.match(await judge(t, theirs, { sticky: true, owner: true }), /theirs belongs to user 65534 .*mode 1777/);
  symlinkSync(file, path.join(sticky, 'link'));
  lchownSync(path.join(sticky, 'link'), NOBODY, NOBODY);
  chownSync(home, 0, 0);
  chmodSync(home, 0o755);
  chownSync(file, 0, 0);
  t.match(await judge(t, path.join(sticky, 'link'), { sticky: true }), /link belongs to user 65534/);
  lchownSync(path.join(sticky, 'link'), 0, 0);
  t.equal(await judge(t, path.join(sticky, 'link'), { sticky: true }), file);

  chownSync(file, NOBODY, NOBODY);
  t.equal(await judge(t, file), file);
  t.match(await judge(t, file, { itself: true }), /belongs to user 65534/, 'a program must be ours itself');
});

t.test('links', async (t) => {
  const base = newDirectory(t);
  const open = path.join(base, 'open');
  const file = path.join(base, 'real/file');
  mkdirSync(open);
  mkdirSync(path.dirname(file));
  writeFileSync(file, '');
  symlinkSync('../real/file', path.join(open, 'relative'));
  symlinkSync(open, path.join(base, 'way'));
  symlinkSync('loop', path.join(base, 'loop'));
  for (const way of ['open/relative', 'way/relative', 'way/../real/file'])
    t.equal(await judge(t, path.join(base, way)), file, way);
  await t.rejects(trustedPlace(path.join(base, 'loop')), { code: 'ELOOP' });
  await t.rejects(trustedPlace(path.join(file, 'x')), { code: 'ENOTDIR' });
  chmodSync(open, 0o777);
  for (const way of ['open/relative', 'way/relative'])
    t.match(await judge(t, path.join(base, way)), `what is in ${open}: `, 'where the link is, counts');
  t.match(trustedPlaceNow('/proc/self/fd/2'), { isDescriptor: true });
});

t.test('the places of varpd', async (t) => {
  const base = newDirectory(t);
  const open = path.join(base, 'open');
  const below = path.join(open, 'below');
  mkdirSync(below, { recursive: true, mode: 0o755 });
  mkdirSync(path.join(below, 'state'), { mode: 0o700 });
  mkdirSync(path.join(below, 'plugins/one'), { recursive: true, mode: 0o755 });
  const entry = path.join(below, 'plugins/one/index.mjs');
  const source = `export default { apiVersion: 2, name: 'one', mode: 'dynamic', properties: [], create: () => ({}) };`;
  writeFileSync(entry, source);
  writeFileSync(path.join(below, 'hosts.json'), '{}');
  const log = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: () => undefined,
  };
  const services = pluginServices(t);
  const places: Readonly<Record<string, () => Promise<unknown>>> = {
    socket: () => claimSocket(path.join(below, 'varpd.sock'), undefined),
    'socket to be made': () => claimSocket(path.join(below, 'new/varpd.sock'), undefined),
    log: () => Promise.resolve().then(() => new LogFile(path.join(below, 'log'), () => '')),
    state: async () => (await StateDirectory.open(path.join(below, 'state'))).close(),
    plugins: () =>
      Promise.resolve().then(() => {
        PluginCatalog.load([path.join(below, 'plugins')], log, services).close(false);
      }),
    mapping: () => readInto(path.join(below, 'hosts.json'), new Whole(), false),
  };
  for (const [what, take] of Object.entries(places)) {
    await t.resolves(take(), what);
    for (const directory of [below, open]) {
      chmodSync(directory, 0o777);
      await t.rejects(
        take(),
        { message: new RegExp(`${directory}.*(?:mode 777|writable)`) },
        `${what}: ${directory}`,
      );
      chmodSync(directory, 0o755);
    }
  }
  await t.test('a plugin whose own files others can write to is left out', async (t) => {
    for (const place of [path.dirname(entry), entry]) {
      chmodSync(place, 0o777);
      const plugins = PluginCatalog.load([path.join(below, 'plugins')], log, services);
      t.equal(await plugins.find('one'), undefined);
      t.match(plugins.failureOf('one'), new RegExp(`others may change what is in ${place}: .*chmod go-w`));
      chmodSync(place, 0o755);
      t.match(await plugins.find('one'), { name: 'one' }, 'until that is mended');
      plugins.close(false);
    }
  });
  t.test('a log file through a link of our own, and none that is planted', (t) => {
    symlinkSync(path.join(below, 'log'), path.join(base, 'link'));
    new LogFile(path.join(base, 'link'), () => '').write('through\n');
    t.equal(readFileSync(path.join(below, 'log'), 'utf8'), 'through\n');
    chmodSync(base, 0o777);
    t.throws(
      () => new LogFile(path.join(base, 'link'), () => ''),
      /log\.file: cannot open .*others may change/,
    );
    chmodSync(base, 0o755);
    unlinkSync(path.join(base, 'link'));
    t.end();
  });
});

t.test('a socket takes the place of no link', { skip: skipUnless({ root: true }) }, async (t) => {
  const base = newDirectory(t);
  const victim = path.join(base, 'victim');
  writeFileSync(victim, '', { mode: 0o600 });
  symlinkSync(victim, path.join(base, 'varpd.sock'));
  await t.rejects(claimSocket(path.join(base, 'varpd.sock'), OTHER), {
    message: /exists and is not a socket/,
  });
  t.match(statSync(victim), { uid: 0, gid: 0 });
});
