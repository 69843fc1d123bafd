// `npm run docs`: writes the tables of the documentation and of the manual pages. Needs no root.
import { writeFileSync } from 'node:fs';
import { textOf } from '../helpers/documents.js';
import { fromRoot } from '../helpers/need.js';
import { manualPages } from './manual.js';
import { generatedFiles } from './tables.js';

for (const [file, text] of [...(await generatedFiles()), ...(await manualPages())]) {
  if (text === textOf(file)) continue;
  writeFileSync(fromRoot(file), text);
  console.log(`${file}: written`);
}
