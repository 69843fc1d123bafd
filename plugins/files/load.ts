/** Turns the contents of a file into a mapping, or into the list of all errors. */
import { type Parsed, parseMapping } from './parser.js';
import type { Contents, Version } from './read.js';
import { inSlices } from './slices.js';

export interface Loaded extends Parsed {
  readonly version: Version;
}

/** Rejects as `contents` does. Gives other work a turn after every slice. */
export async function loadMapping(contents: Promise<Contents>, signal?: AbortSignal): Promise<Loaded> {
  const { bytes, version } = await contents;
  return { ...(await inSlices(parseMapping(bytes), signal)), version };
}
