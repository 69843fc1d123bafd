/** Lines out of the chunks of a stream, and the events of an event stream out of its lines. */
import { StoreTrouble } from './trouble.js';

const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** An event stream may begin with it. */
const BYTE_ORDER_MARK = Buffer.from('\ufeff');
/** Bound of a line, and of the data of an event. */
const MAX_LINE_BYTES = 1024 * 1024;

/** Splits chunks at LF or CR LF, and on demand at CR alone. A line is bytes, since a chunk may end in the middle of a
 * character. */
export class Lines {
  #rest: Buffer[] = [];
  #restBytes = 0;
  readonly #store: string;
  readonly #isReturnEnd: boolean;
  /** The last chunk has ended with CR: an LF now belongs to it. */
  #isBehindReturn = false;

  /** `isReturnEnd`: CR alone ends a line too. */
  constructor(store: string, isReturnEnd = false) {
    this.#store = store;
    this.#isReturnEnd = isReturnEnd;
  }

  /** Returns the lines that end in this chunk. Throws a StoreTrouble when a line is too long. */
  *of(chunk: Buffer): Generator<Buffer, void> {
    if (chunk.length === 0) return;
    let start = this.#isBehindReturn && chunk[0] === NEWLINE ? 1 : 0;
    this.#isBehindReturn = this.#isReturnEnd && chunk.at(-1) === RETURN;
    for (let end = this.#end(chunk, start); end >= 0; end = this.#end(chunk, start)) {
      let line = chunk.subarray(start, end);
      start = end + (chunk[end] === RETURN && chunk[end + 1] === NEWLINE ? 2 : 1);
      if (this.#restBytes > 0) {
        this.#keep(line);
        line = Buffer.concat(this.#rest, this.#restBytes);
        this.#rest = [];
        this.#restBytes = 0;
      } else this.#check(line.length);
      yield line.at(-1) === RETURN ? line.subarray(0, -1) : line;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** Returns where the line ends that begins at `start`; -1 if it does not end in this chunk. */
  #end(chunk: Buffer, start: number): number {
    if (!this.#isReturnEnd) return chunk.indexOf(NEWLINE, start);
    for (let at = start; at < chunk.length; at++)
      if (chunk[at] === NEWLINE || chunk[at] === RETURN) return at;
    return -1;
  }

  /** Returns whether bytes behind the last line are left. */
  get hasRest(): boolean {
    return this.#restBytes > 0;
  }

  #keep(part: Buffer): void {
    this.#check(this.#restBytes + part.length);
    this.#rest.push(part);
    this.#restBytes += part.length;
  }

  #check(bytes: number): void {
    if (bytes > MAX_LINE_BYTES)
      throw new StoreTrouble(`${this.#store} sends a line of more than ${MAX_LINE_BYTES} bytes`, false);
  }
}

/** One event of an event stream (HTML, 9.2 Server-sent events). */
export interface StreamEvent {
  readonly type: string;
  readonly data: Buffer;
  /** The id of this event or of the one before; undefined before the first. */
  readonly id: string | undefined;
}

export class Events {
  readonly #lines: Lines;
  readonly #store: string;
  #isFirst = true;
  #type = '';
  #data: Buffer[] = [];
  #dataBytes = 0;
  #id: string | undefined;

  constructor(store: string) {
    this.#lines = new Lines(store, true);
    this.#store = store;
  }

  /** Returns the events that end in this chunk. Throws a StoreTrouble when one is too large. */
  *of(chunk: Buffer): Generator<StreamEvent, void> {
    for (const whole of this.#lines.of(chunk)) {
      const line = this.#isFirst && whole.indexOf(BYTE_ORDER_MARK) === 0 ? whole.subarray(3) : whole;
      this.#isFirst = false;
      if (line.length > 0) this.#field(line);
      else if (this.#type !== '' || this.#data.length > 0) {
        yield {
          type: this.#type === '' ? 'message' : this.#type,
          data: Buffer.concat(this.#data),
          id: this.#id,
        };
        this.#type = '';
        this.#data = [];
        this.#dataBytes = 0;
      }
    }
  }

  #field(line: Buffer): void {
    const colon = line.indexOf(0x3a);
    // A line that begins with a colon is a comment. A server keeps the connection alive by it.
    if (colon === 0) return;
    const name = line.toString('latin1', 0, colon < 0 ? line.length : colon);
    const value =
      colon < 0
        ? line.subarray(line.length)
        : line.subarray(line[colon + 1] === 0x20 ? colon + 2 : colon + 1);
    if (name === 'event') this.#type = value.toString();
    else if (name === 'id' && !value.includes(0)) this.#id = value.toString();
    else if (name === 'data') {
      if (this.#data.length > 0) this.#data.push(Buffer.from([NEWLINE]));
      this.#data.push(Buffer.from(value));
      this.#dataBytes += value.length + 1;
      if (this.#dataBytes > MAX_LINE_BYTES)
        throw new StoreTrouble(`${this.#store} sends an event of more than ${MAX_LINE_BYTES} bytes`, false);
    }
  }
}
