/**
 * The work that only root can do for the user that varpd becomes: finds the user, makes missing directories,
 * and gives the user the files of a varpd that ran as root. Only root loads this file, and it does so first
 * of all.
 *
 * A file is given away only if it is certainly varpd's, whatever the configuration says. A state directory
 * must hold a `lock` that no process has. A directory of sockets must hold sockets of varpd and nothing else.
 * A log must be empty or begin with a line of varpd. And only root may have been able to write there.
 */
import {
  closeSync,
  constants,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
} from 'node:fs';
import path from 'node:path';
import { type Identity, lockFile } from '../../dgram-extra/index.js';
import { OverlayError } from '../../model/errors.js';
import { SHARED_WRITE, trustedPlaceNow, UntrustedPlace } from '../../plugin/trusted-place.js';
import { loadConfig, placeOf } from '../config-file.js';
import { type Config, DEFAULT_USER, type Flags, PLUGIN_USER } from '../config.js';
import { give, makeDirectories, type Owner } from '../made-files.js';
import { StateDirectory } from '../state/state-directory.js';
import { errnoName, systemErrorText } from '../system-error.js';
import { findAccount, account, groupId } from './accounts.js';
import { SPAWNER_SOCKET, startSpawner } from './spawner-start.js';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const LOG_MODE = 0o640;
const LOG_LINE = /^(?:\d{4}-\d\d-\d\dT[\d:.]+Z (?:debug|info|warn|error) |\{"(?:level|time)")/;

/** The user that root becomes. */
export interface Successor extends Identity {
  readonly name: string;
  readonly stateDir: string;
}

/**
 * The user has the configured group, so that it may give the socket to that group. Rejects with an
 * OverlayError.
 */
export async function successorOfRoot(flags: Flags): Promise<Successor> {
  const config = loadConfig(flags);
  const successor = namedSuccessor(config);
  const { uid, gid, groups } = successor;
  if (uid === 0) return successor;
  const sockets = { uid, gid: groups.at(0) ?? gid };
  await makeStateDirectory(config.stateDir, { uid, gid });
  const places = [config.socket, config.metrics, config.web].filter(
    (place) => place?.startsWith('/') === true,
  ) as string[];
  for (const place of places) makeSocketDirectory(path.dirname(place), places, sockets);
  if (config.log.file !== null) makeLog(config.log.file, { uid, gid });
  return successor;
}

/**
 * Starts the spawner of plugin processes as their own user, which only root can. Resolves to its socket, or to undefined
 * when there is no such user, or another varpd uses the state directory: then the daemon starts a spawner with its own
 * user. Never rejects.
 */
export async function startPluginSpawner({ uid, gid, stateDir }: Successor): Promise<string | undefined> {
  const user = findAccount(PLUGIN_USER);
  if (user === undefined) return undefined;
  try {
    makeDirectory(stateDir, 0o700, { uid, gid });
    if (isLocked(path.join(stateDir, 'lock'))) return undefined;
    const stateRoot = `${stateDir}-plugins`;
    makeDirectory(stateRoot, 0o700, user, [uid, user.uid]);
    const socket = path.join(stateDir, SPAWNER_SOCKET);
    const directory = openSync(stateDir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      // The name of a socket has 107 bytes at most, and a path through the descriptor is short.
      await startSpawner({ socket: `/proc/self/fd/${directory}/${SPAWNER_SOCKET}`, stateRoot, user });
    } finally {
      closeSync(directory);
    }
    return socket;
  } catch {
    // The daemon names the user that its plugins run as.
    return undefined;
  }
}

/** Whether a process has the lock. */
function isLocked(file: string): boolean {
  if (!existsSync(file)) return false;
  const fd = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    return !lockFile(fd);
  } finally {
    closeSync(fd);
  }
}

/** Throws an OverlayError when the user or the group does not exist. */
export function namedSuccessor(config: Config): Successor {
  const name = config.user ?? DEFAULT_USER;
  const groups = config.group === null ? [] : [groupId(config.group, placeOf(config, 'group'))];
  const { uid, gid } = account(name, placeOf(config, 'user'));
  const { stateDir } = config;
  return { name, stateDir, uid, gid: uid === 0 ? (process.getegid?.() ?? 0) : gid, groups };
}

/** A file or directory that a start as root prepares for its user, before the user opens it. */
export interface Preparation {
  /** The state directory is made, or handed over. */
  readonly stateDir: boolean;
  /** Directories of sockets that are made or handed over. */
  readonly sockets: readonly string[];
  /** The log is made, or handed over. */
  readonly log: boolean;
}

/**
 * Returns what `successorOfRoot` would do, without doing it. Throws an UntrustedPlace for a directory that it would
 * not make.
 */
export function preparation({ stateDir, socket, metrics, web, log }: Config, uid: number): Preparation {
  const isMade = (directory: string): boolean => {
    if (existsSync(directory)) return false;
    trustedPlaceNow(directory, { users: [uid], sticky: true });
    return true;
  };
  const places = [socket, metrics, web].filter((place) => place?.startsWith('/') === true) as string[];
  const { file } = log;
  return {
    stateDir: isMade(stateDir) || (isRoots(stateDir) && readdirSync(stateDir).includes('lock')),
    sockets: places
      .map((place) => path.dirname(place))
      .filter((directory) => isMade(directory) || holdsOnly(directory, places)),
    log:
      file !== null &&
      (existsSync(file)
        ? isLog(file) && lstatSync(file).uid === 0
        : existsSync(path.dirname(file)) && isMade(file)),
  };
}

async function makeStateDirectory(directory: string, owner: Owner): Promise<void> {
  if (makeDirectory(directory, 0o700, owner) || !isRoots(directory)) return;
  if (!readdirSync(directory).includes('lock')) return; // refused later, with advice
  const state = await StateDirectory.open(directory);
  try {
    await state.lock(lockFile);
    const names = readdirSync(state.path('.'));
    for (const name of names) giveFile(state.path(name), owner);
    // The directory comes last: while it belongs to root, no other user can put a file there, and the next
    // start can go on with the rest.
    give(state.path('.'), O_DIRECTORY, owner);
  } finally {
    await state.close();
  }
}

/** `own`: the sockets of varpd that may be there from an earlier run. */
function makeSocketDirectory(directory: string, own: readonly string[], owner: Owner): void {
  if (makeDirectory(directory, 0o750, owner) || !holdsOnly(directory, own)) return;
  for (const file of filesIn(directory)) lchownSync(file, owner.uid, owner.gid);
  give(directory, O_DIRECTORY, owner);
}

/** Whether it is a directory of root with these sockets alone, and not empty. */
function holdsOnly(directory: string, own: readonly string[]): boolean {
  if (!isRoots(directory)) return false;
  const files = filesIn(directory);
  return files.length > 0 && files.every((file) => own.includes(file) && lstatSync(file).isSocket());
}

const filesIn = (directory: string): string[] =>
  readdirSync(directory).map((name) => path.join(directory, name));

/** Errors are ignored here: the code that opens the log reports them. */
function makeLog(file: string, owner: Owner): void {
  try {
    const { path: place, isMissing } = trustedPlaceNow(file, { users: [owner.uid] });
    if (isMissing) closeSync(openSync(place, O_CREAT | O_EXCL | O_NOFOLLOW, LOG_MODE));
    if (isLog(place)) giveFile(place, owner);
  } catch {
    return;
  }
}

/** Whether a file is empty, or begins with a line of varpd's log (log.ts) in either format. */
function isLog(file: string): boolean {
  if (!lstatSync(file).isFile()) return false;
  const fd = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const start = Buffer.alloc(64);
    const bytes = readSync(fd, start);
    return bytes === 0 || LOG_LINE.test(start.toString('latin1', 0, bytes));
  } finally {
    closeSync(fd);
  }
}

/**
 * Returns false when the directory exists. It is the operator's choice then, and the code that uses it checks
 * it.
 */
function makeDirectory(
  directory: string,
  mode: number,
  owner: Owner,
  users: readonly number[] = [owner.uid],
): boolean {
  try {
    trustedPlaceNow(directory, { users, sticky: true });
    makeDirectories(path.dirname(directory), 0o755);
    mkdirSync(directory, { mode });
    give(directory, O_DIRECTORY, owner);
    return true;
  } catch (error) {
    if (error instanceof UntrustedPlace)
      throw new OverlayError('DENIED', `cannot make ${directory}: ${error.message}`, [], error);
    if (errnoName(error) === 'EEXIST') return false;
    throw new OverlayError('IO', `cannot make ${directory}: ${systemErrorText(error)}`, [], error);
  }
}

/** Whether it is a directory of root that no other user may write to. */
function isRoots(directory: string): boolean {
  const found = lstatSync(directory);
  return found.isDirectory() && found.uid === 0 && (found.mode & SHARED_WRITE) === 0;
}

function giveFile(file: string, owner: Owner): void {
  if (lstatSync(file).isFile()) give(file, O_NONBLOCK, owner);
}
