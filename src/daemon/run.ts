/**
 * The daemon as a process: its log, its signals, and its end.
 *
 * SIGTERM, SIGINT and SIGQUIT end it with status 0, SIGHUP is `dladm reload`. An exception that nobody caught ends
 * it with status 1, except out of a plugin: then it is the plugin's overlay that suffers.
 */
import { sdNotify } from '../dgram-extra/index.js';
import { type Flags, loadConfig } from './config.js';
import { Daemon } from './daemon.js';
import { isDetached } from './detach.js';
import { DaemonLog } from './log.js';
import { forbidPluginExit } from './plugin-exit.js';
import { runningPlugin } from './plugin-host.js';
import { StateDirectory } from './state-directory.js';

/** varpd is gone within 2 s of a signal, whatever hangs: the kernel takes the TAPs away with the process. */
const STOP_DEADLINE_MS = 1800;

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
    // Before it is ready there is no socket file, and the rest goes with the process.
    void (running.daemon?.stop() ?? Promise.resolve()).then(() => exit(status));
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
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)
    process.on(signal, () => {
      log.info('signal', `${signal}: varpd ends`);
      end(0);
    });
  // Never rejects: what is no good is logged.
  process.on('SIGHUP', () => void running.daemon?.reload());

  running.daemon = await Daemon.start(
    config,
    () => loadConfig(flags),
    state,
    log,
    (error) => {
      die('the datapath failed', error);
    },
  );
  sdNotify('READY=1');
}
