// A target table of any size is read, flushed and let go of in parts, and what is said of it is right all the same.
import t, { type Test } from 'tap';
import type { TargetDescription, TargetScan } from '../../src/core/tables/target-rows.js';
import { AGE_EVERY_MS } from '../../src/core/tables/target-table.js';
import { readRecent, readTargets } from '../../src/datapath/userland/main/table-reader.js';
import type { Link, Request } from '../../src/datapath/userland/main/thread.js';
import type { MacAddress } from '../../src/wire/mac.js';
import { frame, Lab, MAC, type Net, type Vtep } from '../helpers/lab.js';
import { stepsOf } from '../helpers/steps.js';

const COUNT = 100_000;
const FIRST = 0x0200_0100_0000;
/** In an order in which no part has neighbours only. */
const macAt = (index: number, count = COUNT): MacAddress => FIRST + ((index * 7919) % count);
/** Rows or MACs of one part; some 0.3 ms. */
const MAX_SCANNED = 32_768;
const MAX_DESCRIBED = 256;

function filled(count = COUNT): { vtep: Vtep; net: Net; lab: Lab; to: Vtep['endpoint'] } {
  const lab = new Lab();
  const { local: to } = lab.peer('192.0.2.77');
  const vtep = lab.vtep('192.0.2.1');
  const net = vtep.overlay({ maxTargets: 2 * COUNT });
  for (let index = 0; index < count; index++)
    vtep.engine.obey({
      kind: 'set-target',
      overlay: net.id,
      mac: macAt(index, count),
      to: [to],
      ttlMs: Infinity,
      origin: 'set',
    });
  return { vtep, net, lab, to };
}

/** A thread; `between` happens before each part, and the parts are checked. */
function link(t: Test, vtep: Vtep, between: (part: number) => void = () => undefined): Link {
  let part = 0;
  const request = (what: Request): Promise<unknown> => {
    between(part++);
    const value = vtep.ask({ ...what, reply: 1 });
    if (what.kind === 'describe-targets') {
      if (what.macs.length > MAX_DESCRIBED) t.fail(`${what.macs.length} described at a time`);
      const { rows } = value as TargetDescription;
      const destinations = rows.reduce((sum, { to }) => sum + to.length, 0);
      if (destinations > 512 + 1024) t.fail(`${destinations} destinations at a time`);
    } else if ('from' in what) {
      const { next } = value as TargetScan;
      if (next !== undefined && next - what.from > MAX_SCANNED) t.fail(`${next - what.from} rows at a time`);
    }
    return Promise.resolve(value);
  };
  return {
    post: (command) => {
      vtep.obey(command);
    },
    invalidate: () => undefined,
    request,
    inspect: request,
  };
}

async function listed(links: readonly Link[], net: Net, limit: number): Promise<MacAddress[]> {
  const macs: MacAddress[] = [];
  for (let after: MacAddress | undefined = -1; after !== undefined;) {
    const page = await readTargets(links, net.id, after, limit);
    macs.push(...page.entries.map(({ mac }) => mac));
    after = page.next;
  }
  return macs;
}

await t.test('pages: ascending, and what is there all the time is there once', async (t) => {
  const { vtep, net, to } = filled();
  const [EVEN, ODD] = [2, 3];
  const gone = new Set<MacAddress>();
  const isLasting = (mac: MacAddress): boolean => mac >= FIRST && mac < FIRST + COUNT && !gone.has(mac);
  const links = [
    link(t, vtep, (part) => {
      // Some come and some go, and rows are used again, while it is read.
      for (let index = part * 10; index < part * 10 + 10 && index < COUNT; index++) {
        gone.add(macAt(index));
        net.deleteTarget(macAt(index));
        net.setTarget(FIRST + COUNT * (index % 2 === 0 ? EVEN : -ODD) + index, [to]);
        net.setTarget(macAt(index), [to]);
      }
    }),
  ];
  const found = await listed(links, net, 4096);
  t.ok(
    found.every((mac, index) => index === 0 || mac > found[index - 1]),
    'ascending',
  );
  const lasting = Array.from({ length: COUNT }, (_, index) => FIRST + index).filter(isLasting);
  t.same(found.filter(isLasting), lasting, 'none is left out, none comes twice');
});

await t.test('pages of any size, of two threads, some targets with many destinations', async (t) => {
  const { vtep, net, lab, to } = filled(5000);
  const other = lab.vtep('192.0.2.2');
  const second = other.overlay({ maxTargets: COUNT });
  const many = Array.from({ length: 1024 }, (_, index) => ({ ...to, port: 1 + index }));
  for (let index = 0; index < 40; index++) net.setTarget(FIRST - 1 - index, many);
  for (let index = 4000; index < 6000; index++) second.setTarget(FIRST + index, [to]);
  t.equal(net.id, second.id);
  const links = [link(t, vtep), link(t, other)];
  const expected = Array.from({ length: 6040 }, (_, index) => FIRST - 40 + index);
  for (const limit of [1000, 4096, 6040, 7000]) t.same(await listed(links, net, limit), expected, `${limit}`);
  const { entries } = await readTargets(links, net.id, -1, 4096);
  t.ok(entries.length < 40, `${entries.length} of a thousand destinations are a page`);
});

await t.test('those used last, of a large table', async (t) => {
  const { vtep, net } = filled();
  const used = [5, 99_999, 50_000].map((index) => macAt(index));
  for (const [index, mac] of used.entries()) {
    vtep.engine.setTime(10_000 * (index + 1));
    net.port(MAC.a + 256 * (index + 1)).send(frame(mac, MAC.a + 256 * (index + 1)));
  }
  const recent = await readRecent([link(t, vtep)], net.id, 16_384);
  t.equal(recent.length, 16_384);
  t.equal(new Set(recent.map(({ mac }) => mac)).size, 16_384, 'each once');
  t.same(
    recent.slice(0, 3).map(({ mac }) => mac),
    used.reverse(),
    'the one used last first',
  );
});

await t.test('a flush is in force at once, and done in parts', async (t) => {
  const { vtep, net, to } = filled();
  const tap = net.port(MAC.a, { own: true });
  vtep.obey({
    kind: 'restore-targets',
    overlay: net.id,
    targets: [{ mac: MAC.c, to: [to] }],
  });
  vtep.engine.setTime(5000);
  tap.send(frame(MAC.b, MAC.a), frame(MAC.c, MAC.a));
  t.match(
    vtep.questions,
    [{ destinationMac: MAC.b }, { destinationMac: MAC.c }],
    'one waits, one is confirmed',
  );
  const [, confirmed] = vtep.questions;
  net.invalidate();
  t.match(vtep.questions.slice(2), [{ destinationMac: MAC.b }], 'what waits is asked again');
  t.same(
    net.targets().map(({ mac, state }) => [mac, state]),
    [[MAC.b, 'pending']],
    'nothing else is known',
  );
  t.match(vtep.peerChanges, [{ isPeer: true }], 'the rest is for later');
  net.answer(confirmed, { kind: 'target', to: [to], ttlMs: Infinity });
  tap.send(frame(macAt(1), MAC.a), frame(macAt(99_999), MAC.a), frame(MAC.c, MAC.a));
  t.match(
    vtep.questions.slice(3),
    [{ destinationMac: macAt(1) }, { destinationMac: macAt(99_999) }, { destinationMac: MAC.c }],
    'all is asked about again',
  );
  net.setTarget(macAt(2), [to]);
  let parts = 1;
  while (vtep.engine.tidy()) parts++;
  t.ok(parts > COUNT / 1024, `${parts} parts`);
  t.equal(vtep.ask({ kind: 'count-targets', overlay: net.id, reply: 1 }), 5);
  t.match(
    net.targets().filter(({ state }) => state === 'valid'),
    [{ mac: macAt(2) }],
    'what was set since stays',
  );
});

await t.test('an overlay with a large table goes in parts', async (t) => {
  const { vtep, net, lab } = filled();
  const other = vtep.overlay({ vnetid: 101 });
  const peers = (): number => vtep.peerChanges.filter(({ isPeer }) => !isPeer).length;
  net.remove();
  t.equal(peers(), 0, 'not all of it at once');
  lab.run();
  let parts = 1;
  while (vtep.engine.tidy()) parts++;
  t.ok(parts > COUNT / 1024, `${parts} parts`);
  t.same(other.targets(), []);
});

/** An overlay of many destinations, half of them at one address: those of even numbers. */
function manyDestinations(t: Test) {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const net = vtep.overlay({ maxTargets: COUNT + 1 });
  const tap = net.port(MAC.a, { own: true });
  const { ip } = vtep.lab.peer('192.0.2.77').local;
  const add = (index: number): void => {
    const to = [{ ip: index % 2 === 0 ? ip : vtep.endpoint.ip, port: 1 + (index >> 1) }];
    vtep.engine.obey({
      kind: 'set-target',
      overlay: net.id,
      mac: FIRST + index,
      to,
      ttlMs: Infinity,
      origin: 'set',
    });
  };
  for (let index = 0; index < COUNT; index++) add(index);
  /** Whether a frame to each of them is dropped under this reason. */
  const areDropped = (reason: 'tx_path_mtu' | 'tx_loop', indexes: readonly number[]): boolean[] =>
    indexes.map((index) => {
      const before = net.counters[reason];
      tap.send(frame(FIRST + index, MAC.a, 1400));
      return net.counters[reason] > before;
    });
  /** All that is left of it. */
  const tidyUp = (): void => {
    let parts = 1;
    for (let isLeft = true; isLeft; parts++) {
      const steps = stepsOf(() => {
        isLeft = vtep.engine.tidy();
      });
      if (steps > COUNT / 2) t.fail(`${steps} steps in a part`);
    }
    t.ok(parts > COUNT / 8192, `${parts} parts`);
  };
  return { ...{ vtep, net, ip, add, areDropped, tidyUp }, middle: COUNT / 2, last: COUNT - 2 };
}

await t.test('of many destinations, those that are loops are marked in parts', (t) => {
  const { vtep, net, ip, add, areDropped, tidyUp, middle, last } = manyDestinations(t);
  const name = (...destinations: string[]): void => {
    vtep.engine.obey({ kind: 'set-loops', overlay: net.id, destinations: destinations as (typeof ip)[] });
  };
  name(ip);
  t.same(areDropped('tx_loop', [0, middle, last]), [false, false, true], 'a part at once');
  add(COUNT);
  t.same(areDropped('tx_loop', [COUNT]), [true], 'and whatever comes meanwhile');
  tidyUp();
  t.same(areDropped('tx_loop', [0, 1, middle, last]), [true, false, true, true]);
  t.notOk(vtep.engine.tidy());
  name('192.0.2.78');
  tidyUp();
  t.same(areDropped('tx_loop', [0, middle, last]), [false, false, false], 'another is one');
  name(ip);
  name();
  t.same(areDropped('tx_loop', [0, middle, last, COUNT]), [false, false, false, false], 'none is, at once');
  t.notOk(vtep.engine.tidy());
  t.end();
});

await t.test('of many destinations, what their routes carry is looked at in parts', (t) => {
  const { vtep, net, ip, add, areDropped, tidyUp, middle, last } = manyDestinations(t);
  const name = (...mtuBytes: number[]): void => {
    const routes = mtuBytes.map((each) => ({ to: ip, mtuBytes: each }));
    vtep.engine.obey({ kind: 'set-route-mtus', overlay: net.id, routes });
  };
  const areNarrow = (...indexes: number[]): boolean[] => areDropped('tx_path_mtu', indexes);

  name(1280);
  t.same(areNarrow(0, middle, last), [false, false, true], 'a part at once');
  add(COUNT);
  t.same(areNarrow(COUNT), [true], 'and whatever comes meanwhile');
  vtep.engine.tidy();
  name(1300);
  tidyUp();
  t.same(areNarrow(0, middle, last, COUNT), [true, true, true, true]);
  t.notOk(vtep.engine.tidy());
  name();
  tidyUp();
  t.same(areNarrow(0, middle, last, COUNT), [false, false, false, false]);
  vtep.engine.setTime(AGE_EVERY_MS);
  tidyUp();
  t.end();
});
