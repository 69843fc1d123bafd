/** One reader process (reader-process.ts) as varpd sees it: asked, heard, and left behind when it does not answer. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type FileId, type FromReader, lineOf, Messages, type ToReader } from './reader-messages.js';

const PROGRAM = fileURLToPath(new URL('./reader-process.js', import.meta.url));
/** One a file that does not answer: as many hold up no other. */
const THREADS = 32;
/** Of what it says when it fails. */
const MAX_SAID_CHARACTERS = 1000;

const cannotBeStarted = (error: unknown): string =>
  `cannot be started: ${error instanceof Error ? error.message : String(error)}`;

export interface Ears {
  readonly message: (message: FromReader) => void;
  readonly bytes: (id: FileId, bytes: Buffer) => void;
  /** Once, and nothing is heard afterwards. */
  readonly ended: (why: string) => void;
}

export class Reader {
  #child: ChildProcessByStdio<Writable, Readable, Readable> | undefined;
  #said = '';
  /** Resolves when there is no such process any more. */
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
      // Out of descriptors. Whoever made this does not know it yet.
      queueMicrotask(() => {
        end(cannotBeStarted(error));
      });
    }
  }

  #spawn(ears: Ears, end: (why: string) => void): ChildProcessByStdio<Writable, Readable, Readable> {
    // Nothing of the environment is for it, but for where the libraries of Node are.
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
    // Its end is told by `exit`.
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

  /** Nothing is heard of it any more, and nothing waits for its end: the kernel may keep it as long as the file system hangs. */
  leave(): void {
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGKILL');
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    child.unref();
  }
}
