/**
 * The problems of a file. They are collected with byte offsets, and get lines and columns at the end. So a valid file
 * costs no time for positions.
 */
import { contentProblem } from '../content-problem.js';
import type { FileProblem } from '../contract.js';
import type { Found } from './scanner.js';

/** Number of errors, and of warnings, that are kept. Further ones are only counted: no operator corrects more in one
 * go. */
export const MAX_KEPT = 100;

/** Bytes looked at between two pauses. */
const STEP_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

/** A rule of the format: its stable name, and the words that follow "expected" in a message. */
export interface Rule {
  readonly code: string;
  readonly expected: string;
}

/** The bytes are not JSON. */
export const notJson = (expected: string): Rule => ({ code: 'NOT_JSON', expected });

interface Raw extends Rule {
  readonly offset: number;
  readonly path: string;
  readonly found: Found;
  /** Offset of the first occurrence, when a name or an address occurs twice. */
  readonly other: number | undefined;
}

/** A problem with its place. Only `path` and `found` quote the file. */
export interface Located extends Required<FileProblem> {
  /** The same as `found`, in words that quote nothing. */
  readonly kind: string;
}

export class Problems {
  readonly #kept: Raw[] = [];
  count = 0;

  /** Adds a problem. `path` is called only if the problem is kept. */
  add(offset: number, path: () => string, found: Found, { code, expected }: Rule, other?: number): void {
    if (++this.count > MAX_KEPT) return;
    this.#kept.push({ offset, path: path(), found, code, expected, other });
  }

  clear(): void {
    this.#kept.length = 0;
    this.count = 0;
  }

  /** Returns the kept problems in the order of the file. Yields every STEP_BYTES bytes. */
  *locate(bytes: Uint8Array): Generator<undefined, Located[]> {
    const sorted = this.#kept.sort((a, b) => a.offset - b.offset);
    const offsets = sorted.flatMap(({ offset, other }) => (other === undefined ? [offset] : [offset, other]));
    const positions = yield* positionsOf(bytes, offsets);
    return sorted.map(({ offset, path, found, code, expected, other }) => {
      const first = other === undefined ? undefined : positions.get(other)!;
      const also = first === undefined ? '' : ` (already at ${first.line}:${first.column})`;
      const [text, kind] = typeof found === 'string' ? [found, found] : [found.text, found.kind];
      const place = { ...positions.get(offset)!, code, path };
      return { ...place, found: `${text}${also}`, kind: `${kind}${also}`, expected };
    });
  }
}

interface Position {
  readonly line: number;
  readonly column: number;
}

/** Returns lines and columns, which count from 1. A column is a character, not a byte. */
function* positionsOf(
  bytes: Uint8Array,
  offsets: readonly number[],
): Generator<undefined, Map<number, Position>> {
  const positions = new Map<number, Position>();
  let line = 1;
  let column = 1;
  let at = 0;
  for (const offset of [...new Set(offsets)].sort((a, b) => a - b)) {
    for (; at < offset; at++) {
      const byte = bytes[at];
      if (byte === NEWLINE) {
        line++;
        column = 1;
      } else if ((byte & 0xc0) !== 0x80) column++; // all but the continuation bytes of UTF-8, RFC 3629 3
      if (at % STEP_BYTES === 0) yield;
    }
    positions.set(offset, { line, column });
  }
  return positions;
}

/** Returns `FILE:LINE:COLUMN: found KIND, expected ...`. The line quotes nothing, since the user of dladm may not be
 * allowed to read the file. */
export function problemLine(file: string, { line, column, kind, expected }: Located): string {
  return contentProblem({ file, line, column }, `found ${kind}, expected ${expected}`);
}
