/** The number of a group. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { OverlayError } from '../core/errors.js';

/** For a directory service that answers over the network; asked once, at start. */
const GETENT_MS = 5000;

/** Throws an OverlayError when there is no such group. */
export function groupId(name: string): number {
  const line = findGroup(readFileSync('/etc/group', 'utf8'), name) ?? findGroup(askDirectory(name), name);
  if (line === undefined) throw new OverlayError('INVALID', `group: there is no group '${name}'`);
  return line;
}

/** group(5): name:password:number:members */
function findGroup(text: string, name: string): number | undefined {
  const fields = text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([first]) => first === name);
  const gid = Number(fields?.[2]);
  return fields !== undefined && Number.isInteger(gid) ? gid : undefined;
}

/** nsswitch.conf(5) may know more groups than the file. */
function askDirectory(name: string): string {
  try {
    return execFileSync('getent', ['group', '--', name], {
      encoding: 'utf8',
      timeout: GETENT_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return '';
  }
}
