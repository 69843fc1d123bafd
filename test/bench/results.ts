// What a run leaves behind, in bench-results/: one name, several endings.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { fromRoot } from '../helpers/need.js';
import { describeMachine } from './machine.js';

const FOLDER = fromRoot('bench-results');

export interface Results {
  /** All that was measured; date and machine are added. Each member of a list gets a line. */
  readonly json: object;
  readonly svg?: string;
  readonly md: string;
}

/** Of what is measured, no more digits are known. */
const SIGNIFICANT_DIGITS = 5;
const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(SIGNIFICANT_DIGITS)) : value;

/** What was not measured is not there. */
function textOf(results: object): string {
  const measured = Object.entries(results).filter(([, value]) => value !== undefined);
  const members = measured.map(([name, value]) => {
    const isList = Array.isArray(value) && value.length > 0;
    const text = isList
      ? `[\n${(value as unknown[]).map((each) => `    ${JSON.stringify(each, rounded)}`).join(',\n')}\n  ]`
      : JSON.stringify(value, rounded);
    return `  ${JSON.stringify(name)}: ${text}`;
  });
  return `{\n${members.join(',\n')}\n}\n`;
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
  writeFileSync(`${file}.json`, textOf({ date, machine, ...json }));
  writeFileSync(`${file}.md`, `${about}\n\n${md}\n`);
  if (svg !== undefined) writeFileSync(`${file}.svg`, svg);
  const endings = svg === undefined ? '{json,md}' : '{json,md,svg}';
  console.log(`\nwritten: ${path.relative(process.cwd(), file)}.${endings}`);
}
