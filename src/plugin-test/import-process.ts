/**
 * A process that imports the entry file of a plugin and reports what the import has done beside it: node import-process.js URL.
 * The report is one line of JSON on standard output, an ImportReport.
 */
import { writeSync } from 'node:fs';
import { register } from 'node:module';

import { errorText } from '../model/errors.js';
import type { HookData } from '../plugin-process/hooks.js';
import { forbidExit, runForbidden } from './exits.js';
import { HandleWatch } from './leaks.js';
import { untilQuiet } from './quiet.js';
import { threadNowMs } from './thread-time.js';
import { VirtualClock } from './virtual-clock.js';

/** The result of an import. */
export interface ImportReport {
  /** Everything that the import has done and must not do. */
  readonly problems: readonly string[];
  readonly tookMs: number;
}

/** Objects that a plugin must not change for others, by name. */
const GLOBALS: Readonly<Record<string, object>> = {
  Object: Object.prototype,
  Array: Array.prototype,
  String: String.prototype,
  Number: Number.prototype,
  Promise: Promise.prototype,
  Map: Map.prototype,
  JSON,
  Math,
  process,
  console,
};
const EVENTS = ['uncaughtException', 'unhandledRejection', 'SIGTERM', 'exit'] as const;

const fingerprint = (): Map<string, unknown> =>
  new Map<string, unknown>([
    ...Object.entries(GLOBALS).flatMap(([name, value]) =>
      Object.getOwnPropertyNames(value).map(
        (key) =>
          [`${name}.${key}`, Object.getOwnPropertyDescriptor(value, key)?.value as unknown] as [
            string,
            unknown,
          ],
      ),
    ),
    ...EVENTS.map((event) => [`listeners of ${event}`, process.listenerCount(event)] as [string, unknown]),
    ['fetch', globalThis.fetch],
  ]);

/** Parts of `process` that change by themselves. */
const VOLATILE = /^process\.(?:_|exitCode|report|env$|title|stdin|stdout|stderr)/;

async function importIt(url: string): Promise<ImportReport> {
  const problems: string[] = [];
  const clock = new VirtualClock((error) => problems.push(`a timer has thrown: ${errorText(error)}`));
  const handles = new HandleWatch();
  const allowExit = forbidExit();
  const before = fingerprint();
  const startedMs = threadNowMs();
  try {
    await clock.run(() =>
      handles.run(() =>
        runForbidden(
          (call) => problems.push(`calls ${call}`),
          () => import(url) as Promise<unknown>,
        ),
      ),
    );
  } catch (error) {
    problems.push(`cannot be imported: ${errorText(error)}`);
  }
  const tookMs = threadNowMs() - startedMs;
  const quiet = {
    pump: () => false,
    held: () => undefined,
    work: () => handles.work,
    calls: () => 0,
    silent: new Set<number>(),
  };
  await untilQuiet(quiet, () => false);
  problems.push(...clock.pending.map((place) => `sets a timer at ${place}`));
  problems.push(...handles.open.map((handle) => `opens ${handle}`));
  for (const [name, value] of fingerprint())
    if (!VOLATILE.test(name) && !Object.is(before.get(name), value)) problems.push(`changes ${name}`);
  allowExit();
  return { problems, tookMs };
}

const hooks: HookData = {
  plugin: new URL('../plugin/index.js', import.meta.url).href,
  directory: new URL('./', process.argv[2]).href,
};
register('../plugin-process/hooks.js', import.meta.url, { data: hooks });
const report = await importIt(process.argv[2]);
writeSync(1, `${JSON.stringify(report)}\n`);
process.exit(0);
