/** The numbers of users and groups. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { OverlayError } from '../../model/errors.js';
import { DEFAULT_USER } from '../config.js';

/** For a directory service that answers over the network; asked once, at start. */
const GETENT_MS = 5000;

export interface Account {
  readonly name: string;
  readonly uid: number;
  /** Its primary group. */
  readonly gid: number;
}

/** Throws an OverlayError when there is no such group; `place` is where it was named, as `file:line:column: `. */
export function groupId(name: string, place = ''): number {
  // group(5): name:password:number:members
  const [gid] = numbers('group', name, [2], place);
  return gid;
}

/** The line that makes the default user, where neither set-up nor a package has. */
const MAKE_USER = `useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin ${DEFAULT_USER}`;

/** The same of a user. */
export function account(name: string, place = ''): Account {
  // passwd(5): name:password:number:group:...
  const [uid, gid] = numbers('user', name, [2, 3], place);
  return { name, uid, gid };
}

function numbers(what: 'user' | 'group', name: string, columns: readonly number[], place: string): number[] {
  const database = what === 'user' ? 'passwd' : 'group';
  const found =
    find(readFileSync(`/etc/${database}`, 'utf8'), name, columns) ??
    find(askDirectory(database, name), name, columns);
  if (found !== undefined) return found;
  // Any other name is of a file that whoever asks may not be allowed to read.
  const which =
    what === 'user' && name === DEFAULT_USER
      ? `'${name}', whom varpd runs as unless the configuration has another: '${MAKE_USER}' as root makes it`
      : 'of that name';
  throw new OverlayError('INVALID', `${place}${what}: there is no ${what} ${which}`);
}

function find(text: string, name: string, columns: readonly number[]): number[] | undefined {
  const fields = text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([first]) => first === name);
  const values = columns.map((column) => Number(fields?.[column] ?? NaN));
  return values.every(Number.isInteger) ? values : undefined;
}

/** nsswitch.conf(5) may know more than the files. */
function askDirectory(database: string, name: string): string {
  try {
    return execFileSync('getent', [database, '--', name], {
      encoding: 'utf8',
      timeout: GETENT_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return '';
  }
}
