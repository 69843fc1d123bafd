/**
 * Conformance: checks that a plugin keeps its side of the contract (plugin/contract.ts). Every check has a name, makes its own
 * harness, and throws an Error that says what is wrong, so that it fits any test framework:
 *
 *   for (const { name, run } of checks(plugin, { known: ['02:00:00:00:00:07'] })) test(name, run);
 *
 * `conformance` runs them all and returns a report.
 */
import { errorText } from '../model/errors.js';
import type { CheckSpec } from './check-parts.js';
import { CHECKS, type CheckName } from './checks.js';
import type { AnyPlugin, ConformanceOptions } from './options.js';

export interface Check {
  readonly name: CheckName;
  /** The duty that is checked, in one sentence. */
  readonly about: string;
  /** Why this check cannot be run with these options. */
  readonly skip: string | undefined;
  /** Resolves when the plugin passes, or when the check is skipped. Rejects with an Error that says what is wrong. */
  readonly run: () => Promise<void>;
}

export interface CheckResult {
  readonly name: CheckName;
  readonly about: string;
  readonly status: 'pass' | 'fail' | 'skip';
  /** Why it has failed, or is skipped. */
  readonly why?: string;
}

export interface Report {
  readonly isGood: boolean;
  readonly results: readonly CheckResult[];
  /** One line for each check. */
  readonly text: string;
}

/** The checks for this plugin, to be run in any order, one at a time. */
export function checks(plugin: AnyPlugin, options: ConformanceOptions = {}): readonly Check[] {
  return Object.entries<CheckSpec>(CHECKS).map(([name, { about, skip, run }]) => {
    const why = skip?.(plugin, options);
    return {
      name: name as CheckName,
      about,
      skip: why,
      run: () => (why === undefined ? run(plugin, options) : Promise.resolve()),
    };
  });
}

/** Runs all checks. Resolves to a report, and never rejects because of the plugin. */
export async function conformance(plugin: AnyPlugin, options: ConformanceOptions = {}): Promise<Report> {
  const results: CheckResult[] = [];
  for (const { name, about, skip, run } of checks(plugin, options)) {
    if (skip !== undefined) {
      results.push({ name, about, status: 'skip', why: skip });
      continue;
    }
    try {
      await run();
      results.push({ name, about, status: 'pass' });
    } catch (error) {
      results.push({ name, about, status: 'fail', why: errorText(error) });
    }
  }
  const text = results.map(({ name, about, status, why }) =>
    why === undefined ? `${status} ${name}: ${about}` : `${status} ${name}: ${about}: ${why}`,
  );
  return { isGood: results.every(({ status }) => status !== 'fail'), results, text: text.join('\n') };
}
