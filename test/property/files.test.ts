/** Laws of plugins/files: whatever a mapping holds is answered, and no bytes make it fail in any but its own way. */
import fc from 'fast-check';
import t from 'tap';

import {
  isStationV6,
  macNumber,
  readMac,
  readV4,
  readV6,
  v4Text,
  v6Text,
} from '../../src/plugin/mapping/addresses.js';
import { compare } from '../../plugins/files/difference.js';
import type { Mapping } from '../../plugins/files/mapping.js';
import { atOnce } from '../../plugins/files/slices.js';
import {
  formatMac,
  type IpAddress,
  isMulticastIp,
  isMulticastMac,
  isUnspecified,
  parseIp,
  parseMac,
} from '../../src/plugin/index.js';
import { holds } from '../helpers/law.js';
import { isJson, isSound, parse } from '../helpers/mapping.js';

// -- Addresses

const octet = fc.nat(255);
const quads = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join('.'));
/** What is nearly an address: right characters in odd numbers. */
const nearlyV4 = fc.array(fc.constantFrom('0', '1', '25', '255', '256', '.', '.', '.', '00', ' ', 'a'), {
  maxLength: 9,
});
const nearlyV6 = fc.array(
  fc.constantFrom(
    '0',
    '1',
    'f',
    'FFFF',
    'db8',
    '12345',
    ':',
    ':',
    ':',
    '::',
    '1.2.3.4',
    '%',
    '.',
    'g',
    '01.2.3.4',
  ),
  { maxLength: 17 },
);
const nearlyMac = fc.array(
  fc.constantFrom('0', '1', 'f', 'FF', 'aa', '100', ':', ':', ':', ':', '-', 'g', ' '),
  {
    maxLength: 12,
  },
);
const joined = (parts: fc.Arbitrary<string[]>): fc.Arbitrary<string> => parts.map((list) => list.join(''));

await t.test('addresses are read as varpd/plugin reads them', (t) => {
  const words = new Uint32Array(4);
  const v4Agrees = (text: string): boolean => {
    const address = readV4(Buffer.from(text), 0, Buffer.byteLength(text));
    const ip = text.includes(':') ? undefined : parseIp(text);
    return address < 0 ? ip === undefined : ip === v4Text(address);
  };
  const v6Agrees = (text: string): boolean => {
    const isAddress = readV6(Buffer.from(text), 0, Buffer.byteLength(text), words);
    const ip = text.includes(':') ? parseIp(text) : undefined;
    if (!isAddress || ip === undefined) return !isAddress && ip === undefined;
    // An IPv4 address inside has a spelling of its own, and no station has it as an IPv6 address.
    return isStationV6(words) ? ip === v6Text(words, 0) : ip === parseIp(v6Text(words, 0));
  };
  const macAgrees = (text: string): boolean => {
    const isAddress = readMac(Buffer.from(text), 0, Buffer.byteLength(text), words);
    return parseMac(text) === (isAddress ? macNumber(words, 0) : undefined);
  };
  holds(t, 'IPv4', [quads], v4Agrees);
  holds(t, 'nearly IPv4', [joined(nearlyV4)], v4Agrees, { numRuns: 3000 });
  holds(t, 'IPv6', [fc.ipV6()], v6Agrees, { numRuns: 2000 });
  holds(t, 'nearly IPv6', [joined(nearlyV6)], v6Agrees, { numRuns: 5000 });
  holds(t, 'MAC', [fc.nat(0xffff_ffff_ffff)], (mac) => macAgrees(formatMac(mac)));
  holds(t, 'nearly a MAC', [joined(nearlyMac)], macAgrees, { numRuns: 5000 });
  holds(
    t,
    'any text',
    [fc.string({ unit: 'binary', maxLength: 20 })],
    (text) => v4Agrees(text) && v6Agrees(text) && macAgrees(text),
  );
  t.end();
});

// -- Mappings

interface Row {
  readonly mac: number;
  readonly ip: IpAddress;
  readonly port: number;
  readonly arp: readonly IpAddress[];
  readonly ndp: readonly IpAddress[];
  readonly server: number | undefined;
  /** How it is written. */
  readonly isUpper: boolean;
  readonly isLoose: boolean;
}

const macs = fc.nat(0xffff_ffff_ffff).filter((mac) => mac !== 0 && !isMulticastMac(mac));
const stationsV4 = quads
  .map((text) => parseIp(text)!)
  .filter((ip) => !isMulticastIp(ip) && !/^(?:0|127)\.|^255\.255\.255\.255$/.test(ip));
const stationsV6 = fc
  .ipV6()
  .map((text) => parseIp(text))
  .filter((ip): ip is IpAddress => ip !== undefined && ip.includes(':') && !isMulticastIp(ip))
  .filter((ip) => !isUnspecified(ip) && !/^::[0-9a-f]+(?::[0-9a-f]+)?$/.test(ip));
const peers = fc.nat(255).map((last) => parseIp(`192.0.2.${last}`)!);
const rowLists = fc
  .uniqueArray(
    fc.record({
      mac: macs,
      ip: peers,
      port: fc.integer({ min: 1, max: 65535 }),
      arp: fc.array(stationsV4, { maxLength: 3 }),
      ndp: fc.array(stationsV6, { maxLength: 3 }),
      server: fc.nat(20),
      isUpper: fc.boolean(),
      isLoose: fc.boolean(),
    }),
    { selector: ({ mac }) => mac, maxLength: 20 },
  )
  .map((rows): Row[] => {
    const used = new Set<IpAddress>();
    const fresh = (ip: IpAddress): boolean => !used.has(ip) && used.add(ip).size > 0;
    return rows.map((row) => ({
      ...row,
      arp: row.arp.filter(fresh),
      ndp: row.ndp.filter(fresh),
      server: rows[row.server]?.mac,
    }));
  });

function macText({ isUpper, isLoose }: Row, mac: number): string {
  const text = isLoose ? formatMac(mac).replace(/\b0/g, '') : formatMac(mac);
  return isUpper ? text.toUpperCase() : text;
}

function textOf(rows: readonly Row[]): string {
  const whole = rows.map((row): [string, unknown] => [
    macText(row, row.mac),
    {
      ...(row.arp.length > 0 && { arp: row.arp.length === 1 && row.isLoose ? row.arp[0] : row.arp }),
      port: row.port,
      ...(row.server !== undefined && { 'dhcp-proxy': macText(row, row.server) }),
      ip: row.ip,
      ndp: row.isUpper ? row.ndp.map((ip) => ip.toUpperCase()) : row.ndp,
    },
  ]);
  return JSON.stringify(Object.fromEntries(whole), undefined, rows.length % 3);
}

function answers(mapping: Mapping, rows: readonly Row[]): boolean {
  return rows.every(({ mac, ip, port, arp, ndp, server }) => {
    const to = mapping.destinationOf(mac);
    const isOwner = (address: IpAddress): boolean => mapping.neighbor(address) === mac;
    return (
      to?.ip === ip &&
      to.port === port &&
      arp.every(isOwner) &&
      ndp.every(isOwner) &&
      mapping.dhcpServer(mac) === server
    );
  });
}

await t.test('a mapping answers what its file says', (t) => {
  holds(t, 'round trip', [rowLists], (rows) => {
    const { mapping, errorCount, warningCount } = parse(textOf(rows));
    return errorCount + warningCount === 0 && mapping?.size === rows.length && answers(mapping, rows);
  });
  holds(t, 'and nothing else', [rowLists, macs, stationsV4, stationsV6], (rows, mac, v4, v6) => {
    const mapping = parse(textOf(rows)).mapping!;
    const owner = (ip: IpAddress): number | undefined =>
      rows.find(({ arp, ndp }) => arp.includes(ip) || ndp.includes(ip))?.mac;
    const isKnown = rows.some((row) => row.mac === mac);
    return (
      (mapping.destinationOf(mac) !== undefined) === isKnown &&
      mapping.neighbor(v4) === owner(v4) &&
      mapping.neighbor(v6) === owner(v6)
    );
  });
  t.end();
});

await t.test('a difference is the difference', (t) => {
  holds(t, 'of the same', [rowLists], (rows) => {
    const [old, fresh] = [parse(textOf(rows)).mapping!, parse(textOf([...rows].reverse())).mapping!];
    const { added, removed, changed, stale, moves } = atOnce(compare(old, fresh));
    return added + removed + changed + stale.length + moves.length === 0;
  });
  holds(t, 'of two', [rowLists, rowLists, fc.nat(20)], (left, right, shared) => {
    // Without a share of the same MACs and addresses, two random mappings would have nothing in common.
    const common = left.slice(0, shared).filter(({ mac }) => right.every((row) => row.mac !== mac));
    const mine = new Set(right.flatMap(({ arp, ndp }) => [...arp, ...ndp]));
    const kept = common.map((row, index) => ({
      ...row,
      arp: row.arp.filter((ip) => !mine.has(ip)),
      ndp: row.ndp.filter((ip) => !mine.has(ip)),
      port: index % 2 === 0 ? row.port : (row.port % 65535) + 1,
    }));
    const rows = [...right, ...kept];
    const known = rows.map((row) => ({
      ...row,
      server: rows.some(({ mac }) => mac === row.server) ? row.server : undefined,
    }));
    const [old, fresh] = [parse(textOf(left)).mapping!, parse(textOf(known)).mapping!];
    const { added, removed, changed, stale, moves } = atOnce(compare(old, fresh));
    const isSame = (mac: number): boolean =>
      JSON.stringify(old.destinationOf(mac)) === JSON.stringify(fresh.destinationOf(mac));
    const all = [...new Set([...left, ...known].map(({ mac }) => mac))];
    const wantedStale = all.filter((mac) => !isSame(mac));
    const wantedMoves = known.flatMap(({ mac, arp, ndp }) =>
      [...arp, ...ndp].filter((ip) => ![undefined, mac].includes(old.neighbor(ip))),
    );
    return (
      added === known.filter(({ mac }) => old.destinationOf(mac) === undefined).length &&
      removed === left.filter(({ mac }) => fresh.destinationOf(mac) === undefined).length &&
      changed <= known.length - added &&
      [...stale].sort().join() === wantedStale.sort().join() &&
      moves
        .map(({ ip }) => ip)
        .sort()
        .join() === wantedMoves.sort().join()
    );
  });
  t.end();
});

// -- Any bytes

await t.test('no bytes are too much', (t) => {
  const mutations = fc.array(fc.tuple(fc.nat(), fc.nat(3), fc.nat(255)), { minLength: 1, maxLength: 4 });
  holds(
    t,
    'mutated mappings',
    [rowLists, mutations],
    (rows, changes) => {
      const bytes = [...Buffer.from(textOf(rows))];
      for (const [at, how, byte] of changes) {
        const place = at % bytes.length;
        if (how === 0) bytes.splice(place, 1);
        else if (how === 1) bytes.splice(place, 0, byte);
        else if (how === 2) bytes[place] = byte;
        else bytes.splice(place);
        if (bytes.length === 0) break;
      }
      const mutated = Uint8Array.from(bytes);
      return isSound(mutated) && (isJson(mutated) || parse(mutated).mapping === undefined);
    },
    { numRuns: 2000 },
  );
  const pieces = fc.constantFrom(
    ...[
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"',
      '\\',
      '\\u',
      '0',
      '-',
      '1e5',
      'true',
      ' ',
      '\n',
      'ip',
      'port',
      '"ip"',
      '"port"',
    ],
    ...[
      '"2:0:0:0:0:1"',
      '"10.0.0.1"',
      '4789',
      '"arp"',
      '"ndp"',
      '"dhcp-proxy"',
      '"fe80::1"',
      '"__proto__"',
      'é',
      '😀',
      '\0',
    ],
  );
  holds(t, 'soup', [joined(fc.array(pieces, { maxLength: 40 }))], (text) => isSound(Buffer.from(text)), {
    numRuns: 5000,
  });
  holds(t, 'bytes', [fc.uint8Array({ maxLength: 60 })], isSound, { numRuns: 2000 });
  t.end();
});
