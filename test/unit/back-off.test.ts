// Pauses of many hosts between attempts: they grow, they are bounded, and no two hosts are in step.
import t from 'tap';

import { AttemptPauses, SHORT_PAUSE_MS } from '../../src/daemon/plugins/attempts.js';
import { BackOff, spread } from '../../src/plugin/index.js';
import { OverlayError } from '../../src/model/errors.js';

await t.test('the ceiling doubles with each failure, and has an end', (t) => {
  const backOff = new BackOff({ firstMs: 100, maxMs: 1000, random: () => 1 - Number.EPSILON });
  const pauses = Array.from({ length: 6 }, () => Math.round(backOff.next()));
  t.strictSame(pauses, [100, 200, 400, 800, 1000, 1000]);
  t.equal(backOff.ceilingMs, 1000);
  backOff.reset();
  t.equal(Math.round(backOff.next()), 100, 'after a success it begins again');
  t.end();
});

await t.test('a pause is from a tenth to the whole of its ceiling', (t) => {
  t.equal(
    spread(1000, () => 0),
    100,
  );
  t.equal(Math.round(spread(1000, () => 0.5)), 550);
  const all = Array.from({ length: 1000 }, () => spread(1000));
  t.ok(all.every((ms) => ms >= 100 && ms < 1000));
  t.end();
});

await t.test('hosts that fail together try again at different times', (t) => {
  const hosts = Array.from({ length: 1000 }, () => new BackOff({ firstMs: 1000, maxMs: 60_000 }));
  for (const ceilingMs of [1000, 2000, 4000]) {
    const buckets = new Map<number, number>();
    for (const host of hosts) {
      const tenth = Math.floor((10 * host.next()) / ceilingMs);
      buckets.set(tenth, (buckets.get(tenth) ?? 0) + 1);
    }
    t.equal(buckets.size, 9, 'all tenths of the pause but the first');
    t.ok(
      Math.max(...buckets.values()) < 220,
      `at most ${Math.max(...buckets.values())} of 1000 in one tenth`,
    );
  }
  t.end();
});

await t.test(
  'a start that fails at once is tried again within a second, by each host at another time',
  (t) => {
    for (const code of ['EACCES', 'EINVAL']) {
      const cause = Object.assign(new Error(code), { code });
      const failure = new OverlayError('INVALID', code, [code], cause);
      const hosts = Array.from({ length: 1000 }, () => new AttemptPauses());
      for (let attempt = 1; attempt <= 3; attempt++) {
        const pauses = hosts.map((host) => host.after(failure, 2));
        t.ok(Math.max(...pauses) <= SHORT_PAUSE_MS, `${code}: attempt ${attempt}: the pause does not grow`);
        const tenths = new Set(pauses.map((ms) => Math.floor((10 * ms) / SHORT_PAUSE_MS)));
        t.equal(tenths.size, 9, `${code}: attempt ${attempt}: all tenths of the pause but the first`);
      }
    }
    t.end();
  },
);

await t.test('the pause after an attempt that has worked for long is a multiple of that time', (t) => {
  const pauses = Array.from({ length: 1000 }, () => new AttemptPauses().after(new Error('invalid'), 5000));
  const mean = pauses.reduce((sum, ms) => sum + ms, 0) / pauses.length;
  t.ok(mean > 4 * 5000 && mean < 6 * 5000, `${Math.round(mean)} ms after 5000 ms`);
  t.equal(new Set(pauses.map((ms) => Math.floor(ms / 4500))).size, 9);
  t.end();
});

await t.test('bounds that make no sense are refused', (t) => {
  for (const options of [
    { firstMs: 0 },
    { firstMs: -1 },
    { firstMs: 10, maxMs: 5 },
    { maxMs: Infinity },
    { firstMs: NaN },
  ])
    t.throws(() => new BackOff(options), { name: 'RangeError' }, JSON.stringify(options));
  t.end();
});
