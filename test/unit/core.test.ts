// Policy: whole networks in memory, two or three engines on an underlay that keeps the rules of a real one. Rows named
// V1 to V20, E1 to E5 and S8 to S20 are those of the conformance tables.

import t, { type Test } from 'tap';
import { COUNTER, COUNTER_NAMES, createCounters, readCounters } from '../../src/core/counters.js';
import { Destinations } from '../../src/core/destinations.js';
import { combine } from '../../src/core/ecn.js';
import { MacIndex, NONE } from '../../src/core/mac-index.js';
import { OutputList, Outputs } from '../../src/core/outputs.js';
import type { OverlayOptions } from '../../src/core/overlay.js';
import { Peers } from '../../src/core/peers.js';
import {
  MAX_BYTES,
  MAX_BYTES_PER_TARGET,
  PendingBudget,
  PendingQueue,
} from '../../src/core/pending-queue.js';
import { DROP, FREE, MAX_TTL_MS, NOWHERE, TargetTable, VALID } from '../../src/core/target-table.js';
import type { EncapsulationName } from '../../src/encap/index.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { Capture } from '../../src/io/capture.js';
import type { Device } from '../../src/io/contract.js';
import { Fault } from '../../src/io/fault.js';
import { MemoryHost, MemoryNetwork, MemorySocket, WHOLE } from '../../src/io/memory.js';
import { Trace } from '../../src/io/trace.js';
import {
  dropOfPortError,
  dropOfSendError,
  type DropReason,
  DROPS,
  type ProxyDrop,
} from '../../src/model/drops.js';
import type { Protection } from '../../src/model/link-properties.js';
import { describe } from '../../src/wire/describe.js';
import { DESCRIPTOR_WORDS, type FrameBatch, LENGTH, OFFSET } from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import { type Endpoint, formatEndpoint, writeV6 } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as pcapng from '../../src/wire/pcapng.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import {
  address,
  concat,
  dhcpFrame,
  endpoint,
  frame,
  hex,
  Lab,
  MAC,
  type Net,
  packet,
  type Packet,
  type Tag,
  type Tap,
  type Vtep,
  type VtepOptions,
} from '../helpers/lab.js';
import { fromHex } from '../vectors/frames.js';

const EPERM = 1;
const EAGAIN = 11;
const EBADFD = 77;
const EHOSTUNREACH = 113;

type Options = Partial<OverlayOptions>;

/** Two hosts, each the fixed destination of the other. */
function pair(options: Options = {}, addresses = ['192.0.2.1', '192.0.2.2'], mtuBytes = 1500) {
  const lab = new Lab(mtuBytes);
  const [a, b] = addresses.map((ip) => lab.vtep(ip)) as [Vtep, Vtep];
  const [netA, netB] = [
    a.overlay({ destination: b.endpoint, ...options }),
    b.overlay({ destination: a.endpoint, ...options }),
  ];
  const [portA, portB] = [netA.port(MAC.a, { own: true }), netB.port(MAC.b, { own: true })];
  return { lab, a, b, netA, netB, portA, portB };
}

/** A host whose only peer says whatever the test likes. */
function facing(
  options: Options = {},
  ip = '192.0.2.1',
  peerIp = '192.0.2.2',
  encapsulation: EncapsulationName = 'vxlan',
) {
  const lab = new Lab(65535);
  const vtep = lab.vtep(ip, { encapsulation });
  const peer = lab.peer(peerIp);
  const net = vtep.overlay({ destination: peer.local, ...options });
  const port = net.port(MAC.a, { own: true });
  const inject = (inner: Uint8Array, header = VXLAN_100, tos = 0) => {
    lab.inject(peer, vtep, header, inner, tos);
  };
  return { lab, vtep, peer, net, port, inject };
}

/** RFC 7348 5: the I flag, VNI 100, all else zero. */
const VXLAN_100 = '08000000 00006400';

/** A host that asks, and a peer that hears. `answer` = every MAC is at the peer. */
function asking(options: Options = {}, vtepOptions: VtepOptions = {}) {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1', vtepOptions);
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay(options);
  const port = net.port(MAC.a, { own: true });
  const target = (ttlMs = Infinity) => ({ kind: 'target', to: [peer.local], ttlMs }) as const;
  return { lab, vtep, peer, net, port, target };
}

/** Inner frames of the datagrams that a peer got. */
function inner(peer: MemorySocket): Uint8Array[] {
  return peer.take().map(({ bytes }) => bytes.subarray(8));
}

function same(t: Test, found: readonly Uint8Array[], expected: readonly Uint8Array[], message: string): void {
  t.strictSame(found.map(show), expected.map(show), message);
}

function show(bytes: Uint8Array): string {
  return `${describe(bytes)} ${hex(bytes)}`;
}

/** MACs that belong to no port. */
function remote(index: number): number {
  return 0x0200_0100_0000 + index;
}

// -- The ground it stands on

await t.test('the network in memory keeps the contract of real devices', (t) => {
  const network = new MemoryNetwork(1500);
  const [v4, v6] = [network.bind(endpoint('192.0.2.1')), network.bind(endpoint('2001:db8::1'))];
  const [to4, to6] = [network.bind(endpoint('192.0.2.2')), network.bind(endpoint('2001:db8::2'))];
  t.equal(v4.send(to4.local, new Uint8Array(1500 - 28)), 0, 'the largest datagram passes');
  t.equal(v4.send(to4.local, new Uint8Array(1500 - 27)), 90, 'one byte more is EMSGSIZE');
  t.equal(v6.send(to6.local, new Uint8Array(1500 - 48)), 0);
  t.equal(v6.send(to6.local, new Uint8Array(1500 - 47)), 90);
  t.equal(v4.send(to6.local, new Uint8Array(1)), 97, 'EAFNOSUPPORT');
  t.equal(v6.send(to4.local, new Uint8Array(1)), 101, 'ENETUNREACH');
  t.equal(v4.send(endpoint('192.0.2.99'), new Uint8Array(1)), 0, 'nobody there: lost, as anywhere');
  t.strictSame(to4.take()[0].from, v4.local);
  t.throws(() => network.bind(v4.local), /EADDRINUSE/);
  network.unbind(v4);
  t.ok(network.bind(v4.local));

  const host = new MemoryHost(network, 4);
  const port = host.openPort();
  const batch = host.createBatch();
  const original = frame(MAC.b, MAC.a, 60, 5);
  for (let sent = 0; sent < 5; sent++) port.send(original);
  t.equal(port.receive(batch), 4, 'no more than a batch holds');
  t.strictSame(
    [0, 1, 2, 3].map((index) => batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET] % 16),
    [0, 0, 0, 0],
    'aligned',
  );
  const deliver = (argument: number) => {
    const entries = Int32Array.of(0, argument);
    return [port.deliver(batch, entries, 1), entries[1]];
  };
  t.strictSame(deliver(1), [1, 1]);
  batch.bytes.fill(0xff);
  same(
    t,
    port.take().map(({ bytes }) => bytes),
    [frame(MAC.b, MAC.a, 56)],
    'a copy without its tag',
  );
  batch.descriptors[LENGTH] = 13;
  t.strictSame(deliver(0), [0, -22], 'runt: EINVAL');
  batch.descriptors.set([60, 1, 0, 0, 0, 59, 0], LENGTH);
  t.strictSame(deliver(0), [0, -22], 'checksum outside the frame: EINVAL');
  port.isUp = false;
  t.strictSame(deliver(0), [0, -5], 'down: EIO');
  port.receiveErrno = EBADFD;
  t.equal(port.receive(batch), -EBADFD);
  t.strictSame(host.ready(), [], 'not watched');
  host.close(port.fd);
  t.throws(() => host.port(port.fd), /EBADF/);

  const socket = host.openSocket(endpoint('192.0.2.3'));
  to4.send(socket.local, fromHex('0800000000006400aabb'), 0x2a);
  t.equal(socket.receive(batch), 1);
  t.equal((batch.descriptors[OFFSET] + 8) % 16, 0, 'the inner frame is the aligned one');
  const octets = new Uint8Array(batch.descriptors.buffer);
  t.equal(hex(octets.subarray(32, 48)), '00000000000000000000ffffc0000202', 'v4-mapped');
  t.strictSame([...batch.descriptors.subarray(12, 16)], [4789, 0x2a, 0, 0]);
  const entries = Int32Array.of(0, 7, 99, 0, 0, -1);
  t.equal(socket.deliver(batch, entries, 3), 0);
  t.strictSame([...entries], [0, -22, 99, -22, 0, -22], 'no such slot, no such frame');
  t.end();
});

// -- The life of a frame

for (const [name, addresses] of Object.entries({
  IPv4: ['192.0.2.1', '192.0.2.2'],
  IPv6: ['2001:db8::1', '2001:db8::2'],
})) {
  await t.test(`a frame crosses the tunnel whole, over ${name} (V1, V5, V16, V18, E5)`, (t) => {
    const { lab, a, b, netA, netB, portA, portB } = pair({ vnetid: 0x123456, mtuBytes: 1430 }, addresses);
    const frames = [14, 15, 60, 61, 200, 1444].map((bytes) => frame(MAC.b, MAC.a, bytes));
    portA.send(...frames);
    same(t, portB.take(), frames, 'byte for byte, in order');
    const heads = lab.datagrams.map(({ bytes }) => hex(bytes.subarray(0, 8)));
    t.strictSame(new Set(heads), new Set(['0800000012345600']), 'I flag, VNI, nothing else');
    same(
      t,
      lab.datagrams.map(({ bytes }) => bytes.subarray(8)),
      frames,
      'no FCS, nothing between',
    );
    t.ok(lab.datagrams.every(({ from, to }) => from.ip === a.endpoint.ip && to.port === 4789));
    portB.send(frame(MAC.a, MAC.b));
    same(t, portA.take(), [frame(MAC.a, MAC.b)], 'and back');
    t.strictSame([netA.drops, netB.drops], [{}, {}]);
    const bytes = frames.reduce((total, { length }) => total + length, 0);
    t.match(netA.counters, { tx_frames: 6, tx_bytes: bytes, rx_frames: 1, rx_bytes: 60, lookups: 0 });
    t.match(netB.counters, { tx_frames: 1, tx_bytes: 60, rx_frames: 6, rx_bytes: bytes });
    t.match(portA.counters, { tx_frames: 6, tx_bytes: bytes, rx_frames: 1, rx_bytes: 60 });
    t.match(portB.counters, { tx_frames: 1, rx_frames: 6, rx_bytes: bytes });
    t.equal(b.questions.length, 0);
    t.end();
  });
}

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

await t.test('all 39 reserved bits are ignored, and counted (V2, T31)', (t) => {
  const { net, port, inject } = facing();
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => bit !== 4 && (bit < 32 || bit >= 56), // not the I flag, not the VNI
  );
  t.equal(bits.length, 39);
  for (const bit of bits) {
    const header = fromHex(VXLAN_100);
    header[bit >> 3] |= 0x80 >> (bit & 7);
    inject(frame(MAC.a, MAC.b), hex(header));
  }
  t.equal(port.take().length, 39);
  t.match(net.counters, { rx_frames: 39, rx_reserved_bits: 39 });
  inject(frame(MAC.a, MAC.b));
  t.equal(net.counters.rx_reserved_bits, 39, 'a plain header is not counted');
  t.strictSame(net.drops, {});
  t.end();
});

await t.test('without the I flag there is no VNI (V3)', (t) => {
  const { net, port, inject } = facing();
  const flags = Array.from({ length: 256 }, (_, value) => value).filter((value) => (value & 8) === 0);
  for (const value of flags) inject(frame(MAC.a, MAC.b), `${hex(Uint8Array.of(value))}000000 00006400`);
  t.strictSame(port.take(), []);
  t.strictSame(net.drops, { rx_no_vni: 128 });
  t.end();
});

await t.test('VNIs never mix, though the MACs are the same (V4)', (t) => {
  const lab = new Lab();
  const [a, b] = [lab.vtep('192.0.2.1'), lab.vtep('192.0.2.2')];
  const vnis = [0, 1, 0xffffff, 0x00ff00, 256];
  const sides = vnis.map((vnetid) => {
    const [netA, netB] = [
      a.overlay({ vnetid, destination: b.endpoint }),
      b.overlay({ vnetid, destination: a.endpoint }),
    ];
    return { from: netA.port(MAC.a, { own: true }), to: netB.port(MAC.b, { own: true }), netA, netB };
  });
  sides.forEach(({ from }, index) => {
    from.send(frame(MAC.b, MAC.a, 60 + index), frame(MAC.all, MAC.a, 100 + index));
  });
  sides.forEach(({ to, netA, netB }, index) => {
    same(
      t,
      to.take(),
      [frame(MAC.b, MAC.a, 60 + index), frame(MAC.all, MAC.a, 100 + index)],
      `VNI ${vnis[index]}`,
    );
    t.strictSame([netA.drops, netB.drops], [{}, {}]);
  });
  t.strictSame(
    lab.datagrams.filter((_, index) => index % 2 === 0).map(({ bytes }) => hex(bytes.subarray(4, 8))),
    ['00000000', '00000100', 'ffffff00', '00ff0000', '00010000'],
  );
  sides[1].netB.remove();
  sides[1].from.send(frame(MAC.b, MAC.a));
  sides[0].from.send(frame(MAC.b, MAC.a));
  t.equal(sides[0].to.take().length, 1, 'the others go on');
  t.strictSame(sides[0].netB.drops, { rx_unknown_vni: 1 });
  t.end();
});

await t.test('strangers are dropped, unless asked for (V19, S1)', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const [stranger, strangerV6] = [lab.peer('192.0.2.66'), lab.peer('2001:db8::66')];
  const listenerV6 = lab.vtep('2001:db8::1');
  const known = vtep.overlay();
  const port = known.port(MAC.a, { own: true });
  const count = () => {
    lab.inject(stranger, vtep, VXLAN_100, frame(MAC.a, MAC.b));
    return port.take().length;
  };
  t.equal(count(), 0);
  t.strictSame(known.drops, { rx_unknown_peer: 1 });
  known.setPeers(stranger.local.ip, address('2001:db8::66'));
  t.equal(count(), 1, 'named by the plugin');
  known.setPeers(address('192.0.2.67'));
  t.equal(count(), 0, 'named no more');
  known.setTarget(MAC.b, [stranger.local]);
  t.equal(count(), 1, 'the destination of a target');
  known.setTarget(MAC.c, [stranger.local, endpoint('192.0.2.3')]);
  t.ok(known.deleteTarget(MAC.b));
  t.equal(count(), 1, 'of another one still');
  known.setTarget(MAC.c, []);
  t.equal(count(), 0, 'of none any more');
  known.setTarget(MAC.b, [stranger.local], 10);
  known.invalidate();
  t.equal(count(), 0);

  const any = vtep.overlay({ vnetid: 101, acceptAny: true }).port(MAC.a, { own: true });
  lab.inject(stranger, vtep, '08000000 00006500', frame(MAC.a, MAC.b));
  t.equal(any.take().length, 1, 'vxlan/accept=any');

  const netV6 = listenerV6.overlay({ destination: strangerV6.local });
  const portV6 = netV6.port(MAC.a, { own: true });
  lab.inject(strangerV6, listenerV6, VXLAN_100, frame(MAC.a, MAC.b));
  lab.inject(lab.peer('2001:db8:0:1::66'), listenerV6, VXLAN_100, frame(MAC.a, MAC.b));
  t.equal(portV6.take().length, 1, 'IPv6 addresses are compared whole');
  t.strictSame(netV6.drops, { rx_unknown_peer: 1 });
  t.end();
});

await t.test('inner runts, and lying tags (V16, S8)', (t) => {
  const { net, port, inject } = facing();
  const whole = frame(MAC.a, MAC.b, 14);
  for (let bytes = 0; bytes < 14; bytes++) inject(whole.subarray(0, bytes));
  t.strictSame([port.take(), net.drops], [[], { rx_runt: 14 }]);
  inject(whole);
  same(t, port.take(), [whole], '14 bytes pass');
  const tagged = frame(MAC.a, MAC.b, 22, 5, 6);
  for (let bytes = 14; bytes < 22; bytes++) inject(tagged.subarray(0, bytes));
  t.strictSame([port.take(), net.drops], [[], { rx_runt: 22 }]);
  inject(tagged);
  same(t, port.take(), [tagged], 'two tags and nothing else pass');
  t.end();
});

await t.test('datagrams too short for a header', (t) => {
  const { net, port, inject } = facing();
  for (let bytes = 0; bytes < 8; bytes++)
    inject(new Uint8Array(0), hex(fromHex(VXLAN_100).subarray(0, bytes)));
  t.strictSame([port.take(), net.drops], [[], { rx_truncated: 8 }]);
  t.end();
});

await t.test('own, group and zero inner sources are dropped (V20)', (t) => {
  const { net, port, inject } = facing();
  const second = net.port(MAC.c);
  port.send(frame(MAC.all, MAC.a));
  second.send(frame(MAC.all, MAC.c));
  t.equal(port.take().length + second.take().length, 2);
  for (const source of [MAC.a, MAC.c, MAC.group, MAC.all, 0]) inject(frame(MAC.all, source));
  t.strictSame([port.take(), second.take(), net.drops], [[], [], { rx_bad_source: 5 }]);
  second.remove();
  inject(frame(MAC.a, MAC.c));
  t.equal(port.take().length, 1, 'a port that is gone is not ours');
  t.end();
});

await t.test('nothing from the tunnel goes back into it, and no loop lives (S11)', (t) => {
  const { lab, net, port, inject, peer } = facing();
  for (const to of [MAC.a, MAC.d, MAC.all, MAC.group]) inject(frame(to, MAC.b));
  t.equal(port.take().length, 4);
  t.strictSame([peer.take(), lab.datagrams.length, net.counters.tx_frames], [[], 4, 0]);

  const { lab: circle, a, b, netA, netB, portA } = pair({ destination: undefined });
  a.resolve = () => ({ kind: 'target', to: [b.endpoint], ttlMs: 1e6 });
  b.resolve = () => ({ kind: 'target', to: [a.endpoint], ttlMs: 1e6 });
  netB.setPeers(a.endpoint.ip);
  portA.send(frame(MAC.d, MAC.a), frame(MAC.all, MAC.a));
  t.equal(circle.datagrams.length, 2, 'two tables that point at each other: one datagram a frame');

  netA.setTarget(MAC.d, [a.endpoint]);
  portA.send(frame(MAC.d, MAC.a));
  t.equal(circle.datagrams.length, 2, 'a target that is this very host: none');
  t.strictSame(netA.drops, { tx_hairpin: 1 });
  t.end();
});

// -- Ports

await t.test('frames between local ports do not leave the host', (t) => {
  const { lab, net, port, peer } = facing();
  const other = net.port(MAC.c);
  port.send(frame(MAC.c, MAC.a));
  same(t, other.take(), [frame(MAC.c, MAC.a)], 'switched by destination MAC');
  other.send(frame(MAC.a, MAC.c));
  t.equal(port.take().length, 1);
  t.strictSame([lab.datagrams, net.drops], [[], {}]);
  t.match(net.counters, { local_frames: 2, tx_frames: 0, rx_frames: 0 });
  other.send(frame(MAC.all, MAC.c), frame(MAC.group, MAC.c));
  t.strictSame(
    [port.take().length, inner(peer).length, other.take()],
    [2, 2, []],
    'groups: all ports and the tunnel',
  );
  t.match(net.counters, { local_frames: 4, tx_frames: 2 });
  t.match(port.counters, { rx_frames: 3, rx_bytes: 180, tx_frames: 1 });

  const elsewhere = lab.vtep('192.0.2.3').overlay({ destination: peer.local });
  elsewhere.port(MAC.d).send(frame(MAC.all, MAC.d));
  t.strictSame([port.take(), inner(peer).length], [[], 1], 'another overlay is another network');
  t.end();
});

await t.test('the own port takes unicast that nobody claims; others do not', (t) => {
  const { net, port, inject } = facing();
  const vnic = net.port(MAC.c);
  inject(frame(MAC.d, MAC.b));
  t.strictSame([port.take().length, vnic.take().length], [1, 0]);
  inject(frame(MAC.c, MAC.b));
  t.strictSame([port.take().length, vnic.take().length], [0, 1]);
  port.remove();
  inject(frame(MAC.d, MAC.b));
  t.strictSame([vnic.take().length, net.drops], [0, { rx_no_port: 1 }]);
  inject(frame(MAC.all, MAC.b));
  t.equal(vnic.take().length, 1);
  vnic.remove();
  inject(frame(MAC.all, MAC.b));
  t.strictSame(net.drops, { rx_no_port: 2 });
  t.end();
});

await t.test('a port whose MAC is changed', (t) => {
  const { net, port, peer, inject } = facing();
  const [local, other] = [net.port(MAC.c), net.port(MAC.d)];
  const moved = frame(MAC.e, MAC.a);
  local.setMac(MAC.e);
  port.send(moved, frame(MAC.c, MAC.a));
  same(t, local.take(), [moved], 'has what is for its new one');
  same(t, inner(peer), [frame(MAC.c, MAC.a)], 'and no longer what is for the old one, nor does the host');
  inject(frame(MAC.e, MAC.b));
  same(t, local.take(), [frame(MAC.e, MAC.b)], 'from the tunnel too');
  local.send(frame(MAC.a, MAC.e));
  same(t, port.take(), [frame(MAC.a, MAC.e)], 'it has sent');
  inject(frame(MAC.a, MAC.e));
  t.strictSame(net.drops, { rx_bad_source: 1 }, 'what comes from it elsewhere is a loop');
  inject(frame(MAC.a, MAC.c));
  same(t, port.take(), [frame(MAC.a, MAC.c)], 'and what comes from the old one is not');
  const announcement = frame(MAC.all, MAC.e);
  net.vtep.obey({ kind: 'announce', overlay: net.id, frame: announcement });
  same(t, other.take(), [announcement], 'what is announced of it');
  same(t, local.take(), [], 'is not for itself');
  same(t, port.take(), [announcement], 'but for all others');
  local.setMac(MAC.c);
  port.send(moved, frame(MAC.c, MAC.a));
  same(t, local.take(), [frame(MAC.c, MAC.a)], 'back as it was');
  const rules = { types: ['mac-nospoof'] as const, addresses: [], clientIds: [] };
  local.setMac(MAC.e, rules);
  local.send(frame(MAC.a, MAC.e), frame(MAC.a, MAC.c));
  same(t, port.take(), [frame(MAC.a, MAC.e)], 'its rules are judged by the new one');
  net.vtep.obey({ kind: 'set-mac', token: 9999, mac: MAC.e, protection: undefined });
  port.setMac(MAC.b);
  inject(frame(MAC.d + 1, MAC.d + 2));
  same(
    t,
    port.take(),
    [frame(MAC.d + 1, MAC.d + 2)],
    'the own port has what nobody claims, whatever its MAC',
  );
  t.end();
});

await t.test('destinations that lead back into the overlay', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const net = vtep.overlay();
  const port = net.port(MAC.a);
  const [good, bad] = [lab.peer('192.0.2.2'), lab.peer('192.0.2.3')];
  const [toGood, toBad] = [frame(MAC.b, MAC.a), frame(MAC.c, MAC.a)];
  net.setTarget(MAC.b, [good.local]);
  net.setTarget(MAC.c, [bad.local]);
  net.setLoops(bad.local.ip);
  port.send(toGood, toBad);
  same(t, inner(good), [toGood], 'the others are sent to');
  same(t, inner(bad), [], 'they are not');
  t.strictSame(net.drops, { tx_loop: 1 });
  t.equal(net.counters.tx_frames, 1, 'what is dropped was not sent');

  // The slot of one that is forgotten is another's, and one that is new is known as well.
  net.deleteTarget(MAC.c);
  net.setTarget(MAC.c, [good.local]);
  for (let index = 0; index < 200; index++) net.setTarget(remote(index), [endpoint(`198.51.100.${index}`)]);
  net.setTarget(MAC.d, [bad.local]);
  net.setTarget(MAC.e, [good.local, bad.local]);
  port.send(toBad, frame(MAC.d, MAC.a), frame(MAC.e, MAC.a));
  same(t, inner(good), [toBad, frame(MAC.e, MAC.a)], 'also of a flood');
  t.strictSame(net.drops, { tx_loop: 3 });
  const twin = vtep.overlay({ vnetid: 101 });
  twin.setTarget(MAC.d, [bad.local]);
  twin.port(MAC.a).send(frame(MAC.d, MAC.a));
  same(t, inner(bad), [frame(MAC.d, MAC.a)], 'another overlay may have another way there');
  net.setLoops();
  port.send(frame(MAC.d, MAC.a));
  same(t, inner(bad), [frame(MAC.d, MAC.a)], 'until the route is another');
  t.end();
});

await t.test('a frame to the port it came from is dropped', (t) => {
  const { lab, net, port } = facing();
  port.send(frame(MAC.a, MAC.a), frame(MAC.a, MAC.b));
  t.strictSame([port.take(), lab.datagrams, net.drops], [[], [], { tx_hairpin: 2 }]);
  t.end();
});

await t.test('tags are carried, or dropped where vxlan/vlan is drop (V14, V15, S9)', (t) => {
  const stacks: Tag[][] = [[5], [0x6005], [[0x88a8, 5]], [[0x9100, 5], 6], [1, 2, 3, 4]];
  const keep = facing();
  const drop = facing({ carryTags: false });
  for (const tags of stacks) {
    for (const { port, inject } of [keep, drop]) {
      port.send(frame(MAC.b, MAC.a, 100, ...tags));
      inject(frame(MAC.a, MAC.b, 100, ...tags));
    }
  }
  const expected = (to: number, from: number) => stacks.map((tags) => frame(to, from, 100, ...tags));
  same(t, keep.port.take(), expected(MAC.a, MAC.b), 'keep, in');
  same(t, inner(keep.peer), expected(MAC.b, MAC.a), 'keep, out');
  t.strictSame([drop.port.take(), inner(drop.peer)], [[], []], 'drop');
  drop.port.send(frame(MAC.b, MAC.a));
  drop.inject(frame(MAC.a, MAC.b));
  t.strictSame([drop.port.take().length, inner(drop.peer).length], [1, 1], 'what has no tag passes');
  t.strictSame([keep.net.drops, drop.net.drops], [{}, { tx_vlan: 5, rx_vlan: 5 }]);

  for (const count of [5, 9]) {
    const deep = Array<Tag>(count).fill(5);
    keep.port.send(frame(MAC.b, MAC.a, 100, ...deep));
    keep.inject(frame(MAC.a, MAC.b, 100, ...deep));
  }
  t.strictSame(keep.net.drops, { tx_vlan: 2, rx_vlan: 2 }, 'more tags than anyone looks behind');
  t.end();
});

await t.test('access ports: untagged at the port, tagged on the overlay', (t) => {
  const { net, port: trunk, inject, peer } = facing();
  const [five, fiveToo, six] = [
    net.port(MAC.b, { vid: 5 }),
    net.port(MAC.c, { vid: 5 }),
    net.port(MAC.d, { vid: 0xabc }),
  ];
  const all = [trunk, five, fiveToo, six];
  const heard = () => all.map((port) => port.take().map(hex));
  const [plain, tagged] = [frame(MAC.all, MAC.b, 60), frame(MAC.all, MAC.b, 64, 5)];

  five.send(plain);
  t.strictSame(
    heard(),
    [[hex(tagged)], [], [hex(plain)], []],
    'a group frame: its VLAN, and the trunk with the tag',
  );
  same(t, inner(peer), [tagged], 'the tunnel as well');
  five.send(frame(MAC.all, MAC.b, 64, 0xe000));
  same(t, inner(peer), [frame(MAC.all, MAC.b, 64, 0xe005)], 'a priority tag keeps its priority');
  t.strictSame(heard()[2], [hex(plain)]);
  five.send(
    frame(MAC.all, MAC.b, 64, 5),
    frame(MAC.all, MAC.b, 64, 6),
    frame(MAC.all, MAC.b, 64, [0x88a8, 0]),
    ...[0x8100, 0x88a8, 0x9100].flatMap((type) => [
      frame(MAC.all, MAC.b, 68, 0, [type, 6]),
      frame(MAC.all, MAC.b, 68, 0xe000, [type, 5]),
      frame(MAC.all, MAC.b, 68, 0, [type, 0]),
      frame(MAC.all, MAC.b, 72, 0, 0, [type, 6]),
    ]),
  );
  t.strictSame(
    [heard(), inner(peer), net.drops],
    [[[], [], [], []], [], { tx_vlan: 15 }],
    'any other tag is refused, its own too, and behind a priority tag every one',
  );

  five.send(frame(MAC.c, MAC.b));
  t.strictSame(heard(), [[], [], [hex(frame(MAC.c, MAC.b))], []], 'unicast, same VLAN');
  five.send(frame(MAC.d, MAC.b));
  t.strictSame(heard(), [[], [], [], []], 'another VLAN: not here');
  same(t, inner(peer), [frame(MAC.d, MAC.b, 64, 5)], 'so it is looked for elsewhere');
  trunk.send(frame(MAC.b, MAC.a, 64, 5), frame(MAC.d, MAC.a, 64, 0xabc), frame(MAC.all, MAC.a));
  t.strictSame(heard(), [[], [hex(frame(MAC.b, MAC.a))], [], [hex(frame(MAC.d, MAC.a))]], 'from the trunk');
  inner(peer);

  inject(frame(MAC.all, 0x0200_0000_00ff, 64, 5));
  inject(frame(MAC.all, 0x0200_0000_00ff, 60));
  inject(frame(MAC.all, 0x0200_0000_00ff, 64, [0x88a8, 5]));
  t.strictSame(
    heard().map(({ length }) => length),
    [3, 1, 1, 0],
    'from the tunnel: only a customer tag names a VLAN',
  );
  inject(frame(MAC.b, 0x0200_0000_00ff, 64, 5));
  inject(frame(MAC.b, 0x0200_0000_00ff, 60));
  inject(frame(MAC.b, 0x0200_0000_00ff, 64, 6));
  t.strictSame(heard(), [[], [hex(frame(MAC.b, 0x0200_0000_00ff, 60))], [], []]);
  t.match(net.drops, { rx_no_port: 2 });
  t.end();
});

await t.test('an access port where tags are not carried reaches its host only', (t) => {
  const { net, peer } = facing({ carryTags: false });
  const [one, two] = [net.port(MAC.b, { vid: 5 }), net.port(MAC.c, { vid: 5 })];
  one.send(frame(MAC.c, MAC.b), frame(MAC.all, MAC.b), frame(MAC.d, MAC.b));
  t.strictSame([two.take().length, peer.take(), net.drops], [2, [], { tx_vlan: 2 }]);
  t.end();
});

await t.test('the MTU is exact, both ways, tags apart (V11)', (t) => {
  const { net, port, inject, peer } = facing({ mtuBytes: 1000 });
  for (const tags of [[], [5], [5, 6]] as Tag[][]) {
    const bytes = 1014 + 4 * tags.length;
    port.send(frame(MAC.b, MAC.a, bytes, ...tags), frame(MAC.b, MAC.a, bytes + 1, ...tags));
    inject(frame(MAC.a, MAC.b, bytes, ...tags));
    inject(frame(MAC.a, MAC.b, bytes + 1, ...tags));
  }
  t.strictSame([port.take().length, peer.take().length], [3, 3]);
  t.strictSame(net.drops, { tx_too_big: 3, rx_too_big: 3 });
  t.end();
});

await t.test('never fragmented: what the path does not carry is dropped (V11, V13)', (t) => {
  for (const [addresses, overhead] of [
    [['192.0.2.1', '192.0.2.2'], 50],
    [['2001:db8::1', '2001:db8::2'], 70],
  ] as const) {
    const { lab, netA, portA, portB } = pair({ mtuBytes: 1500 }, [...addresses], 1500);
    portA.send(
      frame(MAC.b, MAC.a, 1514 - overhead),
      frame(MAC.b, MAC.a, 1515 - overhead),
      frame(MAC.b, MAC.a),
    );
    t.equal(portB.take().length, 2, 'the next frame is not harmed');
    t.equal(lab.datagrams.length, 2);
    t.strictSame(netA.drops, { tx_path_mtu: 1 });
  }
  t.end();
});

/** An ICMP error about a packet that is to be read in full. */
function readTooBig(t: Test, answer: Uint8Array, header = 14) {
  const isV4 = answer[header] >> 4 === 4;
  const at = header + (isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
  const message = answer.length - at;
  if (isV4) {
    const ip = ipv4.parse(answer, header, answer.length - header);
    t.match(
      ip,
      { protocol: ipv4.ICMP, ttl: 64, payloadLength: message },
      'a whole packet, its checksum good',
    );
    t.ok(icmp.verifyChecksum(answer, at, message));
    t.strictSame([icmp.type(answer, at), icmp.code(answer, at)], [3, 4]);
  } else {
    t.match(ipv6.parse(answer, header, answer.length - header), { nextHeader: 58, payloadLength: message });
    t.ok(icmpv6.verifyChecksum(answer, header, at, message));
    t.strictSame([icmpv6.type(answer, at), icmpv6.code(answer, at)], [2, 0]);
  }
  const { source, destination } = isV4 ? ipv4 : ipv6;
  return {
    to: ethernet.destination(answer, 0),
    from: ethernet.source(answer, 0),
    ends: [source(answer, header), destination(answer, header)],
    mtu: icmp.word(answer, at),
    quoted: answer.subarray(at + icmp.HEADER_BYTES),
  };
}

await t.test('a packet that does not fit is answered with the size that does (V11, V13)', (t) => {
  const wide = { mtuBytes: 1500 };
  const outer = { 4: ['192.0.2.1', '192.0.2.2'], 6: ['2001:db8::1', '2001:db8::2'] };
  for (const [version, limit] of [
    [4, 576],
    [6, 1280],
  ] as const) {
    for (const [underlay, addresses] of Object.entries(outer)) {
      const { netA, portA, portB } = pair(wide, addresses);
      const largest = 1500 - (underlay === '4' ? 50 : 70);
      const headers = version === 4 ? 28 : 48;
      const fits = packet({ version, payloadBytes: largest - headers });
      const big = packet({ version, payloadBytes: largest - headers + 1 });
      portA.send(fits, big);
      same(t, portB.take(), [fits], 'what fits');
      const [answer, ...more] = portA.take();
      t.equal(more.length, 0);
      t.equal(answer.length, 14 + limit, 'as much of it as an answer holds');
      const { quoted, ...rest } = readTooBig(t, answer);
      const [near, far] = version === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
      t.strictSame(
        rest,
        { to: MAC.a, from: MAC.b, ends: [far, near], mtu: largest },
        'from where it was going',
      );
      t.equal(hex(quoted), hex(big.subarray(14, 14 + quoted.length)));
      t.strictSame(netA.drops, { tx_path_mtu: 1 });
      t.equal(netA.counters.too_big_answers, 1);
    }
  }
  const { net, port } = facing({ mtuBytes: 1000 });
  port.send(packet({ payloadBytes: 973 }));
  t.equal(readTooBig(t, port.take()[0]).mtu, 1000, 'larger than the overlay');
  t.strictSame(net.drops, { tx_too_big: 1 });

  const tagged = pair(wide);
  const access = tagged.netA.port(MAC.c, { vid: 5 });
  tagged.portA.send(packet({ tags: [0x6005], payloadBytes: 1450 - 28 - 3 }));
  access.send(packet({ from: MAC.c, payloadBytes: 1450 - 28 - 3 }));
  const [behindTag] = tagged.portA.take();
  t.equal(hex(behindTag.subarray(12, 18)), '810060050800', 'with the tag that it had');
  t.equal(readTooBig(t, behindTag, 18).mtu, 1446, 'which needs room');
  t.match(readTooBig(t, access.take()[0]), { to: MAC.c, mtu: 1446 }, 'an access port has it untagged');

  const dynamic = pair({ ...wide, destination: undefined });
  dynamic.netA.setTarget(MAC.b, [dynamic.b.endpoint]);
  dynamic.netA.setTarget(MAC.d, [dynamic.b.endpoint, endpoint('192.0.2.3')]);
  dynamic.portA.send(packet({ payloadBytes: 1450 }));
  t.equal(readTooBig(t, dynamic.portA.take()[0]).mtu, 1450, 'mode dynamic');
  dynamic.portA.send(packet({ to: MAC.d, payloadBytes: 1450 }));
  t.strictSame(dynamic.portA.take(), [], 'copies are not answered');
  t.end();
});

await t.test('a superframe is answered as the segment it would have become', (t) => {
  const { port } = facing({ mtuBytes: 1000 });
  const tcp4: Packet = { protocol: ipv4.TCP, payloadBytes: 5000, checksum: 'partial' };
  for (const [version, gsoType] of [
    [4, virtio.GSO_TCPV4],
    [6, virtio.GSO_TCPV6],
  ] as const) {
    const ipBytes = version === 4 ? 20 : 40;
    const offload = {
      ...WHOLE,
      flags: virtio.NEEDS_CHECKSUM,
      gsoType,
      gsoSize: 1000,
      checksumStart: 14 + ipBytes,
      checksumOffset: tcp.CHECKSUM,
    };
    port.sendWith(offload, packet({ ...tcp4, version }));
    const { quoted, mtu } = readTooBig(t, port.take()[0]);
    t.equal(mtu, 1000);
    if (version === 4) {
      t.equal(ipv4.totalLength(quoted, 0), 1040);
      t.ok(ipv4.verifyChecksum(quoted, 0), 'and its header is good');
    } else {
      t.equal(ipv6.payloadLength(quoted, 0), 1020);
    }
    t.equal(tcp.sourcePort(quoted, ipBytes), 40000);
    // What is large, but is cut into what fits, is no concern of size.
    port.sendWith({ ...offload, gsoSize: 500 }, packet({ ...tcp4, version }));
    t.strictSame(port.take(), []);
  }
  t.end();
});

await t.test('what is never answered with an error, and how often (RFC 1122 3.2.2, RFC 4443 2.4)', (t) => {
  const { net, lab, vtep, port } = facing({ mtuBytes: 1000 });
  const big = (spec: Packet): Uint8Array => packet({ payloadBytes: 1200, ...spec });
  const icmpOf = (type: number, version: 4 | 6 = 4): Uint8Array => {
    const bytes = big({ version, protocol: version === 4 ? ipv4.ICMP : ipv6.ICMPV6 });
    bytes[version === 4 ? 34 : 54] = type;
    return bytes;
  };
  const v6 = { version: 6 } as const;
  const silent: Record<string, Uint8Array> = {
    'may be fragmented': big({ fragment: 0 }),
    'a later fragment': big({ fragment: 0x4010 }),
    'a later IPv6 fragment': big({ ...v6, fragment: 0x0100 }),
    ...Object.fromEntries([3, 4, 5, 11, 12].map((type) => [`ICMP error ${type}`, icmpOf(type)])),
    ...Object.fromEntries([1, 2, 3, 4, 127, 137].map((type) => [`ICMPv6 ${type}`, icmpOf(type, 6)])),
    'to a group MAC': big({ to: MAC.all }),
    'from a group MAC': big({ from: MAC.group }),
    'no IP': frame(MAC.b, MAC.a, 1400),
    'no IPv4 header': frame(MAC.b, MAC.a, 1400).fill(0x08, 12, 13).fill(0, 13, 14),
    'endless extension headers': big({ ...v6, extensions: 9 }),
  };
  for (const source of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'])
    silent[`from ${source}`] = big({ source });
  for (const destination of ['224.0.0.18', '255.255.255.255'])
    silent[`to ${destination}`] = big({ destination });
  for (const source of ['::', '::1', 'ff02::1']) silent[`from ${source}`] = big({ ...v6, source });
  silent['to ff02::1'] = big({ ...v6, destination: 'ff02::1' });
  for (const [what, bytes] of Object.entries(silent)) {
    port.send(bytes);
    t.strictSame(port.take(), [], what);
  }
  t.equal(net.drops.tx_too_big, Object.keys(silent).length, 'each is dropped, and counted');
  const answered: Record<string, Uint8Array> = {
    'a first fragment': big({ fragment: 0x6000 }),
    'a first IPv6 fragment': big({ ...v6, fragment: 1 }),
    echo: icmpOf(8),
    'ICMPv6 echo': icmpOf(128, 6),
  };
  for (const [what, bytes] of Object.entries(answered)) {
    port.send(bytes);
    t.equal(port.take().length, 1, what);
  }

  const other = net.port(MAC.c);
  for (let count = 0; count < 100; count++) port.send(big({}));
  t.equal(port.take().length, 10 - Object.keys(answered).length, '10 in 100 ms');
  other.send(big({ from: MAC.c }));
  t.equal(other.take().length, 1, 'each port for itself');
  vtep.engine.setTime(100);
  for (let count = 0; count < 100; count++) port.send(big({}));
  t.equal(port.take().length, 10, 'and so on');
  t.equal(lab.datagrams.length, 0);
  t.end();
});

// -- Congestion marks, DSCP, source ports

const ECN_TABLE = [
  // outer Not-ECT, ECT(1), ECT(0), CE
  [0b00, 0b00, 0b00, -1], // inner Not-ECT
  [0b01, 0b01, 0b01, 0b11], // inner ECT(1)
  [0b10, 0b01, 0b10, 0b11], // inner ECT(0)
  [0b11, 0b11, 0b11, 0b11], // inner CE
];

await t.test('ECN on the way in: the table of RFC 6040, 16 cases (E2)', (t) => {
  const variants: Packet[] = [{}, { version: 6 }, { tags: [5] }, { version: 6, tags: [5, 6] }];
  for (const variant of variants) {
    const { net, port, inject } = facing();
    const dscp = 0xb8;
    for (const [innerEcn, row] of ECN_TABLE.entries()) {
      for (const [outer, result] of row.entries()) {
        t.equal(combine(innerEcn, outer), result);
        const make = (ecn: number) =>
          packet({ ...variant, to: MAC.a, from: MAC.b, protocol: ipv4.TCP, trafficClass: dscp | ecn });
        inject(make(innerEcn), VXLAN_100, 0x28 | outer);
        // Everything else as it was, the IPv4 header checksum as if it had been sent like this.
        same(t, port.take(), result < 0 ? [] : [make(result)], `inner ${innerEcn} outer ${outer}`);
      }
    }
    t.strictSame(net.drops, { rx_ecn: 1 });
  }

  const { port, inject } = facing();
  const notIp = frame(MAC.a, MAC.b);
  const lying = packet({ to: MAC.a, from: MAC.b }).subarray(0, 40);
  for (const bytes of [notIp, lying]) inject(bytes, VXLAN_100, 3);
  same(t, port.take(), [notIp, lying], 'what is no IP packet has no field, and passes');
  t.end();
});

await t.test('the outer traffic class: ECN copied, DSCP zero or copied (E1, E4)', (t) => {
  for (const version of [4, 6] as const) {
    const [pipe, uniform] = [pair(), pair({ copyDscp: true })];
    const classes = [0x00, 0x01, 0x02, 0x03, 0x28, 0xb8, 0xff];
    for (const { portA } of [pipe, uniform]) {
      portA.send(...classes.map((trafficClass) => packet({ version, trafficClass })), frame(MAC.b, MAC.a));
    }
    const tos = ({ lab }: typeof pipe) => lab.datagrams.map((datagram) => datagram.tos);
    t.strictSame(tos(pipe), [0, 1, 2, 3, 0, 0, 3, 0], `IPv${version}, vxlan/dscp=zero`);
    t.strictSame(tos(uniform), [0, 1, 2, 3, 0x28, 0xb8, 0xff, 0], `IPv${version}, vxlan/dscp=copy`);
    t.strictSame([pipe.netB.drops, pipe.portB.take().length], [{}, 8]);
  }
  t.end();
});

/** Source ports that frames leave by, in order. */
function sourcePorts(senders: number, frames: readonly Uint8Array[]): number[] {
  const { lab, net, port } = asking({}, { senders });
  net.setTarget(MAC.b, [endpoint('192.0.2.2')]);
  port.send(...frames);
  return lab.datagrams.map(({ from }) => from.port);
}

await t.test('the source port is chosen by the flow (V6)', (t) => {
  const kinds: Packet[] = [
    {},
    { protocol: ipv4.TCP },
    { version: 6 },
    { version: 6, protocol: ipv4.TCP, tags: [5] },
    { version: 6, extensions: 2 },
  ];
  for (const kind of kinds) {
    const flows = Array.from({ length: 256 }, (_, flow) => packet({ ...kind, ports: [40000 + flow, 5001] }));
    const many = sourcePorts(256, flows);
    t.ok(many.every((port) => port >= 49152 && port <= 65535));
    t.ok(new Set(many).size >= 100, `${new Set(many).size} of 256 ports for 256 flows`);
    t.strictSame(sourcePorts(256, flows), many, 'the same flow, the same port, on any host');
    const few = sourcePorts(64, flows);
    const load = few.reduce(
      (counts, port) => counts.set(port, (counts.get(port) ?? 0) + 1),
      new Map<number, number>(),
    );
    t.ok(load.size >= 55, `${load.size} of 64 ports used`); // 63 expected of a fair choice, 55 is 6 sigma below
    t.ok(Math.max(...load.values()) <= 16, `at most ${Math.max(...load.values())} flows on one`); // 4 expected
  }
  const differing: ((flow: number) => Packet)[] = [
    (flow) => ({ source: `10.0.1.${flow}` }),
    (flow) => ({ destination: `10.0.1.${flow}` }),
    (flow) => ({ version: 6, source: `fd00::${flow.toString(16)}` }),
    (flow) => ({ version: 6, destination: `fd00:0:0:${flow.toString(16)}::1` }),
    (flow) => ({ version: 6, source: `fd00::${flow.toString(16)}`, fragment: 1 }),
    (flow) => ({ protocol: ipv4.TCP, ports: [443, flow] }),
    (flow) => ({ protocol: flow < 6 || flow > 17 ? flow : 1, source: `10.0.1.${flow}` }),
  ];
  for (const spec of differing) {
    const flows = Array.from({ length: 256 }, (_, flow) => packet(spec(flow)));
    t.ok(new Set(sourcePorts(256, flows)).size >= 100, `each field counts: ${String(spec)}`);
  }
  const macs = Array.from({ length: 256 }, (_, index) => frame(MAC.b, remote(index)));
  t.ok(new Set(sourcePorts(256, macs)).size >= 100, 'not IP: by MAC');
  t.equal(new Set(sourcePorts(1, macs)).size, 1);
  t.end();
});

await t.test('all of a flow goes one way: any size, any content, every fragment', (t) => {
  for (let flow = 0; flow < 20; flow++) {
    const source = `10.9.8.${flow}`;
    const v4 = (spec: Packet) => packet({ source, ...spec });
    const v6 = (spec: Packet) => packet({ version: 6, source: `fd00::${flow}`, ...spec });
    const ways = (...frames: Uint8Array[]) => new Set(sourcePorts(64, frames)).size;
    t.equal(ways(v4({ payloadBytes: 0 }), v4({ payloadBytes: 1400 }), v4({ trafficClass: 3 })), 1);
    t.equal(
      ways(
        v4({ fragment: 0x2000, payloadBytes: 1000 }),
        v4({ fragment: 0x2080, ports: [1, 2] }),
        v4({ fragment: 0x0100, ports: [3, 4], payloadBytes: 7 }),
      ),
      1,
      'IPv4: only the first fragment has ports',
    );
    t.equal(
      ways(
        v6({ fragment: 0x0001, payloadBytes: 1000 }),
        v6({ fragment: 0x0401, ports: [1, 2] }),
        v6({ fragment: 0x0800, ports: [3, 4], payloadBytes: 7 }),
      ),
      1,
      'IPv6',
    );
  }
  const { lab, net, port, peer } = asking({}, { senders: 64 });
  net.setTarget(MAC.b, [peer.local]);
  const frames = Array.from({ length: 500 }, (_, index) => packet({ payloadBytes: index }));
  port.send(...frames);
  same(t, inner(peer), frames, 'and stays in order');
  t.equal(new Set(lab.datagrams.map(({ from }) => from.port)).size, 1);
  t.end();
});

// -- Targets

await t.test('10,000 frames to one unknown MAC: one question, bounded memory (S20)', (t) => {
  const { vtep, net, port, peer, target } = asking();
  const frames = Array.from({ length: 10_000 }, (_, index) => frame(remote(1), MAC.a, 60 + (index & 1)));
  port.send(...frames);
  t.equal(vtep.questions.length, 1);
  t.equal(net.counters.lookups, 1);
  const fit = Math.floor(MAX_BYTES_PER_TARGET / (60.5 + 256));
  t.strictSame(net.drops, { pending_full: 10_000 - fit }, `${fit} frames wait`);
  net.answer(vtep.questions[0], target());
  same(t, inner(peer), frames.slice(0, fit), 'then they go, in order');
  port.send(frames[0]);
  t.strictSame([inner(peer).length, vtep.questions.length], [1, 1], 'from now on at once');
  t.end();
});

/** As many questions about unicast MACs as may be under way in one overlay. */
const OPEN_QUESTIONS = 1024;
/** As many MACs as are remembered without a target. */
const ASKED = 65_536;

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

await t.test('a scan takes no target away', (t) => {
  const { vtep, net, port, peer, lab } = asking({ maxTargets: 100 });
  for (let index = 0; index < 100; index++) net.setTarget(remote(index), [peer.local]);
  for (let index = 1000; index < 101_000; index += 1000) {
    port.send(...Array.from({ length: 1000 }, (_, next) => frame(remote(index + next), MAC.a, 60)));
    vtep.engine.setTime(index);
    for (const question of vtep.questions.splice(0))
      net.answer(question, { kind: 'drop', reason: 'lookup_drop' });
  }
  t.strictSame(net.drops, { lookup_drop: 100_000 }, 'each was asked about');
  t.equal(net.targets(remote(999), 200_000).length, 1000, 'the last ones are nowhere for a second');
  net.setTarget(remote(200_000), []);
  port.send(...Array.from({ length: 99 }, (_, index) => frame(remote(1 + index), MAC.a)));
  t.equal(inner(peer).length, 99, 'the known ones go on');
  t.equal(vtep.questions.length, 0, 'without a question');
  t.equal(net.targets(remote(199_999), 10).length, 1, 'what the operator set is one of them');

  // Whatever their answers: what a plugin says is nowhere for ever is not the operator's word.
  for (let index = 300_000; index < 300_000 + 2 * ASKED; index += 1024) {
    vtep.engine.setTime(index);
    port.send(...Array.from({ length: 1024 }, (_, next) => frame(remote(index + next), MAC.a, 60)));
    for (const question of vtep.questions.splice(0))
      net.answer(question, { kind: 'drop', reason: 'lookup_drop', ttlMs: Infinity });
  }
  t.equal(net.targets(remote(299_999), 200_000).length, ASKED, 'those have a bound of their own');
  t.equal(net.targets(-1, 200_000).length, ASKED + 100);
  lab.datagrams.length = 0;
  port.send(frame(remote(200_000), MAC.a), frame(remote(99), MAC.a));
  t.equal(inner(peer).length, 1);
  t.end();
});

await t.test('16 MiB for all overlays together', (t) => {
  const { vtep, net, port } = asking({ maxTargets: 100_000 });
  const second = vtep.overlay({ vnetid: 101, maxTargets: 100_000 });
  const portToo = second.port(MAC.c);
  const each = 1400 + 256;
  const half = Array.from({ length: 8000 }, (_, index) => frame(remote(index >> 3), MAC.a, 1400));
  port.send(...half);
  portToo.send(...half);
  const lost = 16_000 - Math.floor(MAX_BYTES / each);
  const ofFirst = net.drops.pending_full ?? 0;
  const ofSecond = second.drops.pending_full ?? 0;
  t.equal(ofFirst + ofSecond, lost, 'as many wait as may');
  t.ok(Math.abs(ofFirst - ofSecond) <= 1, `each has half of it: ${ofFirst} and ${ofSecond} are lost`);
  net.remove();
  t.match(net.drops, { pending_full: ofFirst, pending_lost: 8000 - ofFirst });
  portToo.send(frame(remote(20_000), MAC.c), frame(remote(0), MAC.c, 1400));
  t.strictSame(second.drops, { pending_full: ofSecond }, 'and all of it alone');
  t.end();
});

await t.test('states and times of a target', (t) => {
  const { vtep, net, port, peer, target } = asking({ negativeTtlMs: 200 });
  const send = () => {
    port.send(frame(remote(1), MAC.a));
    return inner(peer).length;
  };
  const asked = () => vtep.questions.length;
  const state = () => net.targets().map((row) => row.state);
  t.strictSame([send(), asked(), state()], [0, 1, ['pending']]);
  net.answer(vtep.questions[0], target(50));
  t.strictSame([inner(peer).length, send(), state()], [1, 1, ['valid']], 'valid');
  t.strictSame(net.targets(), [{ mac: remote(1), state: 'valid', to: [peer.local] }]);
  vtep.engine.setTime(49);
  t.equal(send(), 1, 'until its time is over');
  vtep.engine.setTime(50);
  t.strictSame([state(), send(), asked(), state()], [[], 0, 2, ['pending']], 'then it is asked again');
  net.answer(vtep.questions[1], { kind: 'drop', reason: 'lookup_drop' });
  t.strictSame([state(), net.targets()[0].to, send()], [['drop'], [], 0]);
  t.strictSame(net.drops, { lookup_drop: 2 }, 'the one that waited, and the next');
  vtep.engine.setTime(249);
  t.strictSame([send(), asked()], [0, 2], 'a drop lasts negativeTtlMs');
  vtep.engine.setTime(250);
  t.strictSame([send(), asked()], [0, 3]);
  net.answer(vtep.questions[2], { kind: 'drop', reason: 'lookup_timeout', ttlMs: 0 });
  t.strictSame([send(), asked()], [0, 4], 'or its own ttl');
  net.answer(vtep.questions[3], { kind: 'target', to: [], ttlMs: 1000 });
  t.strictSame(
    [net.drops, state()],
    [{ lookup_drop: 4, lookup_timeout: 1 }, ['drop']],
    'a target that is nowhere',
  );
  net.setTarget(remote(1), [peer.local], Infinity);
  vtep.engine.setTime(MAX_TTL_MS * 1.9);
  t.equal(send(), 1, 'for ever');
  t.end();
});

await t.test('a target that moved leaves no peer behind', (t) => {
  const { lab, vtep, net, port, peer } = asking();
  const before = lab.peer('192.0.2.3');
  const accepted = () => {
    lab.inject(before, vtep, VXLAN_100, frame(MAC.a, remote(1)));
    return port.take().length;
  };
  net.setTarget(remote(1), [before.local], 10);
  t.equal(accepted(), 1);
  vtep.engine.setTime(10);
  port.send(frame(remote(1), MAC.a));
  t.equal(accepted(), 0, 'asked for again');
  net.answer(vtep.questions[0], { kind: 'target', to: [before.local, peer.local], ttlMs: 10 });
  t.equal(accepted(), 1);
  vtep.engine.setTime(20);
  port.send(frame(remote(1), MAC.a));
  t.equal(accepted(), 0, 'a flood list, too');
  net.answer(vtep.questions[1], { kind: 'target', to: [peer.local], ttlMs: 1e6 });
  t.strictSame([inner(peer).length, accepted()], [2, 0]);
  t.end();
});

await t.test('ticks run over, ttls do not', (t) => {
  const table = new TargetTable(10, 10, () => undefined);
  for (const start of [0, 0x7fff_ff00, -0x100, -0x8000_0000]) {
    const now = (ms: number) => (start + ms / 10) | 0;
    const row = table.insert(1, start, now(0));
    table.settle(row, VALID, 0, 10_000, now(0));
    t.strictSame(
      [0, 9_990, 10_000, 1e6].map((ms) => table.state(row, now(ms))),
      [VALID, VALID, FREE, FREE],
    );
    table.settle(row, DROP, NOWHERE, 1e15, now(0));
    t.strictSame(
      [0, MAX_TTL_MS - 10, MAX_TTL_MS].map((ms) => table.state(row, now(ms))),
      [DROP, DROP, FREE],
    );
  }
  t.end();
});

await t.test('what is over stays so, though the ticks run over', (t) => {
  const { vtep, net, port, peer } = asking();
  const day = 86_400_000;
  const states = () => net.targets().map(({ mac, state }) => [mac - remote(0), state]);
  net.setTarget(remote(1), [peer.local], 1000);
  net.setTarget(remote(2), [peer.local], Infinity);
  net.setTarget(remote(3), [], 1000);
  for (let now = 2000; now < 600 * day; now += 20 * day) {
    vtep.engine.setTime(now);
    t.strictSame(states(), [[2, 'valid']], `after ${Math.floor(now / day)} days`);
  }
  net.setTarget(remote(4), [peer.local], 100 * day);
  vtep.engine.setTime(650 * day);
  t.strictSame(
    states(),
    [
      [2, 'valid'],
      [4, 'valid'],
    ],
    'what is not over goes on',
  );
  // Not a frame and not a command for two thirds of a year, in which the ticks run over.
  let now = 1000;
  for (const silence of [200, 250, 300, 400, 497]) {
    vtep.engine.setTime(now * day);
    net.setTarget(remote(5), [peer.local], 1000);
    vtep.engine.setTime((now += silence) * day);
    t.strictSame(states(), [[2, 'valid']], `after ${silence} days of silence`);
  }
  port.send(frame(remote(2), MAC.a));
  t.equal(inner(peer).length, 1);
  t.end();
});

await t.test('a full table loses what was not used for longest', (t) => {
  const { vtep, net, port, peer } = asking({ maxTargets: 4 });
  const macs = () => net.targets().map(({ mac }) => mac - remote(0));
  for (const index of [1, 2, 3, 4]) net.setTarget(remote(index), [peer.local]);
  vtep.engine.setTime(2000);
  port.send(frame(remote(1), MAC.a), frame(remote(3), MAC.a));
  net.setTarget(remote(5), [peer.local]);
  t.strictSame(macs(), [1, 3, 4, 5]);
  net.setTarget(remote(6), []);
  t.strictSame(macs(), [1, 3, 5, 6]);
  vtep.engine.setTime(4000);
  port.send(frame(remote(6), MAC.a)); // a drop is a use, too
  for (const index of [7, 8, 9]) net.setTarget(remote(index), [peer.local]);
  t.strictSame(macs(), [6, 7, 8, 9]);

  vtep.engine.setTime(8000);
  inner(peer);
  port.send(frame(remote(10), MAC.a));
  t.strictSame(macs(), [6, 7, 8, 9, 10], 'a frame that waits takes nothing away');
  net.answer(vtep.questions[0], { kind: 'target', to: [peer.local], ttlMs: 1e6 });
  t.strictSame([macs(), inner(peer).length], [[7, 8, 9, 10], 1], 'its target does');
  t.end();
});

await t.test('what waits for longest makes room for the next question', (t) => {
  const evicted: number[] = [];
  const table: TargetTable = new TargetTable(2, 2, (row) => evicted.push(table.macLow(row)));
  const waiting = [1, 2, 3].map((mac) => table.insert(0, mac, 0));
  t.strictSame([evicted.splice(0), table.find(0, 1)], [[1], NONE]);
  table.settle(waiting[1], VALID, 0, 100, 0);
  table.insert(0, 4, 0);
  t.strictSame(evicted.splice(0), [], 'a target is none of them');
  table.reopen(waiting[1]);
  t.strictSame(evicted.splice(0), [3], 'until it is asked for again');
  t.equal(table.size, 2);
  t.end();
});

await t.test('an entry that is asked for again is a fresh one', (t) => {
  const { vtep, net, port, peer, target } = asking({ maxTargets: 2 });
  net.setTarget(remote(1), [peer.local], 10);
  net.setTarget(remote(2), [peer.local]);
  vtep.engine.setTime(5000);
  port.send(frame(remote(1), MAC.a));
  net.setTarget(remote(3), [peer.local]);
  net.answer(vtep.questions[0], target());
  t.strictSame([inner(peer).length, net.drops], [1, {}], 'the one that nobody used made room');
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
    vtep.engine.setTime((nowMs += 1001));
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

await t.test('what the plugin pushes sends what waits, in order', (t) => {
  const { vtep, net, port, peer } = asking({}, { batchFrames: 8 });
  const frames = Array.from({ length: 100 }, (_, index) =>
    packet({ to: remote(1), payloadBytes: 8 * index }),
  );
  port.send(...frames);
  net.setTarget(remote(1), [peer.local], 1000);
  same(t, inner(peer), frames, 'more than a batch of them');
  net.answer(vtep.questions[0], { kind: 'drop', reason: 'lookup_drop' });
  port.send(frames[0]);
  t.strictSame([inner(peer).length, net.drops], [1, {}], 'the late answer is thrown away');
  t.end();
});

await t.test('frames that waited are as they would have been', (t) => {
  const { vtep, net, peer, target } = asking();
  const port = net.port(MAC.c, { vid: 9 });
  const partial = packet({ to: remote(1), protocol: ipv4.TCP, checksum: 'partial', trafficClass: 2 });
  port.sendWith({ ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: 34, checksumOffset: 16 }, partial);
  net.answer(vtep.questions[0], target());
  const [{ bytes, tos }] = peer.take();
  same(
    t,
    [bytes.subarray(8)],
    [packet({ to: remote(1), protocol: ipv4.TCP, trafficClass: 2, tags: [9] })],
    'whole',
  );
  t.strictSame([tos, hex(bytes.subarray(0, 8))], [2, '0800000000006400']);
  t.end();
});

await t.test('a flood to more places than an output list holds', (t) => {
  const { lab, vtep, net, port } = asking({}, { batchFrames: 8 });
  const places = Array.from({ length: 150 }, (_, index) => endpoint(`198.51.100.${index}`));
  port.send(frame(MAC.all, MAC.a), frame(MAC.all, MAC.a, 61));
  for (const question of vtep.questions) net.answer(question, { kind: 'target', to: places, ttlMs: 1e6 });
  t.equal(lab.datagrams.length, 300);
  const reached = (length: number) =>
    lab.datagrams.filter(({ bytes }) => bytes.length === length).map(({ to }) => formatEndpoint(to));
  t.strictSame(reached(68), places.map(formatEndpoint), 'each gets each frame once');
  t.strictSame(reached(69), places.map(formatEndpoint));
  t.strictSame(net.targets()[0].to, places);
  lab.network.errnos.set(places[3].ip, EHOSTUNREACH);
  port.send(frame(MAC.all, MAC.a));
  t.strictSame(
    [lab.datagrams.length, net.drops],
    [449, { tx_unreachable: 1 }],
    'one that fails costs only itself',
  );
  t.end();
});

await t.test('the table is read page by page, in order of MAC', (t) => {
  const { vtep, net, port, peer } = asking({ maxTargets: 5000 });
  const macs = Array.from({ length: 1000 }, (_, index) => (index * 0x9e37_79b1) % 0xfeff_ffff_ffff).sort(
    (a, b) => a - b,
  );
  for (const mac of macs.toReversed()) net.setTarget(mac, [peer.local], mac % 2 === 0 ? 100 : Infinity);
  const pages = (limit: number) => {
    const seen: number[] = [];
    for (let after = -1; ;) {
      const page = net.targets(after, limit).map(({ mac }) => mac);
      if (page.length === 0) return seen;
      if (page.length > limit) t.fail(`a page of ${page.length}`);
      seen.push(...page);
      after = page[page.length - 1];
    }
  };
  for (const limit of [1, 7, 100, 5000]) t.strictSame(pages(limit), macs, `pages of ${limit}`);
  vtep.engine.setTime(100);
  t.strictSame(
    pages(64),
    macs.filter((mac) => mac % 2 === 1),
    'expired ones are not there',
  );
  const last = 0xfeff_ffff_ffff;
  port.send(frame(last, MAC.a), frame(MAC.all, MAC.a));
  t.strictSame(
    net.targets(last - 1, 10),
    [{ mac: last, state: 'pending', to: [] }],
    'group frames have no entry',
  );
  t.strictSame(net.targets(last, 10), []);
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
  t.equal(vtep.ask({ kind: 'stop', reply: 1 }), true);
  t.equal(vtep.ask({ kind: 'remove-socket', token: 1, reply: 1 }), true);
  t.notOk(vtep.pump(1), 'a token that is gone');
  t.end();
});

await t.test('a device that fails is let go of; the others go on', (t) => {
  const { vtep, net, port, inject } = facing();
  const other = net.port(MAC.c);
  port.port.receiveErrno = EBADFD;
  vtep.lab.run();
  t.strictSame(vtep.faults, [{ kind: 'fault', token: port.token, errno: EBADFD }]);
  inject(frame(MAC.a, MAC.b));
  inject(frame(MAC.c, MAC.b));
  t.strictSame([other.take().length, net.drops], [1, { rx_no_port: 1 }]);
  port.remove();
  t.end();
});

// -- Checksums left to the device

const TRANSPORTS = [
  { version: 4, protocol: ipv4.TCP, start: 34, field: tcp.CHECKSUM },
  { version: 4, protocol: ipv4.UDP, start: 34, field: udp.CHECKSUM },
  { version: 6, protocol: ipv4.TCP, start: 54, field: tcp.CHECKSUM },
  { version: 6, protocol: ipv4.UDP, start: 54, field: udp.CHECKSUM },
] as const;

await t.test('a partial checksum out of the tunnel is recognised', (t) => {
  for (const { version, protocol, start, field } of TRANSPORTS) {
    for (const payloadBytes of [0, 1, 33, 1000]) {
      const { port, inject } = facing();
      const spec: Packet = { to: MAC.a, from: MAC.b, version, protocol, payloadBytes };
      inject(packet({ ...spec, checksum: 'partial' }));
      inject(packet({ ...spec, checksum: 'partial', tags: [5] }));
      inject(packet(spec));
      const [partial, tagged, full] = port.takeWhole();
      const needs = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: start, checksumOffset: field };
      t.strictSame(partial.header, needs, `IPv${version} protocol ${protocol} ${payloadBytes} bytes`);
      t.strictSame(tagged.header, { ...needs, checksumStart: start + 4 });
      t.strictSame(full, { bytes: packet(spec), header: WHOLE }, 'a full one is left alone');
    }
  }
  const { net, inject } = facing();
  const access = net.port(MAC.c, { vid: 5 });
  inject(packet({ to: MAC.c, from: MAC.b, checksum: 'partial', tags: [5] }));
  t.match(access.takeWhole(), [{ header: { flags: 1, checksumStart: 34 } }], 'where the tag goes, it moves');

  const { port, inject: injectPlain } = facing();
  const odd: Packet[] = [
    { fragment: 0x2000 },
    { version: 6, fragment: 1 },
    { protocol: ipv4.ICMP },
    { version: 6, extensions: 9 },
  ];
  for (const spec of odd) injectPlain(packet({ to: MAC.a, from: MAC.b, ...spec, checksum: 'partial' }));
  injectPlain(packet({ to: MAC.a, from: MAC.b, checksum: 'partial' }).subarray(0, -1));
  t.strictSame(
    port.takeWhole().map(({ header }) => header),
    Array(5).fill(WHOLE),
    'nothing is guessed of fragments, other protocols, endless chains, lying lengths',
  );
  t.end();
});

await t.test('an unsegmented TCP frame out of the tunnel', (t) => {
  const { net, port, inject } = facing({ mtuBytes: 1450 });
  const spec: Packet = {
    to: MAC.a,
    from: MAC.b,
    protocol: ipv4.TCP,
    checksum: 'partial',
    payloadBytes: 9000,
  };
  const header = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumOffset: tcp.CHECKSUM };
  const cases: [Packet, Partial<virtio.Repr>][] = [
    [{}, { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 54, checksumStart: 34 }],
    [{ version: 6 }, { gsoType: virtio.GSO_TCPV6, gsoSize: 1390, headerLength: 74, checksumStart: 54 }],
    [{ tags: [5] }, { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 58, checksumStart: 38 }],
    [
      { version: 6, extensions: 2 },
      { gsoType: virtio.GSO_TCPV6, gsoSize: 1374, headerLength: 90, checksumStart: 70 },
    ],
    [
      { tcpFlags: tcp.ACK | tcp.CWR },
      { gsoType: virtio.GSO_TCPV4 | virtio.GSO_ECN, gsoSize: 1410, headerLength: 54, checksumStart: 34 },
    ],
    [
      { payloadBytes: 65000 },
      { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 54, checksumStart: 34 },
    ],
  ];
  for (const [variant, expected] of cases) {
    const bytes = packet({ ...spec, ...variant });
    inject(bytes);
    const [taken] = port.takeWhole();
    t.strictSame(
      [taken.header, hex(taken.bytes)],
      [{ ...header, ...expected }, hex(bytes)],
      JSON.stringify(variant),
    );
  }
  t.strictSame(net.drops, {});
  const access = net.port(MAC.c, { vid: 5 });
  inject(packet({ ...spec, to: MAC.c, tags: [5] }));
  t.match(access.takeWhole(), [{ header: { headerLength: 54, checksumStart: 34, gsoSize: 1410 } }]);

  const refused: Record<string, Uint8Array> = {
    'TCP with a full checksum': packet({ ...spec, checksum: 'full' }),
    'UDP, which cannot be cut like this': packet({ ...spec, protocol: ipv4.UDP }),
    'UDP with a full checksum': packet({ ...spec, protocol: ipv4.UDP, checksum: 'full' }),
    'a fragment': packet({ ...spec, fragment: 0x2000 }),
    'a small packet with a long tail': concat(packet({ ...spec, payloadBytes: 10 }), new Uint8Array(5000)),
    'no IP at all': frame(MAC.a, MAC.b, 9000),
  };
  for (const bytes of Object.values(refused)) inject(bytes);
  t.strictSame([port.takeWhole(), net.drops], [[], { rx_too_big: 6 }], Object.keys(refused).join(', '));

  const small = facing({ mtuBytes: 576 });
  small.inject(packet({ ...spec, version: 6, extensions: 8 }));
  t.match(small.port.takeWhole(), [{ header: { gsoSize: 576 - 40 - 64 - 20 } }]);
  const long = packet({ ...spec, version: 6, extensions: 8 });
  const chained = concat(
    long.subarray(0, 54),
    Uint8Array.of(ipv4.TCP, 69, 1, 0xff), // one destination options header of 560 bytes instead of the eight
    new Uint8Array(556),
    long.subarray(54 + 64),
  );
  new DataView(chained.buffer).setUint16(14 + 4, chained.length - 54);
  const sum = packet({ ...spec, version: 6, payloadBytes: 9000 });
  chained.set(sum.subarray(70, 72), 54 + 560 + tcp.CHECKSUM);
  small.inject(chained);
  t.strictSame(
    [small.port.takeWhole(), small.net.drops],
    [[], { rx_too_big: 1 }],
    'headers as long as the MTU',
  );
  t.end();
});

await t.test('a checksum that the sender left to the device', (t) => {
  for (const { version, protocol, start, field } of TRANSPORTS) {
    const { net, port, peer } = facing();
    const spec: Packet = { version, protocol, payloadBytes: 101 };
    const header = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: start, checksumOffset: field };
    port.sendWith(header, packet({ ...spec, checksum: 'partial' }));
    same(t, inner(peer), [packet(spec)], `is done before it leaves: IPv${version} protocol ${protocol}`);

    const local = net.port(MAC.b);
    port.sendWith(header, packet({ ...spec, checksum: 'partial' }));
    t.strictSame(
      local.takeWhole(),
      [{ bytes: packet({ ...spec, checksum: 'partial' }), header }],
      'or left for the next port',
    );

    const [access, accessToo] = [net.port(MAC.c, { vid: 7 }), net.port(MAC.d, { vid: 7 })];
    access.sendWith(header, packet({ ...spec, to: MAC.all, checksum: 'partial' }));
    same(t, inner(peer), [packet({ ...spec, to: MAC.all, tags: [7] })], 'a tag put in moves it');
    const [{ bytes, header: after }] = accessToo.takeWhole();
    if (after.flags === virtio.NEEDS_CHECKSUM) {
      t.strictSame([bytes, after], [packet({ ...spec, to: MAC.all, checksum: 'partial' }), header]);
    } else {
      same(t, [bytes], [packet({ ...spec, to: MAC.all })], 'done for the tunnel, so done here');
    }
    t.strictSame(net.drops, {});
  }
  t.end();
});

// -- Every reason to drop

/** The kernel counts `rx_queue_full`: netns/receive.test.ts. */
const CASES: Record<Exclude<DropReason, 'rx_queue_full'>, () => Net> = {
  tx_runt: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.b, MAC.a).subarray(0, 13));
    }),
  tx_vlan: () =>
    sent(facing({ carryTags: false }), (port) => {
      port.send(frame(MAC.b, MAC.a, 64, 5));
    }),
  tx_too_big: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.b, MAC.a, 1465));
    }),
  tx_hairpin: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.a, MAC.a));
    }),
  lookup_drop: () => answered('lookup_drop'),
  lookup_failed: () => answered('lookup_failed'),
  lookup_timeout: () => answered('lookup_timeout'),
  tx_group: () => answeredGroup('lookup_drop'),
  arp_malformed: () => answeredGroup('arp_malformed'),
  arp_ignored: () => answeredGroup('arp_ignored'),
  arp_conflict: () => answeredGroup('arp_conflict'),
  ndp_malformed: () => answeredGroup('ndp_malformed'),
  ndp_ignored: () => answeredGroup('ndp_ignored'),
  ndp_router: () => answeredGroup('ndp_router'),
  dhcp_malformed: () => answeredGroup('dhcp_malformed'),
  proxy_spoofed: () => answeredGroup('proxy_spoofed'),
  proxy_unknown: () => answeredGroup('proxy_unknown'),
  proxy_own: () => answeredGroup('proxy_own'),
  proxy_local: () => {
    const { vtep, net, port } = asking();
    net.port(MAC.c);
    port.send(frame(MAC.all, MAC.a));
    net.answer(vtep.questions[0], { kind: 'redirect', to: MAC.c });
    return net;
  },
  lookup_busy: () =>
    sent(asking(), (port) => {
      port.send(...Array.from({ length: OPEN_QUESTIONS + 1 }, (_, index) => frame(remote(index), MAC.a)));
    }),
  pending_full: () =>
    sent(asking(), (port) => {
      const fit = Math.floor(MAX_BYTES_PER_TARGET / (60 + 256));
      port.send(...Array<Uint8Array>(fit + 1).fill(frame(remote(1), MAC.a)));
    }),
  pending_lost: () =>
    sent(asking(), (port) => {
      port.send(frame(remote(1), MAC.a));
      port.net.deleteTarget(remote(1));
    }),
  tx_malformed: () =>
    sent(facing(), (port) => {
      port.sendWith(
        { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: 59, checksumOffset: 0 },
        frame(MAC.b, MAC.a),
      );
    }),
  tx_path_mtu: () => {
    const { netA, portA } = pair({ mtuBytes: 1500 });
    portA.send(frame(MAC.b, MAC.a, 1465));
    return netA;
  },
  tx_queue_full: () =>
    sent(facing(), (port) => {
      for (const sender of port.net.vtep.senders) sender.sendErrno = EAGAIN;
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_unreachable: () =>
    sent(facing(), (port) => {
      port.net.vtep.lab.network.errnos.set(address('192.0.2.2'), EHOSTUNREACH);
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_firewall: () =>
    sent(facing(), (port) => {
      port.net.vtep.lab.network.errnos.set(address('192.0.2.2'), EPERM);
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_loop: () => {
    const { net, port, peer } = facing();
    net.setLoops(peer.local.ip);
    port.send(frame(MAC.b, MAC.a));
    return net;
  },
  tx_error: () =>
    sent(facing({ destination: endpoint('2001:db8::1') }), (port) => {
      port.send(frame(MAC.b, MAC.a));
    }),
  mac_spoofed: () => protecting(['mac-nospoof'], frame(MAC.b, MAC.c)),
  ip_spoofed: () => protecting(['ip-nospoof'], packet({})),
  dhcp_spoofed: () => protecting(['dhcp-nospoof'], dhcpFrame({ clientMac: MAC.c })),
  rogue_router: () => protecting(['ip-nospoof'], packet({ source: '0.0.0.0', protocol: 1, firstByte: 5 })),
  dhcp_flood: () => protecting(['dhcp-nospoof'], ...Array.from({ length: 65 }, () => dhcpFrame())),
  rogue_dhcp: () => protecting(['dhcp-nospoof'], packet({ ports: [67, 68] })),
  restricted: () => protecting(['restricted'], frame(MAC.b, MAC.a)),
  unreadable: () => protecting(['ip-nospoof'], packet({}).subarray(0, 33)),
  rx_source_mismatch: () => {
    const { net, port, inject } = facing({ destination: undefined, strictSource: true, acceptAny: true });
    net.setTarget(MAC.b, [endpoint('192.0.2.3')]);
    inject(frame(port.mac, MAC.b));
    return net;
  },
  rx_source_unknown: () => {
    const { net, port, inject } = facing({ destination: undefined, strictSource: true, acceptAny: true });
    inject(frame(port.mac, MAC.b));
    return net;
  },
  rx_truncated: () => injected(new Uint8Array(0), '08000000 000064'),
  rx_no_vni: () => injected(frame(MAC.a, MAC.b), 'f7ffffff 000064ff'),
  rx_version: () => geneve('40006558 00006400'),
  rx_control: () => geneve('00806558 00006400'),
  rx_critical_option: () => geneve('00406558 00006400'),
  rx_bad_option: () => geneve('01006558 00006400 01020301'),
  rx_protocol: () => geneve('00000800 00006400'),
  rx_unknown_vni: () => injected(frame(MAC.a, MAC.b), '08000000 00006500'),
  rx_ambiguous: () => {
    const wrapListener = (device: Device): Device => ({
      receive: (batch) => {
        const count = device.receive(batch);
        if (count > 0) batch.descriptors.set([0, 0, 0, 1], LENGTH);
        return count;
      },
      deliver: () => 0,
    });
    const lab = new Lab();
    const vtep = lab.vtep('192.0.2.1', { wrapListener });
    const net = vtep.overlay({ destination: endpoint('192.0.2.2') });
    lab.peer('192.0.2.2').send(vtep.endpoint, concat(fromHex(VXLAN_100), frame(MAC.a, MAC.b)));
    lab.run();
    return net;
  },
  rx_unknown_peer: () => injected(frame(MAC.a, MAC.b), VXLAN_100, { destination: undefined }),
  rx_runt: () => injected(frame(MAC.a, MAC.b).subarray(0, 13)),
  rx_bad_source: () => injected(frame(MAC.a, MAC.group)),
  rx_vlan: () => injected(frame(MAC.a, MAC.b, 64, 5), VXLAN_100, { carryTags: false }),
  rx_ecn: () => {
    const { net, inject } = facing();
    inject(packet({ to: MAC.a, from: MAC.b }), VXLAN_100, 3);
    return net;
  },
  rx_too_big: () => injected(frame(MAC.a, MAC.b, 1465)),
  rx_no_port: () =>
    sent(facing(), (port) => {
      port.remove();
      port.net.vtep.lab.network
        .bind(endpoint('192.0.2.2', 1))
        .send(port.net.vtep.endpoint, concat(fromHex(VXLAN_100), frame(MAC.a, MAC.b)));
      port.net.vtep.lab.run();
    }),
  port_down: () =>
    refusing((tap) => {
      tap.port.isUp = false;
    }),
  port_full: () =>
    refusing((tap) => {
      tap.port.deliverErrno = EAGAIN;
    }),
  port_error: () =>
    refusing((tap) => {
      tap.port.deliverErrno = EBADFD;
    }),
};

function sent({ net, port }: { net: Net; port: Tap }, act: (port: Tap) => void): Net {
  act(port);
  return net;
}

function answered(reason: 'lookup_drop' | 'lookup_failed' | 'lookup_timeout'): Net {
  const { vtep, net, port } = asking();
  port.send(frame(remote(1), MAC.a));
  net.answer(vtep.questions[0], { kind: 'drop', reason });
  return net;
}

function answeredGroup(reason: 'lookup_drop' | ProxyDrop): Net {
  const { vtep, net, port } = asking();
  port.send(frame(MAC.all, MAC.a));
  net.answer(vtep.questions[0], { kind: 'drop', reason });
  return net;
}

function injected(bytes: Uint8Array, header = VXLAN_100, options: Options = {}): Net {
  const { net, inject } = facing(options);
  inject(bytes, header);
  return net;
}

function geneve(header: string): Net {
  const { net, inject } = facing({}, undefined, undefined, 'geneve');
  inject(frame(MAC.a, MAC.b), header);
  return net;
}

function protecting(types: readonly Protection[], ...frames: readonly Uint8Array[]): Net {
  const { net, port } = facing();
  port.protect({ types, addresses: [], clientIds: [] });
  port.send(...frames);
  t.equal(readCounters(port.values)[Object.keys(net.drops)[0] as DropReason], 1, 'counted for the port too');
  return net;
}

function refusing(act: (port: Tap) => void): Net {
  const { net, port, inject } = facing();
  act(port);
  inject(frame(MAC.a, MAC.b));
  return net;
}

await t.test('every reason to drop is reached, and it alone', (t) => {
  t.strictSame(
    [...Object.keys(CASES), 'rx_queue_full'].sort(),
    Object.keys(DROPS).sort(),
    'a reason has a case',
  );
  for (const [reason, act] of Object.entries(CASES)) t.strictSame(act().drops, { [reason]: 1 }, reason);
  const failing: Record<DropReason, number[]> | object = {
    tx_path_mtu: [90],
    tx_queue_full: [11, 12, 105],
    tx_unreachable: [99, 100, 101, 111, 113],
    tx_malformed: [22],
    tx_firewall: [1],
    tx_error: [5, 9, 97],
  };
  for (const [reason, errnos] of Object.entries(failing)) {
    for (const errno of errnos as number[]) t.equal(dropOfSendError(errno), reason, `send errno ${errno}`);
  }
  t.strictSame([5, 11, 12, 105, 22, 77].map(dropOfPortError), [
    'port_down',
    'port_full',
    'port_full',
    'port_full',
    'port_error',
    'port_error',
  ]);
  t.strictSame(Object.keys(COUNTER), COUNTER_NAMES);
  t.equal(new Set(COUNTER_NAMES).size, COUNTER_NAMES.length, 'no name twice');
  t.equal(createCounters().length, COUNTER_NAMES.length);
  t.end();
});

// -- Parts

await t.test('MacIndex is a Map, also when it grows and loses', (t) => {
  const index = new MacIndex();
  const model = new Map<string, number>();
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 0x5deece66 | 1) + 11) | 0;
    return (state >>> 8) % below;
  };
  for (let step = 0; step < 50_000; step++) {
    const [high, low] = [random(4), random(3000) - 1500];
    const key = `${high} ${low}`;
    if (random(3) > 0 === step < 25_000) {
      index.set(high, low, step);
      model.set(key, step);
    } else if (index.delete(high, low) !== model.delete(key)) {
      t.fail(`delete ${key}`);
    }
    if (index.get(high, low) !== (model.get(key) ?? NONE) || index.size !== model.size)
      t.fail(`step ${step}`);
  }
  for (const [key, value] of model) {
    const [high, low] = key.split(' ').map(Number);
    if (index.get(high, low) !== value) t.fail(key);
  }
  index.set(0xffff, -1, 7);
  t.strictSame([index.get(0xffff, -1), index.get(0xfffe, -1), index.get(0, 0x7fff_ffff)], [7, NONE, NONE]);
  index.clear();
  t.strictSame([index.size, index.get(0xffff, -1), index.delete(0xffff, -1)], [0, NONE, false]);
  t.end();
});

await t.test('destinations: references, slots used again', (t) => {
  const book: string[] = [];
  const destinations = new Destinations({
    setAddress: (slot, bytes, port) => book.push(`${slot} ${hex(bytes)} ${port}`),
  });
  const [one, two, three]: Endpoint[] = [
    endpoint('192.0.2.1', 1),
    endpoint('192.0.2.1', 2),
    endpoint('2001:db8::1'),
  ];
  t.strictSame(
    [one, two, one, three].map((each) => destinations.acquire(each)),
    [0, 1, 0, 2],
  );
  t.strictSame(book, [
    '0 00000000000000000000ffffc0000201 1',
    '1 00000000000000000000ffffc0000201 2',
    '2 20010db8000000000000000000000001 4789',
  ]);
  destinations.release(0);
  t.strictSame(destinations.endpoint(0), one, 'held still');
  destinations.release(0);
  t.throws(() => destinations.endpoint(0));
  t.throws(() => {
    destinations.release(0);
  });
  t.equal(destinations.acquire(three), 2);
  t.equal(destinations.acquire(endpoint('192.0.2.9')), 0, 'used again');
  t.equal(destinations.acquire(one), 3);
  t.equal(book.length, 5);
  t.end();
});

await t.test('slots are used again across a network, and lead nowhere old', (t) => {
  const { lab, net, port, vtep } = asking({ maxTargets: 3 });
  for (let index = 0; index < 200; index++) {
    const to = endpoint(`198.51.100.${index}`, 1000 + index);
    const macs = [remote(index), remote(index + 1)];
    for (const mac of macs) net.setTarget(mac, index % 3 === 0 ? [to, endpoint('192.0.2.2')] : [to]);
    port.send(...macs.map((mac) => frame(mac, MAC.a)));
    const sentTo = lab.datagrams.splice(0).map((datagram) => formatEndpoint(datagram.to));
    const right = sentTo.filter((name) => name === formatEndpoint(to)).length;
    if (right !== 2 || sentTo.length !== (index % 3 === 0 ? 4 : 2)) t.fail(`${index}: ${sentTo.join()}`);
  }
  let highest = -1;
  const setAddress = vtep.host.setAddress.bind(vtep.host);
  vtep.host.setAddress = (slot, bytes, udpPort) => {
    highest = Math.max(highest, slot);
    setAddress(slot, bytes, udpPort);
  };
  for (let index = 0; index < 50; index++) net.setTarget(remote(index), [endpoint(`203.0.113.${index}`)]);
  t.ok(highest < 8, `no slot above ${highest} for 3 targets`);
  t.end();
});

await t.test('peers: references, four words compared', (t) => {
  const peers = new Peers();
  const has = (ip: string) => {
    const words = new Int32Array(6).fill(-1);
    writeV6(address(ip), new Uint8Array(words.buffer), 4);
    return peers.has(words, 1);
  };
  const all = Array.from({ length: 300 }, (_, index) =>
    index % 2 ? `10.0.${index >> 8}.${index & 255}` : `fd00::${index.toString(16)}:0:1`,
  );
  for (const ip of all) peers.add(address(ip));
  t.ok(all.every(has));
  t.notOk(['10.1.0.1', 'fd00::', '::', '0.0.0.0', '255.255.255.255'].some(has));
  peers.add(address(all[7]));
  for (const ip of all.slice(0, 200)) peers.remove(address(ip));
  t.strictSame(all.filter(has), [all[7], ...all.slice(200)]);
  peers.remove(address(all[7]));
  peers.remove(address(all[7]));
  t.strictSame(all.filter(has), all.slice(200));
  t.end();
});

await t.test('the pending queue gives back what it took', (t) => {
  const budget = new PendingBudget();
  const queue = new PendingQueue(budget, () => {
    t.fail('nothing is lost');
  });
  const sender = {};
  const host = new MemoryHost(new MemoryNetwork(), 4);
  const batch = host.createBatch();
  const port = host.openPort();
  const hold = (row: number, bytes: number) => {
    port.send(frame(MAC.b, MAC.a, bytes));
    port.receive(batch);
    return queue.hold(row, sender, batch, 0);
  };
  t.ok(hold(1, 65536), 'the largest frame');
  t.notOk(hold(1, 65536), 'one of it');
  t.ok(hold(2, 14));
  t.equal(budget.used, 65536 + 14 + 512);
  t.equal(queue.discard(3), 0);
  const counts: number[] = [];
  queue.release(1, batch, (count) =>
    counts.push(count, batch.descriptors[LENGTH], batch.descriptors[OFFSET] % 16),
  );
  t.strictSame(counts, [1, 65536, 0]);
  t.equal(queue.discard(2), 1);
  t.equal(budget.used, 0);
  for (let index = 0; index < 9; index++) t.ok(hold(1, 60 + index));
  queue.release(1, batch, (count) => counts.push(count));
  t.strictSame(counts.slice(3), [4, 4, 1], 'as many as the batch holds at a time');
  t.end();
});

await t.test('output lists keep order, and are flushed when they are full', (t) => {
  const calls: number[][] = [];
  const sink = {
    deliver: (_: unknown, entries: Int32Array, count: number) => {
      calls.push([...entries.subarray(0, count * 2)]);
      entries[1] = -EAGAIN;
      return count - 1;
    },
  };
  const outputs = new Outputs();
  const list = new OutputList(sink, 2, dropOfSendError);
  const counters = createCounters();
  const batch = new MemoryHost(new MemoryNetwork(), 4).createBatch();
  for (let index = 0; index < 5; index++) outputs.add(list, batch, index, 10 + index, counters);
  outputs.flush(batch);
  outputs.flush(batch);
  t.strictSame(calls, [
    [0, 10, 1, 11],
    [2, 12, 3, 13],
    [4, 14],
  ]);
  t.equal(counters[COUNTER.tx_queue_full], 3);
  t.end();
});

/** A socket that takes as many datagrams as there are, and has descriptors for `batchFrames` of them. */
await t.test('what there were no descriptors for follows at once, through any middleware', (t) => {
  const held: MemorySocket['inbox'] = [];
  let receives = 0;
  const printed: string[] = [];
  const wrapListener = (device: Device): Device => {
    if (!(device instanceof MemorySocket)) throw new Error('not in memory');
    const socket = device;
    const handOn = (batch: FrameBatch): number => {
      socket.inbox.push(...held.splice(0, batch.capacityFrames));
      return socket.receive(batch);
    };
    const greedy: Device = {
      receive: (batch) => {
        receives++;
        held.push(...socket.inbox.splice(0));
        return handOn(batch);
      },
      rest: handOn,
      deliver: () => 0,
    };
    const options = { kind: VXLAN, name: 'under0', nowNs: () => 0n, write: () => undefined } as const;
    const print = (line: string): unknown => printed.push(line);
    return new Trace(new Capture(new Fault(greedy, 1, {}), options), {
      kind: VXLAN,
      name: 'under0',
      print,
    });
  };
  for (const count of [1, 3, 4, 5, 8, 11]) {
    const lab = new Lab();
    const vtep = lab.vtep('192.0.2.1', { batchFrames: 4, wrapListener });
    const net = vtep.overlay({ destination: endpoint('192.0.2.2') });
    const port = net.port(MAC.a, { own: true });
    const peer = lab.peer('192.0.2.2');
    const frames = Array.from({ length: count }, (_, index) => frame(MAC.a, MAC.b, 60 + index));
    for (const each of frames) peer.send(vtep.endpoint, concat(fromHex(VXLAN_100), each));
    receives = printed.length = 0;
    lab.run();
    same(t, port.take(), frames, `${count} frames`);
    t.strictSame([receives, printed.length], [1, count], 'of one receive, each seen on the way');
  }
  t.end();
});

// -- Middleware

await t.test('capture: what crosses a device, as pcapng', (t) => {
  const { lab, a, b, netA, portB } = pair();
  const blocks: Uint8Array[] = [];
  let clock = 0n;
  const options = { name: 'tap', nowNs: () => ++clock, write: (block: Uint8Array) => blocks.push(block) };
  const { host } = a;
  const tap = host.openPort();
  host.wrap(tap.fd, (device) => new Capture(device, { kind: 'port', ...options }));
  const rest = { kind: 'add-port', token: 99, overlay: netA.id, name: 'x', vid: 5, own: false } as const;
  a.engine.obey({ ...rest, fd: tap.fd, mac: MAC.c, counters: createCounters() });
  const out = frame(MAC.b, MAC.c);
  tap.send(out);
  lab.run();
  portB.send(frame(MAC.c, MAC.b, 64, 5));
  tap.isUp = false;
  portB.send(frame(MAC.c, MAC.b, 64, 5));
  const capture = pcapng.read(concat(...blocks));
  t.match(capture, { complete: true, interfaces: [{ name: 'tap', linkType: 1 }] });
  t.strictSame(
    capture?.packets.map(({ direction, comment, timestampNs, data }) => [
      direction,
      comment,
      timestampNs,
      hex(data),
    ]),
    [
      ['in', '', 1n, hex(out)],
      ['out', '', 2n, hex(frame(MAC.c, MAC.b))],
      ['out', 'EIO', 3n, hex(frame(MAC.c, MAC.b, 64, 5))],
    ],
    'as its owner sees them; a refused one as it was',
  );
  t.equal(b.listener.inbox.length, 0);
  t.end();
});

await t.test('trace: a line a frame', (t) => {
  const lines: string[] = [];
  const print = (line: string) => lines.push(line);
  const lab = new Lab();
  const peer = lab.peer('192.0.2.2');
  const wrapSender = (device: ConstructorParameters<typeof Trace>[0]) =>
    new Trace(device, { kind: VXLAN, name: 'under0', print });
  const vtep = lab.vtep('192.0.2.1', { wrapSender });
  vtep
    .overlay({ vnetid: 7, destination: peer.local, mtuBytes: 1500 })
    .port(MAC.a)
    .send(packet({ trafficClass: 2 }), frame(MAC.b, MAC.a, 1500));
  const listener = new Trace(vtep.listener, { kind: VXLAN, name: 'under0', print });
  const batch = vtep.host.createBatch();
  peer.send(vtep.endpoint, concat(fromHex('08000000 00000700'), frame(MAC.a, MAC.b)), 3);
  peer.send(vtep.endpoint, fromHex('0000'));
  t.equal(listener.receive(batch), 2);
  t.strictSame(lines, [
    `under0 out 74 bytes (VNI 7 tos 2): ${describe(packet({ trafficClass: 2 }))}`,
    `under0 out 1500 bytes (VNI 7 EMSGSIZE): ${describe(frame(MAC.b, MAC.a, 1500))}`,
    `under0 in 60 bytes (VNI 7 from 192.0.2.2:4789 tos 3): ${describe(frame(MAC.a, MAC.b))}`,
    'under0 in 2 bytes (from 192.0.2.2:4789, not VXLAN: truncated): Ethernet truncated (2 bytes)',
  ]);
  t.end();
});

await t.test('fault: each kind of harm does what it says', (t) => {
  const through = (rates: ConstructorParameters<typeof Fault>[2], count = 200) => {
    const lab = new Lab();
    const peer = lab.peer('192.0.2.2');
    const vtep = lab.vtep('192.0.2.1', { wrapSender: (device) => new Fault(device, 42, rates) });
    const net = vtep.overlay({ destination: peer.local });
    net.port(MAC.a).send(...Array.from({ length: count }, (_, index) => frame(MAC.b, MAC.a, 100 + index)));
    const found = inner(peer);
    return { drops: net.drops, found, sizes: found.map(({ length }) => length - 100) };
  };
  const inOrder = Array.from({ length: 200 }, (_, index) => index);
  t.strictSame(through({}).sizes, inOrder, 'none');
  t.strictSame([through({ drop: 1 }).sizes, through({ drop: 1 }).drops], [[], {}], 'lost, and nobody knows');
  t.strictSame(
    through({ duplicate: 1 }).sizes,
    inOrder.flatMap((index) => [index, index]),
  );
  t.strictSame(through({ refuse: 1 }).drops, { tx_queue_full: 200 });
  t.strictSame(through({ refuse: 1, errno: 90 }).drops, { tx_path_mtu: 200 });
  const { sizes } = through({ reorder: 0.5 });
  t.strictNotSame(sizes, inOrder);
  t.strictSame(
    sizes.toSorted((a, b) => a - b),
    inOrder,
    'swapped, none lost',
  );
  const wrong = through({ corrupt: 1 }).found.map((bytes, index) =>
    bytes.reduce((bits, byte, at) => bits + bitsOf(byte ^ frame(MAC.b, MAC.a, 100 + index)[at]), 0),
  );
  t.strictSame(new Set(wrong), new Set([1]), 'one bit');
  const some = through({ drop: 0.3, refuse: 0.2, duplicate: 0.1 });
  t.ok(some.sizes.length > 80 && some.sizes.length < 160);
  t.strictSame(through({ drop: 0.3, refuse: 0.2, duplicate: 0.1 }), some, 'the same seed, the same harm');
  t.end();
});

function bitsOf(value: number): number {
  return value.toString(2).replaceAll('0', '').length;
}

await t.test('what a fault spoils on one list is whole on the others', (t) => {
  const { lab, net, port, vtep } = facing();
  const spoiled = vtep.host.openPort();
  vtep.host.wrap(spoiled.fd, (device) => new Fault(device, 1, { corrupt: 1 }));
  const rest = { kind: 'add-port', token: 99, overlay: net.id, name: 'x', vid: 0, own: false } as const;
  vtep.engine.obey({ ...rest, fd: spoiled.fd, mac: MAC.c, counters: createCounters() });
  const last = net.port(MAC.d);
  const bytes = packet({ version: 6, to: MAC.all });
  port.send(bytes);
  t.notSame(spoiled.take()[0].bytes, bytes);
  same(t, [...last.take(), lab.datagrams[0].bytes.subarray(8)], [bytes, bytes], 'whole');
  t.equal(ipv6.check(bytes, 14, bytes.length - 14), 40);
  t.end();
});
