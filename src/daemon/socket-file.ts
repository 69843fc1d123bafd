/** The control socket as a file: who else serves it, who may connect, and that none is left behind. */
import { constants, lchownSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import path from 'node:path';
import { OverlayError } from '../model/errors.js';
import { notASocket } from '../model/sentences.js';
import { ownUserText, trustedPlace, UntrustedPlace, userText } from '../plugin/trusted-place.js';
import { give, makeDirectories } from './made-files.js';
import { errnoName, systemErrorText } from './system-error.js';

/** For root and the group: what is left of 0777 is 0750 and 0660. */
const DIRECTORY_UMASK = 0o027;
const SOCKET_UMASK = 0o117;
/** A varpd that lives accepts at once, even when its control thread is busy: the kernel does it. */
const PROBE_MS = 1000;

/** Rejects with an OverlayError when others could put something else in the place of a socket: what is chown'ed, or unlinked,
 * is then what varpd has made. What is missing of the directory is no matter. */
export async function checkSocketDirectory(file: string): Promise<void> {
  try {
    await trustedPlace(file);
  } catch (error) {
    if (error instanceof UntrustedPlace)
      throw new OverlayError('DENIED', `${file}: ${error.message}`, [], error);
    throw error;
  }
}

/**
 * Makes the directory and removes a socket that nobody serves any more. Rejects with an OverlayError when somebody does, when
 * something else is in its place, or when others could put something there. `gid` undefined = the group of this process.
 */
export async function claimSocket(file: string, gid: number | undefined): Promise<void> {
  const directory = path.dirname(file);
  const own = process.geteuid?.() ?? 0;
  try {
    // Before something is made, and after: somebody else may have made it meanwhile, where he may.
    await checkSocketDirectory(file);
    const made = underMask(DIRECTORY_UMASK, () => makeDirectories(directory, 0o777));
    if (made !== undefined) await checkSocketDirectory(file);
    if (made !== undefined && gid !== undefined) give(directory, constants.O_DIRECTORY, { uid: own, gid });
  } catch (error) {
    if (OverlayError.is(error)) throw error;
    throw new OverlayError('IO', `cannot make ${directory}: ${systemErrorText(error)}`, [], error);
  }
  const stat = lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new OverlayError('EXISTS', notASocket(file));
  if (own !== 0 && stat.uid !== own)
    throw new OverlayError(
      'DENIED',
      `${file} is there and belongs to user ${userText(stat.uid)}, not to ${ownUserText()}, who varpd runs as: ` +
        `another varpd serves it, or 'rm ${file}' as root`,
    );
  if (await isServed(file)) throw new OverlayError('BUSY', `another varpd serves ${file}`);
  unlinkSync(file);
}

function isServed(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(file);
    const done = (served: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(served);
    };
    // A full backlog makes connect wait: somebody is there.
    const timer = setTimeout(done, PROBE_MS, true);
    socket.on('connect', () => {
      done(true);
    });
    socket.on('error', (error) => {
      done(!['ECONNREFUSED', 'ENOENT'].includes(errnoName(error) ?? ''));
    });
  });
}

/** The file has its final mode from its first moment. Rejects with an OverlayError. */
export function listenOn(server: Server, file: string, gid: number | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      const hint =
        errnoName(error) === 'EACCES'
          ? `: varpd runs as user ${ownUserText()}: 'chown ${process.geteuid?.() ?? 0} ${path.dirname(file)}' as root, or a directory that is missing yet`
          : '';
      reject(new OverlayError('IO', `cannot listen on ${file}: ${systemErrorText(error)}${hint}`, [], error));
    };
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      try {
        if (gid !== undefined) lchownSync(file, process.geteuid?.() ?? 0, gid);
        resolve();
      } catch (error) {
        fail(error);
      }
    });
    // bind(2) happens inside the call.
    underMask(SOCKET_UMASK, () => server.listen(file));
  });
}

/** What is made has its mode from its first moment, whatever mask varpd was started with. `work` must not wait. */
function underMask<T>(mask: number, work: () => T): T {
  const before = process.umask(mask);
  try {
    return work();
  } finally {
    process.umask(before);
  }
}
