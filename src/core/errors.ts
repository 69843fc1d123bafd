/**
 * Every error of the control path, in one list.
 *
 * An OverlayError has a stable code, the status words that illumos prints for it, and a message that says what was
 * wrong, where, and what was expected. Whatever else is thrown is a bug and is reported as `INTERNAL`.
 */

/** Code -> the status words of dladm (see README, "Messages"). */
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

export class OverlayError extends Error {
  override readonly name = 'OverlayError';
  readonly code: ErrorCode;
  /** Lines that say which steps or properties failed, each on its own; printed before the message. */
  readonly details: readonly string[];

  constructor(code: ErrorCode, message: string, details: readonly string[] = [], cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.details = details;
  }

  get status(): string {
    return STATUS_WORDS[this.code];
  }
}

/** errno name -> code; what is not listed is INTERNAL. */
const CODE_OF_ERRNO: Readonly<Record<string, ErrorCode>> = {
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

/** Any thrown value as an OverlayError, so that the control path has one kind to report. */
export function asOverlayError(error: unknown): OverlayError {
  if (error instanceof OverlayError) return error;
  if (error instanceof Error) {
    const errno = 'code' in error && typeof error.code === 'string' ? error.code : '';
    return new OverlayError(CODE_OF_ERRNO[errno] ?? 'INTERNAL', error.message, [], error);
  }
  return new OverlayError('INTERNAL', String(error));
}
