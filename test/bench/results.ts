// What a run leaves behind, in bench-results/: one name, several endings.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { fromRoot } from '../helpers/need.js';
import { describeMachine } from './machine.js';

const FOLDER = fromRoot('bench-results');

export interface Results {
  /** All that was measured; date and machine are added. */
  readonly json: object;
  readonly svg?: string;
  readonly md: string;
}

export async function writeResults(kind: string, { json, svg, md }: Results): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const date = new Date().toISOString();
  const machine = await describeMachine();
  const stamp = date.replace(/\.\d+Z$/, '').replaceAll(':', '-');
  const file = path.join(FOLDER, kind === '' ? stamp : `${stamp}-${kind}`);
  const about = `${date.slice(0, 10)}: ${Object.entries(machine)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}`;
  writeFileSync(`${file}.json`, `${JSON.stringify({ date, machine, ...json }, null, 2)}\n`);
  writeFileSync(`${file}.md`, `${about}\n\n${md}\n`);
  if (svg !== undefined) writeFileSync(`${file}.svg`, svg);
  const endings = svg === undefined ? '{json,md}' : '{json,md,svg}';
  console.log(`\nwritten: ${path.relative(process.cwd(), file)}.${endings}`);
}
