// The configuration file, the command line over it, properties, and the log.
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { loadConfig, parseConfig, placeOf } from '../../src/daemon/config-file.js';
import { configChanges } from '../../src/daemon/config.js';
import { DaemonLog } from '../../src/daemon/log.js';
import { account, groupId } from '../../src/daemon/process/accounts.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { OverlayError } from '../../src/model/errors.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { type GivenProperty, parseValue, printable, PropertySet } from '../../src/model/properties.js';
import type { PropertySpec } from '../../src/plugin/index.js';
import { fromRoot } from '../helpers/need.js';
import { exec } from '../helpers/process.js';

/** What an operator would read: the details, or the message. */
function linesOf(work: () => unknown): readonly string[] {
  try {
    work();
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    return error.details.length > 0 ? error.details : [error.message];
  }
  return [];
}

t.test('configuration', async (t) => {
  t.test('the documented file holds the defaults and nothing else', async (t) => {
    const text = readFileSync(fromRoot('config/varpd.yaml'), 'utf8');
    t.same(parseConfig(text, 'varpd.yaml'), parseConfig('', 'empty'));
    const nested = ['level', 'format', 'file', 'clients'];
    for (const key of [
      'socket',
      'stateDir',
      'pluginPath',
      'secrets',
      'user',
      'group',
      'metrics',
      'web',
      'webToken',
      'persistTaps',
      ...nested,
    ])
      t.match(text, new RegExp(`^ *${key}: `, 'm'), key);
  });

  t.test(
    'every error has its line and column, the kind of what was found, and what was expected',
    async (t) => {
      const text = [
        'socket: varpd.sock',
        'colour: blue',
        'log:',
        '  level: loud',
        '  tone: high',
        'limits: { clients: 0, lookupDeadlineMs: 1.5 }',
        'pluginPath: /usr/lib/varpd',
        'group: 12',
        'user: 0',
        'persistTaps: yes',
        'metrics: 9560',
      ].join('\n');
      t.same(
        [...linesOf(() => parseConfig(text, 'v.yaml'))].sort(),
        [
          'v.yaml:1:9: socket: found another text, expected an absolute path',
          'v.yaml:2:1: unknown key, expected one of socket, stateDir, pluginPath, secrets, user, group, metrics, metricsHosts, web, webToken, persistTaps, log, limits',
          'v.yaml:4:10: log.level: found another text, expected one of debug, info, warn, error',
          'v.yaml:5:3: log: unknown key, expected one of level, format, file',
          'v.yaml:6:20: limits.clients: found a number, expected a whole number from 1 to 1024',
          'v.yaml:6:41: limits.lookupDeadlineMs: found a number, expected a whole number from 10 to 60000',
          'v.yaml:7:13: pluginPath: found another text, expected a list of absolute paths',
          'v.yaml:8:8: group: found a number, expected the name of a group, or null',
          'v.yaml:9:7: user: found a number, expected the name of a user, or null',
          'v.yaml:10:14: persistTaps: found another text, expected true or false',
          `v.yaml:11:10: metrics: found a number, expected 127.0.0.1:9560, '[::1]:9560', an absolute path, or null`,
        ].sort(),
      );
    },
  );

  t.test('the live page beyond this host wants a token', async (t) => {
    const lines = linesOf(() => parseConfig('socket: /a\nweb: 10.0.0.1:80', 'v.yaml'));
    t.match(lines, [/^v\.yaml:2:6: web: found another text, expected an address of loopback, .*`webToken`/]);
    for (const text of [
      "web: '[::1]:80'",
      'web: 127.0.0.9:80',
      'web: /run/x',
      'web: 10.0.0.1:80\nwebToken: t',
    ])
      t.equal(typeof parseConfig(text, 'v.yaml').web, 'string', text);
  });

  t.test('what is no YAML map is refused with its place', async (t) => {
    t.match(linesOf(() => parseConfig('socket: [', 'v.yaml'))[0], /^v\.yaml:1:\d+: /);
    t.match(
      linesOf(() => parseConfig('log:\n  level: info\n  level: warn\n', 'v.yaml'))[0],
      /^v\.yaml:3:3: not valid YAML: a key that occurs twice$/,
    );
    t.match(linesOf(() => parseConfig('- a\n- b\n', 'v.yaml'))[0], /^v\.yaml:1:1: the file: found a list/);
    t.match(
      linesOf(() => parseConfig('42', 'v.yaml'))[0],
      /^v\.yaml:1:1: the file: found a number, expected a map/,
    );
    t.match(
      linesOf(() => parseConfig('log:\n  level: *there', 'v.yaml'))[0],
      /^v\.yaml:2:10: an alias without an anchor/,
    );
    t.match(linesOf(() => parseConfig('a: 1\n---\nb: 2\n', 'v.yaml'))[0], /^v\.yaml:\d:\d: /);
    t.match(linesOf(() => parseConfig(`socket: /${'x'.repeat(200)}`, 'v.yaml'))[0], /at most 107 bytes/);
    t.match(linesOf(() => parseConfig('#'.repeat(2_000_000), 'v.yaml'))[0], /larger than/);
    t.match(linesOf(() => parseConfig('__proto__: 1', 'v.yaml'))[0], /^v\.yaml:1:1: unknown key/);
  });

  t.test('flags over file over defaults', async (t) => {
    const file = path.join(t.testdir(), 'v.yaml');
    writeFileSync(file, 'socket: /run/a.sock\npluginPath: [/one]\n');
    const config = loadConfig({ config: file, socket: '/run/b.sock', pluginPath: ['/two'] });
    t.match(config, {
      socket: '/run/b.sock',
      pluginPath: ['/one', '/two'],
      stateDir: '/var/lib/varpd',
      group: null,
    });
    t.match(
      linesOf(() => loadConfig({ config: `${file}.no`, pluginPath: [] }))[0],
      /v\.yaml\.no: cannot be read/,
    );
    t.match(
      linesOf(() => loadConfig({ config: file, socket: `/${'x'.repeat(200)}`, pluginPath: [] }))[0],
      /^--socket: /,
    );
  });

  t.test('what a reload can apply', async (t) => {
    const before = parseConfig('', 'v.yaml');
    const after = parseConfig(
      'socket: /x\nlog: {level: debug, format: json}\nlimits: {clients: 3}\n',
      'v.yaml',
    );
    t.same(configChanges(before, after), [
      { key: 'socket', reloadable: false },
      { key: 'log.level', reloadable: true },
      { key: 'log.format', reloadable: false },
      { key: 'limits.clients', reloadable: true },
    ]);
    t.same(configChanges(before, before), []);
  });
});

t.test('properties', async (t) => {
  const plugin: readonly PropertySpec[] = [
    { name: 'test/file', type: 'string', required: true },
    { name: 'test/count', type: 'uint', required: false, default: '7', max: 9 },
  ];
  const specs = overlaySpecs(VXLAN, plugin, ['test', 'direct']);
  const fixed = { vnetid: 42, encap: 'vxlan', search: 'test', 'varpd/id': 3 };
  const make = (...given: GivenProperty[]): PropertySet => PropertySet.from(specs, given, fixed);
  const good: GivenProperty[] = [
    ['vxlan/listen_ip', '10.0.0.1'],
    ['test/file', '/x'],
  ];

  t.test('everything that is wrong is said at once', async (t) => {
    const work = (): PropertySet =>
      make(
        ['vxlan/listen_port', '0'],
        ['colour', 'blue'],
        ['encap', 'nvgre'],
        ['vxlan/source_ports', '257'],
        ['vxlan/accept', 'all'],
        ['test/count', '1'],
        ['test/count', '2'],
        ['vnetid', '43'],
        ['bad\nname', 'x'],
      );
    t.match(linesOf(work), [
      "failed to set property vxlan/listen_port: found '0', expected a whole number from 1 to 65535",
      /^failed to set property colour: no such property, expected one of mtu, vnetid, vxlan\/listen_ip, .*test\/count/,
      'failed to set property encap: permission denied: varpd sets it',
      "failed to set property vxlan/source_ports: found '257', expected a whole number from 1 to 256",
      "failed to set property vxlan/accept: found 'all', expected one of known, any",
      'failed to set property test/count: it occurs twice: give it once',
      "failed to set property vnetid: found '43', expected 42",
      /^failed to set property bad\\x0aname: no such property, /,
      'unset required property: vxlan/listen_ip',
      'unset required property: test/file',
    ]);
    t.throws(work, { code: 'INVALID', message: 'invalid argument' });
    t.throws(() => make(...good, ['colour', 'blue']), { code: 'NOT_FOUND' });
    t.throws(() => make(...good, ['varpd/id', '1']), { code: 'DENIED' });
  });

  t.test('rows come in the order of illumos, with values, defaults and ranges', async (t) => {
    const set = make(...good, ['test/count', '9'], ['vnetid', '42']);
    set.setDefault('mtu', 1450);
    t.same(
      set
        .rows()
        .map((row) =>
          (Object.values(row) as (string | boolean | null)[]).map((cell) => cell ?? '--').join(' '),
        ),
      [
        'mtu rw false 1450 1450 576-8900',
        'vnetid rw false 42 -- 0-16777215',
        'encap r- false vxlan -- vxlan,geneve',
        'varpd/id r- false 3 -- --',
        'vxlan/listen_ip rw true 10.0.0.1 -- --',
        'vxlan/listen_port rw true 4789 4789 1-65535',
        'vxlan/source_ports rw false 64 64 1-256',
        'vxlan/udp_checksum rw false auto auto auto,full,zero',
        'vxlan/accept rw false known known known,any',
        'vxlan/strict-source rw false off off off,on',
        'vxlan/vlan rw false keep keep keep,drop',
        'vxlan/dscp rw false zero zero zero,copy',
        'vxlan/loopback rw false on on on,off',
        'offload rw false auto auto auto,off,checksum,tso,uso,train,tunnel,coalesce,nested',
        'link-state rw false up up up,follow',
        'queues r- false 1 1 auto,1-16',
        'search r- false test -- test,direct',
        'test/file r- true /x -- --',
        'test/count r- false 9 7 0-9',
      ],
    );
    t.same(
      set.given(),
      [...good, ['test/count', '9']],
      'only what was typed is kept, and no vnetid: it has an option',
    );
    t.equal(set.uint('test/count'), 9);
    t.equal(set.text('test/file'), '/x');
    t.throws(() => set.uint('test/file'), { code: 'INTERNAL' });
    t.throws(() => set.ip('test/nothing'), { code: 'INTERNAL' });
  });

  t.test('numbers are decimal digits and nothing else', async (t) => {
    const spec: PropertySpec = { name: 'n', type: 'uint', required: false, min: 0, max: 100 };
    for (const text of ['0', '7', '100']) t.same(parseValue(spec, text), { value: Number(text) });
    for (const text of [
      '',
      '-1',
      '+1',
      ' 1',
      '1 ',
      '007',
      '0x10',
      '1e1',
      '1.0',
      '101',
      '99999999999999999999',
      '१',
    ])
      t.match(parseValue(spec, text), { expected: 'a whole number from 0 to 100' }, `'${text}'`);
  });

  t.test('listen addresses that cannot be a source are refused', async (t) => {
    const spec = specs.find(({ name }) => name === 'vxlan/listen_ip')!;
    for (const [text, value] of [
      ['10.0.0.1', '10.0.0.1'],
      ['127.0.0.1', '127.0.0.1'],
      ['169.254.1.1', '169.254.1.1'],
      ['::ffff:10.0.0.1', '10.0.0.1'],
      ['FD00:0::1', 'fd00::1'],
      ['::1', '::1'],
    ] as const)
      t.same(parseValue(spec, text), { value }, text);
    const refused = [
      '0.0.0.0',
      '::',
      '::1.2.3.4',
      '2002:1::1',
      'ff02::1',
      '224.0.0.1',
      '239.9.9.9',
      '255.255.255.255',
    ];
    for (const text of [...refused, 'fe80::1', '::ffff:0.0.0.0'])
      t.match(parseValue(spec, text), { expected: /unicast/ }, text);
    for (const text of ['10.0.0', '010.0.0.1', '0x7f.1', '10.0.0.1/24', 'host', 'fe80::1%eth0', ''])
      t.match(parseValue(spec, text), { expected: 'an IPv4 or IPv6 address' }, text);
  });

  t.test('text is bounded in bytes and has no control characters', async (t) => {
    const spec: PropertySpec = { name: 's', type: 'string', required: false };
    t.same(parseValue(spec, 'ä'.repeat(127)), { value: 'ä'.repeat(127) });
    for (const text of ['', 'ä'.repeat(128), 'a\nb', 'a\0'])
      t.match(parseValue(spec, text), { expected: /255 bytes/ });
  });
});

t.test('log', async (t) => {
  const lines: string[] = [];
  let nowMs = 0;
  const stream = { write: (line: string): void => void lines.push(line) };
  const open = (format: 'text' | 'json'): DaemonLog =>
    DaemonLog.to(stream, { level: 'info', format }, undefined, () => nowMs);

  t.test('one line an event, whatever is in it', async (t) => {
    lines.length = 0;
    const log = open('text');
    log.info('a', 'first\n2026-01-01T00:00:00.000Z error forged\x1b[31m');
    log.debug('a', 'not at this level');
    t.equal(lines.length, 1);
    t.match(lines[0], /^[-0-9T:.]+Z info first\\x0a2026.*forged\\x1b\[31m\n$/);
    open('json').warn('a', 'x');
    t.match(JSON.parse(lines[1]), {
      level: 'warn',
      msg: 'x',
      pid: process.pid,
    });
    log.setLevel('debug');
    log.debug('a', 'now');
    t.equal(lines.length, 3);
  });

  t.test('ten lines of a kind in a second, then a count', async (t) => {
    lines.length = 0;
    nowMs = 5000;
    const log = open('text');
    for (let count = 0; count < 1_000_000; count++) log.warn('flood', 'bad packet');
    log.warn('other', 'is not concerned');
    t.equal(lines.length, 11);
    nowMs += 1000;
    log.warn('flood', 'bad packet');
    t.equal(lines.length, 13);
    t.match(lines[11], /warn 999990 more like the following: flood/);
  });

  t.test('a file, opened again after it was renamed', async (t) => {
    const file = path.join(t.testdir(), 'log');
    const log = DaemonLog.open({ level: 'info', format: 'text', file }, file);
    log.info('a', 'one');
    t.match(readFileSync(file, 'utf8'), / info one\n$/);
    writeFileSync(file, '');
    chmodSync(file, 0o600);
    log.reopen();
    log.info('b', 'two');
    t.match(readFileSync(file, 'utf8'), / info two\n$/);
  });

  t.test('into the journal: a priority, and no second time', async (t) => {
    const file = path.join(t.testdir({ stderr: '' }), 'stderr');
    const module = fromRoot('dist/src/daemon/log.js');
    const script = `
      import { DaemonLog } from ${JSON.stringify(module)};
      const log = DaemonLog.open({ level: 'debug', format: 'text', file: null }, null);
      for (const level of ['debug', 'info', 'warn', 'error']) log[level](level, 'two\\nlines');`;
    const write = async (stream: string): Promise<string> => {
      const node = [process.execPath, '--input-type=module', '-e', script];
      writeFileSync(file, '');
      await exec(['sh', '-c', `exec "$@" 2>${file}`, 'sh', ...node], { env: { JOURNAL_STREAM: stream } });
      return readFileSync(file, 'utf8');
    };
    const { dev, ino } = statSync(file);
    const message = 'two\\x0alines\n';
    t.equal(
      await write(`${dev}:${ino}`),
      ['<7>', '<6>', '<4>', '<3>'].map((mark) => mark + message).join(''),
    );
    t.match(await write(`${dev}:1`), /^\d{4}-.*Z debug two/, 'standard error was sent elsewhere since');
  });

  t.test('printable', async (t) => {
    t.equal(printable('a\u202eb\u2028c\0'), 'a\\x202eb\\x2028c\\x00');
    t.equal(printable('x'.repeat(100)).length, 83);
  });
});

t.test('what is wrong only in use is said with its place in the file', (t) => {
  const file = path.join(
    t.testdir({ 'v.yaml': 'socket: /s\nuser:   nobody-of-this-name\n"group": none\n' }),
    'v.yaml',
  );
  const config = loadConfig({ config: file, pluginPath: [] });
  t.equal(placeOf(config, 'user'), `${file}:2:9: `);
  t.equal(placeOf(config, 'group'), `${file}:3:10: `);
  t.equal(placeOf(config, 'metrics'), '', 'not there');
  t.equal(placeOf(loadConfig({ config: file, pluginPath: [], socket: '/x' }), 'user'), `${file}:2:9: `);
  t.throws(() => account('nobody-of-this-name', placeOf(config, 'user')), {
    message: `${file}:2:9: user: there is no user of that name`,
  });
  t.throws(() => groupId('none\x1b', placeOf(config, 'group')), {
    message: `${file}:3:10: group: there is no group of that name`,
  });
  t.end();
});
