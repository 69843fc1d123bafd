/**
 * Messages of varpd on standard error, when there is no log, or beside it. A message may hold text from a
 * file or a plugin.
 */
import { printable } from '../model/properties.js';

/** The longest honest message names every key there is. */
const MAX_CHARACTERS = 2000;

/** Writes one line, whatever the text contains. No part of it controls the terminal. */
export function complain(text: string): void {
  process.stderr.write(`varpd: ${oneLine(text)}\n`);
}

export function oneLine(text: string): string {
  return printable(text, MAX_CHARACTERS);
}
