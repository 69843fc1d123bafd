// Targets that a plugin pushes: how they are packed, and that a thread takes them a little at a time.
import fc from 'fast-check';
import t from 'tap';

import {
  ageAt,
  beginOf,
  packTargets,
  sliceEnd,
  type TargetList,
  type TargetRow,
} from '../../src/core/tables/target-list.js';
import { type Command, LIST_SLICE } from '../../src/datapath/userland/protocol.js';
import { Backlog } from '../../src/datapath/userland/thread/command-backlog.js';
import { endpoint, frame, Lab, MAC } from '../helpers/lab.js';
import { law } from '../helpers/law.js';
import { equal } from '../helpers/world.js';
import { inner, remote, times } from '../helpers/scenes.js';
import type { Endpoint } from '../../src/wire/ip.js';

function rowAt(list: TargetList, row: number): TargetRow {
  const to = Array.from(
    list.places.subarray(beginOf(list, row), list.ends[row]),
    (place) => list.endpoints[place],
  );
  return { mac: list.macs[row], to, ...ageAt(list, row, undefined) };
}

const places = ['192.0.2.2', '192.0.2.3', '192.0.2.4'].map((ip) => endpoint(ip));

await t.test(
  'rows come out of a list as they went in; each slice has little work, and none is left out',
  (t) => {
    const row = fc.record({
      mac: fc.nat(2 ** 40),
      to: fc.array(fc.constantFrom(...places), { maxLength: 3 * LIST_SLICE }),
      ttlMs: fc.oneof(fc.nat(), fc.constant(Infinity)),
      staleMs: fc.oneof(fc.nat(), fc.constant(Infinity), fc.constant(undefined)),
    });
    law(fc.array(row, { maxLength: 300, size: 'max' }), (rows) => {
      const found: TargetRow[] = [];
      for (const list of packTargets(rows)) {
        for (let from = 0; from < list.macs.length;) {
          const end = sliceEnd(list, from, LIST_SLICE);
          const some = times(end - from, (index) => rowAt(list, from + index));
          const work = some.reduce((sum, { to }) => sum + to.length, 0);
          if (some.length > LIST_SLICE || (some.length > 1 && work > LIST_SLICE)) throw new Error('too much');
          found.push(...some);
          from = end;
        }
      }
      equal(found, rows, 'rows');
    });
    t.end();
  },
);

await t.test('a long list is cut, so that no thread unpacks much at once', (t) => {
  const rows = times(10_000, (index) => ({
    mac: remote(index),
    to: [endpoint(`10.0.${index >> 8}.${index & 255}`)],
    ttlMs: Infinity,
  }));
  const lists = [...packTargets(rows)];
  t.equal(lists.length, Math.ceil(10_000 / 1024), 'by distinct destinations');
  t.equal(
    [...packTargets(rows.map((row) => ({ ...row, to: places })))].length,
    Math.ceil(10_000 / 2048),
    'by rows',
  );
  t.end();
});

await t.test(
  'destinations of a list are found again by their slot, and are held as often as rows have them',
  (t) => {
    const lab = new Lab();
    const vtep = lab.vtep('192.0.2.1');
    const net = vtep.overlay({ vnetid: 100 });
    const port = net.port(MAC.a);
    const push = (to: readonly Endpoint[], count: number): TargetList => {
      const rows = times(count, (index) => ({ mac: remote(index), to, ttlMs: Infinity }));
      const [list] = packTargets(rows);
      vtep.obey({ kind: 'set-targets', overlay: net.id, list, from: 0, end: count });
      return list;
    };
    const [one, other] = ['192.0.2.2', '192.0.2.3'].map((ip) => lab.peer(ip));
    const [slot] = push([one.local], 10).slots;
    t.ok(slot >= 0, 'the list has the slot now');
    // The slot of an earlier row may be that of another destination by now.
    const list = packTargets([{ mac: remote(20), to: [other.local], ttlMs: Infinity }]).next()
      .value as TargetList;
    list.slots[0] = slot;
    vtep.obey({ kind: 'set-targets', overlay: net.id, list, from: 0, end: 1 });
    t.not(list.slots[0], slot);
    push([other.local, one.local], 9);
    port.send(frame(remote(9), MAC.a), frame(remote(20), MAC.a), frame(remote(0), MAC.a));
    t.same([inner(one).length, inner(other).length], [2, 2]);
    const news = (): boolean[] =>
      vtep.peerChanges.filter(({ ip }) => ip === one.local.ip).map(({ isPeer }) => isPeer);
    const forget = (...macs: readonly number[]): void => {
      vtep.obey({ kind: 'invalidate', overlay: net.id, macs: Float64Array.from(macs) });
      lab.run();
    };
    forget(...times(9, remote));
    t.same(news(), [true], 'it is told once, and is still the peer of one row');
    forget(remote(9));
    t.same(news(), [true, false], 'and now of none');
    t.end();
  },
);

await t.test('a thread obeys a list in slices, and what comes behind it later', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const [net, other] = [0, 1].map((index) => vtep.overlay({ vnetid: 100 + index, maxTargets: 10_000 }));
  const port = net.port(MAC.a);
  const obeyed: Command[] = [];
  const backlog = new Backlog(
    (command) => {
      obeyed.push(command);
      vtep.obey(command);
    },
    () => false,
  );
  const rows = times(1000, (index) => ({ mac: remote(index), to: [peer.local], ttlMs: Infinity }));
  port.send(frame(remote(999), MAC.a), frame(remote(5000), MAC.a));
  for (const list of packTargets([...rows, { mac: remote(0), to: [], ttlMs: Infinity }]))
    backlog.take({ kind: 'set-targets', overlay: net.id, list, from: 0, end: list.macs.length });
  backlog.take({ kind: 'invalidate', overlay: net.id, macs: Float64Array.of(remote(1)) });
  backlog.take({ kind: 'invalidate', overlay: other.id, macs: Float64Array.of(remote(1)) });
  t.strictSame(
    obeyed.map((command) => 'overlay' in command && command.overlay),
    [other.id],
    'another overlay does not wait',
  );
  let slices = 0;
  while (backlog.goOn()) slices++;
  t.equal(slices, Math.ceil(1001 / LIST_SLICE));
  t.equal(inner(peer).length, 1, 'a frame that waited for one of them is sent');
  t.strictSame(
    net.targets().map(({ mac }) => mac),
    [...times(998, (index) => remote(index + 2)), remote(5000)],
    'withdrawn by the list, and by the command behind it',
  );
  t.match(net.facts(remote(2)), { origin: 'pushed', idleMs: undefined });
  t.end();
});
