// Link protection: what a port with it may send, frame by frame, each rule both ways. Rows S3 to S6 are those of the
// conformance tables.

import t from 'tap';
import { AllowedAddresses } from '../../src/core/protection/allowed-addresses.js';
import { parsePrefix, type Protection } from '../../src/model/link-properties.js';
import { rules } from '../helpers/guarded.js';
import {
  advertisement,
  arpFrame,
  discovery,
  FIXED_BYTES,
  icmpV6,
  LINK_LOCAL,
  OWN_V4,
  OWN_V6,
  rarpFrame,
  solicitation,
  withMacs,
} from '../helpers/guest-frames.js';
import { address, concat, frame, hex, MAC, packet, type Packet } from '../helpers/lab.js';
import { fromHex } from '../vectors/frames.js';
import { ALL, verdict, table } from '../helpers/link-protection.js';

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
