/** The configuration as a file: where it is, and a first look at it that costs nothing. */
import { readFileSync } from 'node:fs';

/** Read when no --config is given, if it is there. */
export const DEFAULT_CONFIG_FILE = '/etc/varpd/varpd.yaml';

/** False when the file, read properly, cannot have any of these keys: none of the words is in it, nor a way to write them
 * otherwise (YAML 1.2 5.7: escapes begin with a backslash). A file that cannot be read has none. */
export function mayHaveKey(file: string | undefined, keys: readonly string[]): boolean {
  try {
    const text = readFileSync(file ?? DEFAULT_CONFIG_FILE, 'utf8');
    return [...keys, '\\'].some((word) => text.includes(word));
  } catch {
    return false;
  }
}
