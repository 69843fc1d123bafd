/**
 * The exit statuses of dladm and varpd: one list for the code, the documentation and the test.
 *
 * errors.ts says which of them an error has.
 */
export const EXIT_STATUSES = {
  DONE: { status: 0, means: 'Done. There may have been nothing to do.' },
  FAILED: { status: 1, means: 'Failed. The reasons are on standard error.' },
  USAGE: { status: 2, means: 'Wrong usage. A usage line follows the error.' },
  NO_DAEMON: { status: 3, means: 'No varpd is there, or it did not answer.' },
  NOT_FOUND: { status: 4, means: 'Something that was named does not exist.' },
  EXISTS: { status: 5, means: 'Something of that name exists already.' },
  DENIED: { status: 6, means: 'Not permitted.' },
  REFUSED: { status: 7, means: 'Refused: an invalid value, or a conflict with what exists or is under way.' },
  NO: { status: 10, means: 'The answer is no: what was to be checked has errors.' },
} as const;

export type ExitName = keyof typeof EXIT_STATUSES;

/** Name -> number. */
export const EXIT = Object.fromEntries(
  Object.entries(EXIT_STATUSES).map(([name, { status }]) => [name, status]),
) as Readonly<Record<ExitName, number>>;
