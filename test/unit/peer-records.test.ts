// The records of an overlay's peers: what the datapath counts for each address, in memory that the control side reads.
import t from 'tap';

import {
  HEARD,
  intAt,
  MAX_RECORDS,
  OTHERS,
  type PeerMemory,
  PeerRecords,
} from '../../src/core/peers/peer-records.js';
import { NONE } from '../../src/core/tables/mac-index.js';
import { PeerReports } from '../../src/datapath/userland/main/peer-reports.js';
import { nowTick } from '../../src/datapath/userland/main/drop-reports.js';
import type { PeerPlaces } from '../../src/core/peers/peer-places.js';
import type { PeerReport } from '../../src/model/peer-report.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as tcp from '../../src/wire/tcp.js';
import { toBytes } from '../../src/wire/ip.js';
import { IS_V6, NO_SIZE } from '../../src/wire/path-news.js';
import { address, concat, endpoint, frame, Lab, MAC, type Net, packet, type Tap } from '../helpers/lab.js';
import { times } from '../helpers/scenes.js';

const words = (ip: string): Int32Array => new Int32Array(toBytes(address(ip)).buffer);
const of = (index: number): string => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;

function heard(records: PeerRecords, record: number, tick: number): void {
  records.ints[intAt(record, HEARD)] = tick | 1;
}

class Reader {
  readonly reports = new PeerReports();
  readonly records = new PeerRecords((memory: PeerMemory) => {
    this.moves++;
    this.reports.moved(0, memory);
  });
  moves = 0;

  read(isOpen = true): PeerReport[] {
    return [...this.reports.read(new Map(), isOpen).peers];
  }

  others(): PeerReport | undefined {
    return this.reports.read(new Map(), true).others;
  }
}

await t.test('records are found, grow and are read', (t) => {
  const reader = new Reader();
  const { records } = reader;
  const count = 1000;
  for (let index = 1; index <= count; index++) {
    const ip = index % 2 === 0 ? of(index) : `fd00::${index.toString(16)}`;
    const record = records.add(words(ip), 0, true, 0);
    records.received(record, index, 100 * index);
    records.sent(record, 2 * index, 7, nowTick());
  }
  t.equal(records.find(words('10.9.9.9'), 0), OTHERS);
  const rows = reader.read();
  t.equal(rows.length, count);
  t.ok(reader.moves > 1, 'the memory has moved');
  t.match(rows[9], {
    ip: of(10),
    txFrames: 20,
    txBytes: 7,
    rxFrames: 10,
    rxBytes: 1000,
    rxReads: 1,
    isPeer: false,
  });
  t.ok((rows[9].sentAgoMs ?? Infinity) < 60_000);
  t.equal(rows[9].heardAgoMs, undefined);
  t.equal(rows[8].ip, 'fd00::9');
  t.strictSame(reader.read(false), [], 'strangers are for accept=any');
  t.end();
});

await t.test('a bounded table: destinations go before strangers', (t) => {
  const reader = new Reader();
  const { records } = reader;
  for (let index = 1; index < MAX_RECORDS; index++) {
    const record = records.add(words(of(index)), 0, index < 10, 0);
    if (index < 10) records.hold(record, 1, index);
    heard(records, record, 1000);
  }
  t.equal(records.add(words('10.200.0.1'), 0, false, 1001), OTHERS, 'all were heard just now');
  const taken = records.add(words('10.200.0.2'), 0, true, 1001);
  t.not(taken, OTHERS, 'a destination takes the place of a stranger');
  records.hold(taken, 1, 77);
  t.equal(records.find(words('10.200.0.2'), 0), taken);
  for (let index = 1; index < 10; index++) t.not(records.find(words(of(index)), 0), OTHERS, 'the held stay');
  t.equal(reader.read().length, MAX_RECORDS - 1, 'a stranger is gone');
  const later = 1000 + 7000;
  t.not(records.add(words('10.200.0.3'), 0, false, later), OTHERS, 'a minute later a stranger may come');
  t.equal(records.add(words('10.200.0.4'), 0, false, later), OTHERS, 'one a tick');
  t.not(records.add(words('10.200.0.4'), 0, false, later + 1), OTHERS);
  records.received(OTHERS, 5, 500);
  t.match(reader.others(), { rxFrames: 5, rxBytes: 500 });
  t.equal(reader.read().length, MAX_RECORDS - 1);
  t.end();
});

await t.test('all addresses held: the rest is counted together', (t) => {
  const { records } = new Reader();
  for (let index = 1; index < MAX_RECORDS; index++)
    records.hold(records.add(words(of(index)), 0, true, 0), 1, index);
  t.equal(records.add(words('10.200.0.1'), 0, true, 0), OTHERS);
  records.hold(OTHERS, 1, 5);
  t.equal(records.slot(OTHERS), 0, 'the record of the others belongs to no destination');
  t.end();
});

await t.test('ICMP: runs end when the peer is heard', (t) => {
  const reader = new Reader();
  const { records } = reader;
  const now = nowTick() - 2000;
  const record = records.add(words('10.0.0.2'), 0, true, now);
  const message = { kind: 0x303, port: 4789, words: words('10.0.0.9'), senderAt: 0 };
  const report = (): PeerReport['unreachable'] => reader.read()[0].unreachable;
  t.equal(report(), undefined);
  records.unreachable(record, message, now);
  records.unreachable(record, { ...message, kind: 0x301 }, now + 300);
  t.match(report(), { kind: 0x301, port: 4789, from: '10.0.0.9', messages: 2 });
  const lasted = (report()?.firstAgoMs ?? 0) - (report()?.lastAgoMs ?? 0);
  t.ok(Math.abs(lasted - 3000) <= 40, `the run lasted ${lasted} ms`);
  heard(records, record, now + 400);
  records.unreachable(record, { ...message, words: words('::') }, now + 500);
  t.match(report(), { messages: 1, from: undefined }, 'heard in between: a new run');
  records.age(now + 0x4000_0000);
  t.ok(records.isQuiet(record, now + 0x4000_0000, 100), 'long ago is not just now');
  t.end();
});

// -- The datapath

interface Pair {
  readonly lab: Lab;
  readonly net: Net;
  readonly other: Net;
  readonly tap: Tap;
  readonly back: Tap;
}

function pair(options: { readonly acceptAny?: boolean; readonly maxTargets?: number } = {}): Pair {
  const lab = new Lab();
  const [a, b] = [lab.vtep('192.0.2.1'), lab.vtep('192.0.2.2')];
  const net = a.overlay({ vnetid: 7, ...options });
  const other = b.overlay({ vnetid: 7, destination: a.endpoint });
  net.setTarget(MAC.b, [b.endpoint]);
  return { lab, net, other, tap: net.port(MAC.a), back: other.port(MAC.b) };
}

function peersOf(net: Net, isOpen = true): PeerReport[] {
  const reports = new PeerReports();
  reports.moved(0, net.vtep.peerMemories.get(net.id)!);
  return [...reports.read(new Map(), isOpen).peers];
}

await t.test('of many peers only those with a record are read every second', (t) => {
  const reader = new Reader();
  const peers = new Map(times(1000, (index) => [address(of(index)), 1]));
  for (const ip of [of(1), of(2), '192.0.2.9']) reader.records.add(words(ip), 0, true, 0);
  const recorded = (isOpen: boolean): string[] =>
    reader.reports.readRecorded(peers, isOpen).map(({ ip, isPeer }) => `${ip} ${isPeer}`);
  t.strictSame(recorded(false), [`${of(1)} true`, `${of(2)} true`]);
  t.strictSame(recorded(true), [`${of(1)} true`, `${of(2)} true`, '192.0.2.9 false']);
  const { peers: all } = reader.reports.read(peers, true);
  t.strictSame([all.length, all.filter(({ isPeer }) => isPeer).length], [1001, 1000]);
  t.end();
});

await t.test('frames are counted as the overlay counts them', (t) => {
  const { net, other, tap, back } = pair();
  tap.send(frame(MAC.b, MAC.a, 200), frame(MAC.b, MAC.a, 300));
  back.send(frame(MAC.a, MAC.b, 100));
  t.match(peersOf(net), [
    { ip: '192.0.2.2', txFrames: 2, txBytes: 500, rxFrames: 1, rxBytes: 100, asked: 0 },
  ]);
  t.match(peersOf(other), [{ ip: '192.0.2.1', txFrames: 1, txBytes: 100, rxFrames: 2, rxBytes: 500 }]);
  t.match(net.counters, { tx_frames: 2, tx_bytes: 500, rx_frames: 1, rx_bytes: 100 });
  t.end();
});

await t.test('a flood is counted for each of its peers; a slot that is used again', (t) => {
  const lab = new Lab();
  const a = lab.vtep('192.0.2.1');
  const net = a.overlay({ vnetid: 7 });
  const tap = net.port(MAC.a);
  const ends = [2, 3, 4].map((last) => endpoint(`192.0.2.${last}`));
  net.setTarget(MAC.all, ends);
  tap.send(frame(MAC.all, MAC.a, 100), frame(MAC.all, MAC.a, 100));
  t.strictSame(
    peersOf(net).map(({ ip, txFrames }) => [ip, txFrames]),
    ends.map(({ ip }) => [ip, 2]),
  );
  net.setTarget(MAC.all, [endpoint('192.0.2.9')]);
  tap.send(frame(MAC.all, MAC.a, 100));
  t.strictSame(
    peersOf(net).map(({ txFrames }) => txFrames),
    [2, 2, 2, 1],
    'the new one has its own record',
  );
  t.end();
});

await t.test('strangers are refused, or counted with accept=any', (t) => {
  for (const acceptAny of [false, true]) {
    const { net, back } = pair({ acceptAny });
    net.deleteTarget(MAC.b);
    back.send(frame(MAC.a, MAC.b, 100));
    const [row] = peersOf(net);
    t.equal(net.counters.rx_unknown_peer, acceptAny ? 0 : 1);
    t.equal(row.rxFrames, acceptAny ? 1 : 0);
  }
  const { net, back } = pair();
  net.deleteTarget(MAC.b);
  net.setPeers(address('192.0.2.2'));
  back.send(frame(MAC.a, MAC.b, 100));
  t.equal(net.counters.rx_frames, 1, 'named');
  net.setPeers();
  back.send(frame(MAC.a, MAC.b, 100));
  t.equal(net.counters.rx_unknown_peer, 1, 'named no longer');
  t.end();
});

await t.test('frames that ask for an answer', (t) => {
  const { net, other, tap, back } = pair();
  const asked = (): number => peersOf(net)[0].asked;
  const after = (what: string, expected: number, ...frames: readonly Uint8Array[]): void => {
    const before = asked();
    tap.send(...frames);
    t.equal(asked() - before, expected, what);
  };
  const arp = (to: number, operation: number): Uint8Array => {
    const payload = Uint8Array.from([0, 1, 8, 0, 6, 4, 0, operation, ...new Array<number>(20).fill(1)]);
    const bytes = concat(frame(to, MAC.a, 14), payload);
    bytes.set([0x08, 0x06], 12);
    return bytes;
  };
  for (const version of [4, 6] as const) {
    const icmp = (type: number): Uint8Array =>
      packet({
        version,
        protocol: version === 4 ? ipv4.ICMP : 58,
        payload: Uint8Array.from([type, 0, 0, 0, 0, 0, 0, 0]),
      });
    after(`TCP over IPv${version}`, 1, packet({ version, protocol: ipv4.TCP, tcpFlags: tcp.SYN }));
    after(`UDP over IPv${version}`, 0, packet({ version }));
    after(`echo request over IPv${version}`, 1, icmp(version === 4 ? 8 : 128));
    after(`echo reply over IPv${version}`, 0, icmp(version === 4 ? 0 : 129));
  }
  after(
    'neighbour solicitation',
    1,
    packet({ version: 6, protocol: 58, payload: Uint8Array.from([135, 0, 0, 0]) }),
  );
  after('ARP request', 1, arp(MAC.b, 1));
  after('ARP reply', 0, arp(MAC.b, 2));
  after('another protocol', 0, frame(MAC.b, MAC.a));
  net.setTarget(MAC.all, [other.vtep.endpoint]);
  after('a broadcast', 0, arp(MAC.all, 1));
  back.send(frame(MAC.a, MAC.b));
  after('it was heard just now', 0, packet({ protocol: ipv4.TCP }));
  t.end();
});

await t.test('ICMP that a peer cannot be reached', (t) => {
  const { net, tap } = pair();
  tap.send(frame(MAC.b, MAC.a, 100));
  const { vtep } = net;
  const quote = (vni: number): Uint8Array =>
    concat(Uint8Array.of(8, 0, 0, 0, 0, 0, vni, 0), frame(MAC.b, MAC.a, 56));
  const hear = (to: string, kind: number, quoted: Uint8Array, from?: string): number | undefined => {
    vtep.senders[0].icmp.push({
      to: endpoint(to),
      mtuBytes: NO_SIZE,
      kind,
      quoted,
      ...(from !== undefined && { sender: address(from) }),
    });
    vtep.lab.run();
    return peersOf(net)[0].unreachable?.messages;
  };
  t.equal(hear('192.0.2.2', 0x303, quote(9)), undefined, 'another VNI');
  t.equal(hear('192.0.2.7', 0x303, quote(7)), undefined, 'no peer');
  t.equal(hear('192.0.2.2', 0, quote(7)), undefined, 'another subject');
  t.equal(hear('192.0.2.2', 0x303, quote(7), '192.0.2.2'), 1);
  t.equal(
    hear('192.0.2.2', IS_V6 | 0x104, new Uint8Array(0), 'fd00::9'),
    2,
    'quoted too little to say of which overlay',
  );
  t.match(peersOf(net)[0].unreachable, { kind: IS_V6 | 0x104, from: 'fd00::9', port: 4789 });
  t.equal(net.counters.path_mtu_refused, 0, 'these are no messages about sizes');
  t.end();
});

await t.test('places: UDP port, path, stations', (t) => {
  const { net } = pair({ maxTargets: 50_000 });
  const many = 40_000;
  for (let index = 0; index < many; index++)
    net.setTarget(0x0200_0001_0000 + index, [endpoint('192.0.2.3', 4000)]);
  net.setTarget(0x0100_5e00_0002, [endpoint('192.0.2.2')]);
  const ips = ['192.0.2.2', '192.0.2.3', '192.0.2.4'].map((ip) => address(ip));
  let from: number | undefined = 0;
  const counts = [0, 0, 0];
  let last: PeerPlaces | undefined;
  for (let part = 0; from !== undefined; part++) {
    last = net.vtep.ask({ kind: 'describe-peers', overlay: net.id, ips, from, reply: 1 }) as PeerPlaces;
    last.places.forEach((place, index) => (counts[index] += place.stationCount));
    t.ok(part < 3, 'a few parts');
    from = last.next;
  }
  t.strictSame(counts, [1, many, 0], 'a group MAC lives nowhere');
  t.match(last?.places, [{ port: 4789 }, { port: 4000 }, { port: undefined, mtuBytes: undefined }]);
  t.equal(NONE, -1);
  t.end();
});
