/**
 * Every error of the control path, in one list.
 *
 * An OverlayError has a stable code, the status words that illumos prints for it, and a message that says
 * what was wrong, where, and what was expected. Any other thrown value is a bug and is reported as
 * `INTERNAL`.
 *
 * Any value can be thrown: `null`, an object without a prototype, an error with a message that throws when it
 * is read. So the functions here never fail themselves, and values that other code has thrown are read only
 * through them.
 */
import type { ErrnoName } from '../wire/errno.js';
import { EXIT, type ExitName } from './exit-statuses.js';

/** Code -> the status words of dladm (docs/overlays.md). */
export const STATUS_WORDS = {
  INVALID: 'invalid argument',
  EXISTS: 'object already exists',
  NOT_FOUND: 'object not found',
  UNSUPPORTED: 'operation not supported',
  DENIED: 'permission denied',
  BUSY: 'link busy',
  AGAIN: 'try again later',
  NO_MEMORY: 'insufficient memory',
  IO: 'I/O error',
  INTERNAL: 'operation failed',
} as const;

export type ErrorCode = keyof typeof STATUS_WORDS;

export const ERROR_CODES = Object.keys(STATUS_WORDS) as readonly ErrorCode[];

/** Code -> the exit status of a command that fails for it. */
export const EXIT_OF_CODE: Readonly<Record<ErrorCode, ExitName>> = {
  INVALID: 'REFUSED',
  EXISTS: 'EXISTS',
  NOT_FOUND: 'NOT_FOUND',
  UNSUPPORTED: 'REFUSED',
  DENIED: 'DENIED',
  BUSY: 'REFUSED',
  AGAIN: 'REFUSED',
  NO_MEMORY: 'FAILED',
  IO: 'FAILED',
  INTERNAL: 'FAILED',
};

export class OverlayError extends Error {
  override readonly name = 'OverlayError';
  readonly code: ErrorCode;
  /** Lines that say which steps or properties failed, each on its own; printed before the message. */
  readonly details: readonly string[];
  /** Advice, which follows the words of the error: `did you mean overlay0?` */
  readonly hint: string | null;
  /** Marks an OverlayError: other code cannot add this field to an object, and a Proxy does not have it. */
  readonly #isOurs = true;

  constructor(
    code: ErrorCode,
    message: string,
    details: readonly string[] = [],
    cause?: unknown,
    hint?: string,
  ) {
    super(message, { cause });
    this.code = code;
    this.details = details;
    this.hint = hint ?? null;
  }

  /** The details and the message, each sentence once. */
  get sentences(): readonly string[] {
    return [...new Set([...this.details, this.message])];
  }

  get words(): string {
    return STATUS_WORDS[this.code];
  }

  get exitStatus(): number {
    return EXIT[EXIT_OF_CODE[this.code]];
  }

  /** Does the work of `instanceof`, which can throw on a Proxy. */
  static is(value: unknown): value is OverlayError {
    return typeof value === 'object' && value !== null && #isOurs in value && value.#isOurs;
  }
}

/** The error about an invalid value: `line` says which, and what was expected. */
export function invalidError(line: string): OverlayError {
  return new OverlayError('INVALID', line, [line]);
}

/** errno name -> code; other errnos are INTERNAL. */
const CODES: Readonly<Partial<Record<ErrnoName, ErrorCode>>> = {
  EINVAL: 'INVALID',
  EADDRNOTAVAIL: 'INVALID',
  ENAMETOOLONG: 'INVALID',
  ENETUNREACH: 'INVALID',
  EEXIST: 'EXISTS',
  ENOENT: 'NOT_FOUND',
  ENODEV: 'NOT_FOUND',
  ENOTSUP: 'UNSUPPORTED',
  EOPNOTSUPP: 'UNSUPPORTED',
  EPERM: 'DENIED',
  EACCES: 'DENIED',
  EBUSY: 'BUSY',
  EADDRINUSE: 'BUSY',
  EAGAIN: 'AGAIN',
  ENOMEM: 'NO_MEMORY',
  ENOBUFS: 'NO_MEMORY',
  EMFILE: 'NO_MEMORY',
  EIO: 'IO',
  ENOSPC: 'IO',
  EROFS: 'IO',
};
/** A Map, since a thrown text may be any, such as `constructor`. */
const CODE_OF_ERRNO = new Map<string, ErrorCode>(Object.entries(CODES));

/** Returns any thrown value as an OverlayError, so that the control path has one kind of error to report.
 * Never fails. */
export function asOverlayError(error: unknown): OverlayError {
  if (OverlayError.is(error)) return error;
  return new OverlayError(
    CODE_OF_ERRNO.get(errorCode(error) ?? '') ?? 'INTERNAL',
    errorText(error),
    [],
    error,
  );
}

/** Returns a description of a thrown value; never empty. Never fails. */
export function errorText(error: unknown): string {
  try {
    const isError = error instanceof Error;
    if (isError && error.name === 'SyntaxError') return syntaxText(error.message, String(error.stack));
    const text = String(isError ? error.message : error);
    return text !== ''
      ? text
      : isError
        ? `an error of type ${error.name} without a message`
        : 'an empty error message';
  } catch {
    return `a value of type ${typeof error} that cannot be shown`;
  }
}

/** Returns the place of a syntax error without the text. JSON.parse quotes its input, and the compiler quotes
 * the program: both may be from a file that the reader of the message may not read. */
function syntaxText(message: string, stack: string): string {
  const position = / in JSON at position (\d+)(?: \(line \d+ column \d+\))?$/.exec(message)?.[1];
  if (position !== undefined) return `not valid JSON from character ${position} on`;
  if (/ is not valid JSON$|^Unexpected end of JSON input$/.test(message)) return 'not valid JSON';
  // Node puts three lines before the stack: the place, the line of the program, and a mark below the column.
  const place = /^file:\/\/(\/[^\n?]*)(?:\?[^\n]*)?:(\d+)\n[^\n]*\n( *)\^/.exec(stack);
  if (place === null) return 'a syntax error';
  const [, file, line, before] = place;
  return `${decodeURIComponent(file)}:${line}:${before.length + 1}: a syntax error`;
}

/** Returns a description with the stack, if there is one: for unexpected errors. Never fails. */
export function errorStack(error: unknown): string {
  try {
    const stack = error instanceof Error ? error.stack : undefined;
    if (error instanceof Error && error.name === 'SyntaxError')
      return [errorText(error), ...(stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))].join(
        '\n',
      );
    return typeof stack === 'string' && stack !== '' ? stack : errorText(error);
  } catch {
    return errorText(error);
  }
}

/** Returns the `code` of an error if that is a text. Never fails. */
export function errorCode(error: unknown): string | undefined {
  try {
    return error instanceof Error && 'code' in error && typeof error.code === 'string'
      ? error.code
      : undefined;
  } catch {
    return undefined;
  }
}
