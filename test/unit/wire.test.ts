// The packet formats of src/wire, against bytes written out from the RFCs (test/vectors/frames.ts).

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { overheadBytes } from '../../src/encap/index.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as arp from '../../src/wire/arp.js';
import * as checksum from '../../src/wire/checksum.js';
import { describe } from '../../src/wire/describe.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as mac from '../../src/wire/mac.js';
import * as ndp from '../../src/wire/ndp.js';
import * as pcapng from '../../src/wire/pcapng.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import * as reason from '../../src/wire/reason.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtioNet from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { frame, fromHex, vectors, type Name } from '../vectors/frames.js';

const names = Object.keys(vectors) as Name[];
const MAC_A = 0x0200_0000_000a;
const MAC_B = 0x0200_0000_000b;

/** A frame from its `layer`th layer to the end. */
function from(name: Name, layer: number): Uint8Array {
  return fromHex(vectors[name].hex.slice(layer).join(''));
}

function address(text: string): ip.IpAddress {
  const parsed = ip.parse(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

function addressV4(text: string): ip.Ipv4Address {
  return address(text) as ip.Ipv4Address;
}

/** A copy with some bytes changed. */
function patched(bytes: Uint8Array, changes: Readonly<Record<number, number>>): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value;
  return copy;
}

// -- Every codec the same four ways

interface Codec<Repr> {
  check(bytes: Uint8Array, offset: number, length: number): number;
  parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined;
  byteLength(repr: Repr): number;
  write(repr: Repr, bytes: Uint8Array, offset: number): number;
}

function parsed<Repr>(codec: Codec<Repr>, bytes: Uint8Array): Repr {
  const repr = codec.parse(bytes, 0, bytes.length);
  if (repr === undefined) throw new Error('a good vector is refused');
  return repr;
}

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

// -- Checksums

await t.test('checksums', (t) => {
  const rfc1071 = fromHex('0001 f203 f4f5 f6f7'); // RFC 1071 3
  t.equal(checksum.sum(rfc1071, 0, 8, 0), 0xddf2);
  t.equal(checksum.finish(0xddf2), 0x220d);
  t.equal(checksum.sum(rfc1071, 4, 4, checksum.sum(rfc1071, 0, 4, 0)), 0xddf2, 'in pieces');
  t.equal(checksum.sum(rfc1071, 0, 7, 0), 0xdcfb, 'an odd end is a high byte');
  t.equal(checksum.sum(new Uint8Array(0x10001).fill(0xff), 0, 0x10001, 0xffff), 0xff00, 'long, no overflow');
  t.equal(checksum.update(0xdd2f, 0x5555, 0x3285), 0x0000, 'RFC 1624 4');

  for (const name of names) {
    const bytes = frame(name);
    if (vectors[name].line.includes('IPv4')) t.ok(ipv4.verifyChecksum(bytes, 14), `${name}: IPv4`);
  }
  const transports: [Name, number, number][] = [
    ['udpV4', 14, 34],
    ['udpV6', 14, 54],
    ['vxlanV6', 14, 54],
    ['dhcpDiscover', 14, 34],
  ];
  for (const [name, ipAt, at] of transports) {
    const bytes = frame(name);
    const original = udp.checksum(bytes, at);
    t.ok(udp.verifyChecksum(bytes, ipAt, at), name);
    bytes[at + 6] ^= 1;
    t.notOk(udp.verifyChecksum(bytes, ipAt, at), `${name}, wrong`);
    udp.fillChecksum(bytes, ipAt, at);
    t.equal(udp.checksum(bytes, at), original, `${name}, filled`);
  }
  t.ok(udp.verifyChecksum(frame('vxlanV4'), 14, 34), 'none is not wrong');

  const minusZero = frame('udpV4');
  minusZero.set([0, 0], 42);
  udp.fillChecksum(minusZero, 14, 34);
  minusZero.set([udp.checksum(minusZero, 34) >> 8, udp.checksum(minusZero, 34) & 0xff], 42);
  udp.fillChecksum(minusZero, 14, 34);
  t.equal(udp.checksum(minusZero, 34), 0xffff, 'RFC 768: zero is sent as all ones');

  for (const [name, ipAt, at] of [['tcpSyn', 14, 34] as const, ['tcpBehindOptionsV6', 14, 78] as const]) {
    const bytes = frame(name);
    const original = tcp.checksum(bytes, at);
    t.ok(tcp.verifyChecksum(bytes, ipAt, at, bytes.length - at), name);
    tcp.fillChecksum(bytes, ipAt, at, bytes.length - at);
    t.equal(tcp.checksum(bytes, at), original);
    t.notOk(tcp.verifyChecksum(bytes, ipAt, at, bytes.length - at - 1), 'the length is in it');
  }
  const ping = from('pingV4', 2);
  t.ok(icmp.verifyChecksum(ping, 0, ping.length));
  const solicitation = frame('neighborSolicitation');
  t.ok(icmpv6.verifyChecksum(solicitation, 14, 54, 32));
  solicitation.fill(0, 56, 58);
  t.notOk(icmpv6.verifyChecksum(solicitation, 14, 54, 32));
  icmpv6.fillChecksum(solicitation, 14, 54, 32);
  t.strictSame(solicitation, frame('neighborSolicitation'));
  t.end();
});

// -- One protocol at a time, what the common tests do not reach

await t.test('ethernet and vlan', (t) => {
  const bytes = frame('arpRequest');
  t.ok(ethernet.isGroup(bytes, 0));
  t.equal(ethernet.destinationHigh(bytes, 0), 0xffff);
  t.equal(ethernet.destinationLow(bytes, 0), -1);
  t.equal(ethernet.sourceHigh(bytes, 0), 0x0200);
  t.equal(ethernet.sourceLow(bytes, 0), 0x0a);
  t.equal(vlan.headerLength(bytes, 0, bytes.length), 14);
  t.notOk(vlan.isTagged(bytes, 0));

  const tagged = frame('qinq');
  t.ok(vlan.isTagged(tagged, 0));
  t.equal(vlan.headerLength(tagged, 0, tagged.length), 22);
  t.equal(vlan.priority(tagged, 14), 5);
  t.notOk(vlan.isDropEligible(tagged, 14));
  for (let length = 0; length < 22; length++) {
    t.equal(vlan.headerLength(tagged, 0, length), reason.TRUNCATED, `a tag cut off at ${length}`);
  }
  const stack = new Uint8Array(14 + 9 * 4).fill(0);
  for (let at = 12; at < stack.length; at += 4) stack.set([0x81, 0x00], at);
  t.equal(vlan.headerLength(stack, 0, stack.length), reason.TOO_DEEP, 'nine tags');
  stack.set([0x08, 0x00], 12 + 4 * vlan.MAX_TAGS);
  t.equal(vlan.headerLength(stack, 0, stack.length), 14 + 4 * vlan.MAX_TAGS, 'as many as may be');
  t.end();
});

await t.test('arp probes and announcements', (t) => {
  const request = parsed(arp, from('arpRequest', 1));
  const probe = { ...request, senderIp: ip.ANY_V4 };
  const announcement = { ...request, senderIp: request.targetIp };
  t.strictSame([arp.isProbe(request), arp.isAnnouncement(request)], [false, false]);
  t.strictSame([arp.isProbe(probe), arp.isAnnouncement(probe)], [true, false]);
  t.strictSame([arp.isProbe(announcement), arp.isAnnouncement(announcement)], [false, true]);
  t.end();
});

await t.test('ipv4', (t) => {
  const ping = from('pingV4', 1);
  t.equal(ipv4.check(ping, 0, ping.length), 24, 'with options');
  t.equal(ipv4.payloadLength(ping, 0), 16);
  t.equal(ipv4.parse(ping, 0, ping.length), undefined, 'a Repr has no options');
  const padded = from('udpV4', 1);
  t.equal(ipv4.totalLength(padded, 0), padded.length - 13, 'padding is not ours');
  t.equal(ipv4.parse(patched(padded, { 8: 63 }), 0, padded.length), undefined, 'wrong checksum');

  const fragment = from('laterFragmentV4', 1);
  t.ok(ipv4.isFragment(fragment, 0));
  t.ok(ipv4.moreFragments(fragment, 0));
  t.notOk(ipv4.dontFragment(fragment, 0));
  t.equal(ipv4.fragmentOffset(fragment, 0), 1480);
  t.notOk(ipv4.isFragment(padded, 0), "don't-fragment is no fragment");

  for (const ecn of [ipv4.NOT_ECT, ipv4.ECT_1, ipv4.ECT_0, ipv4.CE]) {
    const bytes = from('tcpSyn', 1);
    ipv4.setEcn(bytes, 0, ecn);
    t.equal(ipv4.ecn(bytes, 0), ecn);
    t.equal(ipv4.trafficClass(bytes, 0) >> 2, 0x2a >> 2, 'DSCP stays');
    t.ok(ipv4.verifyChecksum(bytes, 0), `checksum with ECN ${ecn}`);
  }
  t.end();
});

await t.test('ipv6', (t) => {
  const bytes = from('udpV6', 1);
  for (const ecn of [0, 1, 2, 3]) {
    ipv6.setEcn(bytes, 0, ecn);
    t.equal(ipv6.ecn(bytes, 0), ecn);
    t.equal(ipv6.trafficClass(bytes, 0), 0xb0 | ecn);
    t.equal(ipv6.flowLabel(bytes, 0), 0xabcde, 'flow label stays');
  }

  const transportOf = (packet: Uint8Array) => {
    const found = ipv6.transport(packet, 0);
    return found < 0
      ? found
      : [
          ipv6.transportProtocol(found),
          ipv6.transportOffset(found),
          ipv6.isFragment(found),
          ipv6.isLaterFragment(found),
        ];
  };
  t.strictSame(transportOf(bytes), [ipv4.UDP, 40, false, false]);
  t.strictSame(transportOf(from('tcpBehindOptionsV6', 1)), [ipv4.TCP, 64, false, false]);
  t.strictSame(transportOf(from('firstFragmentV6', 1)), [ipv4.UDP, 48, true, false]);
  t.strictSame(transportOf(from('laterFragmentV6', 1)), [60, 48, true, true]);

  /** Next headers and their bytes behind a fixed header. */
  const chain = (first: number, ...extensions: string[]) => {
    const body = fromHex(extensions.join(''));
    const repr = { source: ip.ANY_V6, destination: ip.ANY_V6, hopLimit: 1, trafficClass: 0, flowLabel: 0 };
    const packet = new Uint8Array(40 + body.length);
    ipv6.write({ ...repr, nextHeader: first, payloadLength: body.length }, packet, 0);
    packet.set(body, 40);
    return packet;
  };
  const atomic = chain(44, '3a00000000000001', '8700');
  t.strictSame(transportOf(atomic), [58, 48, true, false], 'an atomic fragment is one (RFC 6946)');
  const authenticated = chain(51, '1104 0000 00000001 00000002 0000000000000000 00000000', '00');
  t.strictSame(transportOf(authenticated), [17, 64, false, false], 'AH counts in words');
  t.strictSame(transportOf(chain(59)), [59, 40, false, false], 'no next header');
  t.equal(transportOf(chain(0, '3a000000000000')), reason.TRUNCATED, '7 of 8 bytes');
  t.equal(transportOf(chain(0, '3a01000000000000')), reason.BAD_HEADER_LENGTH, 'past the packet');
  t.equal(transportOf(chain(60, '3aff000000000000')), reason.BAD_HEADER_LENGTH);
  const eight = Array.from({ length: ipv6.MAX_EXTENSION_HEADERS - 1 }, () => '3c00000000000000');
  t.strictSame(transportOf(chain(60, ...eight, '3b00000000000000')), [59, 104, false, false]);
  t.equal(transportOf(chain(60, ...eight, '3c00000000000000', '3b00000000000000')), reason.TOO_DEEP);
  t.end();
});

await t.test('ndp', (t) => {
  const bytes = from('neighborSolicitation', 2);
  const twice = Uint8Array.from([...bytes, ...bytes.slice(24)]);
  t.equal(ndp.check(twice, 0, twice.length), reason.BAD_OPTION, 'two source addresses');
  const nonce = Uint8Array.from([...bytes, ...fromHex('0e01 010203040506')]);
  t.equal(ndp.check(nonce, 0, nonce.length), 24, 'other options are stepped over');
  t.match(ndp.parse(bytes, 0, 24), { kind: 'neighborSolicitation', sourceMac: undefined });
  t.equal(ndp.check(bytes, 0, 25), reason.BAD_OPTION, 'one byte of an option');

  t.equal(ndp.solicitedNode(address('2001:db8::1:2:3456')), 'ff02::1:ff02:3456');
  t.ok(ndp.isSolicitedNode(address('ff02::1:ff02:3456')));
  t.ok(ndp.isSolicitedNode(address('ff02::1:ff00:0')));
  t.notOk(ndp.isSolicitedNode(ip.ALL_NODES));
  t.notOk(ndp.isSolicitedNode(address('ff02::1:fe00:1')));
  t.equal(mac.formatMac(ndp.multicastMac(address('ff02::1:ff02:3456'))), '33:33:ff:02:34:56');
  t.end();
});

await t.test('dhcp options', (t) => {
  const bytes = from('dhcpDiscover', 3);
  const plain = parsed(dhcpv4, bytes);
  t.equal(dhcpv4.messageType(plain), 1);
  t.equal(dhcpv4.clientMac(bytes, 0), MAC_A);
  t.equal(dhcpv4.parse(patched(bytes, { 236: 0 }), 0, bytes.length), undefined, 'no cookie');
  t.equal(dhcpv4.parse(patched(bytes, { 241: 255 }), 0, bytes.length), undefined, 'an option past the end');
  t.equal(dhcpv4.parse(bytes, 0, 262), undefined, 'no end');
  t.equal(dhcpv4.check(bytes, 0, 236), 236, 'check asks for the fixed part only');

  const overloaded = Uint8Array.from(bytes);
  overloaded.set([52, 1, 3, 43, 2, 1, 2, 255], 240);
  overloaded.set([53, 1, 5, 43, 1, 3, 255], 108);
  overloaded.set([43, 1, 4, 255], 44);
  const joined = dhcpv4.parse(overloaded, 0, overloaded.length);
  t.strictSame(
    joined?.options,
    new Map([
      [43, Uint8Array.of(1, 2, 3, 4)],
      [53, Uint8Array.of(5)],
    ]),
    'options, file, sname in this order',
  );
  overloaded.fill(0, 44, 108);
  t.equal(dhcpv4.parse(overloaded, 0, overloaded.length), undefined, 'sname without end');

  const long = {
    ...plain,
    options: new Map([
      [43, new Uint8Array(600).fill(7)],
      [80, new Uint8Array(0)],
    ]),
  };
  const written = new Uint8Array(dhcpv4.byteLength(long)).fill(0xa5);
  t.equal(dhcpv4.write(long, written, 0), 240 + 600 + 3 * 2 + 2 + 1);
  t.strictSame(dhcpv4.parse(written, 0, written.length), long, 'split at 255 and joined again');
  t.end();
});

await t.test('vxlan', (t) => {
  const overheads = ([4, 6] as const).map((underlay) => overheadBytes(VXLAN, underlay));
  t.strictSame([...overheads, vxlan.PORT, vxlan.VNI_MAX], [50, 70, 4789, 16777215]);
  for (const vni of [0, 1, 0x123456, vxlan.VNI_MAX]) {
    const bytes = new Uint8Array(10).fill(0xa5);
    vxlan.writeHeader(bytes, 1, vni);
    t.strictSame(bytes, fromHex(`a5 08000000 ${vni.toString(16).padStart(6, '0')} 00 a5`));
    t.notOk(vxlan.hasReservedBits(bytes, 1));
    t.equal(vxlan.vni(bytes, 1), vni);
  }
  let variants = 0;
  for (let bit = 0; bit < 64; bit++) {
    const isVni = bit >= 32 && bit < 56;
    if (bit === 4 || isVni) continue;
    const bytes = new Uint8Array(8);
    vxlan.writeHeader(bytes, 0, 5);
    bytes[bit >> 3] |= 0x80 >> (bit & 7);
    t.equal(vxlan.check(bytes, 0, 8), 8, `reserved bit ${bit} is ignored`);
    t.ok(vxlan.hasReservedBits(bytes, 0), 'and seen');
    variants++;
  }
  t.equal(variants, 39);
  t.end();
});

await t.test('virtio-net', (t) => {
  const bytes = new Uint8Array(110).fill(0xa5);
  virtioNet.clear(bytes, 0);
  t.strictSame(bytes.slice(0, 11), fromHex('00000000000000000000 a5'));
  t.equal(virtioNet.check(bytes, 0, 10), 10, 'an empty frame: not our business');
  t.notOk(virtioNet.needsChecksum(bytes, 0));
  const check = (...fields: Readonly<[number, number, number, number, number, number]>) => {
    virtioNet.writeHeader(bytes, 0, ...fields);
    return virtioNet.check(bytes, 0, bytes.length);
  };
  t.equal(check(1, 0, 0, 0, 34, 64), 10, 'a checksum field at the very end');
  t.equal(check(1, 0, 0, 0, 34, 65), reason.BAD_LENGTH);
  t.equal(check(1, 0, 0, 0, 0xffff, 0xffff), reason.BAD_LENGTH);
  t.equal(check(1, virtioNet.GSO_TCPV6 | virtioNet.GSO_ECN, 74, 1000, 54, 16), 10);
  t.equal(check(1, virtioNet.GSO_UDP_L4, 42, 1000, 34, 6), 10);
  t.equal(check(1, virtioNet.GSO_UDP_L4 | virtioNet.GSO_ECN, 42, 1000, 34, 6), reason.BAD_VALUE);
  t.equal(check(1, 2, 54, 1000, 34, 16), reason.BAD_VALUE, 'type 2 is nothing');
  t.equal(check(1, virtioNet.GSO_TCPV4, 54, 0, 34, 16), reason.BAD_VALUE, 'segments of no bytes');
  t.equal(check(1, virtioNet.GSO_TCPV4, 101, 1000, 34, 16), reason.BAD_LENGTH);
  t.end();
});

// -- Capture files

const sample: readonly pcapng.Repr[] = [
  { kind: 'section' },
  { kind: 'interface', linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 0, name: 'overlay0' },
  { kind: 'interface', linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 96, name: '' },
  {
    kind: 'packet',
    interfaceId: 0,
    timestampNs: 1_753_000_000_123_456_789n,
    originalBytes: 1500,
    data: frame('arpRequest'),
    direction: 'in',
    comment: 'dropped: mac-nospoof',
  },
  {
    kind: 'packet',
    interfaceId: 1,
    timestampNs: 1n,
    originalBytes: 47,
    data: frame('udpV4').slice(0, 47),
    direction: undefined,
    comment: '',
  },
];

function fileOf(blocks: readonly pcapng.Repr[]): Uint8Array {
  const bytes = new Uint8Array(blocks.reduce((total, block) => total + pcapng.byteLength(block), 0));
  bytes.fill(0xa5);
  let at = 0;
  for (const block of blocks) at += pcapng.write(block, bytes, at);
  return bytes;
}

await t.test('pcapng', (t) => {
  const bytes = fileOf(sample);
  t.strictSame(
    bytes.slice(0, 28),
    fromHex('0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000'),
    'section header block',
  );
  const capture = readCapture(bytes);
  t.ok(capture?.complete);
  t.strictSame(capture?.interfaces, sample.slice(1, 3));
  t.strictSame(capture?.packets, sample.slice(3));

  const twoSections = readCapture(Uint8Array.from([...bytes, ...bytes]));
  t.strictSame(
    twoSections?.packets.map(({ interfaceId }) => interfaceId),
    [0, 1, 2, 3],
  );

  const ends = sample.map((_, block) => fileOf(sample.slice(0, block + 1)).length);
  for (let length = 12; length < bytes.length; length++) {
    const part = readCapture(bytes.slice(0, length));
    t.equal(part?.complete, ends.includes(length), `${length} bytes`);
    t.equal(part?.packets.length, ends.slice(3).filter((end) => end <= length).length);
  }
  t.end();
});

await t.test(
  'pcapng of others: big-endian, microseconds, powers of two, simple packets, unknown blocks',
  (t) => {
    const bytes = fromHex(
      '0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c' +
        '00000001 00000014 0001 0000 00000000 00000014' +
        '00000001 00000020 0001 0000 00000000 0009 0001 8a000000 0000 0000 00000020' +
        '00000bad 00000010 deadbeef 00000010' +
        '00000006 00000024 00000000 00000000 000f4240 00000003 00000003 61626300 00000024' +
        '00000006 00000024 00000001 00000000 00000600 00000002 00000009 61620000 00000024' +
        '00000003 00000014 00000003 61626300 00000014',
    );
    const capture = readCapture(bytes);
    t.ok(capture?.complete);
    t.strictSame(
      capture?.packets.map(({ interfaceId, timestampNs, data, originalBytes }) => [
        interfaceId,
        timestampNs,
        data.length,
        originalBytes,
      ]),
      [
        [0, 1_000_000_000n, 3, 3],
        [1, 1_500_000_000n, 2, 9],
        [0, 0n, 3, 3],
      ],
    );
    const lying = patched(bytes, { [bytes.length - 20 - 36 + 20]: 0xff });
    t.match(
      readCapture(lying),
      { complete: false, packets: { length: 1 } },
      'a captured length past its block',
    );
    t.end();
  },
);

await t.test('classic pcap: both byte orders, both resolutions', (t) => {
  for (const little of [true, false]) {
    for (const [magic, unitNs] of [
      [0xa1b2c3d4, 1000n],
      [0xa1b23c4d, 1n],
    ] as const) {
      const bytes = new Uint8Array(24 + 16 + 3);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, magic, little);
      view.setUint32(16, 262144, little);
      view.setUint32(20, 1, little);
      [1_700_000_000, 999_999, 3, 60].forEach((word, at) => {
        view.setUint32(24 + 4 * at, word, little);
      });
      bytes.set([1, 2, 3], 40);
      const capture = readCapture(bytes);
      t.equal(capture?.complete, true);
      t.equal(capture?.interfaces[0].linkType, pcapng.LINK_TYPE_ETHERNET);
      t.match(capture?.packets, [
        {
          timestampNs: 1_700_000_000_000_000_000n + 999_999n * unitNs,
          originalBytes: 60,
          data: Uint8Array.of(1, 2, 3),
        },
      ]);
      t.match(readCapture(bytes.slice(0, -1)), { complete: false, packets: [] });
    }
  }
  t.equal(readCapture(new Uint8Array(100)), undefined);
  t.equal(readCapture(new Uint8Array(0)), undefined);
  t.end();
});

// -- The pretty printer

await t.test('describe says one clause a layer', (t) => {
  for (const name of names) t.equal(describe(frame(name)), vectors[name].line, name);
  t.match(describe(patched(frame('udpV4'), { 22: 9 })), /ttl 9 bad checksum \|/);
  t.match(describe(patched(frame('udpV4'), { 14: 0x42 })), / \| IPv4 bad header length \(46 bytes\)$/);
  t.match(describe(patched(frame('vxlanV4'), { 42: 0x48 })), /VXLAN 1193046 reserved bits \| Ethernet/);
  t.equal(describe(new Uint8Array(13)), 'Ethernet truncated (13 bytes)');
  t.equal(describe(new Uint8Array(0)), 'Ethernet truncated (0 bytes)');
  t.equal(describe(frame('arpRequest'), 40, 1000), 'Ethernet truncated (2 bytes)', 'cut to what there is');
  t.equal(describe(frame('arpRequest'), -5, -1), 'Ethernet truncated (0 bytes)');
  const tags = new Uint8Array(65536);
  for (let at = 12; at < tags.length; at += 4) tags.set([0x81, 0x00], at);
  t.ok(describe(tags).length < 400, 'a frame of tags is a line all the same');
  t.end();
});

await t.test('every truncation of every frame is described by what is there', (t) => {
  for (const name of names) {
    const whole = frame(name);
    let differences = 0;
    for (let length = 0; length < whole.length; length++) {
      // The same bytes in a buffer that goes on: `length` alone must decide.
      if (describe(whole, 0, length) !== describe(whole.slice(0, length))) differences++;
    }
    t.equal(differences, 0, name);
  }
  t.end();
});

// -- Captures of others

const captures = new URL('../../../../shared/testdata/pcaps/', import.meta.url);
const skip = existsSync(captures) ? false : `no captures at ${captures.pathname}`;

/** Where the frame inside a VXLAN packet begins, by the gates alone; 0 if it is none. */
function innerOffset(bytes: Uint8Array): number {
  let at = vlan.headerLength(bytes, 0, bytes.length);
  if (at < 0 || ethernet.IPV4 !== ((bytes[at - 2] << 8) | bytes[at - 1])) return 0;
  const packet = ipv4.check(bytes, at, bytes.length - at);
  if (packet < 0 || ipv4.protocol(bytes, at) !== ipv4.UDP || ipv4.isFragment(bytes, at)) return 0;
  const length = ipv4.payloadLength(bytes, at);
  at += packet;
  if (udp.check(bytes, at, length) < 0 || udp.destinationPort(bytes, at) !== vxlan.PORT) return 0;
  at += udp.HEADER_BYTES;
  const header = vxlan.check(bytes, at, length - udp.HEADER_BYTES);
  return header < 0 ? 0 : at + header;
}

await t.test('captures of other projects', { skip }, (t) => {
  const packets: Record<string, readonly pcapng.Packet[]> = {};
  for (const file of readdirSync(captures)) {
    const capture = readCapture(readFileSync(new URL(file, captures)));
    t.ok(capture?.complete, `${file} is read to its end`);
    packets[file] = capture?.packets ?? [];
    for (const { data } of packets[file]) {
      const line = describe(data);
      t.notMatch(line, /truncated|bad|too many/, `${file}: ${line}`);
      for (let length = 0; length < data.length; length++) describe(data, 0, length);
    }
  }
  const tunnelled = {
    'tcpdump__vxlan.pcap': 10,
    'suricata-verify__vxlan-decoder-03_vxlan.pcap': 100,
    'zeek__vxlan-encapsulated-igmp-v2.pcap': 3,
    'gopacket-hex__vxlan_test.pcap': 1,
  };
  for (const [file, count] of Object.entries(tunnelled)) {
    const inner = packets[file].filter(({ data }) => innerOffset(data) > 0);
    t.equal(inner.length, count, `${file}: all are VXLAN`);
  }
  t.end();
});
