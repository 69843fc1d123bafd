/** Errors of varpd-cni, as the CNI specification has them (section 5, Error). */
import { ConnectionError, ControlError } from '../control/client.js';
import { errorText } from '../model/errors.js';

/** The codes below 100 are those of the specification 1.1.0. */
export const CODE = {
  INCOMPATIBLE_VERSION: 1,
  UNSUPPORTED_FIELD: 2,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO: 5,
  DECODE: 6,
  INVALID_CONFIG: 7,
  TRY_AGAIN: 11,
  NOT_AVAILABLE: 50,
  LIMITED_CONNECTIVITY: 51,
  /** varpd, or the kernel, has refused a step. */
  FAILED: 100,
  /** CHECK found a difference to the state that ADD left. */
  CHECK_FAILED: 101,
} as const;

export class CniError extends Error {
  override readonly name = 'CniError';

  /** `details`: a longer text, empty if there is none. */
  constructor(
    readonly code: number,
    message: string,
    readonly details = '',
  ) {
    super(message);
  }
}

/** Returns any thrown value as a CniError. Never fails. */
export function asCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  if (error instanceof ConnectionError) {
    const code = error.code === 'DENIED' || error.code === 'TOO_LONG' ? CODE.FAILED : CODE.TRY_AGAIN;
    return new CniError(code, 'varpd does not answer', error.message);
  }
  if (error instanceof ControlError) {
    const details = [...error.details, error.hint ?? '']
      .filter((line) => line !== '' && line !== error.message)
      .join('; ');
    return new CniError(codeOf(error.reason), `varpd: ${error.message}`, details);
  }
  return new CniError(CODE.FAILED, errorText(error));
}

function codeOf(reason: string): number {
  if (reason === 'AGAIN' || reason === 'BUSY') return CODE.TRY_AGAIN;
  return reason === 'INVALID' || reason === 'NOT_FOUND' ? CODE.INVALID_CONFIG : CODE.FAILED;
}
