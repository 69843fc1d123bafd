/**
 * Rows as a table for people and as colon-separated fields for programs, out of the same columns.
 *
 * A column is as wide as illumos has it, and wider when a value would run into the next one. A list is wrapped at its
 * commas before the column grows; only what is longer than any address or endpoint is cut.
 */
import { line, printable } from './text.js';

export interface Column<Row> {
  readonly name: string;
  /** With the blank that parts it from the next. */
  readonly width: number;
  /** Only shown when asked for, by name or with `all`, or when a row is `notable`. */
  readonly extra?: true;
  /** A row that nobody should have to ask for. */
  notable?(row: Row): boolean;
  /** A sentence: its commas are no place to wrap, and it has one line however long it is. */
  readonly sentence?: true;
  cell(row: Row): string;
}

/** `[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535` */
const LONGEST_PIECE = 47;

/** With a header, also over no rows: so that nothing is not mistaken for all is well. */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  return tableWriter(columns)(rows);
}

/** A table that comes in parts. The header is over the first; a column that has to grow in a later one grows there. */
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

/** No header, no padding; `\:` and `\\` inside fields, but none when there is but one field to a line. */
export function formatParsable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const escape = columns.length === 1 ? String : escapeSeparators;
  return rows
    .map((row) => `${columns.map((column) => escape(printable(column.cell(row)))).join(':')}\n`)
    .join('');
}

function escapeSeparators(text: string): string {
  return text.replace(/[:\\]/g, '\\$&');
}

/** Cells of several lines as several rows, with nothing where a cell has no more. */
function stack(cells: readonly (readonly string[])[]): string[][] {
  const height = Math.max(...cells.map((lines) => lines.length));
  return Array.from({ length: height }, (_, index) => cells.map((lines) => lines[index] ?? ''));
}

/** A comma stays with what is before it, so that the lines put together are the value again. */
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
