// What arrives from the underlay: peer, inner frame, congestion marks, split horizon. Headers are in encap-rows.test.ts.
import t from 'tap';
import { combine } from '../../src/core/ecn.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { address, endpoint, frame, Lab, MAC, packet, type Packet } from '../helpers/lab.js';
import { facing, pair, same, VXLAN_100 } from '../helpers/scenes.js';

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
