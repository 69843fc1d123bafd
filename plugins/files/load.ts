/** From the contents of a file to its mapping, or to all that is wrong with it. */
import { type Parsed, parseMapping } from './parser.js';
import type { Contents, Version } from './read.js';
import { inSlices } from './slices.js';

export interface Loaded extends Parsed {
  readonly version: Version;
}

/** Rejects when there is nothing to parse, as `contents` does. The thread is never held up for longer than a slice. */
export async function loadMapping(contents: Promise<Contents>, signal?: AbortSignal): Promise<Loaded> {
  const { bytes, version } = await contents;
  return { ...(await inSlices(parseMapping(bytes), signal)), version };
}
