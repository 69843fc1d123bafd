// README and docs: what they say, for tests that hold varpd to it.
import { readdirSync, readFileSync } from 'node:fs';

import { fromRoot } from './need.js';

/** Paths from the root of the project. */
export const DOCUMENTS: readonly string[] = [
  'README.md',
  'SECURITY.md',
  ...readdirSync(fromRoot('docs')).map((name) => `docs/${name}`),
];

export const textOf = (document: string): string => readFileSync(fromRoot(document), 'utf8');

/** README and all of docs. */
export function documentation(): string {
  return DOCUMENTS.map(textOf).join('\n');
}

/** The one fenced block of a language in a document. */
export function block(document: string, language: string): string {
  const found = blocks(document, language);
  if (found.length !== 1) throw new Error(`${document} has ${found.length} blocks of ${language}`);
  return found[0];
}

export function blocks(document: string, language: string): string[] {
  return [...textOf(document).matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, name]) => name === language)
    .map(([, , text]) => text);
}
