/** The options of all show commands, and the output formats that they choose. */
import type { Failure, OverlayInfo } from '../control/messages.js';
import type { Methods, PagedMethod } from '../control/methods.js';
import {
  type Arguments,
  attempt,
  type Context,
  failureError,
  type Option,
  reasonOf,
  UsageError,
  ValueError,
} from './command.js';
import { readPages } from '../control/pages.js';
import { chosenProperties } from './options.js';
import { type Column, formatParsable, tableWriter } from './table.js';

export const SHOW_OPTIONS = [
  {
    name: 'parsable',
    alias: 'parseable',
    short: 'p',
    about: 'fields with colons between, no header; needs -o',
  },
  {
    name: 'output',
    short: 'o',
    value: 'field,...',
    about: "the columns to show, in this order; 'all' for all",
  },
  { name: 'json', about: 'everything that is known, as JSON' },
] as const satisfies readonly Option[];

const [parsable, ...otherOptions] = SHOW_OPTIONS;

/** The options of a command that shows properties: -p names them, as on illumos, and -c is for programs. */
export const SHOW_PROPERTY_OPTIONS = [
  { ...parsable, short: 'c' },
  ...otherOptions,
  chosenProperties,
] as const satisfies readonly Option[];

export type ShowArguments = Arguments<(typeof SHOW_OPTIONS)[number]['name']>;

/**
 * Checks the options before varpd is asked. The function that it returns turns rows into text; further calls
 * go on with more rows.
 */
export function chooseFormat<Row>(
  args: ShowArguments,
  columns: readonly Column<Row>[],
  context: Context,
): (rows: readonly Row[]) => string {
  const fields = args.value('output');
  const parsable = args.has('parsable');
  if (parsable && fields === undefined) {
    throw new UsageError('output fields must be specified in parsable mode');
  }
  if (parsable && fields?.toLowerCase() === 'all') {
    throw new UsageError("output field 'all' invalid in parsable mode");
  }
  const { chosen, unknown } = chooseColumns(columns, fields);
  if (unknown.length > 0) {
    const names = `unknown output field${unknown.length > 1 ? 's' : ''}: ${unknown.map(quote).join(' ')}`;
    if (parsable) throw new ValueError(names, [known(columns)]);
    context.warn(`ignoring ${names}`);
  }
  if (chosen.length === 0) throw new ValueError('no valid output fields', [known(columns)]);
  let write: ((rows: readonly Row[]) => string) | undefined;
  return (rows) => {
    if (parsable) return formatParsable(chosen, rows);
    if (write !== undefined) return write(rows);
    // Operands that do not exist have been reported already.
    if (rows.length === 0 && args.operands.length > 0) return '';
    const isShown = (column: Column<Row>): boolean =>
      chosen.includes(column) || (fields === undefined && rows.some((row) => column.notable?.(row)));
    write = tableWriter(fields === undefined ? columns.filter(isShown) : chosen);
    return write(rows);
  };
}

/** As `chooseFormat`, for a list of which --json prints the rows as they are. */
export function chooseListFormat<Row extends object>(
  args: ShowArguments,
  columns: readonly Column<Row>[],
  context: Context,
): (rows: readonly Row[]) => string {
  if (!args.has('json')) return chooseFormat(args, columns, context);
  refuseWithJson(args);
  return formatJsonRows;
}

/** Says which overlays are OFFLINE, where the table has no column for it. */
export function tellOffline(overlays: readonly OverlayInfo[], tell: (text: string) => void): void {
  for (const { name, health } of overlays)
    if (health.status === 'OFFLINE') tell(`${name} is OFFLINE: ${health.details ?? ''}`);
}

export function refuseWithJson(args: ShowArguments): void {
  const other = (['parsable', 'output'] as const).find((name) => args.has(name));
  if (other !== undefined) throw new UsageError(`--json and --${other} may not be used together`);
}

export function formatJson(value: unknown): string {
  return `${safeJson(JSON.stringify(value, undefined, 2))}\n`;
}

/** The version of the rows of `--json` lists (docs/overlays.md). A list has no place for it, so each row has it. */
const ROW_SHAPE = 1;

/** Adds the version of its shape to a row of a list. */
export function versioned<Row extends object>(row: Row): { v: number } & Row {
  return { v: ROW_SHAPE, ...row };
}

/** Formats a list for `--json`. */
export function formatJsonRows(rows: readonly object[]): string {
  return formatJson(rows.map(versioned));
}

/** Formats one value as one line, for values that come one after the other. */
export function formatJsonLine(value: unknown): string {
  return `${safeJson(JSON.stringify(value))}\n`;
}

function safeJson(text: string): string {
  // JSON allows characters that control a terminal: C1, formats, separators. RFC 8259 7 has another spelling
  // for each UTF-16 code unit.
  return text.replace(/[^\P{C}\n]|[\p{Zl}\p{Zp}]/gu, (one) =>
    Array.from(
      { length: one.length },
      (_, at) => `\\u${one.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  );
}

/** Methods that list those named, and say what is missing. */
type ListMethod = {
  [M in PagedMethod]: Methods[M]['result'] extends { missing: Failure[] } ? M : never;
}[PagedMethod];

/** Reads all pages of a list, and reports what is missing. `what` failed when there is no answer. */
export async function readList<M extends ListMethod>(
  what: string,
  method: M,
  params: Methods[M]['params'],
  context: Context,
): Promise<readonly Methods[M]['result'][]> {
  const pages = await attempt(what, readPages(context.call, method, params));
  for (const { missing } of pages) reportMissing(missing, context);
  return pages;
}

/** Reports operands that cannot be shown. */
export function reportMissing(missing: readonly Failure[], context: Context): void {
  for (const failure of missing) {
    const { name, message } = failure;
    const text = message.startsWith(`${name} `) ? message : `failed to find ${name}: ${reasonOf(failure)}`;
    context.fail(failureError(text, failure, 'NOT_FOUND'));
  }
}

function chooseColumns<Row>(
  columns: readonly Column<Row>[],
  fields: string | undefined,
): { chosen: Column<Row>[]; unknown: string[] } {
  if (fields === undefined) return { chosen: columns.filter((column) => !column.extra), unknown: [] };
  if (fields.toLowerCase() === 'all') return { chosen: [...columns], unknown: [] };
  const chosen: Column<Row>[] = [];
  const unknown: string[] = [];
  for (const field of fields.split(',').filter((name) => name !== '')) {
    const column = columns.find(({ name }) => name === field.toUpperCase());
    if (column === undefined) unknown.push(field);
    else chosen.push(column);
  }
  return { chosen, unknown };
}

function known<Row>(columns: readonly Column<Row>[]): string {
  return `output fields are: ${columns.map(({ name }) => name.toLowerCase()).join(',')}`;
}

function quote(text: string): string {
  return `'${text}'`;
}
