// The packet formats of src/wire, against bytes written out from the RFCs (test/vectors/frames.ts): what every codec has to do, and
// addresses. wire-protocols.test.ts and wire-captures.test.ts have the rest.

import t, { type Test } from 'tap';
import * as arp from '../../src/wire/arp.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as loopback from '../../src/wire/loopback.js';
import * as mac from '../../src/wire/mac.js';
import * as ndp from '../../src/wire/ndp.js';
import * as reason from '../../src/wire/reason.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtioNet from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { fromHex } from '../vectors/frames.js';
import { type Codec, MAC_A, MAC_B, from, address, addressV4, patched } from '../helpers/wire.js';

// -- Every codec the same four ways

interface Expected<Repr> {
  readonly codec: Codec<Repr>;
  /** Header and whatever follows it. */
  readonly bytes: Uint8Array;
  readonly repr: Repr;
  /** What `check` answers. */
  readonly checked: number;
  /** Where the checksum is that only `fillChecksum` writes. */
  readonly checksumAt?: number;
  /** Bytes without which `check` must refuse: more than the header where it has a length field. */
  readonly needed?: number;
}

function testCodec<Repr>(t: Test, name: string, expected: Expected<Repr>): void {
  const { codec, bytes, repr, checked, checksumAt, needed = checked } = expected;
  t.equal(codec.check(bytes, 0, bytes.length), checked, `${name}: check`);
  t.strictSame(codec.parse(bytes, 0, bytes.length), repr, `${name}: deconstruct`);

  const length = codec.byteLength(repr);
  const header = bytes.slice(0, length);
  if (checksumAt !== undefined) header.set([0, 0], checksumAt);
  const fresh = new Uint8Array(length).fill(0xa5);
  t.equal(codec.write(repr, fresh, 0), length, `${name}: write returns byteLength`);
  t.strictSame(fresh, header, `${name}: construct, every byte set`);

  const large = new Uint8Array(bytes.length + 30).fill(0xa5);
  const expectedLarge = Uint8Array.from(large);
  large.set(bytes.subarray(length), 10 + length);
  expectedLarge.set([...header, ...bytes.subarray(length)], 10);
  codec.write(repr, large, 10);
  t.strictSame(large, expectedLarge, `${name}: nothing written before or after`);
  t.strictSame(codec.parse(large, 10, bytes.length), repr, `${name}: round trip at offset 10`);

  const accepted = Array.from({ length: needed }, (_, short) => short).filter(
    (short) => codec.check(large, 10, short) > 0 || codec.parse(large, 10, short) !== undefined,
  );
  t.strictSame(accepted, [], `${name}: every length below ${needed} is refused`);
}

await t.test('every codec deconstructs, constructs, round-trips and refuses every truncation', (t) => {
  testCodec(t, 'ethernet', {
    codec: ethernet,
    bytes: from('udpV4', 0),
    repr: { destination: MAC_B, source: MAC_A, etherType: ethernet.IPV4 },
    checked: 14,
  });
  testCodec(t, 'vlan', {
    codec: vlan,
    bytes: from('qinq', 2),
    repr: { priority: 0, dropEligible: true, vlanId: 7, etherType: ethernet.ARP },
    checked: 4,
  });
  testCodec(t, 'arp', {
    codec: arp,
    bytes: from('arpReply', 1),
    repr: {
      operation: arp.REPLY,
      senderMac: MAC_B,
      senderIp: addressV4('10.0.0.2'),
      targetMac: MAC_A,
      targetIp: addressV4('10.0.0.1'),
    },
    checked: 28,
  });
  testCodec(t, 'loopback', {
    codec: loopback,
    bytes: from('loopbackMessage', 1),
    repr: { level: 7, opcode: loopback.MESSAGE, transaction: 0x0001_0002, dataBytes: 34 },
    checked: 8,
  });
  testCodec(t, 'ipv4', {
    codec: ipv4,
    bytes: from('tcpSyn', 1),
    repr: {
      source: addressV4('10.0.0.1'),
      destination: addressV4('10.0.0.2'),
      protocol: ipv4.TCP,
      ttl: 64,
      trafficClass: 0x2a,
      identification: 0x1234,
      dontFragment: true,
      payloadLength: 40,
    },
    checked: 20,
    needed: 60,
  });
  testCodec(t, 'ipv6', {
    codec: ipv6,
    bytes: from('udpV6', 1),
    repr: {
      source: address('2001:db8::1'),
      destination: address('2001:db8::2'),
      nextHeader: ipv4.UDP,
      hopLimit: 64,
      trafficClass: 0xb3,
      flowLabel: 0xabcde,
      payloadLength: 13,
    },
    checked: 40,
    needed: 53,
  });
  testCodec(t, 'udp', {
    codec: udp,
    bytes: from('udpV6', 2),
    repr: { sourcePort: 40000, destinationPort: 53, payloadLength: 5 },
    checked: 8,
    checksumAt: 6,
    needed: 13,
  });
  testCodec(t, 'tcp', {
    codec: tcp,
    bytes: from('tcpBehindOptionsV6', 4),
    repr: {
      sourcePort: 51000,
      destinationPort: 443,
      sequence: 1,
      acknowledgment: 2,
      flags: tcp.PSH | tcp.ACK,
      window: 500,
    },
    checked: 20,
    checksumAt: 16,
  });
  testCodec(t, 'icmp', {
    codec: icmp,
    bytes: from('pingV4', 2),
    repr: { type: icmp.ECHO_REQUEST, code: 0, word: 0x0007_0001 },
    checked: 8,
    checksumAt: 2,
  });
  testCodec(t, 'icmpv6', {
    codec: icmpv6,
    bytes: from('neighborSolicitation', 2),
    repr: { type: icmpv6.NEIGHBOR_SOLICITATION, code: 0, word: 0 },
    checked: 8,
    checksumAt: 2,
  });
  testCodec<ndp.Repr>(t, 'ndp solicitation', {
    codec: ndp,
    bytes: from('neighborSolicitation', 2),
    repr: { kind: 'neighborSolicitation', target: address('fe80::b'), sourceMac: MAC_A },
    checked: 24,
    checksumAt: 2,
  });
  testCodec<ndp.Repr>(t, 'ndp advertisement', {
    codec: ndp,
    bytes: from('neighborAdvertisement', 2),
    repr: {
      kind: 'neighborAdvertisement',
      target: address('fe80::a'),
      router: false,
      solicited: true,
      override: true,
      targetMac: MAC_A,
    },
    checked: 24,
    checksumAt: 2,
  });
  testCodec<ndp.Repr>(t, 'ndp router solicitation', {
    codec: ndp,
    bytes: from('routerSolicitation', 2),
    repr: { kind: 'routerSolicitation', sourceMac: MAC_A },
    checked: 8,
    checksumAt: 2,
  });
  testCodec<ndp.Repr>(t, 'ndp router advertisement', {
    codec: ndp,
    bytes: from('routerAdvertisement', 2),
    repr: {
      kind: 'routerAdvertisement',
      hopLimit: 64,
      managed: true,
      other: true,
      lifetimeS: 1800,
      reachableMs: 30000,
      retransmitMs: 1000,
      sourceMac: MAC_A,
    },
    checked: 16,
    checksumAt: 2,
  });
  testCodec(t, 'dhcpv4', {
    codec: dhcpv4,
    bytes: from('dhcpDiscover', 3),
    repr: {
      operation: dhcpv4.REQUEST,
      hops: 0,
      transactionId: 0x3903f326,
      secs: 5,
      wantsBroadcast: true,
      ciaddr: ip.ANY_V4,
      yiaddr: ip.ANY_V4,
      siaddr: ip.ANY_V4,
      giaddr: ip.ANY_V4,
      clientMac: MAC_A,
      options: new Map([
        [dhcpv4.MESSAGE_TYPE, Uint8Array.of(1)],
        [61, Uint8Array.of(1, 2, 0, 0, 0, 0, 0x0a)],
        [12, Uint8Array.of(0x76, 0x6d, 0x31)],
        [55, Uint8Array.of(1, 3, 6, 28)],
      ]),
    },
    checked: 236,
  });
  testCodec(t, 'vxlan', {
    codec: vxlan,
    bytes: from('vxlanV4', 3),
    repr: { vni: 0x123456 },
    checked: 8,
  });
  testCodec(t, 'virtio-net', {
    codec: virtioNet,
    bytes: Uint8Array.from([...fromHex('01 01 3600 a805 2200 1000'), ...new Uint8Array(1500)]),
    repr: {
      flags: virtioNet.NEEDS_CHECKSUM,
      gsoType: virtioNet.GSO_TCPV4,
      headerLength: 54,
      gsoSize: 1448,
      checksumStart: 34,
      checksumOffset: 16,
    },
    checked: 10,
    needed: 64,
  });
  t.end();
});

await t.test('a refusal has its reason', (t) => {
  const refusals: [string, Codec<never>['check'], Uint8Array, Record<number, number>, number][] = [
    ['ipv4 version', ipv4.check, from('udpV4', 1), { 0: 0x65 }, reason.BAD_VERSION],
    ['ipv4 IHL 4', ipv4.check, from('udpV4', 1), { 0: 0x44 }, reason.BAD_HEADER_LENGTH],
    ['ipv4 IHL past total length', ipv4.check, from('udpV4', 1), { 0: 0x4f }, reason.BAD_HEADER_LENGTH],
    ['ipv4 total length below header', ipv4.check, from('udpV4', 1), { 3: 19 }, reason.BAD_HEADER_LENGTH],
    ['ipv4 total length past frame', ipv4.check, from('udpV4', 1), { 3: 47 }, reason.BAD_LENGTH],
    ['ipv6 version', ipv6.check, from('udpV6', 1), { 0: 0x4b }, reason.BAD_VERSION],
    ['ipv6 payload past frame', ipv6.check, from('udpV6', 1), { 5: 14 }, reason.BAD_LENGTH],
    ['udp length 7', udp.check, from('udpV4', 2), { 5: 7 }, reason.BAD_LENGTH],
    ['udp length past packet', udp.check, from('udpV6', 2), { 5: 14 }, reason.BAD_LENGTH],
    ['tcp offset 4', tcp.check, from('tcpSyn', 2), { 12: 0x40 }, reason.BAD_HEADER_LENGTH],
    ['tcp offset past segment', tcp.check, from('tcpSyn', 2), { 12: 0xf0 }, reason.BAD_HEADER_LENGTH],
    ['arp for another hardware', arp.check, from('arpRequest', 1), { 1: 6 }, reason.BAD_VALUE],
    ['arp for another protocol', arp.check, from('arpRequest', 1), { 2: 0x86 }, reason.BAD_VALUE],
    ['arp with long hardware address', arp.check, from('arpRequest', 1), { 4: 255 }, reason.BAD_VALUE],
    ['arp with long protocol address', arp.check, from('arpRequest', 1), { 5: 255 }, reason.BAD_VALUE],
    ['ndp code 1', ndp.check, from('neighborSolicitation', 2), { 1: 1 }, reason.BAD_VALUE],
    ['ndp of other type', ndp.check, from('neighborSolicitation', 2), { 0: 137 }, reason.BAD_VALUE],
    ['ndp multicast target', ndp.check, from('neighborSolicitation', 2), { 8: 0xff }, reason.BAD_VALUE],
    ['ndp option length 0', ndp.check, from('neighborSolicitation', 2), { 25: 0 }, reason.BAD_OPTION],
    ['ndp option past end', ndp.check, from('neighborSolicitation', 2), { 25: 2 }, reason.BAD_OPTION],
    ['ndp option length 255', ndp.check, from('neighborAdvertisement', 2), { 25: 255 }, reason.BAD_OPTION],
    ['dhcp op 3', dhcpv4.check, from('dhcpDiscover', 3), { 0: 3 }, reason.BAD_VALUE],
    ['dhcp hardware type', dhcpv4.check, from('dhcpDiscover', 3), { 1: 6 }, reason.BAD_VALUE],
    ['dhcp address length', dhcpv4.check, from('dhcpDiscover', 3), { 2: 16 }, reason.BAD_VALUE],
    ['vxlan without I', vxlan.check, from('vxlanV4', 3), { 0: 0xf7 }, reason.NO_VNI],
  ];
  for (const [name, check, bytes, changes, expected] of refusals) {
    t.equal(check(patched(bytes, changes), 0, bytes.length), expected, name);
  }
  t.equal(reason.reasonName(reason.NO_VNI), 'no VNI');
  t.equal(reason.reasonName(-99), 'malformed');
  t.end();
});

// -- Addresses

await t.test('mac', (t) => {
  t.equal(mac.parseMac('00:11:22:33:44:55'), 0x0011_2233_4455);
  t.equal(mac.parseMac('0:1:2:a:B:ff'), 0x0001_020a_0bff, 'as ether_ntoa spells it');
  t.equal(mac.formatMac(0x0001_020a_0bff), '00:01:02:0a:0b:ff');
  const refused = ['', '00:11:22:33:44', '00:11:22:33:44:55:66', '00-11-22-33-44-55', '001122334455'];
  refused.push('00:11:22:33:44:55 ', ' 00:11:22:33:44:55', '00:11:22:33:44:55\n', '00:11:22:33:44:5g');
  refused.push('000:11:22:33:44:55', '0x0:11:22:33:44:55', '00:11:22:33:44:', '٠0:11:22:33:44:55');
  for (const text of refused) t.equal(mac.parseMac(text), undefined, JSON.stringify(text));

  const bytes = fromHex('a5 fffffffffffe a5');
  t.equal(mac.readMac(bytes, 1), 0xffff_ffff_fffe);
  t.equal(mac.macHigh(bytes, 1), 0xffff);
  t.equal(mac.macLow(bytes, 1), -2);
  mac.writeMac(bytes, 1, 0x8000_8000_0001);
  t.strictSame(bytes, fromHex('a5 800080000001 a5'));

  t.ok(mac.isMulticast(mac.BROADCAST));
  t.ok(mac.isMulticast(0x0100_5e00_0001));
  t.notOk(mac.isMulticast(0xfeff_ffff_ffff));
  t.ok(mac.isBroadcast(mac.BROADCAST));
  t.notOk(mac.isBroadcast(0xffff_ffff_fffe));
  t.equal(mac.formatMac(mac.randomLocalMac(() => 0)), '02:00:00:00:00:00');
  t.equal(mac.formatMac(mac.randomLocalMac(() => 1 - Number.EPSILON)), 'fe:ff:ff:ff:ff:ff');
  t.end();
});

await t.test('ip text is read strictly and written canonically', (t) => {
  const canonical = {
    '0.0.0.0': '0.0.0.0',
    '255.255.255.255': '255.255.255.255',
    '::': '::',
    '::1': '::1',
    '2001:DB8:0:0:0:0:0:1': '2001:db8::1',
    '2001:0db8::0001': '2001:db8::1',
    '2001:db8::1:1:1:1:1': '2001:db8:0:1:1:1:1:1', // RFC 5952 4.2.2: not for one group
    '2001:0:0:1:0:0:0:1': '2001:0:0:1::1', // RFC 5952 4.2.3: the longest
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1', // RFC 5952 4.2.3: the first
    '1:2:3:4:5:6:0:0': '1:2:3:4:5:6::',
    '1:2:3:4:5:6:7::': '1:2:3:4:5:6:7:0',
    '::2:3:4:5:6:7:8': '0:2:3:4:5:6:7:8',
    '::ffff:10.0.0.1': '10.0.0.1',
    '::FFFF:A00:1': '10.0.0.1',
    '0:0:0:0:0:ffff:10.0.0.1': '10.0.0.1',
    '::10.0.0.1': '::a00:1',
    '64:ff9b::192.0.2.33': '64:ff9b::c000:221',
    '::ffff:0:10.0.0.1': '::ffff:0:a00:1',
  };
  for (const [text, expected] of Object.entries(canonical)) t.equal(ip.parse(text), expected, text);

  const refused = [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '010.0.0.1',
    '0x7f.1',
    '0x7f.0.0.1',
    '1.2.3.04',
    '1',
    '16909060',
  ];
  refused.push(
    '1.2.3.256',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.4\n',
    '1.2.3.-4',
    '1.2.3.4e0',
    '1..3.4',
    '.1.2.3.4',
  );
  refused.push('::1%eth0', 'fe80::1%1', '1::2::3', ':::', ':1', '1:', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9');
  refused.push('1:2:3:4:5:6:7:8::', '::12345', '::g', '[::1]', '::1/64', '::ffff:010.0.0.1', '::0x7f.0.0.1');
  refused.push(
    '::1.2.3',
    '::1.2.3.4.5',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::ffff:1.2.3.256',
  );
  refused.push('1:2:3:4:5:6:7:', ':2:3:4:5:6:7:8', '::1 ', '١.2.3.4');
  for (const text of refused) t.equal(ip.parse(text), undefined, JSON.stringify(text));
  t.end();
});

await t.test('ip bytes, kinds and endpoints', (t) => {
  const bytes = new Uint8Array(18).fill(0xa5);
  ip.writeV6(address('10.0.0.1'), bytes, 1);
  t.strictSame(bytes, fromHex('a5 00000000000000000000ffff0a000001 a5'), 'v4-mapped');
  t.equal(ip.readV6(bytes, 1), '10.0.0.1');
  ip.writeV6(address('2001:db8::a'), bytes, 1);
  t.strictSame(bytes, fromHex('a5 20010db800000000000000000000000a a5'));
  ip.writeV4(addressV4('192.0.2.7'), bytes, 1);
  t.equal(ip.readV4(bytes, 1), '192.0.2.7');
  t.equal(ip.family(address('::1')), 6);
  t.equal(ip.family(address('::ffff:1.2.3.4')), 4);

  const kinds: [string, (address: ip.IpAddress) => boolean, string[], string[]][] = [
    ['unspecified', ip.isUnspecified, ['0.0.0.0', '::'], ['0.0.0.1', '::1']],
    ['loopback', ip.isLoopback, ['127.0.0.1', '127.255.0.1', '::1'], ['128.0.0.1', '12.7.0.0', '::2']],
    [
      'multicast',
      ip.isMulticast,
      ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff00::'],
      ['223.0.0.1', '240.0.0.1', 'ff::1', 'ff:1:2:3:4:5:6:7', 'fe80::ff'],
    ],
    ['broadcast', ip.isBroadcast, ['255.255.255.255'], ['255.255.255.254']],
    [
      'link-local',
      ip.isLinkLocal,
      ['169.254.0.1', 'fe80::1', 'febf::1'],
      ['169.25.4.1', 'fec0::1', 'fe8::1', 'fe::1'],
    ],
    [
      'v4-compatible',
      ip.isV4Compatible,
      ['::1.2.3.4', '::0.0.0.2', '::1:0'],
      ['::', '::1', '1.2.3.4', '::1:2:3', '1::2'],
    ],
    ['6to4', ip.is6to4, ['2002::1', '2002:c000:204::1'], ['2001::1', '20.2.2.2', '202::1']],
  ];
  for (const [name, predicate, members, others] of kinds) {
    for (const text of members) t.ok(predicate(address(text)), `${text} is ${name}`);
    for (const text of others) t.notOk(predicate(address(text)), `${text} is not ${name}`);
  }

  t.strictSame(ip.parseEndpoint('10.0.0.1:4789'), { ip: '10.0.0.1', port: 4789 });
  t.strictSame(ip.parseEndpoint('[2001:DB8::1]:65535'), { ip: '2001:db8::1', port: 65535 });
  t.strictSame(ip.parseEndpoint('[::ffff:10.0.0.1]:1'), { ip: '10.0.0.1', port: 1 });
  t.equal(ip.formatEndpoint({ ip: address('10.0.0.1'), port: 4789 }), '10.0.0.1:4789');
  t.equal(ip.formatEndpoint({ ip: address('2001:db8::1'), port: 1 }), '[2001:db8::1]:1');
  const refused = ['', '10.0.0.1', '10.0.0.1:', ':4789', '10.0.0.1:0', '10.0.0.1:65536', '10.0.0.1:04789'];
  refused.push(
    '10.0.0.1:1e3',
    '10.0.0.1:4789.5',
    '10.0.0.1: 4789',
    '10.0.0.1:4789 ',
    '10.0.0.1:+1',
    '::1:4789',
  );
  refused.push('[10.0.0.1]:4789', '[::1]4789', '[::1', '[::1]', '[::1%eth0]:4789', 'host:4789', '[]:1');
  refused.push('010.0.0.1:4789', '10.0.0.1:4789\n', '[[::1]]:1');
  for (const text of refused) t.equal(ip.parseEndpoint(text), undefined, JSON.stringify(text));
  t.end();
});
