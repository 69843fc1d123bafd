// The simulation of a site (npm run sim), small: 100 hosts with 10,000 MACs. Counts and simulated times, which are the same on any
// machine; what a site of thousands of hosts does is in docs/scale.md.
import t from 'tap';

import { CAREFUL, IN_STEP, type Policy } from '../sim/client.js';
import { Clock } from '../sim/clock.js';
import { moves, MOVES } from '../sim/questions/moves.js';
import { outage } from '../sim/questions/outage.js';
import { rolling } from '../sim/questions/rolling.js';
import { start } from '../sim/questions/start.js';
import type { SiteTerms } from '../sim/site.js';
import { STORE, type StoreTerms } from '../sim/store.js';
import type { WayName } from '../sim/ways.js';

const TTL_MS = 10_000;

const site = (way: WayName, policy: Policy = CAREFUL, store: Partial<StoreTerms> = {}): SiteTerms => ({
  hosts: 100,
  macs: 10_000,
  seed: 7,
  store: { ...STORE, ...store },
  way: { way, policy, ttlMs: TTL_MS, hasDisk: true },
});

await t.test('time that the simulation makes', async (t) => {
  const clock = new Clock();
  const uninstall = clock.install(1);
  const seen: string[] = [];
  const note = (what: string) => (): void => void seen.push(`${what} ${performance.now()}`);
  setTimeout(note('late'), 1000);
  clearTimeout(setTimeout(note('never'), 500));
  const interval = setInterval(note('again'), 400);
  clock.after(900, () => {
    clearInterval(interval);
    setTimeout(note('now')); // setTimeout takes 1 ms at least
    void Promise.resolve().then(note('promise'));
  });
  const drawn = Math.random();
  await clock.run(10_000);
  uninstall();
  t.strictSame(seen, ['again 400', 'again 800', 'promise 900', 'now 901', 'late 1000']);
  t.equal(clock.nowMs, 10_000);
  t.not(performance.now(), 10_000, 'and the real time is back');
  const again = new Clock().install(1);
  t.equal(Math.random(), drawn, 'the same seed draws the same numbers');
  again();
});

await t.test('a MAC that moves is found: by a stream at once, by a ttl at its end', async (t) => {
  const given = { ...MOVES, moves: 10, users: 5, overMs: 5000 };
  const watch = await moves(site('watch'), given);
  t.match(watch, { flows: 50, lost: 0 });
  t.ok(watch.maxMs < 20, `within a round trip or two: ${watch.maxMs} ms`);
  const lookup = await moves(site('lookup'), given);
  t.match(lookup, { flows: 50, lost: 0 });
  // A frame that is sent when the answer is old enough comes up to 5 % later.
  t.ok(lookup.maxMs > TTL_MS / 2 && lookup.maxMs < 1.1 * TTL_MS, `${lookup.maxMs} ms`);
  const snapshot = await moves(site('snapshot'), given);
  t.match(snapshot, { flows: 50, lost: 0 });
  t.ok(snapshot.maxMs < 20, `${snapshot.maxMs} ms`);
  const files = await moves(site('files'), given);
  t.match(files, { flows: 50, lost: 0, lookupsASecond: 0 });
  t.ok(files.maxMs > 1000, 'the tool waits a second for more changes');
  t.strictSame(await moves(site('watch'), given), watch, 'the same seed has the same result');
});

await t.test('all hosts start at once: every flow is served, also by a store that is too slow', async (t) => {
  const given = { workingSet: 5, withinMs: 1000 };
  const fast = await start(site('watch'), given);
  t.match(fast, { flows: 500, unserved: 0, refused: 0, wasted: 0 });
  t.ok(fast.lookups <= 500, `one question a MAC: ${fast.lookups}`);
  const slow = { requestsPerSecond: 100, connectsPerSecond: 100 };
  const careful = await start(site('lookup', CAREFUL, slow), given);
  const inStep = await start(site('lookup', IN_STEP, slow), given);
  t.equal(careful.unserved, 0);
  t.ok(
    careful.lookups < inStep.lookups,
    `${careful.lookups} lookups with back-off, ${inStep.lookups} without`,
  );
});

await t.test(
  'the store is away: nobody loses a known flow, and the hosts do not come back in step',
  async (t) => {
    const given = { speakers: 5, workingSet: 5, awayMs: 20_000 };
    const careful = await outage(site('watch'), given);
    const inStep = await outage(site('watch', IN_STEP), given);
    for (const each of [careful, inStep]) {
      t.equal(each.hosts, 100, 'all had a stream');
      t.ok(each.sent > 1000, `${each.sent} frames`);
      t.equal(each.lost, 0);
      t.ok(each.allSeconds < 120, 'and all have one again');
    }
    t.equal(inStep.peakConnects, 100, 'after the same pause all come in the same second');
    t.ok(careful.peakConnects < 30, `with BackOff at most ${careful.peakConnects} in a second`);
    t.ok(careful.attemptsAway < inStep.attemptsAway / 3, `${careful.attemptsAway} : ${inStep.attemptsAway}`);
  },
);

await t.test('varpd restarts on every host: one question a target in use, and no frame lost', async (t) => {
  const result = await rolling(site('watch'), { workingSet: 5, overMs: 10_000 });
  t.ok(result.lookups <= 500 && result.lookups > 450, `${result.lookups} lookups`);
  t.equal(result.lost, 0);
  t.equal(result.refused, 0);
});
