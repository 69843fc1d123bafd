/** From the path of a file to its mapping, or to all that is wrong with it. */
import { type Parsed, parseMapping } from './parser.js';
import { readWhole, type Version } from './read.js';
import { inSlices } from './slices.js';

export interface Loaded extends Parsed {
  readonly version: Version;
}

/** Rejects with a FileError when there is nothing to parse. The thread is never held up for longer than a slice. */
export async function loadMapping(file: string, signal?: AbortSignal): Promise<Loaded> {
  const { bytes, version } = await readWhole(file, signal);
  return { ...(await inSlices(parseMapping(bytes), signal)), version };
}
