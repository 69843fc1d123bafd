/** Turns the contents of a file into a mapping, or into the list of all errors. */
import { createHash } from 'node:crypto';
import { type Parsed, parseMapping } from './parser.js';
import type { Contents, Version } from './read.js';
import { inSlices } from './slices.js';

export interface Loaded extends Parsed {
  readonly version: Version;
  /** `sha256:` and the digest of the bytes, as sha256sum has it. */
  readonly revision: string;
}

/** Bytes between two pauses: a millisecond. */
const STEP_BYTES = 1024 * 1024;

function* digestOf(bytes: Uint8Array): Generator<undefined, string> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += STEP_BYTES) {
    hash.update(bytes.subarray(at, at + STEP_BYTES));
    yield;
  }
  return `sha256:${hash.digest('hex')}`;
}

/** Rejects as `contents` does. Gives other work a turn after every slice. */
export async function loadMapping(contents: Promise<Contents>, signal?: AbortSignal): Promise<Loaded> {
  const { bytes, version } = await contents;
  const revision = await inSlices(digestOf(bytes), signal);
  return { ...(await inSlices(parseMapping(bytes), signal)), version, revision };
}
