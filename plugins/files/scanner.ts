/**
 * JSON (RFC 8259) token by token out of bytes in memory, with nothing forgiven: no comments, no byte order mark, no
 * trailing comma, no text that is not UTF-8.
 *
 * A token is no object: the scanner stands behind it and has its place. What cannot be read ends the reading, since
 * all that follows would be guesswork.
 */
import { isUtf8 } from 'node:buffer';

/** Nesting of values that are only skipped; the deepest of the grammar is 3. */
const MAX_DEPTH = 64;

const TAB = 0x09;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** After the backslash; `u` and four digits apart. RFC 8259 7 */
const ESCAPES = new Set(Buffer.from('"\\/bfnrt'));
/** What numbers, literals, and mistaken ones are made of: read as one word, so that the message can show it. */
const WORD = new Uint8Array(256);
for (const byte of Buffer.from('+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz'))
  WORD[byte] = 1;
const LITERAL = /^(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$/; // RFC 8259 3, 6
const FOUR_HEX = /^[0-9a-f]{4}$/i;

/** A part of the file, for those who may read it, and in words that hold nothing of it: what varpd says, which may read
 * more than those who ask it. */
export class Quoted {
  constructor(
    readonly text: string,
    readonly kind: string,
  ) {}
}

/** Text alone holds nothing of the file. */
export type Found = string | Quoted;

export const END_OF_FILE = 'the end of the file';
const A_VALUE = 'a JSON value';
const ENDLESS_STRING = 'a string without end';

/** This is no JSON, from `offset` on. */
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
  /** The string read last, decoded: a part of the file, or of a buffer of its own when it has escapes. */
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

  /** From here on, reading further than that many bytes is an error: until it is called again. */
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

  /** Whether the next token is that one; it is taken then. */
  take(byte: number): boolean {
    this.space();
    if (this.at >= this.#limit || this.bytes[this.at] !== byte) return false;
    this.at++;
    return true;
  }

  need(byte: number, expected: string): void {
    if (!this.take(byte)) throw this.unexpected(expected);
  }

  /** What the next value is, without taking it. */
  kind(): Kind {
    this.space();
    const byte = this.at < this.#limit ? this.bytes[this.at] : 0;
    if (byte === QUOTE) return 'string';
    if (byte === OPEN_OBJECT) return 'object';
    if (byte === OPEN_LIST) return 'list';
    if (WORD[byte] === 1) return 'word';
    throw this.unexpected(A_VALUE);
  }

  /** Takes a string; `text`, `from` and `to` are it. */
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

  /** Whether the string read last is this one, of ASCII. */
  textIs(wanted: string): boolean {
    if (this.to - this.from !== wanted.length) return false;
    for (let index = 0; index < wanted.length; index++)
      if (this.text[this.from + index] !== wanted.charCodeAt(index)) return false;
    return true;
  }

  textString(): string {
    return this.text.toString('utf8', this.from, this.to);
  }

  /** A number, true, false or null, as it is spelled. */
  word(): string {
    const start = this.at;
    let at = start;
    while (at < this.#limit && WORD[this.bytes[at]] === 1) at++;
    const word = this.bytes.toString('latin1', start, at);
    if (!LITERAL.test(word)) throw new Unreadable(start, new Quoted(cut(word), A_WORD), A_VALUE);
    this.at = at;
    return word;
  }

  /** Takes a value of any kind and forgets it. */
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

  /** Behind an element: takes the comma, or the end; false at the end. */
  more(close: typeof CLOSE_LIST | typeof CLOSE_OBJECT): boolean {
    if (this.take(COMMA)) return true;
    this.need(close, close === CLOSE_LIST ? "',' or ']'" : "',' or '}'");
    return false;
  }

  /** What stands here cannot stand here. */
  unexpected(expected: string): Unreadable {
    this.space();
    const { at, bytes } = this;
    if (at >= this.#limit) return this.#tooFar(at, END_OF_FILE, expected);
    if (WORD[bytes[at]] !== 1) return new Unreadable(at, this.#shownCharacter(at), expected);
    let end = at;
    while (end < this.#limit && WORD[bytes[end]] === 1) end++;
    return new Unreadable(at, new Quoted(cut(bytes.toString('latin1', at, end)), A_WORD), expected);
  }

  /** The source of a token for a message: cut when long. */
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

  /** `at` is the backslash; the answer, the last byte of the escape. */
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

/** As it is named where it is not shown. */
const A_WORD = 'a number or a word';
const SHOWN_CHARACTERS = 48;

/** On one line, and obeyed by no terminal. */
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

/** Of the sequence that begins with this byte, RFC 3629 3. */
function utf8Length(byte: number): number {
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
