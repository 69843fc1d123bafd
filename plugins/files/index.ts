/**
 * files: a virtual network out of one JSON file that all hosts share. The file has the VTEP and the addresses of every
 * MAC. So ARP, neighbor discovery and DHCP need no broadcast. See README.md.
 */
import {
  type CheckReport,
  definePlugin,
  type FileProblem,
  type PropertyValue,
} from '../../src/plugin/index.js';
import { CONFIG, FilesInstance, FLOOD, PROTECT } from './instance.js';
import { loadMapping } from './load.js';
import { entries } from './mapping.js';
import type { Located } from './problems.js';
import { FileError, readWhole } from './read.js';

function refusePath(value: PropertyValue): string | undefined {
  // varpd has a working directory of its own, so a relative path would mean another file than the operator typed.
  return String(value).startsWith('/') ? undefined : 'an absolute path';
}

/** The problems with their quotations, since `check` reads the file with the rights of the user that asks. */
const shown = (problems: readonly Located[]): FileProblem[] =>
  problems.map(({ line, column, path, found, expected }) => ({ line, column, path, found, expected }));

async function check(file: string): Promise<CheckReport> {
  try {
    const { mapping, errors, errorCount, warnings, warningCount } = await loadMapping(readWhole(file));
    const summary = mapping && entries(mapping);
    return { errors: shown(errors), errorCount, warnings: shown(warnings), warningCount, summary };
  } catch (error) {
    throw error instanceof FileError ? new Error(`${file} ${error.message}`, { cause: error }) : error;
  }
}

export default definePlugin({
  apiVersion: 1,
  name: 'files',
  mode: 'dynamic',
  properties: [
    { name: CONFIG, type: 'string', required: true, refuse: refusePath },
    { name: FLOOD, type: 'choice', required: false, default: 'off', choices: ['on', 'off'] },
    { name: PROTECT, type: 'choice', required: false, default: 'off', choices: ['on', 'off'] },
  ],
  create: (host) => new FilesInstance(host),
  check,
});
