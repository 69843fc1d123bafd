// What the rounds gave, and what is made of them.
import type { Figures } from '../measure.js';
import { type Spread, spread } from './statistics.js';

export interface Sample<F = Figures> {
  readonly round: number;
  readonly subject: string;
  readonly figures: F;
}

/** Samples that have a figure. */
type With<K extends string> = readonly Sample<Readonly<Record<K, number | null>>>[];

export const names = (samples: readonly Sample<unknown>[]): string[] => [
  ...new Set(samples.map(({ subject }) => subject)),
];

export function spreadOf<K extends string>(samples: With<K>, subject: string, key: K): Spread | undefined {
  const own = samples.filter((sample) => sample.subject === subject).map(({ figures }) => figures[key]);
  return spread(own.filter((value) => value !== null));
}

/** Ratio of one subject to another, taken within each round, so that the machine's drift cancels out. */
export function pairedRatio<K extends string>(
  samples: With<K>,
  subject: string,
  peer: string,
  key: K,
): Spread | undefined {
  const of = (name: string, round: number): number | null | undefined =>
    samples.find((sample) => sample.subject === name && sample.round === round)?.figures[key];
  const ratios = [...new Set(samples.map(({ round }) => round))].flatMap((round) => {
    const [own, other] = [of(subject, round), of(peer, round)];
    return own == null || other == null || other === 0 ? [] : [own / other];
  });
  return spread(ratios);
}
