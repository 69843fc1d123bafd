// The text of every source file of the product.
import { readdirSync, readFileSync } from 'node:fs';

import { fromRoot } from './need.js';

/** Path from the root -> text, in the order of the paths. */
export function sourceTexts(): Map<string, string> {
  const files = ['src', 'plugins']
    .flatMap((folder) =>
      readdirSync(fromRoot(folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`),
    )
    .filter((file) => /\.(?:tsx?|c|h|mjs)$/.test(file) && !file.includes('node_modules'))
    .sort();
  return new Map(files.map((file) => [file, readFileSync(fromRoot(file), 'utf8')]));
}
