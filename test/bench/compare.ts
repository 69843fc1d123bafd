// Every subject in turns: each round takes every subject once, in an order that shifts from round to round, since the
// speed of a shared machine drifts by more than the subjects differ. Ratios are taken within a round.
import { Bed } from '../helpers/netns.js';
import { cores } from './machine.js';
import { type Figures, measure, secondsASubject } from './measure.js';
import { columns } from './report/columns.js';
import { barChart } from './report/chart.js';
import { markdownTable } from './report/markdown.js';
import type { Sample } from './report/samples.js';
import { mediansTable, ratiosTable } from './report/tables.js';
import { writeResults } from './results.js';
import type { Settings } from './settings.js';
import { OURS, subjects } from './subjects/index.js';
import type { Subject } from './subjects/tunnel.js';

interface Rounds {
  readonly samples: readonly Sample[];
  readonly failures: readonly string[];
}

async function measureOnce(subject: Subject, settings: Settings): Promise<Figures> {
  const bed = new Bed();
  try {
    return await measure(await subject.build(bed, settings), settings.seconds, cores);
  } finally {
    await bed.cleanup();
  }
}

function progressLine({ round, subject, figures }: Sample): string {
  const shown = columns
    .filter(({ key }) => figures[key] !== null)
    .map(({ key, title, digits }) => `${title}: ${figures[key]!.toFixed(digits)}`);
  return `round ${round}, ${subject}\n  ${shown.join('; ')}`;
}

async function takeRounds(settings: Settings): Promise<Rounds> {
  const { rounds, chosen } = settings;
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
  const order = chosen.map(({ name }) => name);
  samples.sort((x, y) => x.round - y.round || order.indexOf(x.subject) - order.indexOf(y.subject));
  return { samples, failures };
}

function announce({ rounds, seconds, mtuBytes, properties, chosen }: Settings): void {
  const minutes = Math.ceil((rounds * chosen.length * secondsASubject(seconds)) / 60);
  const extra = properties.length === 0 ? '' : `; varpd with ${properties.join(', ')}`;
  console.log(
    `${rounds} rounds of ${chosen.length} subjects, some ${minutes} minutes; underlay MTU ${mtuBytes}; TCP ${seconds} s${extra}`,
  );
  for (const subject of subjects) {
    const missing = subject.missing();
    if (chosen.includes(subject)) console.log(`  ${subject.name.padEnd(9)} ${subject.title}`);
    else if (missing !== false) console.log(`  ${subject.name.padEnd(9)} skipped: ${missing}`);
  }
}

/** False when a subject could not be measured. */
export async function compare(settings: Settings): Promise<boolean> {
  announce(settings);
  const { samples, failures } = await takeRounds(settings);
  if (samples.length > 0) {
    const { rounds, seconds, mtuBytes, properties, chosen } = settings;
    console.log(`\nmedian (smallest..largest) of ${rounds} rounds\n${mediansTable(samples)}`);
    if (samples.some(({ subject }) => subject === OURS) && chosen.length > 1)
      console.log(`\nratio within a round, median (smallest..largest)\n${ratiosTable(samples, OURS)}`);
    const caption = `median of ${rounds} rounds, underlay MTU ${mtuBytes}`;
    await writeResults('', {
      json: { rounds, seconds, mtuBytes, properties, samples, failures },
      svg: barChart(samples, OURS, caption),
      md: markdownTable(samples, OURS),
    });
  }
  return failures.length === 0;
}
