// Lists of any length, taken in slices: by the thread (Backlog), and by the control side before it tells the threads (NamedPeers).
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';

import { type AddressTable, EMPTY_TABLE, has } from '../../src/core/tables/address-table.js';
import { NamedPeers } from '../../src/datapath/userland/main/named-peers.js';
import { AddressMap } from '../../src/model/address-map.js';
import { mergePeers, type PeerThreads } from '../../src/datapath/userland/main/peers.js';
import { type Command, LIST_SLICE } from '../../src/datapath/userland/protocol.js';
import { Backlog } from '../../src/datapath/userland/thread/command-backlog.js';
import { type IpAddress, parse, toBytes } from '../../src/wire/ip.js';
import { address, frame, Lab, MAC, type Net } from '../helpers/lab.js';
import { waitUntil } from '../helpers/process.js';
import { remote, times } from '../helpers/scenes.js';

// -- Backlog

/** An engine behind a backlog, and what it has obeyed. */
function site(overlays = 1) {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const nets = times(overlays, (index) => vtep.overlay({ vnetid: 100 + index, maxTargets: 10_000 }));
  const obeyed: Command[] = [];
  const turn = { isSpent: false };
  const backlog = new Backlog(
    (command) => {
      obeyed.push(command);
      vtep.obey(command);
    },
    () => turn.isSpent,
  );
  const to = [peer.local];
  const invalidate = (net: Net, macs: readonly number[]): void => {
    backlog.take({ kind: 'invalidate', overlay: net.id, macs: Float64Array.from(macs) });
  };
  return { lab, vtep, peer, nets, obeyed, backlog, turn, to, invalidate };
}

await t.test('a list is obeyed a slice at a time; what is said to its overlay later comes later', (t) => {
  const { nets, obeyed, backlog, to, invalidate } = site(2);
  const [net, other] = nets;
  const macs = times(1000, remote);
  for (const mac of macs) net.setTarget(mac, to);
  obeyed.length = 0;
  invalidate(net, macs);
  backlog.take({ kind: 'set-target', overlay: net.id, mac: remote(999), to, ttlMs: Infinity, origin: 'set' });
  t.equal(obeyed.length, 0, 'nothing at once');
  backlog.take({ kind: 'set-target', overlay: other.id, mac: remote(1), to, ttlMs: Infinity, origin: 'set' });
  t.equal(other.targets().length, 1, 'but for another overlay');
  t.ok(backlog.goOn());
  t.equal(net.targets().length, 1000 - LIST_SLICE);
  backlog.take({ kind: 'set-peers', overlay: net.id, table: EMPTY_TABLE });
  t.equal(obeyed.at(-1)?.kind, 'set-peers', 'peers are no part of the table');
  let turns = 1;
  while (backlog.goOn()) turns++;
  t.equal(turns, Math.ceil(1000 / LIST_SLICE));
  t.strictSame(
    net.targets().map(({ mac }) => mac),
    [remote(999)],
  );
  t.notOk(backlog.goOn(), 'nothing is left');
  invalidate(net, [remote(999)]);
  t.equal(net.targets().length, 0, 'a short list is obeyed at once again');
  t.end();
});

await t.test('an answer behind a list is too old for what the list has named', (t) => {
  const { vtep, nets, peer, backlog, to, invalidate } = site();
  const [net] = nets;
  const tap = net.port(MAC.a);
  tap.send(frame(remote(500), MAC.a), frame(remote(2000), MAC.a));
  const [old, good] = vtep.questions;
  invalidate(net, times(1000, remote));
  for (const { lookup } of [old, good])
    backlog.take({
      kind: 'answer',
      overlay: net.id,
      lookup,
      answer: { kind: 'target', to, ttlMs: Infinity },
    });
  t.equal(peer.take().length, 0);
  while (backlog.goOn());
  t.equal(peer.take().length, 1, 'one was named, and the other was not');
  t.strictSame([vtep.questions.length, vtep.questions[2].destinationMac], [3, remote(500)], 'asked again');
  t.end();
});

await t.test('lists of several overlays have a slice in turn', (t) => {
  const { nets, obeyed, backlog, invalidate } = site(3);
  for (const net of nets) invalidate(net, times(3 * LIST_SLICE, remote));
  while (backlog.goOn());
  const turns = obeyed.map((command) => 'overlay' in command && command.overlay);
  t.strictSame(turns, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
  t.end();
});

await t.test('with its overlay a list is gone; who asked is answered', (t) => {
  const { nets, obeyed, backlog, to, invalidate } = site(2);
  const [net, other] = nets;
  other.setTarget(remote(1), to);
  invalidate(net, times(1000, remote));
  backlog.take({ kind: 'delete-target', overlay: net.id, mac: remote(1), reply: 7 });
  invalidate(other, times(100, remote));
  obeyed.length = 0;
  backlog.take({ kind: 'remove-overlay', overlay: net.id, reply: 8 });
  t.strictSame(
    obeyed.map(({ kind }) => kind),
    ['remove-overlay', 'delete-target'],
  );
  while (backlog.goOn());
  t.strictSame(other.targets(), [], 'the list of another goes on');
  t.end();
});

await t.test(
  'targets of before a restart come in as they would at once, and all before the first frame',
  (t) => {
    const recent = (inSlices: boolean): unknown => {
      const { vtep, nets, backlog, to } = site();
      const [net] = nets;
      const targets = times(1000, (index) => ({ mac: remote(index), to }));
      const command = { kind: 'restore-targets', overlay: net.id, targets } as const;
      if (inSlices) {
        backlog.take(command);
        backlog.take({ kind: 'begin', reply: 1 });
      } else vtep.obey(command);
      return net.recentTargets(2000);
    };
    const whole = recent(false) as readonly unknown[];
    t.equal(whole.length, 1000);
    t.strictSame(recent(true), whole);
    t.end();
  },
);

await t.test('however commands come in between, each overlay has obeyed them in their order', (t) => {
  const step = fc.oneof(
    fc.record({ overlay: fc.integer({ min: 1, max: 3 }), length: fc.constantFrom(0, 1, 64, 65, 200, 1000) }),
    fc.record({ overlay: fc.integer({ min: 1, max: 3 }), mac: fc.nat(100) }),
    fc.constantFrom('go on', 'spent', 'not spent'),
  );
  const flat = (command: Command): readonly string[] => {
    if (command.kind === 'invalidate') return [...(command.macs ?? [])].map((mac) => `- ${mac}`);
    return command.kind === 'delete-target' ? [`? ${command.mac}`] : [];
  };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const [said, obeyed] = [new Map<number, string[]>(), new Map<number, string[]>()];
      const note = (to: Map<number, string[]>, command: Command): void => {
        if ('overlay' in command)
          to.set(command.overlay, [...(to.get(command.overlay) ?? []), ...flat(command)]);
      };
      const turn = { isSpent: false };
      const backlog = new Backlog(
        (command) => {
          if (command.kind === 'invalidate' && (command.macs?.length ?? 0) > LIST_SLICE)
            throw new Error('too much at once');
          note(obeyed, command);
        },
        () => turn.isSpent,
      );
      let next = 0;
      for (const each of steps) {
        if (typeof each === 'string') {
          if (each === 'go on') backlog.goOn();
          else turn.isSpent = each === 'spent';
          continue;
        }
        const { overlay } = each;
        const command: Command =
          'mac' in each
            ? { kind: 'delete-target', overlay, mac: each.mac, reply: 1 }
            : { kind: 'invalidate', overlay, macs: Float64Array.from({ length: each.length }, () => next++) };
        note(said, command);
        backlog.take(command);
      }
      while (backlog.goOn());
      for (const [overlay, commands] of said)
        if (commands.join() !== (obeyed.get(overlay) ?? []).join()) throw new Error(`overlay ${overlay}`);
    }),
    { numRuns: 200 },
  );
  t.end();
});

await t.test('a turn that has sent enough: what an overlay is told waits for the next', (t) => {
  const { nets, obeyed, backlog, turn, to } = site(2);
  const [net, other] = nets;
  const tell = (overlay: number, mac: number): void => {
    backlog.take({ kind: 'set-target', overlay, mac: remote(mac), to, ttlMs: Infinity, origin: 'set' });
  };
  turn.isSpent = true;
  tell(net.id, 1);
  tell(other.id, 2);
  t.equal(obeyed.length, 0);
  turn.isSpent = false;
  tell(net.id, 3);
  t.equal(obeyed.length, 0, 'nor does anything overtake it');
  while (backlog.goOn());
  t.strictSame(
    net.targets().map(({ mac }) => mac),
    [remote(1), remote(3)],
  );
  t.strictSame(
    other.targets().map(({ mac }) => mac),
    [remote(2)],
  );
  t.end();
});

// -- Peers that a plugin names

const ipOf = (index: number): IpAddress =>
  index % 100 > 0
    ? parse(`10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`)!
    : parse(`fd00::${(index >> 16).toString(16)}:${(index & 0xffff).toString(16)}`)!;
const isIn = (table: AddressTable, ip: IpAddress): boolean =>
  has(table, new Int32Array(toBytes(ip).buffer), 0);

function naming() {
  const peers: PeerThreads = new AddressMap();
  const tables: AddressTable[] = [];
  /** What the news add up to. */
  const known = new Set<IpAddress>();
  const wrong: string[] = [];
  const news = (added: readonly IpAddress[], removed: readonly IpAddress[]): void => {
    for (const ip of added) if (known.size === known.add(ip).size) wrong.push(`${ip} again`);
    for (const ip of removed) if (!known.delete(ip)) wrong.push(`${ip} was none`);
  };
  const named = new NamedPeers(peers, (table) => tables.push(table), news);
  const thread = (ip: IpAddress, isPeer: boolean): void => {
    mergePeers(0, [{ overlay: 1, ip, isPeer }], peers, news);
  };
  return { named, peers, tables, known, wrong, thread };
}

await t.test('a few peers are in force at once, and others are told of them after that', async (t) => {
  const { named, tables, known, thread } = naming();
  named.set([ipOf(0), ipOf(1), ipOf(0)]);
  t.equal(tables.length, 1);
  t.ok(isIn(tables[0], ipOf(0)) && isIn(tables[0], ipOf(1)) && !isIn(tables[0], ipOf(2)));
  t.equal(known.size, 0);
  await waitUntil(() => known.size === 2, { what: 'the news' });
  thread(ipOf(0), true);
  named.set([]);
  await waitUntil(() => known.size === 1, { what: 'the news' });
  t.strictSame([...known], [ipOf(0)], 'what is still a destination stays one of them');
  t.notOk(isIn(tables[1], ipOf(0)));
  thread(ipOf(0), false);
  t.equal(known.size, 0);
});

await t.test('many are taken in slices; a later list takes the place of one that is under way', async (t) => {
  const { named, tables, known, wrong, thread, peers } = naming();
  const COUNT = 100_000;
  const first = times(COUNT, ipOf);
  const second = times(COUNT, (index) => ipOf(index + COUNT / 2));
  named.set(first);
  t.equal(tables.length, 0, 'not at once');
  let turns = 0;
  while (known.size < COUNT / 4) {
    await nextTurn();
    turns++;
  }
  t.ok(turns > 1, 'others had their turn');
  t.equal(tables.length, 1, 'one table, whole');
  t.ok(first.every((ip) => isIn(tables[0], ip)));
  thread(first[0], true);
  thread(first[COUNT - 1], true);
  named.set(second);
  named.set(first);
  named.set(second);
  thread(first[COUNT - 1], false);
  await waitUntil(() => known.size === COUNT + 1 && known.has(second[COUNT - 1]) && !known.has(first[1]), {
    what: 'the news',
  });
  t.equal(tables.length, 2, 'those in between are left out');
  t.ok(second.every((ip) => isIn(tables[1], ip)) && !isIn(tables[1], first[1]));
  t.ok(second.every((ip) => known.has(ip)) && known.has(first[0]), 'the news say the same');
  t.equal(peers.size, COUNT + 1);
  t.strictSame(wrong, []);
  t.equal(named.list, second);
});

await t.test('with its overlay a list is gone', async (t) => {
  const { named, tables, known } = naming();
  named.set(times(100_000, ipOf));
  await nextTurn();
  named.end();
  for (let turn = 0; turn < 50; turn++) await nextTurn();
  t.strictSame([tables.length, known.size], [0, 0]);
});

await t.test('who stays a peer is one at every moment, and a destination without being named', (t) => {
  const { lab, vtep, peer, nets } = site();
  const [net] = nets;
  const tap = net.port(MAC.a);
  const arrives = (): boolean => {
    lab.inject(peer, vtep, '0800000000006400', frame(MAC.a, MAC.b));
    return tap.take().length === 1;
  };
  t.notOk(arrives());
  net.setPeers(peer.local.ip, address('2001:db8::1'));
  t.ok(arrives());
  net.setPeers(address('192.0.2.77'), peer.local.ip);
  t.ok(arrives());
  net.setTarget(MAC.b, [peer.local]);
  net.setPeers();
  t.ok(arrives(), 'a destination');
  net.invalidate(MAC.b);
  t.notOk(arrives());
  t.end();
});
