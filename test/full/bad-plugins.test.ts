// The bad plugins of `npm run faults` that are quickly brought about.
import t from 'tap';

import { rogueShortly } from '../faults/rows/plugins.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';

await t.test(rogueShortly.fault, { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  t.comment(await rogueShortly.run(bed));
  t.pass('survived');
});
