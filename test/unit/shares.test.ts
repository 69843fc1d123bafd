// Shares: what waits (frames, questions, broadcasts) is bounded for all, and the noisy one loses first. A noisy port beside
// quiet ones, a noisy overlay beside quiet ones, by way of the engine that the worker runs.
import t from 'tap';

import { MAX_BYTES, MAX_BYTES_PER_TARGET } from '../../src/core/queues/pending-queue.js';
import type { OverlayOptions, Question } from '../../src/core/overlay.js';
import { Shares } from '../../src/core/queues/shares.js';
import * as ethernet from '../../src/wire/ethernet.js';
import { frame, Lab, MAC, packet, type Net } from '../helpers/lab.js';
import { inner, OPEN_QUESTIONS, remote, times } from '../helpers/scenes.js';
import { stepsOf } from '../helpers/steps.js';

/** Of one overlay. */
const BROADCASTS = 256;

/** A host with a noisy port (MAC.a) and quiet ones (MAC.c, MAC.d), and a plugin that says nothing until it is asked to. */
function site(options: Partial<OverlayOptions> = {}) {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay(options);
  const [noisy, quiet, third] = [net.port(MAC.a), net.port(MAC.c), net.port(MAC.d)];
  const askedBy = (mac: number): Question[] => vtep.questions.filter(({ sourceMac }) => sourceMac === mac);
  const target = { kind: 'target', to: [peer.local], ttlMs: Infinity } as const;
  return { lab, vtep, peer, net, noisy, quiet, third, askedBy, target };
}

const numberOf = (bytes: Uint8Array): number => bytes[bytes.length - 1];
const numbered = (to: number, from: number, bytes: number, number: number): Uint8Array => {
  const made = frame(to, from, bytes);
  made[bytes - 1] = number;
  return made;
};

await t.test('who has most gives way, and nobody below an equal part', (t) => {
  const shares = new Shares<string>(12);
  shares.take('a', 12);
  t.notOk(shares.mayTake('a', 1));
  t.ok(shares.mayTake('b', 6), 'the half of it');
  t.notOk(shares.mayTake('b', 7));
  t.equal(shares.largest(), 'a');
  shares.giveBack('a', 4);
  shares.take('b', 2);
  shares.take('c', 2);
  t.notOk(shares.mayTake('a', 1));
  t.ok(shares.mayTake('c', 2), 'a third of it');
  t.notOk(shares.mayTake('d', 4), 'a quarter is less');
  shares.giveBack('a', 8);
  shares.giveBack('c', 1);
  t.strictSame([shares.of('a'), shares.used, shares.largest()], [0, 3, 'b']);
  t.ok(shares.mayTake('a', 8), 'where there is room, anybody may have it');
  t.end();
});

await t.test('who has most is known among thousands', (t) => {
  const COUNT = 4096;
  const TURNS = 1000;
  const shares = new Shares<number>(2 * COUNT);
  for (let key = 0; key < COUNT; key++) shares.take(key, 1 + (key % 3));
  const steps = stepsOf(() => {
    for (let key = COUNT; key < COUNT + TURNS; key++) {
      shares.giveBack(shares.largest(), 1);
      shares.take(key, 1);
    }
  });
  t.ok(steps < TURNS * 100, `${steps / TURNS} steps`);
  t.end();
});

for (const [what, make, bound, quiet] of [
  ['question', (to: number, from: number) => frame(remote(to), from), OPEN_QUESTIONS, 1000],
  ['broadcast', (_: number, from: number) => frame(MAC.all, from), BROADCASTS, 240],
] as const)
  await t.test(`whose ${what} makes room is found beside those of many others`, (t) => {
    const { net, noisy, quiet: second, third } = site();
    const ports = times(quiet, (index) => net.port(remote(-1 - index)));
    const ask = (tap: typeof noisy, to: number): void => {
      tap.send(make(to, tap.mac));
    };
    ports.forEach(ask);
    for (let to = quiet; to < bound - 1; to++) ask(noisy, to);
    const stepsBefore = stepsOf(() => {
      ask(second, bound - 1);
    });
    t.strictSame(net.drops, {}, 'as many as may be');
    const steps = stepsOf(() => {
      ask(third, bound);
    });
    t.strictSame(Object.values(net.drops), [1], 'one has made room');
    t.ok(steps < stepsBefore + 100, `${steps} steps instead of ${stepsBefore}`);
    t.end();
  });

for (const [what, broadcast] of [
  ['IPv4', (from: number) => packet({ to: MAC.all, from })],
  ['IPv6', (from: number) => packet({ to: 0x3333_ff00_0001, from, version: 6 })],
  ['tagged', (from: number) => packet({ to: MAC.all, from, tags: [5] })],
] as const) {
  await t.test(`a storm of broadcasts of one port leaves its neighbour all its answers: ${what}`, (t) => {
    const { vtep, net, noisy, quiet, askedBy } = site();
    noisy.send(...times(1000, () => broadcast(MAC.a)));
    t.strictSame([vtep.questions.length, net.drops], [BROADCASTS, { pending_full: 1000 - BROADCASTS }]);
    for (let round = 0; round < 12; round++) {
      quiet.send(broadcast(MAC.c));
      noisy.send(broadcast(MAC.a));
    }
    t.equal(askedBy(MAC.c).length, 12, 'each is asked about');
    t.strictSame(net.drops, { pending_full: 1000 - BROADCASTS + 24 }, 'in place of the oldest of the storm');
    quiet.take();
    const reply = (to: number) => ({ kind: 'reply', frame: frame(to, MAC.b), counter: 'proxy_arp' }) as const;
    for (const question of askedBy(MAC.c)) net.answer(question, reply(MAC.c));
    t.equal(quiet.take().length, 12, 'and answered');
    noisy.take();
    for (const question of askedBy(MAC.a)) net.answer(question, reply(MAC.a));
    t.equal(noisy.take().length, BROADCASTS - 12, 'what gave way is answered no more');
    t.match(net.counters, { proxy_arp: BROADCASTS });
    t.strictSame(net.drops, { pending_full: 1000 - BROADCASTS + 24 }, 'and counted once');
    noisy.send(...times(300, () => broadcast(MAC.a)));
    t.match(
      net.drops,
      { pending_full: 1000 - BROADCASTS + 24 + 300 - BROADCASTS },
      'all places are free again',
    );
    t.end();
  });
}

for (const [what, made] of [
  ['unknown MACs', (from: number, index: number) => frame(remote(index), from)],
  ['ARP and the like', (from: number) => packet({ to: MAC.all, from })],
  ['NDP and the like', (from: number) => packet({ to: 0x3333_ff00_0001, from, version: 6 })],
] as const)
  await t.test(`a plugin is asked 1,000 times a second for a port, whatever it answers: ${what}`, (t) => {
    const { vtep, net, peer, noisy, quiet, target } = site();
    net.setTarget(MAC.b, target.to);
    let sent = 0;
    let asked = 0;
    let ofQuiet = 0;
    const answerAll = (): void => {
      for (const question of vtep.questions.splice(0)) {
        asked++;
        if (question.sourceMac === MAC.c) ofQuiet++;
        net.answer(question, { kind: 'drop', reason: 'lookup_drop', ttlMs: 0 });
      }
    };
    for (let ms = 0; ms < 1000; ms += 10) {
      vtep.engine.setTime(ms);
      noisy.send(...times(100, () => made(MAC.a, sent++)), frame(MAC.b, MAC.a));
      if (ms % 100 === 0) quiet.send(made(MAC.c, -1 - ms));
      answerAll();
    }
    // What may be asked at once, and 10 more each of the further 10 ms.
    t.strictSame([asked - ofQuiet, ofQuiet], [OPEN_QUESTIONS + 99 * 10, 10]);
    t.match(net.drops, { lookup_busy: sent - (asked - ofQuiet) });
    t.equal(inner(peer).length, 100, 'what is known goes on');
    vtep.engine.setTime(10_000);
    noisy.send(...times(OPEN_QUESTIONS / 8, () => made(MAC.a, sent++)));
    t.equal(vtep.questions.length, OPEN_QUESTIONS / 8, 'after a pause as many at once as before');
    answerAll();
    t.end();
  });

await t.test('two storms and a third port', (t) => {
  const { net, noisy, quiet, third, askedBy } = site();
  const storm = (tap: typeof noisy) => {
    tap.send(...times(500, () => packet({ to: MAC.all, from: tap.mac })));
  };
  storm(noisy);
  storm(quiet);
  t.equal(askedBy(MAC.c).length, BROADCASTS / 2, 'two have half of it each');
  third.send(packet({ to: MAC.all, from: MAC.d }));
  t.equal(askedBy(MAC.d).length, 1);
  net.invalidate();
  t.equal(askedBy(MAC.d).length, 2, 'asked again, it keeps its place');
  storm(third);
  t.equal(askedBy(MAC.d).length, 1 + Math.floor(BROADCASTS / 3), 'a third is a third');
  net.remove();
  t.strictSame(net.drops, { pending_full: 1501 - BROADCASTS, pending_lost: BROADCASTS });
  t.end();
});

await t.test('a scan of one port keeps no other from asking', (t) => {
  const { vtep, net, noisy, quiet, peer, askedBy, target } = site();
  noisy.send(...times(5000, (index) => frame(remote(index), MAC.a)));
  t.equal(vtep.questions.length, OPEN_QUESTIONS);
  quiet.send(...times(12, (index) => frame(remote(10_000 + index), MAC.c)));
  t.equal(askedBy(MAC.c).length, 12);
  t.strictSame(net.drops, { lookup_busy: 5000 - OPEN_QUESTIONS + 12 }, 'in place of the oldest of the scan');
  t.strictSame(
    net.targets(-1, 1).map(({ mac }) => mac),
    [remote(12)],
    'those are not asked about any more',
  );
  for (const question of askedBy(MAC.c)) net.answer(question, target);
  t.equal(inner(peer).length, 12);
  net.answer(askedBy(MAC.a)[0], target);
  t.equal(inner(peer).length, 0, 'an answer to what gave way is for nobody');
  noisy.send(frame(remote(0), MAC.a));
  t.equal(net.targets(-1, 1)[0].state, 'pending', 'and it may be asked about anew');
  t.end();
});

await t.test('what a quiet port waits for too is not lost with the questions of a noisy one', (t) => {
  const { net, noisy, quiet, third, peer, askedBy, target } = site();
  noisy.send(...times(OPEN_QUESTIONS, (index) => frame(remote(index), MAC.a)));
  quiet.send(frame(remote(0), MAC.c));
  third.send(...times(100, (index) => frame(remote(10_000 + index), MAC.d)));
  net.answer(askedBy(MAC.a)[0], target);
  t.strictSame(
    inner(peer).map((bytes) => ethernet.source(bytes, 0)),
    [MAC.a, MAC.c],
  );
  // There was one place more for the scan, which it has not used.
  t.strictSame(net.drops, { lookup_busy: 100 });
  t.end();
});

await t.test('who asks where sources live is not kept from it by a scan, and keeps nobody from his', (t) => {
  const { lab, vtep, net, noisy, quiet, peer } = site({ strictSource: true });
  net.setPeers(peer.local.ip);
  noisy.send(...times(2000, (index) => frame(remote(index), MAC.a)));
  const asked = vtep.questions.length;
  for (let index = 0; index < 2000; index++)
    lab.inject(peer, vtep, '0800000000006400', frame(MAC.c, remote(20_000 + index)));
  t.equal(vtep.questions.length - asked, OPEN_QUESTIONS / 4, 'a quarter is for those that nothing waits for');
  quiet.send(...times(12, (index) => frame(remote(10_000 + index), MAC.c)));
  const ofPort = vtep.questions.filter(
    ({ destinationMac: mac }) => mac >= remote(10_000) && mac < remote(20_000),
  );
  t.equal(ofPort.length, 12);
  t.end();
});

await t.test('targets of before a restart are asked about beside a scan, and never lost by it', (t) => {
  const { vtep, net, noisy, quiet, peer } = site({ maxTargets: 5000 });
  vtep.engine.setTime(10_000);
  const targets = times(2000, (index) => ({ mac: remote(index), to: [peer.local] }));
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets });
  quiet.send(...targets.map(({ mac }) => frame(mac, MAC.c)));
  t.equal(inner(peer).length, 2000, 'they are used');
  for (let nowMs = 10_000; nowMs <= 14_000; nowMs += 10) vtep.engine.setTime(nowMs);
  t.equal(vtep.questions.length, OPEN_QUESTIONS, 'no more questions than may be are under way');
  noisy.send(...times(2000, (index) => frame(remote(10_000 + index), MAC.a)));
  t.equal(vtep.questions.length, OPEN_QUESTIONS + OPEN_QUESTIONS / 2, 'a half is for the scan');
  vtep.engine.setTime(15_000);
  quiet.send(...targets.map(({ mac }) => frame(mac, MAC.c)));
  t.equal(inner(peer).length, 2000, 'whatever has given way');
  t.strictSame(Object.keys(net.drops), ['lookup_busy']);
  t.end();
});

await t.test('a flood to one unknown MAC leaves room for the frame of another port', (t) => {
  const { vtep, net, noisy, quiet, peer, target } = site();
  const fit = Math.floor(MAX_BYTES_PER_TARGET / (1400 + 256));
  noisy.send(...times(200, (index) => numbered(MAC.b, MAC.a, 1400, index)));
  quiet.send(numbered(MAC.b, MAC.c, 1400, 250));
  noisy.send(numbered(MAC.b, MAC.a, 1400, 251));
  quiet.send(numbered(MAC.b, MAC.c, 60, 252));
  t.strictSame(net.drops, { pending_full: 200 - fit + 3 });
  net.answer(vtep.questions[0], target);
  t.strictSame(
    inner(peer).map(numberOf),
    [...times(fit - 2, (index) => index + 2), 250, 252],
    'the oldest of the flood has given way; the others go in order',
  );
  t.end();
});

function otherOverlay(lab: Lab, near: Net, vnetid: number, mac: number) {
  const net = near.vtep.overlay({ vnetid, maxTargets: 100_000 });
  return { net, port: net.port(mac), peer: lab.peer(`192.0.2.${vnetid}`) };
}

await t.test('an overlay that fills what is for all takes nothing from another', (t) => {
  const { lab, vtep, net, noisy } = site({ maxTargets: 100_000 });
  const other = otherOverlay(lab, net, 101, MAC.c);
  const fit = Math.floor(MAX_BYTES / (1400 + 256));
  const flood = (tap: typeof noisy): void => {
    for (let index = 0; index < 150; index++)
      tap.send(...times(80, () => frame(remote(index), tap.mac, 1400)));
  };
  flood(noisy);
  const lost = net.drops.pending_full ?? 0;
  t.ok(lost >= 12_000 - fit, 'the budget is used up');
  const sent = times(100, (index) => numbered(remote(index % 10), MAC.c, 1400, index));
  other.port.send(...sent);
  t.strictSame(other.net.drops, {}, 'the other loses nothing');
  t.strictSame(net.drops, { pending_full: lost + 100 });
  for (const question of vtep.questions.filter(({ overlay }) => overlay === other.net.id))
    other.net.answer(question, { kind: 'target', to: [other.peer.local], ttlMs: Infinity });
  const found = inner(other.peer).map(numberOf);
  t.strictSame(
    found,
    times(10, (mac) => times(10, (round) => round * 10 + mac)).flat(),
    'all of it goes out, in order for each target',
  );
  // A broadcast that makes room is a question less, too.
  noisy.send(...times(256, () => frame(MAC.all, MAC.a, 1400)));
  const asked = vtep.questions.length;
  const second = otherOverlay(lab, net, 102, MAC.d);
  flood(second.port);
  const before = net.counters;
  for (const question of vtep.questions.slice(0, asked))
    if (question.overlay === net.id) net.answer(question, { kind: 'drop', reason: 'lookup_drop' });
  const after = net.counters;
  const answered = after.lookup_drop + after.tx_group - before.lookup_drop - before.tx_group;
  t.equal(before.pending_full + answered, 12_000 + 256, 'each frame of the noisy one is counted once');
  t.end();
});

await t.test('whoever is told of sizes that fit is told so beside a neighbour who does not listen', (t) => {
  for (const version of [4, 6] as const) {
    const { noisy, quiet } = site({ mtuBytes: 1280 });
    const large = (from: number) => packet({ to: MAC.b, from, version, payloadBytes: 1400 });
    noisy.send(...times(1000, () => large(MAC.a)));
    t.equal(noisy.take().length, 10, 'a bound a port');
    quiet.send(large(MAC.c));
    t.equal(quiet.take().length, 1);
  }
  t.end();
});
