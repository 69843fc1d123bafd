// Proxy ARP and DHCP: every row of tables 1c and 1e of conformance.md, frames and replies byte by byte.
// The checksums come from another program.

import t from 'tap';
import { arpAnnouncement } from '../../src/core/proxy/proxy-arp.js';
import { ndpAnnouncement } from '../../src/core/proxy/proxy-ndp.js';
import { announcement, proxy } from '../../src/daemon/plugins/proxy.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address, Ipv6Address } from '../../src/wire/ip.js';
import { ipOf, macOf, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { frame, fromHex } from '../vectors/frames.js';
import { B, C, facts, outcome, plain, checkRows } from '../helpers/proxy-rows.js';

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
