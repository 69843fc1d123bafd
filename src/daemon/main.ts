#!/usr/bin/env node
/**
 * varpd: reads its command line, becomes a daemon or stays, and follows signals.
 *
 * Without --foreground the command returns when the daemon is ready, as illumos has it: whoever waits for it may use
 * dladm at once, and a start that fails is seen as a failure. SIGTERM, SIGINT and SIGQUIT end it with status 0, SIGHUP
 * reads the configuration again.
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { asOverlayError, OverlayError } from '../core/errors.js';
import { sdNotify } from '../dgram-extra/index.js';
import { DEFAULT_CONFIG_FILE, type Flags, loadConfig } from './config.js';
import { Daemon, VERSION } from './daemon.js';
import { isDetached, reportStart, startDetached } from './detach.js';
import { DaemonLog } from './log.js';
import { runningPlugin } from './plugin-host.js';
import { StateDirectory } from './state-directory.js';

const USAGE = `usage: varpd [--config FILE] [-i DIR]... [--socket PATH] [--foreground]
       varpd --help | --version

  --config FILE   configuration (default: ${DEFAULT_CONFIG_FILE}, if it is there)
  -i DIR          one more directory of lookup plugins
  --socket PATH   control socket, over what the configuration says
  --foreground    stay, log to standard error; otherwise return when the daemon is ready

SIGTERM ends it, SIGHUP reads the configuration again.
`;

/** varpd is gone within 2 s of a signal, whatever hangs: the kernel takes the TAPs away with the process. */
const STOP_DEADLINE_MS = 1800;

interface CommandLine extends Flags {
  readonly foreground: boolean;
}

/** undefined = everything that was asked for has been printed. Throws an OverlayError. */
function readCommandLine(): CommandLine | undefined {
  const { values } = parseStrictly();
  if (values.help === true || values.version === true) {
    process.stdout.write(values.help === true ? USAGE : `varpd ${VERSION}\n`);
    return undefined;
  }
  const { config, socket, foreground = false } = values;
  return {
    // Absolute, because SIGHUP reads the file again, and a daemon does not stay in this directory.
    ...(config !== undefined && { config: path.resolve(config) }),
    ...(socket !== undefined && { socket: path.resolve(socket) }),
    pluginPath: (values.include ?? []).map((directory) => path.resolve(directory)),
    foreground,
  };
}

function parseStrictly() {
  try {
    return parseArgs({
      options: {
        config: { type: 'string' },
        include: { type: 'string', short: 'i', multiple: true },
        socket: { type: 'string' },
        foreground: { type: 'boolean' },
        help: { type: 'boolean' },
        version: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new OverlayError(
      'INVALID',
      (error as Error).message,
      [(error as Error).message, USAGE.trimEnd()],
      error,
    );
  }
}

/** Its details, or the message when there are none. */
function linesOf(error: unknown): string[] {
  const { message, details } = asOverlayError(error);
  return details.length > 0 ? [...details] : [message];
}

function fail(error: unknown): never {
  const lines = linesOf(error);
  reportStart(lines);
  for (const line of lines) process.stderr.write(`varpd: ${line}\n`);
  process.exit(1);
}

async function run(flags: CommandLine): Promise<void> {
  const config = loadConfig(flags);
  const state = await StateDirectory.open(config.stateDir);
  const log = DaemonLog.open(config.log, config.log.file ?? (isDetached ? state.path('varpd.log') : null));
  if (isDetached) process.chdir('/');
  const running: { daemon?: Daemon; status?: number } = {};

  const end = (wanted: number): void => {
    if (running.status !== undefined) return;
    running.status = wanted;
    sdNotify('STOPPING=1');
    setTimeout(() => process.exit(wanted), STOP_DEADLINE_MS);
    // Before it is ready there is no socket file, and the rest goes with the process.
    void (running.daemon?.stop() ?? Promise.resolve()).then(() => process.exit(wanted));
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

  const failed = (error: Error): void => {
    die('the datapath failed', error);
  };
  running.daemon = await Daemon.start(config, () => loadConfig(flags), state, log, failed);
  sdNotify('READY=1');
  reportStart([]);
}

try {
  const flags = readCommandLine();
  if (flags === undefined) process.exitCode = 0;
  else if (flags.foreground || isDetached) await run(flags);
  else await startDetached();
} catch (error) {
  fail(error);
}
