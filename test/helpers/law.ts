// A law that holds for all values.

import fc from 'fast-check';
import type { Test } from 'tap';

import { part } from './whole.js';

/** Throws, with the smallest counterexample, where the law does not hold. */
export function law<Value>(
  arbitrary: fc.Arbitrary<Value>,
  predicate: (value: Value) => void,
  numRuns = 500,
): void {
  fc.assert(fc.property(arbitrary, predicate), { numRuns: part(numRuns) });
}

export interface Tries {
  readonly numRuns?: number;
  /** Another one each time unless it is given. */
  readonly seed?: number;
}

/** One assertion, which fails with the smallest counterexample. The law does not hold where the predicate throws, or says false. */
export function holds<Values extends [unknown, ...unknown[]]>(
  t: Test,
  name: string,
  arbitraries: { [Index in keyof Values]: fc.Arbitrary<Values[Index]> },
  predicate: (...values: Values) => boolean | undefined,
  { numRuns = 3000, seed }: Tries = {},
): void {
  const settings = { numRuns: part(numRuns), ...(seed === undefined ? {} : { seed }) };
  const isTrue = (...values: Values): boolean => predicate(...values) !== false;
  const run = fc.check(fc.property<Values>(...arbitraries, isTrue), settings);
  t.notOk(run.failed, run.failed ? `${name}: ${fc.defaultReportMessage(run)}` : name);
}
