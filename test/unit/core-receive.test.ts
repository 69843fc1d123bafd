// What arrives from the underlay: header, VNI, peer, inner frame, congestion marks, split horizon.
import t from 'tap';
import { combine } from '../../src/core/ecn.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { address, endpoint, frame, hex, Lab, MAC, packet, type Packet } from '../helpers/lab.js';
import { facing, pair, same, VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

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
