/**
 * The command varpd: reads its command line, then starts a daemon in the background or stays as one.
 *
 * Without --foreground the command returns when the daemon is ready, as in illumos. So a script may use dladm
 * after it, and sees a failed start as a failure. Code that only the daemon needs is loaded there.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadFirstThread } from '../datapath/userland/main/thread.js';
import { nameThread } from '../dgram-extra/index.js';
import { asOverlayError, OverlayError } from '../model/errors.js';
import { EXIT } from '../model/exit-statuses.js';
import { didYouMean } from '../model/suggest.js';
import { complain } from './complaint.js';
import type { Flags } from './config.js';
import { endProcess, makeExitCertain } from './exit.js';
import { Lifecycle } from './handover/lifecycle.js';
import { isDetached, reportStart, startDetached } from './process/detach.js';
import { reapInheritedChildren } from './process/inherited-children.js';
import { giveUpRights } from './process/privileges.js';
import { stopListening } from './process/signals.js';
import { VERSION } from './version.js';

const lifecycle = new Lifecycle();
const RETRY_PAUSE_MS = 1000;
/** Flags of a start that this process tries itself. */
let startFlags: Flags | undefined;

const USAGE = `usage: varpd [--config FILE] [-i DIR]... [--socket PATH] [--foreground | --check]
       varpd stop [--config FILE] [--socket PATH]
       varpd create-plugin NAME [DIR]
       varpd check-plugin DIR [--resolve MAC] [--listen ADDRESS] [-p NAME=VALUE]...
             [--secret NAME=FILE]...
       varpd -h | --help | --version

  --config FILE   configuration (default: /etc/varpd/varpd.yaml, if it is there)
  -i DIR          one more directory of lookup plugins, or a package that is one
  --socket PATH   control socket, over what the configuration says
  --foreground    stay, log to standard error; otherwise return when the daemon is ready
  --check         try all that a start needs, and change nothing: 0 = it would start, 10 = there are errors
  stop            end the varpd that answers on the socket, and wait until it has ended
  create-plugin   make a package with a lookup plugin and its tests
  check-plugin    load a lookup plugin without a daemon, and ask it: 0 = it is fine, 10 = something is wrong

SIGTERM ends it, SIGHUP reads the configuration and the files of plugins again, SIGUSR2 restarts it with links,
addresses and connections kept.
`;

/** Follows an error of the command line. It is the only part of an error that has several lines. */
const HELP = USAGE.trimEnd();

const OPTIONS = {
  config: { type: 'string' },
  include: { type: 'string', short: 'i', multiple: true },
  socket: { type: 'string' },
  foreground: { type: 'boolean' },
  check: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

function readArguments(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
  } catch (error) {
    const { message } = error as Error;
    // Node goes on with advice about positional arguments.
    const unknown = /^Unknown option '(-[^']*)'/.exec(message)?.[1];
    throw wrongUsage(unknown === undefined ? message : unknownWord('unknown option', unknown, OPTION_NAMES));
  }
}

const OPTION_NAMES = Object.keys(OPTIONS).map((name) => `--${name}`);

/** `unknown option '--chek': did you mean --check?` */
function unknownWord(what: string, word: string, known: readonly string[]): string {
  const hint = didYouMean(word, known);
  return `${what} '${word}'${hint === undefined ? '' : `: ${hint}`}`;
}

function wrongUsage(message: string): OverlayError {
  return new OverlayError('INVALID', message, [message, HELP]);
}

const isEmpty = (text: string | undefined): boolean => text === '';

const AUTHOR_COMMANDS = ['create-plugin', 'check-plugin'];

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  if (AUTHOR_COMMANDS.includes(args.at(0) ?? '')) {
    stopListening();
    const { authorCommand } = await import('../author/commands.js');
    process.exitCode = await authorCommand(args, wrongUsage);
    return;
  }
  const { values, positionals } = readArguments(args);
  const { config, include = [], socket, foreground, check, help, version } = values;
  // An unset variable of a script must not lead to another daemon than the intended one.
  for (const [name, text] of Object.entries({
    '--config': config,
    '--socket': socket,
    '-i': include.find(isEmpty),
  }))
    if (isEmpty(text)) throw wrongUsage(`option '${name}' requires an argument`);
  const word = positionals.at(0);
  const unexpected = word === 'stop' ? positionals.at(1) : word;
  if (unexpected !== undefined)
    throw wrongUsage(unknownWord('unexpected argument', unexpected, ['stop', ...AUTHOR_COMMANDS]));
  if (help === true || version === true) {
    process.stdout.write(help === true ? USAGE : `varpd ${VERSION}\n`);
    return;
  }
  const flags = {
    // Paths are absolute, because SIGHUP reads the file again, and a daemon does not stay in this directory.
    ...(config !== undefined && { config: path.resolve(config) }),
    ...(socket !== undefined && { socket: path.resolve(socket) }),
    pluginPath: include.map((directory) => path.resolve(directory)),
  };
  const isDaemon = foreground === true || isDetached;
  if (word === 'stop') {
    if (foreground === true || check === true) throw wrongUsage("'stop' takes --config and --socket alone");
    stopListening();
    const { stop } = await import('./process/stop.js');
    process.exitCode = await stop(flags);
    return;
  }
  if (check === true) {
    if (foreground === true) throw wrongUsage("options '--check' and '--foreground' exclude each other");
    stopListening();
    const { check: checkStart } = await import('./handover/check.js');
    process.exitCode = await checkStart(flags);
    return;
  }
  // A command that starts the daemon in the background handles signals like any other command.
  if (!isDaemon) stopListening();
  startFlags = flags;
  await giveUpRights(flags, isDaemon, () => {
    lifecycle.keepOpen();
  });
  if (isDaemon) {
    makeExitCertain();
    nameThread('varpd');
    reapInheritedChildren();
    await lifecycle.begin();
    loadFirstThread(lifecycle.hasStandIn);
    const { run } = await import('./run.js');
    const offline = await run(flags, lifecycle);
    reportStart([], { warnings: [...offline].map(([name, reason]) => `${name} is OFFLINE: ${reason}`) });
  } else {
    startFlags = undefined; // the daemon reports all errors
    await startDetached();
  }
}

/** The lines of an error, with every other reason there is. Without them where they cannot be found, as when no file can be
 * opened. */
async function withAllReasons(flags: Flags, lines: readonly string[]): Promise<readonly string[]> {
  try {
    const { allReasons } = await import('./handover/rehearsal.js');
    return await allReasons(flags, lines);
  } catch {
    return lines;
  }
}

async function refuse(error: unknown): Promise<void> {
  const { code, message, details, exitStatus } = asOverlayError(error);
  let lines: readonly string[] = details.length > 0 ? details : [message];
  if (startFlags !== undefined && !lifecycle.isRestart) lines = await withAllReasons(startFlags, lines);
  reportStart(lines, { code });
  for (const line of lines) {
    if (line === HELP) process.stderr.write(`varpd: ${line}\n`);
    else complain(line);
  }
  if (lifecycle.isRestart) await lifecycle.tryAgain(lines);
  // Without a pause, a service manager that holds our descriptors would try again at once, and for ever.
  else if (lifecycle.isHeldByManager) await delay(RETRY_PAUSE_MS);
  endProcess(lines.includes(HELP) ? EXIT.USAGE : exitStatus);
}

main().catch(refuse);
