// docs/restart.md as a test reads it: what becomes of the links in each trouble, by each way to restart.
import { readFileSync } from 'node:fs';

import { fromRoot } from '../../helpers/need.js';

/** The words of a cell, as docs/restart.md explains them. */
export const WORDS = [
  'stays',
  'stays, DEGRADED',
  'stays, OFFLINE',
  'made again',
  'VNIC made again',
  'own link made again',
  'VNIC OFFLINE, made again',
  'VNIC forgotten',
  'OFFLINE, made again',
  'refused',
  'start fails, stays',
  'start fails, made again',
] as const;
export type Word = (typeof WORDS)[number];

export const COLUMNS = [
  'dladm restart',
  'SIGTERM and start',
  'systemctl restart',
  'crash of the service',
  'kill -9 and start',
] as const;
export type Column = (typeof COLUMNS)[number];

/** Row by its trouble, then cell by its column. */
export function readTable(): ReadonlyMap<string, Readonly<Record<Column, Word>>> {
  const lines = readFileSync(fromRoot('docs/restart.md'), 'utf8').split('\n');
  const rows = new Map<string, Record<Column, Word>>();
  let columns: readonly string[] = [];
  for (const line of lines) {
    const cells = line.startsWith('|') ? line.split('|').slice(1, -1).map(plain) : [];
    if (COLUMNS.every((column) => cells.includes(column))) columns = cells;
    else if (cells.length === 0 || cells.length !== columns.length) columns = [];
    else if (!/^-+$/.test(cells[0])) {
      const [trouble, ...words] = cells;
      const unknown = words.filter((word) => !WORDS.includes(word as Word));
      if (unknown.length > 0)
        throw new Error(`docs/restart.md: ${trouble}: unknown words: ${unknown.join(' | ')}`);
      if (rows.has(trouble)) throw new Error(`docs/restart.md: ${trouble}: stands there twice`);
      const named = COLUMNS.map((column) => [column, words[columns.indexOf(column) - 1]]);
      rows.set(trouble, Object.fromEntries(named) as Record<Column, Word>);
    }
  }
  return rows;
}

/** A cell without its marks. */
const plain = (cell: string): string => cell.replaceAll(/[`*]/g, '').trim();
