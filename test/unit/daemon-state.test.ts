// What survives a restart: files written whole or not at all, bad ones set aside, and a directory that is only ours.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { StateStore } from '../../src/daemon/state/persistence.js';
import { checkStateFiles } from '../../src/daemon/state/state-check.js';
import { formatMac } from '../../src/wire/mac.js';
import { Snapshot, type Snapshotted } from '../../src/daemon/state/snapshot.js';
import { StateDirectory } from '../../src/daemon/state/state-directory.js';
import type { StateFiles } from '../../src/daemon/state/state-file.js';
import type { StoredOverlay } from '../../src/daemon/state/state-schema.js';
import type { TargetEntry } from '../../src/datapath/contract.js';
import { type Endpoint, parse as parseIp } from '../../src/wire/ip.js';
import { systemError } from '../helpers/fake-datapath.js';
import { skipUnless } from '../helpers/need.js';

const OVERLAY: StoredOverlay = {
  name: 'overlay0',
  id: 1,
  encap: 'vxlan',
  search: 'direct',
  vnetid: 42,
  mac: '02:00:00:00:00:01',
  properties: [['vxlan/listen_ip', '10.0.0.1']],
  vnics: [{ name: 'foo0', mac: '02:00:00:00:00:02', macType: 'random', vid: 7 }],
};
const endpoint = (ip: string): Endpoint => ({ ip: parseIp(ip)!, port: 4789 });
const CHANGED: StoredOverlay = { ...OVERLAY, vnics: [] };

const opened: StateDirectory[] = [];
t.teardown(() => Promise.all(opened.map((directory) => directory.close())));

async function openDirectory(directory: string): Promise<StateDirectory> {
  const state = await StateDirectory.open(directory);
  opened.push(state);
  return state;
}

const load = async (directory: string, files?: StateFiles): Promise<StateStore> =>
  StateStore.load(await openDirectory(directory), files);

/** A fresh directory with mode 0700. */
function newDirectory(t: { testdir(): string }): string {
  const directory = path.join(t.testdir(), 'state');
  mkdirSync(directory, { mode: 0o700 });
  return directory;
}

t.test('the directory', async (t) => {
  t.test('is made with mode 0700', async (t) => {
    const directory = path.join(t.testdir(), 'a/b');
    await openDirectory(directory);
    t.equal(statSync(directory).mode & 0o7777, 0o700);
  });

  t.test('is refused when others may write to it, or when it is something else', async (t) => {
    const base = t.testdir({ file: '', real: {} });
    const directory = path.join(base, 'real');
    for (const mode of [0o770, 0o702]) {
      chmodSync(directory, mode);
      await t.rejects(StateDirectory.open(directory), {
        code: 'DENIED',
        message: /writable by group or others/,
      });
    }
    chmodSync(directory, 0o700);
    symlinkSync(directory, path.join(base, 'link'));
    await t.rejects(StateDirectory.open(path.join(base, 'link')), {
      code: 'DENIED',
      message: /symbolic links/,
    });
    await t.rejects(StateDirectory.open(path.join(base, 'file')), {
      code: 'DENIED',
      message: /not a directory/,
    });
  });

  t.test('is made with those above it, where that can be done', async (t) => {
    const directory = path.join(newDirectory(t), 'above/state');
    await openDirectory(directory);
    t.equal(statSync(path.dirname(directory)).mode & 0o7777, 0o700);
    // Node's own mkdir of several goes round here for ever.
    await t.rejects(StateDirectory.open('/proc/nonexistent/state'), {
      code: 'IO',
      message: /no such file or directory/,
    });
  });

  t.test('is refused where others could put another in its place', async (t) => {
    const base = newDirectory(t);
    chmodSync(base, 0o777);
    await t.rejects(StateDirectory.open(path.join(base, 'state')), {
      code: 'DENIED',
      message: /in which it is, is writable by group or others \(mode 777\)/,
    });
    chmodSync(base, 0o1777);
    await openDirectory(path.join(base, 'state'));
  });

  t.test('is refused when it belongs to another user', { skip: skipUnless({ root: true }) }, async (t) => {
    const directory = newDirectory(t);
    execFileSync('chown', ['12345', directory]);
    await t.rejects(StateDirectory.open(directory), {
      message:
        /belongs to user 12345, expected 0 \(root\), the user of varpd: 'chown -R 0 \/.*' as root, or another/,
    });
    execFileSync('chown', ['0', directory]);
    chmodSync(directory, 0o700);
    chmodSync(path.dirname(directory), 0o755);
    t.teardown(() => {
      process.seteuid?.(0);
    });
    process.seteuid?.(65534);
    const refused = StateDirectory.open(directory);
    await t.rejects(
      refused,
      { message: /belongs to user 0 \(root\), expected 65534 \(nobody\)/ },
      'nor can be opened',
    );
    process.seteuid?.(0);
  });

  t.test('is for one varpd at a time, and the other is named', async (t) => {
    const directory = newDirectory(t);
    const first = await openDirectory(directory);
    await first.lock(() => true);
    const second = await openDirectory(directory);
    const message = new RegExp(`another varpd \\(process ${process.pid}\\) uses the state directory`);
    await t.rejects(
      second.lock(() => false),
      { code: 'BUSY', message },
    );
  });
});

t.test('what is saved is what is loaded', async (t) => {
  const directory = newDirectory(t);
  const store = await load(directory);
  await store.save(OVERLAY);
  t.equal(statSync(path.join(directory, 'overlay0.json')).mode & 0o7777, 0o600);
  t.match((await load(directory)).overlays.get('overlay0'), OVERLAY);
  await store.save(CHANGED);
  t.same((await load(directory)).overlays.get('overlay0')?.vnics, []);
  await store.remove('overlay0');
  await store.remove('overlay0');
  t.equal((await load(directory)).overlays.size, 0);
  t.same(readdirSync(directory), []);
});

t.test('a bad file is set aside and reported, and the others are loaded', async (t) => {
  const directory = newDirectory(t);
  const store = await load(directory);
  for (let count = 0; count < 10; count++)
    await store.save({ ...OVERLAY, name: `overlay${count}`, id: count + 1, vnics: [] });
  const file = (count: number): string => path.join(directory, `overlay${count}.json`);
  const good = readFileSync(file(0), 'utf8');
  truncateSync(file(0), 100);
  truncateSync(file(1), 0);
  writeFileSync(file(2), good.replace('"version": 1', '"version": 2'));
  writeFileSync(file(3), good);
  writeFileSync(file(4), good.replace('overlay0', 'overlay4').replace('"vnetid": 42', '"vnetid": 16777216'));
  chmodSync(file(5), 0o666);
  await unlink(file(6));
  symlinkSync('/etc/passwd', file(6));
  await unlink(file(7));
  execFileSync('mkfifo', [file(7)]);
  linkSync(file(9), path.join(path.dirname(directory), 'elsewhere'));
  writeFileSync(path.join(directory, 'overlay0.bad-1'), 'from an earlier start');
  writeFileSync(path.join(directory, '.overlay9.1-1.tmp'), 'half writ');

  const again = await load(directory);
  t.same([...again.overlays.keys()], ['overlay8']);
  t.match(
    again.bad.map(({ message }) => message),
    [
      /^overlay0\.json: .*JSON.*; set aside as overlay0\.bad-2: mend it/,
      /^overlay1\.json: it is empty; set aside as overlay1\.bad-1: mend it/,
      /^overlay2\.json: it has another version than 1, which this varpd reads/,
      /^overlay3\.json: it is about another overlay/,
      /^overlay4\.json: vnetid: /,
      /^overlay5\.json: it is writable by group or others/,
      /^overlay6\.json: (too many symbolic links|.*ELOOP)/i,
      /^overlay7\.json: it is not a regular file/,
      /^overlay9\.json: it has 2 names \(hard links\)/,
    ],
  );
  t.equal(readFileSync(path.join(directory, 'overlay0.bad-1'), 'utf8'), 'from an earlier start');
  t.notOk(existsSync(path.join(directory, '.overlay9.1-1.tmp')), 'what a crash left is removed');
  const later = (await load(directory)).bad;
  t.equal(later.length, 9, 'each is told of until somebody has looked at it');
  t.match(later.at(-1), { name: 'overlay0', message: /set aside as overlay0\.bad-2: mend it/ });
});

t.test('a snapshot keeps what overlays know for the next process', async (t) => {
  const directory = await openDirectory(newDirectory(t));
  const rows: readonly TargetEntry[] = [
    { mac: 0x020000000001, state: 'valid', to: [endpoint('10.0.0.2'), endpoint('10.0.0.3')] },
    { mac: 0x020000000002, state: 'valid', to: [endpoint('10.0.0.1')] },
    { mac: 0x020000000003, state: 'valid', to: [endpoint('fd00::1')] },
  ];
  const peers = [endpoint('10.0.0.2').ip];
  const datapath = { recentTargets: () => Promise.resolve(rows), namedPeers: peers };
  const mac = 0x0200000000aa;
  const ports = [['foo0', { mtuBytes: 1450, allowedIps: peers }]] as const;
  const overlay = (name: string, more: Partial<Snapshotted> = {}): Snapshotted => {
    const rest = { mac, mode: 'dynamic', destination: undefined, portSnapshots: () => ports } as const;
    return { name, datapath, ...rest, ...more };
  };
  const pointed = overlay('overlay1', { mode: 'point', destination: endpoint('10.0.0.9') });
  await Snapshot.empty().save(directory, [overlay('overlay0'), pointed], [], 1_000_000);
  const listen = endpoint('10.0.0.1');
  const warnings: string[] = [];
  const log = { warn: (_kind: string, text: string) => warnings.push(text) };
  const loaded = (nowMs: number) => Snapshot.load(directory, nowMs, log);
  const load = async (nowMs: number) => (await loaded(nowMs)).of('overlay0', mac, listen);
  t.match(
    await load(1_030_000),
    { mode: 'dynamic', targets: rows.slice(0, 2).map(({ mac, to }) => ({ mac, to })), peers, isRecent: true },
    'what lives here too; not of another family',
  );
  t.same((await load(1_030_000))?.targets.length, 2);
  t.same([...((await load(1_030_000))?.ports ?? [])], ports);
  t.equal((await load(1_061_000))?.isRecent, false, 'old targets are for want of better ones');
  t.equal((await load(999_000))?.isRecent, false, 'a clock that was set back');
  const next = await loaded(1_000_001);
  t.match(next.of('overlay1', mac, listen), {
    mode: 'point',
    destination: endpoint('10.0.0.9'),
    targets: [],
  });
  t.equal(next.of('overlay2', mac, listen), undefined);
  await next.save(directory, [overlay('overlay2')], ['overlay0', 'overlay2'], 1_010_000);
  const last = await loaded(1_010_001);
  t.match(
    last.of('overlay0', mac, listen),
    { mode: 'dynamic', peers },
    'of one that did not run, what was known',
  );
  t.equal(last.of('overlay1', mac, listen), undefined, 'nothing of one that is gone');
  t.equal(last.of('overlay0', 0x0200000000ab, listen), undefined, 'another overlay of that name');
  t.ok(last.hasRecent('overlay2', mac));
  t.notOk(last.hasRecent('overlay2', 0x0200000000ab));

  const file = directory.path('snapshot');
  t.same(warnings.splice(0), []);
  chmodSync(file, 0o666);
  t.equal(await load(1_000_001), undefined, 'others could have written it');
  chmodSync(file, 0o600);
  t.match(warnings.splice(0), [
    /^the snapshot is not usable, so the plugins are asked again: snapshot: it is writable by/,
  ]);
  const good = readFileSync(file, 'utf8');
  const bad: [text: string, why: RegExp][] = [
    ['', /it is not JSON$/],
    ['{', /it is not JSON$/],
    ['null', /it has no known version, and this varpd reads version 2$/],
    ['{"version":2}', /it does not say when it was saved$/],
    ['[]', /it has no known version/],
    [good.replace('"version":2', '"version":3'), /it has version 3, and this varpd reads version 2$/],
    [good.replace('"mode":"dynamic"', '"mode":"x"'), /it is not valid at overlays\.0\.1\.mode$/],
  ];
  for (const [text, why] of bad) {
    writeFileSync(file, text);
    t.equal(await load(1_000_001), undefined, text.slice(0, 20));
    t.match(warnings.splice(0), [why]);
  }
  rmSync(file);
  t.equal(await load(1_000_001), undefined);
  t.same(warnings, [], 'one that is not there is no trouble');
  writeFileSync(file, good.replaceAll('"10.0.0.2', '"x'));
  t.match(await load(1_010_001), { targets: [], peers: [] }, 'what is no address is left out');

  writeFileSync(file, good);
  const fresh = await loaded(1_010_001);
  await fresh.forget('overlay0');
  for (const one of [fresh, await loaded(1_010_001)]) {
    t.equal(one.of('overlay0', mac, listen), undefined, 'one that has become another network');
    t.ok(one.hasRecent('overlay2', mac), 'and no other');
  }
});

t.test('the time for which a target may be used goes on over a restart', async (t) => {
  const directory = await openDirectory(newDirectory(t));
  const mac = 0x0200000000aa;
  const listen = endpoint('10.0.0.1');
  const to = [endpoint('10.0.0.2')];
  const times = { ageMs: 0, idleMs: 0, isStale: false };
  const rows: readonly TargetEntry[] = [
    { mac: 1, state: 'valid', to, facts: { ...times, origin: 'plugin', ttlMs: 5000, staleMs: 30_000 } },
    { mac: 2, state: 'valid', to, facts: { ...times, origin: 'plugin', ttlMs: 5000, staleMs: undefined } },
    { mac: 3, state: 'valid', to, facts: { ...times, origin: 'plugin', ttlMs: 0, staleMs: 10_000 } },
  ];
  const datapath = { recentTargets: () => Promise.resolve(rows), namedPeers: [] };
  const rest = { mac, mode: 'dynamic', destination: undefined, portSnapshots: () => [] } as const;
  await Snapshot.empty().save(directory, [{ name: 'overlay0', datapath, ...rest }], [], 1_000_000);
  const warnings: string[] = [];
  const log = { warn: (_kind: string, text: string) => warnings.push(text) };
  const targets = async (nowMs: number) =>
    (await Snapshot.load(directory, nowMs, log)).of('overlay0', mac, listen)?.targets;
  t.same(await targets(1_004_000), [
    { mac: 1, to, staleMs: 31_000 },
    { mac: 2, to },
    { mac: 3, to, staleMs: 6000 },
  ]);
  t.same(
    await targets(1_036_000),
    [{ mac: 2, to }],
    'that of the others is over: only a target without staleMs is kept for want of a better one',
  );
  // As a varpd wrote it that knew no such times.
  const older = {
    version: 2,
    savedAtMs: 1_000_000,
    overlays: [
      [
        'overlay0',
        {
          mac: formatMac(mac),
          mode: 'dynamic',
          destination: null,
          peers: [],
          ports: [],
          targets: [['02:00:00:00:00:01', ['10.0.0.2:4789']]],
        },
      ],
    ],
  };
  writeFileSync(directory.path('snapshot'), JSON.stringify(older));
  t.same(await targets(1_004_000), [{ mac: 0x020000000001, to }]);
  t.same(warnings, []);
});

/** Counts the calls that change the disk; lets one fail, or everything from one on, as a crash would. */
function failing(at: number, how: 'once' | 'from then on', code = 'ENOSPC'): StateFiles & { count: number } {
  const step = async <T>(work: () => Promise<T>): Promise<T> => {
    files.count++;
    if (how === 'once' ? files.count === at : files.count >= at)
      throw systemError(code, 'no space left on device');
    return work();
  };
  const files = {
    count: 0,
    open: (file: string, flags: number, mode?: number) =>
      step(async () => {
        const handle = await open(file, flags, mode);
        return {
          writeFile: (data: string) => step(() => handle.writeFile(data)),
          sync: () => step(() => handle.sync()),
          close: () => handle.close(),
        };
      }),
    rename: (from: string, to: string) => step(() => rename(from, to)),
    unlink: (file: string) => step(() => unlink(file)),
  };
  return files;
}

t.test('a failure at any step leaves the old state, and a crash the old or the new one', async (t) => {
  for (const how of ['once', 'from then on'] as const) {
    for (let at = 1; at <= 4; at++) {
      const directory = newDirectory(t);
      await (await load(directory)).save(OVERLAY);
      const store = await load(directory, failing(at, how));
      await t.rejects(
        store.save(CHANGED),
        { code: 'IO', message: /cannot save overlay0: no space left/ },
        `${how} ${at}`,
      );
      t.match(store.overlays.get('overlay0'), OVERLAY);
      const after = await load(directory);
      t.match(after.overlays.get('overlay0'), OVERLAY);
      t.same(after.bad, []);
      t.same(readdirSync(directory), ['overlay0.json']);
    }
  }
});

t.test('a rename is done or not at any step', async (t) => {
  const RENAMED: StoredOverlay = { ...OVERLAY, name: 'tenant0' };
  for (const how of ['once', 'from then on'] as const)
    for (let at = 1; at <= 5; at++) {
      const directory = newDirectory(t);
      await (await load(directory)).save(OVERLAY);
      const store = await load(directory, failing(at, how));
      await t.rejects(store.rename('overlay0', 'tenant0'), {
        message: /: cannot rename overlay0: no space left/,
      });
      t.same([...store.overlays.keys()], ['overlay0']);
      // A crash cannot take the first step back.
      const is = how === 'once' || at === 1 ? OVERLAY : RENAMED;
      const { reasons, overlays } = await checkStateFiles(await openDirectory(directory));
      t.match({ reasons, overlays }, { reasons: [], overlays: [is] }, `${how} ${at}`);
      const after = await load(directory);
      t.match([...after.overlays], [[is.name, is]]);
      t.same(after.bad, []);
      t.same(readdirSync(directory), [`${is.name}.json`]);
    }
  const directory = newDirectory(t);
  const store = await load(directory);
  await store.save(OVERLAY);
  await store.rename('overlay0', 'tenant0');
  await store.rename('overlay0', 'none0');
  t.match([...store.overlays], [['tenant0', RENAMED]]);
  t.match([...(await load(directory)).overlays], [['tenant0', RENAMED]]);
});

t.test('it is written though every thread of the pool hangs', async (t) => {
  const directory = newDirectory(t);
  const store = await load(directory);
  const fifo = path.join(path.dirname(directory), 'fifo');
  execFileSync('mkfifo', [fifo]);
  // Each waits for somebody who writes.
  const hanging = Array.from({ length: 64 }, () => open(fifo, 'r'));
  let isPoolFree = false;
  const asked = stat(directory).then(() => (isPoolFree = true));
  await store.save(OVERLAY);
  await store.save(CHANGED);
  await store.remove('overlay0');
  t.notOk(isPoolFree, 'the pool hangs');
  t.same(readdirSync(directory), []);
  const writer = openSync(fifo, 'r+');
  for (const handle of await Promise.all(hanging)) await handle.close();
  closeSync(writer);
  await asked;
});

t.test('a new overlay that cannot be saved leaves no file', async (t) => {
  for (let at = 1; at <= 4; at++) {
    const directory = newDirectory(t);
    await t.rejects((await load(directory, failing(at, 'once'))).save(OVERLAY));
    t.same(readdirSync(directory), []);
  }
});

t.test('an overlay that cannot be removed is still there', async (t) => {
  const directory = newDirectory(t);
  await (await load(directory)).save(OVERLAY);
  const store = await load(directory, failing(1, 'once', 'EROFS'));
  await t.rejects(store.remove('overlay0'), { code: 'IO' });
  t.ok(store.overlays.has('overlay0'));
});
