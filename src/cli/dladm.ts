/**
 * dladm as a function of its arguments: finds the subcommand, loads only its file, runs it, and reports.
 *
 * A failure prints `dladm: text` on standard error, and has an exit status of model/exit-statuses.ts. Success
 * prints only the output of the command.
 */
import { readFileSync } from 'node:fs';
import type { Arguments } from './command.js';

import { ConnectionError, type ConnectionFailure, createClient } from '../control/client.js';
import { createOpener } from '../control/stream-client.js';
import { DEFAULT_SOCKET } from '../control/messages.js';
import { EXIT, type ExitName } from '../model/exit-statuses.js';
import { type Command, CommandError, type Option, UsageError } from './command.js';
import { getopt } from './getopt.js';
import { commandHelp, generalHelp, generalUsage, usageLine } from './help.js';
import { withQuotations } from './quotation.js';
import { printable } from './text.js';

export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const COMMANDS = new Map<string, () => Promise<{ command: Command }>>([
  ['create-overlay', () => import('./commands/create-overlay.js')],
  ['delete-overlay', () => import('./commands/delete-overlay.js')],
  ['modify-overlay', () => import('./commands/modify-overlay.js')],
  ['show-overlay', () => import('./commands/show-overlay.js')],
  ['show-peers', () => import('./commands/show-peers.js')],
  ['up-overlay', () => import('./commands/up-overlay.js')],
  ['create-vnic', () => import('./commands/create-vnic.js')],
  ['delete-vnic', () => import('./commands/delete-vnic.js')],
  ['show-vnic', () => import('./commands/show-vnic.js')],
  ['set-linkprop', () => import('./commands/set-linkprop.js')],
  ['reset-linkprop', () => import('./commands/reset-linkprop.js')],
  ['show-linkprop', () => import('./commands/show-linkprop.js')],
  ['capture', () => import('./commands/capture.js')],
  ['explain', () => import('./commands/explain.js')],
  ['probe', () => import('./commands/probe.js')],
  ['top', () => import('./commands/top.js')],
  ['status', () => import('./commands/status.js')],
  ['doctor', () => import('./commands/doctor.js')],
  ['check-mapping', () => import('./commands/check-mapping.js')],
  ['reload', () => import('./commands/reload.js')],
  ['restart', () => import('./commands/restart.js')],
]);

/** Valid before and after the subcommand. */
const COMMON_OPTIONS: readonly Option[] = [
  {
    name: 'socket',
    value: 'path',
    about: `the control socket of varpd; else $VARPD_SOCKET, else ${DEFAULT_SOCKET}`,
  },
  { name: 'help', short: 'h', about: 'print this and exit' },
];
const GLOBAL_OPTIONS: readonly Option[] = [
  ...COMMON_OPTIONS,
  { name: 'version', about: 'print the version and exit' },
];

/** Resolves with the exit status. */
export async function dladm(argv: readonly string[], terminal: Terminal): Promise<number> {
  const complain = (text: string): void => {
    terminal.err(`dladm: ${printable(withQuotations(text))}\n`);
  };
  let usage = async (): Promise<string> => generalUsage(await allCommands());
  try {
    const globals = getopt(GLOBAL_OPTIONS, argv);
    const name = globals.operands.at(0);
    if (globals.has('version')) return done(terminal, `${version()}\n`);
    if (globals.has('help')) return done(terminal, generalHelp(await allCommands(), GLOBAL_OPTIONS));
    if (name === undefined) throw new UsageError('missing subcommand');
    const load = COMMANDS.get(name);
    if (load === undefined) throw new UsageError(`unknown subcommand '${name}'`);
    const { command } = await load();
    usage = () => Promise.resolve(usageLine(command));

    const args = getopt([...command.options, ...COMMON_OPTIONS], globals.operands.slice(1));
    if (args.has('help')) return done(terminal, commandHelp(command, COMMON_OPTIONS));
    if (args.stray !== undefined) {
      throw new UsageError(`option '${args.stray}' must come before '${args.operands[0]}'`);
    }
    const statuses = new Set<number>();
    const socket = socketPath([args, globals], terminal.env);
    await command.run(args, {
      call: createClient(socket),
      open: createOpener(socket),
      socket,
      version: version(),
      print: terminal.out,
      warn: complain,
      fail: (text, status = EXIT.FAILED) => {
        statuses.add(status);
        complain(text);
      },
      refute: () => {
        statuses.add(EXIT.NO);
      },
    });
    const [status = EXIT.DONE, ...others] = statuses;
    return others.length > 0 ? EXIT.FAILED : status;
  } catch (error) {
    if (error instanceof ConnectionError) {
      complain(error.message);
      return EXIT[EXIT_WITHOUT_ANSWER[error.code]];
    }
    if (!(error instanceof CommandError)) throw error;
    [...error.reasons, error.message].forEach(complain);
    if (error instanceof UsageError) terminal.err(await usage());
    return error.status;
  }
}

const EXIT_WITHOUT_ANSWER: Readonly<Record<ConnectionFailure, ExitName>> = {
  NO_DAEMON: 'NO_DAEMON',
  DENIED: 'DENIED',
  CLOSED: 'NO_DAEMON',
  TIMEOUT: 'NO_DAEMON',
  PROTOCOL: 'NO_DAEMON',
  TOO_LONG: 'REFUSED',
  IO: 'NO_DAEMON',
};

export async function allCommands(): Promise<Command[]> {
  const modules = await Promise.all([...COMMANDS.values()].map((load) => load()));
  return modules.map(({ command }) => command);
}

function done(terminal: Terminal, text: string): number {
  terminal.out(text);
  return EXIT.DONE;
}

/** The option of the subcommand comes first, then the one before the subcommand, then the environment. */
function socketPath(levels: readonly Arguments[], env: Terminal['env']): string {
  const given = levels.find((args) => args.has('socket'))?.value('socket');
  // An unset variable of a script must not lead to another daemon than the intended one.
  if (given === '') throw new UsageError('option requires an argument --socket');
  const fromEnvironment = env['VARPD_SOCKET'];
  return (
    given ?? (fromEnvironment === undefined || fromEnvironment === '' ? DEFAULT_SOCKET : fromEnvironment)
  );
}

/** package.json is beside dist/, in which this file is dist/src/cli/dladm.js. */
function version(): string {
  const file = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}
