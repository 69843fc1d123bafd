/** Mappings of the files plugin: what one may say, and what is said about a bad one. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';

import { KeyIndex, NONE } from '../../plugins/files/key-index.js';
import { parseIp } from '../../src/plugin/index.js';
import { BAD_MAPPINGS, GOOD, one } from '../helpers/bad-mappings.js';
import { errorLines, parse } from '../helpers/mapping.js';

const ARTICLE = fileURLToPath(new URL('../../../config/hosts.json', import.meta.url));
const ip = (text: string) => parseIp(text)!;

// -- What a mapping may say

await t.test('the file of the article, as printed', (t) => {
  const { mapping, errors, warnings } = parse(readFileSync(ARTICLE));
  t.same([errors, warnings], [[], []]);
  t.equal(mapping!.size, 3);
  t.same(mapping!.destinationOf(0xdeadbeef0001), { ip: '10.88.88.70', port: 4789 });
  t.equal(mapping!.destinationOf(0xdeadbeef0003), undefined);
  t.equal(mapping!.neighbor(ip('10.55.55.4')), 0xdeadbeef0002);
  t.equal(mapping!.neighbor(ip('fe80::3')), 0xdeadbeef0000);
  t.equal(mapping!.neighbor(ip('10.55.55.1')), undefined);
  t.equal(mapping!.neighbor(ip('fe80::')), undefined);
  t.equal(mapping!.dhcpServer(0xdeadbeef0001), 0xdeadbeef0000);
  t.equal(mapping!.dhcpServer(0xdeadbeef0000), undefined);
  t.equal(mapping!.dhcpServer(0xdeadbeef0009), undefined);
  t.same(mapping!.peers(), ['10.88.88.69', '10.88.88.70', '10.88.88.71']);
  t.end();
});

await t.test('all that is allowed', (t) => {
  const { mapping, errors, warnings } = parse(`\r\n\t{
    "0:1:2:3:4:F": {"port": 1, "ip": "2001:DB8::0:1", "dhcp-proxy": "00:01:02:03:04:0f"},
    "\\u0030\\u0032:0:0:0:0:0": {"\\u0069p": "10.0.0\\u002e1", "port": 65535, "arp": [], "ndp": []},
    "02:00:00:00:00:01": {"ip": "10.0.0.1", "port": 65535, "arp": ["10.1.0.1", "240.0.0.1", "169.254.0.1"],
      "ndp": ["fe80::1", "2001:db8::10.0.0.1", "FD00:0:0:0:0:0:0:1"], "vlan": {"a": [1, -0.5e+3, null, ""]}}
  }  \n`);
  t.same(errors, []);
  t.match(warnings, [
    { line: 6, column: 71, path: "$['02:00:00:00:00:01']", found: /^"vlan", which is res/ },
  ]);
  t.same(mapping!.destinationOf(0x00010203040f), { ip: '2001:db8::1', port: 1 });
  t.equal(mapping!.dhcpServer(0x00010203040f), 0x00010203040f);
  t.same(mapping!.destinationOf(0x020000000000), { ip: '10.0.0.1', port: 65535 });
  for (const text of ['10.1.0.1', '240.0.0.1', '169.254.0.1', 'fe80::1', '2001:db8::a00:1', 'fd00::1'])
    t.equal(mapping!.neighbor(ip(text)), 0x020000000001, text);
  t.same(mapping!.destinations.length, 2, 'each destination once');
  t.equal(parse('{}').mapping!.size, 0, 'an empty mapping is one');
  t.end();
});

// -- What is said about a bad one

await t.test(`${BAD_MAPPINGS.length} bad mappings`, (t) => {
  t.ok(BAD_MAPPINGS.length >= 40);
  for (const [what, text, ...said] of BAD_MAPPINGS) {
    const wanted = said.map(
      ([at, where, found, expected]) => `${at} ${where}: found ${found}, expected ${expected}`,
    );
    t.same(errorLines(text), wanted, what);
    t.equal(parse(text).mapping, undefined, what);
  }
  t.end();
});

await t.test('the first hundred are kept, all are counted', (t) => {
  const keys = Array.from({ length: 1000 }, (_, index) => `"${index}": {"ip": "10.0.0.1", "port": 1}`);
  const { errors, errorCount } = parse(`{${keys.join(',\n')}}`);
  t.same([errors.length, errorCount, errors.at(-1)?.line], [100, 1000, 100]);
  const many = Array.from({ length: 300 }, (_, index) => `"x${index}": 1`).join();
  const { mapping, warnings, warningCount } = parse(one(`${GOOD}, ${many}`));
  t.same([mapping?.size, warnings.length, warningCount], [1, 100, 300]);
  t.end();
});

await t.test('a table finds its keys after a few steps, however many there are', (t) => {
  for (const rows of [0, 1, 10, 200_000]) {
    const keys = Uint32Array.from({ length: 2 * rows }, (_, at) => (at % 2 === 0 ? 0x0200 : at >> 1));
    const index = new KeyIndex(keys, 2);
    let wrong = 0;
    for (let row = 0; row < rows; row++) if (index.add(row) !== NONE) wrong++;
    for (let row = 0; row < rows; row++) if (index.find(keys, 2 * row) !== row) wrong++;
    t.equal(wrong, 0);
    t.equal(index.find(Uint32Array.of(0x0201, 0)), NONE);
    t.ok(index.longestSearch < 100, `${index.longestSearch} steps among ${rows}`);
  }
  t.end();
});
