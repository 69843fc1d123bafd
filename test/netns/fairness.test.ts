// H2 and H9: a guest at full speed with whatever costs most, all protections on. Another overlay goes on, and so does the
// guest's neighbour. How well is for the bench to say (npm run bench -- --hostile).
import t from 'tap';

import { ATTACKS, attack, hostileBed } from '../helpers/hostile.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping } from '../helpers/traffic.js';

/** Longer than what is looked at takes; it is ended when that is done. */
const MOST_SECONDS = 60;
const PINGS = 50;

t.test('a hostile guest', { skip: skipUnlessNetns() || skipUnless({ programs: ['ethtool'] }) }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const site = await hostileBed(bed);
  site.daemon.explain(t);
  for (const kind of ATTACKS) {
    const guest = await attack(site, kind, MOST_SECONDS);
    await waitUntil(async () => (await guest.framesOfGuest()) > 1000, { what: `${kind} to arrive` });
    const [other, neighbour] = await Promise.all([
      ping(site.other, site.peers.other, { count: PINGS, intervalMs: 10 }),
      ping(site.neighbour, site.peers.neighbour, { count: PINGS, intervalMs: 10 }),
    ]);
    t.ok(guest.goesOn, `${kind}: all the while`);
    await guest.end();
    t.equal(other.received, PINGS, `${kind}: another overlay loses nothing`);
    t.equal(neighbour.received, PINGS, `${kind}: nor does the neighbour`);
  }
  const [overlay] = await site.daemon.overlays('bad0');
  t.equal(overlay.counters['tx_malformed'], 0, 'nothing is refused for its size of segments');
});
