/** The table of `-s`: everything that overlays or their ports have counted, once or at an interval. */
import { setTimeout as sleep } from 'node:timers/promises';

import { droppedFrameText, durationText } from '../control/drop-text.js';
import type { DropRow, LookupStatistics, OverlayStatistics, PortStatistics } from '../control/messages.js';
import { type DropReason, DROPS } from '../model/drops.js';
import { askPatiently } from './again.js';
import { type Context, UsageError } from './command.js';
import { withRates } from './rates.js';
import {
  chooseFormat,
  formatJson,
  formatJsonLine,
  refuseWithJson,
  readList,
  type ShowArguments,
} from './show.js';
import type { Column } from './table.js';

/** The options that go with the others of a show command. */
export const STATISTICS_OPTIONS = [
  {
    name: 'statistics',
    short: 's',
    about:
      'what was counted: traffic, lookups, and each reason of drops with the last frame that was dropped',
  },
  {
    name: 'interval',
    short: 'i',
    value: 'secs',
    about:
      'with -s: again every so many seconds, until ended or COUNT times; rates are those of the interval',
  },
] as const;

export interface Row {
  readonly link: string;
  readonly counter: string;
  readonly value: number;
  readonly perSecond: number | null;
  readonly details: string;
}

const COLUMNS: readonly Column<Row>[] = [
  { name: 'LINK', width: 11, cell: (row) => row.link },
  { name: 'COUNTER', width: 18, cell: (row) => row.counter },
  { name: 'VALUE', width: 13, cell: (row) => String(row.value) },
  { name: 'RATE', width: 9, cell: (row) => rateText(row.perSecond) },
  { name: 'DETAILS', width: 29, sentence: true, cell: (row) => row.details },
];

type StatisticsArguments = ShowArguments & {
  has(name: 'statistics' | 'interval'): boolean;
  value(name: 'interval'): string | undefined;
};

/** The version of the shapes that `-s --json` prints (docs/overlays.md). */
export const STATISTICS_SHAPE = 1;

/** `rowsOf`: the rows of one overlay. `select`: the members of the JSON beside `v`. */
export interface Selection {
  readonly overlays: readonly string[];
  rowsOf(overlay: OverlayStatistics): readonly Row[];
  select(overlays: readonly OverlayStatistics[]): Readonly<Record<string, unknown>>;
}

/** Throws a UsageError for an interval that is none, and for -i without -s. */
export function readInterval(args: StatisticsArguments): number | undefined {
  const text = args.value('interval');
  if (text === undefined) return undefined;
  if (!args.has('statistics')) throw new UsageError('-i goes with -s');
  return parseInterval(text);
}

/** Throws a UsageError for an interval that is none. */
export function parseInterval(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 86_400))
    throw new UsageError(`interval '${text}': expected 0.1 to 86400 seconds`);
  return seconds;
}

/** With an interval, a number before or behind the names says how often; no link has such a name. */
export function splitCount(
  operands: readonly string[],
  seconds: number | undefined,
): { readonly names: readonly string[]; readonly count: number | undefined } {
  const isCount = (text: string | undefined): boolean => /^[1-9][0-9]{0,8}$/.test(text ?? '');
  if (seconds === undefined) return { names: operands, count: undefined };
  if (isCount(operands.at(-1))) return { names: operands.slice(0, -1), count: Number(operands.at(-1)) };
  if (isCount(operands.at(0))) return { names: operands.slice(1), count: Number(operands[0]) };
  return { names: operands, count: undefined };
}

/** Prints the table, at an interval if there is one. `count`: how often; undefined = until it is ended. */
export async function showStatistics(
  args: StatisticsArguments,
  selection: Selection,
  repeat: { readonly seconds: number; readonly count: number | undefined } | undefined,
  context: Context,
): Promise<void> {
  if (args.has('json')) refuseWithJson(args);
  const format = args.has('json') ? undefined : chooseFormat(args, COLUMNS, context);
  let before: readonly OverlayStatistics[] | undefined;
  let readMs = 0;
  const { seconds = 0, count = repeat === undefined ? 1 : Infinity } = repeat ?? {};
  for (let reading = 0; reading < count; reading++) {
    if (reading > 0) await sleep(seconds * 1000);
    const ask = (): Promise<readonly OverlayStatistics[]> => readOverlays(selection.overlays, context);
    const read = await (reading === 0 ? ask() : askPatiently(ask, context));
    const elapsedSeconds = (performance.now() - readMs) / 1000;
    readMs = performance.now();
    const overlays = before === undefined ? read : withRates(read, before, elapsedSeconds);
    before = read;
    if (format !== undefined) {
      const rows = overlays.flatMap((overlay) => selection.rowsOf(overlay));
      context.print(`${reading > 0 && !args.has('parsable') ? '\n' : ''}${format(rows)}`);
    } else {
      const write = repeat === undefined ? formatJson : formatJsonLine;
      context.print(write({ v: STATISTICS_SHAPE, ...selection.select(overlays) }));
    }
  }
}

async function readOverlays(
  names: readonly string[],
  context: Context,
): Promise<readonly OverlayStatistics[]> {
  const params = names.length > 0 ? { names: [...names] } : {};
  const pages = await readList('failed to get statistics', 'overlay.statistics', params, context);
  return pages.flatMap(({ overlays }) => overlays);
}

/** Counters of the port of a VNIC, with the drops of its link protection. */
export function portRows({ name: link, counters }: PortStatistics): readonly Row[] {
  return counters.map(({ name, value, perSecond }) => {
    const details = Object.hasOwn(DROPS, name) ? DROPS[name as DropReason].about : '-';
    return { link, counter: name, value, perSecond, details };
  });
}

/** Traffic and lookups, then drops: trouble first. */
export function overlayRows({ name: link, counters, lookups, drops }: OverlayStatistics): readonly Row[] {
  const traffic = counters.map(({ name, value, perSecond }) => ({
    link,
    counter: name,
    value,
    perSecond,
    details: name === 'lookups' ? lookupText(lookups) : '-',
  }));
  const isDesign = ({ kind }: DropRow): number => (kind === 'by_design' ? 1 : 0);
  const dropped = [...drops]
    .sort((a, b) => isDesign(a) - isDesign(b)) // stable: else in the order of the documentation
    .map((drop) => ({
      link,
      counter: drop.reason,
      value: drop.frames,
      perSecond: drop.perSecond,
      details: dropText(drop),
    }));
  return [...traffic, ...dropped];
}

export function lookupText({ open, latencyMs }: LookupStatistics): string {
  if (latencyMs === null) return `${open} open`;
  const ms = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  return `answered in ${ms(latencyMs.p50)}, 99 of 100 in ${ms(latencyMs.p99)}, at most ${ms(latencyMs.max)}; ${open} open`;
}

export function dropText({ kind, about, last }: DropRow): string {
  const sentence = kind === 'by_design' ? `by design: ${about}` : about;
  if (last === null) return sentence;
  const age = durationText(Date.now() - Date.parse(last.at));
  return `${droppedFrameText(last)}, ${age} ago: ${sentence}`;
}

export function rateText(perSecond: number | null): string {
  if (perSecond === null) return '--';
  if (perSecond === 0) return '0';
  return perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}
