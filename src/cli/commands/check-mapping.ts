/**
 * check-mapping: checks a file as the files plugin would, without varpd.
 *
 * The plugin itself does the check, by `LookupPlugin.check` of its contract. It is loaded by path as in
 * varpd, so that both agree, and the command line needs no knowledge of mappings.
 */
import type { CheckReport, FileProblem, LookupPlugin } from '../../plugin/contract.js';
import { asOverlayError } from '../../model/errors.js';
import { EXIT } from '../../model/exit-statuses.js';
import { CommandError, defineCommand, UsageError } from '../command.js';
import { formatJson } from '../show.js';
import { printable } from '../text.js';

/** The directory dist/plugins, beside dist/src. */
const PLUGIN = new URL('../../../plugins/files/index.js', import.meta.url);

export const command = defineCommand({
  synopsis: 'check-mapping [--json] file',
  about:
    'Checks a mapping of the files plugin, and names everything that is wrong with it. varpd is not asked and ' +
    'need not run. The exit status is 0 if it would take the file, and 10 if the file has errors.',
  options: [{ name: 'json', about: 'the same, as JSON' }],
  examples: ['check-mapping /etc/varpd/hosts.json', 'check-mapping --json /etc/varpd/hosts.json'],

  async run(args, { print }) {
    const [file, ...more] = args.operands;
    if (args.operands.length === 0) throw new UsageError('missing file');
    if (more.length > 0) throw new UsageError(`expected one file, got: ${args.operands.join(' ')}`);
    if (file === '') throw new UsageError('the name of the file is empty');
    const { default: plugin } = (await import(PLUGIN.href)) as { default: LookupPlugin };
    if (plugin.check === undefined) throw new CommandError(`the plugin ${plugin.name} checks no files`);

    const report = await plugin.check(file).catch((error: unknown) => {
      const { message, cause } = error as Error;
      throw new CommandError(message, [], asOverlayError(cause ?? error).exitStatus);
    });
    print(args.has('json') ? formatJson({ file, good: isGood(report), ...report }) : asText(file, report));
    if (!isGood(report))
      throw new CommandError(`${file} has ${count(report.errorCount, 'error')}`, [], EXIT.NO);
  },
});

function isGood({ errorCount }: CheckReport): boolean {
  return errorCount === 0;
}

/** Lines in a form that editors and CI can follow. */
function asText(file: string, report: CheckReport): string {
  const { errors, errorCount, warnings, warningCount, summary } = report;
  const lines = [
    ...errors.map((problem) => problemLine(file, 'error', problem)),
    ...more(errorCount - errors.length, 'error'),
    ...warnings.map((problem) => problemLine(file, 'warning', problem)),
    ...more(warningCount - warnings.length, 'warning'),
    ...(summary === undefined ? [] : [`${file} is good: ${summary}`]),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

function problemLine(file: string, kind: string, problem: FileProblem): string {
  const { line, column, path, found, expected } = problem;
  return `${file}:${line}:${column}: ${kind}: ${path}: found ${found}, expected ${expected}`;
}

function more(rest: number, kind: string): string[] {
  return rest > 0 ? [`and ${count(rest, `more ${kind}`)}`] : [];
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
