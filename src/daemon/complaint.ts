/** What varpd says on standard error when there is no log, or beside it. It may hold what comes out of a file or from a plugin. */
import { printable } from '../model/properties.js';

/** The longest honest message names every key there is. */
const MAX_CHARACTERS = 2000;

/** One line whatever is in it, and obeyed by no terminal. */
export function complain(text: string): void {
  process.stderr.write(`varpd: ${oneLine(text)}\n`);
}

export function oneLine(text: string): string {
  return printable(text, MAX_CHARACTERS);
}
