/**
 * Reads mapping files, and tells when they may have changed, through a process that can be left behind.
 *
 * A file system that does not answer (a server of NFS or FUSE that is gone) holds up whoever asks it, in a system call that
 * no signal ends. In varpd that would be a thread of the pool that its state files need, or the control thread itself,
 * and not even a restart could end it. So a reader process asks, one for all files: each file has a thread there and at most one
 * open question, and is silent when that is not answered within two seconds.
 *
 *   asked --answer--> well                    the next look is half a second later
 *   asked --2 s-----> silent --answer--> well its question stays open: when the file system is back, this is how it is known
 *
 * A file system may be mounted again while the old one still hangs. So as long as there is a silent file the reader is
 * replaced now and then, ever more seldom, and the new one asks about all files. It is replaced at once when its main
 * thread does not answer, which only an inotify watch can do to it. What is left behind ends when the kernel lets it;
 * as long as there are too many of those no reader is replaced.
 */
import type { Contents } from './read.js';
import { FollowedFile, type Follower, SILENT_TURNS, TURN_MS, type Waiter } from './followed-file.js';
import { Reader } from './reader.js';
import type { FromReader } from './reader-messages.js';

/** For its start, on a machine that is busy. */
const START_TURNS = 20;
const FIRST_RENEWAL_TURNS = 10;
const LAST_RENEWAL_TURNS = 120;
/** One that has lived so long has not failed at once. */
const LONG_LIFE_TURNS = 60;
const MAX_LEFT = 3;
/** For the end of the last one, which takes some milliseconds. A new life of varpd knows nothing of its children. */
const END_MS = 300;

const silence = (seconds: number): string => `has not answered for ${seconds} s: is its file system there?`;

export interface Following {
  /** Rejects with a FileError, or with what the signal was aborted for. */
  read(signal: AbortSignal): Promise<Contents>;
  /** Nothing is told afterwards. Resolves soon, whatever hangs. */
  close(): Promise<void>;
}

export class Readers {
  /** By path and by number. Those that nobody follows any more stay until their question is answered, and a silent one a
   * while longer. */
  readonly #files = new Map<string, FollowedFile>();
  readonly #numbered = new Map<number, FollowedFile>();
  #count = 0;
  #reader: Reader | undefined;
  #isReady = false;
  /** Turns since its main thread was asked for a sign of life, or since its start. */
  #beatTurns: number | undefined;
  /** The reader before this one was well: what its files waited for this one is not their silence. */
  #isForgiving = true;
  #lifeTurns = 0;
  /** Its main thread is in a system call for this file. */
  #calls: FollowedFile | undefined;
  /** Why there is no reader, and the turns until there is one. */
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

  /** Nobody wants a file. */
  async #end(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#trouble = undefined;
    const reader = this.#reader;
    // One that hangs, and could only be added to those that hang, serves the next one who wants a file read.
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

  /** False when too many hang already. */
  #replace(): boolean {
    if (this.#left.size >= MAX_LEFT) return false;
    if (this.#reader !== undefined) this.#leave(this.#reader);
    this.#start();
    return true;
  }

  /** It has ended, unasked. */
  #lose(why: string): void {
    this.#reader = undefined;
    this.#trouble = `is not read: the reader process ${why}`;
    this.#nextRestartTurns = this.#lifeTurns >= LONG_LIFE_TURNS ? 1 : this.#nextRestartTurns;
    this.#restartTurns = this.#nextRestartTurns;
    this.#nextRestartTurns = Math.min(2 * this.#nextRestartTurns, LAST_RENEWAL_TURNS);
    for (const file of this.#files.values()) file.unasked();
    // Once, in the log that all share.
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

  /** One beat at a time: a main thread that hangs gets no further questions. */
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
      // Nobody waits for it, and nothing of it fails.
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

  /** Whether it was. */
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
    // What is being read well is not read from the beginning for it.
    const isReading = files.some(({ isSilent, question }) => !isSilent && question === 'read');
    if (++this.#renewalTurns < this.#nextRenewalTurns || isReading || !this.#isReady || !this.#replace())
      return;
    this.#renewalTurns = 0;
    this.#nextRenewalTurns = Math.min(2 * this.#nextRenewalTurns, LAST_RENEWAL_TURNS);
  }
}

/** Those of this process. */
export const readers = new Readers();
