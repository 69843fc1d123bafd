/**
 * One file that is followed, as varpd sees it: what the reader has been asked about it, who waits for its contents, and
 * for how long it has not answered. Time is counted in turns of readers.ts, not by the clock: a varpd that was itself held
 * up takes no file for silent.
 */
import { type Contents, FileError, type Version, Whole } from './read.js';

/** Between two looks: twice in the second within which a change is to be in force. */
export const TURN_MS = 500;
/** A file that has not answered for so long is silent, and its overlays are told. */
export const SILENT_TURNS = 4;
/** Whoever could not start for its silence tries again, and is to find an answer then. */
const LINGER_TURNS = 20;

export interface Follower {
  /** This is the file's version now. */
  looked(version: Version): void;
  /** It may have changed. */
  changed(): void;
  /** It does not answer; the text follows its name, and is told again as the time grows. */
  silent(message: string): void;
  /** It was silent, and answers again. */
  answers(): void;
  /** For the log. */
  warn(message: string): void;
}

export interface Waiter {
  readonly resolve: (contents: Contents) => void;
  readonly reject: (error: Error) => void;
}

export class FollowedFile {
  readonly followers = new Set<Follower>();
  /** What the reader was asked, and has not answered. At most one thing at a time. */
  question: 'look' | 'read' | undefined;
  /** The reader hung when it made a watch for it. */
  isUnwatchable = false;
  /** Since it was heard of last, and since it was followed last. */
  #turns = 0;
  #idleTurns = 0;
  #silence: string | undefined;
  #nextTellTurns = 0;
  #waiting: Waiter[] = [];
  /** Those whose contents are being read. Who comes later may mean a later version. */
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

  /** What to ask next. */
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

  /** The reader that was asked is gone. */
  unasked(): void {
    this.question = undefined;
    this.#whole = undefined;
    this.#waiting.unshift(...this.#served);
    this.#served = [];
  }

  /** One more turn. */
  age(): void {
    this.#idleTurns = this.followers.size > 0 ? 0 : this.#idleTurns + 1;
  }

  /** One more turn without a word; `limit` of them are silence, in the words of `why`. */
  wait(limit: number, why: (seconds: number) => string): void {
    if (++this.#turns < limit) return;
    const isNew = this.#silence === undefined;
    this.#silence = why(Math.round((this.#turns * TURN_MS) / 1000));
    // Not every second: each is a line in the log.
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

  /** Before it is asked by another reader: the time so far was not its own. */
  forgive(): void {
    if (!this.isSilent) this.#turns = 0;
  }

  begin(byteCount: number): void {
    this.#turns = 0;
    // Nobody may want it any more.
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
