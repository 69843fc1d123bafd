// The inputs that are kept with the project: one file a target, one input a line, in hexadecimal digits.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { fromRoot } from '../helpers/need.js';

export const fileOf = (target: string): string => fromRoot(`test/fuzz/corpus/${target}.hex`);

export function readCorpus(target: string): Uint8Array[] {
  const file = fileOf(target);
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.slice(0, -1).map((line) => Buffer.from(line, 'hex'));
}

/** Small enough to be read in a review; the rest is found again in a minute. */
const MAX_INPUTS = 150;
const MAX_INPUT_BYTES = 300;

export function writeCorpus(target: string, inputs: readonly Uint8Array[]): number {
  const small = inputs.filter(({ length }) => length <= MAX_INPUT_BYTES).slice(0, MAX_INPUTS);
  const text = small.map((input) => `${Buffer.from(input).toString('hex')}\n`).sort();
  writeFileSync(fileOf(target), text.join(''));
  return small.length;
}
