/** The numbers of users and groups. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { OverlayError } from '../../model/errors.js';
import { DEFAULT_USER } from '../config.js';

/** Time for a directory service that answers over the network. It is asked once, at start. */
const GETENT_MS = 5000;

export interface Account {
  readonly name: string;
  readonly uid: number;
  /** The user's primary group. */
  readonly gid: number;
}

/**
 * Number of a group. Throws an OverlayError when there is no such group; `place` is where the configuration
 * names it, as `file:line:column: `.
 */
export function groupId(name: string, place = ''): number {
  // group(5): name:password:number:members
  const [gid] = numbers('group', name, [2], place);
  return gid;
}

/** The command that makes the default user, where neither set-up nor a package has made it. */
const MAKE_USER = `useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin ${DEFAULT_USER}`;

/** The account of a user. Throws an OverlayError as `groupId` does. */
export function account(name: string, place = ''): Account {
  // passwd(5): name:password:number:group:...
  const [uid, gid] = numbers('user', name, [2, 3], place);
  return { name, uid, gid };
}

/** The account of a user, or undefined when there is none. */
export function findAccount(name: string): Account | undefined {
  try {
    return account(name);
  } catch {
    return undefined;
  }
}

function numbers(what: 'user' | 'group', name: string, columns: readonly number[], place: string): number[] {
  const database = what === 'user' ? 'passwd' : 'group';
  const found =
    find(readFileSync(`/etc/${database}`, 'utf8'), name, columns) ??
    find(askDirectory(database, name), name, columns);
  if (found !== undefined) return found;
  // Only the default user is named. Any other name comes from the configuration, which the caller may not be
  // allowed to read.
  const which =
    what === 'user' && name === DEFAULT_USER
      ? `'${name}', the user of varpd unless the configuration has another: '${MAKE_USER}' as root makes it`
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

/** Asks the name services of nsswitch.conf(5), which may know more than the files. */
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
