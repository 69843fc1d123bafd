// Every cell of the table in docs/restart.md: each trouble with each way to restart. One varpd a way carries the troubles of
// single overlays, an overlay each; what keeps varpd itself from running comes after that, one after another.
// To try some of it alone: VARPD_TEST_WAY is a column, VARPD_TEST_ROWS a pattern of rows.
import { statSync } from 'node:fs';

import t, { type Test } from 'tap';

import type { Call } from '../../src/control/client.js';

import { counted } from '../../src/model/sentences.js';
import { Daemon, VARPD_MAIN } from '../helpers/daemon.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { succeeds, waitUntil } from '../helpers/process.js';
import { SYSTEMD } from '../helpers/systemd.js';
import {
  type Case,
  judge,
  judgeDaemon,
  judgeMended,
  lookAt,
  pictureOf,
  whenSettled,
} from './restart/judge.js';
import { type Hosts, Place } from './restart/places.js';
import { type Column, COLUMNS, readTable, type Word } from './restart/table.js';
import { DAEMON_TROUBLES, plainRow, SOCKET_ROW, TROUBLES, tune, TUN_ROW } from './restart/troubles.js';
import { type Outcome, type Way, WAYS } from './restart/ways.js';

const table = readTable();

await t.test('the table and the troubles that are tried are the same', async (t) => {
  const tried = [...TROUBLES, ...DAEMON_TROUBLES, { row: TUN_ROW }, { row: SOCKET_ROW }].map(({ row }) =>
    plainRow(row),
  );
  t.same([...table.keys()].sort(), tried.sort());
});

const wordOf = (row: string, column: Column): Word => {
  const word = table.get(plainRow(row))?.[column];
  if (word === undefined) throw new Error(`docs/restart.md has no row: ${row}`);
  return word;
};

/** Some at a time: each pings, and there are many. */
async function inTurns<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...all];
  const worker = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: 10 }, worker));
}

/** What a cell says is true, or else what is wrong. */
async function check(
  t: Test,
  label: string,
  judged: Promise<readonly string[]> | readonly string[],
): Promise<void> {
  const problems = await Promise.resolve(judged).catch((error: unknown) => [String(error)]);
  if (problems.length === 0) t.pass(label);
  else t.fail(label, { problems, stack: '', source: '', at: null });
}

/** The user of the service may read the project. */
const mayRead = (): false | string =>
  (statSync(VARPD_MAIN).mode & 0o004) === 0 ? 'needs a clone that every user can read' : false;

const wantedWay = process.env['VARPD_TEST_WAY'];
const wantedRows = new RegExp(process.env['VARPD_TEST_ROWS'] ?? '');
for (const column of COLUMNS.filter((name) => wantedWay === undefined || name === wantedWay)) {
  const isService = column === 'systemctl restart' || column === 'crash of the service';
  const skip =
    skipUnlessNetns(['ethtool', 'tc', 'nsenter', 'unshare']) ||
    (isService && (skipUnless({ files: [SYSTEMD], programs: ['systemctl', 'useradd'] }) || mayRead()));
  await t.test(column, { skip }, (t) => runWay(t, column));
}

async function runWay(t: Test, column: Column): Promise<void> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const hosts: Hosts = { a, b, inside: await bed.host() };
  const way = await WAYS[column](bed, a);
  if (typeof way === 'string') {
    await t.test('it runs', { skip: way }, () => undefined);
    return;
  }
  t.teardown(async () => {
    if (!t.passing()) t.comment(way.log);
    await way.end();
  });

  const cases = makeCases(hosts, way);
  for (const { place } of cases) if (place.options.search === 'plugin') place.writePlugin(way);
  await way.begin();
  // What the kernel may lack is on another varpd, which is not restarted.
  const isKernels = cases.every(({ place }) => place.encap === 'vxlan');
  const peer = isKernels ? undefined : (await Daemon.start(bed, b)).explain(t);
  await setUp(cases, way, peer?.call);
  if (!(await ownTroubles(t, cases, way, column))) return;
  await tunMissing(t, cases, way, column);
  await daemonTroubles(t, cases, way, column);
}

function makeCases(hosts: Hosts, way: Way): Case[] {
  let number = 0;
  const some = TROUBLES.filter(({ row }) => row === 'nothing' || wantedRows.test(row));
  return some.flatMap((trouble) =>
    trouble.variants.map((variant) => {
      const place = new Place(hosts, ++number, variant);
      const label = variant.label === undefined ? trouble.row : `${trouble.row} (${variant.label})`;
      return { place, way, trouble, variant, label, before: undefined };
    }),
  );
}

/** Every overlay works. */
async function setUp(cases: readonly Case[], way: Way, peer: Call | undefined): Promise<void> {
  const { a } = cases[0].place.hosts;
  for (const { place } of cases) await place.create(way.call, way, peer);
  const seen = await lookAt([a]);
  for (const { place } of cases) {
    const { own, vnic } = pictureOf(place, seen);
    if (own === undefined || vnic === undefined)
      throw new Error(`${place.overlay} or ${place.vnic} is not there`);
    place.fresh = { own, vnic };
  }
  await inTurns(cases, ({ place }) => place.plumb());
  await inTurns(cases, async ({ place, label }) => {
    const reached = await place.reaches();
    if (reached.length < 2)
      throw new Error(`${label}: ${place.overlay} reaches its peer by: ${reached.join()}`);
  });
}

/** All at once, in one restart. False when varpd did not live through it. */
async function ownTroubles(t: Test, cases: readonly Case[], way: Way, column: Column): Promise<boolean> {
  const { a, inside } = cases[0].place.hosts;
  for (const one of cases) {
    if (one.variant.tuned === true) await tune(one);
    await one.trouble.make?.(one);
  }
  const before = await lookAt([a, inside]);
  for (const one of cases) {
    one.before = pictureOf(one.place, before);
    if (one.place.at.vnicHost === inside) one.foreign = before(a).get(one.place.vnic);
  }
  const loggedBefore = way.log.length;
  const outcome = await way.restart({
    between: async () => {
      for (const one of cases) await one.trouble.between?.(one);
      if (column === 'dladm restart') await standIn(t, cases);
    },
  });
  t.comment(`${column}: exit status ${outcome.code}`);
  if (!way.isRunning) {
    t.fail('varpd runs', { problems: outcome.text, stack: '', source: '', at: null });
    return false;
  }
  await whenSettled(way);
  const after = await lookAt([a, inside]);
  await inTurns(cases, async (one) => {
    const word = wordOf(one.trouble.row, column);
    await check(t, `${one.label}: ${word}`, judge(one, word, after));
  });

  // What takes long to be tried is said when varpd has answered already.
  const said = outcome.text + (column === 'dladm restart' ? '' : way.log.slice(loggedBefore));
  await checkWords(t, cases, column, { ...outcome, text: said });
  await checkStatus(t, cases, way, column);
  await inTurns(cases, async (one) => {
    const word = wordOf(one.trouble.row, column);
    const mended = async (): Promise<string[]> => {
      await one.trouble.mend?.(one);
      return judgeMended(one, word);
    };
    await check(t, `${one.label}: ${word}: mended`, mended());
  });
  return true;
}

/** While the next process is held up, the stand-in moves the frames of an overlay that nothing is the matter with. */
async function standIn(t: Test, cases: readonly Case[]): Promise<void> {
  const well = cases.filter(({ trouble }) => trouble.row === 'nothing');
  await inTurns(well, async ({ label, place }) => {
    t.strictSame(await place.reaches(), ['vnic', 'own'], `${label}: the stand-in moves frames`);
  });
}

/** What the operator is told at once. */
async function checkWords(
  t: Test,
  cases: readonly Case[],
  column: Column,
  { code, text }: Outcome,
): Promise<void> {
  const labels = (some: readonly Case[]): string[] => some.map(({ label }) => label);
  const isSaid = (one: Case): boolean => (one.trouble.reason?.(one) ?? /^/).test(text);
  const are = (what: RegExp): Case[] => cases.filter(({ trouble }) => what.test(wordOf(trouble.row, column)));
  if (column !== 'dladm restart') {
    t.equal(code, 0, 'it runs');
    const silent = are(/OFFLINE/).filter((one) => !isSaid(one));
    await check(t, 'what is OFFLINE is said, with its reason', labels(silent));
    return;
  }
  const troubled = are(/OFFLINE|DEGRADED/);
  t.equal(code, troubled.length > 0 ? 1 : 0, 'dladm says by its exit status whether something is not well');
  const silent = troubled.filter((one) => !isSaid(one));
  await check(t, 'dladm says what is not well, with its reason', labels(silent));
  const well = are(/^[^,]*$/).filter(({ place }) => new RegExp(`\\b${place.overlay}\\b`).test(text));
  await check(t, 'and nothing of what is', labels(well));
}

/** What `systemctl status` shows: how many are up, and what is not. */
async function checkStatus(t: Test, cases: readonly Case[], way: Way, column: Column): Promise<void> {
  const offline = cases.filter(({ trouble }) => /OFFLINE/.test(wordOf(trouble.row, column)));
  const forgotten = cases.filter(({ trouble }) => wordOf(trouble.row, column) === 'VNIC forgotten');
  const up = cases.length - offline.length;
  const says = new RegExp(
    `^${counted(up, 'overlay')} and ${counted(up - forgotten.length, 'VNIC')} are up${offline.length > 0 ? '; OFFLINE: ' : '$'}`,
  );
  let seen: string | undefined;
  const isSaid = async (): Promise<boolean> => says.test((seen = await way.statusText()) ?? '');
  if ((await way.statusText()) === undefined) return;
  const isRight = await succeeds(waitUntil(isSaid, { what: 'the status' }));
  t.ok(isRight, `the status of the service says what is up: ${seen}`);
}

async function tunMissing(t: Test, cases: readonly Case[], way: Way, column: Column): Promise<void> {
  const word = wordOf(TUN_ROW, column);
  const trouble = { row: TUN_ROW, variants: [], mend: () => way.makeTun(), reason: () => /\/dev\/net\/tun/ };
  const some = cases.filter((one) => one.trouble.row === 'nothing').map((one) => ({ ...one, trouble }));
  const { a } = some[0].place.hosts;
  const before = await lookAt([a]);
  for (const one of some) one.before = pictureOf(one.place, before);
  await way.removeTun();
  const outcome = await way.restart();
  t.comment(`without /dev/net/tun: exit status ${outcome.code}`);
  await whenSettled(way);
  const after = await lookAt([a]);
  for (const one of some) await check(t, `${TUN_ROW}, ${one.label}: ${word}`, judge(one, word, after));
  await way.makeTun();
  for (const one of some) await check(t, `${TUN_ROW}, ${one.label}: ${word}: mended`, judgeMended(one, word));
}

async function daemonTroubles(t: Test, cases: readonly Case[], way: Way, column: Column): Promise<void> {
  const [one] = cases;
  const { a } = one.place.hosts;
  for (const trouble of DAEMON_TROUBLES) {
    const word = wordOf(trouble.row, column);
    await check(t, `${trouble.row}: ${word}`, judgeDaemon(one, trouble, word));
  }

  const word = wordOf(SOCKET_ROW, column);
  one.before = pictureOf(one.place, await lookAt([a], one.place));
  const socket = way.socket.replace(/[^/]*$/, 'other.sock');
  way.configure({ socket });
  const { code, text } = await way.restart({ socket });
  t.equal(code, 0, `socket changed: ${text}`);
  await whenSettled(way);
  const moved = { ...one, trouble: { row: SOCKET_ROW, variants: [] } };
  await check(t, `${SOCKET_ROW}: ${word}`, judge(moved, word, await lookAt([a])));
}
