/**
 * dladm from its arguments to its output, against a daemon that answers from a script over a real Unix socket.
 *
 * Most cases call the function `dladm` in this process; the main paths run the program itself.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

import { type Option, UsageError } from '../../src/cli/command.js';
import { dladm } from '../../src/cli/dladm.js';
import { getopt } from '../../src/cli/getopt.js';
import { type Column, formatParsable, formatTable } from '../../src/cli/table.js';
import { type ClientOptions, ConnectionError, ControlError, createClient } from '../../src/control/client.js';
import { encodeMessage, MessageReader } from '../../src/control/framing.js';
import {
  DEFAULT_SOCKET,
  type LinkPropertyRow,
  MAX_REQUEST_BYTES,
  type OverlayInfo,
  type PropertyRow,
  type TargetRow,
  type VnicInfo,
} from '../../src/control/messages.js';
import { checkName } from '../../src/model/names.js';
import { type Result, run as runProgram } from '../helpers/process.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const directory = mkdtempSync(path.join(tmpdir(), 'varpd-cli-'));
const servers: Server[] = [];
t.teardown(() => {
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true, force: true });
});

// -- A daemon that does as it is told

type Answer = (params: Record<string, unknown>) => unknown;

interface FakeDaemon {
  readonly socket: string;
  readonly requests: { method: string; params: Record<string, unknown> }[];
}

async function listen(onConnection: (socket: Socket) => void): Promise<string> {
  const socketPath = path.join(directory, `${servers.length}.sock`);
  const server = createServer(onConnection);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return socketPath;
}

/** What is not in `answers` is answered with null. */
async function fakeDaemon(answers: Readonly<Record<string, Answer>> = {}): Promise<FakeDaemon> {
  const requests: FakeDaemon['requests'] = [];
  const answerTo = (value: unknown): unknown => {
    const { id, method, params } = value as FakeDaemon['requests'][number] & { id: number };
    requests.push({ method, params });
    try {
      return { jsonrpc: '2.0', id, result: method in answers ? answers[method](params) : null };
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      const { code, status, details, message } = error;
      return { jsonrpc: '2.0', id, error: { code: -32000, message, data: { code, status, details } } };
    }
  };
  const socket = await listen((connection) => {
    const reader = new MessageReader(MAX_REQUEST_BYTES, {
      message: (value) => connection.write(encodeMessage(answerTo(value))),
      problem: () => connection.destroy(),
    });
    connection.on('data', (chunk) => {
      reader.push(chunk);
    });
    connection.on('error', () => undefined);
  });
  return { socket, requests };
}

function refuse(code: string, status: string, message: string, details: string[] = []): Answer {
  return () => {
    throw new ControlError(message, { code, status, details });
  };
}

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

async function run(socket: string | undefined, ...argv: string[]): Promise<Outcome> {
  let out = '';
  let err = '';
  const status = await dladm(argv, {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    env: { VARPD_SOCKET: socket },
  });
  return { status, out, err };
}

function runMain(socket: string | undefined, ...argv: string[]): Promise<Result> {
  const env = socket === undefined ? {} : { VARPD_SOCKET: socket };
  return runProgram([process.execPath, MAIN, ...argv], { env });
}

const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');
const lines = (...texts: string[]): string => texts.map((text) => `${text}\n`).join('');

// -- Options

const OPTIONS: readonly Option[] = [
  { name: 'temporary', short: 't', about: '' },
  { name: 'vnetid', short: 'v', value: 'id', about: '' },
  { name: 'prop', short: 'p', value: 'p', repeatable: true, about: '' },
  { name: 'parsable', alias: 'parseable', about: '' },
];

await t.test('options come first, as POSIX has them', (t) => {
  const parsed = (line: string): unknown[] => {
    const args = getopt(OPTIONS, words(line));
    return [args.has('temporary'), args.value('vnetid'), args.values('prop'), args.operands, args.stray];
  };
  t.same(parsed(''), [false, undefined, [], [], undefined]);
  t.same(parsed('-v 23 a0'), [false, '23', [], ['a0'], undefined]);
  t.same(parsed('-v23 a0'), [false, '23', [], ['a0'], undefined]);
  t.same(parsed('-tv 23 a0 b0'), [true, '23', [], ['a0', 'b0'], undefined]);
  t.same(parsed('-tv23'), [true, '23', [], [], undefined]);
  t.same(parsed('-vt'), [false, 't', [], [], undefined]);
  t.same(parsed('-v -t'), [false, '-t', [], [], undefined], 'what follows is the argument, whatever it is');
  t.same(parsed('-p a=1 -pb=2 --prop=c=3 --prop d=4'), [
    false,
    undefined,
    ['a=1', 'b=2', 'c=3', 'd=4'],
    [],
    undefined,
  ]);
  t.same(parsed('--vnetid= -t'), [true, '', [], [], undefined]);
  t.same(parsed('-t -- -v 23'), [true, undefined, [], ['-v', '23'], undefined]);
  t.same(parsed('-t a0 -v 23'), [true, undefined, [], ['a0', '-v', '23'], '-v']);
  t.same(parsed('- -t'), [false, undefined, [], ['-', '-t'], '-t'], 'a single - is an operand');
  t.ok(getopt(OPTIONS, ['--parseable']).has('parsable'));

  const wrong = (line: string, message: string): void => {
    t.throws(() => getopt(OPTIONS, words(line)), new UsageError(message), line);
  };
  wrong('-v', 'option requires an argument -v');
  wrong('-tv', 'option requires an argument -v');
  wrong('--vnetid', 'option requires an argument --vnetid');
  wrong('-x', "unrecognized option '-x'");
  wrong('-tx', "unrecognized option '-x'");
  wrong('-\u{1f600}', "unrecognized option '-\u{1f600}'");
  wrong('--vnet 1', "unrecognized option '--vnet'");
  wrong('--nothing=1', "unrecognized option '--nothing'");
  wrong('--temporary=yes', 'option takes no argument --temporary');
  wrong('-v 1 -v 2', 'the option -v cannot be specified more than once');
  wrong('-t --temporary', 'the option --temporary cannot be specified more than once');
  t.end();
});

await t.test('names of links', (t) => {
  const good = ['overlay0', 'demo0', 'a4294967294', 'a_b.c10', 'A0', 'x1y2', 'abcdefghijklmn0', 'a.0'];
  for (const name of good) t.equal(checkName(name), undefined, name);
  const bad = ['overlay', 'demo01', 'a00', '0', '0a1', '_a0', '.a0', 'a-0', 'é0', 'a4294967295', '0x1'];
  for (const name of [...bad, '', 'a 0', 'a0\n']) t.equal(checkName(name), 'invalid', JSON.stringify(name));
  t.equal(checkName('abcdefghijklmno0'), 'too long', 'Linux has room for 15 characters');
  t.end();
});

// -- What is said about a command line; nothing of it may reach a daemon

const CREATE = 'create-overlay -e vxlan -s direct -v 23';
const LONG = 'x'.repeat(32);
const LONG_LIST = `a/b=${'x'.repeat(2044)}`;

const USAGE: Readonly<Record<string, string>> = {
  'create-overlay': '[-t] -e encap -s search -v vnetid [-p prop=value[,...]] overlay',
  'delete-overlay': '[-t] overlay',
  'modify-overlay': '-d mac | -f | -s mac=ip:port overlay',
  'show-overlay': '[-f | -t] [[-p] -o field,... | --json] [overlay...]',
  'up-overlay': '[overlay]',
  'create-vnic': '[-t] -l overlay [-m mac] [-v vid] [-p prop=value[,...]] vnic',
  'delete-vnic': '[-t] vnic',
  'show-vnic': '[-l overlay] [[-p] -o field,... | --json] [vnic...]',
  'set-linkprop': '[-t] -p prop=value[,...] vnic',
  'reset-linkprop': '[-t] [-p prop[,...]] vnic',
  'show-linkprop': '[-P] [[-c] -o field,... | --json] [-p prop[,...]] [vnic...]',
  'check-mapping': '[--json] file',
  reload: '',
};

/** Command line => message. +usage: followed by the usage line of the command. */
const REFUSED = `
create-overlay -v abc o0 => couldn't parse virtual network id: abc
create-overlay -v -1 o0 => couldn't parse virtual network id: -1
create-overlay -v 0x10 o0 => couldn't parse virtual network id: 0x10
create-overlay -v 16777216 o0 => virtual network id too large: 16777216
create-overlay -v 99999999999999999999999 o0 => virtual network id too large: 99999999999999999999999
create-overlay -p ${LONG_LIST} o0 => property list too long '${LONG_LIST}'
create-overlay o0 => missing required virtual network id +usage
create-overlay -v 1 o0 => missing required encapsulation plugin +usage
create-overlay -v 1 -e vxlan o0 => missing required search plugin +usage
${CREATE} => missing device name +usage
${CREATE} o0 p0 => missing device name: expected one, got: o0 p0 +usage
${CREATE} abcdefghijklmno0 => link name too long 'abcdefghijklmno0'
${CREATE} demo01 => invalid link name 'demo01'
create-overlay -e ${LONG} -s ${LONG} -v 1 o0 => encapsulation plugin name too long '${LONG}'
create-overlay -e vxlan -s ${LONG} -v 1 o0 => search plugin name too long '${LONG}'
${CREATE} -p mtu o0 => invalid overlay property
${CREATE} -p =1 o0 => invalid overlay property
${CREATE} -p mtu= o0 => invalid overlay property
${CREATE} -p mtu=1400, o0 => invalid overlay property
${CREATE} -p a/b=1,2 o0 => invalid overlay property
${CREATE} -x o0 => unrecognized option '-x' +usage
create-overlay -v => option requires an argument -v +usage
${CREATE} o0 -t => option '-t' must come before 'o0' +usage
delete-overlay => missing overlay name +usage
delete-overlay o0 p0 => expected one overlay name, got: o0 p0 +usage
modify-overlay o0 => need to specify one of -d, -f, or -s +usage
modify-overlay -f -d 0:1:2:3:4:5 o0 => only one of -d, -f, or -s may be used +usage
modify-overlay -f -f o0 => the option -f cannot be specified more than once +usage
modify-overlay -d 0:1:2:3:4 o0 => invalid mac address: 0:1:2:3:4
modify-overlay -d 0:1:2:3:4:100 -f o0 => invalid mac address: 0:1:2:3:4:100
modify-overlay -s x=10.0.0.1:4789 o0 => invalid mac address: x
modify-overlay -s 0:1:2:3:4:5 o0 => malformed value, expected mac=dest, got: 0:1:2:3:4:5
modify-overlay -f => missing required overlay device +usage
modify-overlay -f o0 p0 => only one overlay device may be specified +usage
show-overlay -f -t => only one of -f or -t may be used +usage
show-overlay -p => output fields must be specified in parsable mode +usage
show-overlay -p -o All => output field 'all' invalid in parsable mode +usage
show-overlay -p -o link,x,y => unknown output fields: 'x' 'y'
show-overlay -t -p -o property => unknown output field: 'property'
show-overlay -o , => no valid output fields
show-overlay --json -o link => --json and --output may not be used together +usage
show-overlay o0 --json => option '--json' must come before 'o0' +usage
show-overlay --socket => option requires an argument --socket +usage
show-overlay --socket= => option requires an argument --socket +usage
up-overlay o0 p0 => expected at most one overlay name, got: o0 p0 +usage
create-vnic foo0 => missing required overlay: -l overlay +usage
create-vnic -l o0 => missing vnic name +usage
create-vnic -l o0 foo => invalid link name 'foo'
create-vnic -l o0 -m 2:0:0:0:0 foo0 => invalid mac address: 2:0:0:0:0
create-vnic -l o0 -v 0 foo0 => invalid VLAN identifier '0'; valid range: 1 - 4094
create-vnic -l o0 -v 4095 foo0 => invalid VLAN identifier '4095'; valid range: 1 - 4094
create-vnic -l o0 -v 1x foo0 => invalid VLAN identifier '1x'; valid range: 1 - 4094
delete-vnic => missing vnic name +usage
show-vnic -p => output fields must be specified in parsable mode +usage
set-linkprop foo0 => link property must be specified: -p prop=value +usage
set-linkprop -p protection=restricted => missing vnic name +usage
set-linkprop -p protection foo0 => invalid link property
set-linkprop -p protection= foo0 => invalid link property
set-linkprop -p =restricted foo0 => invalid link property
set-linkprop -p restricted,protection=mac-nospoof foo0 => invalid link property
set-linkprop -p protection=mac-nospoof,,ip-nospoof foo0 => invalid link property
create-vnic -l o0 -p protection foo0 => invalid link property
reset-linkprop => missing vnic name +usage
show-linkprop -c => output fields must be specified in parsable mode +usage
show-linkprop --json -o value => --json and --output may not be used together +usage
check-mapping => missing file +usage
check-mapping a b => expected one file, got: a b +usage
check-mapping /nonexistent/hosts.json => /nonexistent/hosts.json is not there
reload overlay0 => expected no operand, got: overlay0 +usage
`;

await t.test('command lines that are refused before anything is asked', async (t) => {
  const { socket, requests } = await fakeDaemon();
  for (const [, line, message, usage] of REFUSED.matchAll(/^(.*?) => (.*?)( \+usage)?$/gm)) {
    const { status, out, err } = await run(socket, ...words(line));
    t.same({ status, out }, { status: 1, out: '' }, line);
    const printed = err.trimEnd().split('\n');
    const command = words(line)[0];
    if (usage) t.equal(printed.pop(), `usage: dladm ${command} ${USAGE[command]}`.trimEnd(), line);
    t.equal(printed.at(-1), `dladm: ${message}`, line);
    t.same([...new Set(printed.map((text) => text.slice(0, 7)))], ['dladm: '], line);
  }
  t.same(requests, []);
});

await t.test('a reason stands before a message that says too little', async (t) => {
  const { err } = await run(undefined, ...words(`${CREATE} demo01`));
  t.equal(
    err,
    lines(
      "dladm: a name has at most 15 letters, digits, '_' and '.', starts with a letter " +
        'and ends in a number from 0 to 4294967294 without leading zeros',
      "dladm: invalid link name 'demo01'",
    ),
  );
  const property = await run(undefined, ...words(`${CREATE} -p mtu=1400,x o0`));
  t.equal(property.err, lines('dladm: expected prop=value, got: x', 'dladm: invalid overlay property'));
});

// -- What is asked

const ASKED: [line: string, method: string, params: Record<string, unknown>][] = [
  [
    `${CREATE} -p vxlan/listen_ip=10.0.0.1,mtu=1400 -t -p files/config=/a=b o0`,
    'overlay.create',
    {
      name: 'o0',
      encap: 'vxlan',
      search: 'direct',
      vnetid: 23,
      temporary: true,
      properties: [
        ['vxlan/listen_ip', '10.0.0.1'],
        ['mtu', '1400'],
        ['files/config', '/a=b'],
      ],
    },
  ],
  [
    'create-overlay --vnetid=16777215 --encap vxlan --search files o0',
    'overlay.create',
    { name: 'o0', encap: 'vxlan', search: 'files', vnetid: 16777215, temporary: false, properties: [] },
  ],
  ['delete-overlay no-name', 'overlay.delete', { name: 'no-name', temporary: false }],
  ['delete-overlay -t o0', 'overlay.delete', { name: 'o0', temporary: true }],
  ['modify-overlay -f o0', 'overlay.flushTargets', { name: 'o0' }],
  ['modify-overlay -d 0:1:2:3:4:F o0', 'overlay.deleteTarget', { name: 'o0', mac: '00:01:02:03:04:0f' }],
  [
    'modify-overlay -s de:ad:be:ef:0:1=10.0.0.1:4789 o0',
    'overlay.setTarget',
    { name: 'o0', mac: 'de:ad:be:ef:00:01', destination: '10.0.0.1:4789' },
  ],
  [
    'modify-overlay --set-entry de:ad:be:ef:0:1=[2001:DB8:0::1]:4789 o0',
    'overlay.setTarget',
    { name: 'o0', mac: 'de:ad:be:ef:00:01', destination: '[2001:db8::1]:4789' },
  ],
  [
    'modify-overlay -s de:ad:be:ef:0:1=DROP o0',
    'overlay.setTarget',
    { name: 'o0', mac: 'de:ad:be:ef:00:01', destination: 'drop' },
  ],
  ['up-overlay', 'overlay.up', {}],
  ['reload', 'daemon.reload', {}],
  ['up-overlay o0', 'overlay.up', { name: 'o0' }],
  ['create-vnic -l demo0 foo0', 'vnic.create', { name: 'foo0', over: 'demo0', temporary: false }],
  [
    'create-vnic -tm DE:AD:BE:EF:0:0 --link demo0 -v 4094 foo0',
    'vnic.create',
    { name: 'foo0', over: 'demo0', mac: 'de:ad:be:ef:00:00', vid: 4094, temporary: true },
  ],
  [
    'create-vnic -l demo0 -p protection=mac-nospoof,restricted -p allowed-ips=10.0.0.1 foo0',
    'vnic.create',
    {
      name: 'foo0',
      over: 'demo0',
      properties: [
        ['protection', ['mac-nospoof', 'restricted']],
        ['allowed-ips', ['10.0.0.1']],
      ],
      temporary: false,
    },
  ],
  [
    'set-linkprop -t -p protection=mac-nospoof,ip-nospoof,allowed-ips=10.0.0.0/8,fd00::1 foo0',
    'linkprop.set',
    {
      name: 'foo0',
      temporary: true,
      properties: [
        ['protection', ['mac-nospoof', 'ip-nospoof']],
        ['allowed-ips', ['10.0.0.0/8', 'fd00::1']],
      ],
    },
  ],
  ['reset-linkprop foo0', 'linkprop.reset', { name: 'foo0', temporary: false }],
  [
    'reset-linkprop --temporary -p protection,allowed-ips foo0',
    'linkprop.reset',
    { name: 'foo0', temporary: true, properties: ['protection', 'allowed-ips'] },
  ],
  ['delete-vnic --temporary foo0', 'vnic.delete', { name: 'foo0', temporary: true }],
];

const NONE_MISSING: Readonly<Record<string, Answer>> = {
  'overlay.list': () => ({ overlays: [], missing: [] }),
  'overlay.up': () => ({ failures: [] }),
  'daemon.reload': () => ({ failures: [] }),
};

await t.test('what is asked of the daemon; success prints nothing', async (t) => {
  for (const [line, method, params] of ASKED) {
    const { socket, requests } = await fakeDaemon(NONE_MISSING);
    t.same(await run(socket, ...words(line)), { status: 0, out: '', err: '' }, line);
    t.same(requests.at(-1), { method, params }, line);
  }
});

await t.test('which daemon is asked', async (t) => {
  const [first, second, third] = await Promise.all([fakeDaemon(), fakeDaemon(), fakeDaemon()]);
  await run(third.socket, 'delete-vnic', 'a0');
  await run(third.socket, '--socket', second.socket, 'delete-vnic', 'b0');
  await run(third.socket, '--socket', second.socket, 'delete-vnic', `--socket=${first.socket}`, 'c0');
  const asked = [first, second, third].map(({ requests }) => requests.map(({ params }) => params['name']));
  t.same(asked, [['c0'], ['b0'], ['a0']]);
  const unset = await run('', 'delete-vnic', 'a0');
  t.match(unset.err, `varpd at ${DEFAULT_SOCKET}`, 'an empty variable is none');
});

// -- What the daemon refuses

const IS_BUSY = refuse('BUSY', 'link busy', 'o0 has VNICs over it: foo0');
const NOT_FOUND = refuse('NOT_FOUND', 'object not found', 'o0: object not found');
const UNSUPPORTED = refuse('UNSUPPORTED', 'operation not supported', 'operation not supported');
const MAC = 'de:ad:be:ef:0:1';
const REFUSALS: [line: string, answers: Record<string, Answer>, ...printed: string[]][] = [
  [
    `${CREATE} o0`,
    {
      'overlay.create': refuse('INVALID', 'invalid argument', 'the direct plugin did not start', [
        'unset required property: direct/dest_ip',
        'unset required property: direct/dest_port',
      ]),
    },
    'unset required property: direct/dest_ip',
    'unset required property: direct/dest_port',
    'the direct plugin did not start',
    'overlay creation failed: invalid argument',
  ],
  [
    `${CREATE} o0`,
    { 'overlay.create': refuse('EXISTS', 'object already exists', 'o0: object already exists') },
    'o0: object already exists',
    'overlay creation failed: object already exists',
  ],
  [
    `${CREATE} o0`,
    { 'overlay.create': refuse('INVALID', 'invalid argument', 'a \x1b[31mred\n word', []) },
    'a \\x1b[31mred\\x0a word',
    'overlay creation failed: invalid argument',
  ],
  ['delete-overlay o0', { 'overlay.delete': NOT_FOUND }, 'failed to delete o0: object not found'],
  [
    'delete-overlay o0',
    { 'overlay.delete': IS_BUSY },
    'o0 has VNICs over it: foo0',
    'failed to delete o0: link busy',
  ],
  [
    'modify-overlay -f o0',
    { 'overlay.flushTargets': UNSUPPORTED },
    'failed to flush target cache for overlay o0: operation not supported',
  ],
  [
    `modify-overlay -d ${MAC} o0`,
    { 'overlay.deleteTarget': refuse('NOT_FOUND', 'object not found', 'object not found') },
    `failed to flush target ${MAC} from overlay target cache o0: object not found`,
  ],
  [
    `modify-overlay -s ${MAC}=drop o0`,
    { 'overlay.setTarget': UNSUPPORTED },
    `failed to set target ${MAC} for overlay target cache o0: operation not supported`,
  ],
  ...['10.0.0.1', '10.0.0.1:0', '10.0.0.1:65536', '2001:db8::1:4789', ''].map(
    (destination): [string, Record<string, Answer>, string, string] => [
      `modify-overlay -s ${MAC}=${destination} o0`,
      {},
      `'${destination}' is no destination: expected ip:port, [ipv6]:port or drop, the port from 1 to 65535`,
      `failed to set target ${MAC} for overlay target cache o0: invalid argument`,
    ],
  ),
  [
    'modify-overlay -f o0',
    { 'overlay.list': () => ({ overlays: [], missing: [{ name: 'o0', message: 'o0: object not found' }] }) },
    'failed to find overlay o0: object not found',
  ],
  ['up-overlay o0', { 'overlay.up': NOT_FOUND }, "could not bring up overlay 'o0': object not found"],
  ['up-overlay', { 'overlay.up': UNSUPPORTED }, 'could not bring overlays up: operation not supported'],
  [
    'up-overlay',
    {
      'overlay.up': () => ({
        failures: [
          { name: 'o0', message: 'no such address' },
          { name: 'o1', message: 'x' },
        ],
      }),
    },
    "could not bring up overlay 'o0': no such address",
    "could not bring up overlay 'o1': x",
  ],
  [
    'reload',
    { 'daemon.reload': () => ({ failures: [{ name: 'o0', message: 'not reloaded: /h.json:1:2: $: x' }] }) },
    'o0: not reloaded: /h.json:1:2: $: x',
    'reload failed: not everything was taken',
  ],
  ['create-vnic -l o0 foo0', { 'vnic.create': NOT_FOUND }, 'vnic creation over o0 failed: object not found'],
  [
    'delete-vnic foo0',
    { 'vnic.delete': refuse('NOT_FOUND', 'object not found', 'foo0: object not found') },
    'failed to delete foo0: object not found',
  ],
  [
    'show-overlay',
    { 'overlay.list': refuse('DENIED', 'permission denied', 'permission denied') },
    'failed to get info for overlays: permission denied',
  ],
];

await t.test('what the daemon refuses', async (t) => {
  for (const [line, answers, ...printed] of REFUSALS) {
    const { socket } = await fakeDaemon({ ...NONE_MISSING, ...answers });
    const expected = { status: 1, out: '', err: lines(...printed.map((text) => `dladm: ${text}`)) };
    t.same(await run(socket, ...words(line)), expected, line);
  }
});

// -- Tables

function property(
  name: string,
  permission: PropertyRow['permission'],
  value: string | null,
  more: Partial<PropertyRow> = {},
): PropertyRow {
  return { property: name, permission, required: false, value, default: null, possible: null, ...more };
}

function overlay(
  name: string,
  properties: readonly PropertyRow[],
  more: Partial<OverlayInfo> = {},
): OverlayInfo {
  const health = { status: 'ONLINE', details: null } as const;
  const underlay = { state: 'up', losses: 0, changedAt: '2026-11-23T12:00:00.000Z' } as const;
  const offloads = ['checksum', 'tso'];
  return {
    name,
    temporary: false,
    mode: 'point',
    properties,
    health,
    underlay,
    offloads,
    counters: {},
    ...more,
  };
}

const required = { required: true };
const port = { required: true, possible: '1-65535' };
const DEMO = overlay('demo0', [
  property('mtu', 'rw', '0'),
  property('vnetid', 'rw', '23'),
  property('encap', 'r-', 'vxlan', { possible: 'vxlan' }),
  property('varpd/id', 'r-', '1'),
  property('vxlan/listen_ip', 'rw', '10.88.88.69', required),
  property('vxlan/listen_port', 'rw', '4789', { ...port, default: '4789' }),
  property('direct/dest_ip', 'rw', '10.88.88.70', required),
  property('direct/dest_port', 'rw', '4789', port),
]);

/** As printed in "illumos Overlay Networks Development Preview 01", July 2014. */
const ARTICLE = `\
LINK         PROPERTY            PERM REQ VALUE       DEFAULT     POSSIBLE
demo0        mtu                 rw   -   0           --          --
demo0        vnetid              rw   -   23          --          --
demo0        encap               r-   -   vxlan       --          vxlan
demo0        varpd/id            r-   -   1           --          --
demo0        vxlan/listen_ip     rw   y   10.88.88.69 --          --
demo0        vxlan/listen_port   rw   y   4789        4789        1-65535
demo0        direct/dest_ip      rw   y   10.88.88.70 --          --
demo0        direct/dest_port    rw   y   4789        --          1-65535
`;

const ARTICLE_VALUES = lines(
  'VALUE       LINK',
  ...['0', '23', 'vxlan', '1', '10.88.88.69', '4789', '10.88.88.70', '4789'].map(
    (value) => `${value.padEnd(12)}demo0`,
  ),
);

const listing =
  (...overlays: OverlayInfo[]): Answer =>
  (params) => {
    const names = (params['names'] as string[] | undefined) ?? overlays.map(({ name }) => name);
    const missing = names.filter((name) => overlays.every((one) => one.name !== name));
    return {
      overlays: overlays.filter(({ name }) => names.includes(name)),
      missing: missing.map((name) => ({
        name,
        message: name.startsWith('foo') ? `${name} is not an overlay` : `${name}: object not found`,
      })),
    };
  };

const NO_TARGETS: Readonly<Record<string, Answer>> = { 'overlay.targets': () => ({ rows: [], next: null }) };

const FILES = overlay(
  'overlay0',
  [
    property('vxlan/listen_ip', 'rw', 'fd00:1234:5678:9abc:def0:1234:5678:9abc', required),
    property('vnetid', 'rw', null),
    property('search', 'r-', 'files', { possible: 'direct,files,svp,plugin-of-mine' }),
    property('files/config', 'rw', '/etc/a:b\\c.json'),
  ],
  {
    mode: 'dynamic',
    health: { status: 'DEGRADED', details: 'files: /etc/hosts.json, line 3, column 5: expected a comma' },
    offloads: [],
    counters: { tx_frames: 2 ** 53 - 1, tx_segmentation_refused: 3 },
  },
);

await t.test('show-overlay', async (t) => {
  const { socket, requests } = await fakeDaemon({ 'overlay.list': listing(DEMO, FILES) });
  const shows = async (line: string, out: string, t: Test): Promise<void> => {
    t.same(await run(socket, ...words(`show-overlay ${line}`)), { status: 0, out, err: '' }, line);
  };
  await t.test('the table of the article', (t) => shows('demo0', ARTICLE, t));

  await t.test('a column grows for an address and wraps a list', (t) =>
    shows(
      'overlay0',
      lines(
        'LINK         PROPERTY            PERM REQ VALUE                                   DEFAULT     POSSIBLE',
        'overlay0     vxlan/listen_ip     rw   y   fd00:1234:5678:9abc:def0:1234:5678:9abc --          --',
        'overlay0     vnetid              rw   -   --                                      --          --',
        'overlay0     search              r-   -   files                                   --          direct,files,',
        '                                                                                              svp,',
        '                                                                                              plugin-of-mine',
        'overlay0     files/config        rw   -   /etc/a:b\\c.json                         --          --',
      ),
      t,
    ),
  );

  await t.test("columns of one's choice", async (t) => {
    await shows('-o value,Link demo0', ARTICLE_VALUES, t);
    const odd = await run(socket, 'show-overlay', '-o', 'property,x', 'demo0');
    t.equal(odd.err, "dladm: ignoring unknown output field: 'x'\n");
    t.equal(odd.status, 0);
    t.match(odd.out, /^PROPERTY\nmtu\n/);
    await shows('-o all demo0', ARTICLE, t);
  });

  await t.test('parsable: no header, escapes only when there are several fields', async (t) => {
    await shows(
      '-p -o value overlay0',
      'fd00:1234:5678:9abc:def0:1234:5678:9abc\n--\nfiles\n/etc/a:b\\c.json\n',
      t,
    );
    await shows(
      '-po link,value overlay0',
      lines(
        'overlay0:fd00\\:1234\\:5678\\:9abc\\:def0\\:1234\\:5678\\:9abc',
        'overlay0:--',
        'overlay0:files',
        'overlay0:/etc/a\\:b\\\\c.json',
      ),
      t,
    );
  });

  await t.test('health', async (t) => {
    const sentence = FILES.health.details!;
    await shows(
      '-f',
      lines(
        'LINK                STATUS   DETAILS',
        'demo0               ONLINE   -',
        `overlay0            DEGRADED ${sentence}`,
      ),
      t,
    );
    await shows('-f -p -o details overlay0', `${sentence}\n`, t);
  });

  await t.test('offloads, and what was refused', async (t) => {
    const table = lines(
      'LINK                OFFLOADS                    REFUSED',
      'demo0               checksum,tso                0',
      'overlay0            --                          3',
    );
    await shows('-f -o link,offloads,refused', table, t);
    await shows('-o link,offloads,refused', table, t);
    await shows('-p -o offloads demo0', 'checksum,tso\n', t);
    const mixed = await run(socket, 'show-overlay', '-p', '-o', 'property,offloads');
    t.equal(mixed.status, 1, 'properties and health are not in one table');
    t.match(mixed.err, /unknown output field: 'offloads'/);
  });

  await t.test('JSON has everything', async (t) => {
    const { out } = await run(socket, 'show-overlay', '--json');
    t.same(JSON.parse(out), [DEMO, FILES]);
    t.match(out, '9007199254740991');
  });

  await t.test('names: what is there is shown, what is not makes the status 1', async (t) => {
    requests.length = 0;
    const outcome = await run(socket, 'show-overlay', 'nope0', 'demo0', 'foo0');
    t.same(requests, [{ method: 'overlay.list', params: { names: ['nope0', 'demo0', 'foo0'] } }]);
    t.same(outcome, {
      status: 1,
      out: ARTICLE,
      err: lines('dladm: failed to find nope0: object not found', 'dladm: foo0 is not an overlay'),
    });
  });

  await t.test('no overlays: a header over nothing', async (t) => {
    const empty = await fakeDaemon({ 'overlay.list': listing() });
    const shown = async (...argv: string[]) => run(empty.socket, 'show-overlay', ...argv);
    t.match(await shown(), { status: 0, out: /^LINK +PROPERTY .*\n$/, err: '' });
    t.same(await shown('-f'), { status: 0, out: 'LINK                STATUS   DETAILS\n', err: '' });
    t.match(await shown('-t'), { status: 0, out: /^LINK +TARGET .*\n$/, err: '' });
    t.same(await shown('-f', '-p', '-o', 'link'), { status: 0, out: '', err: '' });
    t.same(await shown('--json'), { status: 0, out: '[]\n', err: '' });
    t.match(await shown('-f', 'nope0'), { status: 1, out: '' }, 'what was named has its line');
  });

  await t.test('what is stored and does not run', async (t) => {
    const health = { status: 'OFFLINE', details: 'there is a network interface demo0' } as const;
    const offline = { ...DEMO, health, underlay: null, offloads: [], counters: {} };
    const { socket } = await fakeDaemon({ 'overlay.list': listing(offline, FILES), ...NO_TARGETS });
    const shown = async (...argv: string[]) => run(socket, 'show-overlay', ...argv);
    const err = 'dladm: demo0 is OFFLINE: there is a network interface demo0\n';
    t.same(await shown('demo0'), { status: 0, out: ARTICLE, err }, 'its properties are known');
    t.same(await shown('-f', '-p', '-o', 'status,details', 'demo0'), {
      status: 0,
      out: 'OFFLINE:there is a network interface demo0\n',
      err: '',
    });
    t.same(await shown('-t', 'demo0'), { status: 1, out: '', err }, 'its targets are not');
    t.same(JSON.parse((await shown('--json', 'demo0')).out), [offline]);
  });
});

function target(mac: string, state: TargetRow['state'], ...destinations: string[]): TargetRow {
  return { mac, state, destinations };
}

await t.test('show-overlay -t', async (t) => {
  const table = [
    target('de:ad:be:ef:00:00', 'valid', '10.88.88.69:4789'),
    target('de:ad:be:ef:00:01', 'valid', '[2001:db8::1]:4789'),
    target('de:ad:be:ef:00:02', 'drop'),
    target('de:ad:be:ef:00:03', 'pending'),
    target('ff:ff:ff:ff:ff:ff', 'flood', '10.88.88.69:4789', '10.88.88.70:4789', '10.88.88.71:4789'),
  ];
  const many = Array.from({ length: 10_000 }, (_, index) =>
    target(
      `02:00:00:00:${index.toString(16).padStart(4, '0').replace(/..$/, ':$&')}`,
      'valid',
      '10.0.0.1:4789',
    ),
  );
  const point = [target('*:*:*:*:*:*', 'valid', '10.88.88.70:4789')];
  const tables: Record<string, TargetRow[]> = { demo0: point, overlay0: table, many0: many };
  const { socket, requests } = await fakeDaemon({
    'overlay.list': listing(DEMO, FILES, overlay('many0', []), overlay('gone0', [])),
    'overlay.targets': (params) => {
      const name = String(params['name']);
      if (!(name in tables))
        return refuse('NOT_FOUND', 'object not found', `${name}: object not found`)(params);
      const from = Number(params['after'] ?? 0);
      const to = from + Number(params['limit']);
      return { rows: tables[name].slice(from, to), next: to < tables[name].length ? String(to) : null };
    },
  });
  t.same(await run(socket, 'show-overlay', '-t', 'demo0', 'overlay0'), {
    status: 0,
    out: lines(
      'LINK                TARGET            DESTINATION',
      'demo0               *:*:*:*:*:*       10.88.88.70:4789',
      'overlay0            de:ad:be:ef:00:00 10.88.88.69:4789',
      'overlay0            de:ad:be:ef:00:01 [2001:db8::1]:4789',
      'overlay0            de:ad:be:ef:00:02 drop',
      'overlay0            de:ad:be:ef:00:03 pending',
      'overlay0            ff:ff:ff:ff:ff:ff 10.88.88.69:4789,10.88.88.70:4789,',
      '                                      10.88.88.71:4789',
    ),
    err: '',
  });
  const parsable = await run(socket, 'show-overlay', '-t', '-p', '-o', 'target,destination', 'demo0');
  t.equal(parsable.out, '*\\:*\\:*\\:*\\:*\\:*:10.88.88.70\\:4789\n');

  requests.length = 0;
  const pages = await run(socket, 'show-overlay', '--target', '-o', 'target', '-p', 'many0');
  t.equal(pages.out, lines(...many.map(({ mac }) => mac)), 'pages are read to the end');
  t.same(
    requests.filter(({ method }) => method === 'overlay.targets').map(({ params }) => params),
    [
      { name: 'many0', limit: 4096 },
      { name: 'many0', limit: 4096, after: '4096' },
      { name: 'many0', limit: 4096, after: '8192' },
    ],
  );

  const inTable = await run(socket, 'show-overlay', '-t', 'many0');
  t.equal(inTable.out.split('\n').length, many.length + 2, 'one header');
  const manyAsJson = await run(socket, 'show-overlay', '-t', '--json', 'overlay0', 'many0');
  t.equal(
    manyAsJson.out,
    `${JSON.stringify(
      [
        { ...FILES, targets: table },
        { ...overlay('many0', []), targets: many },
      ],
      undefined,
      2,
    )}\n`,
    'in pieces, the same text',
  );

  const json = await run(socket, 'show-overlay', '-t', '--json', 'gone0', 'demo0');
  t.same(JSON.parse(json.out), [{ ...DEMO, targets: point }], 'what cannot be read is left out');
  t.equal(json.err, 'dladm: failed to get targets of gone0: object not found\n');
  t.equal(json.status, 1);
});

await t.test('show-vnic', async (t) => {
  const vnic = { over: 'demo0', mtuBytes: 1400, temporary: false, state: 'up', counters: {} };
  const vnics: VnicInfo[] = [
    {
      ...vnic,
      name: 'foo0',
      mac: 'de:ad:be:ef:00:00',
      configuredMac: 'de:ad:be:ef:00:00',
      macType: 'fixed',
      vid: 0,
    },
    {
      ...vnic,
      name: 'bar0',
      mac: '02:00:5e:00:53:01',
      configuredMac: '02:00:5e:00:53:02',
      macType: 'random',
      vid: 23,
      state: 'the device was removed',
    },
  ];
  const { socket, requests } = await fakeDaemon({
    'vnic.list': () => ({ vnics, missing: [{ name: 'x0', message: 'x0: object not found' }] }),
  });
  t.same(await run(socket, 'show-vnic', '-l', 'demo0', 'foo0', 'bar0', 'x0'), {
    status: 1,
    out: lines(
      'LINK         OVER         SPEED  MACADDRESS        MACADDRTYPE         VID   STATE',
      'foo0         demo0        --     de:ad:be:ef:00:00 fixed               0     up',
      'bar0         demo0        --     02:00:5e:00:53:01 random              23    the device was removed',
    ),
    err: 'dladm: failed to find x0: object not found\n',
  });
  t.same(requests, [{ method: 'vnic.list', params: { over: 'demo0', names: ['foo0', 'bar0', 'x0'] } }]);
  const allUp = await fakeDaemon({ 'vnic.list': () => ({ vnics: vnics.slice(0, 1), missing: [] }) });
  t.equal(
    (await run(allUp.socket, 'show-vnic')).out,
    lines(
      'LINK         OVER         SPEED  MACADDRESS        MACADDRTYPE         VID',
      'foo0         demo0        --     de:ad:be:ef:00:00 fixed               0',
    ),
    'the columns of illumos while there is nothing to tell',
  );
  const parsable = await run(socket, 'show-vnic', '-p', '-o', 'link,state,mtu');
  t.equal(parsable.out, 'foo0:up:1400\nbar0:the device was removed:1400\n');
  t.match((await run(socket, 'show-vnic', '-o', 'all')).out, /VID {3}MTU {3}STATE\n.* 0 {5}1400 {2}up\n/);
  t.same(JSON.parse((await run(socket, 'show-vnic', '--json')).out), vnics);
});

await t.test('show-linkprop', async (t) => {
  const row = { link: 'foo0', permission: 'rw' as const, default: [], possible: null };
  const four = ['mac-nospoof', 'restricted', 'ip-nospoof', 'dhcp-nospoof'];
  const rows: LinkPropertyRow[] = [
    { ...row, property: 'protection', value: ['mac-nospoof', 'ip-nospoof'], effective: four, possible: four },
    { ...row, property: 'allowed-ips', value: [], effective: ['10.0.0.7', 'fd00::7'] },
    { ...row, property: 'allowed-dhcp-cids', value: ['hello'], effective: [] },
  ];
  const { socket, requests } = await fakeDaemon({
    'linkprop.list': () => ({ rows, missing: [{ name: 'x0', message: 'x0: object not found' }] }),
  });
  t.same(await run(socket, 'show-linkprop', '-p', 'protection,allowed-ips', 'foo0', 'x0'), {
    status: 1,
    out: lines(
      'LINK     PROPERTY            PERM VALUE          EFFECTIVE      DEFAULT POSSIBLE',
      'foo0     protection          rw   mac-nospoof,   mac-nospoof,   --      mac-nospoof,',
      '                                  ip-nospoof     restricted,            restricted,',
      '                                                 ip-nospoof,            ip-nospoof,',
      '                                                 dhcp-nospoof           dhcp-nospoof',
      'foo0     allowed-ips         rw   --             10.0.0.7,      --      --',
      '                                                 fd00::7',
      'foo0     allowed-dhcp-cids   rw   hello          --             --      --',
    ),
    err: 'dladm: failed to find x0: object not found\n',
  });
  const named = { persistent: false, names: ['foo0', 'x0'], properties: ['protection', 'allowed-ips'] };
  t.same(requests, [{ method: 'linkprop.list', params: named }]);
  const parsable = await run(socket, 'show-linkprop', '-c', '-o', 'property,effective', '-P');
  t.equal(
    parsable.out,
    'protection:mac-nospoof,restricted,ip-nospoof,dhcp-nospoof\nallowed-ips:10.0.0.7,fd00\\:\\:7\nallowed-dhcp-cids:--\n',
  );
  t.same(requests[1]?.params, { persistent: true });
  t.same(JSON.parse((await run(socket, 'show-linkprop', '--json')).out), rows);
  const refused = await fakeDaemon({
    'linkprop.set': refuse('INVALID', 'invalid argument', 'invalid argument', [
      'failed to set property x: y',
    ]),
  });
  t.same(await run(refused.socket, 'set-linkprop', '-p', 'x=1', 'foo0'), {
    status: 1,
    out: '',
    err: "dladm: failed to set property x: y\ndladm: cannot set link property on 'foo0': invalid argument\n",
  });
});

await t.test('wrapping', (t) => {
  const columns: Column<string>[] = [
    { name: 'A', width: 8, cell: String },
    { name: 'B', width: 2, cell: () => '|' },
  ];
  const cells = (text: string): string[] =>
    formatTable(columns, [text])
      .split('\n')
      .slice(1, -1)
      .map((row) => row.replace(/ *\|$/, ''));
  t.same(cells(''), ['']);
  t.same(cells('1234567'), ['1234567']);
  t.same(cells('12345678'), ['12345678'], 'the column grows');
  t.same(cells('a,b,c,d'), ['a,b,c,d']);
  t.same(cells('a,b,c,d,e'), ['a,b,c,', 'd,e']);
  t.same(cells('123456789,b'), ['123456789,', 'b']);
  t.same(cells(',,,,,,,,,'), [',,,,,,,', ',,']);
  t.same(cells('x'.repeat(100)), ['x'.repeat(47), 'x'.repeat(47), 'xxxxxx'], 'what is too long is cut');
  t.same(cells('a\tb\u202ec'), ['a\\x09b\\x202ec'], 'nothing reaches the terminal that it would obey');
  t.equal(formatParsable(columns, ['a\nb:\\']), 'a\\\\x0ab\\:\\\\:|\n');
  t.equal(formatTable(columns, []), 'A       B\n');
  t.end();
});

// -- Framing

await t.test('framing', (t) => {
  const read = (maxBytes: number, ...chunks: (string | number[])[]): unknown[] => {
    const seen: unknown[] = [];
    const reader = new MessageReader(maxBytes, {
      message: (value) => seen.push(value),
      problem: (problem) => seen.push(problem),
    });
    for (const chunk of chunks) reader.push(Buffer.from(chunk as string));
    reader.end();
    reader.push(Buffer.from('"after the end"\n'));
    return seen;
  };
  t.same(read(100, '1\n"b"\n', '{"c":', '[3]}', '\n'), [1, 'b', { c: [3] }]);
  t.same(read(100, '\n \r\n1\r\n'), [1], 'blank lines are none');
  t.same(read(100, 'x\n1\n'), ['not JSON', 1], 'reading goes on behind a bad line');
  t.same(read(100, [0x22, 0xff, 0x22, 0x0a], '2\n'), ['not UTF-8', 2]);
  t.same(read(100, '1\n2'), [1, 'ends inside a line']);
  t.same(read(5, '12345\n123456\n1\n'), [12345, 'line too long']);
  t.same(read(5, '123', '456'), ['line too long'], 'before its end is seen');
  t.same(read(3, '123', '\n1\n'), [123, 1]);
  t.same(read(100, '\ufeff1\n'), ['not JSON']);

  const text = encodeMessage({ text: 'a\nb é 漢 \u{1f600}' });
  const bytes = [...Buffer.from(text)];
  t.equal(text.indexOf('\n'), text.length - 1);
  for (let cut = 0; cut <= bytes.length; cut++) {
    t.same(read(100, bytes.slice(0, cut), bytes.slice(cut)), [JSON.parse(text)], `cut at ${cut}`);
  }
  t.same(read(100, ...bytes.map((byte) => [byte])), [JSON.parse(text)], 'byte by byte');

  const seen: unknown[] = [];
  const reader: MessageReader = new MessageReader(100, {
    message: (value) => {
      seen.push(value);
      reader.stop();
    },
    problem: (problem) => seen.push(problem),
  });
  reader.push(Buffer.from('1\n2\n'));
  t.same(seen, [1], 'nothing after stop');
  t.ok(reader.stopped);
  t.end();
});

// -- The client, when things go wrong

await t.test('client', async (t) => {
  const fails = async (
    socket: string,
    code: ConnectionError['code'],
    message: RegExp,
    options: ClientOptions = {},
  ): Promise<void> => {
    const error: unknown = await createClient(socket, options)('daemon.status', {}).catch((e: unknown) => e);
    t.type(error, ConnectionError);
    t.match(error, { code, message });
  };
  const answering = (text: string): Promise<string> =>
    listen((connection) => {
      connection.on('error', () => undefined);
      connection.once('data', () => connection.end(text));
    });
  const id = 1;

  await fails(
    path.join(directory, 'none.sock'),
    'NO_DAEMON',
    /none\.sock: no such socket: is varpd running\?/,
  );
  await fails(directory, 'NO_DAEMON', /nobody listens there: is varpd running\?/);
  await fails('x'.repeat(108), 'IO', /^cannot reach varpd at x+: .* at most 107 bytes$/);
  await fails(await answering(''), 'CLOSED', /closed the connection without an answer/);
  await fails(await answering('{"jsonrpc":"2.0"'), 'CLOSED', /broke off its answer/);
  await fails(await answering('HTTP/1.1 400 Bad Request\r\n\r\n'), 'PROTOCOL', /not JSON; is that varpd\?/);
  await fails(await answering('[1]\n'), 'PROTOCOL', /no JSON-RPC 2\.0 response/);
  await fails(await answering('{"jsonrpc":"2.0","id":7,"result":null}\n'), 'PROTOCOL', /no JSON-RPC/);
  await fails(await answering('{"jsonrpc":"2.0","id":1}\n'), 'PROTOCOL', /no JSON-RPC/);
  await fails(await answering(`"${'x'.repeat(1000)}"\n`), 'PROTOCOL', /line too long/, {
    maxAnswerBytes: 1000,
  });
  await fails(await listen(() => undefined), 'TIMEOUT', /did not answer daemon\.status within 0\.05 s/, {
    timeoutMs: 50,
  });
  await fails(await listen(() => undefined), 'TIMEOUT', /no sign of life for 0\.05 s/, { silenceMs: 50 });
  const chatty = await listen((connection) => {
    const timer = setInterval(() => connection.write('\n'), 5);
    connection
      .on('error', () => undefined)
      .on('close', () => {
        clearInterval(timer);
      });
  });
  await fails(chatty, 'TIMEOUT', /did not answer daemon\.status within 0\.2 s/, { timeoutMs: 200 });
  await fails(await listen((connection) => connection.destroy()), 'CLOSED', /closed the connection/);

  const error = { code: -32601, message: 'Method not found' };
  const odd = createClient(await answering(encodeMessage({ jsonrpc: '2.0', id: null, error })));
  await t.rejects(odd('daemon.status', {}), { code: 'INTERNAL', status: 'operation failed', details: [] });
  const large = createClient(
    await answering(encodeMessage({ jsonrpc: '2.0', id, result: 'x'.repeat(200_000) })),
  );
  t.same(await large('daemon.status', {}), 'x'.repeat(200_000), 'an answer may be longer than a request');
  const names = ['x'.repeat(MAX_REQUEST_BYTES)];
  await t.rejects(large('overlay.list', { names }), { code: 'TOO_LONG', message: /at most 65536/ });
});

await t.test('a socket that may not be used', async (t) => {
  const socket = await listen(() => undefined);
  await chmod(socket, 0);
  await chmod(directory, 0o755);
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  const outcome = await run(socket, 'show-overlay').finally(() => {
    if (isRoot) process.seteuid?.(0);
  });
  t.equal(outcome.status, 1);
  t.match(outcome.err, `dladm: cannot reach varpd at ${socket}: permission denied: only root`);
});

// -- The program

await t.test('the program itself', async (t) => {
  const { socket } = await fakeDaemon({ ...NONE_MISSING, 'overlay.list': listing(DEMO) });
  t.match(await runMain(socket, 'show-overlay'), { code: 0, stdout: ARTICLE, stderr: '' });
  t.match(await runMain(socket, 'delete-overlay', 'demo0'), { code: 0, stdout: '', stderr: '' });
  t.match(await runMain(undefined, 'show-overlay', '--socket', socket), { code: 0, stdout: ARTICLE });
  const absent = path.join(directory, 'absent.sock');
  t.match(await runMain(absent, 'show-overlay', '-t'), {
    code: 1,
    stdout: '',
    stderr: `dladm: cannot reach varpd at ${absent}: no such socket: is varpd running?\n`,
  });
  const unknown = await runMain(socket, 'show-link', '-x');
  t.equal(unknown.code, 1);
  t.match(unknown.stderr, /^dladm: unknown subcommand 'show-link'\nusage: dladm .*\n {4}create-overlay /);
  const nothing = await runMain(socket);
  t.equal(nothing.code, 1);
  t.match(nothing.stderr, /^dladm: missing subcommand\nusage: dladm /);
  t.match(await runMain(socket, '--version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
  const full = await runProgram(
    ['sh', '-c', `exec "$0" "$1" show-overlay > /dev/full`, process.execPath, MAIN],
    {
      env: { VARPD_SOCKET: socket },
    },
  );
  t.match(full, { code: 1, stderr: /^dladm: cannot write the output: / });
});

await t.test('help', async (t) => {
  const { status, out } = await run(undefined, '--help');
  t.equal(status, 0);
  const synopses = out.match(/^ {4}[a-z]+(?:-[a-z]+)?/gm)!.map((text) => text.trim());
  t.equal(synopses.length, 14);
  for (const name of synopses) {
    const help = await run(undefined, name, '-h');
    t.match(help, { status: 0, err: '' });
    t.match(
      help.out,
      new RegExp(`^usage: dladm ${name}[ \n][^]*\n  -h, --help[^]*\nexamples?:\n    dladm ${name}`),
    );
    t.same(await run(undefined, name, '--help'), help);
  }
});
