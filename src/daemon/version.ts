/** The version of varpd. */
import { readFileSync } from 'node:fs';

/** From package.json, which is beside dist/. */
export const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
