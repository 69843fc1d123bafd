/**
 * The screen of `dladm top`: choices, the last reading and a size in, lines out. A line is as long as the screen is
 * wide at most, and there are never more lines than fit; each part of a line has a style by name.
 */
import { counted } from '../../model/sentences.js';
import { fit, printable, widthOf, wrap } from '../text.js';
import { BINDINGS, columnsOf, placeOf, rowsOf, sortOf, type State, viewOf } from './state.js';
import {
  cellText,
  DETAILS,
  healthOf,
  rateOf,
  type Sample,
  scaled,
  sum,
  type TopColumn,
  type TopRow,
  VIEWS,
} from './views.js';

export type Style = 'plain' | 'strong' | 'header' | 'selected' | 'trouble' | 'selected-trouble';

export interface Span {
  readonly text: string;
  readonly style: Style;
}
export type Line = readonly Span[];

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Everything that is known now. */
export interface News {
  readonly sample: Sample;
  /** Time of the reading: `12:34:56`. */
  readonly at: string;
  /** Time between readings, when varpd is spared some: longer than the interval that was chosen. */
  readonly everySeconds: number;
  /** Why there is no later reading. */
  readonly problem: string | null;
}

export interface Screenful {
  readonly lines: readonly Line[];
  /** Rows of the table, and how many of them are on one screen. */
  readonly rows: readonly TopRow[];
  readonly pageRows: number;
}

/** Lines of the table's sentences at the foot. */
const FOOT_LINES = 2;
/** Heights from which on there are: the totals, the line of keys, the foot. */
const MIN_ROWS = { totals: 10, keys: 8, foot: 14 };
/** Characters of the summary, without which the time has no room. */
const MIN_SUMMARY = 12;
/** Columns of the help. */
const HELP = { keys: 12, entry: 40 };
const KEYS = 'h help  q quit  Tab view  < > sort  r reverse  p pause  + - interval';

export function layout(state: State, news: News, size: Size): Screenful {
  const { columns, rows: height } = size;
  const rows = rowsOf(state, news.sample);
  const has = (part: keyof typeof MIN_ROWS): boolean => height >= MIN_ROWS[part];
  const head: Line[] = [
    statusLine(state, news, columns),
    ...(has('totals') ? [plain(totalsText(state, news), columns)] : []),
    ...(height > 3 ? [tabsLine(state, columns)] : []),
  ];
  const keys = has('keys') ? [plain(KEYS, columns)] : [];
  const place = placeOf(state, rows);
  const foot = has('foot') ? footLines(rows.at(place), columns) : [];
  const pageRows = Math.max(1, height - head.length - 1 - foot.length - keys.length);
  // Whole pages, so that rows stay where they are while the selection moves.
  const first = Math.floor(place / pageRows) * pageRows;
  const body = state.isHelp
    ? helpLines(state, columns).slice(0, pageRows + 1)
    : tableLines(state, news.sample, { rows, first, pageRows, place }, columns);
  const gap = Math.max(0, pageRows + 1 - body.length);
  const lines = [...head, ...body, ...Array.from({ length: gap }, (): Line => []), ...foot, ...keys];
  return { lines: lines.slice(0, height), rows, pageRows };
}

/** A problem takes the whole line. */
function statusLine(state: State, { sample, at, everySeconds, problem }: News, columns: number): Line {
  if (problem !== null) return [{ text: fit(printable(problem), columns), style: 'trouble' }];
  const { intervalSeconds, isPaused } = state;
  const isSlower = everySeconds > intervalSeconds * 1.5;
  const every = `every ${Number(everySeconds.toFixed(1))} s${isSlower ? ' (slow answers)' : ''}`;
  const right = `${at} ${isPaused ? 'PAUSED' : every}`;
  const text = summaryText(sample);
  if (columns < right.length + MIN_SUMMARY) return [{ text: fit(text, columns), style: 'strong' }];
  return [
    { text: fit(text, columns - right.length - 1), style: 'strong' },
    { text: ` ${right}`, style: isPaused ? 'header' : 'plain' },
  ];
}

/** `3 overlays (1 DEGRADED, 1 OFFLINE), 7 ports` */
function summaryText({ overlays, missing }: Sample): string {
  const degraded = overlays.filter((overlay) => healthOf(overlay)?.status === 'DEGRADED').length;
  const troubles = [
    ...(degraded > 0 ? [`${degraded} DEGRADED`] : []),
    ...(missing.length > 0 ? [`${missing.length} not running`] : []),
  ].join(', ');
  const ports = overlays.reduce((count, overlay) => count + overlay.ports.length, 0);
  return [
    counted(overlays.length + missing.length, 'overlay'),
    troubles === '' ? '' : ` (${troubles})`,
    `, ${counted(ports, 'port')}`,
  ].join('');
}

function totalsText({ unit }: State, { sample: { overlays }, at, problem }: News): string {
  if (problem !== null) return `as of ${at}; trying again`;
  // The rates of a new overlay are not known yet, which does not hide those of the others.
  const total = (name: string): number | null => {
    const known = overlays.map(({ counters }) => rateOf(counters, name)).filter((one) => one !== null);
    return known.length === 0 && overlays.length > 0 ? null : sum(known);
  };
  const way = (direction: string): string => {
    const [frames, bytes] = [total(`${direction}_frames`), total(`${direction}_bytes`)];
    const volume = bytes === null || unit === 'bytes' ? bytes : bytes * 8;
    return `${direction} ${scaled(frames)} frames/s ${scaled(volume)} ${unit}/s`;
  };
  return `${way('tx')}   ${way('rx')}   ${scaled(total('lookups'))} lookups/s`;
}

function tabsLine(state: State, columns: number): Line {
  const column = columnsOf(state).find(({ key }) => key === sortOf(state).key);
  const sort = `sort: ${column?.name ?? ''}${sortOf(state).isReversed ? ' reversed' : ''}`;
  const right = state.only === null ? sort : `only ${printable(state.only)} (Esc: all)  ${sort}`;
  const tabs = VIEWS.map(({ name }, index): Span => {
    const style = index === state.view ? 'header' : 'plain';
    return { text: ` ${index + 1} ${name} `, style };
  });
  const width = tabs.reduce((total, { text }) => total + text.length, 0);
  if (width > columns)
    return [{ text: fit(` ${state.view + 1} ${viewOf(state).name} `, columns), style: 'header' }];
  const room = columns - width - 1;
  return right.length > room ? tabs : [...tabs, { text: right.padStart(room + 1), style: 'plain' }];
}

/** `first`: the first row on the screen. `place`: the selected one. */
interface Part {
  readonly rows: readonly TopRow[];
  readonly first: number;
  readonly pageRows: number;
  readonly place: number;
}

function tableLines(
  state: State,
  sample: Sample,
  { rows, first, pageRows, place }: Part,
  columns: number,
): Line[] {
  const chosen = chooseColumns(state, rows, columns);
  const sort = sortOf(state).key;
  const header = chosen.map(({ column, width }, index): Span => {
    const text = aligned(column, column.name, width);
    return { text: index === 0 ? text : ` ${text}`, style: column.key === sort ? 'selected' : 'header' };
  });
  if (rows.length === 0) return [header, plain(emptyText(state, sample), columns)];
  const body = rows.slice(first, first + pageRows).map((row, index) => {
    const isSelected = first + index === place;
    return chosen.map(({ column, width }, index): Span => {
      const value = row.cells[column.name] ?? null;
      const isTrouble = column.isTrouble ? row.isTrouble || Number(value) > 0 : row.isTrouble;
      const text = aligned(column, printable(cellText(column, value)), width);
      const plainStyle = isSelected ? 'selected' : 'plain';
      const style = !isTrouble ? plainStyle : isSelected ? 'selected-trouble' : 'trouble';
      return { text: index === 0 ? text : ` ${text}`, style };
    });
  });
  return [header, ...body];
}

function emptyText(state: State, { peers }: Sample): string {
  const { name: what, hasPeers } = viewOf(state);
  if (hasPeers === true && peers === undefined) return 'The peers have not been read yet.';
  return state.only === null ? `There are no ${what}.` : `There are no ${what} of ${printable(state.only)}.`;
}

interface Chosen {
  readonly column: TopColumn;
  readonly width: number;
}

/** The most important columns that fit, in their order; the one that the rows are sorted by is always there. */
function chooseColumns(state: State, rows: readonly TopRow[], columns: number): readonly Chosen[] {
  const all = columnsOf(state);
  const rankOf = ({ rank = 0, key }: TopColumn): number => (key === sortOf(state).key ? 0 : rank);
  const chosen = new Map<TopColumn, number>();
  let room = columns;
  for (const column of [...all].sort((a, b) => rankOf(a) - rankOf(b))) {
    const isFirst = column === all[0];
    const longest = column.isElastic === true ? longestOf(column, rows) : column.width;
    const width = Math.min(longest, isFirst ? columns : Infinity);
    const needed = width + (isFirst ? 0 : 1);
    if (needed > room && !isFirst) continue;
    chosen.set(column, column === DETAILS ? room - 1 : width);
    room -= needed;
  }
  return all.flatMap((column) => {
    const width = chosen.get(column);
    return width === undefined ? [] : [{ column, width }];
  });
}

function longestOf({ name, width }: TopColumn, rows: readonly TopRow[]): number {
  const longest = rows.reduce(
    (most, { cells }) => Math.max(most, widthOf(String(cells[name] ?? ''))),
    name.length,
  );
  return Math.min(width, longest);
}

function aligned(column: TopColumn, text: string, width: number): string {
  const cut = fit(text, width);
  return column.is === 'text' ? cut : cut.trimEnd().padStart(width);
}

/** The sentences about the selected row. */
function footLines(row: TopRow | undefined, columns: number): Line[] {
  const details = printable(String(row?.cells['DETAILS'] ?? ''));
  const link = row === undefined || details === '' ? '' : `${printable(String(row.cells['LINK']))}: `;
  const lines = wrap(`${link}${details}`, columns);
  const last = FOOT_LINES - 1;
  return Array.from({ length: FOOT_LINES }, (_, index) =>
    plain(index < last ? (lines.at(index) ?? '') : lines.slice(last).join(' '), columns),
  );
}

/** As many side by side as fit. */
function helpLines(state: State, columns: number): Line[] {
  const entries = BINDINGS.map(({ shown, about }) => `${shown.padEnd(HELP.keys)}${about}`);
  const beside = Math.max(1, Math.floor(columns / HELP.entry));
  const height = Math.ceil(entries.length / beside);
  const texts = Array.from({ length: height }, (_, line) =>
    entries
      .filter((_, index) => index % height === line)
      .map((entry) => entry.padEnd(HELP.entry))
      .join(''),
  );
  const sorting = columnsOf(state).flatMap(({ key, name }) => (key === undefined ? [] : [`${key} ${name}`]));
  const sort = wrap(`Sort this view by: ${sorting.join(', ')}`, columns);
  return [
    [{ text: fit('Keys', columns), style: 'header' }],
    ...[...texts, '', ...sort].map((text) => plain(text, columns)),
  ];
}

function plain(text: string, columns: number): Line {
  return [{ text: fit(text, columns).trimEnd(), style: 'plain' }];
}
