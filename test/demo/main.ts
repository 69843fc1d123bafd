// npm run demo: the overlay previews as they were printed. Two hosts and the tunnel of the first one; then three hosts and
// the mapping file of the second. Exit code 0 only if every check held.
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import type { Sides } from './actions.js';
import { allHold, check, showLogs, summary } from './checks.js';
import { direct } from './direct.js';
import { files } from './files.js';

// A reader that has seen enough (`npm run demo | head`) is no error. What was started is removed when this process ends.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

async function play(what: string, half: (bed: Bed, sides: Sides) => Promise<void>): Promise<void> {
  const bed = new Bed();
  const sides: Sides = [];
  try {
    await half(bed, sides);
  } catch (error) {
    console.log((error as Error).message);
    check(`${what} went through to its end`, false);
  } finally {
    if (!allHold()) showLogs(sides.map(({ daemon }) => daemon));
    await bed.cleanup();
  }
}

const missing = skipUnlessNetns(['dnsmasq', 'udhcpc']);
if (missing !== false) {
  console.error(`the demo ${missing}`);
  process.exit(1);
}
await play('the tunnel', direct);
await play('the network of three hosts', files);
summary();
process.exitCode = allHold() ? 0 : 1;
