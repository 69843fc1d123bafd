/**
 * Checks all state files as a start would read them, and changes none: problems as `file:line:column: text`.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type Document, isNode } from 'yaml';
import { openYaml } from '../../model/yaml.js';
import { systemErrorText } from '../system-error.js';
import { ASIDE, ENDING, MAX_FILE_BYTES, readState } from './persistence.js';
import type { StateDirectory } from './state-directory.js';
import { readOwnFile } from './state-file.js';
import { StateProblem, type StoredOverlay } from './state-schema.js';

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
  const names = (await readdir(directory.path('.'))).sort();
  for (const name of names) {
    const file = path.join(directory.directory, name);
    if (ASIDE.test(name))
      warnings.push(`${file}: it was set aside by an earlier start: mend it, or remove it`);
    if (!name.endsWith(ENDING)) continue;
    let text: string | undefined;
    try {
      text = await readOwnFile(directory, name, MAX_FILE_BYTES);
      overlays.push(readState(text, name, names));
    } catch (error) {
      const place = error instanceof StateProblem && text !== undefined ? placeIn(text, file, error) : file;
      reasons.push(`${place}: ${systemErrorText(error)}`);
    }
  }
  return { reasons, warnings, overlays };
}

/** `overlay0.json:3:7`. JSON is YAML, but for what neither varpd nor an editor writes. */
function placeIn(text: string, file: string, { at: path, offset }: StateProblem): string {
  const { document, at } = openYaml(text, file);
  return at(offset ?? offsetOf(document, path));
}

/** The position of the value there, or of the nearest one around it. */
function offsetOf(document: Document, at: readonly PropertyKey[]): number {
  for (let length = at.length; length > 0; length--) {
    const node: unknown = document.getIn(at.slice(0, length), true);
    if (isNode(node)) return node.range?.[0] ?? 0;
  }
  return 0;
}
