// How long frames wait when varpd starts anew, and whether any is lost: npm run bench:restart, as root. The bound is the
// one that TCP hardly notices: its second retransmission comes after 600 ms.
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { pause } from '../helpers/pause.js';

const ROUNDS = 10;
const BOUND_MS = 500;

const bed = new Bed();
try {
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  const daemon = await Daemon.start(bed, a);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await a.plumb('overlay0');
  const pauses = [];
  for (let round = 0; round < ROUNDS; round++) {
    const { ms, lost } = await pause(a, b.overlay.v4, () => daemon.ok('restart'));
    console.log(`restart ${round + 1}: ${ms} ms, ${lost} lost`);
    pauses.push(ms);
  }
  pauses.sort((x, y) => x - y);
  const median = pauses[ROUNDS >> 1];
  const verdict = median < BOUND_MS ? 'below' : 'ABOVE';
  console.log(`median ${median} ms, worst ${pauses[ROUNDS - 1]} ms: the median is ${verdict} ${BOUND_MS} ms`);
} finally {
  await bed.cleanup();
}
