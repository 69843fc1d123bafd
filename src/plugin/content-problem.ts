/**
 * What a plugin says about the content of a file. varpd may read files that those who ask varpd may not: so the place is
 * said, and the kind of the mistake, and nothing of what stands there. dladm opens the file itself, with the rights of
 * whoever runs it, and adds what stands at the place where he may read it (src/cli/quotation.ts).
 */

/** Of a file by its absolute path; line and column count from 1, a column is a character. */
export interface FilePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** `/etc/hosts.json:3:7: found a string, expected a number`: how dladm knows a place. `what` has nothing of the file in it. */
export function contentProblem({ file, line, column }: FilePlace, what: string): string {
  return `${file}:${line}:${column}: ${what}`;
}

/** The same, to be thrown: `start` and `reload` reject with it. */
export class ContentError extends Error {
  override readonly name = 'ContentError';
  readonly code = 'EINVAL';

  constructor(place: FilePlace, what: string) {
    super(contentProblem(place, what));
  }
}
