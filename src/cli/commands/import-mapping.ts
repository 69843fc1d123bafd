/**
 * import-mapping: makes the mapping in a store equal to a mapping file, without varpd.
 *
 * The plugin files checks the file, and the plugin of the store does the rest.
 */
import { readFile } from 'node:fs/promises';
import { counted } from '../../model/sentences.js';
import type { EntryDifference, ImportReport } from '../../plugin/mapping-store.js';
import { CommandError, defineCommand, UsageError } from '../command.js';
import { formatJson } from '../show.js';
import {
  fromStore,
  loadPlugin,
  storeOf,
  storeProperties,
  storeTarget,
  TRANSFER_SHAPE,
} from '../store-url.js';
import { printable } from '../text.js';

export const command = defineCommand({
  synopsis: 'import-mapping [-n] [--json] [-p prop=value[,...]] file url',
  about:
    'Makes the mapping in a store equal to a mapping file. It writes only what differs, so that a repeated import writes ' +
    'nothing, and prints the differences. varpd is not asked and need not run. The exit status is 10 if the file has errors, ' +
    'and 7 if another writer has changed the same records meanwhile.',
  options: [
    { name: 'dry-run', short: 'n', about: 'print the differences, and write nothing' },
    storeProperties,
    { name: 'json', about: 'the same, as JSON' },
  ],
  examples: [
    'import-mapping -n /etc/varpd/hosts.json nats://store1,store2/varpd-23',
    'import-mapping -p create=on,user=operator,password=/root/nats.password hosts.json \\\n' +
      '        tls://store.example/varpd-23',
  ],

  async run(args, { print, fail }) {
    const [file, url, ...more] = args.operands;
    if (args.operands.length < 2)
      throw new UsageError(args.operands.length === 0 ? 'missing file' : 'missing url');
    if (more.length > 0) throw new UsageError(`expected a file and a url, got: ${args.operands.join(' ')}`);
    const target = storeTarget(url, args.values('prop'));
    const store = await storeOf(url);
    const mapping = await readMapping(file);
    const isDryRun = args.has('dry-run');
    const report = await fromStore(store.importMapping(mapping, target, isDryRun));
    print(
      args.has('json')
        ? formatJson({ v: TRANSFER_SHAPE, file, url, dryRun: isDryRun, ...report })
        : asText(report, isDryRun),
    );
    if (report.conflictCount > 0)
      fail(
        new CommandError(
          `left as another writer has made it meanwhile: ${counted(report.conflictCount, 'record')} of the ${report.place}: ` +
            report.conflicts.slice(0, 3).join(', '),
          [],
          'AGAIN',
          'import again',
        ),
      );
  },
});

async function readMapping(file: string): Promise<string> {
  const files = await loadPlugin('files');
  const { errorCount, errors } = await fromStore(files.check!(file));
  if (errorCount > 0) {
    const [{ line, column, path, expected }] = errors;
    throw new CommandError(
      `${file} has ${counted(errorCount, 'error')} (dladm check-mapping ${file})`,
      [`${file}:${line}:${column}: ${path}: expected ${expected}`],
      'NO',
    );
  }
  return readFile(file, 'utf8');
}

function asText(report: ImportReport, isDryRun: boolean): string {
  const { place, added, changed, removed, unchanged, differences, writes } = report;
  const hidden = added + changed + removed - differences.length;
  const done = isDryRun ? 'would be written' : 'written';
  const lines = [
    ...differences.map(differenceLine),
    ...(hidden > 0 ? [`and ${hidden} more`] : []),
    `${place}: +${added} -${removed} ~${changed} entries, ${unchanged} unchanged, ${counted(writes, 'record')} ${done}`,
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

function differenceLine({ mac, before, after }: EntryDifference): string {
  if (before === undefined) return `+ ${mac} ${after ?? ''}`;
  if (after === undefined) return `- ${mac} ${before}`;
  return before === after ? `~ ${mac} ${after}` : `~ ${mac} ${before} -> ${after}`;
}
