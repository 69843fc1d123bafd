// Answers that age: what is asked ahead, what is used although it is old, and what ends. Time is the lab's.
import t from 'tap';

import type { LookupAnswer } from '../../src/datapath/contract.js';
import { frame, MAC } from '../helpers/lab.js';
import { asking, inner, remote, times } from '../helpers/scenes.js';

const FAILED: LookupAnswer = { kind: 'drop', reason: 'lookup_failed' };
const TIMEOUT: LookupAnswer = { kind: 'drop', reason: 'lookup_timeout' };
const NOWHERE: LookupAnswer = { kind: 'drop', reason: 'lookup_drop', ttlMs: 1000 };
const HOUR_MS = 3_600_000;

/** A host that asks about MACs, its clock, and a plugin whose answers come late. */
function site(options = {}) {
  const scene = asking({ negativeTtlMs: 1000, ...options });
  const { vtep, net, port, peer } = scene;
  const clock = { ms: 0 };
  const late: { readonly atMs: number; readonly act: () => void }[] = [];
  /** Passes time in steps of 10 ms; before each, `act` is called. */
  const pass = (ms: number, act: () => void = () => undefined, stepMs = 10): void => {
    for (const endMs = clock.ms + ms; clock.ms < endMs;) {
      act();
      clock.ms += stepMs;
      vtep.engine.setTime(clock.ms);
      while (late.length > 0 && late[0].atMs <= clock.ms) late.shift()!.act();
    }
  };
  /** Returns how many frames arrive at once. */
  const send = (index = 1): number => {
    port.send(frame(remote(index), MAC.a));
    return inner(peer).length;
  };
  const target = (age: { ttlMs: number; staleMs?: number }): LookupAnswer => ({
    kind: 'target',
    to: [peer.local],
    ...age,
  });
  /** Answers every question with this after `delayMs`. */
  const answering = (answer: () => LookupAnswer, delayMs: number): void => {
    vtep.resolve = (question) => {
      late.push({
        atMs: clock.ms + delayMs,
        act: () => {
          net.answer(question, answer());
        },
      });
      return undefined;
    };
  };
  const learn = (age: { ttlMs: number; staleMs?: number }, index = 1): void => {
    send(index);
    net.answer(vtep.questions.at(-1), target(age));
    inner(peer);
  };
  const asked = (): number => vtep.questions.length;
  return { ...scene, clock, pass, send, target, answering, learn, asked };
}

await t.test('ttl 1 s and a backend of 500 ms: no frame of a flow waits', (t) => {
  const { pass, send, target, answering, asked, net, peer } = site();
  answering(() => target({ ttlMs: 1000 }), 500);
  send();
  pass(500);
  inner(peer);
  let [sent, arrived] = [0, 0];
  pass(60_000, () => {
    sent++;
    arrived += send();
  });
  t.equal(arrived, sent);
  t.strictSame(net.drops, {});
  t.ok(asked() >= 40 && asked() <= 80, `${asked()} questions in a minute`);
  t.end();
});

await t.test('the plugin is asked ahead once, and only about what is in use', (t) => {
  const { pass, send, learn, asked, net, vtep, target } = site();
  learn({ ttlMs: 60_000 });
  learn({ ttlMs: 60_000 }, 2);
  pass(1000);
  t.equal(send(), 1, 'one of them is used');
  pass(43_900);
  t.equal(asked(), 2, 'not before the last quarter');
  pass(15_000);
  t.equal(asked(), 3, 'asked about in the last quarter, without another frame');
  t.match(vtep.questions[2], { destinationMac: remote(1), etherType: 0, frame: undefined });
  pass(10_000, () => void send());
  t.equal(asked(), 3, 'once, though the answer is late');
  t.strictSame(
    net.targets().map(({ mac }) => mac),
    [remote(1)],
    'the other one has ended',
  );
  t.match(net.facts(remote(1)), { isStale: true, ttlMs: 0, staleMs: undefined });
  t.ok(net.counters.tx_stale > 0, 'its frames are counted as stale');
  const stale = net.counters.tx_stale;
  net.answer(vtep.questions[2], target({ ttlMs: 60_000 }));
  t.match(net.facts(remote(1)), { isStale: false, ttlMs: 60_000 });
  t.equal(send(), 1);
  t.equal(net.counters.tx_stale, stale);
  t.end();
});

await t.test('an idle target within its staleMs is used and asked about at once', (t) => {
  const { pass, send, learn, asked, net, vtep, target } = site();
  learn({ ttlMs: 1000, staleMs: 5000 });
  t.match(net.facts(remote(1)), { ttlMs: 1000, isStale: false, staleMs: 5000 });
  pass(3000);
  t.equal(asked(), 1);
  t.match(net.facts(remote(1)), { ttlMs: 0, isStale: true, staleMs: 3000 });
  t.strictSame([send(), asked()], [1, 2], 'used, and asked about');
  net.answer(vtep.questions[1], target({ ttlMs: 1000, staleMs: 5000 }));
  pass(6000);
  t.strictSame([send(), asked()], [0, 3], 'not after its stale end');
  net.answer(vtep.questions[2], FAILED);
  t.strictSame([net.drops, send()], [{ lookup_failed: 1 }, 0], 'nor when asking fails then');
  t.end();
});

await t.test(
  'an idle target without staleMs: the frame waits, and goes there after all if asking fails',
  (t) => {
    for (const failure of [FAILED, TIMEOUT]) {
      const { pass, send, learn, asked, net, vtep, peer, target } = site();
      learn({ ttlMs: 1000 });
      pass(2000);
      t.strictSame([send(), send(), asked()], [0, 0, 2], 'they wait');
      t.match(net.targets(), [{ state: 'pending' }]);
      net.answer(vtep.questions[1], failure);
      t.strictSame([inner(peer).length, send(), net.drops], [2, 1, {}]);
      t.match(net.facts(remote(1)), { isStale: true, origin: 'plugin' });
      net.answer(vtep.questions[1], target({ ttlMs: 1000 }));
      t.match(net.facts(remote(1)), { isStale: true }, 'a question has one answer');
    }
    const { pass, send, learn, net, vtep, peer } = site();
    learn({ ttlMs: 1000 });
    pass(HOUR_MS + 2000, undefined, 1000);
    send();
    net.answer(vtep.questions.at(-1), FAILED);
    t.strictSame([inner(peer).length, net.drops], [0, { lookup_failed: 1 }], 'not after an hour');
    t.end();
  },
);

await t.test(
  'while the plugin is in trouble a target in use stays, and is asked about more and more seldom',
  (t) => {
    for (const failure of [FAILED, TIMEOUT]) {
      const { clock, pass, send, learn, answering, vtep, net, peer, target } = site();
      learn({ ttlMs: 10_000 });
      const askedMs: number[] = [];
      let answer: LookupAnswer = failure;
      answering(() => {
        askedMs.push(clock.ms);
        return answer;
      }, 0);
      let [sent, arrived] = [0, 0];
      const ping = (): void => {
        sent++;
        arrived += send();
      };
      pass(3 * HOUR_MS, ping, 500);
      t.equal(arrived, sent, 'for hours');
      t.strictSame(net.drops, {});
      const askedAt = askedMs.slice(1); // without the one above, which the plugin answers again
      const pauses = askedAt.slice(1).map((ms, index) => ms - askedAt[index]);
      t.ok(
        pauses.slice(0, 6).every((ms, index) => ms >= 1000 * 2 ** index && ms < 2000 * 2 ** index + 1000),
        `the pauses double: ${pauses.slice(0, 7).join()}`,
      );
      t.ok(
        pauses.slice(6).every((ms) => ms >= 32_000 && ms <= 65_000),
        'up to a minute',
      );
      answer = target({ ttlMs: 10_000 });
      pass(65_000, ping, 500);
      t.match(net.facts(remote(1)), { isStale: false }, 'the first answer ends it');
      t.equal(arrived, sent);
      const before = askedMs.length;
      answer = failure;
      pass(HOUR_MS, undefined, 1000);
      t.ok(askedMs.length <= before + 2, 'what is not used costs no more questions');
      t.equal(inner(peer).length, 0);
      vtep.resolve = undefined;
    }
    t.end();
  },
);

await t.test('with staleMs a target ends at its stale end, whatever the plugin does', (t) => {
  for (const staleMs of [0, 2000]) {
    const { clock, pass, send, learn, answering, net } = site();
    learn({ ttlMs: 1000, staleMs });
    answering(() => FAILED, 100);
    const lost: number[] = [];
    pass(3500, () => {
      if (send() === 0) lost.push(clock.ms);
    });
    t.equal(lost[0], 1000 + staleMs, 'the first that is not sent');
    t.equal(lost.length, (3500 - lost[0]) / 10, 'and none later');
    t.ok((net.drops.lookup_failed ?? 0) > 0);
  }
  t.end();
});

await t.test('a drop of the plugin ends a target, and invalidate forgets a stale one at once', (t) => {
  const { pass, send, learn, asked, net, vtep, target } = site();
  learn({ ttlMs: 1000, staleMs: HOUR_MS });
  pass(2000);
  t.equal(send(), 1);
  net.answer(vtep.questions[1], NOWHERE);
  t.strictSame([send(), net.drops], [0, { lookup_drop: 1 }], 'it is no failure');
  pass(1000);
  learn({ ttlMs: 1000, staleMs: HOUR_MS });
  pass(2000);
  t.equal(send(), 1);
  const underWay = vtep.questions.at(-1);
  for (const what of [remote(1), undefined]) {
    net.invalidate(what);
    const before = asked();
    t.strictSame([send(), asked()], [0, before + 1], 'the next frame waits');
    net.answer(underWay, target({ ttlMs: 1e6 }));
    t.match(net.targets(), [{ state: 'pending' }], 'the answer under way is too old');
    net.answer(vtep.questions.at(-1), FAILED);
    t.match(net.targets(), [{ state: 'drop' }], 'nothing was kept');
    pass(1000);
    learn({ ttlMs: 1000, staleMs: HOUR_MS });
    pass(2000);
    t.equal(send(), 1);
  }
  // One that waits, and was known before.
  learn({ ttlMs: 1000 }, 2);
  pass(2000);
  t.equal(send(2), 0);
  net.invalidate(remote(2));
  net.answer(vtep.questions.at(-1), FAILED);
  t.equal(send(2), 0, 'what was kept is forgotten as well');
  t.end();
});

await t.test('10,000 targets that age together are not asked about together, and none is lost', (t) => {
  const COUNT = 10_000;
  const { clock, pass, net, vtep, port, peer, target } = site({ maxTargets: 2 * COUNT });
  net.setTargets(times(COUNT, (index) => ({ mac: remote(index), to: [peer.local], ttlMs: 60_000 })));
  const perSecond = new Map<number, number>();
  const frames = times(COUNT, (index) => frame(remote(index), MAC.a, 60));
  let [sent, arrived] = [0, 0];
  for (let round = 0; round < 6; round++) {
    port.send(...frames);
    sent += COUNT;
    arrived += inner(peer).length;
    for (let step = 0; step < 3000; step++) {
      pass(10);
      if (step % 10 !== 0) continue;
      const second = Math.floor(clock.ms / 1000);
      perSecond.set(second, (perSecond.get(second) ?? 0) + vtep.questions.length);
      for (const question of vtep.questions.splice(0)) net.answer(question, target({ ttlMs: 60_000 }));
    }
  }
  t.equal(arrived, sent, 'each frame arrives at once');
  t.strictSame(net.drops, {});
  const most = Math.max(...perSecond.values());
  t.ok(most <= 1256, `at most ${most} questions in a second`);
  const busy = [...perSecond.values()].filter((count) => count > 0).length;
  t.ok(busy > 20, `in ${busy} seconds`);
  t.end();
});

await t.test('a target of a group is not asked about ahead; its frames use it when asking fails', (t) => {
  const { pass, net, port, peer, vtep, target } = site();
  const send = (): number => {
    port.send(frame(MAC.group, MAC.a));
    return inner(peer).length;
  };
  for (const [age, isKept] of [
    [{ ttlMs: 1000 }, true],
    [{ ttlMs: 1000, staleMs: 5000 }, true],
    [{ ttlMs: 1000, staleMs: 0 }, false],
  ] as const) {
    net.invalidate();
    send();
    net.answer(vtep.questions.at(-1), target(age));
    inner(peer);
    const before = vtep.questions.length;
    pass(
      1500,
      () => {
        if (net.facts(MAC.group)?.ttlMs !== undefined) t.equal(send(), 1);
      },
      300,
    );
    t.equal(vtep.questions.length, before);
    t.equal(send(), 0, 'the frame waits for an answer of its own');
    net.answer(vtep.questions.at(-1), FAILED);
    t.equal(inner(peer).length, isKept ? 1 : 0);
  }
  t.end();
});

await t.test('a target of before a restart ends at its stale end, if it has one', (t) => {
  const { pass, send, net, vtep, peer, answering } = site();
  answering(() => TIMEOUT, 1000);
  const targets = [
    { mac: remote(1), to: [peer.local] },
    { mac: remote(2), to: [peer.local], staleMs: 5000 },
  ];
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets });
  t.match(net.facts(remote(2)), { isStale: true, staleMs: 5000, origin: 'restored' });
  pass(4000);
  t.strictSame([send(1), send(2)], [1, 1]);
  pass(2000);
  t.strictSame([send(1), send(2)], [1, 0]);
  t.end();
});

await t.test('an overlay that ends asks nothing more', (t) => {
  const { pass, send, learn, asked, net, vtep } = site();
  learn({ ttlMs: 1000 });
  send();
  t.ok(vtep.engine.waitMs >= 0, 'the thread has something to wait for');
  net.remove();
  t.equal(vtep.engine.waitMs, -1);
  pass(5000);
  t.equal(asked(), 1);
  t.end();
});
