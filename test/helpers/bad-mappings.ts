// Mapping files that are no good, and all that is to be said about each: word for word, with line and column.

const A = '"2:0:0:0:0:1"';
/** What an entry must have. */
export const GOOD = '"ip": "10.0.0.1", "port": 4789';
/** A mapping with one entry that has these members. */
export const one = (members: string): string => `{${A}: {${members}}}`;
/** A line for each entry, behind a line with the brace; the MACs count from 2:0:0:0:1:0. */
const entries = (...members: string[]): string =>
  `{\n${members.map((text, index) => `"2:0:0:0:1:${index}": {${text}}`).join(',\n')}\n}`;

const MAC_EXPECTED = 'a MAC address, six groups of one or two hexadecimal digits';
const STATION_MAC = 'the MAC address of one station, not zero and not multicast';
const IP_EXPECTED = 'an IPv4 or IPv6 address';
const PEER =
  'the unicast address of a host, neither unspecified, 6to4, v4-compatible, v4-mapped nor IPv6 link-local';
const PORT = 'a whole number from 1 to 65535';
const STATION_V4 = 'the address of one station, neither unspecified, loopback, multicast nor broadcast';
const STATION_V6 =
  'the address of one station, neither unspecified, loopback, multicast, v4-compatible nor v4-mapped';
const ESCAPE = 'an escape of JSON: \\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX';
const IN_A = "$['2:0:0:0:0:1']";

/** A place, a path, what was found, what was expected. */
export type Said = [at: string, path: string, found: string, expected: string];

/** What it is, the text, and everything that is said about it. */
export const BAD_MAPPINGS: readonly [what: string, text: string | Uint8Array, ...said: [Said, ...Said[]]][] =
  [
    // Not JSON
    ['an empty file', '', ['1:1', '$', 'the end of the file', "'{'"]],
    ['white space alone', ' \n\t\n', ['3:1', '$', 'the end of the file', "'{'"]],
    ['a byte order mark', '\ufeff{}', ['1:1', '$', 'a byte order mark', "'{'"]],
    ['a list', '[]', ['1:1', '$', "'['", "'{'"]],
    ['a word', 'null', ['1:1', '$', 'null', "'{'"]],
    ['binary', '\0\0', ['1:1', '$', 'the byte 0x00', "'{'"]],
    ['no end', `{\n  ${A}: {${GOOD}}\n`, ['3:1', '$', 'the end of the file', "',' or '}'"]],
    ['no end of an entry', `{\n${A}: {${GOOD}\n`, ['3:1', IN_A, 'the end of the file', "',' or '}'"]],
    ['no end of a string', `{\n${A}: {"ip": "10.0`, ['2:23', IN_A, 'a string without end', "'\"'"]],
    ['no end of an escape', `{\n${A}: {"ip": "10\\`, ['2:26', IN_A, 'a string without end', "'\"'"]],
    ['a comma too many', `{\n${A}: {${GOOD}},\n}`, ['3:1', '$', "'}'", "a MAC address in '\"'"]],
    ['one in an entry', one('"port": 1,'), ['1:28', IN_A, "'}'", "the name of a member in '\"'"]],
    ['one in a list', one(`"arp": ["10.0.0.1",]`), ['1:37', IN_A, "']'", 'a JSON value']],
    ['a comma too few', `{${A}: {${GOOD}}\n${A}`, ['2:1', '$', "'\"'", "',' or '}'"]],
    ['no comma in an entry', one('"port": 1 "ip": ""'), ['1:28', IN_A, "'\"'", "',' or '}'"]],
    ['no colon', `{${A} {${GOOD}}}`, ['1:16', IN_A, "'{'", "':'"]],
    ['single quotes', `{'2:0:0:0:0:1': {}}`, ['1:2', '$', "'''", "a MAC address in '\"'"]],
    ['a bare name', one('ip: "10.0.0.1"'), ['1:18', IN_A, 'ip', "the name of a member in '\"'"]],
    ['a comment', '{ // mine\n}', ['1:3', '$', "'/'", "a MAC address in '\"'"]],
    ['text behind the end', `${one(GOOD)}\n{}`, ['2:1', '$', "'{'", 'the end of the file']],
    [
      'a line break in a string',
      one('"ip": "10.0\n.0.1"'),
      ['1:29', IN_A, 'the byte 0x0a', 'control characters in a string to be escaped'],
    ],
    ['an unknown escape', one('"ip": "10.0.0.\\x31"'), ['1:32', IN_A, '\\x', ESCAPE]],
    ['a short \\u', one('"ip": "\\u31"'), ['1:25', IN_A, '\\u31"}', ESCAPE]],
    ['NaN', one('"port": NaN'), ['1:26', IN_A, 'NaN', 'a JSON value']],
    ['a leading zero', one('"port": 04789'), ['1:26', IN_A, '04789', 'a JSON value']],
    ['a hexadecimal number', one('"port": 0x12b5'), ['1:26', IN_A, '0x12b5', 'a JSON value']],
    ['a plus', one('"port": +1'), ['1:26', IN_A, '+1', 'a JSON value']],
    [
      'too deep',
      one(`"x": ${'['.repeat(100_000)}`),
      ['1:88', IN_A, 'one level more', 'at most 64 levels of nesting'],
    ],
    [
      'too long an entry',
      one(`"x": "${'x'.repeat(1024 * 1024)}"`),
      ['1:23', IN_A, 'more than 1048576 bytes', 'an entry of at most that many'],
    ],
    [
      'not UTF-8',
      Buffer.concat([Buffer.from(`{"ä`), Buffer.of(0xc3, 0x28), Buffer.from('": 1}')]),
      ['1:4', '$', 'the byte 0xc3', 'text in UTF-8'],
    ],
    [
      'not UTF-8 outside a string',
      Buffer.of(0x7b, 0xff),
      ['1:2', '$', 'the byte 0xff', "a MAC address in '\"'"],
    ],

    // Not a mapping
    [
      'entries that are no objects',
      `{${A}: null, "2:0:0:0:0:2": [], "2:0:0:0:0:3": "x"}`,
      ['1:17', IN_A, 'null', 'an object'],
      ['1:38', "$['2:0:0:0:0:2']", 'a list', 'an object'],
      ['1:57', "$['2:0:0:0:0:3']", '"x"', 'an object'],
    ],
    ...[
      '2:0:0:0:0',
      '02-00-00-00-00-01',
      '2:0:0:0:0:100',
      '2:0:0:0:0:g',
      '',
      '020000000001',
      ' 2:0:0:0:0:1',
    ].map((key): [string, string, Said] => [
      `the MAC '${key}'`,
      `{"${key}": {${GOOD}}}`,
      ['1:2', `$['${key}']`, `"${key}"`, MAC_EXPECTED],
    ]),
    ...['__proto__', 'constructor', 'toString'].map((key): [string, string, Said] => [
      `the MAC '${key}'`,
      `{"${key}": {${GOOD}}}`,
      ['1:2', `$['${key}']`, `"${key}"`, MAC_EXPECTED],
    ]),
    ...['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '0:0:0:0:0:0'].map((key): [string, string, Said] => [
      `the MAC ${key}`,
      `{"${key}": {${GOOD}}}`,
      ['1:2', `$['${key}']`, `"${key}"`, STATION_MAC],
    ]),
    [
      'a MAC twice, in other spellings',
      `{\n  "2:0:0:0:A:1": {${GOOD}},\n  "02:00:00:00:0a:01": {${GOOD}},\n "\\u0032:0:0:0:a:1": {${GOOD}}\n}`,
      ['3:3', "$['02:00:00:00:0a:01']", '"02:00:00:00:0a:01" (already at 2:3)', 'every MAC address once'],
      ['4:2', "$['\\u0032:0:0:0:a:1']", '"\\u0032:0:0:0:a:1" (already at 2:3)', 'every MAC address once'],
    ],
    [
      '__proto__ as a member',
      one(`${GOOD}, "__proto__": {"port": 1}`),
      ['1:50', IN_A, '"__proto__"', 'a name that is not special to JavaScript'],
    ],
    [
      'prototype with an escape',
      one(`${GOOD}, "protot\\u0079pe": 1`),
      ['1:50', IN_A, '"protot\\u0079pe"', 'a name that is not special to JavaScript'],
    ],
    [
      'nothing in an entry',
      one(''),
      ['1:2', IN_A, "no member 'ip'", `${IP_EXPECTED} under that name`],
      ['1:2', IN_A, "no member 'port'", `${PORT} under that name`],
    ],
    ['no port', one('"ip": "10.0.0.1"'), ['1:2', IN_A, "no member 'port'", `${PORT} under that name`]],
    [
      'Port',
      one('"ip": "10.0.0.1", "Port": 1'),
      ['1:2', IN_A, "no member 'port'", `${PORT} under that name`],
    ],
    ['a member twice', one(`${GOOD}, "ip": "10.0.0.1"`), ['1:50', IN_A, '"ip"', 'every member once']],
    [
      'a reserved one twice',
      one(`${GOOD}, "vlan": 1, "vlan": 1`),
      ['1:61', IN_A, '"vlan" (already at 1:50)', 'every member once'],
    ],
    ...['"4789"', '0', '-1', '65536', '1e3', '4789.5', '4.789e3', '9'.repeat(20), 'true', 'null'].map(
      (port): [string, string, Said] => [
        `port ${port}`,
        one(`"ip": "10.0.0.1", "port": ${port}`),
        ['1:44', `${IN_A}['port']`, port, PORT],
      ],
    ),
    ['a list of ports', one('"ip": "10.0.0.1", "port": [1]'), ['1:44', `${IN_A}['port']`, 'a list', PORT]],
    ...[
      ...[
        '010.0.0.1',
        '0x7f.1',
        '1.2.3',
        '10.0.0.256',
        '10.0.0.1.',
        '10.0.0.1 ',
        '10.0.0.1/24',
        'localhost',
        '',
      ],
      ...['fe80::1%eth0', '1::2::3', '1:2:3:4:5:6:7', '12345::', '::1.2.3.04', '1:2:3:4:5:6:7:1.2.3.4'],
    ].map((text): [string, string, Said] => [
      `ip '${text}'`,
      one(`"ip": "${text}", "port": 1`),
      ['1:24', `${IN_A}['ip']`, `"${text}"`, IP_EXPECTED],
    ]),
    ...[
      ...['::ffff:10.0.0.1', '::10.0.0.1', '2002:a00:1::1', 'fe80::1', '::', '0.0.0.0', '255.255.255.255'],
      ...['239.1.1.1', 'ff02::1'],
    ].map((text): [string, string, Said] => [
      `ip ${text}`,
      one(`"ip": "${text}", "port": 1`),
      ['1:24', `${IN_A}['ip']`, `"${text}"`, PEER],
    ]),
    [
      'ip as a number',
      one('"ip": 167772161, "port": 1'),
      ['1:24', `${IN_A}['ip']`, '167772161', IP_EXPECTED],
    ],
    [
      'arp',
      entries(
        ...['"10.0.0.01"', '"fe80::1"', '"0.0.0.0"', '"127.0.0.1"', '"224.0.0.1"', '"255.255.255.255"'].map(
          (text) => `${GOOD}, "arp": ${text}`,
        ),
        `${GOOD}, "arp": 5`,
        `${GOOD}, "arp": ["10.0.0.1", 5, [], "x"]`,
      ),
      ['2:56', "$['2:0:0:0:1:0']['arp']", '"10.0.0.01"', 'an IPv4 address'],
      ['3:56', "$['2:0:0:0:1:1']['arp']", '"fe80::1"', 'an IPv4 address'],
      ['4:56', "$['2:0:0:0:1:2']['arp']", '"0.0.0.0"', STATION_V4],
      ['5:56', "$['2:0:0:0:1:3']['arp']", '"127.0.0.1"', STATION_V4],
      ['6:56', "$['2:0:0:0:1:4']['arp']", '"224.0.0.1"', STATION_V4],
      ['7:56', "$['2:0:0:0:1:5']['arp']", '"255.255.255.255"', STATION_V4],
      ['8:56', "$['2:0:0:0:1:6']['arp']", '5', 'an IPv4 address, or a list of them'],
      ['9:69', "$['2:0:0:0:1:7']['arp'][1]", '5', 'an IPv4 address'],
      ['9:72', "$['2:0:0:0:1:7']['arp'][2]", 'a list', 'an IPv4 address'],
      ['9:76', "$['2:0:0:0:1:7']['arp'][3]", '"x"', 'an IPv4 address'],
    ],
    [
      'ndp',
      entries(
        ...[
          '"10.0.0.1"',
          '"fe80::1/64"',
          '"::"',
          '"::1"',
          '"ff02::1"',
          '"::ffff:10.0.0.1"',
          '"fe80::1%2"',
        ].map((text) => `${GOOD}, "ndp": ${text}`),
        `${GOOD}, "ndp": null`,
        `${GOOD}, "ndp": ["fe80::1", "fe80:::"]`,
      ),
      ['2:56', "$['2:0:0:0:1:0']['ndp']", '"10.0.0.1"', 'an IPv6 address'],
      ['3:56', "$['2:0:0:0:1:1']['ndp']", '"fe80::1/64"', 'an IPv6 address'],
      ['4:56', "$['2:0:0:0:1:2']['ndp']", '"::"', STATION_V6],
      ['5:56', "$['2:0:0:0:1:3']['ndp']", '"::1"', STATION_V6],
      ['6:56', "$['2:0:0:0:1:4']['ndp']", '"ff02::1"', STATION_V6],
      ['7:56', "$['2:0:0:0:1:5']['ndp']", '"::ffff:10.0.0.1"', STATION_V6],
      ['8:56', "$['2:0:0:0:1:6']['ndp']", '"fe80::1%2"', 'an IPv6 address'],
      ['9:56', "$['2:0:0:0:1:7']['ndp']", 'null', 'an IPv6 address, or a list of them'],
      ['10:68', "$['2:0:0:0:1:8']['ndp'][1]", '"fe80:::"', 'an IPv6 address'],
    ],
    [
      'an arp address twice',
      entries(`${GOOD}, "arp": "10.0.0.1"`, `${GOOD}, "arp": ["10.0.0.2", "10.0.0.1", "10.0.0.2"]`),
      ['3:69', "$['2:0:0:0:1:1']['arp']", '"10.0.0.1" (already at 2:56)', 'every address once'],
      ['3:81', "$['2:0:0:0:1:1']['arp']", '"10.0.0.2" (already at 3:57)', 'every address once'],
    ],
    [
      'an ndp address twice, in other spellings',
      entries(`${GOOD}, "ndp": "fe80::a"`, `${GOOD}, "ndp": "FE80:0:0::000A"`),
      ['3:56', "$['2:0:0:0:1:1']['ndp']", '"FE80:0:0::000A" (already at 2:56)', 'every address once'],
    ],
    [
      'dhcp-proxy',
      entries(
        ...['"2:0:0:0:9:9"', '"ff:ff:ff:ff:ff:ff"', '"0:0:0:0:0:0"', '"10.0.0.1"', '5'].map(
          (text) => `${GOOD}, "dhcp-proxy": ${text}`,
        ),
      ),
      [
        '2:63',
        "$['2:0:0:0:1:0']['dhcp-proxy']",
        '"2:0:0:0:9:9"',
        'a MAC address that has an entry in this file',
      ],
      ['3:63', "$['2:0:0:0:1:1']['dhcp-proxy']", '"ff:ff:ff:ff:ff:ff"', STATION_MAC],
      ['4:63', "$['2:0:0:0:1:2']['dhcp-proxy']", '"0:0:0:0:0:0"', STATION_MAC],
      ['5:63', "$['2:0:0:0:1:3']['dhcp-proxy']", '"10.0.0.1"', MAC_EXPECTED],
      ['6:63', "$['2:0:0:0:1:4']['dhcp-proxy']", '5', MAC_EXPECTED],
    ],

    // Where, and how it is shown
    [
      'columns are characters',
      one(`${GOOD}, "größe": "ä€😀", "port": 1`),
      ['1:66', IN_A, '"port"', 'every member once'],
    ],
    ['Windows line ends', `{\r\n  ${A}: 1\r\n}`, ['2:18', IN_A, '1', 'an object']],
    [
      'what a terminal would obey',
      `{"\u202e\u2028": {${GOOD}}}`,
      ['1:2', "$['\\u202e\\u2028']", '"\\u202e\\u2028"', MAC_EXPECTED],
    ],
    [
      'what is long',
      `{"${'x'.repeat(100)}": {${GOOD}}}`,
      ['1:2', `$['${'x'.repeat(47)}...']`, `"${'x'.repeat(47)}...`, MAC_EXPECTED],
    ],
    [
      'all before the place where it ceases to be JSON',
      entries('"ip": "x", "port": 0', '"ip": 1, "port": 1', `${GOOD},`),
      ['2:23', "$['2:0:0:0:1:0']['ip']", '"x"', IP_EXPECTED],
      ['2:36', "$['2:0:0:0:1:0']['port']", '0', PORT],
      ['3:23', "$['2:0:0:0:1:1']['ip']", '1', IP_EXPECTED],
      ['4:48', "$['2:0:0:0:1:2']", "'}'", "the name of a member in '\"'"],
    ],
  ];
