// The link watch over a kernel that a test plays: what is judged, when it is asked, and whom it is told.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';

import { Health } from '../../src/daemon/health.js';
import { OverlayLinks } from '../../src/daemon/overlays/overlay-links.js';
import { LinkWatch } from '../../src/daemon/underlay/link-watch.js';
import { PortMacs } from '../../src/daemon/underlay/port-macs.js';
import type { PortLink } from '../../src/daemon/underlay/port-watch.js';
import type { PortDeviceInfo } from '../../src/datapath/contract.js';
import type { TunInfo } from '../../src/dgram-extra/index.js';
import { judge, type UnderlayView, type Verdict, type Way } from '../../src/model/underlay-state.js';
import { type IpAddress, parse } from '../../src/wire/ip.js';
import { type MacAddress, readMac } from '../../src/wire/mac.js';
import { FakeDatapath, type FakeOverlay, fakeOverlay, type FakePort } from '../helpers/fake-datapath.js';
import { FakeKernel } from '../helpers/fake-kernel.js';
import { address } from '../helpers/lab.js';
import { waitUntil } from '../helpers/process.js';

const LISTEN = address('10.0.0.1');
const [TWO, THREE] = [address('10.0.0.2'), address('10.0.0.3')];
const UNDER = 7;
const OVERLAY = 'overlay0';

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
  const following = watch.followUnderlay({ overlay: OVERLAY, listenIp: LISTEN, destinations: set, heard });
  const becomes = (sentence: string | undefined): Promise<void> =>
    waitUntil(() => verdicts.at(-1)?.sentence === sentence, {
      stepMs: 2,
      what: sentence ?? 'all to be well',
    });
  return { verdicts, destinations: set, following, becomes };
}

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

/** A port whose descriptor holds the device of this index, or what the test says. */
function portOf(kernel: FakeKernel, index: number, port: string) {
  const device = {
    elsewhere: undefined as PortDeviceInfo | undefined,
    isGone: false,
    troubles: [] as string[],
    checks: [] as string[],
  };
  return Object.assign(device, {
    overlay: OVERLAY,
    port,
    device: (): PortDeviceInfo | undefined => {
      if (device.isGone || device.elsewhere !== undefined)
        return device.isGone ? undefined : device.elsewhere;
      const link = kernel.links.get(index);
      return link && { name: link.name, mac: readMac(link.mac, 0), isHere: true };
    },
    check: (name: string | undefined, tun: TunInfo | undefined): readonly string[] => {
      device.checks.push(`${name} ${tun === undefined ? 'unasked' : tun.queues}`);
      return [...device.troubles];
    },
  });
}

t.test('interfaces of ports', async (t) => {
  const { kernel, watch } = newWatch(t);
  const heard: PortLink[] = [];
  follow(watch, TWO);
  /** Whatever was told is acted on by then. */
  const isOver = async (): Promise<void> => {
    const { route } = kernel.asked;
    kernel.tell({ about: 'route' });
    await waitUntil(() => kernel.asked.route > route, { what: 'a round' });
  };
  const becomes = (expected: Partial<PortLink>): Promise<void> =>
    waitUntil(() => matches(heard.at(-1), expected), { what: JSON.stringify(expected) });
  const matches = (link: PortLink | undefined, expected: Partial<PortLink>): boolean =>
    link !== undefined && JSON.stringify({ ...link, ...expected }) === JSON.stringify(link);
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  kernel.setLink(20, 'foo0', { up: false });
  const port = portOf(kernel, 20, 'foo0');
  const following = watch.followPort(port, (link) => heard.push(link));
  const asItIs = { state: 'down', name: 'foo0', mac: 20, mtuBytes: 1500, carrier: undefined, troubles: [] };
  t.same(heard, [asItIs], 'told at once');
  change(20, 'foo0');
  await becomes({ state: 'up' });
  change(20, 'foo0', { mac: 0xee });
  await becomes({ state: 'up', mac: 0xee });
  change(20, 'foo0', { mtuBytes: 1300 });
  await becomes({ state: 'up', mac: 20, mtuBytes: 1300 });
  change(20, 'bar0');
  await becomes({ state: 'renamed', name: 'bar0' });

  // In a container, where nobody tells of it.
  kernel.links.delete(20);
  port.elsewhere = { name: 'eth0', mac: 20, isHere: false };
  kernel.tell({ about: 'link', index: 20, name: 'bar0', kind: 'tun' });
  await becomes({ state: 'elsewhere', name: 'eth0' });
  port.elsewhere = { name: 'eth0', mac: 0xdd, isHere: false };
  await becomes({ state: 'elsewhere', mac: 0xdd });
  // Another interface may get its name, or its index.
  change(21, 'foo0', { mac: 99 });
  change(20, 'other0', { kind: 'veth' });
  const { length } = heard;
  await isOver();
  t.equal(heard.length, length, 'which is not it');
  // It comes back under another name and index, down.
  kernel.setLink(22, 'dev5', { up: false, mac: 0xdd });
  port.elsewhere = { name: 'dev5', mac: 0xdd, isHere: true };
  kernel.tell({ about: 'link', index: 22, name: 'dev5', kind: 'tun' });
  await becomes({ state: 'renamed', name: 'dev5' });
  kernel.links.delete(21);
  change(22, 'foo0', { mac: 0xdd });
  await becomes({ state: 'up', name: 'foo0', mac: 0xdd });
  kernel.setLink(22, 'foo0', { up: false, mac: 0xcc });
  kernel.loseMessages();
  await becomes({ state: 'down', mac: 0xcc });

  port.isGone = true;
  kernel.links.delete(22);
  const before = heard.length;
  kernel.tell({ about: 'link', index: 22, name: 'foo0', kind: 'tun' });
  await isOver();
  t.equal(heard.length, before, 'that it is gone, its descriptor tells');
  following.stop();
});

t.test('settings of a TAP that the kernel does not tell of', async (t) => {
  const { kernel, watch } = newWatch(t);
  kernel.setLink(20, 'foo0', { tun: { ownerUid: 0, ownerGid: 0, queues: 4, disabledQueues: 0 } });
  const port = portOf(kernel, 20, 'foo0');
  const heard: PortLink[] = [];
  watch.followPort(port, (link) => heard.push(link));
  t.same(port.checks, ['foo0 4'], 'with what the kernel says of it');
  const { link } = kernel.asked;
  port.troubles.push('is odd');
  await waitUntil(() => heard.at(-1)?.troubles.join() === 'is odd', { what: 'a check' });
  t.equal(port.checks.at(-1), 'foo0 unasked');
  t.equal(kernel.asked.link, link, 'of the descriptor alone');
  const { length } = heard;
  const checks = port.checks.length;
  await waitUntil(() => port.checks.length > checks, { what: 'another check' });
  t.equal(heard.length, length, 'told once');
  port.troubles = [];
  await waitUntil(() => heard.at(-1)?.troubles.length === 0, { what: 'it to be well' });
  kernel.links.delete(20);
  port.elsewhere = { name: 'eth0', mac: 20, isHere: false };
  kernel.tell({ about: 'link', index: 20, name: 'foo0', kind: 'tun' });
  await waitUntil(() => heard.at(-1)?.state === 'elsewhere', { what: 'it to be elsewhere' });
  port.troubles = ['is odd there'];
  await waitUntil(() => heard.at(-1)?.troubles.length === 1, { what: 'a look there' });
  t.equal(port.checks.at(-1), 'undefined unasked', 'where it has no name that is ours');
});

t.test('many TAPs: of each the settings are looked at in its turn', async (t) => {
  const { kernel, watch } = newWatch(t);
  const checked = new Map<string, number>();
  const names = Array.from({ length: 1700 }, (_, index) => `p${index}`);
  for (const [index, port] of names.entries()) {
    kernel.setLink(1000 + index, port);
    const check = (): readonly string[] => {
      checked.set(port, (checked.get(port) ?? 0) + 1);
      return [];
    };
    const device = (): PortDeviceInfo => ({ name: port, mac: 1000 + index, isHere: true });
    watch.followPort({ overlay: OVERLAY, port, device, check }, () => undefined);
  }
  checked.clear();
  await waitUntil(() => checked.size > 0, { what: 'a check' });
  t.ok(checked.size <= 1000, `of some of them: ${checked.size}`);
  await waitUntil(() => checked.size === names.length, { what: 'a check of each' });
});

t.test('a kernel that takes its time over settings', async (t) => {
  const { kernel, watch } = newWatch(t);
  const rounds: string[][] = [];
  let round: string[] | undefined;
  for (const [index, port] of ['p0', 'p1', 'p2'].entries()) {
    kernel.setLink(1000 + index, port);
    const check = (): readonly string[] => {
      if (round === undefined) {
        rounds.push((round = []));
        setImmediate(() => (round = undefined));
      }
      round.push(port);
      for (const startMs = performance.now(); performance.now() - startMs < 25;);
      return [];
    };
    const device = (): PortDeviceInfo => ({ name: port, mac: 1000 + index, isHere: true });
    watch.followPort({ overlay: OVERLAY, port, device, check }, () => undefined);
  }
  rounds.length = 0;
  await waitUntil(() => rounds.length >= 4, { what: 'four rounds' });
  t.same(
    rounds.slice(-3).map((each) => each.length),
    [1, 1, 1],
    'has no more of it at once',
  );
  t.equal(new Set(rounds.slice(-3).flat()).size, 3, 'and each its turn');
});

t.test('many interfaces elsewhere', async (t) => {
  const { kernel, watch } = newWatch(t);
  const asked = new Map<string, number>();
  const names = Array.from({ length: 1300 }, (_, index) => `p${index}`);
  for (const port of names) {
    const device = (): PortDeviceInfo => {
      asked.set(port, (asked.get(port) ?? 0) + 1);
      return { name: 'eth0', mac: 1, isHere: false };
    };
    watch.followPort({ overlay: OVERLAY, port, device, check: () => [] }, () => undefined);
  }
  asked.clear();
  const { link } = kernel.asked;
  await waitUntil(() => asked.size > 0, { what: 'a look' });
  t.equal(asked.size, 500, 'at some of them');
  await waitUntil(() => asked.size === names.length, { what: 'a look at each' });
  t.equal(kernel.asked.link, link, 'by the descriptor alone');
});

t.test('which MAC is in force', (t) => {
  const macs = new PortMacs();
  const pinned = new Set<string>();
  const add = (port: string, configured: MacAddress): void => {
    macs.add(port, { configured, isPinned: () => pinned.has(port) });
    macs.saw(port, configured);
  };
  const state = (): string =>
    ['a', 'b', 'c'].map((port) => macs.inForce(port)?.toString(16) ?? '-').join(' ');
  const settled = (expected: string, refused: Record<string, string>, what: string): void => {
    for (const { port, refusal } of macs.settle())
      refusals.set(port, refusal?.why === 'taken' ? `taken by ${refusal.by}` : (refusal?.why ?? ''));
    t.equal(state(), expected, what);
    t.same(Object.fromEntries([...refusals].filter(([, why]) => why !== '')), refused);
    t.same(macs.settle(), [], 'and that is all');
  };
  const refusals = new Map<string, string>();
  for (const [port, mac] of [
    ['a', 0xa0],
    ['b', 0xb0],
    ['c', 0xc0],
  ] as const)
    add(port, mac);
  settled('a0 b0 c0', {}, 'as configured');
  macs.saw('a', 0xee);
  settled('ee b0 c0', {}, 'another one is followed');
  t.ok(macs.has(0xee));
  t.notOk(macs.has(0xa0));
  pinned.add('a');
  settled('a0 b0 c0', { a: 'protected' }, 'protection that is set later keeps the configured one');
  pinned.clear();
  settled('ee b0 c0', {}, 'and lets go of it');
  macs.saw('a', 0xb0);
  settled('a0 b0 c0', { a: 'taken by b' }, "another port's");
  macs.saw('b', 0xa0);
  settled('b0 a0 c0', {}, 'two that have changed places');
  macs.saw('b', 0xb0);
  settled('a0 b0 c0', { a: 'taken by b' }, 'the one that is configured with it keeps it');
  macs.saw('c', 0xa0);
  settled('a0 b0 c0', { a: 'taken by b', c: 'taken by a' }, 'who is refused keeps its own');
  macs.saw('a', 0xa0);
  macs.saw('b', 0xdd);
  macs.saw('c', 0xdd);
  settled('a0 dd c0', { c: 'taken by b' }, 'of two that want one, the first');
  macs.remove('b');
  settled('a0 - dd', {}, 'once it is free it is followed');
  macs.saw('a', 0xdd);
  settled('a0 - dd', { a: 'taken by c' }, 'the one that has it already keeps it');
  for (const mac of [0, 0x0100_0000_0001]) {
    macs.saw('a', mac);
    settled('a0 - dd', { a: 'no station' }, 'no MAC of a station');
  }
  macs.saw('a', 0xa0);
  macs.saw('c', 0xc0);
  settled('a0 - c0', {}, 'as configured again');
  t.end();
});

const SITE = { overlay: OVERLAY, listenIp: LISTEN };

/** One whose device is as the kernel has it. */
function tapOf(kernel: FakeKernel, overlay: FakeOverlay, name: string): FakePort {
  const port = overlay.addPort({ name, mac: 0, temporary: false, vid: 0, mtuBytes: 1500, own: false });
  port.device = () => {
    const link = kernel.link(name);
    return link && { name, mac: readMac(link.mac, 0), isHere: true };
  };
  return port;
}

t.test('what an overlay makes of it', async (t) => {
  for (const mode of ['up', 'follow'] as const) {
    const { kernel, watch, log } = newWatch(t);
    const datapath = new FakeDatapath();
    const health = new Health('overlay0', log);
    const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined };
    const around = { watch, datapath, links: silent, health, log, macChanged: () => undefined };
    const links = new OverlayLinks(SITE, around);
    const overlay = fakeOverlay(datapath);
    const { changes } = datapath;
    /** Of its ports, and how often it was told. */
    const carrier = () => [overlay.carrier, datapath.changes - changes];
    links.start(overlay, mode, TWO);
    const becomes = (details: string | null): Promise<void> =>
      waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
    links.peersChanged([THREE], []);
    await becomes('no route to 10.0.0.3: 1 of 2 destinations cannot be reached');
    t.match(links.info, { state: 'partly', losses: 1 });
    t.same(carrier(), [true, 0], 'ports serve for the others');
    kernel.setLink(UNDER, 'under0', { carrier: false });
    kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
    await waitUntil(() => links.info.state === 'down', { what: 'down' });
    t.equal(links.info.losses, 1, 'it was not up in between');
    t.same(carrier(), mode === 'follow' ? [false, 1] : [true, 0]);
    kernel.setLink(UNDER, 'under0');
    kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
    links.peersChanged([], [THREE]);
    await becomes(null);
    t.match(links.info, { state: 'up', losses: 1 });
    t.same(carrier(), [true, mode === 'follow' ? 2 : 0]);
    links.stop();
  }
});

t.test('what others have set on a port', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined };
  const macChanged = (): void => undefined;
  const links = new OverlayLinks(SITE, { watch, datapath, links: silent, health, log, macChanged });
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'follow', TWO);
  const becomes = (details: string | null): Promise<void> =>
    waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  kernel.setLink(20, 'foo0');
  const foo = tapOf(kernel, overlay, 'foo0');
  links.followPort(foo, { name: 'foo0', configured: 20, mtuBytes: 1500, isPinned: () => false });
  t.equal(health.report().details, null);
  foo.troubles = ['has a queue of another program', 'is odd'];
  await becomes('port foo0: its interface has a queue of another program, and is odd');
  foo.troubles = [];
  await becomes(null);
  foo.mended = ['the virtio-net header was 12 bytes'];
  const line = 'overlay0: port foo0: the virtio-net header was 12 bytes, changed by another program: reset';
  await waitUntil(() => log.lines.includes(line), { what: 'the log' });
  t.equal(health.report().details, null, 'what is right again is no trouble');

  change(20, 'foo0', { carrier: false });
  await becomes(
    'port foo0: its interface has no carrier: another program switched it off (switch it on: ip link set foo0 carrier on)',
  );
  change(20, 'foo0', { carrier: false, up: false });
  await becomes('port foo0: its interface was set down');
  t.ok(foo.isDown, 'nobody is behind it');
  change(20, 'foo0');
  await becomes(null);
  t.notOk(foo.isDown);
  // Of what varpd itself does to it, the kernel tells later.
  change(UNDER, 'under0', { carrier: false });
  await waitUntil(() => !links.carrier, { what: 'its underlay to be down' });
  t.notMatch(health.report().details, /port foo0/);
  kernel.setLink(20, 'foo0', { carrier: false });
  kernel.tell({ about: 'link', index: 20, name: 'foo0', kind: 'tun' });
  change(UNDER, 'under0');
  await becomes(null);
  change(20, 'foo0');
  change(UNDER, 'under0', { carrier: false });
  await waitUntil(() => !links.carrier, { what: 'its underlay to be down' });
  change(20, 'foo0', { mtuBytes: 1400 });
  await waitUntil(
    () => health.report().details?.includes('has a carrier, which another program switched on') ?? false,
    {
      what: 'a carrier that is not to be',
    },
  );
  datapath.features = {};
  change(20, 'foo0', { mtuBytes: 1401 });
  await waitUntil(() => !(health.report().details?.includes('port foo0') ?? false), {
    what: 'no word of a carrier that this kernel cannot set',
  });
});

t.test('what an overlay makes of its ports', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const followed: string[] = [];
  const macChanged = (port: string, mac: MacAddress): void => {
    followed.push(`${port} ${mac.toString(16)}`);
  };
  const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined };
  const links = new OverlayLinks(SITE, { watch, datapath, links: silent, health, log, macChanged });
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'up', undefined);
  const pinned = new Set<string>();
  const isPinned = (name: string) => () => pinned.has(name);
  const becomes = (details: string | null): Promise<void> =>
    waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  // As after a restart: it was down before anybody asked.
  kernel.setLink(20, 'foo0', { up: false, mac: 0xa0 });
  links.followPort(tapOf(kernel, overlay, 'foo0'), {
    name: 'foo0',
    configured: 0xa0,
    mtuBytes: 1500,
    isPinned: isPinned('foo0'),
  });
  t.equal(links.portTrouble('foo0'), 'down', 'what is so from the beginning');
  t.equal(health.report().details, 'port foo0: its interface was set down');
  kernel.setLink(21, 'bar0', { mac: 0xee, mtuBytes: 1400 });
  links.followPort(tapOf(kernel, overlay, 'bar0'), {
    name: 'bar0',
    configured: 0xb0,
    mtuBytes: 1500,
    isPinned: isPinned('bar0'),
  });
  t.same(followed, ['bar0 ee'], 'a MAC that differs from the beginning');
  t.same([links.macOf('bar0'), links.mtuBytesOf('bar0')], [0xee, 1400], 'an MTU as well');

  change(20, 'foo0', { mac: 0xa0 });
  await becomes(null);
  t.equal(links.portTrouble('foo0'), undefined);
  change(20, 'foo0', { mac: 0xa0, mtuBytes: 9000 });
  await becomes('port foo0: its interface has an MTU of 9000: packets above 1500 will be dropped');
  t.equal(links.portTrouble('foo0'), undefined, 'which is no reason not to be up');
  change(20, 'foo0', { mac: 0xa0, mtuBytes: 1300 });
  await becomes(null);
  t.equal(links.mtuBytesOf('foo0'), 1300, 'a smaller one is shown');
  change(20, 'foo0', { mac: 0xee });
  await becomes('port foo0: its interface has the MAC 00:00:00:00:00:ee, which is that of port bar0');
  t.equal(links.portTrouble('foo0'), 'has the MAC 00:00:00:00:00:ee');
  pinned.add('foo0');
  links.protectionChanged('foo0');
  await becomes(
    'port foo0: its interface has the MAC 00:00:00:00:00:ee, and link protection keeps it to 00:00:00:00:00:a0',
  );
  change(20, 'foo0', { mac: 0xee, up: false });
  await becomes(
    'port foo0: its interface was set down, and has the MAC 00:00:00:00:00:ee, and link protection keeps it to ' +
      '00:00:00:00:00:a0',
  );
  pinned.clear();
  links.forgetPort('bar0');
  await becomes('port foo0: its interface was set down');
  t.same(followed, ['bar0 ee', 'foo0 ee'], 'once no port has it');
  links.forgetPort('foo0');
  await becomes(null);

  const destination = links.peersChanged.bind(links);
  kernel.routes.set(THREE, 22);
  kernel.setLink(22, 'baz0');
  const baz = tapOf(kernel, overlay, 'baz0');
  const { changes } = datapath;
  const loops = () => [overlay.loops, datapath.changes - changes];
  links.followPort(baz, { name: 'baz0', configured: 22, mtuBytes: 1500, isPinned: () => false });
  destination([THREE], []);
  await becomes('the route to 10.0.0.3 leads into baz0, a port of this overlay');
  t.same(loops(), [[THREE], 1], 'the datapath is told, once');
  t.ok(links.carrier, 'and the port keeps its carrier, which the route would go with');
  kernel.routes.set(THREE, UNDER);
  kernel.tell({ about: 'route' });
  await becomes(null);
  t.same(loops(), [[], 2], 'and that it is over');
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
  t.match(details, /^x{256}; no mapping; .*; and \d+ more \(see the log\)$/);
  t.ok(details.length < 600, 'as far as there is room');
  t.end();
});
