/**
 * Reads JSON (RFC 8259) token by token from bytes in memory. The scanner is strict: it accepts no comment, no byte
 * order mark, no trailing comma, and only UTF-8.
 *
 * The scanner makes no object for a token. It keeps the position behind the token, and the place of a string. Bytes
 * that are not JSON end the scan, since a parser could only guess the meaning of the bytes after them.
 */
import { isUtf8 } from 'node:buffer';

/** Limit for the nesting of values that are skipped. The grammar itself has 3 levels. */
const MAX_DEPTH = 64;

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const ZERO = 0x30;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Characters after a backslash (RFC 8259 7), without `u`. */
const ESCAPES = new Set(Buffer.from('"\\/bfnrt'));
/** Characters of numbers and literals, also of misspelled ones. They are read as one word, so that an error can show
 * it. */
const WORD = new Uint8Array(256);
for (const byte of Buffer.from('+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'))
  WORD[byte] = 1;
const LITERAL = /^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$/; // RFC 8259 3, 6
const FOUR_HEX = /^[0-9a-f]{4}$/i;

/** A part of the file in two forms. `text` quotes it, for a user with the right to read the file. `kind` describes it
 * without a quotation, since varpd may read files that the user of dladm may not. */
export class Quoted {
  constructor(
    readonly text: string,
    readonly kind: string,
  ) {}
}

/** A string quotes nothing of the file. */
export type Found = string | Quoted;

export const END_OF_FILE = 'the end of the file';
const A_VALUE = 'a JSON value';
const ENDLESS_STRING = 'a string without end';

/** The bytes from `offset` on are not JSON. */
export class Unreadable extends Error {
  override readonly name = 'Unreadable';

  constructor(
    readonly offset: number,
    readonly found: Found,
    readonly expected: string,
  ) {
    super(`found ${typeof found === 'string' ? found : found.kind}, expected ${expected}`);
  }
}

export type Kind = 'string' | 'object' | 'list' | 'word';

export class Scanner {
  readonly bytes: Buffer;
  at = 0;
  /** The string read last is the bytes from `from` to `to` of `text`. `text` is the file, or a buffer of its own for a
   * string with escapes. */
  text: Buffer;
  from = 0;
  to = 0;
  #limit: number;
  #limitBytes: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.text = bytes;
    this.#limit = bytes.length;
    this.#limitBytes = bytes.length;
  }

  /** Permits `byteCount` bytes from here on. To read further is an error, until the next call. */
  allow(byteCount: number): void {
    this.#limitBytes = byteCount;
    this.#limit = Math.min(this.bytes.length, this.at + byteCount);
  }

  get atEnd(): boolean {
    this.space();
    return this.at === this.bytes.length;
  }

  space(): void {
    const { bytes } = this;
    const limit = this.#limit;
    let at = this.at;
    while (at < limit) {
      const byte = bytes[at];
      if (byte !== SPACE && byte !== NEWLINE && byte !== RETURN && byte !== TAB) break;
      at++;
    }
    this.at = at;
  }

  /** Reads the next token if it is this byte, and returns whether it was. */
  take(byte: number): boolean {
    this.space();
    if (this.at >= this.#limit || this.bytes[this.at] !== byte) return false;
    this.at++;
    return true;
  }

  need(byte: number, expected: string): void {
    if (!this.take(byte)) throw this.unexpected(expected);
  }

  /** Returns the kind of the next value, without reading past it. */
  kind(): Kind {
    this.space();
    const byte = this.at < this.#limit ? this.bytes[this.at] : 0;
    if (byte === QUOTE) return 'string';
    if (byte === OPEN_OBJECT) return 'object';
    if (byte === OPEN_LIST) return 'list';
    if (WORD[byte] === 1) return 'word';
    throw this.unexpected(A_VALUE);
  }

  /** Reads a string into `text`, `from` and `to`. */
  string(expected: string): void {
    this.need(QUOTE, expected);
    const { bytes } = this;
    const start = this.at;
    let at = start;
    let isPlain = true;
    let isAscii = true;
    for (; ; at++) {
      if (at >= this.#limit) throw this.#tooFar(start - 1, ENDLESS_STRING);
      const byte = bytes[at];
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) {
        isPlain = false;
        at = this.#escape(at);
      } else if (byte < SPACE) {
        throw new Unreadable(at, showByte(byte), 'control characters in a string to be escaped');
      } else if (byte >= 0x80) isAscii = false;
    }
    this.at = at + 1;
    if (!isAscii) this.#checkUtf8(start, at);
    if (isPlain) {
      this.text = bytes;
      this.from = start;
      this.to = at;
    } else {
      this.text = Buffer.from(JSON.parse(bytes.toString('utf8', start - 1, at + 1)) as string);
      this.from = 0;
      this.to = this.text.length;
    }
  }

  /** Returns whether the string read last is `wanted`, which must be ASCII. */
  textIs(wanted: string): boolean {
    if (this.to - this.from !== wanted.length) return false;
    for (let index = 0; index < wanted.length; index++)
      if (this.text[this.from + index] !== wanted.charCodeAt(index)) return false;
    return true;
  }

  textString(): string {
    return this.text.toString('utf8', this.from, this.to);
  }

  /** Reads a number, true, false or null, and returns its spelling. */
  word(): string {
    const start = this.at;
    let at = start;
    while (at < this.#limit && WORD[this.bytes[at]] === 1) at++;
    const word = this.bytes.toString('latin1', start, at);
    if (!LITERAL.test(word)) throw new Unreadable(start, new Quoted(cut(word), A_WORD), A_VALUE);
    this.at = at;
    return word;
  }

  /** Reads a whole number from 1 to `most`. Returns 0, and reads nothing, when another token comes next. */
  wholeNumber(most: number): number {
    let value = 0;
    let { at } = this;
    for (; at < this.#limit && WORD[this.bytes[at]] === 1; at++) {
      const digit = this.bytes[at] - ZERO;
      if (digit < 0 || digit > 9 || value + digit === 0) return 0; // no number begins with 0 (RFC 8259 6)
      value = 10 * value + digit;
      if (value > most) return 0;
    }
    if (value > 0) this.at = at;
    return value;
  }

  /** Reads past a value of any kind. */
  skip(depth = 0): void {
    if (depth > MAX_DEPTH)
      throw new Unreadable(this.at, 'one level more', `at most ${MAX_DEPTH} levels of nesting`);
    switch (this.kind()) {
      case 'string':
        this.string('a string');
        return;
      case 'word':
        this.word();
        return;
      case 'list':
        this.at++;
        if (this.take(CLOSE_LIST)) return;
        do this.skip(depth + 1);
        while (this.more(CLOSE_LIST));
        return;
      case 'object':
        this.at++;
        if (this.take(CLOSE_OBJECT)) return;
        do {
          this.string("a name in '\"'");
          this.need(COLON, "':'");
          this.skip(depth + 1);
        } while (this.more(CLOSE_OBJECT));
    }
  }

  /** Reads the comma or the end behind an element. Returns false at the end. */
  more(close: typeof CLOSE_LIST | typeof CLOSE_OBJECT): boolean {
    if (this.take(COMMA)) return true;
    this.need(close, close === CLOSE_LIST ? "',' or ']'" : "',' or '}'");
    return false;
  }

  /** Makes the error for a token that is not valid here. */
  unexpected(expected: string): Unreadable {
    this.space();
    const { at, bytes } = this;
    if (at >= this.#limit) return this.#tooFar(at, END_OF_FILE, expected);
    if (WORD[bytes[at]] !== 1) return new Unreadable(at, this.#shownCharacter(at), expected);
    let end = at;
    while (end < this.#limit && WORD[bytes[end]] === 1) end++;
    return new Unreadable(at, new Quoted(cut(bytes.toString('latin1', at, end)), A_WORD), expected);
  }

  /** Returns the source of a token for a message. A long one is cut. */
  shown(start: number, end: number): Quoted {
    const text = cut(this.bytes.toString('utf8', start, Math.min(end, start + 4 * SHOWN_CHARACTERS + 4)));
    return new Quoted(text, this.bytes[start] === QUOTE ? 'a string' : A_WORD);
  }

  #shownCharacter(at: number): Found {
    const byte = this.bytes[at];
    if (byte < SPACE || byte === 0x7f) return showByte(byte);
    const [character] = this.bytes.toString('utf8', at, at + 4);
    if (character === '\ufeff') return 'a byte order mark';
    return byte < 0x80 || isUtf8(this.bytes.subarray(at, at + utf8Length(byte)))
      ? new Quoted(`'${cut(character)}'`, 'another character')
      : showByte(byte);
  }

  #tooFar(offset: number, found: string, expected = `'"'`): Unreadable {
    return this.#limit === this.bytes.length
      ? new Unreadable(offset, found, expected)
      : new Unreadable(offset, `more than ${this.#limitBytes} bytes`, 'an entry of at most that many');
  }

  /** Checks the escape that begins with the backslash at `at`. Returns the position of its last byte. */
  #escape(at: number): number {
    const byte = at + 1 < this.#limit ? this.bytes[at + 1] : 0;
    if (ESCAPES.has(byte)) return at + 1;
    if (
      byte === 0x75 &&
      FOUR_HEX.test(this.bytes.toString('latin1', at + 2, at + 6)) &&
      at + 6 <= this.#limit
    )
      return at + 5;
    if (at + 1 >= this.#limit) throw this.#tooFar(at, ENDLESS_STRING);
    const found = this.bytes.toString('utf8', at, Math.min(this.#limit, at + (byte === 0x75 ? 6 : 2)));
    throw new Unreadable(
      at,
      new Quoted(cut(found), 'a backslash before something else'),
      'an escape of JSON: \\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX',
    );
  }

  #checkUtf8(start: number, end: number): void {
    if (isUtf8(this.bytes.subarray(start, end))) return;
    for (let at = start; at < end;) {
      const length = utf8Length(this.bytes[at]);
      if (at + length > end || !isUtf8(this.bytes.subarray(at, at + length)))
        throw new Unreadable(at, showByte(this.bytes[at]), 'text in UTF-8');
      at += length;
    }
  }
}

/** Name of a word in messages that quote nothing. */
const A_WORD = 'a number or a word';
const SHOWN_CHARACTERS = 48;

/** Cuts a long text. Escapes the characters that would break the line or control a terminal. */
function cut(text: string): string {
  const characters = Array.from(text);
  const shown = characters
    .slice(0, SHOWN_CHARACTERS)
    .join('')
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => `\\u${one.codePointAt(0)!.toString(16).padStart(4, '0')}`);
  return characters.length > SHOWN_CHARACTERS ? `${shown}...` : shown;
}

function showByte(byte: number): Quoted {
  const text = `the byte 0x${byte.toString(16).padStart(2, '0')}`;
  return new Quoted(text, byte < 0x80 ? 'a control character' : 'a byte that is no text');
}

/** Returns the length of the UTF-8 sequence that begins with this byte (RFC 3629 3). */
function utf8Length(byte: number): number {
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
