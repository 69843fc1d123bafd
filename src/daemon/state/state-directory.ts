/**
 * The directory of the files that survive a restart. Its owner and mode are checked before any file in it is
 * used, and only one varpd at a time uses it.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import path from 'node:path';
import { OverlayError } from '../../model/errors.js';
import { SHARED_WRITE, trustedPlace, UntrustedPlace, userText } from '../../plugin/trusted-place.js';
import { makeDirectories } from '../made-files.js';
import { errnoName, systemErrorText } from '../system-error.js';
import { disk } from './disk-thread.js';

const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;

/** In such a directory (/tmp) only the owner of a file can rename it. */
const STICKY = 0o1000;

export const ofStateDirectory = (directory: string, what: string): string =>
  `state directory ${directory}: ${what}`;

export class StateDirectory {
  readonly #handle: FileHandle;
  #lock: FileHandle | undefined;

  private constructor(
    readonly directory: string,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  /**
   * The directory is made with mode 0700 when it is missing. Rejects with an OverlayError when other users
   * could write to it, or put another directory in its place.
   */
  static async open(directory: string): Promise<StateDirectory> {
    const handle = await openDirectory(directory);
    const { uid, mode } = await handle.stat();
    const own = process.geteuid?.() ?? 0;
    const wrong =
      uid !== own
        ? foreign(uid, own, directory)
        : (mode & SHARED_WRITE) !== 0
          ? `it is writable by group or others (mode ${octal(mode)}), expected mode 700`
          : ((await wrongWithParent(path.dirname(directory), own)) ?? (await wrongAbove(directory)));
    if (wrong === undefined) return new StateDirectory(directory, handle);
    await handle.close();
    throw new OverlayError('DENIED', ofStateDirectory(directory, wrong));
  }

  /**
   * Path of a file in the directory. The name goes through the open descriptor, as with openat(2), so it
   * always leads to the directory that was checked, even if that is renamed.
   */
  path(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`;
  }

  sync(): Promise<void> {
    return disk.do('fsyncSync', this.#handle.fd);
  }

  /**
   * Takes the lock until `close` or the end of the process, however it ends. `tryLock` is flock(2): false
   * when the lock is taken. Rejects with an OverlayError when another varpd has it.
   */
  async lock(tryLock: (fd: number) => boolean): Promise<void> {
    const file = await open(this.path('lock'), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
    if (!tryLock(file.fd)) {
      const holder = /^\d{1,10}\n/.exec(await file.readFile('utf8'))?.[0].trim();
      await file.close();
      const who = holder === undefined ? 'another varpd' : `another varpd (process ${holder})`;
      throw new OverlayError('BUSY', `${who} uses the state directory ${this.directory}`);
    }
    // The process id only names the holder in messages; the lock alone counts.
    await file
      .truncate()
      .then(() => file.write(`${process.pid}\n`, 0))
      .catch(() => undefined);
    this.#lock = file;
  }

  async close(): Promise<void> {
    await this.#lock?.close();
    await this.#handle.close();
  }
}

/** Names the owner, and both remedies. */
function foreign(uid: number, own: number, directory: string): string {
  return (
    `it belongs to user ${userText(uid)}, expected ${userText(own)}, the user of varpd: ` +
    `'chown -R ${own} ${directory}' as root, or another 'stateDir' or 'user' in the configuration`
  );
}

/**
 * Checks the parent: a user with the right to rename its entries could make the next start find another
 * directory, or none.
 */
async function wrongWithParent(parent: string, own: number): Promise<string | undefined> {
  const { uid, mode } = await stat(parent);
  if (uid !== own && uid !== 0)
    return `${parent}, in which it is, belongs to user ${uid}, expected ${own} or 0`;
  return (mode & SHARED_WRITE) !== 0 && (mode & STICKY) === 0
    ? `${parent}, in which it is, is writable by group or others (mode ${octal(mode)})`
    : undefined;
}

/** Checks all directories above, up to the root. */
async function wrongAbove(directory: string): Promise<string | undefined> {
  try {
    await trustedPlace(directory, { sticky: true });
    return undefined;
  } catch (error) {
    if (error instanceof UntrustedPlace) return error.message;
    throw error;
  }
}

const octal = (mode: number): string => (mode & 0o7777).toString(8);

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, O_RDONLY | O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The reason for EACCES: a directory of mode 0700 that belongs to another user cannot even be opened. */
async function whyDenied(directory: string, error: unknown): Promise<string | undefined> {
  const own = process.geteuid?.() ?? 0;
  if (errnoName(error) !== 'EACCES') return undefined;
  const found = await stat(directory).catch(() => undefined);
  return found === undefined || found.uid === own ? undefined : foreign(found.uid, own, directory);
}

async function openDirectory(directory: string): Promise<FileHandle> {
  try {
    const made = makeDirectories(directory, 0o700);
    // The parent is synced, so that a crash cannot remove the directory with the synced files in it.
    if (made !== undefined) await syncDirectory(path.dirname(made));
    return await open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    // ELOOP and ENOTDIR: O_NOFOLLOW and O_DIRECTORY refuse a symbolic link, EEXIST: mkdir met something else.
    const other = ['ELOOP', 'ENOTDIR', 'EEXIST'].includes(errnoName(error) ?? '');
    const text = other
      ? 'it is not a directory (symbolic links are not followed)'
      : ((await whyDenied(directory, error)) ?? systemErrorText(error));
    throw new OverlayError(other ? 'DENIED' : 'IO', ofStateDirectory(directory, text), [], error);
  }
}
