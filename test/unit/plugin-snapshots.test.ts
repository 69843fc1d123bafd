// Snapshots of plugins: all or nothing, in slices, with the difference; and the answers out of them.
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';

import { Mapping } from '../../src/daemon/plugins/mapping/mapping.js';
import { PARTS, WordTable } from '../../src/daemon/plugins/mapping/word-table.js';
import type { Answer, Snapshot, SnapshotChange } from '../../src/plugin/index.js';
import * as arp from '../../src/wire/arp.js';
import { write16 } from '../../src/wire/bytes.js';
import * as ethernet from '../../src/wire/ethernet.js';
import { parse as parseIp, parseV4 } from '../../src/wire/ip.js';
import { BROADCAST, parseMac } from '../../src/wire/mac.js';
import { newSite } from '../helpers/hosted.js';
import { part } from '../helpers/whole.js';

const A = { ip: '10.0.0.2', port: 4789 };
const B = { ip: '10.0.0.3', port: 4789 };
const HERE = { ip: '10.0.0.1', port: 4789 };
const MAC = (number: number): number => 0x0200_0000_0000 + number;

function snapshot(more: Partial<Snapshot> = {}): Snapshot {
  return {
    targets: [
      { mac: MAC(1), to: A },
      { mac: MAC(2), to: [A, B] },
    ],
    addresses: [
      { ip: '192.168.0.1', mac: MAC(1) },
      { ip: 'FD00::2', mac: MAC(2) },
    ],
    revision: 'r1',
    ...more,
  };
}

/** A broadcast request, padded as a TAP gives it. */
function arpRequest({
  sender,
  senderIp,
  target,
}: {
  sender: number;
  senderIp: string;
  target: string;
}): Uint8Array {
  const frame = new Uint8Array(60);
  ethernet.setDestination(frame, 0, BROADCAST);
  ethernet.setSource(frame, 0, sender);
  write16(frame, 12, ethernet.ARP);
  const [from, to] = [parseV4(senderIp)!, parseV4(target)!];
  arp.write(
    { operation: arp.REQUEST, senderMac: sender, senderIp: from, targetMac: 0, targetIp: to },
    frame,
    14,
  );
  return frame;
}

const target = (...to: readonly object[]): object => ({ kind: 'target', to, ttlMs: Infinity });

await t.test('the table of words does what a Map does', (t) => {
  const word = fc.integer({ min: 0, max: 40 });
  const step = fc.tuple(fc.constantFrom('set', 'remove', 'get'), word, word, fc.integer({ min: 1, max: 9 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const table = new WordTable(2, 1);
      const model = new Map<string, number>();
      const [key, value, before] = [new Uint32Array(2), new Uint32Array(1), new Uint32Array(1)];
      for (const [what, high, low, number] of steps) {
        [key[0], key[1], value[0], before[0]] = [high, low, number, 0];
        const name = `${high} ${low}`;
        const known = model.get(name);
        if (what === 'set') {
          if (table.set(key, value, before) !== (known === undefined)) return false;
          model.set(name, number);
        } else if (what === 'remove') {
          if (table.remove(key, before) !== (known !== undefined)) return false;
          model.delete(name);
        } else if (table.get(key, before) !== (known !== undefined)) return false;
        if (known !== undefined && before[0] !== known) return false;
      }
      const rows: string[] = [];
      for (let part = 0; part < PARTS; part++)
        table.visit(part, (words, at) => rows.push(`${words[at]} ${words[at + 1]} ${words[at + 2]}`));
      const wanted = [...model].map(([name, number]) => `${name} ${number}`);
      return table.size === model.size && rows.sort().join() === wanted.sort().join();
    }),
    { numRuns: part(1000) },
  );
  t.pass();
  t.end();
});

await t.test('places that no row has are forgotten', (t) => {
  const mapping = new Mapping('r');
  for (let round = 0; round < 1000; round++)
    mapping.setTarget(MAC(round % 3), `place ${round}`, () => [{ ip: parseIp(A.ip)!, port: round + 1 }]);
  t.equal(mapping.placeCount, 3);
  t.equal(mapping.destinationsOf(MAC(0))?.[0].port, 1000);
  for (let number = 0; number < 3; number++) t.ok(mapping.removeTarget(MAC(number)));
  t.notOk(mapping.removeTarget(MAC(0)));
  t.same([mapping.placeCount, mapping.size], [0, 0]);
  t.end();
});

await t.test('a snapshot answers', async (t) => {
  const site = newSite();
  const { ask, host, instance } = await site.start({
    onCreate: (host) => void host.replaceAll(snapshot()).catch(() => undefined),
  });
  t.same(await ask({ destinationMac: MAC(1) }), target(A));
  t.same(await ask({ destinationMac: MAC(2) }), target(A, B));
  t.same(await ask({ destinationMac: MAC(3) }), { kind: 'drop', reason: 'lookup_drop' });
  t.match(
    site.health.report().details,
    /^snapshot 'r1': 2 targets \(\+2 -0 ~0\), 2 addresses \(0 moved\), at 2/,
  );
  const frame = arpRequest({ sender: MAC(9), senderIp: '192.168.0.9', target: '192.168.0.1' });
  const reply = await ask({ destinationMac: BROADCAST, etherType: 0x0806, frame });
  t.match(reply, { kind: 'reply', counter: 'proxy_arp' });
  t.equal(reply.kind === 'reply' && arp.parse(reply.frame, 14, reply.frame.length - 14)?.senderMac, MAC(1));
  const other = arpRequest({ sender: MAC(9), senderIp: '192.168.0.9', target: '192.168.0.7' });
  t.same(await ask({ destinationMac: BROADCAST, etherType: 0x0806, frame: other }), {
    kind: 'drop',
    reason: 'proxy_unknown',
  });
  t.same(await ask({ destinationMac: BROADCAST, etherType: 0x88cc, frame }), {
    kind: 'drop',
    reason: 'lookup_drop',
  });
  t.equal(await instance.neighbor(parseIp('fd00::2')!), MAC(2));
  t.equal(await instance.neighbor(parseIp('fd00::3')!), null);
  t.same([instance.placeOf(MAC(1)), instance.placeOf(MAC(3))], [A, null]);

  // A row for the broadcast address serves every group, and ARP is not flooded by it.
  t.same(await host.changeSnapshot({ targets: [{ mac: BROADCAST, to: [A, HERE, B] }], revision: 'r2' }), {
    added: 1,
    changed: 0,
    removed: 0,
    moved: 0,
  });
  const multicast = { destinationMac: parseMac('01:00:5e:00:00:05')!, etherType: 0x0800, frame };
  t.same(await ask(multicast), { kind: 'target', to: [A, B], ttlMs: 0 });
  t.match(await ask({ destinationMac: BROADCAST, etherType: 0x0806, frame: other }), {
    reason: 'proxy_unknown',
  });
});

await t.test('what the snapshot lacks is a question for an instance with resolve', async (t) => {
  const site = newSite();
  const asked: number[] = [];
  const { ask } = await site.start({
    resolve: ({ destinationMac }): Answer => {
      asked.push(destinationMac);
      return destinationMac === BROADCAST ? { kind: 'proxy', what: 'arp' } : { kind: 'target', to: B };
    },
    neighbor: () => MAC(7),
    start: async function () {
      await Promise.resolve();
    },
    onCreate: (host) => void host.replaceAll(snapshot()),
  });
  await site.knowledge.snapshots.settle();
  t.same(await ask({ destinationMac: MAC(1) }), target(A));
  t.same(await ask({ destinationMac: MAC(3) }), target(B));
  const frame = arpRequest({ sender: MAC(9), senderIp: '192.168.0.9', target: '192.168.0.7' });
  t.match(await ask({ destinationMac: BROADCAST, etherType: 0x0806, frame }), { kind: 'reply' });
  t.same(asked, [MAC(3), BROADCAST]);
});

await t.test('an instance without resolve needs a snapshot', async (t) => {
  await t.rejects(newSite().start({}), { message: /has no resolve, and has not called replaceAll/ });
  await t.rejects(
    newSite().start({ onCreate: (host) => void host.replaceAll({} as Snapshot).catch(() => 0) }),
    {
      message: /has no resolve/,
    },
  );
});

await t.test(
  'the difference: MACs that moved are forgotten, addresses that moved are announced',
  async (t) => {
    const site = newSite();
    const { host, overlay } = {
      ...site,
      ...(await site.start({ onCreate: (host) => void host.replaceAll(snapshot()) })),
    };
    for (const number of [1, 2, 3, 4]) overlay.setTargets([{ mac: MAC(number), to: [], ttlMs: 1 }]);
    const fill = (): void => {
      overlay.setTargets(
        [1, 2, 3, 4].map((n) => ({ mac: MAC(n), to: [{ ...A, ip: parseIp(A.ip)! }], ttlMs: 1 })),
      );
    };
    fill();
    const next = snapshot({
      targets: [
        { mac: MAC(2), to: [A, B] },
        { mac: MAC(3), to: A },
        { mac: MAC(1), to: B },
      ],
      addresses: [
        { ip: '192.168.0.1', mac: MAC(3) },
        { ip: 'fd00::2', mac: MAC(2) },
      ],
      revision: 'r2',
    });
    t.same(await host.replaceAll(next), { added: 1, changed: 1, removed: 0, moved: 1 });
    t.same([...overlay.table.keys()], [MAC(2), MAC(4)], 'a MAC that has not moved keeps its target');
    t.equal(overlay.announced.length, 1);
    const [frame] = overlay.announced;
    t.match(arp.parse(frame, 14, frame.length - 14), { senderMac: MAC(3), senderIp: '192.168.0.1' });
    t.same(await host.replaceAll(next), { added: 0, changed: 0, removed: 0, moved: 0 });
    t.equal(overlay.announced.length, 1);

    fill();
    const change: SnapshotChange = {
      targets: [
        { mac: MAC(3), to: A },
        { mac: MAC(1), to: A },
      ],
      removedMacs: [MAC(2), MAC(3), MAC(99)],
      addresses: [{ ip: '192.168.0.1', mac: MAC(1) }],
      removedIps: ['192.168.0.1', 'fd00::2', '1.2.3.4'],
      revision: 'r3',
    };
    t.same(await host.changeSnapshot(change), { added: 0, changed: 1, removed: 1, moved: 1 });
    t.same([...overlay.table.keys()].sort(), [MAC(3), MAC(4)]);
    t.equal(overlay.announced.length, 2);
    t.equal(site.knowledge.snapshots.ownerOf(parseIp('fd00::2')!), undefined);
  },
);

await t.test('a bad row rejects, and the snapshot before stays in force', async (t) => {
  const site = newSite();
  const { host, ask } = await site.start({ onCreate: (host) => void host.replaceAll(snapshot()) });
  const cases: [Partial<Record<keyof Snapshot, unknown>>, RegExp][] = [
    [{ targets: undefined }, /gave undefined where a list of targets was expected/],
    [
      {
        targets: [
          { mac: MAC(1), to: A },
          { mac: -1, to: A },
        ],
      },
      /gave -1 where a MAC .*, in targets\[1\]/,
    ],
    [
      {
        targets: [
          { mac: MAC(1), to: A },
          { mac: MAC(1), to: B },
        ],
      },
      /an earlier row has as well, in targets\[1\]/,
    ],
    [{ targets: [{ mac: MAC(1), to: { ip: '2001:db8::1', port: 1 } }] }, /not of the same family/],
    [{ targets: [{ mac: MAC(1), to: A, ttlMs: 0 }] }, /ttlMs above 0/],
    [{ targets: [null] }, /in targets\[0\]/],
    [{ addresses: [{ ip: '10.1.1', mac: MAC(1) }] }, /gave '10\.1\.1' where the address of one station/],
    [{ addresses: [{ ip: 'ff02::1', mac: MAC(1) }] }, /the address of one station/],
    [{ addresses: [{ ip: '1.2.3.4', mac: BROADCAST }] }, /the MAC of one station/],
    [
      {
        addresses: [
          { ip: 'fd00::1', mac: MAC(1) },
          { ip: 'FD00:0::1', mac: MAC(2) },
        ],
      },
      /an earlier row has as well, in addresses\[1\]/,
    ],
    [{ revision: 5 }, /gave 5 where a revision/],
    [{ revision: 'x'.repeat(256) }, /where a revision of at most 255 characters/],
  ];
  for (const [bad, message] of cases) {
    await t.rejects(host.replaceAll(snapshot(bad as Partial<Snapshot>)), { message }, String(message));
    if ('targets' in bad && bad.targets === undefined) continue;
    const change = { targets: [{ mac: MAC(1), to: B }], revision: 'r', ...bad };
    if (!String(message).includes('earlier'))
      await t.rejects(
        host.changeSnapshot(change as SnapshotChange),
        { message },
        `change ${String(message)}`,
      );
  }
  for (const bad of [undefined, null, 5, 'x'])
    await t.rejects(host.replaceAll(bad as never), /where a snapshot/);
  t.same(await ask({ destinationMac: MAC(1) }), target(A), 'nothing has changed');
  t.match(site.health.report(), { status: 'ONLINE', details: /'r1'/ });
  const fresh = await newSite().start({ resolve: () => ({ kind: 'drop', reason: '' }) });
  await t.rejects(fresh.host.changeSnapshot({ revision: 'r' }), /there is none: call replaceAll first/);
});

await t.test('a snapshot outlives its instance, until the next one replaces it', async (t) => {
  const site = newSite();
  const first = await site.start({ onCreate: (host) => void host.replaceAll(snapshot()) });
  await first.instance.stop();
  await t.rejects(first.host.replaceAll(snapshot()), /after its end/);
  const request = { lookup: 1, destinationMac: MAC(1), sourceMac: 2, etherType: 0, vlan: 0 };
  t.same(site.knowledge.answer(request), target(A), 'without an instance');
  t.same(site.knowledge.answer({ ...request, destinationMac: MAC(9) }), {
    kind: 'drop',
    reason: 'lookup_drop',
  });
  const second = await site.start({});
  t.same(await second.ask({ destinationMac: MAC(1) }), target(A), 'while the next one has not replaced it');
  await second.host.replaceAll(snapshot({ targets: [{ mac: MAC(1), to: B }] }));
  t.same(await second.ask({ destinationMac: MAC(1) }), target(B));
  await second.instance.stop();
  // An instance with resolve that is gone is trouble: a MAC that the snapshot lacks is not simply unknown.
  const third = await site.start({ resolve: () => ({ kind: 'drop', reason: '' }) });
  await third.instance.stop();
  t.same(site.knowledge.answer({ ...request, destinationMac: MAC(9) }), {
    kind: 'drop',
    reason: 'lookup_failed',
  });
  site.knowledge.snapshots.end();
  t.match(site.knowledge.answer(request), { kind: 'drop' });
});

await t.test('snapshots come into force in their order', async (t) => {
  const site = newSite();
  const { host, ask } = await site.start({ onCreate: (host) => void host.replaceAll(snapshot()) });
  const rows = Array.from({ length: 20_000 }, (_, index) => ({ mac: MAC(index), to: B }));
  const [large, change] = [
    host.replaceAll(snapshot({ targets: rows, revision: 'large' })),
    host.changeSnapshot({ targets: [{ mac: MAC(5), to: A }], revision: 'after' }),
  ];
  t.same(await ask({ destinationMac: MAC(2) }), target(A, B), 'the one before answers meanwhile');
  t.same(await large, { added: 19_998, changed: 2, removed: 0, moved: 0 });
  t.same(await change, { added: 0, changed: 1, removed: 0, moved: 0 });
  t.same(await ask({ destinationMac: MAC(5) }), target(A));
  t.match(site.health.report().details, /'after': 20000 targets/);
});

await t.test('no step of a large snapshot is long, and others are answered in between', async (t) => {
  const rows = 200_000;
  const site = newSite();
  const { host, ask } = await site.start({ onCreate: (host) => void host.replaceAll(snapshot()) });
  const targets = Array.from({ length: rows }, (_, index) => ({
    mac: MAC(index),
    to: { ip: `10.0.${index % 100}.9`, port: 4789 },
  }));
  const addresses = Array.from({ length: rows }, (_, index) => ({
    ip: `fd00::${(index >> 16).toString(16)}:${(index & 0xffff).toString(16)}`,
    mac: MAC(index),
  }));
  let isOver = false;
  let answered = 0;
  const done = host.replaceAll({ targets, addresses, revision: 'large' }).finally(() => {
    isOver = true;
  });
  while (!isOver) {
    t.ok((await ask({ destinationMac: MAC(1) })).kind === 'target' || isOver);
    answered++;
    await turn();
  }
  t.same(await done, { added: rows - 2, changed: 2, removed: 0, moved: 0 });
  t.ok(answered > 20, `${answered} lookups were answered meanwhile`);
  t.equal(site.knowledge.snapshots.ownerOf(parseIp('fd00::1:1')!), MAC(0x1_0001));
});
