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

/** The commands in the section with this heading: its indented lines. A command that goes on behind a backslash is one. */
export function commandsUnder(document: string, heading: string): string[] {
  const section = textOf(document).split(`\n## ${heading}\n`).at(1);
  if (section === undefined) throw new Error(`${document} has no section ${heading}`);
  const lines = section.split(/^#/m)[0].replace(/ \\\n +/g, ' ');
  return [...lines.matchAll(/^ {4}(\S.*)$/gm)].map(([, line]) => line);
}
