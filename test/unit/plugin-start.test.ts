// Starts of a plugin whose store does not answer, in simulated time: pauses that grow, and hosts that are not in step.
import t from 'tap';

import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import type { Log } from '../../src/daemon/log.js';
import { OverlayPlugin } from '../../src/daemon/overlays/overlay-plugin.js';
import { Retries } from '../../src/daemon/overlays/retries.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { PropertySet } from '../../src/model/properties.js';
import { definePlugin } from '../../src/plugin/index.js';
import { Clock } from '../sim/clock.js';
import { NO_FILES } from '../sim/host.js';
import { endpointOf } from '../sim/names.js';

const MINUTE_MS = 60_000;
const nothing = (): void => undefined;
const SILENT: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/**
 * A plugin whose start fails with this errno as long as `isAway`, or does not end. Returns the times of its attempts.
 */
function attempts(
  clock: Clock,
  code: 'EAGAIN' | 'EINVAL' | 'no answer',
  isAway: () => boolean,
): { times: number[]; health: Health } {
  const times: number[] = [];
  const plugin = definePlugin({
    apiVersion: 2,
    name: 'store',
    mode: 'dynamic',
    properties: [],
    create: () => ({
      start: () => {
        times.push(clock.nowMs);
        if (!isAway()) return Promise.resolve();
        if (code === 'no answer') return new Promise<void>(nothing);
        return Promise.reject(Object.assign(new Error('the store does not answer'), { code }));
      },
      stop: () => Promise.resolve(),
      resolve: () => ({ kind: 'drop', reason: 'unknown' }),
    }),
  });
  const health = new Health('overlay0', SILENT);
  const { limits } = parseConfig('', '');
  const listen = endpointOf(0);
  const properties = PropertySet.from(
    overlaySpecs(VXLAN, [], ['store']),
    [['vxlan/listen_ip', listen.ip]],
    {},
  );
  const overlay = new OverlayPlugin(
    'store',
    { overlay: 'overlay0', vnetid: 1, listen },
    { log: SILENT, health, limits: () => limits, files: NO_FILES, reprotect: nothing },
    () => Promise.resolve({ plugin, properties }),
    { started: nothing },
  );
  overlay.startLater(undefined);
  return { times, health };
}

await t.test('the store does not answer', async (t) => {
  const clock = new Clock();
  const uninstall = clock.install(3);
  t.teardown(uninstall);
  const isAway = (): boolean => clock.nowMs < 10 * MINUTE_MS;
  const hosts = Array.from({ length: 200 }, () => attempts(clock, 'EAGAIN', isAway));
  await clock.run(10 * MINUTE_MS - 1);
  for (const { times } of hosts.slice(0, 5))
    t.ok(times.length > 30 && times.length < 90, `${times.length} attempts in ten minutes`);
  const inLastSecond = hosts.filter(({ times }) => times.at(-1)! > 10 * MINUTE_MS - 1000).length;
  t.ok(inLastSecond < 50, `${inLastSecond} of 200 hosts in one second`);
  t.match(hosts[0].health.report(), { status: 'DEGRADED' });
  await clock.run(10 * MINUTE_MS + 21_000);
  for (const { times } of hosts) if (times.at(-1)! < 10 * MINUTE_MS) t.fail('each host comes back in 20 s');
  t.match(hosts[0].health.report(), { status: 'ONLINE' });
  const counts = hosts.map(({ times }) => times.length);
  await clock.run(20 * MINUTE_MS);
  t.strictSame(
    hosts.map(({ times }) => times.length),
    counts,
    'a plugin that has started is not started again',
  );
});

/** Largest number of times within one tenth of a second. */
function mostTogether(times: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const time of times) counts.set(Math.floor(time / 100), (counts.get(Math.floor(time / 100)) ?? 0) + 1);
  return Math.max(...counts.values());
}

await t.test(
  'starts beyond their deadline: hosts that lose a store together do not come back in step',
  async (t) => {
    const clock = new Clock();
    const uninstall = clock.install(7);
    t.teardown(uninstall);
    const isAway = (): boolean => clock.nowMs < 10 * MINUTE_MS;
    const hosts = Array.from({ length: 500 }, () => attempts(clock, 'no answer', isAway));
    await clock.run(10 * MINUTE_MS - 1);
    t.equal(mostTogether(hosts.map(({ times }) => times[0])), 500, 'the first attempts are in step');
    for (const nth of [1, 2, 5, 10]) {
      const most = mostTogether(hosts.map(({ times }) => times[nth]));
      t.ok(most < 15, `attempt ${nth}: ${most} of 500 hosts in a tenth of a second`);
    }
    for (const { times } of hosts.slice(0, 5))
      t.ok(times.length > 12 && times.length < 40, `${times.length} attempts in ten minutes`);
    t.match(hosts[0].health.report(), { status: 'DEGRADED', details: /no answer within 5000 ms/ });
    await clock.run(10 * MINUTE_MS + 51_000);
    const late = hosts.filter(({ times }) => times.at(-1)! < 10 * MINUTE_MS);
    t.equal(late.length, 0, 'each host comes back within the longest pause and the deadline');
    t.match(hosts[0].health.report(), { status: 'ONLINE' });
  },
);

await t.test('the pause after a deadline is a random part of nine times the attempt', async (t) => {
  for (const [part, pauseMs] of [
    [0, 4500],
    [0.5, 24_750],
    [0.999_999, 45_000],
  ] as const) {
    const clock = new Clock();
    const uninstall = clock.install(1);
    Math.random = () => part;
    const { times } = attempts(clock, 'no answer', () => true);
    await clock.run(2 * MINUTE_MS);
    uninstall();
    t.ok(Math.abs(times[1] - (5000 + pauseMs)) < 50, `${times[1]} ms`);
  }
});

await t.test('overlays that do not come up are tried again out of step', async (t) => {
  const clock = new Clock();
  const uninstall = clock.install(7);
  t.teardown(uninstall);
  const hosts = Array.from({ length: 500 }, () => {
    const times: number[] = [];
    const retries: Retries = new Retries(
      { isUsable: () => true, awaitAddress: () => t.fail('no address is awaited') as never },
      (name) => {
        times.push(clock.nowMs);
        retries.later(name, undefined, 5000);
        return Promise.resolve();
      },
    );
    retries.later('overlay0', undefined, 5000);
    return times;
  });
  await clock.run(4 * MINUTE_MS);
  for (const nth of [0, 1, 4]) {
    const most = mostTogether(hosts.map((times) => times[nth]));
    t.ok(most < 15, `attempt ${nth}: ${most} of 500 hosts in a tenth of a second`);
  }
});

await t.test(
  'an invalid file is looked at again within a second, for its operator, and out of step',
  async (t) => {
    const clock = new Clock();
    const uninstall = clock.install(3);
    t.teardown(uninstall);
    const { times } = attempts(clock, 'EINVAL', () => true);
    await clock.run(MINUTE_MS - 1);
    const pauses = times.slice(1).map((atMs, index) => atMs - times[index]);
    t.ok(Math.max(...pauses) <= 1000, `${Math.max(...pauses)} ms at most`);
    t.ok(Math.min(...pauses) >= 100, `${Math.min(...pauses)} ms at least`);
    t.ok(new Set(pauses).size > pauses.length / 2, 'a random part');
  },
);
