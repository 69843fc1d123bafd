/** Normalized JSON paths (RFC 9535 2.7). A path is made from the offset of a key, and only when there is a problem. */
import { type Quoted, Scanner } from './scanner.js';

export const ROOT = '$';

/** Returns a string or word as it is written in the file. It must be valid. */
export function sourceText(bytes: Buffer, offset: number): Quoted {
  const scanner = new Scanner(bytes);
  scanner.at = offset;
  scanner.skip();
  return scanner.shown(offset, scanner.at);
}

/** Returns `$['de:ad:be:ef:00:00']`. A string begins at `keyOffset`. */
export function macPath(bytes: Buffer, keyOffset: number): string {
  const source = sourceText(bytes, keyOffset).text;
  return `${ROOT}['${source.slice(1).replace(/"$/, '').replaceAll("'", "\\'")}']`;
}

/** `$['de:ad:be:ef:00:00']['arp']` */
export function memberPath(bytes: Buffer, keyOffset: number, member: string): string {
  return `${macPath(bytes, keyOffset)}['${member}']`;
}
