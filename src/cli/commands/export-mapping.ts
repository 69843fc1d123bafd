/** export-mapping: writes the mapping in a store to a mapping file, without varpd. The plugin of the store does the work. */
import { open, rename, rm } from 'node:fs/promises';
import { counted } from '../../model/sentences.js';
import { CommandError, defineCommand, UsageError } from '../command.js';
import { formatJson } from '../show.js';
import { fromStore, storeOf, storeProperties, storeTarget, TRANSFER_SHAPE } from '../store-url.js';

export const command = defineCommand({
  synopsis: 'export-mapping [--json] [-p prop=value[,...]] url [file]',
  about:
    'Writes the mapping in a store to a file, or to standard output. The file is replaced as a whole. varpd is not asked and ' +
    'need not run. The exit status is 10, and nothing is written, if the store has records that a mapping file cannot have.',
  options: [storeProperties, { name: 'json', about: 'print what was done as JSON; needs a file' }],
  examples: [
    'export-mapping nats://store1,store2/varpd-23 /tmp/hosts.json',
    'export-mapping nats://store/varpd-23',
  ],

  async run(args, { print }) {
    const [url, file, ...more] = args.operands;
    if (args.operands.length === 0) throw new UsageError('missing url');
    if (more.length > 0) throw new UsageError(`expected a url and a file, got: ${args.operands.join(' ')}`);
    if (args.has('json') && args.operands.length < 2) throw new UsageError('--json needs a file');
    const target = storeTarget(url, args.values('prop'));
    const store = await storeOf(url);
    const { mapping, ...report } = await fromStore(store.exportMapping(target));
    const { place, entries, problems, problemCount } = report;
    if (mapping !== undefined && args.operands.length < 2) print(mapping);
    else if (mapping !== undefined) await fromStore(writeWhole(file, mapping));
    if (args.has('json')) print(formatJson({ v: TRANSFER_SHAPE, url, file, ...report }));
    else if (mapping !== undefined && args.operands.length > 1)
      print(`${file}: ${counted(entries, 'entry', 'entries')} of the ${place}\n`);
    if (problemCount === 0) return;
    const what = `the ${place} has ${counted(problemCount, 'record')} that a mapping file cannot have; nothing was written`;
    throw new CommandError(what, problems, 'NO');
  },
});

/** A reader of the file sees the old contents or the new. */
async function writeWhole(file: string, text: string): Promise<void> {
  const fresh = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(fresh, 'wx', 0o644);
    try {
      await handle.writeFile(text);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(fresh, file);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
}
