// The target table: states and times, its bounds, who gives way, reading it page by page.
import t from 'tap';
import { NONE } from '../../src/core/tables/mac-index.js';
import { DROP, FREE, MAX_TTL_MS, NOWHERE, TargetTable, VALID } from '../../src/core/tables/target-table.js';
import { frame, MAC } from '../helpers/lab.js';
import { asking, inner, remote, VXLAN_100 } from '../helpers/scenes.js';

/** As many MACs as are remembered without a target. */
const ASKED = 65_536;

await t.test('a scan takes no target away', (t) => {
  const { vtep, net, port, peer, lab } = asking({ maxTargets: 100 });
  for (let index = 0; index < 100; index++) net.setTarget(remote(index), [peer.local]);
  for (let index = 1000; index < 101_000; index += 1000) {
    port.send(...Array.from({ length: 1000 }, (_, next) => frame(remote(index + next), MAC.a, 60)));
    vtep.engine.setTime(index);
    for (const question of vtep.questions.splice(0))
      net.answer(question, { kind: 'drop', reason: 'lookup_drop' });
  }
  t.strictSame(net.drops, { lookup_drop: 100_000 }, 'each was asked about');
  t.equal(net.targets(remote(999), 200_000).length, 1000, 'the last ones are nowhere for a second');
  net.setTarget(remote(200_000), []);
  port.send(...Array.from({ length: 99 }, (_, index) => frame(remote(1 + index), MAC.a)));
  t.equal(inner(peer).length, 99, 'the known ones go on');
  t.equal(vtep.questions.length, 0, 'without a question');
  t.equal(net.targets(remote(199_999), 10).length, 1, 'what the operator set is one of them');

  // Whatever their answers: what a plugin says is nowhere for ever is not the operator's word.
  for (let index = 300_000; index < 300_000 + 2 * ASKED; index += 1024) {
    vtep.engine.setTime(index);
    port.send(...Array.from({ length: 1024 }, (_, next) => frame(remote(index + next), MAC.a, 60)));
    for (const question of vtep.questions.splice(0))
      net.answer(question, { kind: 'drop', reason: 'lookup_drop', ttlMs: Infinity });
  }
  t.equal(net.targets(remote(299_999), 200_000).length, ASKED, 'those have a bound of their own');
  t.equal(net.targets(-1, 200_000).length, ASKED + 100);
  lab.datagrams.length = 0;
  port.send(frame(remote(200_000), MAC.a), frame(remote(99), MAC.a));
  t.equal(inner(peer).length, 1);
  t.end();
});

await t.test('states and times of a target', (t) => {
  const { vtep, net, port, peer, target } = asking({ negativeTtlMs: 200 });
  const send = () => {
    port.send(frame(remote(1), MAC.a));
    return inner(peer).length;
  };
  const asked = () => vtep.questions.length;
  const state = () => net.targets().map((row) => row.state);
  t.strictSame([send(), asked(), state()], [0, 1, ['pending']]);
  net.answer(vtep.questions[0], target(50));
  t.strictSame([inner(peer).length, send(), state()], [1, 1, ['valid']], 'valid');
  t.strictSame(net.targets(), [{ mac: remote(1), state: 'valid', to: [peer.local] }]);
  vtep.engine.setTime(49);
  t.strictSame([send(), asked()], [1, 2], 'in use, it is asked about shortly before its time is over');
  vtep.engine.setTime(50);
  t.strictSame([state(), send(), asked()], [['valid'], 1, 2], 'and used until the answer is there');
  net.answer(vtep.questions[1], { kind: 'drop', reason: 'lookup_drop' });
  t.strictSame([state(), net.targets()[0].to, send()], [['drop'], [], 0]);
  t.strictSame(net.drops, { lookup_drop: 1 });
  vtep.engine.setTime(249);
  t.strictSame([send(), asked()], [0, 2], 'a drop lasts negativeTtlMs');
  vtep.engine.setTime(250);
  t.strictSame([send(), asked()], [0, 3]);
  net.answer(vtep.questions[2], { kind: 'drop', reason: 'lookup_timeout', ttlMs: 0 });
  t.strictSame([send(), asked()], [0, 4], 'or its own ttl');
  net.answer(vtep.questions[3], { kind: 'target', to: [], ttlMs: 1000 });
  t.strictSame(
    [net.drops, state()],
    [{ lookup_drop: 3, lookup_timeout: 1 }, ['drop']],
    'a target that is nowhere',
  );
  net.setTarget(remote(1), [peer.local], Infinity);
  vtep.engine.setTime(MAX_TTL_MS * 1.9);
  t.equal(send(), 1, 'for ever');
  t.end();
});

await t.test('a target that moved leaves no peer behind', (t) => {
  const { lab, vtep, net, port, peer } = asking();
  const before = lab.peer('192.0.2.3');
  const accepted = () => {
    lab.inject(before, vtep, VXLAN_100, frame(MAC.a, remote(1)));
    return port.take().length;
  };
  net.setTarget(remote(1), [before.local], 10);
  t.equal(accepted(), 1);
  vtep.engine.setTime(10);
  port.send(frame(remote(1), MAC.a));
  t.equal(accepted(), 1, 'kept while it is asked for again');
  net.answer(vtep.questions[0], { kind: 'target', to: [before.local, peer.local], ttlMs: 10 });
  t.equal(accepted(), 1);
  vtep.engine.setTime(20);
  port.send(frame(remote(1), MAC.a));
  t.equal(accepted(), 1, 'a flood list, too');
  net.answer(vtep.questions[1], { kind: 'target', to: [peer.local], ttlMs: 1e6 });
  t.strictSame([inner(peer).length, accepted()], [2, 0]);
  t.end();
});

await t.test('ticks run over, ttls do not', (t) => {
  const table = new TargetTable(10, 10, () => undefined);
  for (const start of [0, 0x7fff_ff00, -0x100, -0x8000_0000]) {
    const now = (ms: number) => (start + ms / 10) | 0;
    const row = table.insert(1, start, now(0));
    table.settle(row, VALID, 0, { ttlMs: 10_000 }, now(0), 'set');
    t.strictSame(
      [0, 9_990, 10_000, 1e6].map((ms) => table.state(row, now(ms))),
      [VALID, VALID, FREE, FREE],
    );
    table.settle(row, DROP, NOWHERE, { ttlMs: 1e15 }, now(0), 'set');
    t.strictSame(
      [0, MAX_TTL_MS - 10, MAX_TTL_MS].map((ms) => table.state(row, now(ms))),
      [DROP, DROP, FREE],
    );
  }
  t.end();
});

await t.test('what is over stays so, though the ticks run over', (t) => {
  const { vtep, net, port, peer } = asking();
  const day = 86_400_000;
  const states = () => net.targets().map(({ mac, state }) => [mac - remote(0), state]);
  net.setTarget(remote(1), [peer.local], 1000);
  net.setTarget(remote(2), [peer.local], Infinity);
  net.setTarget(remote(3), [], 1000);
  for (let now = 2000; now < 600 * day; now += 20 * day) {
    vtep.engine.setTime(now);
    t.strictSame(states(), [[2, 'valid']], `after ${Math.floor(now / day)} days`);
  }
  net.setTarget(remote(4), [peer.local], 100 * day);
  vtep.engine.setTime(650 * day);
  t.strictSame(
    states(),
    [
      [2, 'valid'],
      [4, 'valid'],
    ],
    'what is not over goes on',
  );
  // Not a frame and not a command for two thirds of a year, in which the ticks run over.
  let now = 1000;
  for (const silence of [200, 250, 300, 400, 497]) {
    vtep.engine.setTime(now * day);
    net.setTarget(remote(5), [peer.local], 1000);
    vtep.engine.setTime((now += silence) * day);
    t.strictSame(states(), [[2, 'valid']], `after ${silence} days of silence`);
  }
  port.send(frame(remote(2), MAC.a));
  t.equal(inner(peer).length, 1);
  t.end();
});

await t.test('where a row came from, its age, its last use, and the end of it', (t) => {
  const { vtep, net, port, peer } = asking();
  const facts = (index: number) => net.facts(remote(index));
  vtep.engine.setTime(1000);
  vtep.obey({
    kind: 'set-target',
    overlay: net.id,
    mac: remote(1),
    to: [peer.local],
    ttlMs: 60_000,
    origin: 'pushed',
  });
  net.setTarget(remote(2), []);
  port.send(frame(remote(3), MAC.a));
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets: [{ mac: remote(4), to: [peer.local] }] });
  vtep.engine.setTime(5000);
  const fresh = { isStale: false, staleMs: undefined };
  t.same(facts(1), { origin: 'pushed', ageMs: 4000, idleMs: undefined, ttlMs: 56_000, ...fresh });
  t.same(facts(2), { origin: 'set', ageMs: 4000, idleMs: undefined, ttlMs: undefined, ...fresh });
  t.same(
    facts(3),
    { origin: undefined, ageMs: 4000, idleMs: 4000, ttlMs: undefined, ...fresh },
    'which awaits its answer',
  );
  t.same(facts(4), {
    origin: 'restored',
    ageMs: 4000,
    idleMs: undefined,
    ttlMs: 0,
    isStale: true,
    staleMs: undefined,
  });
  net.answer(vtep.questions[0], { kind: 'target', to: [peer.local], ttlMs: 10_000 });
  port.send(frame(remote(1), MAC.a), frame(remote(2), MAC.a), frame(remote(4), MAC.a));
  vtep.engine.setTime(7000);
  t.match(facts(1), { origin: 'pushed', ageMs: 6000, idleMs: 2000, ttlMs: 54_000 });
  t.match(facts(2), { idleMs: 2000 }, 'a drop is a use, too');
  t.match(facts(3), { origin: 'plugin', ageMs: 2000, idleMs: 6000, ttlMs: 8000 });
  t.match(facts(4), { origin: 'restored', idleMs: 2000 });
  net.answer(vtep.questions[1], { kind: 'target', to: [peer.local], ttlMs: Infinity });
  t.match(facts(4), { origin: 'plugin', ageMs: 0, idleMs: 2000 }, 'once the plugin has said so');
  const day = 86_400_000;
  for (let now = 10; now <= 300; now += 10) {
    vtep.engine.setTime(now * day);
    const { ageMs = 0, idleMs = 0 } = facts(4) ?? {};
    const days = [ageMs, idleMs].map((ms) => Math.round(ms / day));
    const expected = Math.min(now, 124);
    t.ok(
      days.every((one) => Math.abs(one - expected) <= 31 && one >= expected),
      `after ${now} days: ${days.join()}`,
    );
  }
  t.end();
});

await t.test('a full table loses what was not used for longest', (t) => {
  const { vtep, net, port, peer } = asking({ maxTargets: 4 });
  const macs = () => net.targets().map(({ mac }) => mac - remote(0));
  for (const index of [1, 2, 3, 4]) net.setTarget(remote(index), [peer.local]);
  vtep.engine.setTime(2000);
  port.send(frame(remote(1), MAC.a), frame(remote(3), MAC.a));
  net.setTarget(remote(5), [peer.local]);
  t.strictSame(macs(), [1, 3, 4, 5]);
  net.setTarget(remote(6), []);
  t.strictSame(macs(), [1, 3, 5, 6]);
  vtep.engine.setTime(4000);
  port.send(frame(remote(6), MAC.a)); // a drop is a use, too
  for (const index of [7, 8, 9]) net.setTarget(remote(index), [peer.local]);
  t.strictSame(macs(), [6, 7, 8, 9]);

  vtep.engine.setTime(8000);
  inner(peer);
  port.send(frame(remote(10), MAC.a));
  t.strictSame(macs(), [6, 7, 8, 9, 10], 'a frame that waits takes nothing away');
  net.answer(vtep.questions[0], { kind: 'target', to: [peer.local], ttlMs: 1e6 });
  t.strictSame([macs(), inner(peer).length], [[7, 8, 9, 10], 1], 'its target does');
  t.end();
});

await t.test('what waits for longest makes room for the next question', (t) => {
  const evicted: number[] = [];
  const table: TargetTable = new TargetTable(2, 2, (row) => evicted.push(table.macLow(row)));
  const waiting = [1, 2, 3].map((mac) => table.insert(0, mac, 0));
  t.strictSame([evicted.splice(0), table.find(0, 1)], [[1], NONE]);
  table.settle(waiting[1], VALID, 0, { ttlMs: 100 }, 0, 'set');
  table.insert(0, 4, 0);
  t.strictSame(evicted.splice(0), [], 'a target is none of them');
  table.reopen(waiting[1], 0, false);
  t.strictSame(evicted.splice(0), [3], 'until it is asked for again');
  t.equal(table.size, 2);
  t.end();
});

await t.test('an entry that is asked for again is a fresh one', (t) => {
  const { vtep, net, port, peer, target } = asking({ maxTargets: 2 });
  net.setTarget(remote(1), [peer.local], 10);
  net.setTarget(remote(2), [peer.local]);
  vtep.engine.setTime(5000);
  port.send(frame(remote(1), MAC.a));
  net.setTarget(remote(3), [peer.local]);
  net.answer(vtep.questions[0], target());
  t.strictSame([inner(peer).length, net.drops], [1, {}], 'the one that nobody used made room');
  t.end();
});

await t.test('the table is read page by page, in order of MAC', (t) => {
  const { vtep, net, port, peer } = asking({ maxTargets: 5000 });
  const macs = Array.from({ length: 1000 }, (_, index) => (index * 0x9e37_79b1) % 0xfeff_ffff_ffff).sort(
    (a, b) => a - b,
  );
  for (const mac of macs.toReversed()) net.setTarget(mac, [peer.local], mac % 2 === 0 ? 100 : Infinity);
  const pages = (limit: number) => {
    const seen: number[] = [];
    for (let after = -1; ;) {
      const page = net.targets(after, limit).map(({ mac }) => mac);
      if (page.length === 0) return seen;
      if (page.length > limit) t.fail(`a page of ${page.length}`);
      seen.push(...page);
      after = page[page.length - 1];
    }
  };
  for (const limit of [1, 7, 100, 5000]) t.strictSame(pages(limit), macs, `pages of ${limit}`);
  vtep.engine.setTime(100);
  t.strictSame(
    pages(64),
    macs.filter((mac) => mac % 2 === 1),
    'expired ones are not there',
  );
  const last = 0xfeff_ffff_ffff;
  port.send(frame(last, MAC.a), frame(MAC.all, MAC.a));
  t.strictSame(
    net.targets(last - 1, 10),
    [{ mac: last, state: 'pending', to: [] }],
    'group frames have no entry',
  );
  t.strictSame(net.targets(last, 10), []);
  t.end();
});
