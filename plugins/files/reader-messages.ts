/**
 * What varpd and the reader process (reader-process.ts) say to each other: one JSON value a line, over two pipes. A line
 * that announces a piece of a file is followed by its bytes as they are.
 */
import type { Version } from './read.js';

/** Of a file that is followed, as long as it is. */
export type FileId = number;

export type ToReader =
  /** `watch`: with inotify too, where that sees what happens. */
  | { readonly kind: 'follow'; readonly id: FileId; readonly file: string; readonly watch: boolean }
  | { readonly kind: 'forget'; readonly id: FileId }
  /** Answered with `beat` at once, and with `looked` for each. */
  | { readonly kind: 'look'; readonly ids: readonly FileId[] }
  /** Answered with `begin` and `piece`, then `read` or `failed`. */
  | { readonly kind: 'read'; readonly id: FileId };

export type FromReader =
  | { readonly kind: 'ready' }
  | { readonly kind: 'beat' }
  | { readonly kind: 'looked'; readonly id: FileId; readonly version: Version }
  /** It may have changed. */
  | { readonly kind: 'changed'; readonly id: FileId }
  /** The main thread of the reader is about to make a system call for this file, which may not return; undefined = it has. */
  | { readonly kind: 'calls'; readonly id?: FileId }
  | { readonly kind: 'begin'; readonly id: FileId; readonly byteCount: number }
  | { readonly kind: 'piece'; readonly id: FileId; readonly byteCount: number }
  | { readonly kind: 'read'; readonly id: FileId; readonly version: Version }
  | { readonly kind: 'failed'; readonly id: FileId; readonly message: string; readonly code: string };

export const lineOf = (message: ToReader | FromReader): string => `${JSON.stringify(message)}\n`;

const NEWLINE = 0x0a;

/** Takes the stream apart again. */
export class Messages<M extends ToReader | FromReader> {
  readonly #heard: (message: M) => void;
  readonly #bytes: (id: FileId, bytes: Buffer) => void;
  #line: Buffer[] = [];
  #piece: FileId = 0;
  #left = 0;

  /** `bytes` is told of a piece in as many parts as it comes in. */
  constructor(heard: (message: M) => void, bytes: (id: FileId, bytes: Buffer) => void = () => undefined) {
    this.#heard = heard;
    this.#bytes = bytes;
  }

  take(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) rest = this.#left > 0 ? this.#takePiece(rest) : this.#takeLine(rest);
  }

  #takePiece(chunk: Buffer): Buffer {
    const part = chunk.subarray(0, this.#left);
    this.#left -= part.length;
    this.#bytes(this.#piece, part);
    return chunk.subarray(part.length);
  }

  #takeLine(chunk: Buffer): Buffer {
    const end = chunk.indexOf(NEWLINE);
    if (end < 0) {
      this.#line.push(chunk);
      return chunk.subarray(chunk.length);
    }
    const line = Buffer.concat([...this.#line, chunk.subarray(0, end)]).toString('utf8');
    this.#line = [];
    const message = JSON.parse(line) as M;
    if (message.kind === 'piece') {
      this.#piece = message.id;
      this.#left = message.byteCount;
    } else this.#heard(message);
    return chunk.subarray(end + 1);
  }
}
