// Proxy NDP: every row of table 1d of conformance.md, frames and replies byte by byte.
// The checksums come from another program.

import t from 'tap';
import { toHex, withTag } from '../helpers/frames.js';
import { frame, fromHex } from '../vectors/frames.js';
import { outcome, checkRows } from '../helpers/proxy-rows.js';

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
