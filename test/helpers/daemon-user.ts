// The user that varpd becomes, and what a machine that is no installation of it lacks: a program that this user may read, a
// /dev/net/tun that it may open (udev lets everybody). Both are made for one varpd alone, in its own mounts.
import { chownSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

import { DEFAULT_USER } from '../../src/daemon/config.js';
import { type Account, account } from '../../src/daemon/process/accounts.js';
import { fromRoot } from './need.js';
import type { Bed } from './netns.js';
import { exec } from './process.js';

/** What varpd keeps, as setpriv(1) has it. */
const KEPT_CAPS = '-all,+net_admin';

let found: Account | undefined;

/** Set-up has made it. */
export function daemonUser(): Account {
  found ??= account(DEFAULT_USER);
  return found;
}

/** What only that user may change from now on. Without root all is whoever's runs the test. */
export function giveToDaemon(...files: readonly string[]): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = daemonUser();
  for (const file of files) chownSync(file, uid, gid);
}

/** The same command as a service manager starts it: as that user, with the one right that varpd keeps, or with more. */
export function asDaemonUser(command: readonly string[], rights = KEPT_CAPS): string[] {
  const { uid, gid } = daemonUser();
  const caps = ['inh-caps', 'ambient-caps', 'bounding-set'].map((set) => `--${set}=${rights}`);
  // The kernel forgets a signal for the parent's death when the user changes: it is set again behind that.
  const options = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs', ...caps];
  return ['setpriv', ...options, '--pdeathsig=KILL', ...command];
}

/** prlimit(2) of a process of that user, which only its user and CAP_SYS_RESOURCE may change. `limit`: soft, colon, hard or none. */
async function limitOf(pid: number, limit: string): Promise<void> {
  const { uid, gid } = daemonUser();
  const asUser = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  await exec([...asUser, 'prlimit', '--pid', `${pid}`, limit]);
}

export const limitFiles = (pid: number, limit: string): Promise<void> => limitOf(pid, `--nofile=${limit}`);

/** Threads of all processes of its user: the soft limit; by default as many as the hard one allows. */
export async function limitThreads(pid: number, soft?: number): Promise<void> {
  const hard = /^Max processes +\S+ +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
  await limitOf(pid, `--nproc=${soft ?? hard}:`);
}

const OPEN_TUN =
  'mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun';

/** A command that starts varpd where its user may run it: the shell, in mounts of its own, becomes it. `before`: a line of shell
 * that is run first. */
export function startable(bed: Bed, varpd: readonly string[], before = 'true'): string[] {
  const lines = [...openWays(bed), OPEN_TUN, `{ ${before}; }`];
  return ['sh', '-c', `${lines.join(' && ')} && exec "$@"`, 'sh', ...varpd];
}

/** The project or Node may be in a home that is closed: then a directory with nothing else in it is in its place. */
function openWays(bed: Bed): string[] {
  const needed = [fromRoot('.'), path.dirname(path.dirname(process.execPath))].map((place) =>
    path.resolve(place),
  );
  const closed = new Map<string, string[]>();
  for (const place of needed) {
    const gate = ancestors(place).find((directory) => (statSync(directory).mode & 0o001) === 0);
    if (gate !== undefined) closed.set(gate, [...(closed.get(gate) ?? []), place]);
  }
  return [...closed].flatMap(([gate, places]) => {
    const kept = places.map((place) => [place, bed.directory()] as const);
    return [
      ...kept.map(([place, at]) => `mount --bind ${place} ${at}`),
      `mount -t tmpfs -o mode=755 tmpfs ${gate}`,
      ...kept.map(([place, at]) => `mkdir -p ${place} && mount --move ${at} ${place}`),
    ];
  });
}

/** From the root down, without the directory itself. */
function ancestors(directory: string): string[] {
  const parent = path.dirname(directory);
  return parent === directory ? [] : [...ancestors(parent), parent];
}
