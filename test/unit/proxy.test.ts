// Proxy ARP, NDP and DHCP: every row of tables 1c, 1d and 1e of conformance.md, frames and replies byte by byte.
// The checksums come from another program.
import t, { type Test } from 'tap';
import { arpAnnouncement } from '../../src/core/proxy-arp.js';
import { ndpAnnouncement } from '../../src/core/proxy-ndp.js';
import { announcement, type Facts, proxy } from '../../src/daemon/plugins/proxy.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import type { MacAddress, ProxyKind } from '../../src/plugin/index.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address, Ipv6Address } from '../../src/wire/ip.js';
import { formatMac } from '../../src/wire/mac.js';
import { ipOf, macOf, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { frame, fromHex } from '../vectors/frames.js';

const A = 0x0200_0000_000a;
const B = 0x0200_0000_000b;
const C = 0x0200_0000_000c;

const NEIGHBORS = new Map<string, MacAddress>([
  ['10.0.0.1', A],
  ['10.0.0.2', B],
  ['fe80::a', A],
  ['fe80::b', B],
  ['2001:db8::a', A],
  ['2001:db8::b', B],
  // What must not be asked for, although the plugin would answer.
  ...['127.0.0.1', '224.0.0.1', '0.0.0.0', '255.255.255.255', '::', '::1', 'ff02::b'].map(
    (ip) => [ip, B] as const,
  ),
]);

function facts(): Facts & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    neighbor: (ip) => {
      asked.push(ip);
      return Promise.resolve(NEIGHBORS.get(ip) ?? null);
    },
    dhcpServer: (client) => {
      asked.push(client.toString(16));
      return Promise.resolve(client === A ? B : null);
    },
  };
}

/** What comes of a frame: the reply as digits, the new destination, or the reason. */
async function outcome(what: ProxyKind, bytes: Uint8Array, warn: string[] = []): Promise<string> {
  const answer: LookupAnswer = await proxy(what, bytes, facts(), (message) => warn.push(message));
  switch (answer.kind) {
    case 'reply':
      return toHex(answer.frame);
    case 'redirect':
      return `to ${formatMac(answer.to)}`;
    case 'drop':
      return answer.reason;
    case 'target':
      throw new Error('a proxy does not choose destinations');
  }
}

const plain = (hex: string): string => hex.replace(/\s/g, '');

type Row = readonly [row: string, frame: string, expected: string];

async function checkRows(t: Test, what: ProxyKind, rows: readonly Row[]): Promise<void> {
  for (const [row, hex, expected] of rows) t.equal(await outcome(what, fromHex(hex)), plain(expected), row);
}

await t.test('ARP', async (t) => {
  const REPLY = '02000000000a02000000000b0806 000108000604 0002 02000000000b0a000002 02000000000a0a000001';
  await checkRows(t, 'arp', [
    [
      'A1 A2 a request gets its reply, 42 bytes',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      REPLY,
    ],
    [
      'A3 what it was padded with does not come back',
      `ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a000002 ${'a5'.repeat(18)}`,
      REPLY,
    ],
    [
      'A2 to any group',
      '01000000000102000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      REPLY,
    ],
    [
      'a tagged one gets it with the same tag',
      'ffffffffffff02000000000a8100a064 0806 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      '02000000000a02000000000b8100a064 0806 000108000604 0002 02000000000b0a000002 02000000000a0a000001',
    ],
    [
      'and one with two tags',
      'ffffffffffff02000000000a88a8a064 81001007 0806 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      '02000000000a02000000000b88a8a064 81001007 0806 000108000604 0002 02000000000b0a000002 02000000000a0a000001',
    ],
    [
      'A1 hardware type 6',
      'ffffffffffff02000000000a0806 000608000604 0001 02000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'A1 protocol IPv6',
      'ffffffffffff02000000000a0806 000186dd0604 0001 02000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'A1 hardware length 255',
      'ffffffffffff02000000000a0806 00010800ff04 0001 02000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'A1 protocol length 255',
      'ffffffffffff02000000000a0806 0001080006ff 0001 02000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'A1 a reply',
      'ffffffffffff02000000000a0806 000108000604 0002 02000000000a0a000001 02000000000b0a000002',
      'arp_ignored',
    ],
    [
      'A1 reverse ARP',
      'ffffffffffff02000000000a0806 000108000604 0003 02000000000a0a000001 0000000000000a000002',
      'arp_ignored',
    ],
    [
      'A1 one byte short',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a0000',
      'arp_malformed',
    ],
    [
      'no ARP at all',
      'ffffffffffff02000000000a8035 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'nobody has it',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a000063',
      'proxy_unknown',
    ],
    [
      'A4 probe for what is another’s',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a00000000 0000000000000a000002',
      '02000000000a02000000000b0806 000108000604 0002 02000000000b0a000002 02000000000a00000000',
    ],
    [
      'A4 probe for its own',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a00000000 0000000000000a000001',
      'proxy_own',
    ],
    [
      'A4 probe for what is nobody’s',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a00000000 0000000000000a000063',
      'proxy_unknown',
    ],
    [
      'A5 announcement as request',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000000a000001',
      'arp_ignored',
    ],
    [
      'A5 announcement as reply',
      'ffffffffffff02000000000a0806 000108000604 0002 02000000000a0a000001 02000000000a0a000001',
      'arp_ignored',
    ],
    [
      'A5 announcement of what is nobody’s',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000063 0000000000000a000063',
      'arp_ignored',
    ],
    [
      'A6 announcement of what is another’s',
      'ffffffffffff02000000000c0806 000108000604 0001 02000000000c0a000002 0000000000000a000002',
      'arp_conflict',
    ],
    [
      'A6 the same as reply',
      'ffffffffffff02000000000c0806 000108000604 0002 02000000000c0a000002 ffffffffffff0a000002',
      'arp_conflict',
    ],
    [
      'A7 loopback',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 0000000000007f000001',
      'arp_ignored',
    ],
    [
      'A7 multicast',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 000000000000e0000001',
      'arp_ignored',
    ],
    [
      'A7 zero',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 00000000000000000000',
      'arp_ignored',
    ],
    [
      'A7 broadcast',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000a0a000001 000000000000ffffffff',
      'arp_ignored',
    ],
    [
      'A7 asked by a multicast address',
      'ffffffffffff02000000000a0806 000108000604 0001 02000000000ae0000001 0000000000000a000002',
      'arp_ignored',
    ],
    [
      'A9 the sender is not who sent it',
      'ffffffffffff02000000000c0806 000108000604 0001 02000000000a0a000001 0000000000000a000002',
      'proxy_spoofed',
    ],
    [
      'from a group address',
      'ffffffffffff03000000000a0806 000108000604 0001 03000000000a0a000001 0000000000000a000002',
      'arp_malformed',
    ],
    [
      'from the address zero',
      'ffffffffffff0000000000000806 000108000604 0001 0000000000000a000001 0000000000000a000002',
      'arp_malformed',
    ],
  ]);

  const warned: string[] = [];
  const conflict = 'ffffffffffff02000000000c0806 000108000604 0001 02000000000c0a000002 0000000000000a000002';
  await outcome('arp', fromHex(conflict), warned);
  t.same(warned, ["02:00:00:00:00:0c announces 10.0.0.2, which is 02:00:00:00:00:0b's"], 'A6 and is told');
});

await t.test('NDP', async (t) => {
  const ASK = '3333ff00000b02000000000a86dd';
  const HEAD = '6000000000203aff fe80000000000000000000000000000a ff0200000000000000000001ff00000b';
  const BODY = '87007a7300000000fe80000000000000000000000000000b010102000000000a';
  const DAD = '6000000000183aff 00000000000000000000000000000000 ff0200000000000000000001ff00000b';
  const REPLY =
    '02000000000a02000000000b86dd 6000000000203aff fe80000000000000000000000000000b ' +
    'fe80000000000000000000000000000a 880017f660000000fe80000000000000000000000000000b020102000000000b';
  await checkRows(t, 'ndp', [
    ['N11 N12 N13 to its solicited-node group', `${ASK} ${HEAD} ${BODY}`, REPLY],
    [
      'N11 to all nodes',
      '33330000000102000000000a86dd 6000000000203aff fe80000000000000000000000000000a ff020000000000000000000000000001' +
        '8700797f00000000fe80000000000000000000000000000b010102000000000a',
      REPLY,
    ],
    [
      'N11 a global address',
      `${ASK} 6000000000203aff 20010db800000000000000000000000a ff0200000000000000000001ff00000b` +
        '87001c030000000020010db800000000000000000000000b010102000000000a',
      '02000000000a02000000000b86dd 6000000000203aff 20010db800000000000000000000000b 20010db800000000000000000000000a' +
        '88008a4d6000000020010db800000000000000000000000b020102000000000b',
    ],
    ['N1 hop limit 254', `${ASK} ${HEAD.replace('3aff', '3afe')} ${BODY}`, 'ndp_malformed'],
    ['N2 checksum', `${ASK} ${HEAD} ${BODY.replace('7a73', '7a74')}`, 'ndp_malformed'],
    ['N3 code 1', `${ASK} ${HEAD} ${BODY.replace('87007a73', '87017a72')}`, 'ndp_malformed'],
    [
      'N4 23 bytes of message',
      `${ASK} 6000000000173aff fe80000000000000000000000000000a ff0200000000000000000001ff00000b` +
        '87007d9200000000fe8000000000000000000000000000',
      'ndp_malformed',
    ],
    [
      'N5 multicast target',
      `${ASK} ${HEAD} 870079f100000000ff02000000000000000000000000000b010102000000000a`,
      'ndp_malformed',
    ],
    [
      'N6 option of length 0',
      `${ASK} ${HEAD} 87007a7400000000fe80000000000000000000000000000b010002000000000a`,
      'ndp_malformed',
    ],
    [
      'N6 option past the end',
      `${ASK} ${HEAD} 87007a7200000000fe80000000000000000000000000000b010202000000000a`,
      'ndp_malformed',
    ],
    [
      'N6 half an option',
      `${ASK} ${HEAD.replace('00203aff', '00213aff')} 87006c7200000000fe80000000000000000000000000000b010102000000000a0e`,
      'ndp_malformed',
    ],
    [
      'N7 from :: to all nodes',
      '33330000000102000000000a86dd 6000000000183aff 00000000000000000000000000000000' +
        'ff020000000000000000000000000001 87007b1d00000000fe80000000000000000000000000000b',
      'ndp_malformed',
    ],
    [
      'N8 from :: with a source option',
      `${ASK} ${DAD.replace('00183aff', '00203aff')} 870078fe00000000fe80000000000000000000000000000b010102000000000a`,
      'ndp_malformed',
    ],
    [
      'N9 without a source option',
      `${ASK} ${HEAD.replace('00203aff', '00183aff')} 87007d8600000000fe80000000000000000000000000000b`,
      'ndp_malformed',
    ],
    [
      'N10 two source options',
      `${ASK} ${HEAD.replace('00203aff', '00283aff')}` +
        '8700776000000000fe80000000000000000000000000000b010102000000000a010102000000000a',
      'ndp_malformed',
    ],
    [
      'A9 of NDP: the source option is not who sent it',
      `${ASK} ${HEAD} 87007a7100000000fe80000000000000000000000000000b010102000000000c`,
      'proxy_spoofed',
    ],
    [
      'N12 N14 DAD for what is another’s: to all nodes, not solicited',
      `${ASK} ${DAD} 87007c1100000000fe80000000000000000000000000000b`,
      '33330000000102000000000b86dd 6000000000203aff fe80000000000000000000000000000b ff020000000000000000000000000001' +
        '8800577d20000000fe80000000000000000000000000000b020102000000000b',
    ],
    [
      'N14 the same with a nonce (RFC 7527)',
      `${ASK} ${DAD.replace('00183aff', '00203aff')} 8700831a00000000fe80000000000000000000000000000b0e01a1a2a3a4a5a6`,
      '33330000000102000000000b86dd 6000000000203aff fe80000000000000000000000000000b ff020000000000000000000000000001' +
        '8800577d20000000fe80000000000000000000000000000b020102000000000b',
    ],
    [
      'N14 DAD for its own',
      '3333ff00000a02000000000a86dd 6000000000183aff 00000000000000000000000000000000 ff0200000000000000000001ff00000a' +
        '87007c1300000000fe80000000000000000000000000000a',
      'proxy_own',
    ],
    [
      'asks for its own',
      '3333ff00000a02000000000a86dd 6000000000203aff fe80000000000000000000000000000a ff0200000000000000000001ff00000a' +
        '87007a7500000000fe80000000000000000000000000000a010102000000000a',
      'proxy_own',
    ],
    [
      'nobody has it',
      '3333ff00009902000000000a86dd 6000000000203aff fe80000000000000000000000000000a ff0200000000000000000001ff000099' +
        '8700795700000000fe800000000000000000000000000099010102000000000a',
      'proxy_unknown',
    ],
    [
      'N15 advertisement',
      '33330000000102000000000a86dd 6000000000203aff fe80000000000000000000000000000a ff020000000000000000000000000001' +
        '8800578020000000fe80000000000000000000000000000a020102000000000a',
      'ndp_ignored',
    ],
    ['N15 router solicitation', toHex(frame('routerSolicitation')), 'ndp_ignored'],
    ['N15 router advertisement', toHex(frame('routerAdvertisement')), 'ndp_router'],
    [
      'N15 redirect',
      '33330000000102000000000a86dd 6000000000283aff fe80000000000000000000000000000a ff020000000000000000000000000001' +
        '89004cc400000000fe80000000000000000000000000000b20010db8000000000000000000000005',
      'ndp_router',
    ],
    [
      'N16 in an atomic fragment',
      `${ASK} ${HEAD.replace('00203aff', '00282cff')} 3a00000001020304 ${BODY}`,
      'ndp_ignored',
    ],
    [
      'N16 behind hop-by-hop options',
      `${ASK} ${HEAD.replace('00203aff', '002800ff')} 3a00050200000100 ${BODY}`,
      'ndp_ignored',
    ],
    [
      'N16 in a later fragment: nobody can tell',
      `${ASK} ${HEAD.replace('00203aff', '00282cff')} 3a00000901020304 ${BODY}`,
      'tx_group',
    ],
    [
      'N16 extension headers without end',
      `${ASK} ${HEAD.replace('00203aff', '004800ff')} ${'0000050200000100'.repeat(9)}`,
      'ndp_malformed',
    ],
    [
      'N15 a router advertisement behind hop-by-hop options',
      '33330000000102000000000a86dd 60000000002000ff fe80000000000000000000000000000a' +
        'ff020000000000000000000000000001 3a00050200000100 8600320b400007080000000000000000010102000000000a',
      'ndp_router',
    ],
    [
      'multicast listener report',
      '33330000001602000000000a86dd 6000000000240001 fe80000000000000000000000000000a' +
        'ff020000000000000000000000000016 3a00050200000100' +
        '8f00000000000001 04000000ff0200000000000000000001ff00000a',
      'tx_group',
    ],
    ['N18 longer than the frame', `${ASK} ${HEAD.replace('00203aff', '00213aff')} ${BODY}`, 'ndp_malformed'],
    ['N18 shorter: padding is none of it', `${ASK} ${HEAD} ${BODY} a5a5a5`, REPLY],
    [
      'multicast DNS',
      '3333000000fb02000000000a86dd 60000000000811ff fe80000000000000000000000000000a ff0200000000000000000000000000fb' +
        '14e914e900080000',
      'tx_group',
    ],
    ['not IPv6 inside', `${ASK} ${HEAD.replace('60000000', '50000000')} ${BODY}`, 'ndp_malformed'],
    ['not IPv6 outside', `3333ff00000b02000000000a0800 ${HEAD} ${BODY}`, 'ndp_malformed'],
    [
      'from a multicast address',
      `${ASK} 6000000000203aff ff020000000000000000000000000001 ff0200000000000000000001ff00000b` +
        '870079fa00000000fe80000000000000000000000000000b010102000000000a',
      'ndp_malformed',
    ],
    [
      'from a v4-mapped address',
      `${ASK} 6000000000203aff 00000000000000000000ffff0a000001 ff0200000000000000000001ff00000b` +
        '87006efd00000000fe80000000000000000000000000000b010102000000000a',
      'ndp_malformed',
    ],
    [
      'to one address in a group frame',
      `${ASK} 6000000000203aff fe80000000000000000000000000000a fe80000000000000000000000000000b` +
        '870079f700000000fe80000000000000000000000000000b010102000000000a',
      REPLY,
    ],
    [
      'to one address, without the option that only a multicast one must have',
      `${ASK} 6000000000183aff fe80000000000000000000000000000a fe80000000000000000000000000000b` +
        '87007d0a00000000fe80000000000000000000000000000b',
      REPLY,
    ],
    [
      'for ::',
      `${ASK} ${HEAD} 870078ff0000000000000000000000000000000000000000010102000000000a`,
      'ndp_ignored',
    ],
    [
      'for ::1',
      `${ASK} ${HEAD} 870078fe0000000000000000000000000000000000000001010102000000000a`,
      'ndp_ignored',
    ],
    [
      'for ::ffff:10.0.0.2',
      `${ASK} ${HEAD} 87006efd0000000000000000000000000000ffff0a000002010102000000000a`,
      'ndp_malformed',
    ],
    [
      'from a group MAC',
      `3333ff00000b03000000000a86dd ${HEAD} 8700797300000000fe80000000000000000000000000000b010103000000000a`,
      'ndp_malformed',
    ],
  ]);

  const tagged = withTag(fromHex(`${ASK} ${HEAD} ${BODY}`), 100);
  const expected = toHex(withTag(fromHex(REPLY), 100));
  t.equal(await outcome('ndp', tagged), expected, 'a tagged one gets it with the same tag');
});

await t.test('DHCP', async (t) => {
  const discover = frame('dhcpDiscover');
  const patched = (changes: Readonly<Record<number, number>>, from = discover): Uint8Array => {
    const copy = Uint8Array.from(from);
    for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value;
    return copy;
  };
  const check = async (row: string, bytes: Uint8Array, expected: string): Promise<void> => {
    t.equal(await outcome('dhcp', bytes), expected, row);
  };
  await check('D1 client to server', discover, 'to 02:00:00:00:00:0b');
  await check('D1 tagged', withTag(discover, 100), 'to 02:00:00:00:00:0b');
  await check('D1 not IPv4', patched({ 12: 0x86, 13: 0xdd }), 'dhcp_malformed');
  await check('D1 not UDP', patched({ 23: 6 }), 'tx_group');
  await check('D1 from another port', patched({ 35: 69 }), 'tx_group');
  await check('D1 to another port', patched({ 37: 69 }), 'tx_group');
  await check('D1 server to server', patched({ 35: 67 }), 'tx_group');
  await check('D1 to a multicast MAC', patched({ 0: 0x01 }), 'tx_group');
  await check('D1 first fragment', patched({ 20: 0x20 }), 'tx_group');
  await check('D1 later fragment', patched({ 20: 0, 21: 1 }), 'tx_group');
  await check('D1 header cut off', discover.slice(0, 41), 'dhcp_malformed');
  await check('S8 IP longer than the frame', patched({ 16: 2 }), 'dhcp_malformed');
  await check('S8 UDP longer than IP', patched({ 38: 2 }), 'dhcp_malformed');
  await check('S8 UDP shorter than its header', patched({ 38: 0, 39: 7 }), 'dhcp_malformed');
  await check('D3 a client without a server', patched({ 11: 0x0c }), 'proxy_unknown');
  await check('D3 chaddr does not matter', patched({ 75: 0x0c }), 'to 02:00:00:00:00:0b');
  await check('from a group MAC', patched({ 6: 0x03 }), 'dhcp_malformed');
  await check('D6 bad cookie', patched({ 278: 0 }), 'to 02:00:00:00:00:0b');
  await check('D6 overloaded options', patched({ 282: 52, 283: 1, 284: 3 }), 'to 02:00:00:00:00:0b');
  await check(
    'D6 no DHCP message at all',
    udpFrame({
      sourceMac: '02:00:00:00:00:0a',
      source: '0.0.0.0',
      destination: '255.255.255.255',
      sourcePort: 68,
      destinationPort: 67,
      payload: new Uint8Array(0),
    }),
    'to 02:00:00:00:00:0b',
  );
  for (let words = 6; words <= 15; words++) {
    const options = (words - 5) * 4;
    const long = new Uint8Array(discover.length + options);
    long.set(discover.subarray(0, 34));
    long.fill(1, 34, 34 + options); // RFC 791 3.1: no operation
    long.set(discover.subarray(34), 34 + options);
    const total = discover.length + options - 14;
    const withOptions = patched({ 14: 0x40 | words, 16: total >> 8, 17: total & 0xff }, long);
    await check(`D7 ${words} words of IP header`, withOptions, 'to 02:00:00:00:00:0b');
  }

  const offerTo = (client: string, changes: Partial<dhcpv4.Repr> = {}): Uint8Array => {
    const zero = ipOf('0.0.0.0') as Ipv4Address;
    const message: dhcpv4.Repr = {
      operation: dhcpv4.REPLY,
      hops: 0,
      transactionId: 0x3903f326,
      secs: 0,
      wantsBroadcast: true,
      ciaddr: zero,
      yiaddr: ipOf('10.0.0.1') as Ipv4Address,
      siaddr: zero,
      giaddr: zero,
      clientMac: macOf(client),
      options: new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(2)]]),
      ...changes,
    };
    const payload = new Uint8Array(dhcpv4.byteLength(message));
    dhcpv4.write(message, payload, 0);
    return udpFrame({
      sourceMac: '02:00:00:00:00:0b',
      source: '10.0.0.2',
      destination: '255.255.255.255',
      sourcePort: 67,
      destinationPort: 68,
      payload,
    });
  };
  const offer = offerTo('02:00:00:00:00:0a');
  await check('D4 server to client', offer, 'to 02:00:00:00:00:0a');
  await check(
    'D4 the flag is not looked at',
    offerTo('02:00:00:00:00:0a', { wantsBroadcast: false }),
    'to 02:00:00:00:00:0a',
  );
  await check('D4 tagged', withTag(offer, 100), 'to 02:00:00:00:00:0a');
  await check('D4 to a group', offerTo('ff:ff:ff:ff:ff:ff'), 'dhcp_malformed');
  await check('D4 to nobody', offerTo('00:00:00:00:00:00'), 'dhcp_malformed');
  await check('D4 not Ethernet', patched({ 43: 6 }, offer), 'dhcp_malformed');
  await check('D4 chaddr of eight bytes', patched({ 44: 8 }, offer), 'dhcp_malformed');
  await check('D4 a request', offerTo('02:00:00:00:00:0a', { operation: dhcpv4.REQUEST }), 'dhcp_malformed');
  await check('D4 no room for chaddr', patched({ 38: 0, 39: 40 }, offer), 'dhcp_malformed');

  const known = facts();
  await proxy('dhcp', offer, known, () => undefined);
  t.same(known.asked, [], 'D4 nothing is asked');
});

await t.test('announcements', (t) => {
  t.equal(
    toHex(arpAnnouncement(ipOf('10.0.0.2') as Ipv4Address, B)),
    plain('ffffffffffff02000000000b0806 000108000604 0001 02000000000b0a000002 0000000000000a000002'),
    'RFC 5227 2.3',
  );
  t.equal(
    toHex(ndpAnnouncement(ipOf('fe80::b') as Ipv6Address, B)),
    plain(
      '33330000000102000000000b86dd 6000000000203aff fe80000000000000000000000000000b ff020000000000000000000000000001' +
        '8800577d20000000fe80000000000000000000000000000b020102000000000b',
    ),
    'RFC 4861 7.2.6',
  );
  t.same(announcement(ipOf('10.0.0.2'), C), arpAnnouncement(ipOf('10.0.0.2') as Ipv4Address, C), 'by family');
  t.same(announcement(ipOf('fe80::b'), C), ndpAnnouncement(ipOf('fe80::b') as Ipv6Address, C), 'by family');
  t.end();
});
