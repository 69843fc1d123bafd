/**
 * The stable reasons of dladm, and the exit status of each: those of varpd's errors (model/errors.ts), and those that dladm
 * finds without an answer of varpd. One list for the code, the documentation and the test.
 */
import type { ConnectionFailure } from '../control/client.js';
import { EXIT_OF_CODE, ERROR_CODES, type ErrorCode } from '../model/errors.js';
import { EXIT, type ExitName } from '../model/exit-statuses.js';

interface Meaning {
  readonly exit: ExitName;
  readonly means: string;
}

/** Reasons for which there is no answer of varpd. */
const WITHOUT_ANSWER = {
  NO_DAEMON: { exit: 'NO_DAEMON', means: 'No program listens on the control socket.' },
  UNREACHABLE: { exit: 'NO_DAEMON', means: 'The control socket cannot be reached.' },
  CLOSED: { exit: 'NO_DAEMON', means: 'varpd closed the connection before it had answered.' },
  TIMEOUT: { exit: 'NO_DAEMON', means: 'varpd did not answer in time. It may still carry out the command.' },
  PROTOCOL: { exit: 'NO_DAEMON', means: 'The answer is not one of varpd.' },
  TOO_LONG: { exit: 'REFUSED', means: 'The request is longer than varpd takes.' },
} as const satisfies Readonly<Record<Exclude<ConnectionFailure, ErrorCode>, Meaning>>;

/** Reasons that dladm finds itself. */
const OF_DLADM = {
  ...WITHOUT_ANSWER,
  USAGE: { exit: 'USAGE', means: 'The command line is wrong.' },
  NO: { exit: 'NO', means: 'The answer is no: what was to be checked has errors.' },
  FAILED: { exit: 'FAILED', means: 'The details are the reasons.' },
} as const satisfies Readonly<Record<string, Meaning>>;

/** Reasons of varpd -> a sentence. */
const OF_VARPD: Readonly<Record<ErrorCode, string>> = {
  INVALID: 'A value is invalid.',
  EXISTS: 'Something of that name, or with that property, exists already.',
  NOT_FOUND: 'Something that was named does not exist.',
  UNSUPPORTED: 'The overlay, its plugin or this varpd cannot do that.',
  DENIED: 'The user may not do that.',
  BUSY: 'Something that exists is in the way.',
  AGAIN: 'Not now: something is under way, offline, or does not answer.',
  NO_MEMORY: 'There is not enough memory, or too few descriptors.',
  IO: 'A disk or a device failed.',
  INTERNAL: 'An error that varpd or dladm does not know: a defect, or a defect of a plugin.',
};

export type Reason = ErrorCode | keyof typeof OF_DLADM;

/** Reason -> exit status and meaning. */
export const REASONS: Readonly<Record<Reason, Meaning>> = {
  ...OF_DLADM,
  ...(Object.fromEntries(
    ERROR_CODES.map((code) => [code, { exit: EXIT_OF_CODE[code], means: OF_VARPD[code] }]),
  ) as Readonly<Record<ErrorCode, Meaning>>),
};

/** The exit status of a command that fails for this reason. */
export function exitOf(reason: Reason): number {
  return EXIT[REASONS[reason].exit];
}
