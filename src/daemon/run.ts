/**
 * The daemon as a process: its log, its signals, and its end.
 *
 * SIGTERM, SIGINT and SIGQUIT end it with status 0, SIGHUP is `dladm reload`, SIGUSR2 `dladm restart`. An exception that
 * nobody caught ends it with status 1, except out of a plugin: then it is the plugin's overlay that suffers.
 */
import { accessSync, constants } from 'node:fs';
import { asOverlayError } from '../core/errors.js';
import { sdNotify } from '../dgram-extra/index.js';
import { type Flags, loadConfig } from './config.js';
import { Daemon } from './daemon.js';
import { leaveBridge } from './bridge.js';
import type { Legacy } from './datapath/contract.js';
import { leaveToManager, leaveToMyself, storeSize } from './descriptors.js';
import { isDetached, stayDetached } from './detach.js';
import { DaemonLog } from './log.js';
import { forbidPluginExit } from './plugin-exit.js';
import { runningPlugin } from './plugin-host.js';
import { beginAgain } from './privileges.js';
import { StateDirectory } from './state-directory.js';

/** varpd is gone within 2 s of a signal, whatever hangs: the kernel takes the TAPs away with the process. */
const STOP_DEADLINE_MS = 1800;
/** A restart that hangs is given up, and with it the links. Turns of the loop are counted, not time: a process that is kept
 * off the processor does not hang. */
const RESTART_TURN_MS = 100;
const RESTART_TURNS = 50;
/** A restart waits for the change under way, which may wait for a plugin's start. */
const SETTLE_DEADLINE_MS = 10_000;

/** Resolves when it is ready. Rejects with an OverlayError. */
export async function run(flags: Flags): Promise<void> {
  const config = loadConfig(flags);
  const state = await StateDirectory.open(config.stateDir);
  // A daemon has no terminal to complain to.
  const ownFile = isDetached ? state.path('varpd.log') : null;
  const log = DaemonLog.open(config.log, config.log.file ?? ownFile);
  if (isDetached) process.chdir('/');
  const running: { daemon?: Daemon; status?: number } = {};
  const exit = forbidPluginExit();

  const end = (status: number): void => {
    if (running.status !== undefined) return;
    running.status = status;
    sdNotify('STOPPING=1');
    setTimeout(() => exit(status), STOP_DEADLINE_MS);
    // What the service manager does with the descriptors is its business: it knows whether this is a restart.
    const leave = ({ descriptors }: Legacy): void => {
      leaveToManager(descriptors, log);
    };
    // Before it is ready there is no socket file, and the rest goes with the process.
    const stopping = running.daemon?.stop(storeSize() > 0 ? leave : undefined);
    void (stopping ?? Promise.resolve()).then(() => exit(status));
  };
  const die = (what: string, error: unknown): void => {
    log.error('fatal', `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    end(1);
  };
  const escaped = (what: string) => (error: unknown) => {
    const plugin = runningPlugin.getStore();
    if (plugin === undefined) die(what, error);
    else plugin.complain(error);
  };
  process.on('uncaughtException', escaped('uncaught exception'));
  process.on('unhandledRejection', escaped('unhandled rejection'));
  /** Rejects with an OverlayError when it would not come back; otherwise this process begins again. */
  const restart = async (): Promise<void> => {
    const { daemon } = running;
    if (daemon === undefined || running.status !== undefined) return;
    loadConfig(flags);
    accessSync(process.execPath, constants.X_OK);
    accessSync(process.argv[1], constants.R_OK);
    await daemon.settle(SETTLE_DEADLINE_MS);
    running.status = 0;
    log.info('restart', 'varpd starts anew');
    sdNotify('RELOADING=1');
    let turns = 0;
    setInterval(() => {
      if (++turns === RESTART_TURNS) exit(1);
    }, RESTART_TURN_MS);
    await daemon.stop(({ descriptors, commands }) => {
      leaveToMyself(descriptors);
      try {
        leaveBridge(commands, state);
      } catch (error) {
        log.warn('restart', `frames wait until varpd is there again: ${String(error)}`);
      }
    });
    stayDetached();
    try {
      beginAgain(commandLine(flags));
    } catch (error) {
      log.error('fatal', `cannot start anew: ${String(error)}`);
      exit(1);
    }
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)
    process.on(signal, () => {
      log.info('signal', `${signal}: varpd ends`);
      end(0);
    });
  process.on('SIGUSR2', () => {
    restart().catch((error: unknown) => {
      log.error('restart', `not started anew: ${asOverlayError(error).message}`);
    });
  });
  // Never rejects: what is no good is logged.
  process.on('SIGHUP', () => void running.daemon?.reload());

  running.daemon = await Daemon.start(config, () => loadConfig(flags), state, log, {
    failed: (error) => {
      die('the datapath failed', error);
    },
    restart,
  });
  sdNotify('READY=1');
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
