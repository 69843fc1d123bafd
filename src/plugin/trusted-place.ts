/**
 * Checks that no other user can replace a file. Every directory on the way to the file, down from the root, must belong to
 * root or to the user of this process, and no other user may have write permission there. The walk follows symbolic links
 * one by one, since a user with write permission for a link decides where the path leads.
 *
 * A sticky directory (/tmp) is accepted above a file or directory whose owner is trusted, since only the owner may
 * rename or remove an entry of such a directory. A directory on a file system that is mounted read-only is accepted
 * with any mode.
 *
 * The walk is a generator with two drivers, one synchronous and one with promises. With promises, a file system that does
 * not answer holds up no thread of JavaScript.
 */
import { accessSync, constants, lstatSync, readFileSync, readlinkSync, type Stats } from 'node:fs';
import { access, lstat, readlink } from 'node:fs/promises';
import path from 'node:path';

/** Write permission of group and others. */
export const SHARED_WRITE = 0o022;
const STICKY = 0o1000;
/** The kernel follows as many (path_resolution(7)). */
const MAX_LINKS = 40;
/** Links that lead to the open file of a process, whatever their text is: proc_pid_fd(5). */
const OPEN_DESCRIPTORS = /^\/proc\/(?:\d+|self|thread-self)\/(?:task\/\d+\/)?fd$/;

/** Other users could replace the file. The message has the directory, its owner and mode, and the command that mends
 * it. */
export class UntrustedPlace extends Error {
  override readonly name = 'UntrustedPlace';
  readonly code = 'EACCES';
}

export interface Trust {
  /** Users that are trusted beside root. Default: the user of this process. */
  readonly users?: readonly number[];
  /** Directories of the file's owner are accepted: the owner can write to the file anyway. */
  readonly owner?: true;
  /** The directory of the file may be a sticky one, if the file belongs to root or to one of `users`. */
  readonly sticky?: true;
  /** The path is itself a program, or a directory that files are taken from: its own owner and mode must pass as well. */
  readonly itself?: true;
}

export interface Place {
  /** The path without symbolic links, for an open with O_NOFOLLOW. */
  readonly path: string;
  /** Nothing exists at the path. */
  readonly isMissing: boolean;
  /** The path is a link to an open descriptor, as /dev/stderr is. O_NOFOLLOW must be left out for such a link alone. */
  readonly isDescriptor: boolean;
}

interface Question {
  readonly about: 'lstat' | 'readlink' | 'access';
  readonly path: string;
}
type Answer = Stats | string | undefined;

/** Rejects with an UntrustedPlace, or with the error of a system call when the path cannot be read. */
export async function trustedPlace(file: string, trust: Trust = {}): Promise<Place> {
  const walk = new Walk(file, trust).run();
  let step = walk.next();
  while (step.done !== true) {
    const { about, path: at } = step.value;
    try {
      const answer = about === 'lstat' ? lstat(at) : about === 'readlink' ? readlink(at) : mayWrite(at);
      step = walk.next(await answer);
    } catch (error) {
      step = walk.throw(error);
    }
  }
  return step.value;
}

/** The same check, synchronous: for files on local disks. Throws in place of a rejection. */
export function trustedPlaceNow(file: string, trust: Trust = {}): Place {
  const walk = new Walk(file, trust).run();
  let step = walk.next();
  while (step.done !== true) {
    const { about, path: at } = step.value;
    let answer: Answer;
    try {
      if (about === 'lstat') answer = lstatSync(at);
      else if (about === 'readlink') answer = readlinkSync(at);
      else accessSync(at, constants.W_OK);
    } catch (error) {
      step = walk.throw(error);
      continue;
    }
    step = walk.next(answer);
  }
  return step.value;
}

async function mayWrite(at: string): Promise<undefined> {
  await access(at, constants.W_OK);
}

interface Objection {
  /** Owner of the directory. The objection is void if the file has the same owner; undefined = it is never void. */
  readonly uid: number | undefined;
  readonly error: UntrustedPlace;
}

class Walk {
  readonly #file: string;
  readonly #trust: Trust;
  readonly #users: readonly number[];
  /** Objections on the way. The owner of the file is known at the end of the walk, and may make an objection void. */
  readonly #objections: Objection[] = [];

  constructor(file: string, trust: Trust) {
    this.#file = path.resolve(file);
    this.#trust = trust;
    this.#users = [0, ...(trust.users ?? [process.geteuid?.() ?? 0])];
  }

  *run(): Generator<Question, Place, Answer> {
    try {
      return yield* this.#walk();
    } catch (error) {
      // A user that can change the path may have done so during the walk: the objection explains more than the error.
      throw this.#objections.at(0)?.error ?? error;
    }
  }

  *#walk(): Generator<Question, Place, Answer> {
    let current = '/';
    let directory = (yield { about: 'lstat', path: current }) as Stats;
    let pending = this.#file.split('/').filter(isName);
    let links = 0;
    yield* this.#container(current, directory);
    for (let name = pending.shift(); name !== undefined; name = pending.shift()) {
      if (name === '..') {
        current = path.dirname(current); // this directory has been checked already
        continue;
      }
      const next = path.join(current, name);
      let found: Stats;
      try {
        found = (yield { about: 'lstat', path: next }) as Stats;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        if (pending.length === 0) this.#last(current, directory);
        return this.#done({ path: path.join(next, ...pending), isMissing: true, isDescriptor: false });
      }
      this.#entry(current, directory, next, found, pending.length === 0);
      if (found.isSymbolicLink() && OPEN_DESCRIPTORS.test(current)) {
        if (pending.length === 0) return this.#done({ path: next, isMissing: false, isDescriptor: true });
        current = next;
        continue;
      }
      if (found.isSymbolicLink()) {
        if (++links > MAX_LINKS) throw Object.assign(new Error('too many symbolic links'), { code: 'ELOOP' });
        const target = (yield { about: 'readlink', path: next }) as string;
        pending = [...target.split('/').filter(isName), ...pending];
        if (!target.startsWith('/')) continue;
        current = '/';
        directory = (yield { about: 'lstat', path: current }) as Stats;
        continue;
      }
      if (pending.length > 0) {
        yield* this.#container(next, found);
        current = next;
        directory = found;
        continue;
      }
      if (this.#trust.itself === true) yield* this.#self(next, found);
      else this.#last(current, directory);
      return this.#done({ path: next, isMissing: false, isDescriptor: false }, found.uid);
    }
    // The path ends at the root, or at a directory that the walk has passed.
    if (this.#trust.itself === true) yield* this.#self(current, directory);
    return this.#done({ path: current, isMissing: false, isDescriptor: false });
  }

  #done(place: Place, fileUid?: number): Place {
    const isGood = ({ uid }: Objection): boolean =>
      this.#trust.owner === true && uid !== undefined && uid === fileUid;
    const objection = this.#objections.find((one) => !isGood(one));
    if (objection !== undefined) throw objection.error;
    return place;
  }

  /** Checks a directory that the path leads through. */
  *#container(directory: string, found: Stats): Generator<Question, void, Answer> {
    const isShared = (found.mode & SHARED_WRITE) !== 0 && (found.mode & STICKY) === 0;
    const isForeign = !this.#users.includes(found.uid);
    if ((!isShared && !isForeign) || (yield* isReadOnly(directory))) return;
    this.#object(directory, found, isShared ? undefined : found.uid);
  }

  /** Checks the directory that the file is in: no other user may write there, unless `sticky` permits it. */
  #last(directory: string, found: Stats): void {
    if (this.#trust.sticky !== true && (found.mode & SHARED_WRITE) !== 0 && (found.mode & STICKY) !== 0)
      this.#object(directory, found, undefined);
  }

  /** Checks an entry of a sticky directory, where every user may have made it. */
  #entry(directory: string, container: Stats, entry: string, found: Stats, isLast: boolean): void {
    const { mode } = container;
    if ((mode & SHARED_WRITE) === 0 || (mode & STICKY) === 0 || this.#users.includes(found.uid)) return;
    // A file in a sticky directory is refused here whatever its owner, so the message names the directory.
    if (isLast && this.#trust.sticky !== true && this.#trust.itself !== true) {
      this.#object(directory, container, undefined);
      return;
    }
    const isFile = isLast && !found.isSymbolicLink();
    const error = new UntrustedPlace(
      `${entry} belongs to user ${userText(found.uid)} in ${directory}, where every user may make files (mode ${octal(mode)}): ` +
        `if it is the right one, run 'chown root ${shellText(entry)}'`,
    );
    this.#objections.push({ uid: isFile ? undefined : found.uid, error });
  }

  *#self(entry: string, found: Stats): Generator<Question, void, Answer> {
    const isShared = (found.mode & SHARED_WRITE) !== 0;
    if (!isShared && this.#users.includes(found.uid)) return;
    if (!(yield* isReadOnly(entry))) this.#object(entry, found, undefined);
  }

  #object(directory: string, { uid, mode }: Stats, owner: number | undefined): void {
    const own = this.#users.at(-1)!;
    const isForeign = !this.#users.includes(uid);
    const isShared = (mode & SHARED_WRITE) !== 0;
    const mends = [
      ...(isForeign ? [`chown ${own} ${shellText(directory)}`] : []),
      ...(isShared ? [`chmod go-w ${shellText(directory)}`] : []),
    ];
    const error = new UntrustedPlace(
      `others may change what is in ${directory}: it belongs to user ${userText(uid)} and has mode ${octal(mode)}, ` +
        `expected user ${own === 0 ? '' : `${userText(own)} or `}${userText(0)}, and no write permission for group and others: '${mends.join(' && ')}'`,
    );
    this.#objections.push({ uid: owner, error });
  }
}

const isName = (name: string): boolean => name !== '' && name !== '.';

const octal = (mode: number): string => (mode & 0o7777).toString(8);

/** Tells whether the directory is mounted read-only, as a volume of a container with modes 0777 may be. */
function* isReadOnly(directory: string): Generator<Question, boolean, Answer> {
  try {
    yield { about: 'access', path: directory };
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS';
  }
}

/** Quotes the text for a shell, if that is necessary. */
function shellText(text: string): string {
  return /^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Returns `997 (varpd)`, or the number alone. Never throws. */
export function userText(uid: number): string {
  const name = userName(uid);
  return name === undefined ? `${uid}` : `${uid} (${name})`;
}

/** The user of this process. */
export const ownUserText = (): string => userText(process.geteuid?.() ?? 0);

/** The name out of /etc/passwd, for messages. Never throws. */
export function userName(uid: number): string | undefined {
  try {
    const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
    return lines.map((line) => line.split(':')).find(([, , number]) => number === String(uid))?.[0];
  } catch {
    return undefined;
  }
}
