// What `npm test`, `npm run test:quick` and `npm run test:full` run: tap on the test files, its output in short form, and the totals as the
// last line.
//
//   node dist/test/run.js [FILE]...     files as test/netns/x.test.ts or dist/test/netns/x.test.js; by default all of
//                                       test/unit, test/property and test/netns
//   node dist/test/run.js --quick       all of test/unit and test/property: what needs no root
//   node dist/test/run.js --full        all of test/full: what takes minutes
//
// Counted are leaf test points. A test that ends badly although none of its points failed (a timeout, a crash, a
// missing plan) counts as one failure. Exit code 0 only when something ran, nothing failed, and tap itself was content.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Parser, type Result } from 'tap-parser';
import { stringify } from 'yaml';

const root = fileURLToPath(new URL('../../', import.meta.url));

const totals = { passed: 0, failed: 0, skipped: 0 };

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
function follow(
  parser: Parser,
  scope: Scope,
  names: readonly string[],
  onClosed?: (file: Result, inner: Scope) => void,
): void {
  let inner: Scope | undefined;
  parser.on('child', (child: Parser) => {
    inner = emptyScope();
    follow(child, inner, [...names, child.name]);
  });
  parser.on('assert', (result: Result) => {
    const name = [...names.slice(1), result.name].join(' > ');
    account(scope, name, result, inner);
    onClosed?.(result, scope);
    inner = undefined;
  });
  parser.on('comment', (text: string) => {
    // "# time=" and "# Subtest:" are tap's own; the rest was said by a test.
    if (!/^# (time=|Subtest)/.test(text)) scope.notes.push(text.trimEnd());
  });
  parser.on('extra', (text: string) => scope.notes.push(text.trimEnd()));
  parser.on('bailout', (reason: string) => {
    scope.failed++;
    scope.report.push(`    bailed out: ${reason}`);
  });
}

/** Prints a finished test file and empties the scope for the next one. */
function reportFile(result: Result, scope: Scope): void {
  const { passed, failed, skipped } = scope;
  const counts = [
    `${passed} passed`,
    failed > 0 ? `${failed} failed` : '',
    skipped > 0 ? `${skipped} skipped` : '',
  ];
  const seconds = ((result.time ?? 0) / 1000).toFixed(1);
  console.log(
    `${failed > 0 ? 'not ok' : 'ok'}  ${result.name}  ${counts.filter(Boolean).join(', ')}  (${seconds} s)`,
  );
  for (const line of scope.report) console.log(line);
  if (failed > 0 && scope.notes.length > 0)
    console.log(`    output:\n${indent(scope.notes.join('\n'), '      ')}`);
  totals.passed += passed;
  totals.failed += failed;
  totals.skipped += skipped;
  Object.assign(scope, emptyScope());
}

const compiled = (file: string): string => {
  const relative = path.relative(root, path.resolve(file)).replace(/\.ts$/, '.js');
  return relative.startsWith('dist/') ? relative : path.join('dist', relative);
};

const startedMs = performance.now();
/** Every test of these folders. Named one by one: tap itself passes over what git ignores, and dist is ignored. */
const allTests = (folders: readonly string[]): string[] =>
  folders.flatMap((folder) =>
    readdirSync(path.join(root, 'dist/test', folder))
      .filter((name) => name.endsWith('.test.js'))
      .map((name) => path.join('dist/test', folder, name)),
  );

const args = process.argv.slice(2);
/** The longest files first: the short ones keep all cores busy at the end. */
const FOLDERS = new Map<string | undefined, readonly string[]>([
  [undefined, ['netns', 'property', 'unit']],
  ['--quick', ['property', 'unit']],
  ['--full', ['full']],
]);
const folders = FOLDERS.get(args.at(0));
const files = folders === undefined ? args.map(compiled) : allTests(folders);
const tap = spawn(path.join(root, 'node_modules/.bin/tap'), ['run', '--reporter=tap', ...files], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
const exited = new Promise<number | string>((resolve) => {
  tap.on('error', (error) => {
    resolve(error.message);
  });
  tap.on('close', (code, signal) => {
    resolve(signal ?? code ?? 1);
  });
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => tap.kill(signal));

const all = emptyScope();
const parser = new Parser();
follow(parser, all, [], reportFile);
tap.stdout.pipe(parser);
const status = await exited;

// What stands at the top level outside of any file, such as a bailout or the words of a tap that did not start.
const rest = [...all.report, ...(totals.passed + totals.failed === 0 ? all.notes : [])];
if (rest.length > 0) console.log(rest.join('\n'));
totals.failed += all.failed;

const { passed, failed, skipped } = totals;
const nothingRan = passed + failed === 0;
if (nothingRan) console.log('no test ran');
if (status !== 0 && failed === 0) console.log(`tap itself ended with ${status}`);
console.log(`took ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
console.log(
  [`${passed} passed`, `${failed} failed`, ...(skipped > 0 ? [`${skipped} skipped`] : [])].join(', '),
);
process.exitCode = status !== 0 || failed > 0 || nothingRan ? 1 : 0;
