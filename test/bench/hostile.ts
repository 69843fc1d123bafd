// What a guest that does its worst costs the others of its host: each attack at full speed, all protections on, while VNICs of
// another overlay and the guest's neighbours ping each other. The bounds are those that hold for another overlay.
//
// Once as varpd is started, and once with a niceness of -10: where processors are few, whoever waits for one waits for a slice of
// a guest that never stops, unless varpd goes before it.
import { setTimeout as sleep } from 'node:timers/promises';

import { ATTACKS, attack, hostileBed, type Hostile, type UnderAttack } from '../helpers/hostile.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { ping } from '../helpers/traffic.js';
import { median, quantile } from './report/statistics.js';
import { writeResults } from './results.js';

const INTERVAL_MS = 4;
const RAMP_MS = 500;
/** An attack lasts as long as pings that are late, but not for ever. */
const MORE_SECONDS = 60;
/** Of another overlay. */
const BOUNDS = { p99Us: 5000, lostShare: 0.001 } as const;

interface Effect {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly lostShare: number;
}

interface Row {
  readonly attack: string;
  /** As they are on a wire, a second, taken from the guest. */
  readonly framesPerSecond: number;
  readonly other: Effect;
  readonly neighbour: Effect;
}

async function effect(from: Namespace, to: string, count: number): Promise<Effect> {
  const { rttUs, sent } = await ping(from, to, { count, intervalMs: INTERVAL_MS, waitMs: 5000 });
  if (rttUs.length === 0) return { p50Us: Infinity, p99Us: Infinity, lostShare: 1 };
  return { p50Us: median(rttUs), p99Us: quantile(rttUs, 0.99), lostShare: 1 - rttUs.length / sent };
}

async function measure(site: Hostile, name: string, seconds: number, guest?: UnderAttack): Promise<Row> {
  const frames = async (): Promise<number> => (await guest?.framesOfGuest()) ?? 0;
  const [before, startedMs] = [await frames(), performance.now()];
  const count = Math.ceil((seconds * 1000) / INTERVAL_MS);
  // One after the other: pings beside pings would wait for each other.
  const other = await effect(site.other, site.peers.other, count);
  const neighbour = await effect(site.neighbour, site.peers.neighbour, count);
  const framesPerSecond = ((await frames()) - before) / ((performance.now() - startedMs) / 1000);
  return { attack: name, framesPerSecond, other, neighbour };
}

const ms = (us: number): string => (us === Infinity ? '-' : (us / 1000).toFixed(2));
const percent = (share: number): string => (100 * share).toFixed(2);
const cells = ({ p50Us, p99Us, lostShare }: Effect): string[] => [ms(p50Us), ms(p99Us), percent(lostShare)];
const isWithin = ({ other }: Row): boolean =>
  other.p99Us < BOUNDS.p99Us && other.lostShare < BOUNDS.lostShare;

function table(rows: readonly Row[]): string {
  const head = [
    'attack',
    'taken, 1,000/s',
    'other overlay p50 ms',
    'p99 ms',
    'lost %',
    'neighbour p50 ms',
    'p99 ms',
    'lost %',
    '',
  ];
  const lines = rows.map((row) => [
    row.attack,
    (row.framesPerSecond / 1000).toFixed(0),
    ...cells(row.other),
    ...cells(row.neighbour),
    isWithin(row) ? '' : 'ABOVE',
  ]);
  return [head, head.map(() => '---'), ...lines].map((line) => `| ${line.join(' | ')} |`).join('\n');
}

const NICENESSES = [0, -10] as const;

/** False where another overlay feels more than it may. */
export async function measureHostile(seconds: number): Promise<boolean> {
  const all = [];
  for (const niceness of NICENESSES) all.push({ niceness, rows: await measureAll(seconds, niceness) });
  const tables = all.map(({ niceness, rows }) => `varpd with niceness ${niceness}\n\n${table(rows)}\n`);
  const text = `${tables.join('\n')}\nOf another overlay: p99 below ${BOUNDS.p99Us / 1000} ms, less than ${100 * BOUNDS.lostShare} % lost.`;
  console.log(text);
  await writeResults('hostile', { json: { seconds, all }, md: text });
  return all.every(({ rows }) => rows.every(isWithin));
}

async function measureAll(seconds: number, niceness: number): Promise<Row[]> {
  const bed = new Bed();
  try {
    const site = await hostileBed(bed, { before: `renice -n ${niceness} -p $$ > /dev/null` });
    const rows = [await measure(site, 'nothing', seconds)];
    for (const kind of ATTACKS) {
      const guest = await attack(site, kind, 6 * seconds + MORE_SECONDS);
      await sleep(RAMP_MS);
      rows.push(await measure(site, kind, seconds, guest));
      await guest.end();
    }
    return rows;
  } finally {
    await bed.cleanup();
  }
}
