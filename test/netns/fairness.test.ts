// H2 and H9: a guest at full speed with whatever costs most, all protections on. Another overlay goes on, and so does the
// guest's neighbour. How well is for the bench to say (npm run bench -- --hostile).
import t from 'tap';

import { ATTACKS, attack, hostileBed } from '../helpers/hostile.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { part } from '../helpers/whole.js';
import { SteadyPing } from '../helpers/zlan.js';

/** Longer than what is looked at takes; it is ended when that is done. */
const MOST_SECONDS = 60;
const PINGS = part(50);

t.test('a hostile guest', { skip: skipUnlessNetns() || skipUnless({ programs: ['ethtool'] }) }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const site = await hostileBed(bed);
  site.daemon.explain(t);
  for (const kind of ATTACKS) {
    const guest = await attack(site, kind, MOST_SECONDS);
    await waitUntil(async () => (await guest.framesOfGuest()) > 1000, { what: `${kind} to arrive` });
    const others = [
      ['another overlay', await SteadyPing.start(site.other, site.peers.other)],
      ['the neighbour', await SteadyPing.start(site.neighbour, site.peers.neighbour)],
    ] as const;
    for (const [who, flow] of others)
      await waitUntil(() => flow.reached >= PINGS, { what: `${kind}: replies to ${who}` });
    t.ok(guest.goesOn, `${kind}: all the while`);
    for (const [who, flow] of others)
      t.match(await flow.stop(), { lost: 0 }, `${kind}: ${who} loses nothing`);
    await guest.end();
  }
  const [overlay] = await site.daemon.overlays('bad0');
  t.equal(overlay.counters['tx_malformed'], 0, 'nothing is refused for its size of segments');
});
