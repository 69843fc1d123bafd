/**
 * Where the log goes: a file, or standard error. Written at once, so that the line that explains the end of the process is
 * there before it; never an error, since a disk that is full costs log lines and not the daemon. How many, the next line
 * that can be written says.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { asOverlayError, OverlayError } from '../model/errors.js';
import { ownUserText, trustedPlaceNow, UntrustedPlace } from '../plugin/trusted-place.js';
import { errnoName, systemErrorText } from './system-error.js';

/** Without a reader, a FIFO is refused instead of waited for. */
const FLAGS =
  constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
const MODE = 0o640;
const STANDARD_ERROR = 2;
/** For a pipe that is full, a line at most; after one in vain, none. */
const PATIENCE_MS = 100;
const RETRY_MS = 5;

/** The line that says how many are missing, and why. */
export type MissingLine = (count: number, why: string) => string;

export class LogFile {
  readonly #file: string | null;
  readonly #missingLine: MissingLine;
  #fd: number;
  #missing = 0;
  #why = '';
  /** The last line has no end. */
  #isTorn = false;

  /** `file` null = standard error. Throws an OverlayError when the file cannot be opened. */
  constructor(file: string | null, missingLine: MissingLine) {
    this.#file = file;
    this.#missingLine = missingLine;
    this.#fd = file === null ? STANDARD_ERROR : open(file);
  }

  /** Another one after each `reopen`. */
  get fd(): number {
    return this.#fd;
  }

  /** With its newline. */
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
   * For a file that was renamed away: what follows goes into one of that name. Throws an OverlayError when it cannot be
   * opened; then all goes on into the one that is open. `swapped` is called while both are open.
   */
  reopen(swapped: () => void): void {
    if (this.#file === null) return;
    const before = this.#fd;
    this.#fd = open(this.#file);
    this.#isTorn = false;
    swapped();
    closeSync(before);
  }

  /** What went wrong. */
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

function open(file: string): number {
  try {
    // Through links that are nobody else's, and through none that is put there meanwhile.
    const place = trustedPlaceNow(file);
    return openSync(place.path, FLAGS | (place.isDescriptor ? 0 : constants.O_NOFOLLOW), MODE);
  } catch (error) {
    const isDenied = errnoName(error) === 'EACCES' && !(error instanceof UntrustedPlace);
    const whom = isDenied ? ` to user ${ownUserText()}, whom varpd runs as` : '';
    const line = `log.file: cannot open ${file}: ${systemErrorText(error)}${whom}`;
    throw new OverlayError(asOverlayError(error).code, line, [line], error);
  }
}
