/**
 * dladm as a function of its arguments: finds the subcommand, loads only its file, runs it, and reports.
 *
 * A failure prints `dladm: text` on standard error, or with --json an object, and has an exit status of
 * model/exit-statuses.ts. Success prints only the output of the command.
 */
import { readFileSync } from 'node:fs';
import type { Arguments } from './command.js';

import { ConnectionError, createClient } from '../control/client.js';
import { createOpener } from '../control/stream-client.js';
import { DEFAULT_SOCKET } from '../control/messages.js';
import { EXIT } from '../model/exit-statuses.js';
import { didYouMean } from '../model/suggest.js';
import { type Command, CommandError, type Commands, type Option, UsageError } from './command.js';
import { Complaints } from './complaints.js';
import { getopt } from './getopt.js';
import { commandHelp, generalHelp, generalUsage, usageLine } from './help.js';
import { commonOptions, EVERYWHERE } from './options.js';

export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const COMMANDS: Commands = new Map([
  ['create-overlay', () => import('./commands/create-overlay.js')],
  ['delete-overlay', () => import('./commands/delete-overlay.js')],
  ['modify-overlay', () => import('./commands/modify-overlay.js')],
  ['show-overlay', () => import('./commands/show-overlay.js')],
  ['set-overlayprop', () => import('./commands/set-overlayprop.js')],
  ['reset-overlayprop', () => import('./commands/reset-overlayprop.js')],
  ['show-overlayprop', () => import('./commands/show-overlayprop.js')],
  ['show-peers', () => import('./commands/show-peers.js')],
  ['up-overlay', () => import('./commands/up-overlay.js')],
  ['create-vnic', () => import('./commands/create-vnic.js')],
  ['delete-vnic', () => import('./commands/delete-vnic.js')],
  ['rename-link', () => import('./commands/rename-link.js')],
  ['show-vnic', () => import('./commands/show-vnic.js')],
  ['set-linkprop', () => import('./commands/set-linkprop.js')],
  ['reset-linkprop', () => import('./commands/reset-linkprop.js')],
  ['show-linkprop', () => import('./commands/show-linkprop.js')],
  ['capture', () => import('./commands/capture.js')],
  ['explain', () => import('./commands/explain.js')],
  ['probe', () => import('./commands/probe.js')],
  ['top', () => import('./commands/top.js')],
  ['watch', () => import('./commands/watch.js')],
  ['status', () => import('./commands/status.js')],
  ['doctor', () => import('./commands/doctor.js')],
  ['check-mapping', () => import('./commands/check-mapping.js')],
  ['import-mapping', () => import('./commands/import-mapping.js')],
  ['export-mapping', () => import('./commands/export-mapping.js')],
  ['export', () => import('./commands/export.js')],
  ['apply', () => import('./commands/apply.js')],
  ['reload', () => import('./commands/reload.js')],
  ['reload-plugin', () => import('./commands/reload-plugin.js')],
  ['restart', () => import('./commands/restart.js')],
  ['help', () => import('./commands/help.js')],
  ['completion', () => import('./commands/completion.js')],
]);

export const GLOBAL_OPTIONS: readonly Option[] = [
  ...EVERYWHERE,
  { name: 'version', about: 'print the version and exit' },
];

/** Resolves with the exit status. */
export async function dladm(argv: readonly string[], terminal: Terminal): Promise<number> {
  const complaints = new Complaints(terminal.err, wantsJson(argv));
  let usage = async ({ hint }: UsageError): Promise<string> =>
    generalUsage(hint === null ? await allCommands() : []);
  try {
    const globals = getopt(GLOBAL_OPTIONS, argv, 'leading');
    const name = globals.operands.at(0);
    if (globals.has('version')) return done(terminal, `${version()}\n`);
    if (globals.has('help')) return done(terminal, await help());
    if (name === undefined) throw new UsageError('missing subcommand');
    const command = await commandNamed(name);
    usage = () => Promise.resolve(usageLine(command));

    const args = getopt([...command.options, ...commonOptions(command)], globals.operands.slice(1));
    if (args.has('help')) return done(terminal, await help(name));
    const statuses = new Set<number>();
    const socket = socketPath([args, globals], terminal.env);
    await command.run(args, {
      call: createClient(socket),
      open: createOpener(socket),
      socket,
      version: version(),
      help,
      commands: COMMANDS,
      globals: GLOBAL_OPTIONS,
      print: terminal.out,
      warn: (text) => {
        complaints.warn(text);
      },
      fail: (error) => {
        statuses.add(complaints.error(error));
      },
      refute: () => {
        statuses.add(EXIT.NO);
      },
    });
    const [status = EXIT.DONE, ...others] = statuses;
    return others.length > 0 ? EXIT.FAILED : status;
  } catch (error) {
    if (error instanceof UsageError) return complaints.error(error, await usage(error));
    if (error instanceof CommandError || error instanceof ConnectionError) return complaints.error(error);
    const status = complaints.defect(error);
    if (status === undefined) throw error;
    return status;
  }
}

/** Whether errors are to be JSON, also those about the command line. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end === -1 ? undefined : end).includes('--json');
}

/** Rejects with a UsageError. */
async function commandNamed(name: string): Promise<Command> {
  const load = COMMANDS.get(name);
  if (load !== undefined) return (await load()).command;
  throw new UsageError(`unknown subcommand '${name}'`, didYouMean(name, [...COMMANDS.keys()]) ?? null);
}

async function help(name?: string): Promise<string> {
  if (name === undefined) return generalHelp(await allCommands(), GLOBAL_OPTIONS);
  const command = await commandNamed(name);
  return commandHelp(command, commonOptions(command));
}

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
