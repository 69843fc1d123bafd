/**
 * How varpd knows its own links again: by an alias (`ip link` shows it) that is made of a number in its state directory.
 * A TAP may outlive its daemon, and a name alone would let one daemon take what is another's, or an operator's.
 */
import { randomBytes } from 'node:crypto';
import type { Log } from './log.js';
import { readOwnFile, replaceFile } from './state-file.js';
import type { StateDirectory } from './state-directory.js';
import { errnoName, systemErrorText } from './system-error.js';

const FILE = 'id';
/** 128 random bits: no two state directories have the same, on whatever hosts. */
const ID_BYTES = 16;

/** Made at the first start. Never rejects: without one that lasts, the links of this life are not known in the next. */
export async function linkMark(directory: StateDirectory, log: Log): Promise<string> {
  const fresh = randomBytes(ID_BYTES).toString('hex');
  try {
    const id = (await readOwnFile(directory, FILE, 1024)).trim();
    if (/^[0-9a-f]{32}$/.test(id)) return markOf(id);
    log.error(
      'id',
      `${FILE} in the state directory is no good: links left by an earlier varpd are not known`,
    );
  } catch (error) {
    if (errnoName(error) !== 'ENOENT')
      log.error('id', `${FILE} in the state directory: ${systemErrorText(error)}`);
  }
  try {
    await replaceFile(directory, FILE, `${fresh}\n`);
  } catch (error) {
    log.error('id', `cannot save ${FILE} in the state directory: ${systemErrorText(error)}`);
  }
  return markOf(fresh);
}

const markOf = (id: string): string => `varpd ${id}`;
