// Who a unicast MAC belongs to at this host: a port that has it, the own port for what is behind it, or another host.
import t, { type Test } from 'tap';
import type { OverlayOptions, Question } from '../../src/core/overlay.js';
import { createPresence, Presence, setDown } from '../../src/core/presence.js';
import {
  createStationMemory,
  MAX_STATIONS,
  STATION_LIFE_MS,
  Stations,
} from '../../src/core/tables/stations.js';
import { TICK_MS } from '../../src/core/tables/target-table.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import { highOf, lowOf } from '../../src/wire/mac.js';
import { endpoint, frame, hex, Lab, MAC, type Net, type Tap, type Vtep } from '../helpers/lab.js';
import { VXLAN_100 } from '../helpers/scenes.js';

/** Behind a bridge on the own interface. */
const GUEST = 0x0200_0000_0077;
const SECOND_GUEST = 0x0200_0000_0078;

interface Host {
  readonly lab: Lab;
  readonly vtep: Vtep;
  readonly net: Net;
  readonly own: Tap;
  readonly vnic: Tap;
  /** What has entered the tunnel since it was last asked. */
  readonly left: () => number;
  /** A frame from the other host. */
  readonly arrives: (bytes: Uint8Array, ip?: string) => void;
}

/** Mode dynamic, where `answers` says who lives where. */
function host(options: Partial<OverlayOptions> = {}, answers: ReadonlyMap<number, string> = new Map()): Host {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peers = new Map(['192.0.2.2', '192.0.2.3'].map((ip) => [ip, lab.peer(ip)]));
  const net = vtep.overlay(options);
  if (options.destination === undefined)
    vtep.resolve = ({ destinationMac }: Question): LookupAnswer => {
      const ip = answers.get(destinationMac);
      return ip === undefined
        ? { kind: 'drop', reason: 'lookup_drop' }
        : { kind: 'target', to: [endpoint(ip)], ttlMs: Infinity };
    };
  net.setPeers(...[...peers.values()].map(({ local }) => local.ip));
  const own = net.port(MAC.a, { own: true });
  const vnic = net.port(MAC.c);
  let seen = 0;
  return {
    lab,
    vtep,
    net,
    own,
    vnic,
    left: () => {
      const sent = lab.datagrams.filter(({ from }) => from.ip === vtep.endpoint.ip).length;
      const more = sent - seen;
      seen = sent;
      return more;
    },
    arrives: (bytes, ip = '192.0.2.2') => {
      lab.inject(peers.get(ip)!, vtep, VXLAN_100, bytes);
    },
  };
}

const point = (options: Partial<OverlayOptions> = {}): Host =>
  host({ destination: endpoint('192.0.2.2'), ...options });

const hears = (t: Test, tap: Tap, bytes: Uint8Array | undefined, what: string): void => {
  t.same(tap.take().map(hex), bytes === undefined ? [] : [hex(bytes)], what);
};

t.test('what the mapping places at this host is behind the own port, both ways', (t) => {
  const { net, own, vnic, left, vtep, arrives } = host({}, new Map([[GUEST, '192.0.2.1']]));
  const [to, from] = [frame(GUEST, MAC.c), frame(MAC.c, GUEST)];
  vnic.send(to);
  hears(t, own, to, 'also the frame that waited for the answer');
  vnic.send(to);
  hears(t, own, to, 'and those after it');
  own.send(from);
  hears(t, vnic, from, 'back');
  arrives(frame(GUEST, MAC.b));
  t.equal(own.take().length, 1, 'from another host, as ever');
  t.same(net.targets(), [{ mac: GUEST, state: 'valid', to: [vtep.endpoint] }]);
  own.send(frame(GUEST, SECOND_GUEST));
  hears(t, own, undefined, 'what comes from there does not go back there');
  t.match(net.counters, { local_frames: 3, tx_hairpin: 1, tx_frames: 0, lookups: 1, rx_unclaimed: 1 });
  t.equal(left(), 0);
  net.setTarget(GUEST, [endpoint('192.0.2.2')]);
  vnic.send(to);
  hears(t, own, undefined, 'it has moved away');
  t.equal(left(), 1);
  net.setTarget(GUEST, [vtep.endpoint]);
  own.remove();
  vnic.send(to);
  t.same(net.drops, { tx_hairpin: 1, lookup_drop: 1 }, 'while there is no own port');
  t.end();
});

t.test('a frame of the own port that waited does not come back to it', (t) => {
  const { net, own, vtep, left } = host({}, new Map([[GUEST, '192.0.2.1']]));
  own.send(frame(GUEST, SECOND_GUEST), frame(GUEST, MAC.a));
  hears(t, own, undefined, 'both waited');
  t.same([net.drops, vtep.questions.length, left()], [{ tx_hairpin: 2 }, 1, 0]);
  t.end();
});

t.test('here and elsewhere at once: one copy each', (t) => {
  const { net, own, vnic, vtep, left } = host();
  net.setTarget(GUEST, [vtep.endpoint, endpoint('192.0.2.2'), endpoint('192.0.2.3')]);
  vnic.send(frame(GUEST, MAC.c));
  t.same([own.take().length, left()], [1, 2]);
  own.send(frame(GUEST, SECOND_GUEST));
  t.same([own.take().length, left(), net.drops], [0, 2, { tx_hairpin: 1 }]);
  t.end();
});

t.test('VLANs: tagged frames for who is behind the own port, also where none enter the tunnel', (t) => {
  for (const carryTags of [true, false]) {
    const { net, own, left } = host({ carryTags }, new Map([[GUEST, '192.0.2.1']]));
    const access = net.port(MAC.d, { vid: 5 });
    access.send(frame(GUEST, MAC.d));
    const first = own.take().length;
    t.equal(
      first,
      carryTags ? 1 : 0,
      'where it lives is asked; a frame with a tag may wait only for the tunnel',
    );
    access.send(frame(GUEST, MAC.d));
    hears(t, own, frame(GUEST, MAC.d, 64, 5), 'with its tag');
    own.send(frame(MAC.d, GUEST, 64, 5));
    hears(t, access, frame(MAC.d, GUEST), 'without');
    own.send(frame(MAC.d, GUEST, 64, 6));
    hears(t, access, undefined, 'another VLAN');
    t.equal(left(), 0);
  }
  t.end();
});

t.test('strict-source: who lives here does not speak from elsewhere', (t) => {
  const { net, own, arrives } = host({ strictSource: true }, new Map([[GUEST, '192.0.2.1']]));
  arrives(frame(MAC.a, GUEST));
  arrives(frame(MAC.a, GUEST));
  t.same([own.take().length, net.drops], [0, { rx_source_unknown: 1, rx_source_mismatch: 1 }]);
  t.end();
});

// -- Mode point

t.test('mode point: who was heard behind the own port is there', (t) => {
  const { net, own, vnic, left, arrives } = point();
  const to = frame(GUEST, MAC.c);
  vnic.send(to);
  t.equal(left(), 1, 'nobody has been heard');
  own.send(frame(MAC.all, GUEST));
  vnic.take();
  left();
  vnic.send(to);
  hears(t, own, to, 'it has');
  own.send(frame(MAC.c, GUEST));
  hears(t, vnic, frame(MAC.c, GUEST), 'back');
  own.send(frame(GUEST, SECOND_GUEST));
  t.same([own.take().length, net.counters.tx_hairpin], [0, 1], 'what is behind one bridge needs no other');
  t.equal(left(), 0);
  arrives(frame(MAC.all, GUEST));
  vnic.send(to);
  t.equal(left(), 1, 'it has moved to the other host');
  own.send(frame(MAC.all, GUEST));
  own.take();
  left();
  vnic.send(to);
  hears(t, own, to, 'and back');
  t.end();
});

t.test('mode point: VNICs are not learned from, nor groups, nor the port itself', (t) => {
  const { vtep, net, own, vnic, left } = point();
  vnic.send(frame(MAC.all, GUEST));
  own.send(frame(MAC.all, MAC.group), frame(MAC.all, 0), frame(MAC.all, MAC.a));
  left();
  const rows = net.recentTargets(10);
  t.same(rows, []);
  vnic.send(frame(GUEST, MAC.c));
  t.equal(left(), 1);
  t.equal(net.counters.tx_other_source, 1, 'a VNIC that speaks as another is counted');
  t.match(vtep.notices, [{ kind: 'otherSource', mac: GUEST }]);
  t.end();
});

t.test('mode point: a restart knows who was heard', (t) => {
  const before = point();
  before.own.send(frame(MAC.all, GUEST));
  const rows = before.net.recentTargets(10);
  t.same(rows, [{ mac: GUEST, state: 'valid', to: [before.vtep.endpoint] }]);
  const { vtep, net, own, vnic, left } = point();
  const targets = [...rows, { mac: MAC.d, to: [endpoint('192.0.2.2')] }];
  vtep.obey({ kind: 'restore-targets', overlay: net.id, targets });
  vnic.send(frame(GUEST, MAC.c), frame(MAC.d, MAC.c));
  t.same([own.take().length, left()], [1, 1]);
  t.end();
});

t.test('mode point: an overlay with several threads hears with all of them', (t) => {
  const memory = createStationMemory();
  const [one, other] = [new Stations(memory), new Stations(memory)];
  one.learn(highOf(GUEST), lowOf(GUEST), 7);
  t.ok(other.has(highOf(GUEST), lowOf(GUEST), 8));
  other.forget(highOf(GUEST), lowOf(GUEST));
  t.notOk(one.has(highOf(GUEST), lowOf(GUEST), 8));
  t.end();
});

t.test('stations are forgotten when they are silent, or when others have been heard since', (t) => {
  for (const start of [0, 0x7fff_fff0, -20]) {
    const stations = new Stations(createStationMemory());
    const life = STATION_LIFE_MS / TICK_MS;
    stations.learn(0x0200, 1, start);
    t.ok(stations.has(0x0200, 1, (start + life - 1) | 0));
    t.notOk(stations.has(0x0200, 1, (start + life) | 0));
    t.same(stations.list((start + life) | 0), []);
    stations.age((start + life) | 0);
    t.notOk(stations.has(0x0200, 1, start), 'for good');
    for (let index = 0; index < 20 * MAX_STATIONS; index++) stations.learn(0x0202, index, (start + 1) | 0);
    const known = stations.list((start + 2) | 0);
    t.ok(known.length <= MAX_STATIONS && known.length > 0.9 * MAX_STATIONS, `${known.length}`);
    for (let index = 0; index < 1000; index++) stations.learn(0x0204, index, (start + 2) | 0);
    const missing = Array.from({ length: 1000 }, (_, index) => index).filter(
      (index) => !stations.has(0x0204, index, (start + 2) | 0),
    );
    t.ok(missing.length < 10, `the latest push the oldest out (${missing.length})`);
  }
  t.end();
});

// -- The same MAC at two hosts

const SOME = frame(MAC.all, MAC.c);

t.test('a VNIC that has sent nothing, or is down, keeps nobody from speaking elsewhere', (t) => {
  for (const make of [() => host({}, new Map([[MAC.c, '192.0.2.2']])), point]) {
    const { net, own, vnic, arrives, left } = make();
    arrives(SOME);
    hears(t, own, SOME, 'its VNIC is silent');
    left();
    own.send(frame(MAC.c, MAC.a));
    own.send(frame(MAC.c, MAC.a));
    t.equal(
      left(),
      make === point ? 2 : 1,
      'and frames to it go there, with a mapping as soon as that is known',
    );
    vnic.take();
    vnic.send(SOME);
    own.take();
    left();
    own.send(frame(MAC.c, MAC.a));
    t.same([vnic.take().length, left()], [1, 0], 'it has come here');
    vnic.setDown(true);
    arrives(SOME);
    hears(t, own, SOME, 'its VNIC is down');
    vnic.take();
    own.send(frame(MAC.c, MAC.a));
    t.same([vnic.take().length, left()], [0, 1], 'and is elsewhere');
    vnic.setDown(false);
    t.same(net.drops, make === point ? {} : { tx_group: 1 }, 'but one that the plugin does not flood');
  }
  t.end();
});

t.test('what a port has just sent is a loop when it comes back, unless the mapping has it there', (t) => {
  for (const [place, make] of [
    ['mode point', point],
    ['here', () => host({}, new Map([[MAC.c, '192.0.2.1']]))],
    ['nowhere', () => host()],
    ['at a third host', () => host({}, new Map([[MAC.c, '192.0.2.3']]))],
  ] as const) {
    const { vtep, net, own, vnic, arrives } = make();
    vnic.send(SOME);
    own.take();
    arrives(SOME);
    arrives(SOME);
    t.same([own.take().length, net.counters.rx_bad_source], [0, 2], place);
    t.same(vtep.notices, [{ kind: 'badSource', overlay: net.id, mac: MAC.c, from: '192.0.2.2' }]);
    vtep.engine.setTime(1000);
    arrives(SOME);
    hears(t, own, SOME, 'after a while it is none');
  }
  const { net, own, vnic, arrives } = host({}, new Map([[MAC.c, '192.0.2.2']]));
  vnic.send(SOME);
  own.take();
  arrives(SOME);
  t.equal(net.counters.rx_bad_source, 1, 'where it lives is not known yet');
  arrives(SOME);
  hears(t, own, SOME, 'virtual routers, each with a VNIC of the same MAC');
  t.end();
});

t.test('what the mapping says of a silent port is followed, and of one that speaks when it changes', (t) => {
  const answers = new Map([[MAC.c, '192.0.2.1']]);
  const { vtep, net, own, vnic, left } = host({}, answers);
  const to = frame(MAC.c, MAC.a);
  const asked = () => vtep.questions.filter(({ destinationMac }) => destinationMac === MAC.c).length;
  vtep.engine.setTime(0);
  own.send(to, to);
  t.same([vnic.take().length, asked()], [2, 1], 'nothing waits for the answer');
  vnic.send(SOME);
  vtep.engine.setTime(3900);
  own.send(to);
  net.deleteTarget(MAC.c);
  own.send(to);
  t.same([vnic.take().length, asked()], [2, 1], 'it has been heard: nobody is asked');
  vtep.engine.setTime(4000);
  own.send(to);
  t.same([vnic.take().length, asked()], [1, 2], 'it is silent: the plugin is asked');
  vnic.send(SOME);
  answers.set(MAC.c, '192.0.2.2');
  net.invalidate(MAC.c);
  left();
  own.send(to);
  own.send(to);
  t.same([vnic.take().length, left()], [1, 1], 'the guest has moved, says the mapping');
  answers.delete(MAC.c);
  net.invalidate();
  own.send(to, to);
  t.same([vnic.take().length, left()], [2, 0], 'a mapping that has no word on it leaves it here');
  t.end();
});

t.test('presence is seen by all threads', (t) => {
  const memory = createPresence();
  const [one, other] = [new Presence(memory), new Presence(memory)];
  one.sent(5);
  t.ok(other.isAlive(6));
  other.heardElsewhere();
  t.ok(one.isElsewhere);
  one.sent(6);
  setDown(memory, true);
  t.ok(other.isDown);
  t.notOk(other.isAlive(6));
  setDown(memory, false);
  t.notOk(other.isAlive(6), 'up again, and silent');
  t.end();
});
