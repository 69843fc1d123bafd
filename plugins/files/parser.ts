/**
 * Reads a mapping file: one object of entries (src/plugin/mapping/entry-parser.ts reads each). README.md has the grammar
 * as a table.
 *
 * The parser collects all errors, so that an operator can correct them at once. It reads a file that is not JSON up to the
 * place where the JSON ends.
 */
import { EntryParser } from '../../src/plugin/mapping/entry-parser.js';
import { type Located, notJson, Problems } from '../../src/plugin/mapping/problems.js';
import { END_OF_FILE, Scanner, Unreadable } from '../../src/plugin/mapping/scanner.js';
import { Draft } from './draft.js';
import type { Mapping } from './mapping.js';

/** Limit for an entry with the white space before it. A real entry has some dozen addresses at most. */
const MAX_ENTRY_BYTES = 1024 * 1024;
/** Entries between two pauses. */
const STEP_ENTRIES = 32;

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

export interface Parsed {
  /** Undefined if and only if there are errors. */
  readonly mapping: Mapping | undefined;
  readonly errors: readonly Located[];
  /** Number of all errors, including those that are not in `errors`. */
  readonly errorCount: number;
  readonly warnings: readonly Located[];
  readonly warningCount: number;
}

/** Yields at least once in a millisecond, or once in a megabyte. */
export function* parseMapping(bytes: Buffer): Generator<undefined, Parsed> {
  const errors = new Problems();
  const warnings = new Problems();
  const draft = new Draft(bytes, errors);
  const scanner = new Scanner(bytes);
  const parser = new EntryParser(scanner, draft, errors, warnings);
  let isWhole = true;
  try {
    yield* readEntries(scanner, parser);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    errors.add(error.offset, () => parser.path(), error.found, notJson(error.expected));
    isWhole = false;
  }
  const mapping = yield* draft.finish(isWhole);
  return {
    mapping,
    errors: yield* errors.locate(bytes),
    errorCount: errors.count,
    warnings: yield* warnings.locate(bytes),
    warningCount: warnings.count,
  };
}

function* readEntries(scanner: Scanner, parser: EntryParser): Generator<undefined, void> {
  scanner.allow(MAX_ENTRY_BYTES);
  scanner.need(OPEN_OBJECT, "'{'");
  if (!scanner.take(CLOSE_OBJECT)) {
    let count = 0;
    do {
      scanner.allow(MAX_ENTRY_BYTES);
      parser.entry();
      if (++count % STEP_ENTRIES === 0) yield;
    } while (scanner.more(CLOSE_OBJECT));
  }
  scanner.allow(MAX_ENTRY_BYTES);
  if (!scanner.atEnd) throw scanner.unexpected(END_OF_FILE);
}
