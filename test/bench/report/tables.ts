// The rounds as tables for the terminal.
import { columns } from './columns.js';
import { names, pairedRatio, type Sample, spreadOf } from './samples.js';
import type { Spread } from './statistics.js';

export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return rows.map(line).join('\n');
}

export const cell = (value: Spread | undefined, digits: number): string =>
  value === undefined
    ? '-'
    : `${value.median.toFixed(digits)} (${value.min.toFixed(digits)}..${value.max.toFixed(digits)})`;

/** Median (smallest..largest) of every figure; one row a figure, since that is what one compares along. */
export function mediansTable(samples: readonly Sample[]): string {
  const subjects = names(samples);
  const rows = columns.map(({ key, title, digits }) => [
    title,
    ...subjects.map((subject) => cell(spreadOf(samples, subject, key), digits)),
  ]);
  return table([['', ...subjects], ...rows]);
}

export function ratiosTable(samples: readonly Sample[], subject: string): string {
  const peers = names(samples).filter((name) => name !== subject);
  const compared = columns.filter(({ better }) => better !== undefined);
  const rows = compared.map(({ key, title, better }) => [
    `${title} (${better} is better)`,
    ...peers.map((peer) => cell(pairedRatio(samples, subject, peer, key), 2)),
  ]);
  return table([[`${subject} :`, ...peers], ...rows]);
}
