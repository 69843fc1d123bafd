/** top: rates of overlays, ports, drops and peers on a terminal, or at an interval for programs (-b). */
import { setTimeout as sleep } from 'node:timers/promises';

import { ConnectionError, ControlError, createClient } from '../../control/client.js';
import { askPatiently } from '../again.js';
import { type Arguments, attempt, type Context, defineCommand, UsageError, ValueError } from '../command.js';
import { chooseFormat, formatJsonLine, refuseWithJson, reportMissing, SHOW_OPTIONS } from '../show.js';
import { parseInterval } from '../statistics.js';
import type { Column } from '../table.js';
import { runLive } from '../top/live.js';
import { rateSample, readSample } from '../top/sample.js';
import { initialState, rowsOf, sortBy, type State, toView, viewOf } from '../top/state.js';
import { type Cell, cellText, exactText, isOffline, type Sample, type TopRow, VIEWS } from '../top/views.js';
import { parseDecimal } from '../values.js';

const DEFAULT_SECONDS = 1;

const OPTIONS = [
  { name: 'interval', short: 'i', value: 'secs', about: 'time between readings; otherwise 1 second' },
  { name: 'count', short: 'n', value: 'count', about: 'end after so many readings' },
  { name: 'view', value: 'view', about: `the first view: ${VIEWS.map(({ name }) => name).join(', ')}` },
  { name: 'sort', value: 'field', about: 'the column that this view is sorted by' },
  { name: 'batch', short: 'b', about: 'print a table for each reading; for files and programs' },
  ...SHOW_OPTIONS,
] as const;

type TopArguments = Arguments<(typeof OPTIONS)[number]['name']>;

export const command = defineCommand({
  synopsis:
    'top [-i secs] [-n count] [--view view] [--sort field] [-b [[-p] -o field,... | --json]] [overlay...]',
  about:
    'Shows what overlays, their ports, drops and peers do now, those named or all: rates a second, the busiest first. ' +
    'h shows the keys, q quits. A row in red is trouble. While varpd does not answer, top says so and goes on.',
  options: OPTIONS,
  examples: [
    'top',
    'top --view drops',
    'top -i 5 --sort rxbits overlay0',
    'top -b -n 2 -p -o link,txbits,rxbits',
  ],

  async run(args, context) {
    const state = chosenState(args);
    const count = countOf(args.value('count'));
    if (args.has('batch')) {
      await runBatch(args, state, count, context);
      return;
    }
    const other = (['parsable', 'output', 'json'] as const).find((name) => args.has(name));
    if (other !== undefined) throw new UsageError(`--${other} goes with -b`);
    const { stdin: input, stdout: output } = process;
    refuseWithoutTerminal(input.isTTY && output.isTTY);
    const first = await attempt('failed to get statistics', readSample(context.call, args.operands, state));
    if (!reportUnknown(first, args.operands, context)) return;
    const read = (shown: State, signal: AbortSignal): Promise<Sample> =>
      readSample(createClient(context.socket, { signal }), args.operands, shown);
    const signal = await runLive({ state, first, input, output, count, read, problemOf });
    // The parent process is to see how top ended.
    if (signal !== null) process.kill(process.pid, signal);
  },
});

/** At least what a terminal of 1978 has. */
function refuseWithoutTerminal(isTerminal: boolean): void {
  if (!isTerminal) throw new UsageError('top needs a terminal; -b prints tables');
  const term = process.env['TERM'] ?? '';
  if (['', 'dumb', 'unknown'].includes(term))
    throw new UsageError(`a terminal of type '${term}' has no screen to draw on (TERM); -b prints tables`);
}

function chosenState(args: TopArguments): State {
  const interval = args.value('interval');
  const state = initialState(interval === undefined ? DEFAULT_SECONDS : parseInterval(interval));
  const view = args.value('view');
  const place = view === undefined ? 0 : VIEWS.findIndex(({ name }) => name === view);
  if (place < 0)
    throw new ValueError(`unknown view '${view}'`, [`views are: ${VIEWS.map(({ name }) => name).join(',')}`]);
  const shown = toView(state, place);
  const field = args.value('sort');
  if (field === undefined) return shown;
  const sortable = viewOf(shown).columns.filter(({ key }) => key !== undefined);
  const column = sortable.find(({ name }) => name === field.toUpperCase());
  if (column?.key !== undefined) return sortBy({ ...shown, unit: column.unit ?? shown.unit }, column.key);
  const fields = sortable.map(({ name }) => name.toLowerCase()).join(',');
  throw new ValueError(`cannot sort by '${field}'`, [`${viewOf(shown).name} are sorted by: ${fields}`]);
}

function countOf(text: string | undefined): number {
  if (text === undefined) return Infinity;
  const count = parseDecimal(text);
  if (count !== undefined && count > 0) return count;
  throw new ValueError(`invalid number of readings '${text}'`);
}

/** Reports named overlays that do not exist. Returns whether there are others. */
function reportUnknown({ overlays, missing }: Sample, names: readonly string[], context: Context): boolean {
  const unknown = names.length > 0 ? missing.filter((failure) => !isOffline(failure)) : [];
  reportMissing(unknown, context);
  return names.length === 0 || overlays.length + missing.length > unknown.length;
}

async function runBatch(args: TopArguments, state: State, count: number, context: Context): Promise<void> {
  if (args.has('json')) refuseWithJson(args);
  const format = args.has('json') ? undefined : chooseFormat(args, batchColumns(args, state), context);
  let before: Sample | undefined;
  let readMs = 0;
  for (let reading = 0; reading < count; reading++) {
    if (reading > 0) await sleep(state.intervalSeconds * 1000);
    const ask = (): Promise<Sample> => readSample(context.call, args.operands, state);
    const answer = reading === 0 ? ask() : askPatiently(ask, context);
    const read = await attempt('failed to get statistics', answer);
    if (reading === 0 && !reportUnknown(read, args.operands, context)) return;
    const seconds = (performance.now() - readMs) / 1000;
    readMs = performance.now();
    const rows = rowsOf(state, rateSample(read, before, seconds));
    before = read;
    if (format === undefined) context.print(formatJsonLine(documentOf(state, rows)));
    else context.print(`${reading > 0 && !args.has('parsable') ? '\n' : ''}${format(rows)}`);
  }
}

/** Version of the shape of --json (docs/top.md). */
const SHAPE = 1;

function documentOf(state: State, rows: readonly TopRow[]): unknown {
  const names = viewOf(state).columns.map(({ name }) => name);
  const memberOf =
    (row: TopRow) =>
    (name: string): [string, Cell] => [name.toLowerCase(), row.cells[name] ?? null];
  return {
    v: SHAPE,
    at: new Date().toISOString(),
    view: viewOf(state).name,
    rows: rows.map((row) => Object.fromEntries(names.map(memberOf(row)))),
  };
}

/** The columns of the screen, and the others when they are named. */
function batchColumns(args: TopArguments, state: State): readonly Column<TopRow>[] {
  const textOf = args.has('parsable') ? exactText : cellText;
  return viewOf(state).columns.map((column): Column<TopRow> => {
    const { name, width, is, rank, unit = state.unit } = column;
    const isExtra = rank === undefined || unit !== state.unit;
    return {
      name,
      width: width + 1,
      sentence: true,
      ...(isExtra && { extra: true }),
      cell: ({ cells }) => textOf(column, cells[name] ?? (is === 'text' ? '' : null)),
    };
  });
}

function problemOf(error: unknown): string | undefined {
  return error instanceof ConnectionError || error instanceof ControlError ? error.message : undefined;
}
