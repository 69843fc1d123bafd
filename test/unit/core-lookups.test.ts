// Questions to the plugin, and answers: which frame is asked about, which answer counts, and what a restart leaves to be
// confirmed.
import t from 'tap';
import * as ethernet from '../../src/wire/ethernet.js';
import { frame, hex, Lab, MAC, packet } from '../helpers/lab.js';
import { asking, inner, OPEN_QUESTIONS, remote, same } from '../helpers/scenes.js';

await t.test('mode dynamic: asked once, then known; three hosts', (t) => {
  const lab = new Lab();
  const hosts = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((ip) => lab.vtep(ip));
  const macs: readonly number[] = [MAC.a, MAC.b, MAC.c];
  const nets = hosts.map((host) => host.overlay());
  const ports = nets.map((net, index) => net.port(macs[index], { own: true }));
  for (const net of nets) net.setPeers(...hosts.map((host) => host.endpoint.ip));
  for (const host of hosts) {
    host.resolve = ({ destinationMac }) =>
      destinationMac === MAC.all
        ? {
            kind: 'target',
            to: hosts.filter((other) => other !== host).map(({ endpoint }) => endpoint),
            ttlMs: 1e6,
          }
        : { kind: 'target', to: [hosts[macs.indexOf(destinationMac)].endpoint], ttlMs: 1e6 };
  }
  const arp = frame(MAC.all, MAC.a);
  ports[0].send(arp, arp);
  for (const port of ports.slice(1)) same(t, port.take(), [arp, arp], 'a flood reaches both');
  t.strictSame(ports[0].take(), [], 'and does not come back');
  ports[1].send(frame(MAC.a, MAC.b), frame(MAC.c, MAC.b), frame(MAC.a, MAC.b));
  t.equal(ports[0].take().length, 2);
  t.equal(ports[2].take().length, 1);
  t.strictSame(
    hosts[0].questions.map(({ frame: asked, ...question }) => ({ ...question, asked: asked && hex(asked) })),
    [1, 2].map((lookup) => ({
      overlay: 1,
      lookup,
      destinationMac: MAC.all,
      sourceMac: MAC.a,
      etherType: 0x88b5,
      vlan: 0,
      asked: hex(arp),
    })),
    'what the plugin is told',
  );
  t.equal(hosts[1].questions.length, 2);
  t.strictSame(
    nets.map(({ drops }) => drops),
    [{}, {}, {}],
  );
  t.equal(nets[0].counters.tx_frames, 4, 'a flooded frame counts once for each destination');
  t.end();
});

await t.test('what the plugin is told of a tagged frame', (t) => {
  const { vtep, port } = asking();
  port.send(packet({ to: remote(1), tags: [0x600a] }), frame(remote(2), MAC.a, 60, [0x88a8, 7], 8));
  t.match(vtep.questions, [
    { destinationMac: remote(1), etherType: ethernet.IPV4, vlan: 10 },
    { destinationMac: remote(2), etherType: 0x88b5, vlan: 0 },
  ]);
  t.end();
});

await t.test('100,000 unknown MACs cost what is allowed, and no known flow (S19)', (t) => {
  const { vtep, net, port, peer } = asking();
  for (let index = 0; index < 100_000; index += 1000) {
    port.send(...Array.from({ length: 1000 }, (_, next) => frame(remote(index + next), MAC.a, 60)));
  }
  t.equal(vtep.questions.length, OPEN_QUESTIONS);
  t.equal(net.targets(-1, 200_000).length, OPEN_QUESTIONS);
  t.strictSame(net.drops, { lookup_busy: 100_000 - OPEN_QUESTIONS });
  net.setTarget(MAC.b, [peer.local]);
  port.send(frame(MAC.b, MAC.a), frame(remote(1), MAC.a, 60));
  t.equal(inner(peer).length, 1, 'what is known goes on');
  t.strictSame(net.drops, { lookup_busy: 100_000 - OPEN_QUESTIONS }, 'and what is asked already waits');
  net.answer(vtep.questions[0], { kind: 'drop', reason: 'lookup_drop' });
  port.send(frame(remote(50_000), MAC.a, 60));
  t.equal(vtep.questions.length, OPEN_QUESTIONS, 'an answer alone does not let the next question through');
  vtep.engine.setTime(10);
  port.send(frame(remote(50_000), MAC.a, 60));
  t.equal(vtep.questions.length, OPEN_QUESTIONS + 1, 'time does as well');
  net.remove();
  t.match(net.drops, { pending_lost: OPEN_QUESTIONS + 1 }, 'what waited is accounted for');
  const other = vtep.overlay({ vnetid: 101 });
  other.port(MAC.c).send(frame(remote(1), MAC.c));
  t.strictSame(other.drops, {}, 'the budget is free again');
  t.end();
});

await t.test('targets from before a restart are used at once, and confirmed as they are', (t) => {
  const { lab, vtep, net, port, peer, target } = asking();
  const other = lab.peer('192.0.2.77');
  const before = [
    { mac: remote(1), to: [other.local] },
    { mac: remote(2), to: [peer.local, other.local] },
    { mac: remote(3), to: [] },
  ];
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets: before });
  t.strictSame([net.targets().length, vtep.questions.length], [2, 0], 'nobody asks about what nobody uses');
  const send = (index: number): number[] => {
    vtep.engine.setTime((nowMs += 2001));
    port.send(frame(remote(index), MAC.a));
    return [inner(peer).length, inner(other).length];
  };
  let nowMs = 0;
  t.strictSame(send(1), [0, 1], 'used');
  t.match(vtep.questions, [{ destinationMac: remote(1), etherType: 0, frame: undefined }], 'and asked about');
  t.strictSame([send(1), vtep.questions.length], [[0, 1], 1], 'once, while the answer is awaited');
  net.answer(vtep.questions[0], { kind: 'drop', reason: 'lookup_timeout' });
  t.strictSame([send(1), vtep.questions.length], [[0, 1], 2], 'trouble is no answer: used, and asked again');
  net.answer(vtep.questions[1], target());
  t.strictSame([send(1), vtep.questions.length], [[1, 0], 2], 'an answer replaces it');
  t.strictSame(send(2), [1, 1], 'all destinations of a flood');
  net.answer(vtep.questions[2], { kind: 'drop', reason: 'lookup_drop', ttlMs: 1e6 });
  t.strictSame(send(2), [0, 0], 'also when it is that nobody has it');
  t.strictSame(net.drops, { lookup_drop: 1 });

  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets: [{ mac: remote(1), to: [other.local] }] });
  t.strictSame(send(1), [1, 0], 'what is known already stays');
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets: [{ mac: remote(4), to: [other.local] }] });
  send(4);
  net.invalidate(remote(4));
  net.answer(vtep.questions.at(-1), { kind: 'target', to: [other.local], ttlMs: Infinity });
  t.notOk(
    net.targets().some(({ mac }) => mac === remote(4)),
    'forgotten is forgotten',
  );
  net.setTarget(remote(5), [peer.local]);
  net.setTarget(MAC.group, [peer.local]);
  send(1);
  t.same(
    net.recentTargets(1),
    [{ mac: remote(1), state: 'valid', to: [peer.local] }],
    'what is saved: the one used last first',
  );
  const saved = net.recentTargets(9);
  t.same(saved.map(({ mac }) => mac).sort(), [remote(1), remote(5)].sort(), 'neither groups nor drops');
  net.remove();
  t.equal(vtep.questions.length, 4);
  t.end();
});

await t.test('an answer counts only while it is awaited', (t) => {
  const { vtep, net, port, peer, target } = asking();
  port.send(frame(remote(1), MAC.a, 60), frame(remote(1), MAC.a, 61), frame(remote(2), MAC.a));
  net.invalidate(remote(1));
  t.match(vtep.questions, [
    { destinationMac: remote(1), lookup: 1 },
    { destinationMac: remote(2), lookup: 2 },
    { destinationMac: remote(1), sourceMac: MAC.a, etherType: 0x88b5, lookup: 3 },
  ]);
  net.answer(vtep.questions[0], target());
  t.strictSame([inner(peer), net.targets()[0].state], [[], 'pending'], 'too old: thrown away');
  net.answer(vtep.questions[2], target());
  same(t, inner(peer), [frame(remote(1), MAC.a, 60), frame(remote(1), MAC.a, 61)], 'the new one counts');
  net.answer(vtep.questions[2], { kind: 'drop', reason: 'lookup_drop' });
  t.equal(net.targets()[0].state, 'valid', 'once');
  net.invalidate();
  t.strictSame(
    net.targets().map(({ mac, state }) => [mac, state]),
    [[remote(2), 'pending']],
    'all: what is known goes, what waits is asked again',
  );
  t.equal(vtep.questions[3].lookup, 4);

  t.ok(net.deleteTarget(remote(2)));
  t.notOk(net.deleteTarget(remote(2)));
  net.answer(vtep.questions[3], target());
  t.strictSame([net.targets(), net.drops], [[], { pending_lost: 1 }], 'deleted: frames lost, answer too');
  port.send(frame(remote(2), MAC.a));
  t.equal(vtep.questions[4].lookup, 5, 'no number is given twice');
  net.setTarget(remote(2), []);
  t.match(net.drops, { lookup_drop: 1 });
  t.end();
});

await t.test('commands to an overlay that is gone', (t) => {
  const { lab, vtep, net, port, target } = asking();
  port.send(frame(remote(1), MAC.a));
  net.remove();
  t.notOk(net.deleteTarget(remote(1)));
  t.strictSame(net.targets(), []);
  net.answer(vtep.questions[0], target());
  net.setTarget(remote(1), []);
  net.invalidate();
  net.setPeers();
  net.port(MAC.c).send(frame(remote(1), MAC.c));
  net.remove();
  t.strictSame([lab.datagrams, net.drops], [[], { pending_lost: 1 }]);
  t.equal(vtep.ask({ kind: 'ping', reply: 1 }), true);
  t.equal(vtep.ask({ kind: 'remove-socket', token: 1, reply: 1 }), true);
  t.notOk(vtep.pump(1), 'a token that is gone');
  t.end();
});
