/**
 * What varpd may do once it runs: CAP_NET_ADMIN at most, as the user that is configured, and nothing it starts may more.
 * What takes another right is done before (datapath/steering.ts).
 *
 * Rights are a thread's, and Node has threads before the first line of JavaScript. So the first thing that varpd does
 * is to give up rights on the main thread and to start itself anew: execve(2) ends the other threads, and those that
 * come have what their maker had. A command that goes into the background need not, since its daemon is a process that
 * the main thread starts. Where a service manager has done all this already, nothing is done.
 */
import { closeSync, constants, fchownSync, fstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { OverlayError } from '../core/errors.js';
import { CAP_NET_ADMIN, dropPrivileges, type Identity, startAnew } from '../dgram-extra/index.js';
import { trustedPlaceNow, UntrustedPlace } from '../plugin/trusted-place.js';
import type { Config, Flags } from './config.js';
import { mayHaveKey } from './config-file.js';
import { leaveSteering, openSteering } from './datapath/steering.js';
import { keepInheritedOpen } from './descriptors.js';
import { makeDirectories } from './make-directories.js';
import { systemErrorText } from './system-error.js';

/** This process has given up its rights already: it was started by one that did. */
const MARK = 'VARPD_WITHOUT_RIGHTS';
const KEPT = 1n << BigInt(CAP_NET_ADMIN);

/**
 * Returns when this process has no right too many, or, where it is not the daemon, when what it starts has none.
 * Otherwise the process begins again. Rejects with an OverlayError.
 */
export async function giveUpRights(flags: Flags, isDaemon: boolean): Promise<void> {
  const isDone = process.env[MARK] !== undefined;
  Reflect.deleteProperty(process.env, MARK);
  await openSteering();
  const identity = isDone || process.geteuid?.() !== 0 ? undefined : await wantedIdentity(flags);
  if (identity === undefined && hasNoneTooMany()) return;
  if (isDone)
    throw new OverlayError('INTERNAL', 'this process has rights that were given up: is it started by hand?');
  try {
    dropPrivileges([CAP_NET_ADMIN], identity);
  } catch (error) {
    const whom = identity === undefined ? '' : ` and become user ${identity.uid}`;
    throw new OverlayError('DENIED', `cannot give up rights${whom}: ${systemErrorText(error)}`, [], error);
  }
  if (isDaemon) {
    keepInheritedOpen();
    beginAgain(process.argv.slice(1));
  }
  leaveSteering();
  process.env[MARK] = '1';
}

/** This process becomes a new one of the same number, with the rights that it has now. `args` begins with the script. */
export function beginAgain(args: readonly string[]): never {
  leaveSteering();
  process.env[MARK] = '1';
  startAnew(process.execPath, [process.execPath, ...process.execArgv, ...args]);
}

/** Of all threads, when this process was started with no more. */
function hasNoneTooMany(): boolean {
  const status = readFileSync('/proc/self/status', 'utf8');
  const held = ['CapInh', 'CapPrm', 'CapEff'].reduce((all, name) => all | capabilities(status, name), 0n);
  return (held & ~KEPT) === 0n && /^NoNewPrivs:\s*1$/m.test(status);
}

export function hasNetAdmin(): boolean {
  return (capabilities(readFileSync('/proc/self/status', 'utf8'), 'CapEff') & KEPT) !== 0n;
}

function capabilities(status: string, name: string): bigint {
  const hex = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
  // A kernel that does not say gives none away for it.
  return hex === undefined ? ~0n : BigInt(`0x${hex}`);
}

/** Who root becomes: the configured user, or itself; in the configured group, so that it may give the socket to that. */
async function wantedIdentity(flags: Flags): Promise<Identity | undefined> {
  // Most files have neither, and to read them properly takes a fifth of a second, which is spent again after this.
  if (!mayHaveKey(flags.config, ['user', 'group'])) return undefined;
  const { loadConfig, placeOf } = await import('./config.js');
  const config = loadConfig(flags);
  const { account, groupId } = await import('./accounts.js');
  const groups = config.group === null ? [] : [groupId(config.group, placeOf(config, 'group'))];
  if (config.user === null) return { uid: 0, gid: process.getegid?.() ?? 0, groups };
  const { uid, gid } = account(config.user, placeOf(config, 'user'));
  makePlaces(config, { uid, gid: groups.at(0) ?? gid }, uid);
  return { uid, gid, groups };
}

/** The directories that only root can make, where nobody but root and that user can put something else. What is there already is somebody's choice, and checked by its user. */
function makePlaces(
  { stateDir, socket, metrics }: Config,
  owner: { uid: number; gid: number },
  uid: number,
): void {
  makeDirectory(stateDir, 0o700, { ...owner, uid });
  makeDirectory(path.dirname(socket), 0o750, owner);
  if (metrics?.startsWith('/') === true) makeDirectory(path.dirname(metrics), 0o750, owner);
}

function makeDirectory(directory: string, mode: number, { uid, gid }: { uid: number; gid: number }): void {
  try {
    trustedPlaceNow(directory, { users: [uid], sticky: true });
    makeDirectories(path.dirname(directory), 0o755);
    mkdirSync(directory, { mode });
    const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    // Of this user: else it is not what was made.
    if (fstatSync(fd).uid === process.geteuid?.()) fchownSync(fd, uid, gid);
    closeSync(fd);
  } catch (error) {
    if (error instanceof UntrustedPlace)
      throw new OverlayError('DENIED', `cannot make ${directory}: ${error.message}`, [], error);
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new OverlayError('IO', `cannot make ${directory}: ${systemErrorText(error)}`, [], error);
  }
}
