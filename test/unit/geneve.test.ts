// Geneve (RFC 8926), beside VXLAN: what is sent, passed over and refused, and that the two never mix. What it has in common
// with VXLAN is in encap-rows.test.ts.
import t from 'tap';
import { encapsulation, ENCAPSULATION_NAMES, type EncapsulationName } from '../../src/encap/index.js';
import { HEADROOM_BYTES } from '../../src/wire/descriptor.js';
import * as vlan from '../../src/wire/vlan.js';
import type { OverlayOptions } from '../../src/core/overlay.js';
import { endpoint, frame, Lab, MAC, concat, packet } from '../helpers/lab.js';
import { facing as scene, GENEVE_100, VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const facing = (options: Partial<OverlayOptions> = {}, encapsulation: EncapsulationName = 'geneve') =>
  scene(options, { encapsulation });

/** A header of VNI 100 with these options behind it. */
const headerWith = (options: string, flags = '00'): string => {
  const words = fromHex(options).length / 4;
  return `${words.toString(16).padStart(2, '0')}${flags}6558 00006400 ${options}`;
};

await t.test('every header fits before a frame, beside a tag that is put into it', (t) => {
  for (const name of ENCAPSULATION_NAMES) {
    const { headerBytes } = encapsulation(name);
    t.ok(headerBytes % 4 === 0 && headerBytes <= HEADROOM_BYTES - vlan.HEADER_BYTES, name);
  }
  t.end();
});

await t.test('a frame leaves behind eight bytes', (t) => {
  const { peer, port } = facing({ vnetid: 0x123456 });
  port.send(frame(MAC.b, MAC.a));
  t.strictSame(
    peer.take().map(({ bytes }) => bytes),
    [concat(fromHex('00006558 12345600'), frame(MAC.b, MAC.a))],
  );
  t.end();
});

await t.test('options are passed over by their length', (t) => {
  const { net, port, inject } = facing();
  for (let words = 0; words < 64; words++) {
    // One word each, as few as can be.
    inject(frame(MAC.a, MAC.b), headerWith('0102 7f00'.repeat(words)));
    t.strictSame(port.take(), [frame(MAC.a, MAC.b)], `${words} options`);
  }
  for (let words = 1; words < 32; words++) {
    const length = words.toString(16).padStart(2, '0');
    inject(frame(MAC.a, MAC.b), headerWith(`ffff 00${length}${'a5a5a5a5'.repeat(words)}`));
    t.strictSame(port.take(), [frame(MAC.a, MAC.b)], `one of ${words} words`);
  }
  inject(frame(MAC.a, MAC.b), headerWith('0102 03e0'));
  t.strictSame(port.take(), [frame(MAC.a, MAC.b)], 'with reserved bits of its own');
  t.strictSame(net.drops, {});
  t.end();
});

await t.test('what is refused has a reason', (t) => {
  const refused: readonly (readonly [what: string, reason: string, header: string])[] = [
    ...[0x40, 0x80, 0xc0].map(
      (version) => [`version ${version}`, 'rx_version', `${version.toString(16)}006558 00006400`] as const,
    ),
    ['the O bit', 'rx_control', '00806558 00006400'],
    ['both bits', 'rx_control', '00c06558 00006400'],
    ['the C bit', 'rx_critical_option', headerWith('0102 0300', '40')],
    ['the C bit without an option', 'rx_critical_option', '00406558 00006400'],
    ['a critical option without the C bit', 'rx_critical_option', headerWith('0102 8000')],
    ['a critical option behind others', 'rx_critical_option', headerWith('0102 0301 00000000 0102 ff00')],
    ['IPv4 without Ethernet', 'rx_protocol', '00000800 00006400'],
    ['no protocol', 'rx_protocol', '00000000 00006400'],
    ['an option that is longer than its room', 'rx_bad_option', headerWith('0102 0302 00000000')],
    ['a second one that is', 'rx_bad_option', headerWith('0102 0300 0102 031f')],
    ['seven bytes', 'rx_truncated', '00006558 000064'],
    ['another VNI', 'rx_unknown_vni', '00006558 00006500'],
  ];
  for (const [what, reason, header] of refused) {
    const { net, port, inject } = facing();
    inject(reason === 'rx_truncated' ? new Uint8Array(0) : frame(MAC.a, MAC.b), header);
    t.strictSame([port.take(), net.drops], [[], { [reason]: 1 }], what);
  }
  // Options that reach past the datagram.
  for (let bytes = 8; bytes < 8 + 63 * 4; bytes++) {
    const { net, port, inject } = facing();
    const whole = fromHex(headerWith('0102 0300'.repeat(63)));
    inject(new Uint8Array(0), Buffer.from(whole.subarray(0, bytes)).toString('hex'));
    t.strictSame([port.take(), net.drops], [[], { rx_truncated: 1 }], `${bytes} bytes of 260`);
  }
  const { net, port, inject } = facing();
  inject(frame(MAC.a, MAC.b).subarray(0, 13), headerWith('0102 0300'));
  t.strictSame([port.take(), net.drops], [[], { rx_runt: 1 }], 'a frame cut off behind options');
  t.end();
});

await t.test('the same VNI and the same MACs, VXLAN and Geneve side by side', (t) => {
  const lab = new Lab();
  const tunnels = (['vxlan', 'geneve'] as const).map((encapsulation, index) => {
    const [a, b] = [1, 2].map((host) => lab.vtep(`192.0.2.${10 * (index + 1) + host}`, { encapsulation }));
    const net = a.overlay({ destination: b.endpoint });
    return {
      from: net.port(MAC.a, { own: true }),
      to: b.overlay({ destination: a.endpoint }).port(MAC.b, { own: true }),
      a,
      net,
    };
  });
  tunnels.forEach(({ from, to }, index) => {
    from.send(frame(MAC.b, MAC.a, 100 + index));
    t.strictSame(
      tunnels.map((each) => each.to.take()),
      tunnels.map((each) => (each.to === to ? [frame(MAC.b, MAC.a, 100 + index)] : [])),
    );
  });
  // A datagram of the one is none of the other.
  const stranger = lab.peer('192.0.2.99');
  lab.inject(stranger, tunnels[0].a, GENEVE_100, frame(MAC.a, MAC.b));
  lab.inject(stranger, tunnels[1].a, VXLAN_100, frame(MAC.a, MAC.b));
  t.strictSame(
    tunnels.map(({ net }) => net.drops),
    [{ rx_no_vni: 1 }, { rx_protocol: 1 }],
  );
  t.end();
});

await t.test('a router quotes a Geneve header: the path is known to be narrower', (t) => {
  const { lab, vtep, peer, net, port } = facing({ mtuBytes: 8900 });
  vtep.engine.setTime(0);
  port.send(packet({ to: MAC.b, payloadBytes: 100 }));
  peer.take();
  const inner = packet({ to: MAC.b, payloadBytes: 8000 });
  const told = (header: string, mtuBytes = 1400): void => {
    vtep.senders[0].icmp.push({
      to: endpoint('192.0.2.2'),
      mtuBytes,
      quoted: concat(fromHex(header), inner),
    });
    lab.run();
  };
  told(VXLAN_100);
  told('01006558 00006400');
  t.equal(net.counters.path_mtu_learned, 0, 'not what this host has sent');
  told(GENEVE_100);
  t.equal(net.counters.path_mtu_learned, 1);
  const sent = (bytes: number): number => {
    port.send(packet({ to: MAC.b, payloadBytes: bytes - 28 }));
    return peer.take().length;
  };
  t.strictSame([sent(1400 - 50), sent(1400 - 49)], [1, 0], 'what fits passes, and no more');
  t.end();
});
