/**
 * Starts the spawner of plugin processes. A start of varpd as root does so before it gives up the right to become another
 * user. Any other varpd does so when it first needs a plugin process, and plugins then run as its own user.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { setInheritable } from '../../dgram-extra/index.js';
import { environmentOfOthers } from '../environment.js';

const PROGRAM = fileURLToPath(new URL('../../plugin-process/spawner-process.js', import.meta.url));
/** Name of its socket in the state directory, where varpd alone can reach it. */
export const SPAWNER_SOCKET = 'plugins.sock';
/** Threads of all processes of the user that plugins run as. A process of Node has a dozen. */
const MAX_THREADS = 2048;

export interface SpawnerOrder {
  /** Where it listens. The directory is varpd's alone. */
  readonly socket: string;
  /** Directory of the state directories of plugins. */
  readonly stateRoot: string;
  /** The user that it becomes; undefined = the user of this process. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
}

/** Resolves when the spawner can be reached, which is before it has started. Rejects with an error of the system. */
export async function startSpawner({ socket, stateRoot, user }: SpawnerOrder): Promise<void> {
  // The name is given last: closing the server removes the name that it was made with.
  const made = `${socket}.new`;
  rmSync(made, { force: true });
  const server = createServer();
  // The directory decides which users reach it. A change of the mode afterwards would follow a link.
  const mask = process.umask(user === undefined ? 0o077 : 0);
  try {
    server.listen(made);
    process.umask(mask);
    await once(server, 'listening');
    renameSync(made, socket);
    const { command, args } = commandOf(stateRoot, user !== undefined);
    const child = withoutInherited(() =>
      spawn(command, args, {
        stdio: ['ignore', 'ignore', 'ignore', descriptorOf(server)],
        env: environmentOfOthers(),
        cwd: '/',
        detached: true,
        ...user,
      }),
    );
    // A spawner that cannot be started does not answer.
    child.on('error', () => undefined);
    child.unref();
  } finally {
    process.umask(mask);
    server.close();
  }
}

/** Node has no name for it, and has had it at this place since its beginnings. */
const descriptorOf = (server: Server): number =>
  (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;

/** A user of its own has a bound on threads. Other processes of an ordinary user would count, too. */
function commandOf(stateRoot: string, isBounded: boolean): { command: string; args: string[] } {
  const program = [process.execPath, PROGRAM, stateRoot];
  const bound = `ulimit -p ${MAX_THREADS} 2>/dev/null || ulimit -u ${MAX_THREADS} 2>/dev/null; exec "$@"`;
  return isBounded
    ? { command: '/bin/sh', args: ['-c', bound, 'sh', ...program] }
    : { command: program[0], args: program.slice(1) };
}

/** Descriptors that a service manager, or an earlier program of this process, has left open stay out of the child. */
function withoutInherited<T>(work: () => T): T {
  const left = readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => fd > 2 && isInheritable(fd));
  for (const fd of left) setInheritable(fd, false);
  try {
    return work();
  } finally {
    for (const fd of left) setInheritable(fd, true);
  }
}

function isInheritable(fd: number): boolean {
  try {
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return flags !== undefined && (parseInt(flags, 8) & 0o2000000) === 0;
  } catch {
    return false; // it was that of the listing
  }
}

/**
 * The sentence for a service that plugins do not have a service of their own beside: its unit is of an earlier version and
 * names none, or the unit of that socket is missing.
 */
export function lackOfSpawner(socket: string | undefined): string {
  const [why, units, start] =
    socket === undefined
      ? [
          'varpd.service is of an earlier version, without VARPD_SPAWNER',
          'config/varpd.service and config/varpd-plugins.*',
          "'systemctl restart varpd'",
        ]
      : [
          `nothing listens at ${socket}: varpd-plugins.socket is not installed, or was stopped`,
          'config/varpd-plugins.*',
          "'systemctl start varpd-plugins.socket', 'dladm restart'",
        ];
  return `${why}. Meanwhile plugins run as the user of varpd: copy ${units} to /etc/systemd/system, then 'systemctl daemon-reload', ${start}`;
}
