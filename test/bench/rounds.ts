// Turns: each round takes every turn once, in an order that shifts from round to round, since the speed of a shared machine
// drifts by more than the subjects differ. Ratios are taken within a round (report/samples.ts).
import type { Sample } from './report/samples.js';

export interface Turn<F> {
  /** The `subject` of its samples. */
  readonly name: string;
  readonly take: () => Promise<F>;
}

export interface Rounds<F> {
  /** By round, and within a round in the order of the turns. */
  readonly samples: readonly Sample<F>[];
  readonly failures: string[];
}

/** A turn that fails is printed and noted; the others go on. `describe`: what is printed of the figures of a turn. */
export async function takeRounds<F>(
  rounds: number,
  turns: readonly Turn<F>[],
  describe: (figures: F) => string,
): Promise<Rounds<F>> {
  const samples: Sample<F>[] = [];
  const failures: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (let place = 0; place < turns.length; place++) {
      const { name, take } = turns[(place + round - 1) % turns.length];
      try {
        const figures = await take();
        samples.push({ round, subject: name, figures });
        console.log(`round ${round}, ${name}\n  ${describe(figures)}`);
      } catch (error) {
        failures.push(`round ${round}, ${name}: ${(error as Error).message}`);
        console.error(`FAILED  ${failures.at(-1)!}`);
      }
    }
  }
  const order = turns.map(({ name }) => name);
  samples.sort((x, y) => x.round - y.round || order.indexOf(x.subject) - order.indexOf(y.subject));
  return { samples, failures };
}
