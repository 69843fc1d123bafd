/**
 * The state of one followed file on the side of varpd: the open question to the reader process, the callers that wait for
 * the contents, and the time without an answer. A file is silent when its questions are not answered.
 *
 * The time is counted in turns of readers.ts and not by the clock. If varpd itself stands still, no turns pass, and so no
 * file becomes silent.
 */
import { type Contents, FileError, type Version, Whole } from './read.js';

/** Time between two looks at a file. A change must be in force within a second. */
export const TURN_MS = 500;
/** A file without an answer for so many turns is silent, and its overlays are told. */
export const SILENT_TURNS = 4;
/** A silent file stays known so much longer than its last follower. An overlay that could not start because of the silence
 * tries again within that time, and gets the answer then. */
const LINGER_TURNS = 20;

export interface Follower {
  /** Reports the present version of the file. */
  looked(version: Version): void;
  /** The file may have changed. */
  changed(): void;
  /** The file does not answer. `message` follows its name. Repeated, less and less often, with the time so far. */
  silent(message: string): void;
  /** The file was silent, and answers again. */
  answers(): void;
  /** A line for the log. */
  warn(message: string): void;
}

export interface Waiter {
  readonly resolve: (contents: Contents) => void;
  readonly reject: (error: Error) => void;
}

export class FollowedFile {
  readonly followers = new Set<Follower>();
  /** The one open question to the reader. */
  question: 'look' | 'read' | undefined;
  /** The reader hung in a call of inotify for this file, so it must not watch the file again. */
  isUnwatchable = false;
  /** Turns since the last answer, and turns since the last follower. */
  #turns = 0;
  #idleTurns = 0;
  #silence: string | undefined;
  #nextTellTurns = 0;
  #waiting: Waiter[] = [];
  /** The callers that get the contents being read. A later caller gets those of the next read, which may be a new
   * version. */
  #served: Waiter[] = [];
  #whole: Whole | undefined;

  constructor(
    readonly id: number,
    readonly file: string,
  ) {}

  get isSilent(): boolean {
    return this.#silence !== undefined;
  }

  get isWanted(): boolean {
    return this.followers.size > 0 || (this.isSilent && this.#idleTurns < LINGER_TURNS);
  }

  /** The next question to ask. */
  get wants(): 'look' | 'read' {
    return this.#waiting.length > 0 ? 'read' : 'look';
  }

  /** Rejects at once while the file is silent. */
  read(waiter: Waiter): void {
    if (this.#silence === undefined) this.#waiting.push(waiter);
    else waiter.reject(new FileError(this.#silence, 'EAGAIN'));
  }

  giveUp(waiter: Waiter): void {
    this.#waiting = this.#waiting.filter((each) => each !== waiter);
    this.#served = this.#served.filter((each) => each !== waiter);
  }

  asked(question: 'look' | 'read'): void {
    this.question = question;
    if (question === 'look') return;
    this.#served = this.#waiting;
    this.#waiting = [];
  }

  /** Withdraws the question, since its reader is gone. */
  unasked(): void {
    this.question = undefined;
    this.#whole = undefined;
    this.#waiting.unshift(...this.#served);
    this.#served = [];
  }

  /** Counts a turn. */
  age(): void {
    this.#idleTurns = this.followers.size > 0 ? 0 : this.#idleTurns + 1;
  }

  /** Counts a turn without an answer. After `limit` of them the file is silent, and `why` makes the message. */
  wait(limit: number, why: (seconds: number) => string): void {
    if (++this.#turns < limit) return;
    const isNew = this.#silence === undefined;
    this.#silence = why(Math.round((this.#turns * TURN_MS) / 1000));
    // The pause doubles each time, since each message is a line in the log.
    if (isNew || this.#turns >= this.#nextTellTurns) {
      this.#nextTellTurns = 2 * this.#turns;
      for (const follower of this.followers) follower.silent(this.#silence);
    }
    const waiters = [...this.#served, ...this.#waiting];
    this.#served = [];
    this.#waiting = [];
    this.#whole = undefined;
    for (const waiter of waiters) waiter.reject(new FileError(this.#silence, 'EAGAIN'));
  }

  /** Starts the time again. The file was waiting for a reader process, and is not slow itself. */
  forgive(): void {
    if (!this.isSilent) this.#turns = 0;
  }

  begin(byteCount: number): void {
    this.#turns = 0;
    // All callers may have given up meanwhile.
    this.#whole = this.#served.length > 0 ? (this.#whole ?? new Whole()) : undefined;
    this.#whole?.begin(byteCount);
  }

  bytes(bytes: Buffer): void {
    this.#turns = 0;
    this.#whole?.piece(bytes);
  }

  looked(version: Version): void {
    this.#answered();
    for (const follower of this.followers) follower.looked(version);
  }

  wasRead(version: Version): void {
    const [served, whole] = [this.#served, this.#whole];
    this.#answered();
    if (whole !== undefined) for (const { resolve } of served) resolve({ bytes: whole.bytes, version });
  }

  failed(message: string, code: string): void {
    const served = this.#served;
    this.#answered();
    for (const { reject } of served) reject(new FileError(message, code));
  }

  #answered(): void {
    this.question = undefined;
    this.#turns = 0;
    this.#served = [];
    this.#whole = undefined;
    if (this.#silence === undefined) return;
    this.#silence = undefined;
    for (const follower of this.followers) follower.answers();
  }
}
