/**
 * Files of the state directory. They are only read when no other user can have written them, and they are
 * written whole or not at all.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ownUserText, SHARED_WRITE } from '../../plugin/trusted-place.js';
import { errnoName } from '../system-error.js';
import { disk } from './disk-thread.js';
import type { StateDirectory } from './state-directory.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** The calls that change the disk. Tests make each of them fail. */
export interface StateFiles {
  open(path: string, flags: number, mode?: number): Promise<Pick<FileHandle, 'writeFile' | 'sync' | 'close'>>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

export const SYSTEM_FILES: StateFiles = {
  async open(path, flags, mode) {
    const fd = await disk.do('openSync', path, flags, mode);
    return {
      writeFile: (text) => disk.do('writeFileSync', fd, text),
      sync: () => disk.do('fsyncSync', fd),
      close: () => disk.do('closeSync', fd),
    };
  },
  rename: (from, to) => disk.do('renameSync', from, to),
  unlink: (path) => disk.do('unlinkSync', path),
};

let written = 0;

/** A name that differs from every kept file, and from every earlier write of this process. */
const temporaryName = (name: string): string => `.${name}.${process.pid}-${++written}.tmp`;
/** Whether a file was left half-written by a crash. */
export const isTemporary = (file: string): boolean => file.startsWith('.') && file.endsWith('.tmp');

/**
 * Writes a file beside its place, syncs it, renames it over the old one, and syncs the directory: after a
 * crash the old text is there or the new.
 */
export async function replaceFile(
  directory: StateDirectory,
  file: string,
  text: string,
  files: StateFiles = SYSTEM_FILES,
): Promise<void> {
  const temporary = directory.path(temporaryName(file));
  const handle = await files.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await files.rename(temporary, directory.path(file));
  } catch (error) {
    await files.unlink(temporary).catch(() => undefined);
    throw error;
  }
  await directory.sync();
}

/**
 * Reads a file of this user or of root, for example after an editor that root ran to mend it. Rejects with
 * the system's error, or with an Error that says what is wrong with the file.
 */
export async function readOwnFile(
  directory: StateDirectory,
  file: string,
  maxBytes: number,
): Promise<string> {
  // O_NONBLOCK: a FIFO would hold up the start for ever.
  const own = process.geteuid?.() ?? 0;
  const handle = await open(directory.path(file), O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(
    (error: unknown) => {
      if (errnoName(error) !== 'EACCES') throw error;
      throw new Error(`user ${ownUserText()} may not read it: 'chown ${own}' it as root`, { cause: error });
    },
  );
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error('it is not a regular file');
    if (stat.uid !== own && stat.uid !== 0)
      throw new Error(`it belongs to user ${stat.uid}, expected ${own}`);
    if ((stat.mode & SHARED_WRITE) !== 0) throw new Error('it is writable by group or others');
    // Other users may be able to open the other name, from before the directory was closed to them.
    if (stat.nlink !== 1) throw new Error(`it has ${stat.nlink} names (hard links), expected 1`);
    if (stat.size > maxBytes) throw new Error(`it has ${stat.size} bytes, expected at most ${maxBytes}`);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}
