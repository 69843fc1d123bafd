/**
 * Reads lines from a stream in shares. A side that sends without end holds up the reader for one share, and then not
 * before its next turn, or the end of a rest. Meanwhile the stream is paused, so that what is not read stays in the
 * kernel and its sender waits.
 *
 * A share is time that was spent, and not time that has passed: the stream may bring many chunks in one turn of the event
 * loop, and all of them come out of the same share. A pause of the sender gives the time back.
 */
import type { Readable } from 'node:stream';

/** Lines, and bytes, between two looks at the clock. JSON.parse of so many bytes takes a tenth of a millisecond. */
const LINES_PER_LOOK = 16;
const BYTES_PER_LOOK = 16 * 1024;
const END_OF_LINE = 0x0a;

export interface LineOptions {
  readonly maxBytes: number;
  /** Time of a share. */
  readonly shareMs: number;
  /** Time between two shares; without it the next share comes in the next turn of the event loop. */
  readonly restMs?: number;
  /** Called with each line, in order, without its end. The bytes stay as they are for as long as they are kept. */
  readonly heard: (line: Buffer) => void;
  /** Called once, when a line is longer than `maxBytes`. No line follows. */
  readonly tooLong: () => void;
}

export class LineReader {
  readonly #source: Readable;
  readonly #options: LineOptions;
  /** The beginning of a line, out of earlier chunks. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  /** The chunks that are not read yet, the first of them from `#at` on. */
  #chunks: Buffer[] = [];
  #at = 0;
  /** Time that is left of the share, and the end of the last reading. */
  #leftMs: number;
  #readAtMs = 0;
  #isWaiting = false;
  #isStopped = false;
  #isHeld = false;

  constructor(source: Readable, options: LineOptions) {
    this.#source = source;
    this.#options = options;
    this.#leftMs = options.shareMs;
    source.on('data', (chunk: Buffer) => {
      if (this.#isStopped) return;
      this.#chunks.push(chunk);
      if (!this.#isWaiting && !this.#isHeld) this.#read();
    });
  }

  /** No line is read until `release`. */
  hold(): void {
    this.#isHeld = true;
    this.#source.pause();
  }

  release(): void {
    this.#isHeld = false;
    if (!this.#isWaiting) this.#read();
  }

  /** No further line is read. The rest is thrown away, so that the end of the stream is seen. */
  stop(): void {
    this.#isStopped = true;
    this.#begun = [];
    this.#chunks = [];
    this.#source.resume();
  }

  #read(): void {
    this.#isWaiting = false;
    const { heard, shareMs, restMs = 0 } = this.#options;
    const startMs = performance.now();
    const regained = ((startMs - this.#readAtMs) * shareMs) / (restMs > 0 ? restMs : shareMs);
    const endMs = startMs + Math.min(shareMs, this.#leftMs + regained);
    let [lines, bytes] = [0, 0];
    let isOver = false;
    while (!isOver && !this.#isStopped && !this.#isHeld) {
      const line = this.#next();
      if (line === undefined) break;
      heard(line);
      bytes += line.length;
      if (++lines < LINES_PER_LOOK && bytes < BYTES_PER_LOOK) continue;
      [lines, bytes] = [0, 0];
      isOver = performance.now() > endMs;
    }
    this.#readAtMs = performance.now();
    this.#leftMs = endMs - this.#readAtMs;
    if (this.#isStopped) return;
    if (this.#leftMs < 0) this.#rest(restMs);
    else if (this.#source.isPaused() && !this.#isHeld) this.#source.resume();
  }

  #rest(restMs: number): void {
    this.#isWaiting = true;
    this.#source.pause();
    const goOn = (): void => {
      this.#leftMs = this.#options.shareMs;
      this.#read();
    };
    if (restMs > 0) setTimeout(goOn, restMs);
    else setImmediate(goOn);
  }

  /** Takes the next line; undefined when none is whole. */
  #next(): Buffer | undefined {
    for (;;) {
      if (this.#chunks.length === 0) return undefined;
      const [chunk] = this.#chunks;
      const end = chunk.indexOf(END_OF_LINE, this.#at);
      const part = chunk.subarray(this.#at, end < 0 ? undefined : end);
      if (this.#begunBytes + part.length > this.#options.maxBytes) {
        this.stop();
        this.#options.tooLong();
        return undefined;
      }
      this.#at = end + 1;
      if (end < 0 || this.#at === chunk.length) {
        this.#chunks.shift();
        this.#at = 0;
      }
      if (end >= 0 && this.#begunBytes === 0) return part;
      this.#begun.push(part);
      this.#begunBytes += part.length;
      if (end < 0) continue;
      const line = Buffer.concat(this.#begun, this.#begunBytes);
      this.#begun = [];
      this.#begunBytes = 0;
      return line;
    }
  }
}
