/** YAML as varpd and dladm read it: strictly, with the place of everything in the file. */
import { type Document, type ErrorCode, LineCounter, parseDocument } from 'yaml';

export interface YamlFile {
  readonly document: Document;
  /** The first syntax error. The parser guesses after it, so the others say nothing. */
  readonly problem:
    { readonly code: ErrorCode; readonly message: string; readonly pos: readonly number[] } | undefined;
  /** The place of a character, as `file:line:column`, both from 1. */
  readonly at: (offset: number) => string;
}

/** Parses a document. `file` is only named in places. Never throws. */
export function openYaml(text: string, file: string): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    // Warnings of the parser would go to standard error, and quote the file.
    logLevel: 'error',
  });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  return { document, problem: document.errors.at(0), at };
}
