// What the link watch says of the interfaces of ports, over a kernel that a test plays.

import t from 'tap';

import { PortMacs } from '../../src/daemon/underlay/port-macs.js';
import type { PortLink } from '../../src/daemon/underlay/port-watch.js';
import type { PortDeviceInfo } from '../../src/datapath/contract.js';
import { type MacAddress } from '../../src/wire/mac.js';
import { FakeKernel } from '../helpers/fake-kernel.js';
import { waitUntil } from '../helpers/process.js';
import { TWO, OVERLAY, newWatch, follow, portOf } from '../helpers/link-watch.js';

// Each has a kernel of its own, and waits for it most of the time.
t.jobs = 4;

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
