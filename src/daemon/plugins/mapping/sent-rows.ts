/**
 * The rows of a list, as a plugin process has sent them: text, which becomes objects part by part while the list is read.
 * A million objects that wait for the call that they belong to cost the garbage collector 10 ms, again and again.
 */
import { AnswerError, shown } from '../plugin-answer.js';

/** So many bytes are read at once, in well under a millisecond. */
const SHORT_BYTES = 8 * 1024;

export class SentRows implements Iterable<unknown> {
  readonly #parts: Buffer[] = [];
  #bytes = 0;

  /** Adds a part: a list as JSON. */
  add(part: Buffer): void {
    this.#parts.push(part);
    this.#bytes += part.length;
  }

  get partCount(): number {
    return this.#parts.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether it takes well under a millisecond to read them. */
  get isShort(): boolean {
    return this.#bytes <= SHORT_BYTES;
  }

  /** Throws an AnswerError at a part that is no list. */
  *[Symbol.iterator](): Generator<unknown, void> {
    for (const part of this.#parts) yield* parse(part);
  }
}

function parse(part: Buffer): readonly unknown[] {
  try {
    const rows: unknown = JSON.parse(part.toString());
    if (Array.isArray(rows)) return rows;
  } catch {
    // It is no JSON.
  }
  throw new AnswerError('sent rows that are none');
}

/** The rows of a list that a plugin gives: here any iterable, from a plugin process SentRows. Throws an AnswerError. */
export function listOf(value: unknown, what: string): Iterable<unknown> {
  if (typeof value === 'object' && value !== null && Symbol.iterator in value)
    return value as Iterable<unknown>;
  throw new AnswerError(`gave ${shown(value)} where a list of ${what} was expected`);
}
