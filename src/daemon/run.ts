/**
 * The daemon as a process: its log, its signals, and its end.
 *
 * SIGTERM, SIGINT and SIGQUIT end it with status 0, SIGHUP is `dladm reload`, SIGUSR2 `dladm restart`. An exception that
 * nobody caught ends nothing, since links are worth more than the request that it cost: out of a plugin it is the trouble of
 * its overlay, else it is a bug, and logged as one. Only without its datapath varpd ends, with status 1.
 */
import type { RestartInfo } from '../control/messages.js';
import type { Handover } from '../datapath/contract.js';
import {
  endAfter,
  guardEnd,
  keepTaps,
  lastWords,
  leaveNow,
  prepareNotify,
  sdNotify,
} from '../dgram-extra/index.js';
import { ownBackground } from '../model/background.js';
import { asOverlayError, errorStack, errorText, OverlayError } from '../model/errors.js';
import { complain } from './complaint.js';
import { loadConfig } from './config-file.js';
import type { Flags } from './config.js';
import { Daemon, type HandOver } from './daemon.js';
import { leaveVariable, storeSize } from './environment.js';
import { endProcess } from './exit.js';
import { leaveToManager, leaveToMyself } from './handover/descriptors.js';
import { rehearse } from './handover/rehearsal.js';
import { storedStandIn } from './handover/stand-in-store.js';
import { StandIn } from './handover/stand-in.js';
import { DaemonLog } from './log.js';
import { authorOf } from './plugins/plugin-context.js';
import { forbidPluginExit } from './plugins/plugin-exit.js';
import { isDetached, stayDetached } from './process/detach.js';
import { beginAgain } from './process/privileges.js';
import { obey } from './process/signals.js';
import { StateDirectory } from './state/state-directory.js';

/** varpd is gone within 2 s of a signal, whatever hangs: the kernel takes the TAPs away with the process. */
const STOP_DEADLINE_MS = 1200;
/** When the main thread itself hangs, in a plugin: before it has heard of a signal, and after. What is left of the 2 s is for
 * the kernel to remove the links. */
const DEAF_MS = 800;
const LAST_DEADLINE_MS = 1300;
const OVERDUE = 'varpd has not ended in time: it leaves what hangs';
/** A restart waits that long for what hangs. Turns of the loop are counted, not time: a process that is kept
 * off the processor does not hang. Frames move meanwhile. */
const RESTART_TURN_MS = 100;
const RESTART_TURNS = 150;
/** A restart waits for the change under way, which may wait for a plugin's start. */
const SETTLE_DEADLINE_MS = 10_000;

/** Between the answer to `dladm restart` and the end of all connections. */
const ANSWER_MS = 50;
/** Between two attempts to become the next program. */
const AGAIN_MS = 1000;

/**
 * Resolves when it is ready, to what is stored and does not run. Rejects with an OverlayError. `passOn` is given what an
 * earlier process has left, when this one cannot start.
 */
export async function run(flags: Flags, passOn?: HandOver): Promise<ReadonlyMap<string, string>> {
  const config = loadConfig(flags);
  const state = await StateDirectory.open(config.stateDir);
  // A daemon has no terminal to complain to.
  const ownFile = isDetached ? state.path('varpd.log') : null;
  const log = DaemonLog.open(config.log, config.log.file ?? ownFile);
  if (isDetached) process.chdir('/');
  const running: {
    daemon?: Daemon;
    /** It is on its way out, or to a new beginning. */
    status?: number;
    isRestarting?: boolean;
    /** It was to end when it was on its way to a new beginning. */
    endsAs?: number;
  } = {};
  forbidPluginExit();
  prepareNotify();
  log.lastWords(`${OVERDUE}, its control thread`, lastWords);

  const end = (status: number): void => {
    if (running.status !== undefined) {
      running.endsAs ??= status;
      return;
    }
    running.status = status;
    // First what ends it whatever else fails. What hangs is left where it is: a thread in a system call would keep the
    // process for ever.
    endAfter(LAST_DEADLINE_MS, status);
    takeLinksAlong();
    setTimeout(() => {
      log.error('stop', OVERDUE);
      leaveNow(status);
    }, STOP_DEADLINE_MS);
    sdNotify('STOPPING=1');
    const take = (handover: Handover): void => {
      leaveToManager([...handover.descriptors, ...storedStandIn(handover, state)]);
    };
    // Before it is ready there is no socket file, and the rest goes with the process.
    const stopping = running.daemon?.stop(storeSize() > 0 ? { take } : undefined);
    (stopping ?? Promise.resolve())
      .catch((error: unknown) => {
        bug('the end', error);
      })
      .then(() => endProcess(status))
      // A listener of a plugin has thrown.
      .catch(() => leaveNow(status));
  };
  const bug = (what: string, error: unknown): void => {
    log.error(`bug ${what}`, `bug: ${what}: ${errorStack(error)}`);
  };
  const escaped = (what: string) => (error: unknown) => {
    const plugin = authorOf(error);
    if (plugin === undefined) bug(what, error);
    else plugin.complain(error);
  };
  process.on('uncaughtException', escaped('uncaught exception'));
  process.on('unhandledRejection', escaped('unhandled rejection'));
  ownBackground(bug);
  /** They end with this process, unless a service manager keeps them: it knows whether this is a restart. */
  const takeLinksAlong = (): void => {
    keepTaps(storeSize() > 0);
  };
  /** Without a stand-in frames wait. */
  const orNone = (step: Promise<StandIn> | undefined): Promise<StandIn | undefined> =>
    (step ?? Promise.resolve(undefined)).catch((error: unknown) => {
      log.warn('restart', `frames wait until varpd is there again: ${errorText(error)}`);
      return undefined;
    });
  /** Resolves when varpd is about to restart. Rejects with an OverlayError when it would not come back; nothing has changed
   * then. */
  const restart = async (): Promise<RestartInfo> => {
    const { daemon } = running;
    if (daemon === undefined || running.status !== undefined || running.isRestarting === true)
      throw new OverlayError('BUSY', 'varpd is being started, is about to restart, or ends');
    running.isRestarting = true;
    try {
      const { reasons, warnings } = await rehearse(flags, config);
      if (reasons.length > 0) throw new OverlayError('INVALID', 'varpd goes on as it is', reasons);
      const next = loadConfig(flags);
      setTimeout(() => {
        handOver(daemon).catch((error: unknown) => {
          running.isRestarting = false;
          log.error('restart', `the restart failed: ${asOverlayError(error).message}`);
        });
      }, ANSWER_MS);
      return { socket: next.socket, logFile: next.log.file ?? ownFile, warnings };
    } catch (error) {
      running.isRestarting = false;
      throw error;
    }
  };
  /** The point of no return: this process becomes the next one. */
  const handOver = async (daemon: Daemon): Promise<void> => {
    const isEnding = (): boolean => running.status !== undefined;
    if (isEnding()) return;
    log.info('restart', 'varpd restarts');
    sdNotify('RELOADING=1');
    await daemon.freeze(SETTLE_DEADLINE_MS);
    const retained = daemon.retain();
    let standIn = await orNone(StandIn.start(retained));
    // A signal may have come.
    if (isEnding()) return;
    running.status = 0;
    keepTaps(true);
    let turns = 0;
    setInterval(() => {
      if (++turns !== RESTART_TURNS) return;
      // Whatever hangs ends with this program. The next one has the descriptors all the same.
      log.error('restart', 'varpd does not come to an end: it restarts as it is');
      leaveToMyself(retained.named());
      standIn?.leave();
      become();
    }, RESTART_TURN_MS);
    await daemon.stop({
      before: async () => {
        standIn = await orNone(standIn?.carry());
      },
      take: ({ descriptors }) => {
        leaveToMyself(descriptors);
        standIn?.leave();
      },
    });
    become();
  };
  const become = (): void => {
    if (running.endsAs !== undefined) {
      takeLinksAlong();
      leaveNow(running.endsAs);
    }
    stayDetached();
    leaveVariable('restarted', config.log.file ?? ownFile ?? '');
    try {
      beginAgain(commandLine(flags));
    } catch (error) {
      // The links stay as long as this process does.
      log.error('fatal', `cannot start the next varpd: ${errorText(error)}: it is tried again`);
      setTimeout(become, AGAIN_MS);
    }
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)
    process.on(signal, () => {
      log.info('signal', `${signal}: varpd ends`);
      end(0);
    });
  // It hears of them too, and needs nobody to come round.
  guardEnd(DEAF_MS);
  // What an earlier process has left is not this one's to delete, as long as it may fail to start.
  if (passOn === undefined) takeLinksAlong();
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
      restart,
    },
    passOn,
  );
  running.daemon = daemon;
  takeLinksAlong();
  sdNotify('READY=1');
  obey('SIGUSR2', () => {
    restart().then(
      ({ warnings }) => {
        for (const warning of warnings) log.warn(`restart ${warning}`, warning);
      },
      (error: unknown) => {
        const { message, details } = asOverlayError(error);
        for (const line of [...details, message]) log.error(`restart ${line}`, `not restarted: ${line}`);
      },
    );
  });
  obey('SIGHUP', () => {
    daemon.reload().catch((error: unknown) => {
      bug('reload', error);
    });
  });
  // A log on standard error has said it.
  if (config.log.file !== null && !isDetached)
    for (const [name, reason] of daemon.offline) complain(`${name} is OFFLINE: ${reason}`);
  return daemon.offline;
}

/** The same as this process was started with, wherever it is now. */
function commandLine({ config, socket, pluginPath }: Flags): string[] {
  return [
    process.argv[1],
    ...(config === undefined ? [] : ['--config', config]),
    ...(socket === undefined ? [] : ['--socket', socket]),
    ...pluginPath.flatMap((directory) => ['-i', directory]),
    ...(isDetached ? [] : ['--foreground']),
  ];
}
