// Every subject in turns (rounds.ts), and all figures of each.
import { Bed } from '../helpers/netns.js';
import { type Figures, measure, secondsASubject } from './measure.js';
import { columns } from './report/columns.js';
import { mediansTable, ratiosTable } from './report/tables.js';
import { type Rounds, takeRounds } from './rounds.js';
import type { Settings } from './settings.js';
import { type Share, undisturbed } from './share.js';
import { OURS, subjects } from './subjects/index.js';
import type { Subject } from './subjects/tunnel.js';

async function measureOnce(subject: Subject, settings: Settings, share: Share): Promise<Figures> {
  const bed = new Bed();
  try {
    return await measure(await subject.build(bed, settings), settings.seconds, share);
  } finally {
    await bed.cleanup();
  }
}

function describe(figures: Figures): string {
  const shown = columns
    .filter(({ key }) => figures[key] !== null)
    .map(({ key, title, digits }) => `${title}: ${figures[key]!.toFixed(digits)}`);
  return shown.join('; ');
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

export async function compare(settings: Settings, share: Share): Promise<Rounds<Figures>> {
  announce(settings, share);
  const turns = settings.chosen.map((subject) => ({
    name: subject.name,
    take: () => undisturbed(() => measureOnce(subject, settings, share)),
  }));
  const result = await takeRounds(settings.rounds, turns, describe);
  const { samples } = result;
  if (samples.length > 0) {
    console.log(`\nmedian (smallest..largest) of ${settings.rounds} rounds\n${mediansTable(samples)}`);
    if (samples.some(({ subject }) => subject === OURS) && settings.chosen.length > 1)
      console.log(`\nratio within a round, median (smallest..largest)\n${ratiosTable(samples, OURS)}`);
  }
  return result;
}
