/**
 * Writes the log to a file, or to standard error. A line is written at once, so that it is there when the
 * process ends just after it. Writing never fails: a full disk costs log lines, and not the daemon. The next
 * line that can be written is preceded by the number of lost ones.
 */
import { accessSync, closeSync, constants, existsSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { asOverlayError, OverlayError } from '../model/errors.js';
import { ownUserText, trustedPlaceNow, UntrustedPlace } from '../plugin/trusted-place.js';
import { errnoName, systemErrorText } from './system-error.js';

/** Without a reader, a FIFO is refused instead of waited for. */
const FLAGS =
  constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
const MODE = 0o640;
const STANDARD_ERROR = 2;
/** How long a line waits for a full pipe. After a lost line the next ones do not wait. */
const PATIENCE_MS = 100;
const RETRY_MS = 5;

/** The line that says how many lines are missing, and why. */
export type MissingLine = (count: number, why: string) => string;

export class LogFile {
  readonly #file: string | null;
  readonly #missingLine: MissingLine;
  #fd: number;
  #missing = 0;
  #why = '';
  /** The last line was written in part, without its newline. */
  #isTorn = false;

  /** `file` null = standard error. Throws an OverlayError when the file cannot be opened. */
  constructor(file: string | null, missingLine: MissingLine) {
    this.#file = file;
    this.#missingLine = missingLine;
    this.#fd = file === null ? STANDARD_ERROR : open(file);
  }

  /** Changes with each `reopen`. */
  get fd(): number {
    return this.#fd;
  }

  /** `line` ends with a newline. */
  write(line: string): void {
    const before = this.#missing === 0 ? '' : this.#missingLine(this.#missing, this.#why);
    const error = this.#put(`${this.#isTorn ? '\n' : ''}${before}${line}`);
    if (error === undefined) {
      this.#missing = 0;
      return;
    }
    this.#missing++;
    this.#why = systemErrorText(error);
  }

  /**
   * Called after the file was renamed: opens a new file of the same name for further lines. Throws an
   * OverlayError when it cannot be opened; then the old file stays in use. `swapped` is called while both are
   * open.
   */
  reopen(swapped: () => void): void {
    if (this.#file === null) return;
    const before = this.#fd;
    this.#fd = open(this.#file);
    this.#isTorn = false;
    swapped();
    closeSync(before);
  }

  /** Returns the error, if there was one. */
  #put(text: string): unknown {
    const bytes = Buffer.from(text);
    let at = 0;
    try {
      const endMs = performance.now() + (this.#missing === 0 ? PATIENCE_MS : 0);
      while (at < bytes.length) at += writeSome(this.#fd, bytes.subarray(at), endMs);
      this.#isTorn = false;
      return undefined;
    } catch (error) {
      this.#isTorn ||= at > 0;
      return error;
    }
  }
}

function writeSome(fd: number, bytes: Uint8Array, endMs: number): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EAGAIN' || performance.now() > endMs) throw error;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    return 0;
  }
}

/**
 * Throws an OverlayError when the file cannot be opened, or cannot be made. Changes nothing: a file that is
 * missing stays missing. `isPrepared`: root makes it, or gives it to this user, before it is opened.
 */
export function checkLogFile(file: string, isPrepared: boolean): void {
  if (isPrepared)
    explained(file, () => {
      accessSync(path.dirname(file), constants.X_OK);
    });
  else if (existsSync(file)) closeSync(open(file, FLAGS & ~constants.O_CREAT));
  else
    explained(file, () => {
      trustedPlaceNow(file);
      accessSync(path.dirname(file), constants.W_OK | constants.X_OK);
    });
}

function open(file: string, flags = FLAGS): number {
  return explained(file, () => {
    // Symbolic links are followed if no other user can change them, and none that is put there meanwhile.
    const place = trustedPlaceNow(file);
    return openSync(place.path, flags | (place.isDescriptor ? 0 : constants.O_NOFOLLOW), MODE);
  });
}

function explained<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const isDenied = errnoName(error) === 'EACCES' && !(error instanceof UntrustedPlace);
    const whom = isDenied ? ` to user ${ownUserText()}, the user of varpd` : '';
    const line = `log.file: cannot open ${file}: ${systemErrorText(error)}${whom}`;
    throw new OverlayError(asOverlayError(error).code, line, [line], error);
  }
}
