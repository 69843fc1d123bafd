/** JSON paths as RFC 9535 2.7 normalizes them, made from the place of an entry's key only when there is a problem. */
import { type Quoted, Scanner } from './scanner.js';

export const ROOT = '$';

/** A string or word of the file that is known to be good, as it is written. */
export function sourceText(bytes: Buffer, offset: number): Quoted {
  const scanner = new Scanner(bytes);
  scanner.at = offset;
  scanner.skip();
  return scanner.shown(offset, scanner.at);
}

/** `$['de:ad:be:ef:00:00']`; `keyOffset` is that of a string. */
export function macPath(bytes: Buffer, keyOffset: number): string {
  const source = sourceText(bytes, keyOffset).text;
  return `${ROOT}['${source.slice(1).replace(/"$/, '').replaceAll("'", "\\'")}']`;
}

/** `$['de:ad:be:ef:00:00']['arp']` */
export function memberPath(bytes: Buffer, keyOffset: number, member: string): string {
  return `${macPath(bytes, keyOffset)}['${member}']`;
}
