/**
 * The files plugin at work: its answers, and what it does when its file changes in every way that files can, against a
 * host that knows what it is told.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';

import files from '../../plugins/files/index.js';
import type { FilesInstance } from '../../plugins/files/instance.js';
import { MAX_FILE_BYTES } from '../../plugins/files/read.js';
import { dladm } from '../../src/cli/dladm.js';
import { parseIp } from '../../src/plugin/index.js';
import { ask, FakeHost, propertiesOf, startFiles } from '../helpers/mapping.js';
import { waitUntil } from '../helpers/process.js';

const root = mkdtempSync(path.join(tmpdir(), 'varpd-files-'));
t.teardown(() => {
  rmSync(root, { recursive: true, force: true });
});

interface Entry {
  readonly ip?: string;
  readonly port?: number;
  readonly arp?: string | readonly string[];
  readonly ndp?: string | readonly string[];
  readonly 'dhcp-proxy'?: string;
}

/** Keys are the last byte of the MAC. */
function text(entries: Readonly<Record<string, Entry>>): string {
  const whole = Object.entries(entries).map(([last, entry]) => [
    `02:00:00:00:00:${last}`,
    { ip: '10.88.88.70', port: 4789, ...entry },
  ]);
  return JSON.stringify(Object.fromEntries(whole), undefined, 1);
}

const mac = (last: number): number => 0x0200_0000_0000 + last;
/** All that any of these files says something about. */
const MACS = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(mac);
/** Last bytes of the MACs that the overlay was told to forget. */
const forgotten = ({ known }: FakeHost): number[] =>
  MACS.filter((one) => !known.has(one)).map((one) => one & 0xff);
const ip = (text: string) => parseIp(text)!;

interface Scene {
  readonly directory: string;
  readonly file: string;
  readonly host: FakeHost;
  readonly instance: FilesInstance;
  /** Renamed over: the whole change at once. */
  readonly replace: (entries: Readonly<Record<string, Entry>>) => void;
}

let scenes = 0;

async function scene(
  t: Test,
  entries: Readonly<Record<string, Entry>>,
  properties: Readonly<Record<string, string>> = {},
): Promise<Scene> {
  const directory = path.join(root, `${++scenes}`);
  mkdirSync(directory);
  const file = path.join(directory, 'hosts.json');
  writeFileSync(file, text(entries));
  const host = new FakeHost();
  const instance = await startFiles(host, file, properties);
  t.teardown(() => instance.stop());
  for (const one of MACS) host.known.add(one);
  host.told = 0;
  const replace = (changed: Readonly<Record<string, Entry>>): void => {
    writeFileSync(`${file}.new`, text(changed));
    renameSync(`${file}.new`, file);
  };
  return { directory, file, host, instance, replace };
}

/** Waits until it is so. */
async function until(t: Test, what: string, isSo: () => boolean): Promise<void> {
  await waitUntil(isSo, { stepMs: 5, what }).catch(() => undefined);
  t.ok(isSo(), what);
}

const portOf = (instance: FilesInstance, last: number): number | undefined => {
  const answer = ask(instance, mac(last));
  return answer.kind === 'target' ? answer.to.port : undefined;
};

// Each has a directory of its own, and waits for what happens there most of the time.
t.jobs = 4;

// -- Answers

const BROADCAST = 0xffff_ffff_ffff;
const THREE = {
  '01': {},
  '02': { ip: '10.88.88.71' },
  '03': { ip: '10.88.88.70' },
  '04': { ip: '2001:db8::1' },
};

t.test('what is answered', async (t) => {
  const { instance } = await scene(t, {
    '01': { arp: '10.0.0.1', ndp: ['fe80::1', '2001:db8::1'], 'dhcp-proxy': '02:00:00:00:00:02' },
    '02': { ip: '2001:db8::70' },
  });
  t.same(ask(instance, mac(1)), { kind: 'target', to: { ip: '10.88.88.70', port: 4789 } });
  t.match(ask(instance, mac(3)), { kind: 'drop' });
  t.match(ask(instance, mac(2)), { kind: 'drop', reason: /^2001:db8::70 is not of the family/ });
  t.same(ask(instance, BROADCAST, 0x0806), { kind: 'proxy', what: 'arp' });
  t.same(ask(instance, 0x3333_ff00_0001, 0x86dd), { kind: 'proxy', what: 'ndp' });
  t.same(ask(instance, BROADCAST), { kind: 'proxy', what: 'dhcp' });
  t.match(ask(instance, mac(1), 0x0806), { kind: 'target' }, 'a unicast ARP request goes to its station');
  t.match(ask(instance, mac(3), 0x0806), { kind: 'drop' });
  const dropped: [number, number][] = [
    [BROADCAST, 0x86dd],
    [BROADCAST, 0x8035],
    [0x0100_5e00_00fb, 0x0800],
    [0x0180_c200_000e, 0x88cc],
    [0x3333_0000_0001, 0x0800],
  ];
  for (const [group, etherType] of dropped)
    t.match(ask(instance, group, etherType), { kind: 'drop', reason: /files\/flood/ });
  t.equal(instance.neighbor(ip('10.0.0.1')), mac(1));
  t.equal(instance.neighbor(ip('2001:db8::1')), mac(1));
  t.equal(instance.neighbor(ip('2001:db8::2')), null);
  t.equal(instance.dhcpServer(mac(1)), mac(2));
  t.equal(instance.dhcpServer(mac(2)), null);
});

t.test('files/flood', async (t) => {
  const { instance, replace } = await scene(t, THREE, { 'files/flood': 'on' });
  const to = [
    { ip: '10.88.88.70', port: 4789 },
    { ip: '10.88.88.71', port: 4789 },
  ];
  t.same(ask(instance, 0x0100_5e00_00fb), { kind: 'flood', to }, 'each VTEP of the family once');
  t.same(ask(instance, BROADCAST), { kind: 'proxy', what: 'dhcp', otherwise: to });
  t.match(ask(instance, mac(9)), { kind: 'drop' }, 'unknown unicast is not flooded');
  replace({ '01': { port: 1 } });
  await until(t, 'a change is in the next answer', () =>
    JSON.stringify(ask(instance, BROADCAST)).includes('1}'),
  );

  const many = Object.fromEntries(
    Array.from({ length: 1025 }, (_, at): [string, Entry] => [
      (at + 1)
        .toString(16)
        .padStart(4, '0')
        .replace(/(..)(..)/, '$1:$2'),
      { ip: `10.1.${at >> 8}.${at & 255}` },
    ]),
  );
  const file = path.join(root, 'many.json');
  writeFileSync(file, text(many).replaceAll('02:00:00:00:00:', '02:00:00:00:'));
  await t.rejects(startFiles(new FakeHost(), file, { 'files/flood': 'on' }), {
    message: `${file} has 1025 VTEPs, files/flood=on takes at most 1024`,
  });
  await (await startFiles(new FakeHost(), file)).stop();
});

t.test('files/protect: a MAC may use what the file says of it', async (t) => {
  const entries = {
    '01': { arp: ['10.0.0.1', '10.0.0.11'], ndp: 'fe80::1' },
    '02': { ndp: ['2001:db8::2', 'fe80::2'] },
    '03': {},
    '04': { arp: '10.0.0.4' },
  };
  const { host, instance, replace } = await scene(t, entries, { 'files/protect': 'on' });
  t.same(instance.allowedIps(mac(1)), ['10.0.0.1', '10.0.0.11', 'fe80::1']);
  t.same(instance.allowedIps(mac(2)), ['2001:db8::2', 'fe80::2']);
  t.same(instance.allowedIps(mac(3)), []);
  t.same(instance.allowedIps(mac(4)), ['10.0.0.4']);
  t.same(instance.allowedIps(mac(9)), [], 'a MAC that is not in the file may use nothing');
  replace({ ...entries, '04': { arp: '10.0.0.5' } });
  await until(t, 'the ports are looked at again', () => host.looks > 0);
  t.same(instance.allowedIps(mac(4)), ['10.0.0.5']);
  const off = await scene(t, entries);
  t.equal(off.instance.allowedIps(mac(1)), undefined, 'off: it has no say');
});

// -- Start

t.test('properties', (t) => {
  t.same(
    files.properties.map(({ name, required, default: fallback }) => [name, required, fallback]),
    [
      ['files/config', true, undefined],
      ['files/flood', false, 'off'],
      ['files/protect', false, 'off'],
    ],
  );
  const refuse = (value: string): unknown => files.properties[0]?.refuse?.(value);
  t.equal(refuse('/etc/hosts.json'), undefined);
  for (const bad of ['hosts.json', './hosts.json', '~/hosts.json']) t.equal(refuse(bad), 'an absolute path');
  t.end();
});

t.test('a start that fails says why, and leaves nothing behind', async (t) => {
  const directory = path.join(root, 'start');
  mkdirSync(directory);
  const at = (name: string): string => path.join(directory, name);
  writeFileSync(at('bad.json'), '{"x": 1}');
  execFileSync('mkfifo', [at('fifo')]);
  symlinkSync('loop', at('loop'));
  writeFileSync(at('large'), '');
  truncateSync(at('large'), MAX_FILE_BYTES + 1);
  const refused: [file: string, message: string | RegExp][] = [
    ['bad.json', /bad\.json:1:2: found a string, expected a MAC .* \(and 1 more: dladm check-mapping \//],
    ['none', `${at('none')} is not there`],
    ['bad.json/x', `${at('bad.json/x')} is not there: a part of its path is no directory`],
    ['.', `${at('.')} is a directory, not a file`],
    ['fifo', `${at('fifo')} is a FIFO, not a file`],
    ['loop', `${at('loop')} cannot be read: too many symbolic links`],
    ['large', `${at('large')} has ${MAX_FILE_BYTES + 1} bytes, at most ${MAX_FILE_BYTES} are read`],
  ];
  for (const [name, message] of refused)
    await t.rejects(startFiles(new FakeHost(), at(name)), { message }, name);
  await t.rejects(startFiles(new FakeHost(), '/dev/zero'), {
    message: '/dev/zero is a device or a socket, not a file',
  });

  const host = new FakeHost();
  const instance = files.create(host);
  const properties = propertiesOf({
    'files/config': at('bad.json'),
    'files/flood': 'off',
  });
  await t.rejects(instance.start(properties, AbortSignal.abort()), 'a start that is given up');
  await instance.stop();
  await instance.stop();
  t.same([host.told, host.lines], [0, []]);
});

t.test('reserved members are warned about, with their place', async (t) => {
  const { host, file, instance } = await scene(t, { '01': { vlan: 3 } as Entry });
  t.same(host.lines, [
    `warn ${file}:5:3: found a name that has no effect, expected ip, port, arp, ndp or dhcp-proxy`,
    `info ${file}: 1 entry`,
  ]);
  await instance.reload();
  t.equal(host.lines.length, 3, 'and once');
});

// -- A file that changes

t.test('only what has changed is told', async (t) => {
  const before: Record<string, Entry> = {
    '01': { arp: '10.0.0.1', ndp: 'fe80::1' },
    '02': { arp: '10.0.0.2', ndp: 'fe80::2' },
    '03': { arp: '10.0.0.3' },
    '04': {},
    '05': {},
    '06': { arp: ['10.0.0.6', '10.0.0.66'] },
  };
  const { host, instance, replace } = await scene(t, before);
  host.onForget = (mac) => {
    const now = ask(instance, mac);
    if (now.kind === 'target')
      t.ok(host.peers.includes(now.to.ip), 'its place is a peer when it is asked about');
  };
  replace({
    '06': { arp: ['10.0.0.66', '10.0.0.6'] }, // another order: the same
    '01': { arp: '10.0.0.2', ndp: 'fe80::1' }, // takes an address
    '02': { arp: '10.0.0.22', ndp: 'fe80::2' }, // loses it, gets a new one
    '03': { ip: '10.88.88.71', arp: '10.0.0.3' }, // another place
    '04': { 'dhcp-proxy': '02:00:00:00:00:01' }, // another server
    '08': { ndp: 'fe80::8' }, // new
    '09': { arp: '10.0.0.1' }, // new, and takes an address
  });
  await until(t, 'it is told', () => host.remarked !== undefined);
  t.same([...host.peers].sort(), ['10.88.88.70', '10.88.88.71']);
  t.same(forgotten(host), [3, 5, 8, 9], 'no other MAC is asked about again');
  t.same(
    host.neighbours,
    new Map([
      ['10.0.0.2', mac(1)],
      ['10.0.0.1', mac(9)],
    ]),
    'who took an address is announced',
  );
  t.equal(host.told, 7, 'each once');
  t.match(
    host.remarked,
    /hosts\.json read again: \+2 -1 ~4 entries, 7 now, at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
  );
  t.match(host.lines.at(-1), /^info .* read again: \+2 -1 ~4 entries, 7 now$/);
  t.equal(host.degraded, undefined);

  host.lines = [];
  await instance.reload();
  t.match(host.lines, [/^info .* read again: the same 7 entries$/]);
  t.equal(host.told, 7, 'nothing has changed: nothing is told');
});

/** Each changes the one entry from port 1 to port 2. */
const WAYS: [what: string, change: (scene: Scene) => void | Promise<void>][] = [
  [
    'renamed over',
    ({ replace }) => {
      replace({ '01': { port: 2 } });
    },
  ],
  [
    'written in place',
    ({ file }) => {
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'deleted and made again',
    ({ file }) => {
      rmSync(file);
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'replaced by a symbolic link',
    ({ directory, file }) => {
      writeFileSync(path.join(directory, 'other.json'), text({ '01': { port: 2 } }));
      rmSync(file);
      symlinkSync('other.json', file);
    },
  ],
  [
    'in a directory that was made again',
    ({ directory, file }) => {
      renameSync(directory, `${directory}.old`);
      mkdirSync(directory);
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'half written, then completed',
    async ({ file }) => {
      const whole = text({ '01': { port: 2 } });
      writeFileSync(file, whole.slice(0, 20));
      await sleep(300);
      appendFileSync(file, whole.slice(20));
    },
  ],
];

for (const [what, change] of WAYS) {
  t.test(`a file that is ${what}`, async (t) => {
    const set = await scene(t, { '01': { port: 1 } });
    await change(set);
    await until(t, 'is read', () => portOf(set.instance, 1) === 2);
    await until(
      t,
      'and all is well',
      () => set.host.degraded === undefined && set.host.remarked !== undefined,
    );
    t.same([forgotten(set.host), set.host.told], [[1], 1]);
  });
}

t.test('a symbolic link further up that is switched', async (t) => {
  const directory = path.join(root, 'links');
  for (const [name, port] of [
    ['one', 1],
    ['two', 2],
  ] as const) {
    mkdirSync(path.join(directory, name), { recursive: true });
    writeFileSync(path.join(directory, name, 'hosts.json'), text({ '01': { port } }));
  }
  // As Kubernetes lays out a ConfigMap: hosts.json -> ..data/hosts.json, ..data -> the directory in force.
  symlinkSync('one', path.join(directory, '..data'));
  symlinkSync('..data/hosts.json', path.join(directory, 'hosts.json'));
  const host = new FakeHost();
  const instance = await startFiles(host, path.join(directory, 'hosts.json'));
  t.teardown(() => instance.stop());
  symlinkSync('two', path.join(directory, '..tmp'));
  renameSync(path.join(directory, '..tmp'), path.join(directory, '..data'));
  await until(t, 'is read', () => portOf(instance, 1) === 2);
});

/** Each makes the file unusable; the degraded sentence that follows. */
const SPOILED: [what: string, spoil: (scene: Scene) => void, sentence: RegExp][] = [
  [
    'deleted',
    ({ file }) => {
      rmSync(file);
    },
    /hosts\.json is not there$/,
  ],
  [
    'replaced by a directory',
    ({ file }) => {
      rmSync(file);
      mkdirSync(file);
    },
    /is a directory, not a file$/,
  ],
  [
    'replaced by a FIFO',
    ({ file }) => {
      rmSync(file);
      execFileSync('mkfifo', [file]);
    },
    /is a FIFO, not a file$/,
  ],
  [
    'truncated',
    ({ file }) => {
      truncateSync(file);
    },
    /hosts\.json:1:1: found the end of the file, expected '\{'$/,
  ],
  [
    'no mapping any more',
    ({ file }) => {
      writeFileSync(file, '{\n"02:00:00:00:00:01": {"ip": "10.0.0.1", "port": 0}, "x": 1}');
    },
    /hosts\.json:2:49: found a number or a word, expected .* \(and 2 more: dladm check-mapping/,
  ],
  [
    'too large',
    ({ file }) => {
      truncateSync(file, MAX_FILE_BYTES + 1);
    },
    /bytes, at most \d+ are read$/,
  ],
  [
    'a symbolic link to itself',
    ({ file }) => {
      rmSync(file);
      symlinkSync('hosts.json', file);
    },
    /cannot be read: too many symbolic links$/,
  ],
];

for (const [what, spoil, sentence] of SPOILED) {
  t.test(`a file that is ${what}: the last good one stays in use`, async (t) => {
    const set = await scene(t, { '01': { port: 1 } });
    const { host, instance, file, replace } = set;
    spoil(set);
    await until(t, 'degraded', () => host.degraded !== undefined);
    t.match(host.degraded, sentence);
    t.equal(portOf(instance, 1), 1);
    await t.rejects(instance.reload(), { message: sentence });
    await t.rejects(instance.reload(), { message: sentence });
    const complaints = host.lines.filter((line) =>
      line.includes('is refused: the mapping read before stays in use'),
    );
    t.equal(complaints.length, 1, 'one complaint a change');
    t.equal(host.told, 0);
    rmSync(file, { recursive: true, force: true });
    replace({ '01': { port: 2 } });
    await until(t, 'recovers by itself', () => host.degraded === undefined && portOf(instance, 1) === 2);
  });
}

t.test('what was good again is restored, though nothing changed', async (t) => {
  const { host, file, instance } = await scene(t, { '01': {} });
  const good = readFileSync(file);
  writeFileSync(file, '[]');
  await until(t, 'degraded', () => host.degraded !== undefined);
  writeFileSync(file, good);
  await until(t, 'restored', () => host.degraded === undefined);
  t.equal(host.told, 0);
  t.equal(portOf(instance, 1), 4789);
});

t.test('a thousand renames: never a wrong answer, and the last one counts', async (t) => {
  const { host, instance, replace } = await scene(t, { '01': { port: 1 }, '02': {} });
  let wrong = 0;
  for (let port = 2; port <= 1001; port++) {
    replace({ '01': { port }, '02': {} });
    const now = portOf(instance, 1);
    if (now === undefined || now > port || portOf(instance, 2) !== 4789) wrong++;
    if (port % 10 === 0) await sleep(1);
  }
  t.equal(wrong, 0);
  await until(t, 'the last one is in force', () => portOf(instance, 1) === 1001);
  await until(t, 'and settled', () => host.remarked !== undefined);
  t.equal(host.degraded, undefined);
  t.same(
    [forgotten(host), host.neighbours.size, host.looks, host.peers],
    [[1], 0, 0, ['10.88.88.70']],
    'the other MAC is left alone',
  );
});

t.test('files beside it are none of its business', async (t) => {
  const { directory, host } = await scene(t, { '01': {} });
  host.lines = [];
  for (let count = 0; count < 20; count++) writeFileSync(path.join(directory, `other${count}`), 'x');
  await sleep(700);
  t.same(host.lines, []);
});

t.test('reloads that overlap', async (t) => {
  const { instance, file } = await scene(t, { '01': { port: 1 } });
  const first = instance.reload();
  writeFileSync(file, text({ '01': { port: 2 } }));
  await Promise.all([first, instance.reload(), instance.reload()]);
  t.equal(portOf(instance, 1), 2, 'who asks is told of what is in the file at that moment');
});

t.test('after the end nothing is told', async (t) => {
  const { host, instance, replace } = await scene(t, { '01': { port: 1 } });
  const reloading = instance.reload();
  await instance.stop();
  await reloading;
  replace({ '01': { port: 2 } });
  await sleep(800);
  t.same([host.told, host.degraded, host.remarked], [0, undefined, undefined]);
});

t.test('lookups are answered while a large file is read', async (t) => {
  const { host, instance, file } = await scene(t, { '01': {} });
  const rows = Array.from({ length: 60_000 }, (_, at) => {
    const low = [at >> 16, (at >> 8) & 255, at & 255];
    const name = low.map((byte) => byte.toString(16)).join(':');
    return `"2:0:1:${name}": {"ip": "10.88.88.70", "port": 4789, "arp": "10.${low.join('.')}", "ndp": "fd00::${name}"}`;
  });
  writeFileSync(file, `{${rows.join(',\n')}}`);
  const reloading = instance.reload();
  let isDone = false;
  void reloading.then(() => (isDone = true));
  let turns = 0;
  for (; !isDone; turns++) await sleep(0);
  t.ok(turns > 5, `${turns} turns of the event loop meanwhile`);
  t.match(host.remarked, '+60000 -1 ~0 entries, 60000 now');
  t.equal(instance.neighbor(ip('10.0.1.0')), 0x0200_0100_0100);
});

// -- dladm check-mapping

t.test('dladm check-mapping', async (t) => {
  const run = async (...argv: string[]): Promise<{ status: number; out: string; err: string }> => {
    let out = '';
    let err = '';
    const status = await dladm(['check-mapping', ...argv], {
      out: (text) => void (out += text),
      err: (text) => void (err += text),
      env: {},
    });
    return { status, out, err };
  };
  const good = path.join(root, 'good.json');
  writeFileSync(good, text({ '01': { vlan: 1 } as Entry, '02': {} }));
  const { status, out, err } = await run(good);
  t.same([status, err], [0, '']);
  t.match(out, `${good}:5:3: warning: $['02:00:00:00:00:01']: found "vlan"`);
  t.match(out, `\n${good} is good: 2 entries\n`);
  t.match(JSON.parse((await run('--json', good)).out), {
    file: good,
    good: true,
    errorCount: 0,
    warningCount: 1,
  });

  const bad = path.join(root, 'bad.json');
  writeFileSync(bad, '{"2:0:0:0:0:1": {"ip": "10.0.0.1", "port": 0}}');
  t.same(await run(bad), {
    status: 10,
    out: `${bad}:1:44: error: $['2:0:0:0:0:1']['port']: found 0, expected a whole number from 1 to 65535\n`,
    err: `dladm: ${bad} has 1 error\n`,
  });
  const asJson = await run('--json', bad);
  t.equal(asJson.status, 10);
  t.match(JSON.parse(asJson.out), {
    good: false,
    errors: [{ line: 1, column: 44, path: "$['2:0:0:0:0:1']['port']" }],
  });

  const keys = Array.from({ length: 150 }, (_, index) => `"${index}": 1`);
  writeFileSync(bad, `{${keys.join()}}`);
  const many = await run(bad);
  t.match(many.out, /\nand 200 more errors\n$/);
  t.equal(many.err, `dladm: ${bad} has 300 errors\n`);
  t.same(await run(root), { status: 7, out: '', err: `dladm: ${root} is a directory, not a file\n` });
});
