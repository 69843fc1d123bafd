// The link watch over a kernel that a test plays: what is judged, when it is asked, and whom it is told.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';

import { judge, type UnderlayView, type Verdict, type Way } from '../../src/core/underlay-state.js';
import { Health } from '../../src/daemon/health.js';
import { LinkWatch, type PortLink } from '../../src/daemon/link-watch.js';
import { OverlayLinks } from '../../src/daemon/overlay-links.js';
import { type IpAddress, parse } from '../../src/wire/ip.js';
import { FakeDatapath } from '../helpers/fake-datapath.js';
import { FakeKernel } from '../helpers/fake-kernel.js';
import { address } from '../helpers/lab.js';
import { waitUntil } from '../helpers/process.js';

const LISTEN = address('10.0.0.1');
const [TWO, THREE] = [address('10.0.0.2'), address('10.0.0.3')];
const UNDER = 7;

function newLog() {
  const lines: string[] = [];
  const add = (_kind: string, message: string): void => {
    lines.push(message);
  };
  return { debug: add, info: add, warn: add, error: add, lines };
}

function newWatch(t: Test) {
  const kernel = new FakeKernel();
  kernel.setLink(UNDER, 'under0');
  kernel.setAddress(LISTEN, UNDER);
  kernel.routes.set(TWO, UNDER);
  const log = newLog();
  const watch = new LinkWatch(kernel, log);
  t.teardown(() => {
    watch.close();
  });
  return { kernel, log, watch };
}

function follow(watch: LinkWatch, ...destinations: readonly IpAddress[]) {
  const verdicts: Verdict[] = [];
  const set = new Set(destinations);
  const heard = (verdict: Verdict): void => {
    verdicts.push(verdict);
  };
  const following = watch.followUnderlay({ listenIp: LISTEN, destinations: set, heard });
  const becomes = (sentence: string | undefined): Promise<void> =>
    waitUntil(() => verdicts.at(-1)?.sentence === sentence, {
      stepMs: 2,
      what: sentence ?? 'all to be well',
    });
  return { verdicts, destinations: set, following, becomes };
}

t.test('what the kernel says, in one sentence', (t) => {
  const link = (name: string, state: NonNullable<UnderlayView['home']>['state'] = 'good') => ({
    name,
    state,
  });
  const way = (to: string, on: Way['link'], hasRoute = true): Way => ({ to: parse(to)!, hasRoute, link: on });
  const [good, dead] = [link('eth0'), link('eth1', 'no carrier')];
  const cases: readonly [Partial<UnderlayView>, Verdict['state'], string | undefined][] = [
    [{}, 'up', undefined],
    [{ home: link('lo', 'down') }, 'down', 'link lo is down'],
    [{ ways: [way('10.0.0.2', good)] }, 'up', undefined],
    // Another way than over the link with the address, which is nobody's business then.
    [{ home: dead, ways: [way('10.0.0.2', good)] }, 'up', undefined],
    [{ ways: [way('10.0.0.2', dead)] }, 'down', 'link eth1 has no carrier'],
    [{ ways: [way('10.0.0.2', link('eth2', 'gone'), false)] }, 'down', 'link eth2 is gone'],
    [{ ways: [way('10.0.0.2', good, false)] }, 'down', 'no route to 10.0.0.2'],
    [{ ways: [way('10.0.0.2', undefined, false)] }, 'down', 'no route to 10.0.0.2'],
    [{ home: dead, ways: [way('10.0.0.2', undefined, false)] }, 'down', 'link eth1 has no carrier'],
    [{ address: 'absent' }, 'down', '10.0.0.1 is no address of this host'],
    [{ address: 'absent', home: link('eth0', 'down') }, 'down', 'link eth0 is down'],
    [{ address: 'absent', ways: [way('10.0.0.2', good)] }, 'down', '10.0.0.1 is no address of this host'],
    [{ address: 'tentative' }, 'down', '10.0.0.1 is not in use yet: duplicate address detection goes on'],
    [
      { address: 'duplicate', home: dead },
      'down',
      "10.0.0.1 is another host's too, says duplicate address detection",
    ],
    [
      {
        ways: [
          way('10.0.0.2', good),
          way('10.0.0.3', good, false),
          way('10.0.0.4', dead),
          way('10.0.0.5', dead),
          way('10.0.0.6', dead, false),
          way('10.0.0.7', good, false),
        ],
      },
      'partly',
      'link eth1 has no carrier, no route to 10.0.0.3 and 1 more: 5 of 6 destinations cannot be reached',
    ],
  ];
  for (const [more, state, sentence] of cases) {
    const view: UnderlayView = { listenIp: LISTEN, address: 'good', home: good, ways: [], ...more };
    t.same(judge(view), { state, sentence }, sentence ?? 'nothing');
  }
  t.end();
});

t.test('an event is a hint, the kernel is asked', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { verdicts, becomes, following } = follow(watch, TWO);
  t.same(verdicts, [{ state: 'up', sentence: undefined }], 'at once');
  kernel.setLink(UNDER, 'under0', { up: false });
  await sleep(50);
  t.equal(verdicts.length, 1, 'no polling');
  kernel.tell({ about: 'route' });
  t.equal(verdicts.at(-1)?.sentence, 'link under0 is down', 'acted on before `tell` returns');
  kernel.routes.delete(TWO);
  await becomes('link under0 is down');
  kernel.setLink(UNDER, 'under0');
  kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
  await becomes('no route to 10.0.0.2');
  kernel.routes.set(TWO, UNDER);
  kernel.links.delete(UNDER);
  kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
  await becomes('link under0 is gone');
  kernel.setLink(UNDER, 'under0');
  kernel.loseMessages();
  await becomes(undefined);
  following.stop();
  const { length } = verdicts;
  kernel.tell({ about: 'route' });
  await sleep(50);
  t.equal(verdicts.length, length, 'whoever has stopped is not told');
  watch.close();
  t.ok(kernel.closed, 'at the end it listens no more');
});

t.test('what goes after a message without one of its own', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { becomes } = follow(watch, TWO);
  kernel.tell({ about: 'route' });
  // As the kernel does with routes that go with an address: after it has spoken of that.
  kernel.routes.delete(TWO);
  await becomes('no route to 10.0.0.2');
});

t.test('a carrier that the kernel does not tell of yet', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { becomes } = follow(watch, TWO);
  kernel.tell({ about: 'link', index: 99, name: 'other0' });
  const { route } = kernel.asked;
  await waitUntil(() => kernel.asked.route > route, { what: 'the round that follows each' });
  const settled = kernel.asked.route;
  const { link } = kernel.asked;
  await waitUntil(() => kernel.asked.link > link + 3, { what: 'looks at the link' });
  t.equal(kernel.asked.route, settled, 'which ask about no route');
  kernel.setLink(UNDER, 'under0', { carrier: false });
  await becomes('link under0 has no carrier');
  kernel.setLink(UNDER, 'under0');
  await becomes(undefined);
  const isQuiet = async (): Promise<boolean> => {
    const { link } = kernel.asked;
    await sleep(200);
    return kernel.asked.link === link;
  };
  await waitUntil(isQuiet, { what: 'the looks to end' });
});

t.test('a storm of events', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { becomes } = follow(watch, TWO);
  const before = kernel.asked.route;
  const endMs = performance.now() + 300;
  while (performance.now() < endMs) {
    for (let index = 0; index < 100; index++) kernel.tell({ about: 'route' });
    await sleep(1);
  }
  t.ok(kernel.asked.route - before < 2 * (300 / 20) + 10, 'asked at intervals, not for each');
  kernel.setLink(UNDER, 'under0', { carrier: false });
  kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
  await becomes('link under0 has no carrier');
  const asked = kernel.asked.route;
  await sleep(100);
  const later = kernel.asked.route;
  await sleep(100);
  t.equal(kernel.asked.route, later, 'and then not at all');
  t.ok(later - asked < 10);
});

t.test('destinations come and go', async (t) => {
  const { watch } = newWatch(t);
  const { destinations, becomes } = follow(watch, TWO);
  destinations.add(THREE);
  watch.destinationsChanged();
  await becomes('no route to 10.0.0.3: 1 of 2 destinations cannot be reached');
  destinations.delete(THREE);
  watch.destinationsChanged();
  await becomes(undefined);
});

t.test('a kernel that cannot be asked', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const { verdicts, becomes } = follow(watch, TWO);
  kernel.failure = new Error('EMFILE');
  kernel.setLink(UNDER, 'under0', { up: false });
  kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
  t.match(log.lines.at(-1), /the kernel cannot be asked: .*EMFILE/);
  t.equal(verdicts.length, 1, 'what was known stands');
  kernel.failure = undefined;
  await becomes('link under0 is down');
});

t.test('an address that is waited for', async (t) => {
  const { kernel, watch } = newWatch(t);
  let appeared = 0;
  const count = (): void => {
    appeared++;
  };
  watch.awaitAddress(TWO, count);
  watch.awaitAddress(TWO, count).stop();
  kernel.tell({ about: 'route' });
  await sleep(50);
  t.equal(appeared, 0);
  t.notOk(watch.isUsable(TWO));
  kernel.setAddress(TWO, UNDER, 'tentative');
  kernel.tell({ about: 'address', gone: false, ip: TWO, index: UNDER, state: 'tentative' });
  await sleep(50);
  t.equal(appeared, 0, 'not while it is tentative');
  kernel.setAddress(TWO, UNDER);
  kernel.tell({ about: 'address', gone: false, ip: TWO, index: UNDER, state: 'good' });
  await waitUntil(() => appeared > 0, { what: 'the address' });
  kernel.tell({ about: 'route' });
  await sleep(50);
  t.equal(appeared, 1, 'once');
});

t.test('interfaces of ports', async (t) => {
  const { kernel, watch } = newWatch(t);
  const heard: PortLink[] = [];
  const last = (): PortLink | undefined => heard.at(-1);
  kernel.setLink(20, 'foo0');
  const following = watch.followPort('foo0', (link) => heard.push(link));
  t.same(heard, [], 'nothing is the matter');
  const told = async (index: number, name: string, expected: PortLink): Promise<void> => {
    kernel.tell({ about: 'link', index, name });
    await waitUntil(() => JSON.stringify(last()) === JSON.stringify(expected), {
      what: JSON.stringify(expected),
    });
  };
  kernel.setLink(20, 'foo0', { up: false });
  await told(20, 'foo0', { state: 'down' });
  kernel.setLink(20, 'bar0');
  await told(20, 'bar0', { state: 'renamed', name: 'bar0' });
  kernel.links.delete(20);
  await told(20, 'bar0', { state: 'elsewhere' });
  // Another interface of its name is another one; its own comes back under any index.
  kernel.setLink(21, 'foo0', { up: false, mac: 99 });
  kernel.tell({ about: 'link', index: 21, name: 'foo0' });
  await sleep(50);
  t.same(last(), { state: 'elsewhere' });
  kernel.links.delete(21);
  kernel.setLink(22, 'foo0', { mac: 20 });
  await told(22, 'foo0', { state: 'up' });
  kernel.setLink(22, 'foo0', { up: false, mac: 20 });
  kernel.loseMessages();
  await waitUntil(() => last()?.state === 'down', { what: 'the news after lost messages' });
  following.stop();
  kernel.setLink(22, 'foo0', { mac: 20 });
  kernel.tell({ about: 'link', index: 22, name: 'foo0' });
  await sleep(50);
  t.equal(last()?.state, 'down', 'not told any more');
});

t.test('what an overlay makes of it', async (t) => {
  for (const mode of ['up', 'follow'] as const) {
    const { kernel, watch, log } = newWatch(t);
    const datapath = new FakeDatapath();
    const health = new Health('overlay0', log);
    const links = new OverlayLinks(
      { overlay: 'overlay0', id: 1, listenIp: LISTEN },
      {
        watch,
        datapath,
        links: { isSilent: () => false, allowAutomaticAddress: () => undefined },
        health,
        log,
      },
    );
    links.start(mode, TWO);
    const becomes = (details: string | null): Promise<void> =>
      waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
    links.peersChanged([THREE], []);
    await becomes('no route to 10.0.0.3: 1 of 2 destinations cannot be reached');
    t.match(links.info, { state: 'partly', losses: 1 });
    t.same(datapath.calls, [], 'ports serve for the others');
    kernel.setLink(UNDER, 'under0', { carrier: false });
    kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
    await waitUntil(() => links.info.state === 'down', { what: 'down' });
    t.equal(links.info.losses, 1, 'it was not up in between');
    t.same(datapath.calls, mode === 'follow' ? ['setCarrier off'] : []);
    kernel.setLink(UNDER, 'under0');
    kernel.tell({ about: 'link', index: UNDER, name: 'under0' });
    links.peersChanged([], [THREE]);
    await becomes(null);
    t.match(links.info, { state: 'up', losses: 1 });
    t.same(datapath.calls, mode === 'follow' ? ['setCarrier off', 'setCarrier on'] : []);
    links.stop();
  }
});

t.test('the most important trouble is said first', (t) => {
  const health = new Health('overlay0', newLog());
  health.degrade('interface foo0', 'port foo0: its interface was set down');
  health.degrade('lookup', 'plugin files: no answer');
  health.degrade('port bar0', 'port bar0: the device was removed');
  health.degrade('plugin', 'no mapping');
  health.degrade('underlay', 'link under0 is down');
  t.equal(
    health.report().details,
    'link under0 is down; no mapping; plugin files: no answer; port bar0: the device was removed; ' +
      'port foo0: its interface was set down',
  );
  health.restore('underlay');
  t.match(health.report().details, /^no mapping; .*; port bar0/, 'the others are still said');
  for (let index = 0; index < 100; index++)
    health.degrade(`port p${index}`, `port p${index}: the device was removed`);
  health.degrade('underlay', 'x'.repeat(256));
  const details = health.report().details ?? '';
  t.match(details, /^x{256}; no mapping; .*; and \d+ more$/);
  t.ok(details.length < 600, 'as far as there is room');
  t.end();
});
