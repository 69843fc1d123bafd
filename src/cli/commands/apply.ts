/**
 * apply: makes the overlays of varpd as a document declares them. varpd is asked about every overlay first, and refuses
 * what it would refuse, before anything is changed.
 */
import { readFileSync } from 'node:fs';
import type { Methods } from '../../control/methods.js';
import { asOverlayError, errorText } from '../../model/errors.js';
import { attempt, CommandError, type Context, defineCommand, UsageError } from '../command.js';
import { readDocument, type WantedOverlay } from '../declare/document.js';
import { readList } from '../show.js';
import { refuseOperands } from '../values.js';

const STANDARD_INPUT = 0;

export const command = defineCommand({
  synopsis: 'apply -f file [--dry-run] [--prune] [--exit-code]',
  about:
    'Makes overlays, VNICs and link properties as a document declares them, and prints each difference. The rest is ' +
    'not touched. Each overlay is changed as a whole or not at all. A document that is not valid changes nothing.',
  options: [
    {
      name: 'file',
      short: 'f',
      value: 'file',
      about: 'the document, as export writes it; - is standard input',
    },
    { name: 'dry-run', about: 'print the differences, and change nothing' },
    { name: 'prune', about: 'delete persistent overlays and VNICs that the document does not have' },
    { name: 'exit-code', about: 'exit status 10 if there was a difference' },
  ],
  examples: ['apply -f overlays.yaml --dry-run', 'export | dladm --socket /run/other.sock apply -f -'],

  async run(args, context) {
    const file = args.value('file');
    if (file === undefined) throw new UsageError('missing document: -f file');
    refuseOperands(args);
    const wanted = readDocument(read(file), file === '-' ? 'standard input' : file);
    const prune = args.has('prune');
    const superfluous = prune ? await findSuperfluous(wanted, context) : [];
    let differences = await run({ wanted, superfluous, prune, dryRun: true }, context, args.has('dry-run'));
    if (!args.has('dry-run'))
      differences = await run({ wanted, superfluous, prune, dryRun: false }, context, true);
    if (differences > 0 && args.has('exit-code')) context.refute();
  },
});

function read(file: string): string {
  try {
    return readFileSync(file === '-' ? STANDARD_INPUT : file, 'utf8');
  } catch (error) {
    throw new CommandError(`cannot read ${file}: ${errorText(error)}`, [], asOverlayError(error).code);
  }
}

/** The stored overlays that the document does not have. */
async function findSuperfluous(wanted: readonly WantedOverlay[], context: Context): Promise<string[]> {
  const pages = await readList('failed to read overlays', 'overlay.export', {}, context);
  const names = new Set(wanted.map(({ name }) => name));
  return pages.flatMap(({ overlays }) => overlays.map(({ name }) => name)).filter((name) => !names.has(name));
}

interface Work {
  readonly wanted: readonly WantedOverlay[];
  readonly superfluous: readonly string[];
  readonly prune: boolean;
  readonly dryRun: boolean;
}

/** Returns the number of differences. Throws a CommandError when nothing has been changed; later failures are reported. */
async function run(
  { wanted, superfluous, prune, dryRun }: Work,
  context: Context,
  isTold: boolean,
): Promise<number> {
  const { call } = context;
  let differences = 0;
  // A dry run is told what the run will have changed by then.
  const networks: [string, string][] = [];
  const gone: string[] = [];
  const errors: CommandError[] = [];
  const take = async (
    what: string,
    answer: Promise<{ readonly changes: readonly string[]; readonly network?: string | null }>,
    name: string,
  ): Promise<void> => {
    try {
      const { changes, network } = await attempt(what, answer);
      if (typeof network === 'string') networks.push([name, network]);
      gone.push(...changes.filter((line) => line.startsWith('- ')).map((line) => line.slice(2)));
      differences += changes.length;
      if (isTold) context.print(changes.map((line) => `${line}\n`).join(''));
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      errors.push(error);
    }
  };
  for (const name of superfluous)
    await take(`cannot delete ${name}`, call('overlay.prune', { name, dryRun }), name);
  for (const { place, vnics, ...overlay } of wanted) {
    const request: Methods['overlay.apply']['params'] = {
      ...overlay,
      vnics: vnics.map(({ name, settings }): [string, [string, string[]][]] => [name, settings]),
      prune,
      dryRun,
      ...(dryRun && { networks, gone }),
    };
    const answer = applied(call('overlay.apply', request), context);
    await take(`${place}: cannot apply ${overlay.name}`, answer, overlay.name);
  }
  if (errors.length === 0) return differences;
  if (!dryRun) {
    for (const error of errors) context.fail(error);
    return differences;
  }
  const details = errors.flatMap((error) => [...error.details, error.message]);
  const isOneStatus = errors.every(({ status }) => status === errors[0].status);
  throw new CommandError('nothing is changed', details, isOneStatus ? errors[0] : 'FAILED');
}

async function applied(
  answer: Promise<Methods['overlay.apply']['result']>,
  context: Context,
): Promise<Methods['overlay.apply']['result']> {
  const result = await answer;
  for (const { name, message } of result.failures)
    context.fail(new CommandError(`${name} is applied, and OFFLINE: ${message}`));
  return result;
}
