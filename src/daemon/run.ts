/**
 * The daemon as a process: its log, its signals, and its end.
 *
 * SIGTERM, SIGINT and SIGQUIT end it with status 0; SIGHUP is `dladm reload`, SIGUSR2 `dladm restart`. An
 * uncaught exception is a bug, and logged as one. It does not end varpd, since links are worth more than the
 * request that failed. Only the loss of its datapath ends varpd, with status 1.
 */
import {
  endAfter,
  guardEnd,
  lastWords,
  leaveNow,
  prepareNotify,
  releaseProgram,
  sdNotify,
} from '../dgram-extra/index.js';
import { ownBackground } from '../model/background.js';
import { asOverlayError, errorStack } from '../model/errors.js';
import { complain } from './complaint.js';
import { loadConfig } from './config-file.js';
import type { Flags } from './config.js';
import { DONE, FAILED } from './control/audit.js';
import { Daemon } from './daemon.js';
import { endProcess } from './exit.js';
import type { Lifecycle } from './handover/lifecycle.js';
import { rehearse } from './handover/rehearsal.js';
import { DaemonLog } from './log.js';
import { isDetached } from './process/detach.js';
import { spawnerOfOthers } from './process/privileges.js';
import { obey } from './process/signals.js';
import { StateDirectory } from './state/state-directory.js';

/** varpd is gone within 2 s of a signal, whatever hangs: the kernel takes the TAPs away with the process. */
const STOP_DEADLINE_MS = 1200;
/**
 * Deadlines for a main thread that hangs in a plugin: before it has handled the signal, and after. The rest
 * of the 2 s is for the kernel to remove the links.
 */
const DEAF_MS = 800;
const LAST_DEADLINE_MS = 1300;
/** Time for the answer to reach the client that has asked varpd to end. */
const ANSWER_MS = 50;
/** Time after the start until most of Node's program is not used any more: more than a third of the resident memory. */
const SETTLED_MS = 1000;
const OVERDUE = 'varpd has not ended in time: it leaves what hangs';

/**
 * Resolves when the daemon is ready, to the stored overlays and VNICs that do not run. Rejects with an
 * OverlayError.
 */
export async function run(flags: Flags, lifecycle: Lifecycle): Promise<ReadonlyMap<string, string>> {
  const config = loadConfig(flags);
  const state = await StateDirectory.open(config.stateDir);
  // A daemon in the background has no terminal for its log.
  const ownFile = isDetached ? state.path('varpd.log') : null;
  const log = DaemonLog.open(config.log, config.log.file ?? ownFile);
  if (isDetached) process.chdir('/');
  const running: { daemon?: Daemon } = {};
  prepareNotify();
  log.lastWords(`${OVERDUE}, its control thread`, lastWords);

  const end = (status: number): void => {
    if (!lifecycle.end(status)) return;
    // The deadline comes first, so that it ends the process whatever fails below. Threads that hang are left:
    // one in a system call would keep the process for ever.
    endAfter(LAST_DEADLINE_MS, status);
    setTimeout(() => {
      log.error('stop', OVERDUE);
      leaveNow(status);
    }, STOP_DEADLINE_MS);
    sdNotify('STOPPING=1');
    // Before the daemon is ready there is no socket file, and the rest ends with the process.
    const stopping = running.daemon?.stop(lifecycle.nextStart(state));
    (stopping ?? Promise.resolve())
      .catch((error: unknown) => {
        bug('the end', error);
      })
      .then(() => endProcess(status))
      .catch(() => leaveNow(status));
  };
  const bug = (what: string, error: unknown): void => {
    log.error(`bug ${what}`, `bug: ${what}: ${errorStack(error)}`);
  };
  process.on('uncaughtException', (error) => {
    bug('uncaught exception', error);
  });
  process.on('unhandledRejection', (error) => {
    bug('unhandled rejection', error);
  });
  ownBackground(bug);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)
    process.on(signal, () => {
      log.change({ asker: undefined, command: signal, result: DONE });
      end(0);
    });
  // The native guard gets the signals too, and works without the main thread.
  guardEnd(DEAF_MS);
  const daemon = await Daemon.start(
    config,
    () => loadConfig(flags),
    state,
    log,
    {
      failed: (error) => {
        log.error('fatal', `the datapath failed: ${errorStack(error)}`);
        end(1);
      },
      restart: () => lifecycle.restart(),
      stop: () => {
        setTimeout(() => {
          end(0);
        }, ANSWER_MS);
      },
    },
    lifecycle,
  );
  running.daemon = daemon;
  lifecycle.run({
    daemon,
    log,
    logFile: config.log.file ?? ownFile,
    args: commandLine(flags),
    rehearse: () => rehearse({ flags, running: config, spawner: spawnerOfOthers }),
    next: () => {
      const { socket, log } = loadConfig(flags);
      return { socket, logFile: log.file ?? ownFile };
    },
  });
  sdNotify('READY=1');
  setTimeout(releaseProgram, SETTLED_MS).unref();
  obey('SIGUSR2', () => {
    lifecycle.restart().then(
      ({ warnings }) => {
        log.change({ asker: undefined, command: 'SIGUSR2', result: DONE });
        for (const warning of warnings) log.warn(`restart ${warning}`, warning);
      },
      (error: unknown) => {
        const { code, message, sentences } = asOverlayError(error);
        log.change({ asker: undefined, command: 'SIGUSR2', result: code, message });
        for (const line of sentences) log.error(`restart ${line}`, `not restarted: ${line}`);
      },
    );
  });
  obey('SIGHUP', () => {
    daemon.reload().then(
      ({ length }) => {
        const outcome =
          length === 0 ? { result: DONE } : { result: FAILED, message: `${length} of its parts, see above` };
        log.change({ asker: undefined, command: 'SIGHUP', ...outcome });
      },
      (error: unknown) => {
        bug('reload', error);
      },
    );
  });
  // A log on standard error has these lines already.
  if (config.log.file !== null && !isDetached)
    for (const [name, reason] of daemon.offline) complain(`${name} is OFFLINE: ${reason}`);
  return daemon.offline;
}

/** The arguments that this process was started with, valid in its present working directory. */
function commandLine({ config, socket, pluginPath }: Flags): string[] {
  return [
    process.argv[1],
    ...(config === undefined ? [] : ['--config', config]),
    ...(socket === undefined ? [] : ['--socket', socket]),
    ...pluginPath.flatMap((directory) => ['-i', directory]),
    ...(isDetached ? [] : ['--foreground']),
  ];
}
