/** One reader process (reader-process.ts), as varpd sees it. varpd leaves it behind when it does not answer. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type FileId, type FromReader, lineOf, Messages, type ToReader } from './reader-messages.js';

const PROGRAM = fileURLToPath(new URL('./reader-process.js', import.meta.url));
/** Each silent file occupies a thread. With fewer silent files than threads, the other files are still read. */
const THREADS = 32;
/** Limit for the error text of a process that fails. */
const MAX_SAID_CHARACTERS = 1000;

const cannotBeStarted = (error: unknown): string =>
  `cannot be started: ${error instanceof Error ? error.message : String(error)}`;

export interface Ears {
  readonly message: (message: FromReader) => void;
  readonly bytes: (id: FileId, bytes: Buffer) => void;
  /** Called once, when the process has ended. No other call follows. */
  readonly ended: (why: string) => void;
}

export class Reader {
  #child: ChildProcessByStdio<Writable, Readable, Readable> | undefined;
  #said = '';
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  #resolveEnded!: () => void;

  constructor(ears: Ears) {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    const end = (why: string): void => {
      this.#resolveEnded();
      ears.ended(why);
    };
    try {
      this.#child = this.#spawn(ears, end);
    } catch (error) {
      // Out of descriptors. `ended` is called after the constructor has returned, when the caller has the object.
      queueMicrotask(() => {
        end(cannotBeStarted(error));
      });
    }
  }

  #spawn(ears: Ears, end: (why: string) => void): ChildProcessByStdio<Writable, Readable, Readable> {
    // The environment stays here, except the path of Node's libraries.
    const { LD_LIBRARY_PATH: libraries } = process.env;
    const child = spawn(process.execPath, [PROGRAM], {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: '/',
      env: {
        UV_THREADPOOL_SIZE: String(THREADS),
        ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }),
      },
    });
    const messages = new Messages<FromReader>(ears.message, ears.bytes);
    child.stdout.on('data', (chunk: Buffer) => {
      messages.take(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = `${this.#said}${text}`.slice(0, MAX_SAID_CHARACTERS);
    });
    // The event `exit` reports the end of the process; errors of its pipes say no more.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => undefined);
    child.on('error', (error) => {
      end(cannotBeStarted(error));
    });
    child.on('exit', (code, signal) => {
      end(
        `has ended (${signal ?? `exit status ${code ?? '?'}`})${this.#said === '' ? '' : `: ${this.#said}`}`,
      );
    });
    return child;
  }

  send(message: ToReader): void {
    this.#child?.stdin.write(lineOf(message));
  }

  /** Kills the process and stops listening, without waiting: the kernel may keep the process while the file system
   * hangs. */
  leave(): void {
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGKILL');
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    child.unref();
  }
}
