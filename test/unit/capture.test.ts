// What a datapath thread captures, from the ring to the packet: in a network in memory, by the engine that the worker runs.
import t from 'tap';
import { type FilterRules, FrameFilter } from '../../src/core/capture/capture-filter.js';
import {
  CAPTURED,
  createRing,
  DATA,
  LOST_RECORD,
  REASON,
  RingReader,
  RingWriter,
  type RingMemory,
} from '../../src/core/capture/capture-ring.js';
import type { CaptureRules } from '../../src/core/capture/capture-tap.js';
import { COUNTER } from '../../src/core/counts/counters.js';
import { packetsOf } from '../../src/daemon/observe/capture-packets.js';
import type { CapturedFrame } from '../../src/datapath/contract.js';
import { RingCapture } from '../../src/datapath/userland/main/capture.js';
import type { Command } from '../../src/datapath/userland/protocol.js';
import { parse, toBytes } from '../../src/wire/ip.js';
import { concat, frame, hex, Lab, MAC, type Net, packet, type Vtep } from '../helpers/lab.js';
import { fromHex } from '../vectors/frames.js';

await t.test('the ring: records in order, whatever wraps, and what there is no room for is counted', (t) => {
  const memory: RingMemory = createRing(1 << 12);
  const writer = new RingWriter(memory);
  const reader = new RingReader(memory);
  const place = writer.placeOf('foo0');
  const sizes = [1, 60, 1500, 700, 3, 1400, 64];
  let written = 0;
  let read = 0;
  const put = (bytes: Uint8Array): number => {
    const record = writer.begin(place, bytes.length, written, 1);
    if (record === LOST_RECORD) return record;
    writer.words[record + REASON] = 0;
    writer.copy(bytes, 0, bytes.length, record + DATA);
    written++;
    return record;
  };
  const contentOf = (number: number): Uint8Array =>
    new Uint8Array(sizes[number % sizes.length]).fill(number & 0xff);
  for (let round = 0; round < 200; round++) {
    for (let each = 0; each < 1 + (round % 3); each++) if (put(contentOf(written)) === LOST_RECORD) break;
    if (reader.peek() !== LOST_RECORD) t.fail('a record that is not published');
    writer.publish();
    for (let record = reader.peek(); record !== LOST_RECORD; record = reader.peek()) {
      if (hex(reader.data(record)) !== hex(contentOf(read))) t.fail(`record ${read}`);
      if (reader.timeMs(record) !== read) t.fail(`time of record ${read}`);
      reader.next(record);
      read++;
    }
  }
  t.equal(read, written);
  const lostBefore = reader.lost().get('foo0') ?? 0;
  let kept = 0;
  for (let each = 0; each < 100; each++) if (put(new Uint8Array(1000)) !== LOST_RECORD) kept++;
  writer.publish();
  t.ok(kept >= 2 && kept <= 3, `${kept} of a hundred have room`);
  t.equal(
    (reader.lost().get('foo0') ?? 0) - lostBefore,
    100 - kept,
    'each lost one is counted, for its port',
  );
  t.equal(reader.words[reader.peek() + CAPTURED], 1000, 'the oldest stay');
  t.end();
});

await t.test('the filter: all that is given holds', (t) => {
  const ip = (text: string): Uint8Array => toBytes(parse(text)!);
  const v4 = packet({});
  const v6 = packet({ version: 6 });
  const matches = (rules: FilterRules, bytes: Uint8Array, vid = 0): boolean =>
    new FrameFilter(rules).matches(concat(new Uint8Array(5), bytes), 5, bytes.length, vid);
  const to = v4.subarray(30, 34).join('.');
  t.ok(matches({}, v4));
  t.ok(matches({ mac: MAC.a }, frame(MAC.b, MAC.a)), 'a source');
  t.ok(matches({ mac: MAC.b }, frame(MAC.b, MAC.a)), 'a destination');
  t.notOk(matches({ mac: MAC.c }, frame(MAC.b, MAC.a)));
  t.ok(matches({ ip: ip(to) }, v4), 'an inner address');
  t.notOk(matches({ ip: ip('10.9.9.9') }, v4));
  t.notOk(matches({ ip: ip(to) }, v6));
  t.ok(matches({ ip: v6.slice(38, 54) }, v6));
  t.ok(matches({ etherType: 0x86dd }, v6));
  t.notOk(matches({ etherType: 0x0800 }, v6));
  const tagged = frame(MAC.b, MAC.a, 64, 5);
  t.ok(matches({ vlan: 5 }, tagged), 'by its tag');
  t.notOk(matches({ vlan: 6 }, tagged));
  t.ok(matches({ vlan: 0 }, frame(MAC.b, MAC.a)), 'without a tag');
  t.ok(matches({ vlan: 7 }, frame(MAC.b, MAC.a), 7), 'by the VLAN of its port');
  const arp = concat(
    fromHex(
      'ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a 0a000001 000000000000 0a000002',
    ),
    new Uint8Array(18),
  );
  for (const about of ['10.0.0.1', '10.0.0.2']) t.ok(matches({ ip: ip(about) }, arp), `ARP about ${about}`);
  t.notOk(matches({ ip: ip('10.0.0.3') }, arp));
  t.notOk(matches({ ip: ip('10.0.0.1'), mac: MAC.c }, arp), 'and');
  t.notOk(matches({ ip: ip('10.0.0.1') }, arp.subarray(0, 30)), 'what is cut off');
  t.notOk(matches({ mac: MAC.a }, new Uint8Array(3)));
  t.end();
});

const ALL: CaptureRules = { filter: {}, isDropsOnly: false, snapBytes: 65_536, isCut: false };

/** A capture of an overlay in memory. What it has taken: where, why it was dropped, and the frame. */
function watch(
  net: Net,
  rules: Partial<CaptureRules> = {},
): { take: () => string[][]; frames: () => CapturedFrame[] } {
  const { vtep } = net;
  const link = {
    post: (command: Command) => {
      vtep.obey(command);
    },
    invalidate: () => undefined,
    request: () => Promise.resolve(),
    inspect: () => Promise.resolve(),
  };
  const source = {
    overlay: net.id,
    links: [link],
    listen: vtep.endpoint,
    senderPorts: vtep.senders.map(({ local }) => local.port),
    stopped: () => undefined,
  };
  const capture = new RingCapture(source, { ...ALL, ...rules });
  const frames = (): CapturedFrame[] => {
    const taken: CapturedFrame[] = [];
    for (let one = capture.next(); one !== undefined; one = capture.next()) taken.push(one);
    return taken;
  };
  const take = (): string[][] =>
    frames().map(({ point, port, dropped, data, leadBytes }) => [
      `${point} ${port}`.trim(),
      dropped ?? '',
      hex(data.subarray(leadBytes)),
    ]);
  return { take, frames };
}

function site(): { lab: Lab; vtep: Vtep; net: Net; peer: ReturnType<Lab['peer']> } {
  const lab = new Lab();
  const peer = lab.peer('192.0.2.2');
  const vtep = lab.vtep('192.0.2.1');
  return { lab, vtep, peer, net: vtep.overlay({ vnetid: 7, destination: peer.local }) };
}

await t.test('where a frame is seen', (t) => {
  const { lab, vtep, net, peer } = site();
  const [a, b] = [net.port(MAC.a), net.port(MAC.b, { vid: 5 })];
  const [atA, atB] = [`port${a.token}`, `port${b.token}`];
  const { take, frames } = watch(net);
  const alone = watch(net, { port: atB });
  const out = frame(MAC.c, MAC.a);
  a.send(out);
  t.same(take(), [
    [`from-port ${atA}`, '', hex(out)],
    ['to-tunnel', '', hex(out)],
  ]);
  b.send(frame(MAC.c, MAC.b));
  t.same(
    take(),
    [
      [`from-port ${atB}`, '', hex(frame(MAC.c, MAC.b))],
      ['to-tunnel', '', hex(frame(MAC.c, MAC.b, 64, 5))],
    ],
    'an access port sees no tag',
  );
  const header = '08000000 00000700';
  lab.inject(peer, vtep, header, frame(MAC.b, MAC.c, 64, 5), 3);
  const [from, to] = frames();
  t.match(from, {
    point: 'from-tunnel',
    from: { ip: '192.0.2.2', port: 4789 },
    to: vtep.endpoint,
    leadBytes: 8,
    trafficClass: 3,
  });
  t.equal(hex(from.data.subarray(0, 8)), hex(fromHex(header)));
  t.match(to, { point: 'to-port', port: atB });
  t.equal(hex(to.data), hex(frame(MAC.b, MAC.c)));
  t.same(
    alone.take().map(([place]) => place),
    [`from-port ${atB}`, `to-port ${atB}`],
    'a capture of one port',
  );
  t.end();
});

await t.test('why a frame is dropped', (t) => {
  const { lab, vtep, net, peer } = site();
  const [a, b] = [net.port(MAC.a), net.port(MAC.b, { vid: 5 })];
  const [atA, atB] = [`port${a.token}`, `port${b.token}`];
  const [all, drops, one] = [
    watch(net),
    watch(net, { isDropsOnly: true }),
    watch(net, { isDropsOnly: true, reason: COUNTER.rx_unknown_vni }),
  ];
  const big = frame(MAC.c, MAC.b, 1600);
  b.send(big);
  t.same(
    all.take(),
    [[`from-port ${atB}`, 'tx_too_big', hex(big)]],
    'the record of the frame has the reason',
  );
  t.same(drops.take(), [[`from-port ${atB}`, 'tx_too_big', hex(big)]], 'without the tag that it was given');
  const stranger = lab.peer('192.0.2.9');
  lab.inject(stranger, vtep, '08000000 00000700', frame(MAC.a, MAC.c));
  const unknown = [['from-tunnel', 'rx_unknown_peer', hex(frame(MAC.a, MAC.c))]];
  t.same(all.take(), unknown);
  const [dropped] = drops.frames();
  t.match(dropped, { dropped: 'rx_unknown_peer', from: { ip: '192.0.2.9' }, leadBytes: 8 });
  lab.inject(peer, vtep, '08000000 00000900', frame(MAC.a, MAC.c));
  const datagram = `0800000000000900${hex(frame(MAC.a, MAC.c))}`;
  for (const each of [all, drops, one]) t.same(each.take(), [['from-socket', 'rx_unknown_vni', datagram]]);
  a.port.isUp = false;
  b.send(frame(MAC.a, MAC.b));
  const tagged = hex(frame(MAC.a, MAC.b, 64, 5));
  t.same(all.take(), [
    [`from-port ${atB}`, '', hex(frame(MAC.a, MAC.b))],
    [`to-port ${atA}`, 'port_down', tagged],
  ]);
  t.same(drops.take(), [[`to-port ${atA}`, 'port_down', tagged]]);
  t.end();
});

await t.test('a frame that waited is there twice, with the reason at last', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const net = vtep.overlay();
  const port = net.port(MAC.b, { vid: 5 });
  const { take } = watch(net);
  port.send(frame(MAC.c, MAC.b));
  const seen = [`from-port port${port.token}`, '', hex(frame(MAC.c, MAC.b))];
  t.same(take(), [seen]);
  net.answer(vtep.questions.at(-1), { kind: 'drop', reason: 'lookup_timeout' });
  t.same(take(), [[seen[0], 'lookup_timeout', seen[2]]]);
  t.end();
});

await t.test('one of two captures ends, and the other goes on; with the overlay all do', (t) => {
  const { net } = site();
  const port = net.port(MAC.a);
  const [one, other] = [watch(net), watch(net)];
  const start = { kind: 'start-capture', overlay: net.id, rules: ALL, ring: createRing(1 << 12) } as const;
  net.vtep.obey({ ...start, capture: 77 });
  net.vtep.obey({ kind: 'stop-capture', capture: 77, reply: 1 });
  port.send(frame(MAC.c, MAC.a));
  t.equal(one.take().length, 2);
  t.equal(other.take().length, 2);
  net.remove();
  net.vtep.overlay({ vnetid: 7 }).port(MAC.a).send(frame(MAC.c, MAC.a));
  t.equal(one.take().length, 0, 'another overlay of the same number is not theirs');
  t.end();
});

await t.test('a port that is renamed is captured on, under its new name', (t) => {
  const { net } = site();
  const [port, other] = [net.port(MAC.a), net.port(MAC.b)];
  const alone = watch(net, { port: `port${port.token}` });
  net.vtep.obey({ kind: 'rename-port', token: port.token, name: 'web0' });
  const out = frame(MAC.c, MAC.a);
  port.send(out);
  other.send(frame(MAC.c, MAC.b));
  t.same(alone.take(), [['from-port web0', '', hex(out)]]);
  t.end();
});

await t.test('a packet with its outer headers', (t) => {
  const { lab, net } = site();
  const { frames } = watch(net);
  net.port(MAC.a).send(packet({ trafficClass: 2 }));
  const [, sent] = frames();
  const [bare] = packetsOf(sent, { isCut: false, isOuter: false, snapBytes: 65_536 });
  t.match(bare, { linkType: 1, direction: 'out', comment: 'to 192.0.2.2:4789' });
  t.equal(hex(bare.data), hex(packet({ trafficClass: 2 })));
  const [outer] = packetsOf(sent, { isCut: false, isOuter: true, snapBytes: 65_536 });
  t.match(outer, { linkType: 101, originalBytes: outer.data.length });
  t.equal(hex(outer.data.subarray(28)), hex(lab.datagrams[0].bytes), 'the datagram as it left');
  t.equal(hex(outer.data.subarray(12, 20)), 'c0000201c0000202');
  t.equal(outer.data[1], 2, 'traffic class');
  const [short] = packetsOf(sent, { isCut: false, isOuter: true, snapBytes: 30 });
  t.match([short.data.length, short.originalBytes], [30, outer.originalBytes]);
  t.end();
});
