// Each question with the ways and policies that it is put to, and its table.
import { table } from '../bench/report/tables.js';
import { CAREFUL, IN_STEP, type Policy } from './client.js';
import { memory } from './questions/memory.js';
import { moves } from './questions/moves.js';
import { outage } from './questions/outage.js';
import { rack } from './questions/rack.js';
import { AT_ONCE, rolling, ROLLING, type RollingTerms } from './questions/rolling.js';
import { start } from './questions/start.js';
import type { Question } from './settings.js';
import type { SiteTerms } from './site.js';
import { storeFor } from './store.js';
import { type WayName, WAYS } from './ways.js';

export interface Answered {
  readonly question: Question;
  readonly title: string;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly text: string;
}

export interface Scale {
  readonly hosts: number;
  readonly macs: number;
  readonly seed: number;
}

/** How long an answer holds in the way `lookup`. */
const TTL_MS = 30_000;

const site = (scale: Scale, way: WayName, policy: Policy = CAREFUL, hasDisk = false): SiteTerms => ({
  ...scale,
  store: storeFor(scale.hosts),
  way: { way, policy, ttlMs: TTL_MS, hasDisk },
});

const number = (value: number, digits = 0): string =>
  Number.isFinite(value) ? value.toLocaleString('en', { maximumFractionDigits: digits }) : '-';
const time = (ms: number): string => {
  if (!Number.isFinite(ms)) return '-';
  return ms < 1000 ? `${number(ms, ms < 10 ? 1 : 0)} ms` : `${number(ms / 1000, 1)} s`;
};
const seconds = (value: number): string => time(value * 1000);

/** Columns of a table: a heading, and the text of a row. */
type Columns<Row> = Readonly<Record<string, (row: Row) => string>>;

function answered<Row extends object>(
  question: Question,
  title: string,
  rows: readonly Row[],
  columns: Columns<Row>,
): Answered {
  const heads = Object.keys(columns);
  const cells = rows.map((row) => heads.map((head) => columns[head](row)));
  return {
    question,
    title,
    rows: rows as readonly Readonly<Record<string, unknown>>[],
    text: table([heads, ...cells]),
  };
}

async function each<Case extends object, Result extends object>(
  cases: readonly Case[],
  work: (one: Case) => Promise<Result>,
): Promise<(Case & Result)[]> {
  const rows: (Case & Result)[] = [];
  for (const one of cases) rows.push({ ...one, ...(await work(one)) });
  return rows;
}

interface Case {
  readonly way: WayName;
  readonly policy: Policy;
  /** Rows of the last session are on the disk. */
  readonly disk?: boolean;
  readonly pace?: RollingTerms;
}

const names = (policy: Policy): string => policy.name;
/** The same with a client that knows no back-off, and with one that does. */
const withBoth = (way: WayName): Case[] => [
  { way, policy: IN_STEP },
  { way, policy: CAREFUL },
];

const QUESTIONS: Readonly<Record<Question, (scale: Scale) => Promise<Answered>>> = {
  moves: async (scale) => {
    const rows = await each(
      WAYS.map((way) => ({ way })),
      ({ way }) => moves(site(scale, way, CAREFUL, true)),
    );
    return answered('moves', 'A MAC moves: until frames arrive at its new host', rows, {
      way: ({ way }) => way,
      flows: ({ flows }) => number(flows),
      p50: ({ p50Ms }) => time(p50Ms),
      p99: ({ p99Ms }) => time(p99Ms),
      longest: ({ maxMs }) => time(maxMs),
      never: ({ lost }) => number(lost),
      'lookups/s': ({ lookupsASecond }) => number(lookupsASecond),
      'messages/s': ({ pushesASecond }) => number(pushesASecond),
    });
  },
  start: async (scale) => {
    const cases: readonly Case[] = [
      ...withBoth('lookup'),
      ...withBoth('watch'),
      { way: 'snapshot', policy: CAREFUL, disk: false },
      { way: 'snapshot', policy: CAREFUL, disk: true },
    ];
    const rows = await each(cases, ({ way, policy, disk }) => start(site(scale, way, policy, disk)));
    return answered('start', 'All hosts get their power at once', rows, {
      way: ({ way, disk }) => (disk === true ? `${way}, rows on disk` : way),
      client: ({ policy }) => names(policy),
      flows: ({ flows }) => number(flows),
      lookups: ({ lookups }) => number(lookups),
      'most/s': ({ peakLookups }) => number(peakLookups),
      'connects, most/s': ({ peakConnects }) => number(peakConnects),
      refused: ({ refused }) => number(refused),
      wasted: ({ wasted }) => number(wasted),
      GB: ({ gigabytes }) => number(gigabytes, 1),
      'first frame p50': ({ p50Ms }) => time(p50Ms),
      p99: ({ p99Ms }) => time(p99Ms),
      'all served': ({ allSeconds }) => seconds(allSeconds),
      unserved: ({ unserved }) => number(unserved),
    });
  },
  outage: async (scale) => {
    const cases: readonly Case[] = [
      { way: 'lookup', policy: CAREFUL },
      ...withBoth('watch'),
      { way: 'snapshot', policy: CAREFUL },
    ];
    const rows = await each(cases, ({ way, policy }) => outage(site(scale, way, policy, true)));
    return answered('outage', 'The store is away for 30 s', rows, {
      way: ({ way }) => way,
      client: ({ policy }) => names(policy),
      streams: ({ hosts }) => number(hosts),
      'frames of known flows': ({ sent }) => number(sent),
      lost: ({ lost }) => number(lost),
      'attempts while away': ({ attemptsAway }) => number(attemptsAway),
      'most/s': ({ peakAway }) => number(peakAway),
      'after return, most/s': ({ peakConnects }) => number(peakConnects),
      refused: ({ refused }) => number(refused),
      'half back': ({ halfSeconds }) => seconds(halfSeconds),
      'all back': ({ allSeconds }) => seconds(allSeconds),
    });
  },
  rack: async (scale) => {
    const ways: readonly WayName[] = ['lookup', 'watch'];
    const rows = await each(
      ways.map((way) => ({ way })),
      ({ way }) => rack(site(scale, way)),
    );
    return answered('rack', 'A rack of 40 hosts fails, and its stations start elsewhere within 30 s', rows, {
      way: ({ way }) => way,
      stations: ({ stations }) => number(stations),
      flows: ({ flows }) => number(flows),
      'writes, most/s': ({ peakWrites }) => number(peakWrites),
      'lookups, most/s': ({ peakLookups }) => number(peakLookups),
      'messages, most/s': ({ peakPushes }) => number(peakPushes),
      'found p50': ({ p50Ms }) => time(p50Ms),
      p99: ({ p99Ms }) => time(p99Ms),
      never: ({ unserved }) => number(unserved),
    });
  },
  rolling: async (scale) => {
    const cases: readonly Case[] = [
      { way: 'watch', pace: ROLLING, policy: CAREFUL },
      { way: 'watch', pace: AT_ONCE, policy: CAREFUL },
      { way: 'snapshot', pace: ROLLING, policy: CAREFUL },
    ];
    const rows = await each(cases, ({ way, pace, policy }) => rolling(site(scale, way, policy, true), pace));
    return answered('rolling', 'varpd restarts on every host', rows, {
      way: ({ way }) => way,
      within: ({ pace }) => time(pace!.overMs),
      lookups: ({ lookups }) => number(lookups),
      'most/s': ({ peakLookups }) => number(peakLookups),
      'connects, most/s': ({ peakConnects }) => number(peakConnects),
      refused: ({ refused }) => number(refused),
      frames: ({ sent }) => number(sent),
      lost: ({ lost }) => number(lost),
      'last question after': ({ lastSeconds }) => seconds(lastSeconds),
    });
  },
  memory: async (scale) => {
    const rows = await memory(site({ ...scale, hosts: 1000 }, 'watch'));
    return answered('memory', 'Memory of one host by targets in use', rows, {
      targets: ({ targets }) => number(targets),
      'KiB a host': ({ kibAHost }) => number(kibAHost),
      'bytes a target more': ({ bytesATarget }) => number(bytesATarget),
    });
  },
};

export const answer = (question: Question, scale: Scale): Promise<Answered> => QUESTIONS[question](scale);
