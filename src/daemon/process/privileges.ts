/**
 * The rights of varpd while it runs: CAP_NET_ADMIN at most, as the configured user, without the system calls
 * that lead to more rights (dgram-extra/system-calls.c). Its children have no more either. Work that takes
 * another right is done before (inherited-program.ts and rings.ts of datapath/userland/main, root.ts).
 *
 * Rights belong to a thread, and Node has threads before the first line of JavaScript. So varpd gives up
 * rights on the main thread and then on each other one; new threads have the rights of the thread that made
 * them. If that fails, varpd restarts itself: execve(2) ends the other threads. A command that goes into the
 * background need do neither, since its daemon is a process that the main thread starts. Where a service
 * manager has given up the rights already, nothing is done.
 */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { leaveRings, openRings } from '../../datapath/userland/main/rings.js';
import { steering } from '../../datapath/userland/main/steering.js';
import { redirection } from '../../datapath/userland/main/tunnel-port.js';
import {
  CAP_NET_ADMIN,
  dropInOtherThreads,
  dropPrivileges,
  limitSystemCalls,
  startAnew,
} from '../../dgram-extra/index.js';
import { OverlayError } from '../../model/errors.js';
import type { Flags } from '../config.js';
import { leaveVariable, takeVariable } from '../environment.js';
import { systemErrorText } from '../system-error.js';
import type { Successor } from './root.js';

/** Socket of a spawner that another process has started, or starts; undefined = this varpd starts its own. */
export let spawnerOfOthers: string | undefined;

/** Lines of a thread's status. */
const RIGHTS = /^(?:Uid|Gid|Groups|Cap\w+|NoNewPrivs):.*$/gm;
const KEPT = 1n << BigInt(CAP_NET_ADMIN);

/**
 * Resolves when this process has no right too many; for a command that starts the daemon, when the daemon
 * will have none. If not all threads can give up their rights, `beforeThat` is called and the process restarts
 * itself. Rejects with an OverlayError.
 */
export async function giveUpRights(flags: Flags, isDaemon: boolean, beforeThat: () => void): Promise<void> {
  const isDone = takeVariable('withoutRights') !== undefined;
  spawnerOfOthers = takeVariable('spawner');
  await steering.open(takeVariable('steering'));
  await redirection.open(takeVariable('redirection'));
  openRings(takeVariable('rings'));
  const isRoot = !isDone && process.geteuid?.() === 0;
  const root = isRoot ? await import('./root.js') : undefined;
  const successor = await root?.successorOfRoot(flags);
  if (root !== undefined && successor !== undefined)
    spawnerOfOthers ??= await root.startPluginSpawner(successor);
  if (successor === undefined && hasNoneTooMany()) {
    // A filter stays through execve(2): one is enough.
    if (!isDone) limitSystemCalls();
    return;
  }
  if (isDone)
    throw new OverlayError('INTERNAL', 'this process has rights that were given up: is it started by hand?');
  try {
    dropPrivileges([CAP_NET_ADMIN], successor);
  } catch (error) {
    const whom = successor === undefined ? '' : ` and become user '${successor.name}'`;
    const hint =
      successor === undefined || successor.uid === 0
        ? ''
        : `: that takes CAP_SETUID and CAP_SETGID; with 'user: root' varpd stays root`;
    const line = `cannot give up rights${whom}: ${systemErrorText(error)}${hint}`;
    throw new OverlayError('DENIED', line, [], error);
  }
  const isWhole = isDaemon && dropInOtherThreads() && haveSameRights();
  limitSystemCalls();
  if (successor !== undefined) checkProgram(successor, flags);
  if (isWhole) return;
  if (isDaemon) {
    beforeThat();
    beginAgain(process.argv.slice(1));
  }
  leaveWhatTookRights();
}

/**
 * Checks that the new user can read the program, since a process that cannot read its program cannot report
 * it.
 */
function checkProgram({ name }: Successor, { config }: Flags): void {
  const needed: readonly [string | undefined, number, string][] = [
    [process.execPath, constants.X_OK, 'run'],
    [process.argv[1], constants.R_OK, 'read'],
    [config, constants.R_OK, 'read'],
  ];
  for (const [file, mode, verb] of needed)
    try {
      if (file !== undefined) accessSync(file, mode);
    } catch (error) {
      throw new OverlayError(
        'DENIED',
        `the user of varpd, '${name}', cannot ${verb} ${file}: ${systemErrorText(error)}: put it where that user may, ` +
          `as in /opt or /etc/varpd, or configure another 'user' ('user: root' has varpd stay root)`,
        [],
        error,
      );
    }
}

/**
 * This process becomes a new one with the same process id and the rights that it has now. `args` begins with
 * the script.
 */
export function beginAgain(args: readonly string[]): never {
  leaveWhatTookRights();
  startAnew(process.execPath, [process.execPath, ...process.execArgv, ...args]);
}

/** Leaves the results of that work to the next process, which has no right to do it. */
function leaveWhatTookRights(): void {
  leaveVariable('steering', steering.leave());
  leaveVariable('redirection', redirection.leave());
  leaveVariable('rings', leaveRings());
  leaveVariable('spawner', spawnerOfOthers);
  leaveVariable('withoutRights', '1');
}

/** Whether all threads have no right too many, which holds when this process was started with none. */
function hasNoneTooMany(): boolean {
  const status = readFileSync('/proc/self/status', 'utf8');
  const held = ['CapInh', 'CapPrm', 'CapEff'].reduce((all, name) => all | capabilities(status, name), 0n);
  return (held & ~KEPT) === 0n && /^NoNewPrivs:\s*1$/m.test(status);
}

/** Whether all threads have the same rights as the main thread. */
function haveSameRights(): boolean {
  const rightsOf = (thread: string): string | undefined =>
    readFileSync(`/proc/self/task/${thread}/status`, 'utf8').match(RIGHTS)?.join();
  return new Set(readdirSync('/proc/self/task').map(rightsOf)).size === 1;
}

export function hasNetAdmin(): boolean {
  return (capabilities(readFileSync('/proc/self/status', 'utf8'), 'CapEff') & KEPT) !== 0n;
}

function capabilities(status: string, name: string): bigint {
  const hex = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
  // With a kernel that does not tell, every right counts as held.
  return hex === undefined ? ~0n : BigInt(`0x${hex}`);
}
