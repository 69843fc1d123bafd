// npm run faults [-- --only F1,F2]
//
// Brings about every fault for real, in namespaces of its own, and prints a table of what became of varpd. Status 1 when it did
// not live up to one of them.
import { parseArgs } from 'node:util';

import { takeShare } from '../bench/share.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { type Row, times } from './row.js';
import { rows } from './rows/index.js';

function chosenRows(): readonly Row[] {
  const names = rows.map(({ name }) => name);
  try {
    const { values } = parseArgs({ options: { only: { type: 'string' } } });
    const wanted = values.only?.split(',') ?? names;
    const unknown = wanted.filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new Error(`there is no ${unknown.join(', ')}`);
    return rows.filter(({ name }) => wanted.includes(name));
  } catch (error) {
    console.error(`${(error as Error).message}\nnpm run faults [-- --only ${names.join(',')}]`);
    process.exit(2);
  }
}

const chosen = chosenRows();
const missing = skipUnlessNetns();
if (missing !== false) {
  console.error(`faults ${missing}`);
  process.exit(2);
}
times.areChecked = true;
console.log(takeShare().how);
const good: Row[] = [];
for (const row of chosen) {
  const lacking = skipUnlessNetns(row.programs);
  const startedMs = performance.now();
  const bed = new Bed();
  let outcome: string;
  try {
    if (lacking !== false) throw new Error(lacking);
    outcome = `ok      ${await row.run(bed)}`;
    good.push(row);
  } catch (error) {
    outcome = `FAILED  ${(error as Error).message}`;
  } finally {
    await bed.cleanup();
  }
  const seconds = `${((performance.now() - startedMs) / 1000).toFixed(0)} s`;
  console.log(`${row.name.padEnd(4)} ${row.fault}  (${seconds})\n       ${outcome}`);
}
const share = (isCounted: (row: Row) => boolean): string =>
  `${good.filter(isCounted).length}/${chosen.filter(isCounted).length}`;
const isFault = ({ name }: Row): boolean => name.startsWith('F');
console.log(`faults ${share(isFault)}, resources and abuse ${share((row) => !isFault(row))}`);
process.exitCode = good.length === chosen.length ? 0 : 1;
