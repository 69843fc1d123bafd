/**
 * Formats rows as a table for people, and as colon-separated fields for programs, with the same columns.
 *
 * A column is as wide as in illumos, and wider when a value would run into the next one. A list is wrapped at
 * its commas before the column grows; only a value that is longer than any address or endpoint is cut.
 */
import { line, printable } from './text.js';

export interface Column<Row> {
  readonly name: string;
  /** With the blank that separates it from the next column. */
  readonly width: number;
  /** Only shown when it is named, or with `all`, or when a row is `notable`. */
  readonly extra?: true;
  /** Whether the column is shown for this row without being named. */
  notable?(row: Row): boolean;
  /** A sentence: it is not wrapped at its commas, and has one line however long it is. */
  readonly sentence?: true;
  cell(row: Row): string;
}

/** `[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535` */
const LONGEST_PIECE = 47;

/** Has a header even without rows, so that an empty table is not mistaken for a good report. */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  return tableWriter(columns)(rows);
}

/**
 * A table that comes in parts. The header is above the first part. A column that has to grow in a later part
 * grows there.
 */
export function tableWriter<Row>(columns: readonly Column<Row>[]): (rows: readonly Row[]) => string {
  let header = [columns.map((column) => column.name)];
  let widths = columns.map(({ width }) => width);
  return (rows) => {
    const cells = rows.map((row) => columns.map((column) => wrap(printable(column.cell(row)), column)));
    widths = widths.map((width, index) => {
      const longest = (most: number, texts: readonly string[][]): number =>
        texts[index].reduce((longer, text) => Math.max(longer, text.length + 1), most);
      return cells.reduce(longest, width);
    });
    const lines = [...header, ...cells.flatMap(stack)];
    header = [];
    return lines.map((texts) => `${line(texts, widths)}\n`).join('');
  };
}

/** Fields without header and padding. `\:` and `\\` are escaped, except when there is one field a line. */
export function formatParsable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const escape = columns.length === 1 ? String : escapeSeparators;
  return rows
    .map((row) => `${columns.map((column) => escape(printable(column.cell(row)))).join(':')}\n`)
    .join('');
}

function escapeSeparators(text: string): string {
  return text.replace(/[:\\]/g, '\\$&');
}

/** Turns cells of several lines into several rows; shorter cells end with empty lines. */
function stack(cells: readonly (readonly string[])[]): string[][] {
  const height = Math.max(...cells.map((lines) => lines.length));
  return Array.from({ length: height }, (_, index) => cells.map((lines) => lines[index] ?? ''));
}

/** A comma stays at the end of its line, so that the lines joined are the value again. */
function wrap<Row>(text: string, { width, sentence }: Column<Row>): string[] {
  if (sentence || text.length < width) return [text];
  const lines = [''];
  for (const piece of text.match(/[^,]*,|[^,]+$/g) ?? []) {
    const current = lines.at(-1)!;
    if (current !== '' && current.length + piece.length >= width) lines.push(piece);
    else lines[lines.length - 1] = current + piece;
  }
  return lines.flatMap((text) => text.match(CUT)!);
}

const CUT = new RegExp(`.{1,${LONGEST_PIECE}}`, 'gu');
