/** The version, as the package says it. */
import { readFileSync } from 'node:fs';

/** Of package.json, which is beside dist/. */
export const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
