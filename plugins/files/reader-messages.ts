/**
 * The messages between varpd and its reader process (reader-process.ts): one line of JSON each, over two pipes. After the
 * line of a `piece` message its bytes follow, unencoded.
 */
import type { Version } from './read.js';

/** Number of a followed file. It is valid from `follow` to `forget`. */
export type FileId = number;

export type ToReader =
  /** `watch`: use inotify too, where inotify sees every change. */
  | { readonly kind: 'follow'; readonly id: FileId; readonly file: string; readonly watch: boolean }
  | { readonly kind: 'forget'; readonly id: FileId }
  /** The reader answers with `beat` at once, and with `looked` for each file. */
  | { readonly kind: 'look'; readonly ids: readonly FileId[] }
  /** The reader answers with `begin` and `piece`, and at the end with `read` or `failed`. */
  | { readonly kind: 'read'; readonly id: FileId };

export type FromReader =
  | { readonly kind: 'ready' }
  | { readonly kind: 'beat' }
  | { readonly kind: 'looked'; readonly id: FileId; readonly version: Version }
  /** The file may have changed. */
  | { readonly kind: 'changed'; readonly id: FileId }
  /** The main thread of the reader is about to make a system call for this file, and the call may hang. Without `id`:
   * the call has returned. */
  | { readonly kind: 'calls'; readonly id?: FileId }
  | { readonly kind: 'begin'; readonly id: FileId; readonly byteCount: number }
  | { readonly kind: 'piece'; readonly id: FileId; readonly byteCount: number }
  | { readonly kind: 'read'; readonly id: FileId; readonly version: Version }
  | { readonly kind: 'failed'; readonly id: FileId; readonly message: string; readonly code: string };

export const lineOf = (message: ToReader | FromReader): string => `${JSON.stringify(message)}\n`;

const NEWLINE = 0x0a;

/** Splits a stream into messages and bytes. */
export class Messages<M extends ToReader | FromReader> {
  readonly #heard: (message: M) => void;
  readonly #bytes: (id: FileId, bytes: Buffer) => void;
  #line: Buffer[] = [];
  #piece: FileId = 0;
  #left = 0;

  /** `bytes` gets a piece in the parts that the pipe delivers. */
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
