/**
 * files: a virtual network out of one JSON file that all hosts share. The file has the VTEP and the addresses of every
 * MAC. So ARP, neighbor discovery and DHCP need no broadcast. See README.md.
 */
import { type CheckReport, definePlugin, type FileProblem } from '../../src/plugin/index.js';
import { FilesInstance } from './instance.js';
import { loadMapping } from './load.js';
import { entries } from './mapping.js';
import type { Located } from '../../src/plugin/mapping/problems.js';
import { FileError, readStream, readWhole } from './read.js';

/** The problems with their quotations, since `check` reads the file with the rights of the user that asks. */
const shown = (problems: readonly Located[]): FileProblem[] =>
  problems.map(({ line, column, code, path, found, expected }) => ({
    ...{ line, column, code, path, found, expected },
  }));

async function check(file: string, contents?: AsyncIterable<Uint8Array>): Promise<CheckReport> {
  try {
    const read = contents === undefined ? readWhole(file) : readStream(contents);
    const { mapping, errors, errorCount, warnings, warningCount } = await loadMapping(read);
    const summary = mapping && entries(mapping);
    return { errors: shown(errors), errorCount, warnings: shown(warnings), warningCount, summary };
  } catch (error) {
    throw error instanceof FileError ? new Error(`${file} ${error.message}`, { cause: error }) : error;
  }
}

export default definePlugin({
  apiVersion: 2,
  name: 'files',
  mode: 'dynamic',
  properties: [
    { name: 'files/config', type: 'string', required: true, kind: 'path', changeable: true },
    {
      name: 'files/flood',
      type: 'choice',
      required: false,
      default: 'off',
      choices: ['on', 'off'],
      changeable: true,
    },
    {
      name: 'files/protect',
      type: 'choice',
      required: false,
      default: 'off',
      choices: ['on', 'off'],
      changeable: true,
    },
  ],
  create: (host) => new FilesInstance(host),
  check,
});
