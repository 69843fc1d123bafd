/**
 * Reads mapping files and notices their changes, through a process that varpd can leave behind.
 *
 * A file system that does not answer (for example NFS or FUSE without its server) holds up the thread that asks, in a
 * system call that no signal ends. Within varpd that would be a thread of the pool that the state files need, or the
 * control thread, and even a restart could not end it. So one reader process asks about all files. Each file has a
 * thread there, and at most one open question. A file is silent when its question has no answer after two seconds.
 *
 *   asked --answer--> well                    the next look is half a second later
 *   asked --2 s-----> silent --answer--> well the question stays open, and its answer tells that the file system is back
 *
 * Another file system may be mounted at the path while the old one still hangs, and the open question cannot notice
 * that. So while a file is silent, varpd replaces the reader from time to time, less and less often, and the new reader
 * asks about all files. When the main thread of the reader does not answer, varpd replaces the reader at once; only an
 * inotify watch can hold up that thread. A reader that was left behind ends when its system call returns. While
 * MAX_LEFT such readers exist, varpd replaces no reader.
 */
import type { Contents } from './read.js';
import { FollowedFile, type Follower, SILENT_TURNS, TURN_MS, type Waiter } from './followed-file.js';
import { Reader } from './reader.js';
import type { FromReader } from './reader-messages.js';

/** Time for the start of a reader, on a busy machine. */
const START_TURNS = 20;
const FIRST_RENEWAL_TURNS = 10;
const LAST_RENEWAL_TURNS = 120;
/** When a reader ends after so many turns, the next one starts without a long pause. */
const LONG_LIFE_TURNS = 60;
/** Readers that were left behind and have not ended. */
const MAX_LEFT = 3;
/** Time for the last reader to end, which takes some milliseconds. After a restart the next varpd would not know the
 * process. */
const END_MS = 300;

const silence = (seconds: number): string =>
  `has not answered for ${seconds} s: check its file system (mount, server, network)`;

export interface Following {
  /** Rejects with a FileError, or with the reason of the signal. */
  read(signal: AbortSignal): Promise<Contents>;
  /** Ends all calls to the follower. Resolves soon, also when a file system hangs. */
  close(): Promise<void>;
}

export class Readers {
  /** The files by path and by number. A file without followers stays until its question is answered, and a silent file
   * stays a while longer. */
  readonly #files = new Map<string, FollowedFile>();
  readonly #numbered = new Map<number, FollowedFile>();
  #count = 0;
  #reader: Reader | undefined;
  #isReady = false;
  /** Turns since the reader was asked for a sign of life (a beat), or since its start; undefined = it has answered. */
  #beatTurns: number | undefined;
  /** The previous reader was well, so the time that files wait for the new reader is not their silence. */
  #isForgiving = true;
  #lifeTurns = 0;
  /** The reader's main thread is in a system call for this file. */
  #calls: FollowedFile | undefined;
  /** The reason why there is no reader, and the turns until the next one is started. */
  #trouble: string | undefined;
  #restartTurns = 0;
  #nextRestartTurns = 1;
  #renewalTurns = 0;
  #nextRenewalTurns = FIRST_RENEWAL_TURNS;
  readonly #left = new Set<Reader>();
  #timer: NodeJS.Timeout | undefined;

  follow(path: string, follower: Follower): Following {
    const known = this.#files.get(path);
    known?.followers.add(follower);
    const file = known ?? this.#add(path, follower);
    this.#timer ??= setInterval(() => {
      this.#turn();
    }, TURN_MS);
    return {
      read: (signal) => this.#read(file, signal),
      close: () => this.#unfollow(file, follower),
    };
  }

  #add(path: string, follower: Follower): FollowedFile {
    const file = new FollowedFile(++this.#count, path);
    file.followers.add(follower);
    this.#files.set(path, file);
    this.#numbered.set(file.id, file);
    if (this.#reader !== undefined) this.#introduce(file);
    else if (this.#trouble === undefined) this.#start();
    return file;
  }

  #introduce({ id, file, isUnwatchable }: FollowedFile): void {
    this.#reader?.send({ kind: 'follow', id, file, watch: !isUnwatchable });
  }

  #read(file: FollowedFile, signal: AbortSignal): Promise<Contents> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const giveUp = (): void => {
        file.giveUp(waiter);
        reject(signal.reason as Error);
      };
      const done = (): void => {
        signal.removeEventListener('abort', giveUp);
      };
      const waiter: Waiter = {
        resolve: (contents) => {
          done();
          resolve(contents);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      signal.addEventListener('abort', giveUp, { once: true });
      file.read(waiter);
      this.#ask(file);
    });
  }

  async #unfollow(file: FollowedFile, follower: Follower): Promise<void> {
    if (!file.followers.delete(follower) || file.followers.size > 0) return;
    if (file.question === undefined && !file.isWanted) this.#remove(file);
    if (this.#isIdle()) await this.#end();
  }

  #isIdle(): boolean {
    return ![...this.#files.values()].some(({ isWanted }) => isWanted);
  }

  #remove(file: FollowedFile): void {
    this.#files.delete(file.file);
    this.#numbered.delete(file.id);
    this.#reader?.send({ kind: 'forget', id: file.id });
  }

  /** Ends the reader, since no file has a follower any more. */
  async #end(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#trouble = undefined;
    const reader = this.#reader;
    // With MAX_LEFT readers left behind, a reader that hangs as well is kept: it may serve the next follower.
    if (reader !== undefined && this.#files.size > 0 && this.#left.size >= MAX_LEFT) return;
    this.#files.clear();
    this.#numbered.clear();
    if (reader === undefined) return;
    this.#leave(reader);
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, END_MS)));
    await Promise.race([reader.ended, late]);
    clearTimeout(timer);
  }

  // -- The reader

  #start(): void {
    const reader: Reader = new Reader({
      message: (message) => {
        if (reader === this.#reader) this.#hear(message);
      },
      bytes: (id, bytes) => {
        if (reader === this.#reader) this.#numbered.get(id)?.bytes(bytes);
      },
      ended: (why) => {
        this.#left.delete(reader);
        if (reader === this.#reader) this.#lose(why);
      },
    });
    this.#reader = reader;
    this.#trouble = undefined;
    this.#isReady = false;
    this.#beatTurns = 0;
    this.#lifeTurns = 0;
    this.#calls = undefined;
    for (const file of [...this.#files.values()]) {
      file.unasked();
      if (file.isWanted) this.#introduce(file);
      else this.#remove(file);
    }
    this.#askAll();
  }

  #leave(reader: Reader): void {
    this.#left.add(reader);
    reader.leave();
    this.#reader = undefined;
  }

  /** Returns false when too many readers hang already. */
  #replace(): boolean {
    if (this.#left.size >= MAX_LEFT) return false;
    if (this.#reader !== undefined) this.#leave(this.#reader);
    this.#start();
    return true;
  }

  /** Handles a reader that has ended by itself. */
  #lose(why: string): void {
    this.#reader = undefined;
    this.#trouble = `is not read: the reader process ${why}`;
    this.#nextRestartTurns = this.#lifeTurns >= LONG_LIFE_TURNS ? 1 : this.#nextRestartTurns;
    this.#restartTurns = this.#nextRestartTurns;
    this.#nextRestartTurns = Math.min(2 * this.#nextRestartTurns, LAST_RENEWAL_TURNS);
    for (const file of this.#files.values()) file.unasked();
    // One follower is enough, since all followers write into the same log.
    const followers = [...this.#files.values()].flatMap((file) => [...file.followers]);
    followers.at(0)?.warn(`the reader process of mapping files ${why}`);
  }

  #hear(message: FromReader): void {
    if (message.kind === 'ready') {
      this.#isReady = true;
      if (this.#isForgiving) for (const file of this.#files.values()) file.forgive();
      this.#isForgiving = false;
      return;
    }
    if (message.kind === 'beat') {
      this.#beatTurns = undefined;
      this.#isForgiving = true;
      return;
    }
    if (message.kind === 'calls') {
      this.#calls = message.id === undefined ? undefined : this.#numbered.get(message.id);
      return;
    }
    const file = this.#numbered.get(message.id);
    if (file === undefined) return;
    if (message.kind === 'changed') for (const follower of file.followers) follower.changed();
    else if (message.kind === 'begin') file.begin(message.byteCount);
    else {
      if (message.kind === 'looked') file.looked(message.version);
      else if (message.kind === 'read') file.wasRead(message.version);
      else if (message.kind === 'failed') file.failed(message.message, message.code);
      if (file.followers.size === 0) this.#remove(file);
      else if (file.wants === 'read') this.#ask(file);
    }
  }

  // -- Questions

  #ask(file: FollowedFile): void {
    if (this.#reader === undefined || file.question !== undefined) return;
    file.asked('read');
    this.#reader.send({ kind: 'read', id: file.id });
  }

  /** Asks about all files that have no open question. Called only when the beat was answered, so a main thread that
   * hangs gets no further questions. */
  #askAll(): void {
    const idle = [...this.#files.values()].filter(({ question }) => question === undefined);
    for (const file of idle) if (file.wants === 'read') this.#ask(file);
    const ids = idle.filter(({ question }) => question === undefined).map(({ id }) => id);
    for (const id of ids) this.#numbered.get(id)?.asked('look');
    this.#reader?.send({ kind: 'look', ids });
  }

  #turn(): void {
    for (const file of this.#files.values()) file.age();
    if (this.#isIdle()) {
      // No caller waits for this end, and the call does not reject.
      this.#end().catch(() => undefined);
      return;
    }
    if (this.#reader === undefined && --this.#restartTurns <= 0) this.#start();
    this.#lifeTurns++;
    if (this.#beatTurns !== undefined) this.#beatTurns++;
    const limit = this.#isReady || this.#reader === undefined ? SILENT_TURNS : START_TURNS;
    if ((this.#beatTurns ?? 0) >= limit && this.#replaceSilent()) return;
    const trouble = this.#trouble;
    const why = trouble === undefined ? silence : (): string => trouble;
    for (const file of this.#files.values())
      if (file.question !== undefined || this.#reader === undefined) file.wait(limit, why);
    this.#renew();
    if (this.#reader === undefined || this.#beatTurns !== undefined) return;
    this.#beatTurns = 0;
    this.#askAll();
  }

  /** Replaces the reader, since its main thread does not answer. Returns whether a new reader was started. */
  #replaceSilent(): boolean {
    if (this.#calls !== undefined) this.#calls.isUnwatchable = true;
    return this.#replace();
  }

  #renew(): void {
    const files = [...this.#files.values()];
    if (!files.some(({ isSilent, isWanted }) => isSilent && isWanted)) {
      this.#renewalTurns = 0;
      this.#nextRenewalTurns = FIRST_RENEWAL_TURNS;
      return;
    }
    // A replacement would start the reads of the other files from the beginning, so it waits for them.
    const isReading = files.some(({ isSilent, question }) => !isSilent && question === 'read');
    if (++this.#renewalTurns < this.#nextRenewalTurns || isReading || !this.#isReady || !this.#replace())
      return;
    this.#renewalTurns = 0;
    this.#nextRenewalTurns = Math.min(2 * this.#nextRenewalTurns, LAST_RENEWAL_TURNS);
  }
}

/** The readers of this process. */
export const readers = new Readers();
