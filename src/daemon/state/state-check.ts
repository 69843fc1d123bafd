/**
 * Checks all state files as a start would read them, and changes none: problems as `file:line:column: text`.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { systemErrorText } from '../system-error.js';
import { ASIDE, ENDING, MAX_FILE_BYTES } from './persistence.js';
import type { StateDirectory } from './state-directory.js';
import { readOwnFile } from './state-file.js';
import { parseState, StateProblem, type StoredOverlay } from './state-schema.js';

export interface StateFindings {
  readonly reasons: readonly string[];
  readonly warnings: readonly string[];
  readonly overlays: readonly StoredOverlay[];
}

/** Rejects with the system's error when the directory cannot be read. */
export async function checkStateFiles(directory: StateDirectory): Promise<StateFindings> {
  const reasons: string[] = [];
  const warnings: string[] = [];
  const overlays: StoredOverlay[] = [];
  for (const name of (await readdir(directory.path('.'))).sort()) {
    const file = path.join(directory.directory, name);
    if (ASIDE.test(name))
      warnings.push(`${file}: it was set aside by an earlier start: mend it, or remove it`);
    if (!name.endsWith(ENDING)) continue;
    let text: string | undefined;
    try {
      text = await readOwnFile(directory, name, MAX_FILE_BYTES);
      const overlay = parseState(text);
      if (overlay.name !== path.basename(name, ENDING))
        throw new StateProblem('name: it is about another overlay', { at: ['name'] });
      overlays.push(overlay);
    } catch (error) {
      const place = error instanceof StateProblem && text !== undefined ? placeIn(text, error) : '';
      reasons.push(`${file}${place}: ${systemErrorText(error)}`);
    }
  }
  return { reasons, warnings, overlays };
}

/** `:3:7` */
function placeIn(text: string, { at, offset }: StateProblem): string {
  const lines = new LineCounter();
  // JSON is YAML, but for what neither varpd nor an editor writes.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  const { line, col } = lines.linePos(offset ?? offsetOf(document, at));
  return `:${line}:${col}`;
}

/** The position of the value there, or of the nearest one around it. */
function offsetOf(document: ReturnType<typeof parseDocument>, at: readonly PropertyKey[]): number {
  for (let length = at.length; length > 0; length--) {
    const node: unknown = document.getIn(at.slice(0, length), true);
    if (isNode(node)) return node.range?.[0] ?? 0;
  }
  return 0;
}
