// A law that holds for all values.

import fc from 'fast-check';
import { part } from './whole.js';

/** Throws, with the smallest counterexample, where the law does not hold. */
export function law<Value>(
  arbitrary: fc.Arbitrary<Value>,
  predicate: (value: Value) => void,
  numRuns = 500,
): void {
  fc.assert(fc.property(arbitrary, predicate), { numRuns: part(numRuns) });
}
