/**
 * One JSON value a line over a stream: the framing that dladm and varpd share.
 *
 * The peer is not trusted, so nothing here throws and no buffer grows without bound. Problems are reported to
 * the sink. After a line that is too long the reader stops, since the start of the next line is unknown.
 */

/** Problems with the bytes; after the first two the reader stops. */
export type FramingProblem = 'line too long' | 'ends inside a line' | 'not UTF-8' | 'not JSON';

export interface MessageSink {
  /** One complete line, as the JSON value it holds; its shape is still to be checked. */
  message(value: unknown): void;
  /** Bad lines are skipped: after `not UTF-8` and `not JSON` reading goes on with the next. */
  problem(problem: FramingProblem): void;
}

const NEWLINE = 0x0a;
const BLANK_LINE = /^[ \t\r]*$/;

/** JSON text never holds a raw newline (RFC 8259 7), so a newline ends the message. */
export function encodeMessage(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

export class MessageReader {
  readonly #maxBytes: number;
  readonly #sink: MessageSink;
  /** Only whole lines are decoded, so a character that the end of a chunk cuts in two does no harm. */
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #pieces: Uint8Array[] = [];
  #pendingBytes = 0;
  #stopped = false;

  /** A line may have `maxBytes` without its newline; the reader never holds more. */
  constructor(maxBytes: number, sink: MessageSink) {
    this.#maxBytes = maxBytes;
    this.#sink = sink;
  }

  /** True after stop(), end() or a line that was too long: everything further is ignored. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * The next bytes of the stream. They are kept until their line ends, so the caller must not write to them
   * again.
   */
  push(chunk: Uint8Array): void {
    let start = 0;
    while (!this.#stopped && start < chunk.length) {
      const newline = chunk.indexOf(NEWLINE, start);
      const end = newline === -1 ? chunk.length : newline;
      if (!this.#hold(chunk.subarray(start, end))) return;
      if (newline !== -1) this.#finishLine();
      start = end + 1;
    }
  }

  /** The stream has ended. A last line without its newline was cut off, and is not read. */
  end(): void {
    if (!this.#stopped && this.#pendingBytes > 0) this.#sink.problem('ends inside a line');
    this.stop();
  }

  /** The sink is not called again, not even for lines that have already arrived. */
  stop(): void {
    this.#stopped = true;
    this.#pieces = [];
    this.#pendingBytes = 0;
  }

  #hold(piece: Uint8Array): boolean {
    if (this.#pendingBytes + piece.length > this.#maxBytes) {
      this.stop();
      this.#sink.problem('line too long');
      return false;
    }
    this.#pieces.push(piece);
    this.#pendingBytes += piece.length;
    return true;
  }

  #finishLine(): void {
    const line = this.#pieces.length === 1 ? this.#pieces[0] : Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#pendingBytes = 0;
    const text = attempt(() => this.#decoder.decode(line));
    if (text === undefined) {
      this.#sink.problem('not UTF-8');
    } else if (!BLANK_LINE.test(text)) {
      const parsed = attempt(() => ({ value: JSON.parse(text) as unknown }));
      if (parsed === undefined) this.#sink.problem('not JSON');
      else this.#sink.message(parsed.value);
    }
  }
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
