/** Directories and files that varpd makes: a directory with those above it, and another user or group as their owner. */
import { closeSync, constants, fchownSync, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { errnoName } from './system-error.js';

/**
 * Makes a directory with those above it. The `recursive` of Node's mkdir will not do: it goes round for ever, at full speed and
 * deaf to signals, where a parent is there and the kernel says ENOENT all the same, as below /proc. Returns the first that was
 * not there before; undefined when all were. Throws the system's error.
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

/** False when it is there already. */
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
 * By a descriptor, and not through a symbolic link: what is another user's, or a file that has a second name, is not what was
 * made, and stays as it is. `flags`: more of open(2). Throws the system's error.
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
