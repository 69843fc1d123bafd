/**
 * check-mapping: checks a file as the files plugin would, without varpd.
 *
 * The plugin itself does the check, by `LookupPlugin.check` of its contract. It is loaded by path as in
 * varpd, so that both agree, and the command line needs no knowledge of mappings.
 */
import { createReadStream } from 'node:fs';
import { counted } from '../../model/sentences.js';
import type { CheckReport, FileProblem, LookupPlugin } from '../../plugin/contract.js';
import { asOverlayError, type ErrorCode, errorText } from '../../model/errors.js';
import { CommandError, defineCommand, UsageError } from '../command.js';
import { formatJson } from '../show.js';
import { printable } from '../text.js';

/** The directory dist/plugins, beside dist/src. */
const PLUGIN = new URL('../../../plugins/files/index.js', import.meta.url);

/** Version of the shape of --json (plugins/files/README.md). */
const SHAPE = 1;
const STANDARD_INPUT = '-';
/** The name of standard input in messages, as compilers have it. */
const SHOWN_INPUT = '<stdin>';

/** The file could not be read. */
interface Unreadable {
  readonly reason: ErrorCode;
  readonly message: string;
}

const NOTHING: CheckReport = {
  errors: [],
  errorCount: 0,
  warnings: [],
  warningCount: 0,
  summary: undefined,
};

export const command = defineCommand({
  synopsis: 'check-mapping [--json] file',
  about:
    'Checks a mapping of the files plugin, and names everything that is wrong with it; - is standard input. varpd is not asked and ' +
    'need not run. The exit status is 0 if it would take the file, and 10 if the file has errors.',
  options: [{ name: 'json', about: 'the same, as JSON' }],
  examples: [
    'check-mapping /etc/varpd/hosts.json',
    'check-mapping --json /etc/varpd/hosts.json',
    'check-mapping - < new-hosts.json',
  ],

  async run(args, { print }) {
    const [file, ...more] = args.operands;
    if (args.operands.length === 0) throw new UsageError('missing file');
    if (more.length > 0) throw new UsageError(`expected one file, got: ${args.operands.join(' ')}`);
    if (file === '') throw new UsageError('the name of the file is empty');
    const { default: plugin } = (await import(PLUGIN.href)) as { default: LookupPlugin };

    const shown = file === STANDARD_INPUT ? SHOWN_INPUT : file;
    const [report, unreadable] = await checkWith(plugin, file, shown);
    const good = unreadable === null && report.errorCount === 0;
    if (args.has('json')) print(formatJson({ v: SHAPE, file, good, unreadable, ...report }));
    else print(asText(shown, report));
    if (unreadable !== null) throw new CommandError(unreadable.message, [], unreadable.reason);
    if (!good) throw new CommandError(`${shown} has ${counted(report.errorCount, 'error')}`, [], 'NO');
  },
});

async function checkWith(
  plugin: LookupPlugin,
  file: string,
  shown: string,
): Promise<[CheckReport, Unreadable | null]> {
  if (plugin.check === undefined) throw new CommandError(`the plugin ${plugin.name} checks no files`);
  try {
    return [await plugin.check(shown, file === STANDARD_INPUT ? standardInput() : undefined), null];
  } catch (error) {
    const { code } = asOverlayError(
      error instanceof Error && error.cause !== undefined ? error.cause : error,
    );
    return [NOTHING, { reason: code, message: errorText(error) }];
  }
}

/** Not process.stdin, which is empty where it cannot be read: a directory, or a closed descriptor. */
async function* standardInput(): AsyncGenerator<Uint8Array, void> {
  try {
    for await (const piece of createReadStream('', { fd: 0, autoClose: false })) yield piece as Uint8Array;
  } catch (error) {
    throw new Error(`cannot read ${SHOWN_INPUT}: ${errorText(error)}`, { cause: error });
  }
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
  return rest > 0 ? [`and ${counted(rest, `more ${kind}`)}`] : [];
}
