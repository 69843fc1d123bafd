// npm run bench [-- --rounds N --seconds S --mtu BYTES --only veth,kernel,plain,varpd]
//
// Two hosts in network namespaces, joined in several ways, measured in turns: every round takes every subject once, in
// an order that shifts from round to round, since the speed of a shared machine drifts by more than the subjects
// differ. Ratios are taken within a round. Everything measured goes to bench-results/.
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { run } from '../helpers/process.js';
import { type Figures, measure } from './measure.js';
import { barChart, columns, mediansTable, ratiosTable, type Sample } from './report.js';
import { type Subject, subjects } from './subjects.js';

const OURS = 'varpd';
const USAGE = `npm run bench -- [options]
  --rounds N      how often every subject is measured (5)
  --seconds S     length of each TCP run (3); a subject takes about 12 s more in every round
  --mtu BYTES     of the underlay (1500)
  --only A,B      out of ${subjects.map(({ name }) => name).join(', ')} (all)`;

interface Settings {
  readonly rounds: number;
  readonly seconds: number;
  readonly mtuBytes: number;
  readonly chosen: readonly Subject[];
}

function settingsFrom(args: string[]): Settings {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      mtu: { type: 'string', default: '1500' },
      help: { type: 'boolean', default: false },
      only: { type: 'string', default: subjects.map(({ name }) => name).join(',') },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const whole = (name: string, text: string): number => {
    if (!/^[1-9]\d{0,4}$/.test(text))
      throw new Error(`--${name} wants a whole number above 0, not '${text}'`);
    return Number(text);
  };
  const chosen = values.only.split(',').map((name) => {
    const subject = subjects.find((candidate) => candidate.name === name);
    if (subject === undefined)
      throw new Error(`--only knows ${subjects.map((s) => s.name).join(', ')}, not '${name}'`);
    return subject;
  });
  return {
    rounds: whole('rounds', values.rounds),
    seconds: whole('seconds', values.seconds),
    mtuBytes: whole('mtu', values.mtu),
    chosen,
  };
}

function settingsOrUsage(args: string[]): Settings {
  try {
    return settingsFrom(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

const cores = os.availableParallelism();

async function measureOnce(subject: Subject, { seconds, mtuBytes }: Settings): Promise<Figures> {
  const bed = new Bed();
  try {
    return await measure(await subject.build(bed, mtuBytes), seconds, cores);
  } finally {
    await bed.cleanup();
  }
}

function progressLine({ round, subject, figures }: Sample): string {
  const shown = columns
    .filter(({ key }) => figures[key] !== null)
    .map(({ key, title, digits }) => `${title} ${figures[key]!.toFixed(digits)}`);
  return `round ${round}  ${subject.padEnd(7)} ${shown.join(', ')}`;
}

async function describeMachine(): Promise<Record<string, string | number>> {
  const { stdout: commit } = await run('git describe --always --dirty', { cwd: fromRoot('.') });
  return {
    kernel: os.release(),
    architecture: os.arch(),
    cpu: os.cpus()[0]?.model ?? '',
    cores,
    node: process.version,
    commit: commit.trim(),
  };
}

const settings = settingsOrUsage(process.argv.slice(2));
const missing = skipUnlessNetns(['iperf3']);
if (missing !== false) {
  console.error(`the bench ${missing}`);
  process.exit(1);
}

const machine = await describeMachine();
const { rounds, seconds, mtuBytes, chosen } = settings;
console.log(
  `${rounds} rounds of ${chosen.map(({ name }) => name).join(', ')}; underlay MTU ${mtuBytes}; TCP ${seconds} s`,
);
for (const { name, title } of chosen) console.log(`  ${name.padEnd(7)} ${title}`);

const samples: Sample[] = [];
const failures: string[] = [];
for (let round = 1; round <= rounds; round++) {
  for (let turn = 0; turn < chosen.length; turn++) {
    const subject = chosen[(turn + round - 1) % chosen.length];
    try {
      const sample = { round, subject: subject.name, figures: await measureOnce(subject, settings) };
      samples.push(sample);
      console.log(progressLine(sample));
    } catch (error) {
      failures.push(`round ${round}, ${subject.name}: ${(error as Error).message}`);
      console.error(`FAILED  ${failures.at(-1)!}`);
    }
  }
}

if (samples.length > 0) {
  const order = chosen.map(({ name }) => name);
  samples.sort((x, y) => x.round - y.round || order.indexOf(x.subject) - order.indexOf(y.subject));
  console.log(`\nmedian (smallest..largest) of ${rounds} rounds\n${mediansTable(samples)}`);
  if (samples.some(({ subject }) => subject === OURS) && chosen.length > 1) {
    console.log(`\nratio within a round, median (smallest..largest)\n${ratiosTable(samples, OURS)}`);
  }
  const folder = fromRoot('bench-results');
  mkdirSync(folder, { recursive: true });
  const date = new Date().toISOString();
  const file = path.join(folder, date.replace(/\.\d+Z$/, '').replaceAll(':', '-'));
  const result = { date, machine, rounds, seconds, mtuBytes, samples, failures };
  writeFileSync(`${file}.json`, `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(`${file}.svg`, barChart(samples, `median of ${rounds} rounds, underlay MTU ${mtuBytes}`));
  console.log(`\nall rounds: ${path.relative(process.cwd(), file)}.json, chart: ${path.basename(file)}.svg`);
}
process.exitCode = failures.length > 0 ? 1 : 0;
