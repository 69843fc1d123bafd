// npm run fuzz -- --minutes N [--seed N] [--save] [TARGET]...
//
// Gives every target its share of the time. An input that breaks a law, or hangs, is printed in hexadecimal digits and written
// to dist/fuzz; the status is 1 then. --save puts the smallest inputs that reach all that was reached into test/fuzz/corpus.
import { mkdirSync, writeFileSync } from 'node:fs';
import { register } from 'node:module';
import { parseArgs } from 'node:util';

import { fromRoot } from '../helpers/need.js';
import { readCorpus, writeCorpus } from './corpus.js';
import { fuzz, minimised, nameOf, prepare, type Target } from './engine.js';
import { PROGRAMS } from './programs.js';

interface Settings {
  readonly minutes: number;
  readonly seed: number;
  readonly save: boolean;
  readonly chosen: readonly string[];
}

function readSettings(names: readonly string[]): Settings {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        minutes: { type: 'string', default: '5' },
        seed: { type: 'string', default: String(Date.now() % 1_000_000_007) },
        save: { type: 'boolean', default: false },
      },
    });
    const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
    if (!(minutes > 0) || !Number.isInteger(seed)) throw new Error('--minutes and --seed want numbers');
    const unknown = positionals.filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new Error(`there is no target ${unknown.join(', ')}`);
    return { minutes, seed, save: values.save, chosen: positionals.length > 0 ? positionals : names };
  } catch (error) {
    console.error(
      `${(error as Error).message}\nnpm run fuzz -- [--minutes N] [--seed N] [--save] [${names.join('|')}]...`,
    );
    process.exit(2);
  }
}

prepare();
register('./instrument.js', import.meta.url);
// From here on what is loaded is instrumented.
const { targets } = await import('./targets/index.js');
const { fuzzAddon, fuzzProgram } = await import('./native.js');

const settings = readSettings([...targets.map(({ name }) => name), ...PROGRAMS, 'addon']);
const { minutes, seed, save, chosen } = settings;
const secondsEach = (minutes * 60) / chosen.length;
const found = fromRoot('dist/fuzz');
let total = 0;
let isGood = true;

function fuzzOne(target: Target): void {
  const corpus = readCorpus(target.name);
  const {
    inputs,
    reached,
    crash,
    corpus: kept,
  } = fuzz(target, corpus, performance.now() + secondsEach * 1000, seed);
  total += inputs;
  console.log(
    `${target.name.padEnd(10)} ${inputs} inputs, ${reached} branches reached, ${kept.length} inputs kept`,
  );
  if (crash !== undefined) {
    isGood = false;
    mkdirSync(found, { recursive: true });
    const file = `${found}/${target.name}-${nameOf(crash.input)}`;
    writeFileSync(file, crash.input);
    console.log(`  ${file}\n  ${Buffer.from(crash.input).toString('hex')}`);
    console.log(`  ${crash.error instanceof Error ? (crash.error.stack ?? '') : String(crash.error)}`);
  } else if (save) {
    console.log(`  saved ${writeCorpus(target.name, minimised(target, [...corpus, ...kept]))}`);
  }
}

console.log(`seed ${seed}`);
for (const name of chosen) {
  const target = targets.find((one) => one.name === name);
  if (target !== undefined) {
    fuzzOne(target);
    continue;
  }
  // In C: parts of the native layer, and the whole addon inside a real varpd.
  const part = PROGRAMS.find((one) => one === name);
  const { inputs, said, failure } = await (part === undefined
    ? fuzzAddon(secondsEach, seed)
    : fuzzProgram(part, secondsEach, seed, save));
  total += inputs;
  console.log(`${name.padEnd(10)} ${inputs} inputs${said === '' ? '' : `, ${said}`}`);
  if (failure !== undefined) {
    isGood = false;
    console.log(failure);
  }
}
console.log(`${total} inputs, ${isGood ? 'no' : 'A'} crash, hang or broken law`);
process.exitCode = isGood ? 0 : 1;
