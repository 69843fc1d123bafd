/**
 * The places where varpd listens. A socket as a file: checks whether another daemon serves it, sets its mode and owner,
 * and removes an old one. An address of the configuration: tries it again until it can be had.
 */
import { constants, lchownSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { asOverlayError, OverlayError } from '../model/errors.js';
import { notASocket } from '../model/sentences.js';
import { ownUserText, trustedPlace, UntrustedPlace, userText } from '../plugin/trusted-place.js';
import type { Log } from './log.js';
import { give, makeDirectories } from './made-files.js';
import { errnoName, systemErrorText } from './system-error.js';

/** Masks for a directory and a socket of root and the group: 0777 becomes 0750 and 0660. */
const DIRECTORY_UMASK = 0o027;
const SOCKET_UMASK = 0o117;
/** The kernel accepts for a varpd that lives, even when its control thread is busy. */
const PROBE_MS = 1000;

/**
 * Rejects with an OverlayError when other users could replace a socket in this place. Otherwise the file that
 * is chown'ed or unlinked is the one that varpd has made. Missing directories are accepted.
 */
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
 * Makes the directory and removes a socket that no daemon serves any more. Rejects with an OverlayError when
 * a daemon serves it, when another file is in its place, or when other users could replace it. `gid`
 * undefined = the group of this process.
 */
export async function claimSocket(file: string, gid: number | undefined): Promise<void> {
  const directory = path.dirname(file);
  const own = process.geteuid?.() ?? 0;
  try {
    // Checked before a directory is made, and after: another user may have made it meanwhile, with the rights
    // to do so.
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
      `${file} is there and belongs to user ${userText(stat.uid)}, not to ${ownUserText()}, the user of varpd: ` +
        `another varpd serves it, or 'rm ${file}' as root`,
    );
  if (await isServed(file)) throw new OverlayError('BUSY', `another varpd serves ${file}`);
  unlinkSync(file);
}

/** Whether a daemon accepts connections there. */
export function isServed(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(file);
    const done = (served: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(served);
    };
    // A full backlog makes connect wait, so a daemon is there.
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
      const line = `cannot listen on ${file}: ${systemErrorText(error)}${hint}`;
      reject(new OverlayError(asOverlayError(error).code, line, [], error));
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

/**
 * Files that `work` makes have their mode from the first moment, whatever mask varpd was started with. `work`
 * must not wait.
 */
function underMask<T>(mask: number, work: () => T): T {
  const before = process.umask(mask);
  try {
    return work();
  } finally {
    process.umask(before);
  }
}

export interface ConfiguredAddress {
  /** The key of the configuration, which is also the kind of its log lines. */
  readonly key: 'metrics' | 'web';
  /** The place of the address in the configuration, as `file:line:column: `. */
  readonly place: string;
  /** Pause between two attempts to get the address. */
  readonly retryMs: number;
  readonly log: Log;
}

/** Resolves to a function that ends the server. `lost`: to be called when the server has ended by itself. */
type Listen = (lost: (error: unknown) => void) => Promise<() => Promise<void>>;

/**
 * Has a server listen. Rejects with an OverlayError when the address cannot be had. With `mayWait` the error is logged
 * instead, and the address is tried again until it can be had, as after a server that is lost. Resolves to a function that
 * ends the server.
 */
export async function serveAddress(
  { key, place, retryMs, log }: ConfiguredAddress,
  mayWait: boolean,
  listen: Listen,
): Promise<() => Promise<void>> {
  let close: (() => Promise<void>) | undefined;
  let retry: NodeJS.Timeout | undefined;
  let isEnding = false;
  const later = (error: unknown): void => {
    log.error(key, `${asOverlayError(error).message}; tried again every ${retryMs / 1000} s`);
    retry = setTimeout(() => {
      attempt().catch(later);
    }, retryMs).unref();
  };
  const lost = (error: unknown): void => {
    close = undefined;
    if (!isEnding) later(error);
  };
  const attempt = async (): Promise<void> => {
    const made = await listen(lost).catch((error: unknown) => {
      const { code, message } = asOverlayError(error);
      throw new OverlayError(code, `${place}${key}: ${message}`, [], error);
    });
    if (isEnding) await made();
    else close = made;
  };
  await attempt().catch((error: unknown) => {
    if (!mayWait) throw error;
    later(error);
  });
  return async () => {
    isEnding = true;
    clearTimeout(retry);
    await close?.();
  };
}

/** Node has no public name for it; undocumented, but the same since 0.10. */
export function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0) throw new Error('the connection is closed');
  return handle.fd;
}
