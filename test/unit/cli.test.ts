/**
 * dladm from its arguments to what it asks, against a daemon that answers from a script over a real Unix socket: options,
 * names, what is refused and by whom.
 */
import path from 'node:path';
import t from 'tap';
import { encodeMessage } from '../../src/control/framing.js';
import { DEFAULT_SOCKET } from '../../src/control/messages.js';
import { ERROR_CODES, EXIT_OF_CODE, OverlayError, STATUS_WORDS } from '../../src/model/errors.js';
import { EXIT, EXIT_STATUSES } from '../../src/model/exit-statuses.js';
import { textOf } from '../helpers/documents.js';
import {
  type Answer,
  directory,
  fakeDaemon,
  lines,
  listen,
  NONE_MISSING,
  refuse,
  run,
  words,
} from '../helpers/fake-control.js';

// -- What is said about a command line; nothing of it may reach a daemon

const CREATE = 'create-overlay -e vxlan -s direct -v 23';
const LONG = 'x'.repeat(32);
const LONG_LIST = `a/b=${'x'.repeat(16_384)}`;

const USAGE: Readonly<Record<string, string>> = {
  'create-overlay': '[-t] [--if-missing] [--json] -e encap -s search -v vnetid [-p prop=value[,...]] overlay',
  'delete-overlay': '[-t] overlay',
  'modify-overlay': '-d mac | -f | -s mac=ip:port overlay',
  'show-overlay': '[-f | -t | -s [-i secs]] [[-p] -o field,... | --json] [overlay...] [count]',
  'show-peers': '[[-p] -o field,... | --json] [overlay...]',
  'up-overlay': '[overlay]',
  'create-vnic':
    '[-t | --netns netns] [--if-missing] [--json] -l overlay [-m mac] [-v vid] [-p prop=value[,...]] vnic',
  'delete-vnic': '[-t] vnic',
  'show-vnic': '[-l overlay] [-s [-i secs]] [[-p] -o field,... | --json] [vnic...] [count]',
  'set-linkprop': '[-t] -p prop=value[,...] vnic',
  'reset-linkprop': '[-t] [-p prop[,...]] vnic',
  'show-linkprop': '[-P] [[-c] -o field,... | --json] [-p prop[,...]] [vnic...]',
  explain:
    '[-i port] [--inbound --from vtep [--vni id]] --dst mac|address [--src mac|address] [--type ethertype] ' +
    '[--vlan vid] [--size bytes] | --frame hex | --pcap file#number [[-p] -o field,... | --json] overlay',
  top: '[-i secs] [-n count] [--view view] [--sort field] [-b [[-p] -o field,... | --json]] [overlay...]',
  'check-mapping': '[--json] file',
  'import-mapping': '[-n] [--json] [-p prop=value[,...]] file url',
  'export-mapping': '[--json] [-p prop=value[,...]] url [file]',
  reload: '',
  'reload-plugin': 'plugin',
  completion: '[--] shell [word...]',
};

/** Command line => message. +usage: followed by the usage line of the command, and then the exit status is 2. */
const REFUSED = `
create-overlay -v abc o0 => couldn't parse virtual network id: abc
create-overlay -v -1 o0 => couldn't parse virtual network id: -1
create-overlay -v 0x10 o0 => couldn't parse virtual network id: 0x10
create-overlay -v 16777216 o0 => virtual network id too large: 16777216
create-overlay -v 99999999999999999999999 o0 => virtual network id too large: 99999999999999999999999
create-overlay -p ${LONG_LIST} o0 => property list too long '${LONG_LIST.slice(0, 80)}...'
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
${CREATE} -p a/b=1\\,2,3 o0 => invalid overlay property
${CREATE} -p a/b=1\\x o0 => stray backslash in property list 'a/b=1\\x'
${CREATE} -p a/b=1\\ o0 => stray backslash in property list 'a/b=1\\'
set-linkprop -p protection=a\\b foo0 => stray backslash in property list 'protection=a\\b'
${CREATE} -x o0 => unrecognized option '-x' +usage
create-overlay -v => option requires an argument -v +usage
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
show-overlay -f -t => only one of -f, -t or -s may be used +usage
show-overlay -t -s -i 1 => only one of -f, -t or -s may be used +usage
show-overlay -i 5 => -i goes with -s +usage
show-overlay -s -i 0 => interval '0': expected 0.1 to 86400 seconds +usage
show-overlay -s -i x => interval 'x': expected 0.1 to 86400 seconds +usage
show-vnic -i 1 => -i goes with -s +usage
show-overlay -p => output fields must be specified in parsable mode +usage
show-overlay -p -o All => output field 'all' invalid in parsable mode +usage
show-overlay -p -o link,x,y => unknown output fields: 'x' 'y'
show-overlay -t -p -o property => unknown output field: 'property'
show-overlay -o , => no valid output fields
show-overlay o0 --jsno => unrecognized option '--jsno': did you mean --json? +usage
show-peers -p => output fields must be specified in parsable mode +usage
show-peers -x => unrecognized option '-x' +usage
show-overlay --socket => option requires an argument --socket +usage
show-overlay --socket= => option requires an argument --socket +usage
up-overlay o0 p0 => expected at most one overlay name, got: o0 p0 +usage
create-vnic foo0 => missing required overlay: -l overlay +usage
create-vnic -l o0 => missing vnic name +usage
create-vnic -l o0 foo => invalid link name 'foo'
create-vnic -t --netns blue -l o0 foo0 => -t and --netns exclude each other: a VNIC in a network namespace ends with it +usage
create-vnic --netns none.x -l o0 foo0 => the network namespace /run/netns/none.x is not there
create-vnic --netns /proc/self/ns/net -l o0 foo0 => /proc/self/ns/net is the network namespace of dladm, where VNICs are without --netns
create-vnic -l o0 -m 2:0:0:0:0 foo0 => invalid mac address: 2:0:0:0:0
create-vnic -l o0 -v 0 foo0 => invalid VLAN identifier '0'; valid range: 1 - 4094
create-vnic -l o0 -v 4095 foo0 => invalid VLAN identifier '4095'; valid range: 1 - 4094
create-vnic -l o0 -v 1x foo0 => invalid VLAN identifier '1x'; valid range: 1 - 4094
delete-vnic => missing vnic name +usage
top -p -o link => --parsable goes with -b +usage
top -i 0 => interval '0': expected 0.1 to 86400 seconds +usage
top -n 0 => invalid number of readings '0'
top -n x => invalid number of readings 'x'
top --view peer => unknown view 'peer'
top -b --sort details => cannot sort by 'details'
top -b -p => output fields must be specified in parsable mode +usage
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
explain --dst 2:0:0:0:0:1 => missing overlay name +usage
explain o0 => give the frame: one of --dst, --frame and --pcap +usage
explain --dst 2:0:0:0:0:1 --frame 00 o0 => give the frame: one of --dst, --frame and --pcap +usage
explain --frame 00 --size 9 o0 => --size goes with --dst: a whole frame has its own +usage
explain --inbound --dst 2:0:0:0:0:1 o0 => --inbound and --from go together: a frame out of the tunnel has a VTEP that sends it +usage
explain --inbound --from 10.0.0.1 -i foo0 --dst 2:0:0:0:0:1 o0 => -i is for a frame that a port sends +usage
explain --vni 1 --dst 2:0:0:0:0:1 o0 => --vni goes with --inbound +usage
explain --dst 2:0:0:0:0:1 --vlan 4095 o0 => invalid VLAN identifier '4095'; valid range: 0 - 4094
explain --dst 2:0:0:0:0:1 --size 99999 o0 => invalid size '99999'; valid range: 0 - 16384
explain --dst 2:0:0:0:0:1 --type ipx o0 => invalid EtherType 'ipx'
explain --frame 123 o0 => invalid frame
explain --pcap f.pcap o0 => invalid frame of a capture 'f.pcap'
explain --pcap f.pcap#0 o0 => invalid frame of a capture 'f.pcap#0'
check-mapping => missing file +usage
import-mapping => missing file +usage
import-mapping hosts.json => missing url +usage
import-mapping a b c => expected a file and a url, got: a b c +usage
import-mapping hosts.json redis://x/y => expected the URL of a store, such as nats://host:4222/varpd-23, got: redis://x/y +usage
import-mapping -p user hosts.json nats://x/y => invalid store property
export-mapping -p user=a,=b nats://x/y => invalid store property
export-mapping => missing url +usage
check-mapping a b => expected one file, got: a b +usage
check-mapping /nonexistent/hosts.json => /nonexistent/hosts.json is not there
reload overlay0 => expected no operand, got: overlay0 +usage
reload-plugin => missing plugin name +usage
reload-plugin a b => expected one plugin name, got: a b +usage
`;

await t.test('command lines that are refused before anything is asked', async (t) => {
  const { socket, requests } = await fakeDaemon();
  for (const [, line, message, usage] of REFUSED.matchAll(/^(.*?) => (.*?)( \+usage)?$/gm)) {
    const { status, out, err } = await run(socket, ...words(line));
    const expected = usage ? EXIT.USAGE : message.endsWith(' is not there') ? EXIT.NOT_FOUND : EXIT.REFUSED;
    t.same({ status, out }, { status: expected, out: '' }, line);
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
  ['reload-plugin mine', 'daemon.reloadPlugin', { name: 'mine' }],
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
    'reload failed: invalid parts were not applied; the errors are above',
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
    const status = statusOf(printed.at(-1)!);
    const expected = { status, out: '', err: lines(...printed.map((text) => `dladm: ${text}`)) };
    t.same(await run(socket, ...words(line)), expected, line);
  }
});

/** By the status words at the end of a message; without them there were reasons alone. */
function statusOf(message: string): number {
  const code = ERROR_CODES.find((one) => message.endsWith(`: ${STATUS_WORDS[one]}`));
  return code === undefined ? EXIT.FAILED : EXIT[EXIT_OF_CODE[code]];
}

const OFFLINE_OVERLAY = { properties: [], health: { status: 'OFFLINE', details: 'x' }, counters: {} };

await t.test('exit statuses: each is in use, and every reason of varpd has one', async (t) => {
  t.same(
    Object.values(EXIT_STATUSES).map(({ status }) => status),
    [0, 1, 2, 3, 4, 5, 6, 7, 10],
  );
  for (const reason of ERROR_CODES) {
    const { socket } = await fakeDaemon({
      'overlay.delete': refuse(reason, STATUS_WORDS[reason], STATUS_WORDS[reason]),
    });
    const { status } = await run(socket, 'delete-overlay', 'o0');
    t.equal(status, new OverlayError(reason, '').exitStatus, reason);
    t.ok(textOf('docs/overlays.md').includes(`\`${reason}\``), `${reason} is documented`);
  }
  const both = await fakeDaemon({
    'overlay.list': () => ({
      overlays: [{ ...OFFLINE_OVERLAY, name: 'off0' }],
      missing: [{ name: 'o0', message: 'object not found' }],
    }),
  });
  t.match(
    await run(both.socket, 'show-overlay', '-t', 'o0', 'off0'),
    { status: EXIT.FAILED },
    'two statuses',
  );
  t.match(await run(both.socket, 'show-overlay', 'o0', 'off0'), { status: EXIT.NOT_FOUND }, 'one');
  t.match(await run(path.join(directory, 'none.sock'), 'show-vnic'), { status: EXIT.NO_DAEMON });
  t.match(await run(await listen((one) => one.destroy()), 'show-vnic'), { status: EXIT.NO_DAEMON });
  const older = encodeMessage({
    jsonrpc: '2.0',
    id: 1,
    error: { message: 'x', data: { code: 'BUSY', status: 'link busy', details: [] } },
  });
  const old = await listen((one) => one.once('data', () => one.end(older)));
  t.match(
    await run(old, 'delete-overlay', 'o0'),
    { status: EXIT.FAILED, err: /^dladm: x\ndladm: failed to delete o0: link busy\n$/ },
    'a varpd without numbers',
  );
});
