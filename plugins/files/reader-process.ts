/**
 * The reader process: watches and reads mapping files for all overlays of one varpd.
 *
 * A file system that does not answer holds up the thread that asks it. Neither a signal nor the end of the process ends
 * such a thread. So these calls are made in a process that varpd can leave behind (readers.ts). The process has no
 * state and no descriptors but its pipes. It uses one thread for each file.
 *
 * The process ends together with varpd, in whatever way varpd ends, since that closes the standard input of the
 * process. It ends by SIGKILL, since an orderly end would wait for the threads.
 */
import { type FSWatcher, watch, writeSync } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { FileError, readInto, versionOf } from './read.js';
import { type FileId, type FromReader, lineOf, Messages, type ToReader } from './reader-messages.js';

/**
 * File systems where other hosts change files. inotify does not see such changes, and a call of inotify may hang there.
 * The numbers are from linux/magic.h and the headers of the file systems. The list may miss one, since the reader also
 * looks at every file twice a second.
 */
const REMOTE_FILE_SYSTEMS = new Set([
  0x6969, // NFS
  0x517b, // SMB
  0xff53_4d42, // CIFS
  0xfe53_4d42, // SMB2
  0x6573_5546, // FUSE
  0x0102_1997, // 9p
  0x00c3_6400, // Ceph
  0x5346_414f, // AFS (OpenAFS)
  0x6b41_4653, // AFS
  0x7375_7245, // Coda
  0x0bd0_0bd0, // Lustre
  0x0116_1970, // GFS2
  0x7461_636f, // OCFS2
  0x0187, // autofs
]);

const OUTPUT = 1;
/** Pause between two attempts to write into a full pipe. */
const FULL_PIPE_MS = 1;
const NOBODY = new Int32Array(new SharedArrayBuffer(4));
const ERRORS = 2;

function leave(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('killed');
}

/** Ends the process after a defect of this program. varpd shows the text. */
function fail(error: unknown): never {
  try {
    // Only the place in this program is printed, since the message may quote the file.
    const [name, stack] = error instanceof Error ? [error.name, String(error.stack)] : [typeof error, ''];
    const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
    writeSync(ERRORS, `${[name, ...frames].join('\n')}\n`);
  } catch {
    // varpd has ended
  }
  leave();
}

/** Waits while varpd does not read. So the pipe bounds the memory for bytes on the way. */
function write(bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(OUTPUT, bytes, done);
    } catch (error) {
      // A pipe that was made non-blocking gives EAGAIN when it is full.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') leave(); // varpd has ended
      Atomics.wait(NOBODY, 0, 0, FULL_PIPE_MS);
    }
  }
}

function say(message: FromReader): void {
  write(Buffer.from(lineOf(message)));
}

class Followed {
  readonly #id: FileId;
  readonly #file: string;
  readonly #directory: string;
  readonly #isWatching: boolean;
  #watcher: FSWatcher | undefined;
  /** Device and inode of the directory at the last look, watched or not. */
  #seen: string | undefined;
  readonly #forgotten = new AbortController();

  constructor(id: FileId, file: string, isWatching: boolean) {
    this.#id = id;
    this.#file = file;
    this.#directory = path.dirname(file);
    this.#isWatching = isWatching;
  }

  async look(): Promise<void> {
    if (this.#isWatching) await this.#watchDirectory();
    const version = await versionOf(this.#file);
    say({ kind: 'looked', id: this.#id, version });
  }

  async read(): Promise<void> {
    const id = this.#id;
    const sink = {
      begin: (byteCount: number): void => {
        say({ kind: 'begin', id, byteCount });
      },
      piece: (bytes: Uint8Array): void => {
        say({ kind: 'piece', id, byteCount: bytes.length });
        write(bytes);
      },
    };
    try {
      say({ kind: 'read', id, version: await readInto(this.#file, sink, false, this.#forgotten.signal) });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      say({ kind: 'failed', id, message, code: error instanceof FileError ? error.code : 'EIO' });
    }
  }

  forget(): void {
    this.#forgotten.abort();
    this.#unwatch();
  }

  /** Watches the directory and not the file, since a rename gives the path another inode. */
  async #watchDirectory(): Promise<void> {
    const identity = await stat(this.#directory).then(
      ({ dev, ino }) => `${dev}:${ino}`,
      () => undefined,
    );
    if (identity === this.#seen) return;
    this.#unwatch();
    if (identity === undefined) return;
    const type = await statfs(this.#directory).then(
      (found) => found.type >>> 0,
      () => undefined,
    );
    if (type === undefined || this.#forgotten.signal.aborted) return;
    if (REMOTE_FILE_SYSTEMS.has(type) || this.#watch()) this.#seen = identity;
  }

  /** Returns whether the watch was made. If not (no inotify watches are left, for example), the next look tries again; the
   * looks alone are enough. */
  #watch(): boolean {
    say({ kind: 'calls', id: this.#id });
    try {
      this.#watcher = watch(this.#directory, { persistent: false }, (_, name) => {
        if (name === null || name === path.basename(this.#file)) say({ kind: 'changed', id: this.#id });
      });
      this.#watcher.on('error', () => {
        this.#unwatch();
      });
      return true;
    } catch {
      return false;
    } finally {
      say({ kind: 'calls' });
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#seen = undefined;
  }
}

const followed = new Map<FileId, Followed>();

function obey(message: ToReader): void {
  switch (message.kind) {
    case 'follow':
      followed.set(message.id, new Followed(message.id, message.file, message.watch));
      break;
    case 'forget':
      followed.get(message.id)?.forget();
      followed.delete(message.id);
      break;
    case 'look':
      say({ kind: 'beat' });
      for (const id of message.ids) followed.get(id)?.look().catch(fail);
      break;
    case 'read':
      followed.get(message.id)?.read().catch(fail);
      break;
  }
}

// A service manager and a terminal send signals to the whole process group. varpd decides when it ends, and this
// process ends with it. SIGUSR1 would start a debugger.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const)
  process.on(signal, () => undefined);

process.on('uncaughtException', fail);

const messages = new Messages<ToReader>(obey);
process.stdin.on('data', (chunk: Buffer) => {
  messages.take(chunk);
});
for (const event of ['end', 'close', 'error'] as const) process.stdin.on(event, leave);
say({ kind: 'ready' });
