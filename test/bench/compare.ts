// Every subject in turns: each round takes every subject once, in an order that shifts from round to round, since the
// speed of a shared machine drifts by more than the subjects differ. Ratios are taken within a round.
import { Bed } from '../helpers/netns.js';
import { type Figures, measure, secondsASubject } from './measure.js';
import { columns } from './report/columns.js';
import type { Sample } from './report/samples.js';
import { mediansTable, ratiosTable } from './report/tables.js';
import type { Settings } from './settings.js';
import type { Share } from './share.js';
import { OURS, subjects } from './subjects/index.js';
import type { Subject } from './subjects/tunnel.js';

export interface Rounds {
  readonly samples: readonly Sample[];
  readonly failures: string[];
}

/** A measurement that others took more of the machine from is made once more; the less disturbed one counts. */
const DISTURBED_SHARE = 0.2;

async function measureOnce(subject: Subject, settings: Settings, share: Share): Promise<Figures> {
  const bed = new Bed();
  try {
    return await measure(await subject.build(bed, settings), settings.seconds, share);
  } finally {
    await bed.cleanup();
  }
}

async function measureUndisturbed(subject: Subject, settings: Settings, share: Share): Promise<Figures> {
  const first = await measureOnce(subject, settings, share);
  if (first.foreignShare === null || first.foreignShare <= DISTURBED_SHARE) return first;
  const second = await measureOnce(subject, settings, share);
  return (second.foreignShare ?? 1) < first.foreignShare ? second : first;
}

function progressLine({ round, subject, figures }: Sample): string {
  const shown = columns
    .filter(({ key }) => figures[key] !== null)
    .map(({ key, title, digits }) => `${title}: ${figures[key]!.toFixed(digits)}`);
  return `round ${round}, ${subject}\n  ${shown.join('; ')}`;
}

async function takeRounds(settings: Settings, share: Share): Promise<Rounds> {
  const { rounds, chosen } = settings;
  const samples: Sample[] = [];
  const failures: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (let turn = 0; turn < chosen.length; turn++) {
      const subject = chosen[(turn + round - 1) % chosen.length];
      try {
        const figures = await measureUndisturbed(subject, settings, share);
        const sample = { round, subject: subject.name, figures };
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

/** What can be compared, what of it will be, and why not the rest. */
export function listSubjects(chosen: readonly Subject[]): void {
  const width = Math.max(...subjects.map(({ name }) => name.length));
  for (const subject of subjects) {
    const missing = subject.missing();
    if (chosen.includes(subject)) console.log(`  ${subject.name.padEnd(width)}  ${subject.title}`);
    else if (missing !== false) console.log(`  ${subject.name.padEnd(width)}  skipped, ${missing}`);
  }
}

function announce({ rounds, seconds, mtuBytes, properties, chosen }: Settings, share: Share): void {
  const minutes = Math.ceil((rounds * chosen.length * secondsASubject(seconds)) / 60);
  const extra = properties.length === 0 ? '' : `; varpd with ${properties.join(', ')}`;
  console.log(
    `${rounds} rounds of ${chosen.length} subjects, some ${minutes} minutes; underlay MTU ${mtuBytes}; TCP ${seconds} s${extra}\n${share.how}`,
  );
  listSubjects(chosen);
}

export async function compare(settings: Settings, share: Share): Promise<Rounds> {
  announce(settings, share);
  const result = await takeRounds(settings, share);
  const { samples } = result;
  if (samples.length > 0) {
    console.log(`\nmedian (smallest..largest) of ${settings.rounds} rounds\n${mediansTable(samples)}`);
    if (samples.some(({ subject }) => subject === OURS) && settings.chosen.length > 1)
      console.log(`\nratio within a round, median (smallest..largest)\n${ratiosTable(samples, OURS)}`);
  }
  return result;
}
