/**
 * The definition of a subcommand, and the context that it runs in: it may ask varpd, print, and complain.
 *
 * A command that fails throws a CommandError (a UsageError when it was called wrongly) and prints nothing
 * else. A command that shows several things reports through `fail` those that it cannot show, and goes on.
 */
import { type Call, ControlError } from '../control/client.js';
import type { Open } from '../control/stream-client.js';
import type { Failure } from '../control/messages.js';
import { exitOf, type Reason, REASONS } from './reasons.js';

export interface Option {
  /** The long option, and the name in `Arguments`: `temporary` is `--temporary`. */
  readonly name: string;
  /** Another spelling of the long option. */
  readonly alias?: string;
  /** `t` is `-t`. */
  readonly short?: string;
  /** Name of the argument in the help text; without it the option takes no argument. */
  readonly value?: string;
  readonly repeatable?: true;
  /** The argument may be left out; it is attached: `--drops=reason`. Then the value is empty. */
  readonly optional?: true;
  readonly about: string;
}

/** Arguments of one call. */
export class Arguments<Name extends string = string> {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];

  constructor(values: ReadonlyMap<string, readonly string[]>, operands: readonly string[]) {
    this.#values = values;
    this.operands = operands;
  }

  has(name: Name): boolean {
    return this.#values.has(name);
  }

  value(name: Name): string | undefined {
    return this.#values.get(name)?.[0];
  }

  values(name: Name): readonly string[] {
    return this.#values.get(name) ?? [];
  }
}

export interface Context {
  readonly call: Call;
  /** Calls a method that answers with a stream. */
  readonly open: Open;
  /** Path of the control socket that `call` uses. */
  readonly socket: string;
  /** Version of dladm. */
  readonly version: string;
  /** The help text of a subcommand, or of dladm. Rejects with a UsageError when there is no such subcommand. */
  readonly help: (subcommand?: string) => Promise<string>;
  /** All subcommands. */
  readonly commands: Commands;
  /** Options that are valid before the subcommand. */
  readonly globals: readonly Option[];
  /** Writes to standard output, unchanged. */
  readonly print: (text: string) => void;
  /** Writes a line to standard error, without an effect on the exit status. */
  readonly warn: (text: string) => void;
  /**
   * Writes an error to standard error; the command goes on, and ends with the exit status of the error. After errors of
   * different statuses it ends with FAILED.
   */
  readonly fail: (error: CommandError) => void;
  /** The command has done its work, and the answer is no: the exit status will be 10. */
  readonly refute: () => void;
}

export interface Command {
  /** `delete-overlay [-t] overlay` */
  readonly synopsis: string;
  /** Sentences for the help text and docs/overlays.md. */
  readonly about: string;
  readonly options: readonly Option[];
  /** Lines to type, without `dladm`. */
  readonly examples: readonly string[];
  run(args: Arguments, context: Context): Promise<void>;
}

/** Name -> the subcommand, which is loaded when it is needed. */
export type Commands = ReadonlyMap<string, () => Promise<{ readonly command: Command }>>;

interface Definition<O extends readonly Option[]> extends Command {
  readonly options: O;
  run(args: Arguments<O[number]['name']>, context: Context): Promise<void>;
}

/** Ties the names that `run` asks for to the options that exist. */
export function defineCommand<const O extends readonly Option[]>(definition: Definition<O>): Command {
  return definition;
}

/** Ends the command, or says what it could not do. */
export class CommandError extends Error {
  override readonly name: string = 'CommandError';
  /** Stable: one of reasons.ts, or a reason of a later varpd. */
  readonly reason: string;
  /** Exit status of the reason. */
  readonly status: number;

  /**
   * `details` are printed before the message, a line each, as illumos does with its error list. `hint` follows the
   * message, which is the problem and the hint.
   */
  constructor(
    readonly problem: string,
    readonly details: readonly string[] = [],
    reason: Reason | Pick<CommandError, 'reason' | 'status'> = 'FAILED',
    readonly hint: string | null = null,
  ) {
    super(hint === null ? problem : `${problem}: ${hint}`);
    [this.reason, this.status] =
      typeof reason === 'string' ? [reason, exitOf(reason)] : [reason.reason, reason.status];
  }
}

/** The command line has its form, and a value in it is invalid. */
export class ValueError extends CommandError {
  override readonly name = 'ValueError';

  constructor(problem: string, details: readonly string[] = [], hint: string | null = null) {
    super(problem, details, 'INVALID', hint);
  }
}

/** A CommandError that is followed by the usage line of the command. */
export class UsageError extends CommandError {
  override readonly name = 'UsageError';

  constructor(problem: string, hint: string | null = null) {
    super(problem, [], 'USAGE', hint);
  }
}

/**
 * Waits for an answer of varpd. When it is an error, throws `what: words`, after the reasons that varpd
 * gave.
 */
export async function attempt<T>(what: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    throw new CommandError(`${what}: ${error.words}`, reasonsOf(error, what), error, error.hint);
  }
}

/**
 * The details, and the message unless it repeats `what` and the words: `overlay0: object not found` about
 * overlay0.
 */
function reasonsOf({ words, details, message }: ControlError, what: string): readonly string[] {
  const about = what.split(/[ ']/).map((word) => `${word}: ${words}`);
  return [words, ...about, ...details].includes(message) ? details : [...details, message];
}

/** The error about one of several things. `otherwise`: its reason, unless varpd gave one. */
export function failureError(problem: string, { reason, hint }: Failure, otherwise: Reason): CommandError {
  const known = reason !== undefined && Object.hasOwn(REASONS, reason) ? (reason as Reason) : otherwise;
  return new CommandError(problem, [], known, hint);
}

/** The reason why something could not be shown or brought up: the message without the name before it. */
export function reasonOf({ name, message }: Failure): string {
  const about = `${name}: `;
  return message.startsWith(about) ? message.slice(about.length) : message;
}
