// Entries of a mapping out of a store, one by one: what a mapping file would take, and what it would refuse.
import t from 'tap';
import { EntryError, parseEntries, parseEntry } from '../../src/plugin/index.js';
import { MAX_ENTRY_BYTES } from '../../src/plugin/mapping/entry.js';
import { errorLines } from '../helpers/mapping.js';

const entry = (text: string) => parseEntry(Buffer.from(text));
const entries = (text: string) => parseEntries(Buffer.from(text));

t.test('an entry with all members, in every spelling', (t) => {
  t.strictSame(
    entry(`{"ip": "10.88.88.69", "port": 4789, "arp": "10.55.55.2", "ndp": ["FE80:0::3", "2001:DB8:0:0:1:0:0:1"],
      "dhcp-proxy": "2:0:0:0:0:1", "note": [1, {"a": null}]}`),
    {
      to: { ip: '10.88.88.69', port: 4789 },
      arp: ['10.55.55.2'],
      ndp: ['fe80::3', '2001:db8::1:0:0:1'],
      dhcpServer: 0x02_00_00_00_00_01,
    },
  );
  t.strictSame(entry('{"port":1,"ip":"FD00::0001","arp":[]}'), {
    to: { ip: 'fd00::1', port: 1 },
    arp: [],
    ndp: [],
  });
  const inside = Buffer.from('xx{"ip":"10.0.0.1","port":1}');
  t.strictSame(parseEntry(inside.subarray(2)).to, { ip: '10.0.0.1', port: 1 }, 'a part of a larger buffer');
  t.end();
});

const BAD: readonly (readonly [text: string, message: string])[] = [
  ['', 'at 1:1: found the end of the file, expected a JSON value'],
  ['{"ip": "10.0.0.1", "port": 4789', "at 1:32: found the end of the file, expected ',' or '}'"],
  ['{"ip": "10.0.0.1", "port": 4789} x', 'at 1:34: found a number or a word, expected the end of the file'],
  ['[]', 'at 1:1: found a list, expected an object'],
  ['null', 'at 1:1: found a number or a word, expected an object'],
  [
    '{"ip": "10.0.0.1"}',
    "at 1:1: found no member 'port', expected a whole number from 1 to 65535 under that name",
  ],
  [
    '{"ip": "10.0.0.1",\n"port": "4789"}',
    'port at 2:9: found a string, expected a whole number from 1 to 65535',
  ],
  [
    '{"ip": "10.0.0.1", "port": 1, "arp": ["10.0.0.2", "10.0.0.300"]}',
    'arp[1] at 1:51: found a string, expected an IPv4 address',
  ],
  [
    '{"ip": "224.0.0.1", "port": 0}',
    'ip at 1:8: found a string, expected the unicast address of a host, neither unspecified, 6to4, v4-compatible, ' +
      'v4-mapped nor IPv6 link-local (and 1 more)',
  ],
  ['{"ip":"10.0.0.1","port":1,"port":2}', 'at 1:27: found a string, expected every member once'],
  [
    '{"ip":"10.0.0.1","port":1,"dhcp-proxy":"ff:ff:ff:ff:ff:ff"}',
    'dhcp-proxy at 1:40: found a string, expected the MAC address of one station, not zero and not multicast',
  ],
  [
    '{"ip":"10.0.0.1","port":1,"__proto__":{}}',
    'at 1:27: found a string, expected a name that is not special to JavaScript',
  ],
];

t.test('a bad entry is refused with its place, and is not quoted', (t) => {
  for (const [text, message] of BAD) t.throws(() => entry(text), new EntryError(message), text);
  const secret =
    '{"ip": "hunter2", "port": "hunter2", "hunter2": 1, "arp": "hunter2", "dhcp-proxy": "hunter2"}';
  try {
    entry(secret);
    t.fail('accepted');
  } catch (error) {
    t.notMatch((error as Error).message, /hunter2/);
  }
  t.throws(() => parseEntry(Buffer.alloc(MAX_ENTRY_BYTES + 1, ' ')), {
    message: 'found 1048577 bytes, expected at most 1048576',
  });
  t.end();
});

t.test('a mapping file refuses the same', (t) => {
  for (const [text] of BAD.slice(2)) t.not(errorLines(`{"de:ad:be:ef:00:00": ${text}}`).length, 0, text);
  t.end();
});

t.test('an object of entries: sets, removals, and one that is refused alone', (t) => {
  const { changes, refused } = entries(`{
    "de:ad:be:ef:00:00": {"ip": "10.0.0.1", "port": 4789},
    "de:ad:be:ef:00:01": null,
    "de:ad:be:ef:00:02": {"ip": "10.0.0.1", "port": 4789, "arp": "poison"},
    "01:00:5e:00:00:01": {"ip": "10.0.0.1", "port": 4789},
    "de:ad:be:ef:00:03": true,
    "de:ad:be:ef:00:04": {"ip": "10.0.0.2", "port": 4790, "arp": "10.0.0.3"}
  }`);
  t.strictSame(changes, [
    { mac: 0xdeadbeef0000, entry: { to: { ip: '10.0.0.1', port: 4789 }, arp: [], ndp: [] } },
    { mac: 0xdeadbeef0001, entry: null },
    { mac: 0xdeadbeef0004, entry: { to: { ip: '10.0.0.2', port: 4790 }, arp: ['10.0.0.3'], ndp: [] } },
  ]);
  t.strictSame(refused, [
    { mac: 0xdeadbeef0002, message: 'arp at 4:66: found a string, expected an IPv4 address' },
    {
      mac: undefined,
      message: 'at 5:5: found a string, expected the MAC address of one station, not zero and not multicast',
    },
    { mac: 0xdeadbeef0003, message: 'at 6:26: found a number or a word, expected an object' },
  ]);
  t.strictSame(entries('{}'), { changes: [], refused: [] });
  t.throws(
    () => entries('{"de:ad:be:ef:00:00": {}'),
    EntryError,
    'bytes that are not JSON have no good part',
  );
  t.throws(() => entries('{} {}'), EntryError);
  t.end();
});
