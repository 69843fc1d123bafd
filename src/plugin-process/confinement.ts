/**
 * How a plugin process is confined by Landlock: it writes below its own state directory alone, reads no state directory of
 * another plugin, and reaches no process outside by a signal, by ptrace(2), or over an abstract Unix socket. The network is
 * left alone. All that it starts is confined with it.
 *
 * Landlock has no rule that forbids: what no rule allows is forbidden, and a rule for a directory is one for all that is
 * below it. So the directories on the path to the state directories have no rule. Instead each of their entries has one,
 * but for the next directory on the path. An entry that is made there later has none until the plugin is started again.
 */
import { closeSync, type Dirent, readdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { allowBelow, createRuleset, errnoName, LANDLOCK, landlockVersion } from '../dgram-extra/index.js';
import type { Confinement } from './messages.js';

const READ = LANDLOCK.EXECUTE | LANDLOCK.READ_FILE | LANDLOCK.READ_DIR;
/** Rights over what is no directory. */
const OF_FILES = LANDLOCK.EXECUTE | LANDLOCK.READ_FILE | LANDLOCK.WRITE_FILE;
/** Every program may expect to write to these. */
const DEVICES = ['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom'];
/** With more entries beside the path, a start of a plugin would take longer than a tenth of a second. */
const MAX_ENTRIES = 10_000;

const WHY_NONE: Readonly<Record<string, string>> = {
  ENOSYS: 'this kernel has none',
  EOPNOTSUPP: 'it was not enabled when this kernel was started',
};

/** A file or directory that a plugin may read, with all that is below it. */
export interface Place {
  readonly file: string;
  readonly isDirectory: boolean;
}

/**
 * Everything on this host but the directory `hidden`, an absolute path without links, and the directories above it.
 * Symbolic links are absent: their targets have places of their own. Throws an Error with the reason when the
 * directories above cannot be listed.
 */
export function placesBeside(hidden: string, maxEntries = MAX_ENTRIES): readonly Place[] {
  const places: Place[] = [];
  let above = '/';
  for (const next of hidden.split('/').filter((name) => name !== '')) {
    for (const entry of entriesOf(above)) {
      if (entry.name === next || entry.isSymbolicLink()) continue;
      places.push({ file: path.join(above, entry.name), isDirectory: entry.isDirectory() });
    }
    if (places.length > maxEntries) throw new Error(`${above} has more than ${maxEntries} entries`);
    above = path.join(above, next);
  }
  return places;
}

function entriesOf(directory: string): readonly Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${directory} cannot be listed (${String(code)})`, { cause: error });
  }
}

/** The places that a plugin may read. `lack`: why it may read everything. */
function readable(stateRoot: string): { readonly places: readonly Place[]; readonly lack: string | null } {
  try {
    return { places: placesBeside(realpathSync(stateRoot)), lack: null };
  } catch (error) {
    return { places: [{ file: '/', isDirectory: true }], lack: (error as Error).message };
  }
}

/** How the processes of plugins with state below `stateRoot` are confined. Never throws. */
export function confinementBelow(stateRoot: string): Confinement {
  const version = landlockVersion();
  if (version <= 0) {
    const code = errnoName(version);
    return { landlock: 0, lack: WHY_NONE[code] ?? `landlock_create_ruleset(2) has failed: ${code}` };
  }
  const { lack } = readable(stateRoot);
  return {
    landlock: version,
    lack: lack === null ? null : `plugins can read the files of each other, because ${lack}`,
  };
}

/**
 * Makes the ruleset of one process. `own` is its state directory; null = it has none. Returns a descriptor that the caller
 * closes; undefined where the kernel has no Landlock. Throws an error of the system.
 */
export function rulesetOf(stateRoot: string, own: string | null): number | undefined {
  const version = landlockVersion();
  if (version <= 0) return undefined;
  const { fd, rights } = createRuleset(version);
  try {
    for (const { file, isDirectory } of readable(stateRoot).places)
      allowBelow(fd, file, isDirectory ? READ : READ & OF_FILES);
    for (const device of DEVICES) allowBelow(fd, device, OF_FILES);
    if (own !== null && !allowBelow(fd, own, rights))
      throw new Error(`${own}: Landlock has no rule for this directory`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
