// Faults that are quickly brought about, as `npm run faults` does it with all of them.
import t from 'tap';

import { quickRows } from '../faults/rows/index.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const row of quickRows) {
  const skip = skipUnlessNetns(row.programs);
  t.test(`${row.name}: ${row.fault}`, { skip }, async (t) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    t.comment(await row.run(bed));
    t.pass('survived');
  });
}
