// Checksums, and one protocol of src/wire at a time: what the tests that are common to all do not reach.

import t from 'tap';
import { overheadBytes } from '../../src/encap/index.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as arp from '../../src/wire/arp.js';
import { read16 } from '../../src/wire/bytes.js';
import * as checksum from '../../src/wire/checksum.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as mac from '../../src/wire/mac.js';
import * as ndp from '../../src/wire/ndp.js';
import * as reason from '../../src/wire/reason.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtioNet from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { frame, fromHex, vectors, type Name } from '../vectors/frames.js';
import { frameOf, layoutOf, type Packet, PLAIN, withZeroSum } from '../helpers/superframe.js';
import { parsed, names, MAC_A, from, address, patched } from '../helpers/wire.js';

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

await t.test('a checksum that was left to the device', (t) => {
  for (const version of [4, 6] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      const any: Packet = { ...PLAIN, version, protocol, payload: new Uint8Array(100).fill(7) };
      const { transport } = layoutOf(any);
      const field = protocol === 'udp' ? udp.CHECKSUM : tcp.CHECKSUM;
      for (const spec of [any, withZeroSum(any)]) {
        const bytes = frameOf(spec, 'partial');
        virtioNet.completeChecksum(bytes, transport, bytes.length - transport, field);
        t.same(bytes, frameOf(spec), `IPv${version} ${protocol}`);
      }
      const zero = read16(frameOf(withZeroSum(any)), transport + field);
      t.equal(zero, protocol === 'udp' ? 0xffff : 0, 'RFC 768; RFC 1624 3');
    }
  }
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
