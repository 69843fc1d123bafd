/**
 * config/hosts.schema.json beside the files plugin: both accept the same files, but for the rules that no schema can
 * say. Then the codes of check-mapping, its standard input, and its JSON for files that cannot be read.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import t from 'tap';
import files from '../../plugins/files/index.js';
import { MAX_FILE_BYTES } from '../../plugins/files/read.js';
import type { CheckReport } from '../../src/plugin/contract.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { BAD_MAPPINGS, GOOD, one } from '../helpers/bad-mappings.js';
import { textOf } from '../helpers/documents.js';
import { MAIN, run } from '../helpers/fake-control.js';
import { type Command, type Result, run as runProgram } from '../helpers/process.js';

const schema = JSON.parse(textOf('config/hosts.schema.json')) as object;
const conforms = new Ajv2020({ allErrors: true, strictTypes: false }).compile(schema);

async function* bytesOf(text: string | Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield await Promise.resolve(Buffer.from(text));
}

const check = (text: string | Uint8Array): Promise<CheckReport> => files.check!('x', bytesOf(text));
const codesOf = ({ errors }: CheckReport): string[] => [...new Set(errors.map(({ code }) => code ?? ''))];

const runWithInput = (command: Command, input: string): Promise<Result> => runProgram(command, { input });

/** A member beside an ip and a port. */
const also = (members: string): string => one(`${GOOD}, ${members}`);
const ip = (text: string): string => one(`"ip": "${text}", "port": 1`);
const port = (text: string): string => one(`"ip": "10.0.0.1", "port": ${text}`);
const mac = (text: string): string => `{"${text}": {${GOOD}}}`;

const ACCEPTED: readonly string[] = [
  '{}',
  one(GOOD),
  ...['02:00:00:00:00:01', '2:0:0:0:0:1', 'DE:AD:be:ef:0:1', '0:0:0:0:0:1', 'e:0:0:0:0:0'].map(mac),
  ...[
    '10.0.0.1',
    '127.0.0.1',
    '0.0.0.1',
    '169.254.1.1',
    '240.0.0.1',
    '255.255.255.254',
    '223.255.255.255',
  ].map(ip),
  ...[
    '2001:db8::1',
    '2001:DB8:0:0:0:0:0:1',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::0.0.0.1',
    'fd00::',
    '1:2:3:4:5:6:7:8',
  ].map(ip),
  ...[
    '64:ff9b::10.0.0.1',
    '1:2:3:4:5:6:1.2.3.4',
    '::1:0:0',
    '::ffff:0:0:0',
    'fec0::1',
    '2003::',
    'ff::1',
    '1::',
  ].map(ip),
  ...['1', '4789', '65535'].map(port),
  ...['"10.0.0.1"', '[]', '["10.0.0.1"]', '["10.0.0.1", "169.254.0.1"]', '"240.0.0.1"'].map((text) =>
    also(`"arp": ${text}`),
  ),
  ...['"fe80::1"', '"2002::1"', '[]', '["fe80::1", "2001:db8::"]', '"::1:0:0"', '"1:2:3:4:5:6:7::"'].map(
    (text) => also(`"ndp": ${text}`),
  ),
  `{"2:0:0:0:0:1": {${GOOD}, "dhcp-proxy": "02:0:0:0:0:2"}, "2:0:0:0:0:2": {${GOOD}}}`,
  also('"vlan": [1, {"a": null}]'),
  also('"proto": 1'),
];

const REFUSED: readonly string[] = [
  '[]',
  'null',
  '"x"',
  one(''),
  one('"ip": "10.0.0.1"'),
  one('"port": 1'),
  ...[
    '1:0:0:0:0:1',
    '0:0:0:0:0:0',
    '00:00:00:00:00:00',
    'ff:ff:ff:ff:ff:ff',
    '2:0:0:0:0',
    '2:0:0:0:0:0:0',
    '02-0-0-0-0-1',
    '2:0:0:0:0:100',
    '__proto__',
  ].map(mac),
  ...[
    '',
    '10.0.0',
    '010.0.0.1',
    '10.0.0.256',
    '10.0.0.1 ',
    '1.2.3.4.5',
    '0.0.0.0',
    '224.0.0.1',
    '239.255.255.255',
    '255.255.255.255',
  ].map(ip),
  ...[
    '::',
    '0:0:0:0:0:0:0:0',
    '0::0',
    '::0.0.0.0',
    '::ffff:10.0.0.1',
    '0:0:0:0:0:FFFF:a00:1',
    '::FFFF:1:2',
    '::10.0.0.1',
    '::2',
    '0:0::a:b',
  ].map(ip),
  ...[
    '2002::1',
    'fe80::1',
    'FEBF::1',
    'ff02::1',
    'FF00::',
    'fe80::1%eth0',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
  ].map(ip),
  ...[
    ':::',
    ':1',
    '1:',
    '::1.2.3',
    '1:2:3:4:5:6:7:1.2.3.4',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:8::',
    'g::',
  ].map(ip),
  ...['0', '65536', '-1', '"4789"', '4789.5', 'null', '[1]', '1e9'].map(port),
  ...[
    '5',
    '"10.0.0"',
    '"0.1.2.3"',
    '"127.0.0.1"',
    '"224.0.0.1"',
    '"255.255.255.255"',
    '"fe80::1"',
    '[5]',
    '["10.0.0.1", "10.0.0.1"]',
    '{}',
    '[[]]',
  ].map((text) => also(`"arp": ${text}`)),
  ...[
    '5',
    '"10.0.0.1"',
    '"::"',
    '"::1"',
    '"::ffff:1.2.3.4"',
    '"::5"',
    '"ff02::1"',
    '["::1"]',
    '["fe80::1", "fe80::1"]',
    'true',
  ].map((text) => also(`"ndp": ${text}`)),
  ...['5', '"x"', '"1:0:0:0:0:1"', '"0:0:0:0:0:0"', '["2:0:0:0:0:1"]'].map((text) =>
    also(`"dhcp-proxy": ${text}`),
  ),
  ...['__proto__', 'constructor', 'prototype'].map((name) => also(`"${name}": 1`)),
];

await t.test('both accept, and both refuse', async (t) => {
  t.ok(ACCEPTED.length + REFUSED.length > 100);
  for (const [isGood, texts] of [
    [true, ACCEPTED],
    [false, REFUSED],
  ] as const)
    for (const text of texts) {
      const byPlugin = (await check(text)).errorCount === 0;
      t.same([conforms(JSON.parse(text)), byPlugin], [isGood, isGood], text);
    }
});

/** Rules that a schema cannot say. */
const UNSAID = ['MAC_TWICE', 'ADDRESS_TWICE', 'MEMBER_TWICE', 'NO_ENTRY'];
const WHOLE = /"port": (?:1e3|4\.789e3|\d+\.0+)/;

await t.test('every bad mapping that is JSON', async (t) => {
  let compared = 0;
  for (const [what, text] of BAD_MAPPINGS) {
    const codes = codesOf(await check(text));
    if (codes.includes('NOT_JSON') && !isJson(text)) continue;
    if (codes.every((code) => UNSAID.includes(code)) || WHOLE.test(String(text))) continue;
    if (typeof text === 'string' && text.length > 10_000) continue;
    compared++;
    t.notOk(conforms(JSON.parse(String(text))), what);
  }
  t.ok(compared > 50);
});

function isJson(text: string | Uint8Array): boolean {
  try {
    JSON.parse(Buffer.from(text).toString());
    return true;
  } catch {
    return false;
  }
}

await t.test('addresses in any spelling', async (t) => {
  const hex = fc
    .array(fc.constantFrom(...Array.from('0123456789abcdefABCDEF')), { minLength: 1, maxLength: 4 })
    .map((digits) => digits.join(''));
  const group = fc.oneof(
    fc.constantFrom('0', '00', '0000', 'ffff', 'FFFF', '1', 'fe80', '2002', 'ff02'),
    hex,
  );
  const quad = fc.oneof(
    fc.ipV4(),
    fc.constantFrom('0.0.0.0', '0.0.0.1', '127.0.0.1', '255.255.255.255', '01.2.3.4'),
  );
  const parts = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: group },
      { weight: 1, arbitrary: fc.constant('') },
      { weight: 1, arbitrary: quad },
    ),
    { minLength: 1, maxLength: 9 },
  );
  const address = fc.oneof(
    quad,
    fc.ipV6(),
    parts.map((list) => list.join(':')),
  );
  await fc.assert(
    fc.asyncProperty(address, fc.constantFrom('ip', 'arp', 'ndp'), async (text, member) => {
      const value = member === 'ip' ? ip(text) : also(`"${member}": "${text}"`);
      const byPlugin = (await check(value)).errorCount === 0;
      if (conforms(JSON.parse(value)) !== byPlugin)
        throw new Error(`${member} ${text}: the plugin says ${byPlugin}`);
    }),
    { numRuns: 5000 },
  );
  t.pass('5,000 addresses');
});

await t.test('each code, and its place in the documentation', async (t) => {
  const page = textOf('plugins/files/README.md');
  const found = new Set<string>();
  for (const [, text] of BAD_MAPPINGS) for (const code of codesOf(await check(text))) found.add(code);
  const { warnings } = await check(also('"vlan": 1'));
  t.match(warnings, [{ code: 'RESERVED_MEMBER' }]);
  t.same([...found].sort(), [
    ...['ADDRESS_TWICE', 'BAD_ARP', 'BAD_IP', 'BAD_MAC', 'BAD_NAME', 'BAD_NDP', 'BAD_PORT'],
    ...['MAC_TWICE', 'MEMBER_TWICE', 'MISSING_MEMBER', 'NOT_JSON', 'NOT_OBJECT', 'NO_ENTRY'],
  ]);
  for (const code of [...found, 'RESERVED_MEMBER']) t.ok(page.includes(`\`${code}\``), code);
});

await t.test('standard input', async (t) => {
  const good = await runWithInput([process.execPath, MAIN, 'check-mapping', '-'], one(GOOD));
  t.match(good, { code: 0, stdout: '<stdin> is good: 1 entry\n', stderr: '' });
  const bad = await runWithInput([process.execPath, MAIN, 'check-mapping', '-', '--json'], port('0'));
  t.equal(bad.code, EXIT.NO);
  t.match(JSON.parse(bad.stdout), {
    v: 1,
    file: '-',
    good: false,
    unreadable: null,
    errors: [{ line: 1, column: 44, code: 'BAD_PORT', path: "$['2:0:0:0:0:1']['port']", found: '0' }],
    errorCount: 1,
  });
  t.match(JSON.parse(bad.stderr), { error: { reason: 'NO', status: 10, message: '<stdin> has 1 error' } });
  t.match(await runWithInput([process.execPath, MAIN, 'check-mapping', '-'], ''), {
    code: EXIT.NO,
    stdout: "<stdin>:1:1: error: $: found the end of the file, expected '{'\n",
  });
  const directory = await runWithInput(
    ['sh', '-c', `'${process.execPath}' '${MAIN}' check-mapping - --json </`],
    '',
  );
  t.notOk((JSON.parse(directory.stdout) as { good: boolean }).good);
  t.match(JSON.parse(directory.stdout), { unreadable: { message: /^cannot read <stdin>: .*EISDIR/ } });
  async function* endless(): AsyncGenerator<Uint8Array, void> {
    for (;;) yield await Promise.resolve(new Uint8Array(1 << 24));
  }
  await t.rejects(files.check!('x', endless()), {
    message: new RegExp(`^x has more than ${MAX_FILE_BYTES} bytes`),
  });
});

await t.test('JSON about a file that cannot be read', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-schema-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const inside = path.join(directory, 'inside');
  mkdirSync(inside);
  for (const [file, reason, status] of [
    [path.join(directory, 'none.json'), 'NOT_FOUND', EXIT.NOT_FOUND],
    [inside, 'INVALID', EXIT.REFUSED],
  ] as const) {
    const { status: ended, out, err } = await run(undefined, 'check-mapping', '--json', file);
    t.equal(ended, status);
    t.match(JSON.parse(out), { v: 1, file, good: false, unreadable: { reason }, errors: [], errorCount: 0 });
    t.match(JSON.parse(err), {
      error: {
        reason,
        status,
        message: (JSON.parse(out) as { unreadable: { message: string } }).unreadable.message,
      },
    });
  }
  const good = path.join(directory, 'hosts.json');
  writeFileSync(good, textOf('config/hosts.json'));
  const { status, out } = await run(undefined, 'check-mapping', good, '--json');
  t.match(
    { status, ...(JSON.parse(out) as object) },
    { status: 0, good: true, unreadable: null, summary: /entries$/ },
  );
});
