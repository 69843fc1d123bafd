/**
 * Whether a file is where nobody can put another in its place: every directory on the way to it, up to the root, belongs to
 * root or to the user of this process and is written by nobody else. Symbolic links are followed one by one, since whoever
 * may change one of them says where the path leads.
 *
 * A sticky directory (/tmp) is good above a file or a directory whose owner is trusted: only the owner renames or removes
 * what is in there. A file system that is mounted to be read is good whatever the modes say.
 *
 * The walk is one generator, driven at once or with promises: a file system that does not answer must hold up no thread
 * of varpd.
 */
import { accessSync, constants, lstatSync, readFileSync, readlinkSync, type Stats } from 'node:fs';
import { access, lstat, readlink } from 'node:fs/promises';
import path from 'node:path';

/** Write permission of group and others. */
export const SHARED_WRITE = 0o022;
const STICKY = 0o1000;
/** As many as the kernel follows (path_resolution(7)). */
const MAX_LINKS = 40;
/** Links that lead to what a process has open, whatever their text says: proc_pid_fd(5). */
const OPEN_DESCRIPTORS = /^\/proc\/(?:\d+|self|thread-self)\/(?:task\/\d+\/)?fd$/;

/** Others may put something else there: the message names the directory, its owner, its mode and what mends it. */
export class UntrustedPlace extends Error {
  override readonly name = 'UntrustedPlace';
  readonly code = 'EACCES';
}

export interface Trust {
  /** Beside root; the user of this process when left out. */
  readonly users?: readonly number[];
  /** Whoever owns the file may replace it, since he may as well write to it: his directories are good. */
  readonly owner?: true;
  /** The directory that it is in may be a sticky one, if the file is root's or of one of `users`. */
  readonly sticky?: true;
  /** It is a directory that things are taken from, or a program: it must itself be written by nobody else. */
  readonly itself?: true;
}

export interface Place {
  /** With no symbolic link in it: to be opened with O_NOFOLLOW. */
  readonly path: string;
  /** Nothing is there. */
  readonly isMissing: boolean;
  /** A link to an open descriptor, as /dev/stderr: the only kind that O_NOFOLLOW must not be asked about. */
  readonly isDescriptor: boolean;
}

interface Question {
  readonly about: 'lstat' | 'readlink' | 'access';
  readonly path: string;
}
type Answer = Stats | string | undefined;

/** Rejects with an UntrustedPlace, or with the system's error where the way there cannot be looked at. */
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

/** The same at once, for what is local. Throws instead. */
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
  /** Whose directory it is; undefined = of no matter. */
  readonly uid: number | undefined;
  readonly error: UntrustedPlace;
}

class Walk {
  readonly #file: string;
  readonly #trust: Trust;
  readonly #users: readonly number[];
  /** Good only if the file is theirs, which is known at its end. */
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
      // Whoever may change the way may do so meanwhile.
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
        current = path.dirname(current); // it has been looked at
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
    // A link to a directory that is on the way, or the root.
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

  /** A directory that the way leads through. */
  *#container(directory: string, found: Stats): Generator<Question, void, Answer> {
    const isShared = (found.mode & SHARED_WRITE) !== 0 && (found.mode & STICKY) === 0;
    const isForeign = !this.#users.includes(found.uid);
    if ((!isShared && !isForeign) || (yield* isReadOnly(directory))) return;
    this.#object(directory, found, isShared ? undefined : found.uid);
  }

  /** The last of them is written by nobody else, unless it may be sticky. */
  #last(directory: string, found: Stats): void {
    if (this.#trust.sticky !== true && (found.mode & SHARED_WRITE) !== 0 && (found.mode & STICKY) !== 0)
      this.#object(directory, found, undefined);
  }

  /** In a sticky directory everybody may have made it. */
  #entry(directory: string, container: Stats, entry: string, found: Stats, isLast: boolean): void {
    const { mode } = container;
    if ((mode & SHARED_WRITE) === 0 || (mode & STICKY) === 0 || this.#users.includes(found.uid)) return;
    // Of what is refused there, whoever has made it.
    if (isLast && this.#trust.sticky !== true && this.#trust.itself !== true) {
      this.#object(directory, container, undefined);
      return;
    }
    const isFile = isLast && !found.isSymbolicLink();
    const error = new UntrustedPlace(
      `${entry} belongs to user ${userText(found.uid)} in ${directory}, where everybody may make files (mode ${octal(mode)}): ` +
        `'chown root ${shellText(entry)}' if it is what it should be`,
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

/** Nobody writes to it as long as it is mounted like this: a volume of a container whose modes are 0777. */
function* isReadOnly(directory: string): Generator<Question, boolean, Answer> {
  try {
    yield { about: 'access', path: directory };
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS';
  }
}

/** For a shell, if it needs to be. */
function shellText(text: string): string {
  return /^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** `997 (varpd)`, or the number alone. Never throws. */
export function userText(uid: number): string {
  const name = userName(uid);
  return name === undefined ? `${uid}` : `${uid} (${name})`;
}

/** Of whoever this process runs as. */
export const ownUserText = (): string => userText(process.geteuid?.() ?? 0);

/** For messages: what the file says, or nothing. Never throws. */
export function userName(uid: number): string | undefined {
  try {
    const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
    return lines.map((line) => line.split(':')).find(([, , number]) => number === String(uid))?.[0];
  } catch {
    return undefined;
  }
}
