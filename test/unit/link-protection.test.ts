// Link protection: what a port with it may send, frame by frame, each rule both ways. Rows S3 to S6 are those of the
// conformance tables.
import t, { type Test } from 'tap';
import { AllowedAddresses } from '../../src/core/allowed-addresses.js';
import type { ProtectionRules } from '../../src/core/link-protection.js';
import { WHOLE } from '../../src/io/memory.js';
import type { DropReason } from '../../src/model/drops.js';
import { parseClientId, parsePrefix, type Protection, PROTECTIONS } from '../../src/model/link-properties.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address } from '../../src/wire/ip.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { guarded, rules } from '../helpers/guarded.js';
import {
  advertisement,
  arpFrame,
  dhcpV6,
  discovery,
  duid,
  FIXED_BYTES,
  icmpV6,
  LINK_LOCAL,
  macBytes,
  option,
  OWN_V4,
  OWN_V6,
  rarpFrame,
  solicitation,
  withMacs,
} from '../helpers/guest-frames.js';
import { address, concat, dhcpFrame, frame, hex, MAC, packet, type Packet } from '../helpers/lab.js';
import { fromHex } from '../vectors/frames.js';

const ALL: readonly Protection[] = PROTECTIONS;
type Verdict = DropReason | 'pass';

/** Of one frame, sent as it is or with a virtio-net header. */
function verdict(protection: ProtectionRules, bytes: Uint8Array, header?: Partial<virtio.Repr>): Verdict {
  const { net, port, peer } = guarded(protection);
  if (header === undefined) port.send(bytes);
  else port.sendWith({ ...WHOLE, ...header }, bytes);
  const reasons = Object.keys(net.drops) as DropReason[];
  return peer.take().length > 0 ? 'pass' : (reasons[0] ?? 'pass');
}

type Row = readonly [what: string, types: readonly Protection[], bytes: Uint8Array, expected: Verdict];

function table(t: Test, rows: readonly Row[], more: Partial<ProtectionRules> = {}): void {
  for (const [what, types, bytes, expected] of rows)
    t.equal(verdict(rules(types, more), bytes), expected, `${what} under ${types.join() || 'nothing'}`);
}

// -- The rules

t.test('mac-nospoof (S3)', (t) => {
  table(t, [
    ['own source', ['mac-nospoof'], frame(MAC.b, MAC.a), 'pass'],
    ['foreign source', ['mac-nospoof'], frame(MAC.b, MAC.c), 'mac_spoofed'],
    ['foreign source, tagged', ['mac-nospoof'], frame(MAC.b, MAC.c, 64, 5), 'mac_spoofed'],
    [
      'foreign source',
      ['restricted', 'ip-nospoof', 'dhcp-nospoof'],
      packet({ from: MAC.c, source: OWN_V4 }),
      'pass',
    ],
    ['ARP of its own', ['mac-nospoof'], arpFrame({ ip: '10.9.9.9' }), 'pass'],
    ['ARP that names another (A9)', ['mac-nospoof'], arpFrame({ sender: MAC.c }), 'mac_spoofed'],
    ['NS that gives another MAC', ['mac-nospoof'], icmpV6(solicitation('fd00::9', MAC.c)), 'mac_spoofed'],
    ['NA that gives another MAC', ['mac-nospoof'], icmpV6(advertisement('fd00::9', MAC.c)), 'mac_spoofed'],
    ['any address', ['mac-nospoof'], packet({ source: '10.9.9.9' }), 'pass'],
  ]);
  const mac: readonly Protection[] = ['mac-nospoof'];
  for (const type of Object.keys(FIXED_BYTES).map(Number)) {
    const whole = withMacs(type, [1, MAC.a], [2, MAC.a]);
    table(t, [
      [`message ${type} without options`, mac, icmpV6(withMacs(type)), 'pass'],
      [`message ${type} that gives its MAC, twice`, mac, icmpV6(whole), 'pass'],
      [`message ${type}, source of another`, mac, icmpV6(withMacs(type, [1, MAC.c])), 'mac_spoofed'],
      [`message ${type}, target of another`, mac, icmpV6(withMacs(type, [2, MAC.c])), 'mac_spoofed'],
      [
        `message ${type}, another behind its own`,
        mac,
        icmpV6(withMacs(type, [1, MAC.a], [2, MAC.c])),
        'mac_spoofed',
      ],
      [`message ${type} in a fragment`, mac, icmpV6(whole, { fragment: 1 }), 'unreadable'],
      [`message ${type} cut off`, mac, icmpV6(whole.subarray(0, whole.length - 1)), 'unreadable'],
      [`message ${type}`, ['restricted', 'dhcp-nospoof'], icmpV6(withMacs(type, [1, MAC.c])), 'pass'],
    ]);
  }
  table(t, [
    ['RARP, as a hypervisor announces a guest', mac, rarpFrame(), 'pass'],
    ['RARP that names another', mac, rarpFrame({ sender: MAC.c }), 'mac_spoofed'],
    ['RARP that asks for another', mac, rarpFrame({ targetMac: MAC.c }), 'mac_spoofed'],
    ['RARP that answers another', mac, rarpFrame({ operation: 4, targetMac: MAC.c }), 'mac_spoofed'],
    ['RARP cut off', mac, rarpFrame().subarray(0, 41), 'unreadable'],
    ['RARP', ['restricted'], rarpFrame(), 'restricted'],
    ['RARP that names another', ['dhcp-nospoof'], rarpFrame({ sender: MAC.c }), 'pass'],
    ['RARP', ['ip-nospoof'], rarpFrame(), 'pass'],
    ['RARP with its address', ['ip-nospoof'], rarpFrame({ ip: OWN_V4, target: OWN_V4 }), 'pass'],
    ['RARP from the address of another', ['ip-nospoof'], rarpFrame({ ip: '10.0.0.1' }), 'ip_spoofed'],
    ['RARP that gives that of another', ['ip-nospoof'], rarpFrame({ target: '10.0.0.1' }), 'ip_spoofed'],
    ['RARP that names another', ['ip-nospoof'], rarpFrame({ targetMac: MAC.c }), 'mac_spoofed'],
  ]);
  t.end();
});

t.test('ip-nospoof: nothing that routers say to hosts, and no inverse discovery', (t) => {
  const ip: readonly Protection[] = ['ip-nospoof'];
  const icmp = (type: number, more: Packet = {}) =>
    packet({ source: OWN_V4, protocol: 1, firstByte: type, ...more });
  const igmp = (type: number, more: Packet = {}) => icmp(type, { protocol: 2, ...more });
  for (const type of [5, 9, 10])
    table(t, [
      [`ICMP ${type}`, ip, icmp(type), 'rogue_router'],
      [`ICMP ${type}, tagged`, ip, icmp(type, { tags: [3, [0x88a8, 4]] }), 'rogue_router'],
      [`ICMP ${type}, first fragment`, ip, icmp(type, { fragment: 0x2000 }), 'rogue_router'],
      [`ICMP ${type}`, ['mac-nospoof', 'restricted', 'dhcp-nospoof'], icmp(type), 'pass'],
    ]);
  for (const type of [0, 3, 8, 11, 13]) table(t, [[`ICMP ${type}`, ip, icmp(type), 'pass']]);
  table(t, [
    ['multicast router advertisement', ip, igmp(0x30), 'rogue_router'],
    ['multicast router termination', ip, igmp(0x32, { payloadBytes: 4 }), 'rogue_router'],
    ['multicast router solicitation', ip, igmp(0x31, { payloadBytes: 4 }), 'pass'],
    ['IGMP report', ip, igmp(0x22), 'pass'],
    ['IGMP report without an address', ip, igmp(0x22, { source: '0.0.0.0' }), 'pass'],
    ['IGMP cut off', ip, igmp(0x22, { payloadBytes: 3 }), 'unreadable'],
    ['IGMP', ['mac-nospoof', 'restricted', 'dhcp-nospoof'], igmp(0x30), 'pass'],
  ]);
  for (const type of [134, 137, 138, 149, 151, 153, 154])
    table(t, [
      [`ICMPv6 ${type}`, ip, icmpV6(withMacs(type)), 'rogue_router'],
      [`ICMPv6 ${type} behind options`, ip, icmpV6(withMacs(type), { extensions: 2 }), 'rogue_router'],
      [`ICMPv6 ${type} in a fragment`, ip, icmpV6(withMacs(type), { fragment: 1 }), 'rogue_router'],
      [`ICMPv6 ${type}`, ['mac-nospoof', 'restricted', 'dhcp-nospoof'], icmpV6(withMacs(type)), 'pass'],
    ]);
  for (const type of [1, 2, 3, 4, 128, 129, 130, 131, 132, 143, 152])
    table(t, [[`ICMPv6 ${type}`, ip, icmpV6(withMacs(type)), 'pass']]);
  for (const type of [141, 142])
    table(t, [
      [`inverse discovery ${type}`, ip, icmpV6(withMacs(type, [1, MAC.a], [2, MAC.a])), 'ip_spoofed'],
      [`inverse discovery ${type}`, ALL, icmpV6(withMacs(type, [1, MAC.a], [2, MAC.c])), 'ip_spoofed'],
    ]);
  t.end();
});

t.test('restricted (S6)', (t) => {
  const bpdu = concat(fromHex('0180c2000000 02a1a2a3a40a 0026 424203'), new Uint8Array(40));
  const lldp = concat(fromHex('0180c200000e 02a1a2a3a40a 88cc 0207'), new Uint8Array(40));
  const eapol = concat(fromHex('0180c2000003 02a1a2a3a40a 888e 0101'), new Uint8Array(40));
  for (const bytes of [bpdu, lldp, eapol, frame(MAC.b, MAC.a), frame(MAC.b, MAC.a, 64, 7)]) {
    t.equal(verdict(rules(['restricted']), bytes), 'restricted', hex(bytes.subarray(0, 16)));
    t.equal(verdict(rules(['mac-nospoof', 'ip-nospoof', 'dhcp-nospoof']), bytes), 'pass');
  }
  table(t, [
    ['IPv4', ['restricted'], packet({}), 'pass'],
    ['IPv6', ['restricted'], packet({ version: 6 }), 'pass'],
    ['ARP', ['restricted'], arpFrame(), 'pass'],
    ['IPv4, tagged twice', ['restricted'], packet({ tags: [[0x88a8, 3], 4] }), 'pass'],
  ]);
  t.end();
});

t.test('ip-nospoof: IPv4 (S4)', (t) => {
  const ip: readonly Protection[] = ['ip-nospoof'];
  const first = 0x2000; // more fragments
  table(t, [
    ['listed', ip, packet({ source: OWN_V4 }), 'pass'],
    ['listed, TCP', ip, packet({ source: OWN_V4, protocol: 6 }), 'pass'],
    ['not listed', ip, packet({ source: '10.0.0.6' }), 'ip_spoofed'],
    ['not listed, tagged', ip, packet({ source: '10.0.0.6', tags: [5] }), 'ip_spoofed'],
    [
      'not listed, tagged four times',
      ip,
      packet({ source: '10.0.0.6', tags: [1, [0x88a8, 2], [0x9100, 3], 4] }),
      'ip_spoofed',
    ],
    ['not listed, first fragment', ip, packet({ source: '10.0.0.6', fragment: first }), 'ip_spoofed'],
    ['not listed, later fragment', ip, packet({ source: '10.0.0.6', fragment: 8 }), 'ip_spoofed'],
    ['listed, later fragment', ip, packet({ source: OWN_V4, fragment: 8 }), 'pass'],
    ['no address yet', ip, packet({ source: '0.0.0.0' }), 'pass'],
    ['broadcast as source', ip, packet({ source: '255.255.255.255' }), 'ip_spoofed'],
    ['echo request', ip, packet({ source: OWN_V4, protocol: 1, firstByte: 8 }), 'pass'],
    ['ICMP cut off', ip, packet({ source: OWN_V4, protocol: 1, payloadBytes: 7 }), 'unreadable'],
  ]);
  const good = packet({ source: OWN_V4 });
  for (let length = 14; length < 34; length++)
    t.equal(verdict(rules(ip), good.subarray(0, length)), 'unreadable', `cut to ${length} bytes`);
  for (const [at, value] of [
    [14, 0x65],
    [14, 0x44],
    [16, 0xff],
  ] as const) {
    const bad = good.slice();
    bad[at] = value;
    t.equal(verdict(rules(ip), bad), 'unreadable', `byte ${at} is ${value}`);
  }
  const withOptions = concat(good.subarray(0, 34), fromHex('01010100'), good.subarray(34));
  withOptions.set([0x46, 0, 0, withOptions.length - 14], 14);
  t.equal(verdict(rules(ip), withOptions), 'pass', 'options');
  withOptions[29] = 6;
  t.equal(verdict(rules(ip), withOptions), 'ip_spoofed', 'options, not listed');
  t.end();
});

t.test('ip-nospoof: ARP (S4)', (t) => {
  const ip: readonly Protection[] = ['ip-nospoof'];
  table(t, [
    ['request', ip, arpFrame(), 'pass'],
    ['reply', ip, arpFrame({ operation: 2 }), 'pass'],
    ['announcement', ip, arpFrame({ target: OWN_V4 }), 'pass'],
    ['of another address', ip, arpFrame({ ip: '10.0.0.1' }), 'ip_spoofed'],
    ['reply for another', ip, arpFrame({ ip: '10.0.0.1', operation: 2 }), 'ip_spoofed'],
    ['of another address, tagged', ip, arpFrame({ ip: '10.0.0.1', tag: 9 }), 'ip_spoofed'],
    ['of another MAC', ip, arpFrame({ sender: MAC.c }), 'mac_spoofed'],
    ['probe for its own', ip, arpFrame({ ip: '0.0.0.0', target: OWN_V4 }), 'pass'],
    ['probe for another', ip, arpFrame({ ip: '0.0.0.0', target: '10.0.0.1' }), 'ip_spoofed'],
    ['cut off', ip, arpFrame().subarray(0, 41), 'unreadable'],
    ['cut off', ['restricted', 'dhcp-nospoof'], arpFrame().subarray(0, 41), 'pass'],
  ]);
  const long = arpFrame();
  long[18] = 8;
  t.equal(verdict(rules(ip), long), 'unreadable', 'addresses of another length');
  t.end();
});

t.test('ip-nospoof: IPv6 (S4)', (t) => {
  const ip: readonly Protection[] = ['ip-nospoof'];
  const v6 = (source: string, more: Packet = {}) => packet({ version: 6, source, ...more });
  const later = 0x0008;
  table(t, [
    ['listed', ip, v6(OWN_V6), 'pass'],
    ['link-local of its MAC', ip, v6(LINK_LOCAL), 'pass'],
    ['another link-local', ip, v6('fe80::1'), 'ip_spoofed'],
    ['not listed', ip, v6('fd00::6'), 'ip_spoofed'],
    ['not listed, behind options', ip, v6('fd00::6', { extensions: 3 }), 'ip_spoofed'],
    ['listed, behind options', ip, v6(OWN_V6, { extensions: 3 }), 'pass'],
    ['behind more options than anyone has', ip, v6(OWN_V6, { extensions: 9 }), 'unreadable'],
    ['not listed, later fragment', ip, v6('fd00::6', { fragment: later }), 'ip_spoofed'],
    ['listed, later fragment', ip, v6(OWN_V6, { fragment: later }), 'pass'],
    ['v4-mapped of a listed one', ip, v6('::ffff:10.0.0.5'), 'ip_spoofed'],
    ['solicitation', ip, icmpV6(solicitation('fd00::9')), 'pass'],
    ['solicitation without MAC', ip, icmpV6(solicitation('fd00::9', undefined)), 'pass'],
    ['solicitation, another MAC', ip, icmpV6(solicitation('fd00::9', MAC.c)), 'mac_spoofed'],
    [
      'DAD for its own',
      ip,
      icmpV6(discovery({ kind: 'neighborSolicitation', target: address(OWN_V6), sourceMac: undefined }), {
        source: '::',
      }),
      'pass',
    ],
    [
      'DAD for its link-local',
      ip,
      icmpV6(discovery({ kind: 'neighborSolicitation', target: address(LINK_LOCAL), sourceMac: undefined }), {
        source: '::',
      }),
      'pass',
    ],
    [
      'DAD for another',
      ip,
      icmpV6(discovery({ kind: 'neighborSolicitation', target: address('fd00::1'), sourceMac: undefined }), {
        source: '::',
      }),
      'ip_spoofed',
    ],
    ['advertisement', ip, icmpV6(advertisement(OWN_V6)), 'pass'],
    ['advertisement of another', ip, icmpV6(advertisement('fd00::1')), 'ip_spoofed'],
    ['advertisement, another MAC', ip, icmpV6(advertisement(OWN_V6, MAC.c)), 'mac_spoofed'],
    [
      'advertisement of another behind options',
      ip,
      icmpV6(advertisement('fd00::1'), { extensions: 1 }),
      'ip_spoofed',
    ],
    ['discovery in a fragment', ip, icmpV6(advertisement(OWN_V6), { fragment: 1 }), 'unreadable'],
    ['router solicitation', ip, icmpV6(discovery({ kind: 'routerSolicitation', sourceMac: MAC.a })), 'pass'],
    [
      'router solicitation, another MAC',
      ip,
      icmpV6(discovery({ kind: 'routerSolicitation', sourceMac: MAC.c })),
      'mac_spoofed',
    ],
    [
      'fragment that ends before its ICMPv6',
      ip,
      icmpV6(Uint8Array.of(134, 0, 0), { fragment: 1 }),
      'unreadable',
    ],
    [
      'option of length 0',
      ip,
      icmpV6(concat(solicitation('fd00::9', undefined), Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))),
      'unreadable',
    ],
    ['echo request', ip, icmpV6(concat(Uint8Array.of(128, 0, 0, 0), new Uint8Array(8))), 'pass'],
  ]);
  const good = v6(OWN_V6);
  for (let length = 14; length < 54; length += 3)
    t.equal(verdict(rules(ip), good.subarray(0, length)), 'unreadable', `cut to ${length} bytes`);
  t.end();
});

t.test('prefixes', (t) => {
  const has = (list: string[], ip: string) => {
    const bytes = packet({ version: ip.includes(':') ? 6 : 4, source: ip });
    return verdict(
      rules(['ip-nospoof'], { addresses: list.flatMap((text) => parsePrefix(text) ?? []) }),
      bytes,
    );
  };
  t.equal(has(['10.1.0.0/16'], '10.1.255.255'), 'pass');
  t.equal(has(['10.1.0.0/16'], '10.2.0.0'), 'ip_spoofed');
  t.equal(has(['10.1.0.0/16', '10.2.0.0/31'], '10.2.0.1'), 'pass');
  t.equal(has(['10.2.0.0/31'], '10.2.0.2'), 'ip_spoofed');
  t.equal(has(['128.0.0.0/1'], '200.1.1.1'), 'pass');
  t.equal(has(['128.0.0.0/1'], '100.1.1.1'), 'ip_spoofed');
  t.equal(has(['2001:db8:1::/48'], '2001:db8:1:ffff::1'), 'pass');
  t.equal(has(['2001:db8:1::/48'], '2001:db8:2::1'), 'ip_spoofed');
  t.equal(has(['fe80::/10'], 'febf::1'), 'pass');
  t.equal(has(['2001:db8::8/125'], '2001:db8::f'), 'pass');
  t.equal(has(['2001:db8::8/125'], '2001:db8::10'), 'ip_spoofed');
  t.equal(has([], '10.0.0.1'), 'ip_spoofed', 'none');
  const many = new AllowedAddresses(
    Array.from({ length: 32 }, (_, n) => ({ ip: address(`10.0.0.${n}`), bits: 32 })),
  );
  for (const last of [31, 31, 0, 7]) t.ok(many.hasV4(Uint8Array.of(10, 0, 0, last), 0), `found ${last}`);
  t.notOk(many.hasV4(Uint8Array.of(10, 0, 0, 32), 0));
  t.end();
});

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
