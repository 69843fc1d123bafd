// The link watch over a kernel that a test plays: what is judged, when it is asked, and whom it is told.

import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import type { PortLink } from '../../src/daemon/underlay/port-watch.js';
import { judge, type UnderlayView, type Verdict, type Way } from '../../src/model/underlay-state.js';
import { parse } from '../../src/wire/ip.js';
import { waitUntil } from '../helpers/process.js';
import { LISTEN, TWO, THREE, UNDER, OVERLAY, newWatch, follow, portOf } from '../helpers/link-watch.js';

// Each has a kernel of its own, and waits for it most of the time.
t.jobs = 4;

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
    [{ address: 'absent' }, 'down', '10.0.0.1 is not an address of this host'],
    [{ address: 'absent', home: link('eth0', 'down') }, 'down', 'link eth0 is down'],
    [{ address: 'absent', ways: [way('10.0.0.2', good)] }, 'down', '10.0.0.1 is not an address of this host'],
    [{ address: 'tentative' }, 'down', '10.0.0.1 is not in use yet: duplicate address detection goes on'],
    [
      { address: 'duplicate', home: dead },
      'down',
      '10.0.0.1 is a duplicate: another host has the same address',
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
    const view = {
      overlay: OVERLAY,
      listenIp: LISTEN,
      address: 'good',
      home: good,
      ways: [],
      ...more,
    } as const;
    t.same(
      judge(view, () => []),
      { state, sentence, loops: [] },
      sentence ?? 'nothing',
    );
  }
  t.end();
});

t.test('an overlay that carries itself, and one that carries another', (t) => {
  const link = { name: 'eth0', state: 'good' } as const;
  const into = (to: string, overlay: string, port: string): Way => ({
    to: parse(to)!,
    hasRoute: true,
    link,
    into: { overlay, port },
  });
  const out = (to: string): Way => ({ to: parse(to)!, hasRoute: true, link });
  const lost = (to: string): Way => ({ to: parse(to)!, hasRoute: false, link });
  const cases: readonly [what: string, ways: Record<string, readonly Way[]>, loops: string, text?: string][] =
    [
      ['out', { a: [out('1.1.1.1')] }, ''],
      [
        'into itself',
        { a: [into('1.1.1.1', 'a', 'foo0')] },
        '1.1.1.1',
        'the route to 1.1.1.1 leads into foo0, a port of this overlay',
      ],
      [
        'some into itself',
        { a: [into('1.1.1.1', 'a', 'foo0'), out('1.1.1.2'), into('1.1.1.3', 'a', 'foo0')] },
        '1.1.1.1,1.1.1.3',
        'the routes to 1.1.1.1 and 1 more lead into foo0, a port of this overlay: 2 of 3 destinations cannot be reached',
      ],
      ['over another', { a: [into('1.1.1.1', 'b', 'bar0')], b: [out('2.2.2.2')] }, ''],
      ['over another that is not known', { a: [into('1.1.1.1', 'b', 'bar0')] }, ''],
      [
        'over another and back',
        { a: [into('1.1.1.1', 'b', 'bar0')], b: [into('2.2.2.2', 'a', 'foo0')] },
        '1.1.1.1',
        'the route to 1.1.1.1 leads into bar0, a port of b, which this overlay carries',
      ],
      [
        'over two others and back',
        {
          a: [into('1.1.1.1', 'b', 'bar0')],
          b: [into('2.2.2.2', 'c', 'baz0')],
          c: [into('3.3.3.3', 'a', 'foo0')],
        },
        '1.1.1.1',
        'the route to 1.1.1.1 leads into bar0, a port of b, which this overlay carries',
      ],
      [
        'over another that has a way out',
        { a: [into('1.1.1.1', 'b', 'bar0')], b: [into('2.2.2.2', 'a', 'foo0'), out('2.2.2.3')] },
        '',
      ],
      [
        'over another that has no route',
        { a: [into('1.1.1.1', 'b', 'bar0')], b: [into('2.2.2.2', 'a', 'foo0'), lost('2.2.2.3')] },
        '',
      ],
      [
        'over two others that carry each other',
        {
          a: [into('1.1.1.1', 'b', 'bar0')],
          b: [into('2.2.2.2', 'c', 'baz0')],
          c: [into('3.3.3.3', 'b', 'bar1')],
        },
        '',
      ],
    ];
  for (const [what, all, loops, text] of cases) {
    const view: UnderlayView = {
      overlay: 'a',
      listenIp: LISTEN,
      address: 'good',
      home: link,
      ways: all['a'],
    };
    const verdict = judge(view, (overlay) => all[overlay] ?? []);
    t.equal(verdict.loops.join(), loops, what);
    t.equal(verdict.sentence, text, 'and the sentence');
  }
  t.end();
});

t.test('by which port packets leave', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { verdicts, becomes } = follow(watch, TWO);
  const heard: PortLink[] = [];
  const [PORT, UPON, VETH] = [20, 30, 31];
  const round = (): void => {
    kernel.tell({ about: 'route' });
  };
  const loops = (link: string): string => `the route to 10.0.0.2 leads into ${link}, a port of this overlay`;
  kernel.setLink(PORT, 'foo0');
  // Taken over, with a route that it has already: no event comes.
  kernel.routes.set(TWO, PORT);
  round();
  await becomes(undefined);
  const following = watch.followPort(portOf(kernel, PORT, 'foo0'), (link) => heard.push(link));
  await becomes(loops('foo0'));
  t.same(verdicts.at(-1)?.loops, [TWO]);
  for (const kind of ['vlan', 'macvlan', 'ipvlan']) {
    kernel.setLink(UPON, 'upon0', { kind, lower: PORT });
    kernel.routes.set(TWO, UPON);
    round();
    await becomes(loops('foo0'));
    kernel.setLink(UPON, 'upon0', { kind, lower: UNDER });
    round();
    await becomes(undefined);
  }
  kernel.setLink(UPON, 'bond0', { kind: 'bond' });
  round();
  await becomes(undefined);
  kernel.setLink(PORT, 'foo0', { master: UPON });
  kernel.tell({ about: 'link', index: PORT, name: 'foo0', kind: 'tun' });
  await becomes(loops('foo0'));
  // A bridge leads where it has seen the next hop, which nobody tells of.
  kernel.setLink(UPON, 'br0', { kind: 'bridge' });
  round();
  await becomes(undefined);
  t.ok(kernel.asked.neighbour > 0);
  kernel.routers.set(TWO, THREE);
  kernel.neighbours.set(THREE, 0x99);
  kernel.seenBehind.set(0x99, PORT);
  await becomes(loops('foo0'));
  kernel.seenBehind.set(0x99, UNDER);
  await becomes(undefined);
  // A veth whose other end is bridged with the port.
  kernel.setLink(VETH, 'veth0', { kind: 'veth', lower: VETH + 1 });
  kernel.setLink(VETH + 1, 'veth1', { kind: 'veth', lower: VETH, master: UPON });
  kernel.routes.set(TWO, VETH);
  kernel.seenBehind.set(0x99, PORT);
  round();
  await becomes(loops('foo0'));
  following.stop();
  await becomes(undefined);
});

t.test('a source that no route leads from', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { becomes } = follow(watch, TWO);
  kernel.routeless.add(LISTEN);
  kernel.tell({ about: 'route' });
  await becomes('no route from 10.0.0.1 to 10.0.0.2');
  kernel.routes.delete(TWO);
  kernel.tell({ about: 'route' });
  await becomes('no route to 10.0.0.2');
});

t.test('an event is a hint, the kernel is asked', async (t) => {
  const { kernel, watch } = newWatch(t);
  const { verdicts, becomes, following } = follow(watch, TWO);
  t.same(verdicts, [{ state: 'up', sentence: undefined, loops: [] }], 'at once');
  kernel.setLink(UNDER, 'under0', { up: false });
  await sleep(50);
  t.equal(verdicts.length, 1, 'no polling');
  kernel.tell({ about: 'route' });
  t.equal(verdicts.at(-1)?.sentence, 'link under0 is down', 'acted on before `tell` returns');
  kernel.routes.delete(TWO);
  await becomes('link under0 is down');
  kernel.setLink(UNDER, 'under0');
  kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
  await becomes('no route to 10.0.0.2');
  kernel.routes.set(TWO, UNDER);
  kernel.links.delete(UNDER);
  kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
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
  kernel.tell({ about: 'link', index: 99, name: 'other0', kind: 'tun' });
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
  kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
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
  kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
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
