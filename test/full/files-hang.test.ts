// Mapping files on a file system that hangs: their own overlays say so, and nothing else waits for them. bindfs is the
// file system, stopped by a signal.
import { existsSync, readdirSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { HangingMount, type HangOptions, skipUnlessFuse } from '../helpers/hanging-mount.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { childrenOf, readersOf } from '../helpers/procfs.js';

const skip = skipUnlessFuse();
const HUNG = ['hung1', 'hung2', 'hung3', 'hung4', 'hung5'];

const mapping = (port: number): object => ({ '02:00:00:00:00:b1': { ip: '10.88.88.70', port } });

interface Site {
  readonly host: Namespace;
  readonly daemon: Daemon;
  readonly mount: HangingMount;
  /** Of the overlay well0, on a file system that does not hang. */
  readonly writeWell: (port: number) => void;
}

/** One overlay for each file on the mount, one with a file elsewhere, and one without any. */
async function site(t: Test, hung: readonly string[], options?: HangOptions): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [host, peer] = await bed.twoHosts();
  const mount = new HangingMount(bed, options);
  const daemon = await Daemon.start(bed, host, { before: mount.before, withoutRoot: true });
  daemon.explain(t);
  const file = path.join(bed.directory(), 'well.json');
  const writeWell = (port: number): void => {
    writeFileSync(`${file}.new`, JSON.stringify(mapping(port)));
    renameSync(`${file}.new`, file);
  };
  writeWell(1);
  await daemon.ok(filesOverlay(host, 'well0', 90, file));
  for (const [index, name] of hung.entries()) {
    mount.write(name, mapping(1));
    await daemon.ok(filesOverlay(host, name, 1 + index, mount.path(name)));
  }
  await daemon.ok(directOverlay({ from: host.underlay.v4, to: peer.underlay.v4, vnetid: 99, name: 'zz0' }));
  return { host, daemon, mount, writeWell };
}

const filesOverlay = ({ underlay }: Namespace, name: string, vnetid: number, file: string): string =>
  `create-overlay -e vxlan -s files -v ${vnetid} -p vxlan/listen_ip=${underlay.v4} -p files/config=${file} ${name}`;

/** `ONLINE hosts.json read again: ...`, by overlay; those that do not run are not there. */
async function health(daemon: Daemon): Promise<Record<string, string>> {
  const overlays = await daemon.overlays();
  return Object.fromEntries(
    overlays.map(({ name, health: { status, details } }) => [name, `${status} ${details ?? ''}`]),
  );
}

/** Until these overlays are well and those are not, each as the pattern says. */
async function until(t: Test, daemon: Daemon, expected: Readonly<Record<string, RegExp>>): Promise<void> {
  const isSo = async (): Promise<boolean> => {
    const now = await health(daemon);
    return Object.entries(expected).every(([name, pattern]) => pattern.test(now[name] ?? ''));
  };
  await waitUntil(isSo, { what: 'it' }).catch(() => undefined);
  t.match(await health(daemon), expected);
}

const each = (names: readonly string[], pattern: RegExp): Record<string, RegExp> =>
  Object.fromEntries(names.map((name) => [name, pattern]));
const silent = (name: string): RegExp =>
  new RegExp(
    `^DEGRADED \\S+/${name} has not answered for \\d+ s: check its file system \\(mount, server, network\\)$`,
  );
const allSilent = (names: readonly string[]): Record<string, RegExp> =>
  Object.fromEntries(names.map((name) => [name, silent(name)]));

await t.test('five files hang: who has none of them goes on', { skip }, async (t) => {
  const { host, daemon, mount, writeWell } = await site(t, HUNG);
  const before = readersOf(daemon.pid);
  t.equal(before.length, 1, 'one process reads the files of all');
  mount.hang();
  await until(t, daemon, { ...allSilent(HUNG), well0: /^ONLINE/, zz0: /^ONLINE/ });
  await daemon.ok('create-vnic -l zz0 foo0');
  await daemon.ok(`create-vnic -l ${HUNG[0]} bar0`);
  writeWell(2);
  await until(t, daemon, { well0: /^ONLINE .*~1 entries/ });

  const reload = await daemon.dladm('reload');
  t.equal(reload.code, 1, 'dladm reload says who was not reloaded');
  for (const name of HUNG) t.match(reload.stderr, `${name} has not answered for`);
  t.notMatch(reload.stderr, 'well0');
  const refused = await daemon.dladm(...filesOverlay(host, 'o6', 6, mount.path('hung6')).split(' '));
  t.equal(refused.code, 7);
  t.match(refused.stderr, /hung6 has not answered for 2 s: check its file system/);
  t.match(refused.stderr, /try again later/);

  // What is silent is asked by a new process now and then, as another file system may have been mounted meanwhile.
  const isAnother = (): boolean => readersOf(daemon.pid).some((pid) => !before.includes(pid));
  await waitUntil(isAnother, { what: 'another process to ask' });
  await until(t, daemon, { ...allSilent(HUNG), well0: /^ONLINE/ });
  mount.write(HUNG[0], mapping(2));
  mount.goOn();
  await until(t, daemon, { ...each(HUNG, /^ONLINE/), [HUNG[0]]: /^ONLINE .*~1 entries/ });

  await daemon.ok('delete-vnic bar0');
  for (const name of [...HUNG, 'well0']) await daemon.ok(`delete-overlay ${name}`);
  t.same(readersOf(daemon.pid), [], 'the last of them takes the process with it');
});

await t.test('one file hangs, for longer than varpd', { skip }, async (t) => {
  const { daemon, mount } = await site(t, ['hung1']);
  mount.hang();
  await until(t, daemon, { hung1: silent('hung1'), well0: /^ONLINE/ });
  await daemon.stop();
  await daemon.start();
  await until(t, daemon, { well0: /^ONLINE/, zz0: /^ONLINE/ });
  t.match(daemon.log(), /hung1 has not answered for 2 s: check its file system/);
  mount.goOn();
  await until(t, daemon, { hung1: /^ONLINE/ });
});

await t.test('a server that does not answer what it was asked: varpd restarts', { skip }, async (t) => {
  const { daemon, mount, writeWell } = await site(t, ['hung1'], { underWay: true });
  mount.hang();
  await until(t, daemon, { hung1: silent('hung1'), well0: /^ONLINE/ });
  await daemon.ok('create-vnic -l zz0 foo0');
  const restarted = await daemon.dladm('restart');
  t.match(restarted.stderr, /hung1: DEGRADED: .*hung1 has not answered for 2 s/);
  await until(t, daemon, { hung1: /^DEGRADED/, well0: /^ONLINE/, zz0: /^ONLINE/ });
  writeWell(2);
  await until(t, daemon, { well0: /^ONLINE .*~1 entries/ });
  mount.goOn();
  await until(t, daemon, { hung1: /^ONLINE/ });
  // The server is one, too, as it is started here.
  const ended = (): number[] => childrenOf(daemon.pid).filter((pid) => !existsSync(`/proc/${pid}/exe`));
  await waitUntil(() => ended().length === 0, { what: 'nothing to be left of those that hung' });
});

await t.test('the process that reads files', { skip }, async (t) => {
  const { daemon, writeWell } = await site(t, []);
  await daemon.ok('create-vnic -l zz0 foo0');
  const held = (pid: number): string[] =>
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return [];
      }
    });
  const only = (): number => {
    const pids = readersOf(daemon.pid);
    t.equal(pids.length, 1, 'is one');
    return pids[0];
  };
  const isHarmless = (pid: number): void => {
    const sockets = held(pid).filter((what) => what.startsWith('socket:'));
    const files = held(pid).filter((what) => what.startsWith('/') && what !== '/dev/null');
    t.equal(sockets.length, 3, 'has three pipes', { held: held(pid) });
    t.same(files, [], 'and neither a TAP nor a file');
  };
  isHarmless(only());
  await daemon.ok('restart');
  const second = only();
  isHarmless(second);

  process.kill(second, 'SIGTERM');
  writeWell(2);
  await until(t, daemon, { well0: /^ONLINE .*~1 entries/ });
  t.equal(only(), second, 'a signal to the whole group is for varpd');
  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    const pid = only();
    process.kill(pid, signal);
    const isReplaced = (): boolean => {
      const pids = readersOf(daemon.pid);
      return pids.length === 1 && pids[0] !== pid;
    };
    await waitUntil(isReplaced, { what: `another one after ${signal}` });
    writeWell(signal === 'SIGKILL' ? 3 : 4);
    await until(t, daemon, { well0: /^ONLINE .*~1 entries/ });
  }

  const last = only();
  await daemon.kill();
  await waitUntil(() => !existsSync(`/proc/${last}`), { what: 'it to end with varpd' });
});
