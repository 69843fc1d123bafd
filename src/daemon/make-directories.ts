/**
 * A directory with those above it. Not by `recursive` of Node's mkdir: that goes round for ever, at full speed and deaf to
 * signals, where a parent is there and the kernel says ENOENT all the same, as below /proc.
 */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { errnoName } from './system-error.js';

/** The first that was not there before; undefined when all were. Throws the system's error. */
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
