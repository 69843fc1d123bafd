// Loopback messages in the datapath: which are answered and how, what a probe sends and hears, and which socket sends it.
import t from 'tap';
import * as flow from '../../src/core/flow.js';
import { LOOPBACK_RATE } from '../../src/core/probe/loopback-replies.js';
import { REPORT_RATE } from '../../src/core/probe/probe.js';
import { loopbackFrame, neighborFrame, pathOf } from '../../src/daemon/observe/probe-frames.js';
import * as arp from '../../src/wire/arp.js';
import { describe } from '../../src/wire/describe.js';
import * as loopback from '../../src/wire/loopback.js';
import * as ndp from '../../src/wire/ndp.js';
import { answerArp, readArp } from '../../src/core/proxy/proxy-arp.js';
import { answerNdp, readNdp } from '../../src/core/proxy/proxy-ndp.js';
import { address, concat, frame, MAC, type Tap, type Vtep } from '../helpers/lab.js';
import { asking, facing, inner, pair, remote, same, times, VXLAN_100 } from '../helpers/scenes.js';
import { frame as vector, fromHex } from '../vectors/frames.js';

const ON = { answersLoopback: true };
/** The upper half of a probe's transactions, and one of them. */
const SERIES = 0xbeef;
const ID = (SERIES << 16) | 7;

const message = (to: number, vid = 0, id = 1, packetBytes = 46): Uint8Array =>
  loopbackFrame({ from: MAC.b, to, vid }, id, packetBytes);

/** The same bytes with the addresses exchanged and the other OpCode. */
function replyTo(request: Uint8Array): Uint8Array {
  const reply = concat(request.subarray(6, 12), request.subarray(0, 6), request.subarray(12));
  reply[(request[12] === 0x81 ? 18 : 14) + 1] = loopback.REPLY;
  return reply;
}

await t.test('a message to a port is answered through the tunnel, and not delivered', (t) => {
  for (const encapsulation of ['vxlan', 'geneve'] as const)
    for (const [ip, peerIp] of [
      ['192.0.2.1', '192.0.2.2'],
      ['2001:db8::1', '2001:db8::2'],
    ]) {
      const { net, port, peer, inject } = facing(ON, { ip, peerIp, encapsulation });
      const vnic = net.port(MAC.c, { vid: 5 });
      const messages = [message(MAC.a), message(MAC.a, 7, 2, 1450), message(MAC.c, 5, 3, 64)];
      for (const one of messages) inject(one);
      same(t, inner(peer), messages.map(replyTo), `${encapsulation} over ${ip}`);
      t.same([port.take(), vnic.take()], [[], []]);
      t.match(net.counters, { loopback_answers: 3, rx_frames: 0, tx_frames: 3 });
      t.same(net.drops, {});
    }
  t.same(replyTo(vector('loopbackMessage')), vector('loopbackReply'), 'as in the vectors');
  t.end();
});

await t.test('whatever else the answer may have: level, flags, TLVs, padding come back', (t) => {
  const { peer, inject } = facing(ON);
  const odd = concat(
    message(MAC.a).subarray(0, 14),
    fromHex('43 03 ff 04 deadbeef 1f0003aabbcc 00'),
    new Uint8Array(31),
  );
  inject(odd);
  same(t, inner(peer), [replyTo(odd)], 'byte by byte');
  t.end();
});

await t.test('a message that is not answered is delivered as any other frame', (t) => {
  const refused: readonly [string, Parameters<typeof facing>[0], Uint8Array, Tap?][] = [
    ['loopback=off', {}, message(MAC.a)],
    ['to a MAC that no port has', ON, message(MAC.d)],
    ['to a group', ON, message(MAC.group)],
    ['cut off', ON, message(MAC.a).subarray(0, 14 + 7)],
    ['another OpCode', ON, vectorWith(15, 1)],
    ['a first TLV that is inside the header', ON, vectorWith(17, 3)],
    [
      'a reply to a probe of another program',
      ON,
      replyTo(loopbackFrame({ from: MAC.a, to: MAC.b, vid: 0 }, 1, 46)),
    ],
  ];
  for (const [name, options, bytes] of refused) {
    const { net, port, peer, inject } = facing(options);
    inject(bytes);
    same(t, port.take(), [bytes], name);
    t.same([inner(peer), net.counters.loopback_answers, net.drops], [[], 0, {}], `${name}: no answer`);
  }
  const { net, peer, inject } = facing(ON);
  const access = net.port(MAC.c, { vid: 5 });
  inject(message(MAC.c, 6));
  t.same([inner(peer), access.take(), net.drops], [[], [], { rx_no_port: 1 }], 'in another VLAN');
  t.end();
});

function vectorWith(at: number, value: number): Uint8Array {
  const bytes = message(MAC.a);
  bytes[at] = value;
  return bytes;
}

await t.test('a sender that is no peer gets no answer, even where every sender is accepted', (t) => {
  const { lab, vtep, net, port } = facing({ ...ON, acceptAny: true });
  const stranger = lab.peer('192.0.2.99');
  lab.inject(stranger, vtep, VXLAN_100, message(MAC.a));
  t.same(inner(stranger), []);
  t.equal(port.take().length, 1, 'its frame is delivered');
  const strict = facing(ON);
  strict.lab.inject(strict.lab.peer('192.0.2.99'), strict.vtep, VXLAN_100, message(MAC.a));
  t.same([strict.port.take(), strict.net.drops], [[], { rx_unknown_peer: 1 }]);
  t.equal(net.counters.loopback_answers, 0);
  t.end();
});

await t.test('no more answers than the rate allows, and more after a while', (t) => {
  const { lab, vtep, peer, net, port, inject } = facing(ON);
  for (let id = 0; id < 400; id++) inject(message(MAC.a, 0, id));
  t.equal(inner(peer).length, LOOPBACK_RATE.burst);
  t.same(net.drops, { rx_loopback: 400 - LOOPBACK_RATE.burst });
  t.same(port.take(), [], 'none of the others is delivered either');
  vtep.engine.setTime(100);
  for (let id = 0; id < 400; id++) inject(message(MAC.a, 0, id));
  t.equal(inner(peer).length, LOOPBACK_RATE.perSecond / 10, 'a tenth of a second later');
  lab.run();
  t.end();
});

await t.test('an answer says nothing about the station behind the port, and its rules do not apply', (t) => {
  const { vtep, net, port, peer, inject } = facing(ON);
  port.protect({ types: ['mac-nospoof', 'restricted'], addresses: [], clientIds: [] });
  inject(message(MAC.a));
  t.equal(inner(peer).length, 1, 'restricted to IP and ARP, and answered');
  // The station has moved to another host: its frames are no echo of this one.
  inject(frame(MAC.c, MAC.a));
  t.same(net.drops, {});
  t.equal(vtep.notices.length, 0);
  t.end();
});

await t.test('an answer goes where the mapping says; the port may be gone by then', (t) => {
  const { lab, vtep, peer, net, port, target } = asking(ON);
  net.setPeers(peer.local.ip);
  lab.inject(peer, vtep, VXLAN_100, message(MAC.a));
  t.match(vtep.questions, [{ destinationMac: MAC.b, sourceMac: MAC.a, etherType: 0x8902 }]);
  t.same(inner(peer), []);
  net.answer(vtep.questions[0], target());
  t.equal(inner(peer).length, 1, 'it has waited for the lookup');
  peer.send(vtep.endpoint, concat(fromHex(VXLAN_100), message(MAC.a)), 0);
  for (const token of vtep.host.ready()) vtep.pump(token);
  t.same(inner(peer), [], 'it leaves in a turn of its own');
  t.ok(vtep.engine.hasWaiting);
  port.remove();
  lab.run();
  t.same([inner(peer), vtep.engine.hasWaiting], [[], false]);
  t.end();
});

await t.test('each loopback message is a flow, and pathOf says which socket sends it', (t) => {
  const senders = 64;
  const { lab, netA, a } = pair({}, undefined, 1500, { senders });
  probe(a, netA.id);
  const route = { from: MAC.a, to: MAC.b, vid: 0 };
  const ids = times(300, (index) => (0x7fff << 16) | index);
  lab.datagrams.length = 0;
  sendProbe(
    a,
    netA.id,
    'port2',
    ids.map((id) => ({ id, frame: loopbackFrame(route, id, 100) })),
  );
  const used = lab.datagrams
    .filter(({ from }) => from.ip === a.endpoint.ip)
    .map(({ from }) => from.port - 49152);
  t.same(
    used,
    ids.map((id) => pathOf(route, id, senders)),
  );
  t.equal(new Set(used).size > 55, true, `${new Set(used).size} of ${senders} sockets`);
  const other = frame(MAC.b, MAC.a);
  t.equal(
    flow.inspect(other, 0, 14, 60),
    flow.inspect(concat(other.subarray(0, 14), new Uint8Array(46)), 0, 14, 60),
  );
  t.end();
});

// -- The side that probes

function probe(vtep: Vtep, overlay: number, { ip = '10.0.0.2' }: { ip?: string } = {}): void {
  vtep.obey({ kind: 'start-probe', overlay, rules: { mac: MAC.a, series: SERIES, ip: address(ip) } });
}

function sendProbe(
  vtep: Vtep,
  overlay: number,
  port: string,
  frames: readonly { id: number; frame: Uint8Array }[],
): void {
  vtep.obey({ kind: 'send-probe', overlay, port, frames });
}

await t.test('a probe hears its replies, which its port does not get', (t) => {
  const { a, b, netA, portA, portB } = pair(ON);
  const request = { id: ID, frame: loopbackFrame({ from: MAC.a, to: MAC.b, vid: 0 }, ID, 200) };
  sendProbe(a, netA.id, 'port2', [request]);
  t.match(a.probes, [{ kind: 'sent', id: ID, dropped: undefined }], 'without a probe nothing is heard');
  same(t, portA.take(), [replyTo(request.frame)], 'and the reply is delivered');
  a.probes.length = 0;
  probe(a, netA.id);
  sendProbe(a, netA.id, 'port2', [request]);
  const news = [...a.probes].sort((one, other) => one.kind.localeCompare(other.kind));
  t.match(news, [
    { overlay: netA.id, kind: 'reply', id: ID, mac: MAC.b, from: { ip: b.endpoint.ip } },
    { overlay: netA.id, kind: 'sent', id: ID, dropped: undefined },
  ]);
  t.ok(news[0].atMs >= news[1].atMs, 'with times of one clock');
  t.same([portA.take(), portB.take()], [[], []]);
  a.probes.length = 0;
  a.obey({ kind: 'stop-probe', overlay: netA.id, reply: 1 });
  b.engine.obey({ kind: 'send-probe', overlay: netA.id, port: 'port2', frames: [] });
  t.same(a.probes, []);
  t.end();
});

await t.test('a reply of another series, to another MAC, or one too many is a frame like others', (t) => {
  const { vtep, net, port, inject } = facing();
  probe(vtep, net.id);
  const reply = (id: number, to: number = MAC.a): Uint8Array =>
    replyTo(loopbackFrame({ from: to, to: MAC.b, vid: 0 }, id, 46));
  for (const other of [reply(1), reply(ID, MAC.d)]) {
    inject(other);
    same(t, port.take(), [other], 'delivered');
  }
  for (let left = REPORT_RATE.burst + 12; left > 0; left--) inject(reply(ID));
  t.equal(vtep.probes.length, REPORT_RATE.burst, 'a peer cannot flood the control side');
  t.equal(port.take().length, 12);
  t.end();
});

await t.test('answers of the station itself are heard and delivered', (t) => {
  const route = { from: MAC.a, to: MAC.all, vid: 0 };
  for (const [ip, reads] of [
    ['10.0.0.2', readArp],
    ['fd00::2', readNdp],
  ] as const) {
    const { vtep, net, port, peer, inject } = facing();
    probe(vtep, net.id, { ip });
    const question = neighborFrame(route, address(ip), 300);
    t.equal(question.length, 314, 'padded to the size');
    sendProbe(vtep, net.id, 'port2', [{ id: ID, frame: question }]);
    const [asked] = inner(peer);
    same(t, [asked], [question], ip);
    const read = reads(asked);
    if (typeof read === 'string') throw new Error(`${read}: ${describe(asked)}`);
    const answer = 'packet' in read ? answerArp(asked, read, MAC.b) : answerNdp(asked, read, MAC.b);
    if (typeof answer === 'string') throw new Error(answer);
    inject(answer);
    t.match(vtep.probes.at(-1), { kind: 'neighbor', mac: MAC.b, from: { ip: '192.0.2.2' } });
    same(t, port.take(), [answer], 'the station at the port may have asked too');
    const heard = vtep.probes.length;
    const others = [
      neighborFrame({ from: MAC.b, to: MAC.a, vid: 0 }, address(ip), 100),
      answer.slice(0, 40),
      frame(MAC.a, MAC.b),
    ];
    for (const other of others) inject(other);
    t.equal(vtep.probes.length, heard, 'no other frame is an answer');
  }
  t.equal(arp.check(neighborFrame(route, address('10.0.0.2'), 46), 14, 46) > 0, true);
  t.ok(ndp.check(neighborFrame(route, address('fd00::2'), 72), 54, 32) > 0);
  t.end();
});

await t.test('a frame that is dropped at once has its reason', (t) => {
  const { vtep, net } = facing({ carryTags: false });
  probe(vtep, net.id);
  const tagged = loopbackFrame({ from: MAC.a, to: MAC.b, vid: 5 }, ID, 46);
  sendProbe(vtep, net.id, 'port2', [{ id: ID, frame: tagged }]);
  t.same(net.drops, { tx_vlan: 1 });
  t.match(vtep.probes, [{ kind: 'sent', id: ID, dropped: Number }]);
  const dynamic = asking();
  probe(dynamic.vtep, dynamic.net.id);
  const held = loopbackFrame({ from: MAC.a, to: remote(1), vid: 0 }, ID, 46);
  sendProbe(dynamic.vtep, dynamic.net.id, 'port2', [{ id: ID, frame: held }]);
  t.match(dynamic.vtep.probes, [{ kind: 'sent', dropped: undefined }], 'one that waits is sent');
  dynamic.net.answer(dynamic.vtep.questions[0], dynamic.target());
  same(t, inner(dynamic.peer), [held], 'and leaves');
  sendProbe(vtep, net.id, 'port9', [{ id: ID, frame: tagged }]);
  sendProbe(vtep, 99, 'port2', [{ id: ID, frame: tagged }]);
  t.equal(vtep.probes.length, 1, 'no such port, no such overlay');
  t.end();
});
