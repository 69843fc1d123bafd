// The way out: the outer header, the source port of a flow, floods. Rows named V1 to V20, E1 to E5 and S8 to S20, here and
// in the other files of the core, are those of the conformance tables.
import t from 'tap';
import { formatEndpoint } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { endpoint, frame, hex, MAC, packet, type Packet } from '../helpers/lab.js';
import { asking, inner, pair, remote, same } from '../helpers/scenes.js';

const EHOSTUNREACH = 113;

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
