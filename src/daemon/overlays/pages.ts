/**
 * A list, page by page. No state is kept from one page to the next: a page names its end by place and name,
 * so that no other row is left out or comes twice when rows are created or deleted meanwhile.
 */
import type { PageResult } from '../../control/messages.js';
import { OverlayError } from '../../model/errors.js';
import { printable } from '../../model/properties.js';

/** Size of a page as JSON; the rows of its last name may exceed it. */
const PAGE_CHARACTERS = 512 * 1024;

const CURSOR = /^([0-9]{1,9}):(.*)$/su;

/** The rows of the names after `after`. Throws an OverlayError when `after` is no cursor. */
export function pageOf<Row>(
  names: readonly string[],
  after: string | undefined,
  rowsOf: (name: string) => readonly Row[],
): { rows: Row[] } & PageResult {
  const rows: Row[] = [];
  let characters = 0;
  for (let place = placeBehind(names, after); place < names.length; place++) {
    const some = rowsOf(names[place]);
    rows.push(...some);
    characters += JSON.stringify(some).length;
    if (characters >= PAGE_CHARACTERS && place + 1 < names.length)
      return { rows, next: `${place}:${names[place]}` };
  }
  return { rows, next: null };
}

function placeBehind(names: readonly string[], after: string | undefined): number {
  if (after === undefined) return 0;
  const match = CURSOR.exec(after);
  if (match === null) {
    const line = `'${printable(after)}' is not where a page ended: 'after' is 'next' of the page before`;
    throw new OverlayError('INVALID', line);
  }
  const place = Number(match[1]);
  const name = match[2];
  if (names[place] === name) return place + 1;
  const found = names.indexOf(name);
  // The name was deleted, so the next name is in its place now.
  return found === -1 ? place : found + 1;
}
