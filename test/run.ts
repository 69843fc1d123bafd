// What `npm test`, `npm run test:quick` and `npm run test:full` run: the test files, some at a time, their output in short form, and the
// totals as the last line. Each file is a program of its own: `tap run` takes more than a second of CPU time for each.
//
//   node dist/test/run.js [FILE]...     files as test/netns/x.test.ts or dist/test/netns/x.test.js; by default all of
//                                       test/unit, test/property and test/netns
//   node dist/test/run.js --quick       all of test/unit and test/property: what needs no root
//   node dist/test/run.js --full        all of test/full: what takes long, or few changes can break; and each try of the tests
//                                       that make a few of them otherwise (helpers/whole.ts)
//
// Counted are leaf test points. A test that ends badly although none of its points failed (a timeout, a crash, a
// missing plan) counts as one failure. Exit code 0 only when something ran and nothing failed.
//
// A file that fails beside the others runs once more at the end, with nothing beside it, and then counts by that. Both are
// printed, and the last line says how many were repeated: each is a fault of the test or of varpd that is still to be found.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { type FinalResults, Parser, type Result } from 'tap-parser';
import { stringify } from 'yaml';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Files at a time, whatever they do. */
const JOBS = os.availableParallelism();
/** And as many more as there is processor time for: a test of the network waits more than it works. */
const MAX_JOBS = 8 * JOBS;
/** So often that is looked at. A test file works hardest when it begins. */
const LOOK_MS = 400;
/** A file more, when this much of one processor was idle. */
const ENOUGH_IDLE = 0.2;
/** For one file, and for one of test/full, which may make packages on a busy machine; unless the environment says. */
const TIMEOUT_S = 900;
const FULL_TIMEOUT_S = 2700;

/** With more failed files than that, none is repeated: the fault is not one of chance. */
const MAX_REPEATED = 3;

/** One test file, or one `t.test()` in it. */
interface Scope {
  passed: number;
  failed: number;
  skipped: number;
  /** Printed only when the file fails: its comments, its other output. */
  readonly notes: string[];
  /** Lines about failed and skipped points. */
  readonly report: string[];
}

const emptyScope = (): Scope => ({ passed: 0, failed: 0, skipped: 0, notes: [], report: [] });

const indent = (text: string, by: string): string => text.trimEnd().replaceAll(/^/gm, by);

function reasonOf(result: Result): string | undefined {
  const mark = result.skip || result.todo;
  if (mark === false) return undefined;
  return mark === true || mark === '' ? 'no reason given' : mark;
}

function failureText(name: string, result: Result): string {
  const diagnostics = result.diag as Record<string, unknown> | null;
  // The place in the compiled file says nothing that the place in the source does not.
  const details = diagnostics
    ? `\n${indent(
        stringify(diagnostics, (key, value: unknown) => (key === 'generated' ? undefined : value)),
        '      ',
      )}`
    : '';
  return `    not ok: ${name}${details}`;
}

/** Counts one test point. `inner` are the counts of the subtest that it closes, if it closes one. */
function account(scope: Scope, name: string, result: Result, inner: Scope | undefined): void {
  if (inner !== undefined) {
    scope.passed += inner.passed;
    scope.failed += inner.failed;
    scope.skipped += inner.skipped;
    scope.notes.push(...inner.notes);
    scope.report.push(...inner.report);
  }
  const reason = reasonOf(result);
  const isEmpty = inner === undefined || inner.passed + inner.failed + inner.skipped === 0;
  if (reason !== undefined) {
    if (!isEmpty) return;
    scope.skipped++;
    scope.report.push(`    skipped: ${name}: ${reason}`);
  } else if (!result.ok) {
    if (inner !== undefined && inner.failed > 0) return;
    scope.failed++;
    scope.report.push(failureText(name, result));
  } else if (isEmpty) {
    scope.passed++;
  }
}

/** Follows one level of the stream; the points of subtests come before the point that closes them. */
function follow(parser: Parser, scope: Scope, names: readonly string[]): void {
  let inner: Scope | undefined;
  parser.on('child', (child: Parser) => {
    inner = emptyScope();
    follow(child, inner, [...names, child.name]);
  });
  parser.on('assert', (result: Result) => {
    account(scope, [...names, result.name].join(' > '), result, inner);
    inner = undefined;
  });
  parser.on('comment', (text: string) => {
    // "# time=", "# Subtest:" and the counts are tap's own; the rest was said by a test.
    if (!/^# (time=|Subtest|\{)/.test(text)) scope.notes.push(text.trimEnd());
  });
  parser.on('extra', (text: string) => scope.notes.push(text.trimEnd()));
  parser.on('bailout', (reason: string) => {
    scope.failed++;
    scope.report.push(`    bailed out: ${reason}`);
  });
}

/** Prints what became of a test file. */
function reportFile(file: string, { passed, failed, skipped, report, notes }: Scope, seconds: number): void {
  const counts = [
    `${passed} passed`,
    failed > 0 ? `${failed} failed` : '',
    skipped > 0 ? `${skipped} skipped` : '',
  ];
  const line = `${file}  ${counts.filter(Boolean).join(', ')}  (${seconds.toFixed(1)} s)`;
  console.log(`${failed > 0 ? 'not ok' : 'ok'}  ${line}`);
  for (const line of report) console.log(line);
  if (failed > 0 && notes.length > 0) console.log(`    output:\n${indent(notes.join('\n'), '      ')}`);
}

const running = new Set<ChildProcess>();
const isFull = process.argv.at(2) === '--full';

async function runFile(file: string): Promise<Scope> {
  const startedMs = performance.now();
  const timeoutS = file.startsWith('dist/test/full/') ? FULL_TIMEOUT_S : TIMEOUT_S;
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { TAP_TIMEOUT: `${timeoutS}`, ...process.env, ...(isFull && { VARPD_TEST_WHOLE: 'yes' }) },
  });
  running.add(child);
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => {
      resolve(error.message);
    });
    child.on('close', (code, signal) => {
      resolve(code === 0 ? undefined : `ended with ${signal ?? `code ${code ?? '?'}`}`);
    });
  });
  // The file ends itself before that, unless it hangs in one of its own steps.
  const timer = setTimeout(() => child.kill('SIGKILL'), (timeoutS + 60) * 1000);
  const scope = emptyScope();
  const parser = new Parser();
  follow(parser, scope, []);
  const completed = new Promise<FinalResults>((resolve) => {
    parser.on('complete', resolve);
  });
  child.stdout.pipe(parser);
  const trouble = await ended;
  const { ok, plan, failures } = await completed;
  clearTimeout(timer);
  running.delete(child);
  if (scope.failed === 0 && (!ok || trouble !== undefined)) {
    const said = failures.flatMap((failure) => ('tapError' in failure ? [failure.tapError] : []));
    scope.failed++;
    scope.report.push(`    not ok: ${[...said, trouble ?? []].flat().join(', ')}`);
  } else if (plan.skipAll) {
    scope.skipped++;
    scope.report.push(`    skipped: ${plan.skipReason}`);
  }
  reportFile(file, scope, (performance.now() - startedMs) / 1000);
  return scope;
}

const compiled = (file: string): string => {
  const relative = path.relative(root, path.resolve(file)).replace(/\.ts$/, '.js');
  return relative.startsWith('dist/') ? relative : path.join('dist', relative);
};

const startedMs = performance.now();
/** Every test of these folders. */
const allTests = (folders: readonly string[]): string[] =>
  folders.flatMap((folder) =>
    readdirSync(path.join(root, 'dist/test', folder))
      .filter((name) => name.endsWith('.test.js'))
      .map((name) => path.join('dist/test', folder, name)),
  );

/** The tests that make a few tries of many, by themselves or by what they import. */
const partialTests = (): string[] =>
  allTests(['netns', 'property', 'unit']).filter((file) =>
    /\/helpers\/(?:whole|law|offload)\.js|\/faults\/rows\//.test(readFileSync(path.join(root, file), 'utf8')),
  );

const args = process.argv.slice(2);
/** What takes longest begins first, and the short ones keep all processors busy at the end. */
const LONGEST = [
  ...['restart-table', 'packages', 'nats', 'package-upgrade', 'upgrade', 'plugin-author'],
  ...['http-conformance', 'probe', 'faults', 'notes', 'peers', 'spoof', 'files-hang', 'stop', 'placement'],
  ...['restart', 'files-clients', 'ageing', 'plugin-process', 'queues', 'link', 'capture', 'offload'],
  ...['protection', 'owner', 'tunnels', 'user', 'secrets', 'statistics', 'path-news', 'ending', 'path-width'],
];
const rank = (file: string): number => {
  const index = LONGEST.indexOf(path.basename(file, '.test.js'));
  return index < 0 ? LONGEST.length : index;
};
const FOLDERS = new Map<string | undefined, readonly string[]>([
  [undefined, ['netns', 'property', 'unit']],
  ['--quick', ['property', 'unit']],
  ['--full', ['full']],
]);
const folders = FOLDERS.get(args.at(0));
const files =
  folders === undefined
    ? args.map(compiled)
    : [...allTests(folders), ...(isFull ? partialTests() : [])].sort((one, other) => rank(one) - rank(other));
let isStopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    isStopped = true;
    files.length = 0;
    for (const child of running) child.kill(signal);
  });
/** Of all processors together, in processors, since it was last asked. */
function createIdleMeter(): () => number {
  const read = (): { idleMs: number; atMs: number } => ({
    idleMs: os.cpus().reduce((sum, { times }) => sum + times.idle, 0),
    atMs: performance.now(),
  });
  let last = read();
  return () => {
    const now = read();
    const idle = (now.idleMs - last.idleMs) / (now.atMs - last.atMs);
    last = now;
    return idle;
  };
}

const results = new Map<string, Scope>();
const idleProcessors = createIdleMeter();
/** One file, beside what the others run. */
const helper = async (): Promise<void> => {
  const file = files.shift();
  if (file !== undefined) results.set(file, await runFile(file));
};
/** Runs one file after another, until there is none. */
const worker = async (): Promise<void> => {
  while (files.length > 0) await helper();
};
const work = Array.from({ length: JOBS }, worker);
while (files.length > 0) {
  await sleep(LOOK_MS);
  if (idleProcessors() >= ENOUGH_IDLE && running.size < MAX_JOBS) work.push(helper());
}
await Promise.all(work);

const failedFiles = [...results].flatMap(([file, { failed }]) => (failed > 0 ? [file] : []));
const isRepeated = folders !== undefined && failedFiles.length <= MAX_REPEATED && !isStopped;
const repeated = isRepeated ? failedFiles : [];
for (const file of repeated) {
  console.log(`again, with nothing beside it: ${file}`);
  results.set(file, await runFile(file));
}

const sum = (count: (scope: Scope) => number): number =>
  [...results.values()].reduce((total, scope) => total + count(scope), 0);
const [passed, failed, skipped] = [
  sum((one) => one.passed),
  sum((one) => one.failed),
  sum((one) => one.skipped),
];
const nothingRan = passed + failed === 0;
if (nothingRan) console.log('no test ran');
console.log(`took ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
const rest = [
  ...(skipped > 0 ? [`${skipped} skipped`] : []),
  ...(repeated.length > 0 ? [`files repeated: ${repeated.length}`] : []),
];
console.log([`${passed} passed`, `${failed} failed`, ...rest].join(', '));
process.exitCode = failed > 0 || nothingRan ? 1 : 0;
