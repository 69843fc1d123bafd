/**
 * Messages about the content of a file. varpd may read files that the user of dladm may not read. So such a message has
 * the place and the kind of a mistake, and quotes nothing. dladm opens the file with the rights of its user, and adds
 * the content at that place if the user may read it (src/cli/quotation.ts).
 */

/** A place in a file. The path is absolute; line and column count from 1, and a column is a character. */
export interface FilePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Returns `/etc/hosts.json:3:7: found a string, expected a number`; dladm recognizes the place by this form. `what` must
 * not quote the file. */
export function contentProblem({ file, line, column }: FilePlace, what: string): string {
  return `${file}:${line}:${column}: ${what}`;
}

/** The same message as an error, for `start` and `reload` to reject with. */
export class ContentError extends Error {
  override readonly name = 'ContentError';
  readonly code = 'EINVAL';

  constructor(place: FilePlace, what: string) {
    super(contentProblem(place, what));
  }
}
