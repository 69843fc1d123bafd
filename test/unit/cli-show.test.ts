// What dladm shows of overlays: tables, parsable output and JSON; and the program itself, with its help.
import path from 'node:path';
import t, { type Test } from 'tap';
import { type Column, formatParsable, formatTable } from '../../src/cli/table.js';
import type { OverlayInfo, PropertyRow, TargetRow } from '../../src/control/messages.js';
import {
  type Answer,
  directory,
  fakeDaemon,
  lines,
  MAIN,
  NONE_MISSING,
  refuse,
  run,
  runMain,
  versioned,
  words,
} from '../helpers/fake-control.js';
import { run as runProgram } from '../helpers/process.js';

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
    peers: 1,
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

/** A list as `--json` prints it. */

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
    t.equal(mixed.status, 7, 'properties and health are not in one table');
    t.match(mixed.err, /unknown output field: 'offloads'/);
  });

  await t.test('JSON has everything', async (t) => {
    const { out } = await run(socket, 'show-overlay', '--json');
    t.same(JSON.parse(out), versioned(DEMO, FILES));
    t.match(out, '9007199254740991');
  });

  await t.test('names: what is there is shown, what is not makes the status 4', async (t) => {
    requests.length = 0;
    const outcome = await run(socket, 'show-overlay', 'nope0', 'demo0', 'foo0');
    t.same(requests, [{ method: 'overlay.list', params: { names: ['nope0', 'demo0', 'foo0'] } }]);
    t.same(outcome, {
      status: 4,
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
    t.match(await shown('-f', 'nope0'), { status: 4, out: '' }, 'what was named has its line');
  });

  await t.test('what is stored and does not run', async (t) => {
    const health = { status: 'OFFLINE', details: 'there is a network interface demo0' } as const;
    const offline = { ...DEMO, health, underlay: null, peers: null, offloads: [], counters: {} };
    const { socket } = await fakeDaemon({ 'overlay.list': listing(offline, FILES), ...NO_TARGETS });
    const shown = async (...argv: string[]) => run(socket, 'show-overlay', ...argv);
    const err = 'dladm: demo0 is OFFLINE: there is a network interface demo0\n';
    t.same(await shown('demo0'), { status: 0, out: ARTICLE, err }, 'its properties are known');
    t.same(await shown('-f', '-p', '-o', 'status,details', 'demo0'), {
      status: 0,
      out: 'OFFLINE:there is a network interface demo0\n',
      err: '',
    });
    t.same(await shown('-t', 'demo0'), { status: 7, out: '', err }, 'its targets are not');
    t.same(JSON.parse((await shown('--json', 'demo0')).out), versioned(offline));
  });
});

function target(mac: string, state: TargetRow['state'], ...destinations: string[]): TargetRow {
  const times = { ageMs: 61_999, idleMs: 2000, ttlMs: null, isStale: false, staleMs: null };
  return { mac, state, destinations, origin: 'plugin', ...times };
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

  const all = ['show-overlay', '-t', '-p', '-o', 'link,origin,age,used,ttl', 'demo0'];
  t.equal((await run(socket, ...all)).out, 'demo0:plugin:61:2:--\n');
  const { out: screen } = await run(socket, 'show-overlay', '-t', '-s', 'overlay0');
  t.match(screen, /^LINK +TARGET +DESTINATION +ORIGIN +AGE +USED +TTL$/m);
  t.match(screen, /^overlay0 +de:ad:be:ef:00:02 drop +plugin +61 +2 +--$/m, 'in seconds');
  for (const text of screen.split('\n')) t.ok(text.length <= 80, text);
  t.equal((await run(socket, 'show-overlay', '-t', '-s', '-i', '1')).status, 2, 'without an interval');

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
  const whole = [
    { ...FILES, targets: table },
    { ...overlay('many0', []), targets: many },
  ];
  t.equal(
    manyAsJson.out,
    `${JSON.stringify(versioned(...whole), undefined, 2)}\n`,
    'in pieces, the same text',
  );

  const withTimes = await run(socket, 'show-overlay', '-t', '-s', '--json', 'overlay0', 'many0');
  const once = { v: 1, overlays: whole };
  t.equal(withTimes.out, `${JSON.stringify(once, undefined, 2)}\n`, '-s says its version once');

  const json = await run(socket, 'show-overlay', '-t', '--json', 'gone0', 'demo0');
  t.same(JSON.parse(json.out), versioned({ ...DEMO, targets: point }), 'what cannot be read is left out');
  t.match(JSON.parse(json.err), {
    error: { reason: 'NOT_FOUND', message: 'cannot read the target table of gone0: object not found' },
  });
  t.equal(json.status, 4);
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

// -- The program

await t.test('the program itself', async (t) => {
  const { socket } = await fakeDaemon({ ...NONE_MISSING, 'overlay.list': listing(DEMO) });
  t.match(await runMain(socket, 'show-overlay'), { code: 0, stdout: ARTICLE, stderr: '' });
  t.match(await runMain(socket, 'delete-overlay', 'demo0'), { code: 0, stdout: '', stderr: '' });
  t.match(await runMain(undefined, 'show-overlay', '--socket', socket), { code: 0, stdout: ARTICLE });
  const absent = path.join(directory, 'absent.sock');
  t.match(await runMain(absent, 'show-overlay', '-t'), {
    code: 3,
    stdout: '',
    stderr: `dladm: cannot reach varpd at ${absent}: no such socket: is varpd running?\n`,
  });
  const unknown = await runMain(socket, 'show-link', '-x');
  t.equal(unknown.code, 2);
  t.match(unknown.stderr, /^dladm: unknown subcommand 'show-link'\nusage: dladm .*\n {4}create-overlay /);
  const nothing = await runMain(socket);
  t.equal(nothing.code, 2);
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
  t.equal(synopses.length, 33);
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
