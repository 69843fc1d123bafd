// Link protection: DHCP, and what is common to all rules. Rows S3 to S6 are those of the conformance tables.

import t from 'tap';
import type { ProtectionRules } from '../../src/core/protection/link-protection.js';
import { parseClientId, type Protection } from '../../src/model/link-properties.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address } from '../../src/wire/ip.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { guarded, rules } from '../helpers/guarded.js';
import {
  advertisement,
  arpFrame,
  dhcpV6,
  duid,
  icmpV6,
  macBytes,
  option,
  OWN_V4,
  OWN_V6,
  solicitation,
} from '../helpers/guest-frames.js';
import { address, concat, dhcpFrame, frame, MAC, packet, type Packet } from '../helpers/lab.js';
import { ALL, verdict, type Row, table } from '../helpers/link-protection.js';

t.test('dhcp-nospoof: DHCPv4 (S5)', (t) => {
  const dhcp: readonly Protection[] = ['dhcp-nospoof'];
  const otherId = [1, ...macBytes(MAC.c)];
  table(t, [
    ['discover', dhcp, dhcpFrame(), 'pass'],
    ['another chaddr', dhcp, dhcpFrame({ clientMac: MAC.c }), 'dhcp_spoofed'],
    ['another chaddr', ['mac-nospoof', 'ip-nospoof', 'restricted'], dhcpFrame({ clientMac: MAC.c }), 'pass'],
    ['client id of its MAC', dhcp, dhcpFrame({ options: option(61, 1, ...macBytes(MAC.a)) }), 'pass'],
    ['client id of another', dhcp, dhcpFrame({ options: option(61, ...otherId) }), 'dhcp_spoofed'],
    [
      'client id of another, tagged',
      dhcp,
      dhcpFrame({ options: option(61, ...otherId) }, { tags: [3] }),
      'dhcp_spoofed',
    ],
    ['client id that is no MAC', dhcp, dhcpFrame({ options: option(61, 0x68, 0x69) }), 'dhcp_spoofed'],
    ['options in other fields', dhcp, dhcpFrame({ options: option(52, 3) }), 'unreadable'],
    ['a server', dhcp, dhcpFrame({ operation: dhcpv4.REPLY }), 'rogue_dhcp'],
    ['a relay', dhcp, dhcpFrame({}, { ports: [67, 67] }), 'rogue_dhcp'],
    ['a relay, by giaddr', dhcp, dhcpFrame({ giaddr: '10.0.0.5' as Ipv4Address }), 'rogue_dhcp'],
    ['a relay, by hops', dhcp, dhcpFrame({ hops: 1 }), 'rogue_dhcp'],
    ['a relay, by option 82', dhcp, dhcpFrame({ options: option(82, 1, 2, 0x68, 0x69) }), 'rogue_dhcp'],
    ['a relay, by option 82 with nothing in it', dhcp, dhcpFrame({ options: option(82) }), 'rogue_dhcp'],
    ['a relay, tagged', dhcp, dhcpFrame({ hops: 1 }, { tags: [3] }), 'rogue_dhcp'],
    ['a relay', ['mac-nospoof', 'ip-nospoof', 'restricted'], dhcpFrame({ hops: 1 }), 'pass'],
    ...[1, 3, 4, 7, 8].map((type): Row => {
      const options = new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(type)]]);
      return [`message type ${type}`, dhcp, dhcpFrame({ options }), 'pass'];
    }),
    ...[0, 2, 5, 6, 9, 10, 13].map((type): Row => {
      const options = new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(type)]]);
      return [`message type ${type}, which is no client's`, dhcp, dhcpFrame({ options }), 'rogue_dhcp'];
    }),
    ['a client of BOOTP, with a cookie', dhcp, dhcpFrame({ options: new Map() }), 'pass'],
    [
      'a server on the port of clients',
      dhcp,
      dhcpFrame({ operation: dhcpv4.REPLY }, { ports: [68, 67] }),
      'rogue_dhcp',
    ],
    ['a server', ['mac-nospoof', 'restricted'], dhcpFrame({ operation: dhcpv4.REPLY }), 'pass'],
    ['first fragment', dhcp, dhcpFrame({}, { fragment: 0x2000 }), 'unreadable'],
    [
      'fragment without ports',
      dhcp,
      packet({ fragment: 0x2000, protocol: 17, ports: [68, 67] }).subarray(0, 38),
      'unreadable',
    ],
    ['other UDP', dhcp, packet({ ports: [53, 53] }), 'pass'],
    ['other UDP in fragments', dhcp, packet({ fragment: 0x2000 }), 'pass'],
    ['TCP of these ports', dhcp, packet({ protocol: 6, ports: [67, 68] }), 'pass'],
    [
      'BOOTP without options',
      dhcp,
      packet({ ports: [68, 67], payload: dhcpFrame().slice(42, 42 + 236) }),
      'unreadable',
    ],
    ['no DHCP in it', dhcp, packet({ ports: [68, 67] }), 'unreadable'],
  ]);
  const twice = dhcpFrame({ options: option(61, 1, ...macBytes(MAC.a)) });
  const end = twice.indexOf(255, 42 + 240);
  twice.set([61, 7, ...otherId, 255], end);
  t.equal(verdict(rules(dhcp), twice), 'unreadable', 'two client ids');
  t.end();
});

t.test('dhcp-nospoof: allowed client ids', (t) => {
  const allowed = ['hello', '0x0102', '1.1.1512434853.90:b8:d0:81:91:30'].flatMap(
    (text) => parseClientId(text) ?? [],
  );
  const sends = (id: readonly number[], clientIds: ProtectionRules['clientIds']) =>
    verdict(rules(['dhcp-nospoof'], { clientIds }), dhcpFrame({ options: option(61, ...id) }));
  t.equal(sends([...Buffer.from('hello')], allowed), 'pass');
  t.equal(sends([...Buffer.from('hella')], allowed), 'dhcp_spoofed');
  t.equal(sends([...Buffer.from('hell')], allowed), 'dhcp_spoofed');
  t.equal(sends([1, 2], allowed), 'pass');
  t.equal(sends([9, 9, 9], 'any'), 'pass');
  t.equal(
    verdict(rules(['dhcp-nospoof'], { clientIds: 'any' }), dhcpFrame({ clientMac: MAC.c })),
    'dhcp_spoofed',
    'any id, but not any hardware address',
  );
  t.equal(
    verdict(
      rules(['dhcp-nospoof'], { clientIds: allowed }),
      dhcpV6(1, duid('0001 0001 5a25eca5 90b8d0819130')),
    ),
    'pass',
    'a DUID',
  );
  t.end();
});

t.test('dhcp-nospoof: DHCPv6', (t) => {
  const dhcp: readonly Protection[] = ['dhcp-nospoof'];
  table(t, [
    ['solicit, DUID-LL of its MAC', dhcp, dhcpV6(1, duid('0003 0001 02a1a2a3a40a')), 'pass'],
    ['solicit, DUID-LLT of its MAC', dhcp, dhcpV6(1, duid('0001 0001 01020304 02a1a2a3a40a')), 'pass'],
    ['DUID-LL of another', dhcp, dhcpV6(1, duid('0003 0001 02c1c2c3c40c')), 'dhcp_spoofed'],
    ['DUID-LLT of another', dhcp, dhcpV6(3, duid('0001 0001 01020304 02c1c2c3c40c')), 'dhcp_spoofed'],
    ['DUID of an enterprise', dhcp, dhcpV6(3, duid('0002 00000009 0cc084d3')), 'dhcp_spoofed'],
    ['DUID too short to be one', dhcp, dhcpV6(3, duid('00')), 'dhcp_spoofed'],
    ['no DUID', dhcp, dhcpV6(11, ''), 'pass'],
    [
      'two DUIDs',
      dhcp,
      dhcpV6(1, duid('0003 0001 02a1a2a3a40a') + duid('0003 0001 02c1c2c3c40c')),
      'unreadable',
    ],
    ['an option past the end', dhcp, dhcpV6(1, '00010010 0003'.replace(' ', '')), 'unreadable'],
    ['advertise', dhcp, dhcpV6(2, ''), 'rogue_dhcp'],
    ['reply', dhcp, dhcpV6(7, ''), 'rogue_dhcp'],
    ['reconfigure', dhcp, dhcpV6(10, ''), 'rogue_dhcp'],
    ...[12, 13, 14, 20, 36, 255].map((type): Row => [
      `message ${type}`,
      dhcp,
      dhcpV6(type, ''),
      'rogue_dhcp',
    ]),
    ...[9, 18, 37, 38, 53, 66, 79, 135].map((code): Row => {
      const relayed = `${duid('0003 0001 02a1a2a3a40a')}${code.toString(16).padStart(4, '0')}0002abcd`;
      return [`option ${code}, which is a relay's`, dhcp, dhcpV6(1, relayed), 'rogue_dhcp'];
    }),
    ["options that are a client's", dhcp, dhcpV6(1, `00060002001700270002abcd00100002abcd`), 'pass'],
    ['from the port of servers', dhcp, dhcpV6(1, '', { ports: [547, 547] }), 'rogue_dhcp'],
    ['in a fragment', dhcp, dhcpV6(1, '', { fragment: 1 }), 'unreadable'],
    ['behind options', dhcp, dhcpV6(7, '', { extensions: 2 }), 'rogue_dhcp'],
    ['reply', ['mac-nospoof', 'ip-nospoof', 'restricted'], dhcpV6(7, ''), 'pass'],
  ]);
  t.end();
});

t.test('a checksum still to be filled in changes nothing that was judged', (t) => {
  const bytes = packet({ source: OWN_V4, checksum: 'partial' });
  const at = (start: number, offset: number) =>
    verdict(rules(['ip-nospoof', 'dhcp-nospoof']), bytes, {
      flags: virtio.NEEDS_CHECKSUM,
      checksumStart: start,
      checksumOffset: offset,
    });
  t.equal(at(34, 6), 'pass', 'of UDP');
  t.equal(at(50, 4), 'pass', 'of what UDP carries: a tunnel of the guest');
  t.equal(at(14, 12), 'unreadable', 'the source address');
  t.equal(at(0, 6), 'unreadable', 'the source MAC');
  t.equal(at(34, 0), 'unreadable', 'the source port');
  const partial = (frameBytes: Uint8Array, checksumStart: number, checksumOffset: number) =>
    verdict(rules(ALL), frameBytes, { flags: virtio.NEEDS_CHECKSUM, checksumStart, checksumOffset });
  t.equal(partial(dhcpFrame(), 34, 6), 'pass', 'DHCP');
  t.equal(partial(dhcpFrame(), 34, 8 + 28), 'unreadable', 'chaddr');
  t.equal(partial(arpFrame(), 14, 14), 'unreadable', 'ARP has none');
  t.equal(partial(icmpV6(advertisement(OWN_V6)), 54, 2), 'pass', 'ICMPv6');
  t.equal(partial(icmpV6(advertisement(OWN_V6)), 54, 8), 'unreadable', 'the target of an advertisement');
  t.equal(
    partial(icmpV6(concat(Uint8Array.of(128, 0, 0, 0), new Uint8Array(8))), 54, 0),
    'unreadable',
    'its type',
  );
  t.end();
});

t.test('superframes are judged by their headers', (t) => {
  const spec: Packet = { protocol: 6, payloadBytes: 4000, checksum: 'partial' };
  const header = {
    flags: virtio.NEEDS_CHECKSUM,
    gsoType: virtio.GSO_TCPV4,
    gsoSize: 1400,
    headerLength: 54,
    checksumStart: 34,
    checksumOffset: 16,
  };
  t.equal(verdict(rules(ALL), packet({ ...spec, source: OWN_V4 }), header), 'pass');
  t.equal(verdict(rules(ALL), packet({ ...spec, source: '10.0.0.6' }), header), 'ip_spoofed');
  const datagrams = {
    ...header,
    gsoType: virtio.GSO_UDP_L4,
    gsoSize: 300,
    headerLength: 42,
    checksumOffset: 6,
  };
  const payload = concat(dhcpFrame().subarray(42), dhcpFrame({ clientMac: MAC.c }).subarray(42));
  const dhcp = packet({ to: MAC.all, source: '0.0.0.0', ports: [68, 67], payload, checksum: 'partial' });
  t.equal(verdict(rules(ALL), dhcp, datagrams), 'unreadable', 'a second message hides behind the first');
  t.end();
});

t.test('all four together let ordinary traffic pass, and an access port is no way round', (t) => {
  const { net, port, peer } = guarded(rules(ALL), 7);
  port.send(
    dhcpFrame(),
    arpFrame(),
    packet({ source: OWN_V4 }),
    packet({ version: 6, source: OWN_V6, protocol: 6 }),
    icmpV6(solicitation('fd00::9')),
  );
  t.strictSame(net.drops, {});
  t.equal(peer.take().length, 5);
  port.send(
    packet({ source: '10.0.0.6' }),
    packet({ source: '10.0.0.6', tags: [0] }),
    arpFrame({ sender: MAC.c }),
  );
  t.strictSame(net.drops, { ip_spoofed: 2, mac_spoofed: 1 });
  t.equal(port.counters.ip_spoofed, 2, 'the port says that it was its own');
  t.equal(peer.take().length, 0);
  t.end();
});

t.test('the other ports of the overlay do not get it either, and are not protected', (t) => {
  const { net, port } = guarded(rules(ALL));
  const other = net.port(MAC.b);
  port.send(packet({ to: MAC.b, source: '10.0.0.6' }), arpFrame({ ip: '10.0.0.1' }));
  t.equal(other.take().length, 0);
  port.send(packet({ to: MAC.b, source: OWN_V4 }), arpFrame());
  t.equal(other.take().length, 2);
  other.send(packet({ to: MAC.a, from: MAC.c, source: '10.9.9.9' }));
  t.equal(port.take().length, 1, 'and what comes in is not looked at');
  t.end();
});

t.test('rules change under way', (t) => {
  const { net, port, peer } = guarded(undefined);
  const foreign = packet({ source: '10.0.0.6' });
  port.send(foreign);
  t.equal(peer.take().length, 1);
  port.protect(rules(['ip-nospoof']));
  port.send(foreign, packet({ source: OWN_V4 }));
  t.equal(peer.take().length, 1);
  t.strictSame(net.drops, { ip_spoofed: 1 });
  port.protect(rules(['ip-nospoof'], { addresses: [{ ip: address('10.0.0.6'), bits: 32 }] }));
  port.send(foreign);
  t.equal(peer.take().length, 1);
  port.protect(undefined);
  port.send(frame(MAC.b, MAC.c));
  t.equal(peer.take().length, 1);
  t.end();
});
