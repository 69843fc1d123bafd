// The files plugin: what it answers, and how it starts.

import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import files from '../../plugins/files/index.js';
import { MAX_FILE_BYTES } from '../../plugins/files/read.js';
import { dladm } from '../../src/cli/dladm.js';
import { parseValue } from '../../src/model/properties.js';
import { ask, propertiesOf, startFiles } from '../helpers/mapping.js';
import { root, type Entry, text, mac, ip, scene, until } from '../helpers/files-scene.js';
import { TableHost } from '../helpers/table-host.js';

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
  await t.rejects(startFiles(new TableHost(), file, { 'files/flood': 'on' }), {
    message: `${file} has 1025 VTEPs, files/flood=on takes at most 1024`,
  });
  await (await startFiles(new TableHost(), file)).stop();
});

t.test('files/protect: a MAC may use what the file says of it', async (t) => {
  const entries = {
    '01': { arp: ['10.0.0.1', '10.0.0.11'], ndp: 'fe80::1' },
    '02': { ndp: ['2001:db8::2', 'fe80::2'] },
    '03': {},
    '04': { arp: '10.0.0.4' },
  };
  const { host, instance, replace } = await scene(t, entries, { 'files/protect': 'on' });
  const allowed = (index: number) => host.allowed?.find((row) => row.mac === mac(index))?.ips;
  instance.ports([1, 2, 3, 4, 9].map(mac));
  t.same(allowed(1), ['10.0.0.1', '10.0.0.11', 'fe80::1']);
  t.same(allowed(2), ['2001:db8::2', 'fe80::2']);
  t.same(allowed(3), []);
  t.same(allowed(4), ['10.0.0.4']);
  t.same(allowed(9), [], 'a MAC that is not in the file may use nothing');
  replace({ ...entries, '04': { arp: '10.0.0.5' } });
  await until(t, 'the addresses are set again', () => allowed(4)?.[0] === '10.0.0.5');
  t.same(allowed(4), ['10.0.0.5']);
  const off = await scene(t, entries);
  off.instance.ports([mac(1)]);
  t.equal(off.host.allowed, undefined, 'off: it has no say');
});

// -- Start

t.test('properties', (t) => {
  t.same(
    files.properties.map((spec) => [spec.name, spec.required, 'default' in spec ? spec.default : undefined]),
    [
      ['files/config', true, undefined],
      ['files/flood', false, 'off'],
      ['files/protect', false, 'off'],
    ],
  );
  const [config] = files.properties;
  t.same(parseValue(config, '/etc/hosts.json'), { value: '/etc/hosts.json' });
  for (const bad of ['hosts.json', './hosts.json', '~/hosts.json'])
    t.same(parseValue(config, bad), { expected: 'an absolute path' });
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
    await t.rejects(startFiles(new TableHost(), at(name)), { message }, name);
  await t.rejects(startFiles(new TableHost(), '/dev/zero'), {
    message: '/dev/zero is a device or a socket, not a file',
  });

  const host = new TableHost();
  const instance = files.create(host, undefined);
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
