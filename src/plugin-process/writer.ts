/**
 * The plugin's end of the channel to varpd. Messages of one turn go out together. The channel is written by plain system
 * calls and not by a stream: a plugin that makes a million calls without returning to its event loop has to wait in them
 * while varpd reads, and a stream would keep all of them in memory.
 */
import { writeSync } from 'node:fs';

/** Text that may wait for the end of the turn. */
const MAX_WAITING_CHARACTERS = 1024 * 1024;
/** Text that a long call leaves waiting (calls.ts): less than the end of a turn would wait for. */
const FULL_CHARACTERS = 128 * 1024;
/** Pause between two attempts to write into a full channel. */
const FULL_MS = 1;
const CLOCK = new Int32Array(new SharedArrayBuffer(4));

export class Writer {
  readonly #fd: number;
  readonly #lost: () => void;
  #waiting: string[] = [];
  #characters = 0;
  /** Bytes that the kernel has not taken yet. */
  #rest: Buffer | undefined;
  #isScheduled = false;
  readonly #drained: (() => void)[] = [];

  /** `lost`: called when varpd does not read any more. */
  constructor(fd: number, lost: () => void) {
    this.#fd = fd;
    this.#lost = lost;
  }

  /** A message as JSON, without the end of the line. */
  send(text: string): void {
    this.#waiting.push(text, '\n');
    this.#characters += text.length;
    if (this.#characters > MAX_WAITING_CHARACTERS) this.flush();
    else this.#schedule();
  }

  /** Whether text waits for varpd to read. */
  get isFull(): boolean {
    return this.#rest !== undefined || this.#characters > FULL_CHARACTERS;
  }

  /** Calls back once, in another turn, when nothing waits any more. */
  drained(then: () => void): void {
    this.#drained.push(then);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#later);
  }

  readonly #later = (): void => {
    this.#isScheduled = false;
    if (this.#write()) {
      for (const then of this.#drained.splice(0)) then();
      return;
    }
    this.#isScheduled = true;
    setTimeout(this.#later, FULL_MS);
  };

  /** Returns when everything is written. */
  flush(): void {
    while (!this.#write()) Atomics.wait(CLOCK, 0, 0, FULL_MS);
  }

  /** False: the channel is full. */
  #write(): boolean {
    for (;;) {
      if (this.#rest === undefined) {
        if (this.#waiting.length === 0) return true;
        this.#rest = Buffer.from(this.#waiting.join(''));
        this.#waiting = [];
        this.#characters = 0;
      }
      try {
        const written = writeSync(this.#fd, this.#rest);
        this.#rest = written === this.#rest.length ? undefined : this.#rest.subarray(written);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
        this.#waiting = [];
        this.#rest = undefined;
        this.#lost();
        return true;
      }
    }
  }
}
