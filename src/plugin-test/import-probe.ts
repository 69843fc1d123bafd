/** Finds side effects of the import of a plugin, tried in a process of its own. */
import { spawn } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { errorText } from '../model/errors.js';
import type { ImportReport } from './import-process.js';

const PROGRAM = fileURLToPath(new URL('./import-process.js', import.meta.url));
/** As long as varpd itself waits for an import. */
const DEADLINE_MS = 5000;

/** Sentences about the import of this file; none if it does no work. */
export async function importProblems(entry: URL | string): Promise<readonly string[]> {
  const url = entry instanceof URL ? entry : /^\w+:/.test(entry) ? new URL(entry) : pathToFileURL(entry);
  const child = spawn(process.execPath, [PROGRAM, url.href], {
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const ended = await new Promise<string>((resolve) => {
    child.once('error', (error) => {
      resolve(`cannot be started: ${errorText(error)}`);
    });
    child.once('close', (code, signal) => {
      resolve(
        signal === null ? `ends its process with status ${code}` : `has not ended within ${DEADLINE_MS} ms`,
      );
    });
  });
  try {
    const last = text.trimEnd().split('\n').at(-1) ?? '';
    return (JSON.parse(last) as ImportReport).problems.map((problem) => `the import ${problem}`);
  } catch {
    return [`the import ${ended}`];
  }
}
