// Plugins that do all that a program can do wrong (bad-plugins.ts), each beside an overlay that must not notice.
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';

import { PLUGIN_USER } from '../../../src/daemon/config.js';
import { account } from '../../../src/daemon/process/accounts.js';
import { landlockVersion } from '../../../src/dgram-extra/index.js';
import type { Daemon } from '../../helpers/daemon.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { run, waitUntil } from '../../helpers/process.js';
import { BAD_PLUGINS, type BadPlugin, writeBadPlugin, writeOtherState } from '../bad-plugins.js';
import { Beside, type Figures, figuresText, manyMacs } from '../beside.js';
import { check, checkTime, type Row } from '../row.js';

/** New MACs and known frames may come so much later than without the bad plugin. */
const MORE_MS = 20;
const COMMAND_MS = 100;
const END_MS = 2000;
/** For a plugin that is ended because it blocks, or is asked until it fails. */
const NOTICE_MS = 60_000;
const LANDLOCK = landlockVersion();

/** Has a frame wait for an answer of the plugin. */
async function provoke(a: Namespace, overlay: string, victim: number): Promise<void> {
  const ip = `10.77.0.${(victim % 250) + 2}`;
  const mac = `2:0:0:0:${(victim >> 8).toString(16)}:${(victim & 255).toString(16)}`;
  await run(['ip', '-n', a.name, 'neigh', 'replace', ip, 'lladdr', mac, 'dev', overlay]);
  await a.run(['ping', '-c', '1', '-W', '0.1', ip]);
}

/** Resolves with what its overlay, or the command that makes it, says of the plugin. */
async function bringUp(a: Namespace, daemon: Daemon, bad: BadPlugin): Promise<string> {
  const name = 'bad0';
  const made = await daemon.dladm(
    ...`create-overlay -e vxlan -s ${bad.name} -v 7 -p vxlan/listen_ip=${a.underlay.v4} ${name}`.split(' '),
  );
  if (bad.isRefused === true) {
    check(made.code !== 0, `${bad.name}: create-overlay fails`);
    return made.stderr;
  }
  check(made.code === 0, `${bad.name}: create-overlay does what it is told: ${made.stderr}`);
  await a.ip(`addr add 10.77.0.1/24 dev ${name}`);
  await a.ip(`link set ${name} up`);
  let victim = 0;
  if (bad.isWell === true) {
    for (; victim < 3; victim++) await provoke(a, name, victim);
    if (LANDLOCK < (bad.staysWellSince ?? Infinity)) return bad.name;
    // Its process was lost with the spawner, if that was killed: then the next question says so.
    for (; victim < 6; victim++) await provoke(a, name, victim);
    const [{ health }] = await daemon.overlays(name);
    check(health.status === 'ONLINE', `${bad.name}: its overlay stays well, and is not: ${health.details}`);
    return bad.name;
  }
  let said = '';
  const isDegraded = async (): Promise<boolean> => {
    await provoke(a, name, victim++);
    const [{ health }] = await daemon.overlays(name);
    if (health.status === 'DEGRADED') said = health.details ?? '';
    return bad.says.test(said);
  };
  await waitUntil(isDegraded, {
    timeoutMs: NOTICE_MS,
    what: `bad0 to say ${bad.says} of a plugin that ${bad.does}`,
  }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; it says '${said}'`, { cause: error });
  });
  return said;
}

function judge(bad: string, figures: Figures, alone: Figures): void {
  const { known, fresh, commands } = figures;
  const text = figuresText(figures);
  check(known.lost === 0, `${bad}: no frame of a known flow is lost: ${text}`);
  check(fresh.lost === 0, `${bad}: every new MAC is found: ${text}`);
  check(commands.lost === 0, `${bad}: every command is answered: ${text}`);
  checkTime(known.p99Ms < alone.known.p99Ms + MORE_MS, `${bad}: known frames in time: ${text}`);
  checkTime(fresh.p99Ms < alone.fresh.p99Ms + MORE_MS, `${bad}: new MACs in time: ${text}`);
  checkTime(commands.p99Ms < COMMAND_MS, `${bad}: commands in time: ${text}`);
}

/** Fails after the last plugin with all that was not so. */
export async function besideAll(bed: Bed, all: readonly BadPlugin[]): Promise<string> {
  const plugins = all.filter(({ since = 0 }) => LANDLOCK >= since);
  const directory = bed.directory();
  const { a, b, daemon } = await manyMacs(bed, [directory], {
    limits: { lookupDeadlineMs: 1000, negativeTtlMs: 1 },
  });
  const beside = await Beside.start(a, b, daemon);
  await beside.take();
  await waitUntil(() => beside.count > 300, { what: 'the time without a bad plugin' });
  const alone = await beside.take();
  const file = path.join(daemon.stateDir, 'overlay0.json');
  const other = daemon.pluginState('other');
  writeOtherState(other, account(PLUGIN_USER));
  let worst = { name: 'none', figures: alone };
  const failures: string[] = [];
  const attempt = async (bad: BadPlugin): Promise<void> => {
    const said = await bringUp(a, daemon, bad);
    check(bad.says.test(said), `${bad.name}: '${said.trim()}' has ${bad.says}`);
    const [other] = await daemon.overlays('overlay0');
    check(other.health.status === 'ONLINE', `${bad.name}: the other overlay is not concerned`);
  };
  for (const bad of plugins) {
    writeBadPlugin(directory, bad, { file, pid: daemon.pid, other });
    await attempt(bad).catch((error: unknown) => failures.push((error as Error).message));
    check(daemon.running, [...failures, `${bad.name}: varpd lives`].join('\n'));
    await daemon.dladm('delete-overlay', 'bad0');
    rmSync(path.join(directory, bad.name), { recursive: true });
    const figures = await beside.take();
    try {
      judge(bad.name, figures, alone);
    } catch (error) {
      failures.push((error as Error).message);
    }
    if (figures.fresh.maxMs > worst.figures.fresh.maxMs) worst = { name: bad.name, figures };
  }
  await beside.stop();
  const secret = readFileSync(path.join(other, 'secret'), 'utf8');
  check(secret === 'of another plugin', `the state of another plugin is as it was, not '${secret}'`);
  const startedMs = performance.now();
  await daemon.stop();
  const endMs = performance.now() - startedMs;
  check(failures.length === 0, failures.join('\n'));
  checkTime(endMs < END_MS, `SIGTERM ends varpd within 2 s, not ${Math.round(endMs)} ms`);
  return `${plugins.length} bad plugins; alone ${figuresText(alone)}; worst beside ${worst.name}: ${figuresText(worst.figures)}; ended in ${Math.round(endMs)} ms`;
}

/** SIGTERM while each of these is at its worst. */
async function endsBeside(bed: Bed, plugins: readonly BadPlugin[]): Promise<string> {
  const directory = bed.directory();
  const { a, daemon } = await manyMacs(bed, [directory]);
  const tookMs: number[] = [];
  for (const bad of plugins) {
    writeBadPlugin(directory, bad, { file: '/nonexistent', pid: daemon.pid, other: '/nonexistent' });
    await daemon.ok(
      `create-overlay -t -e vxlan -s ${bad.name} -v 7 -p vxlan/listen_ip=${a.underlay.v4} bad0`,
    );
    await a.ip('addr add 10.77.0.1/24 dev bad0');
    await a.ip('link set bad0 up');
    await provoke(a, 'bad0', 1);
    const startedMs = performance.now();
    const exit = await daemon.stop();
    tookMs.push(Math.round(performance.now() - startedMs));
    check(exit?.code === 0, `${bad.name}: a clean end, not ${JSON.stringify(exit)}`);
    checkTime(
      (tookMs.at(-1) ?? 0) < END_MS,
      `${bad.name}: SIGTERM ends varpd within 2 s: ${tookMs.at(-1)} ms`,
    );
    await daemon.start();
  }
  return `SIGTERM beside ${plugins.length} bad plugins: ${tookMs.join(', ')} ms`;
}

const all: Row = {
  name: 'F16',
  fault: `${BAD_PLUGINS.length} bad plugins beside 100 known frames, 20 new MACs and 10 commands a second`,
  run: (bed) => besideAll(bed, BAD_PLUGINS),
};

const ENDLESS = ['blocks', 'microtasks', 'stays', 'babbles', 'fills-memory', 'never-answers'];
const ends: Row = {
  name: 'F24',
  fault: `SIGTERM while a plugin ${ENDLESS.join(', ')}`,
  run: (bed) =>
    endsBeside(
      bed,
      BAD_PLUGINS.filter(({ name }) => ENDLESS.includes(name)),
    ),
};

/** The part of it that `npm test` has, and has nowhere else. */
const QUICK = BAD_PLUGINS.filter(({ quick }) => quick === true);

export const rogueShortly: Row = {
  ...all,
  fault: `bad plugins: ${QUICK.map(({ name }) => name).join(', ')}`,
  run: (bed) => besideAll(bed, QUICK),
};

export const pluginRows: readonly Row[] = [all, ends];
