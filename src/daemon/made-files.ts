/**
 * Makes directories, with missing ones above them, and gives directories and files that varpd made to another
 * owner.
 */
import { closeSync, constants, fchownSync, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { errnoName } from './system-error.js';

/**
 * Makes a directory with those above it. `recursive` of Node's mkdir is unusable: where a parent exists and
 * the kernel answers ENOENT all the same, as below /proc, it loops for ever, at full speed and deaf to
 * signals. Returns the first directory that did not exist before; undefined when all did. Throws the system's
 * error.
 */
export function makeDirectories(directory: string, mode: number): string | undefined {
  const parent = path.dirname(directory);
  try {
    return makeOne(directory, mode) ? directory : undefined;
  } catch (error) {
    if (errnoName(error) !== 'ENOENT' || parent === directory) throw error;
  }
  const first = makeDirectories(parent, mode);
  makeOne(directory, mode);
  return first ?? directory;
}

/** Returns false when the directory exists already. */
function makeOne(directory: string, mode: number): boolean {
  try {
    mkdirSync(directory, mode);
    return true;
  } catch (error) {
    if (errnoName(error) === 'EEXIST' && statSync(directory).isDirectory()) return false;
    throw error;
  }
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Gives a file to a user, by a descriptor and not through a symbolic link. A file of another user, or one
 * with a second name, cannot be varpd's own and stays as it is. `flags`: more flags of open(2). Throws the
 * system's error.
 */
export function give(file: string, flags: number, { uid, gid }: Owner): void {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | flags);
  try {
    const found = fstatSync(fd);
    const isWhole = found.isDirectory() || found.nlink === 1;
    if (found.uid === process.geteuid?.() && isWhole) fchownSync(fd, uid, gid);
  } finally {
    closeSync(fd);
  }
}
