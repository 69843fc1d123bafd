// dladm top without a terminal: rates, sorting, keys, and the screen as a function of choices, reading and size.
import t from 'tap';

import { withPeerRates, withRates } from '../../src/cli/rates.js';
import { paint } from '../../src/cli/top/escapes.js';
import { layout, type Line, type News, type Size } from '../../src/cli/top/layout.js';
import { rateSample, readSample } from '../../src/cli/top/sample.js';
import { BINDINGS, initialState, press, rowsOf, type State } from '../../src/cli/top/state.js';
import { cellText, exactText, type Sample, scaled, VIEWS } from '../../src/cli/top/views.js';
import { fit, widthOf } from '../../src/cli/text.js';
import { type Call, ControlError } from '../../src/control/client.js';
import { counters, drop, overlay, peer, peerRow, port } from '../helpers/top-samples.js';

const SIZE: Size = { columns: 80, rows: 24 };

const SAMPLE: Sample = {
  overlays: [
    overlay('overlay10', { rates: { tx_frames: 10, tx_bytes: 1000, rx_frames: 1, rx_bytes: 100 } }),
    overlay('overlay2', {
      rates: { tx_frames: 5, tx_bytes: 5000, lookups: 2 },
      health: { status: 'DEGRADED', details: 'no route to 10.88.88.70' },
      drops: [drop('tx_group', 90), drop('tx_unreachable', 3), drop('rx_no_port', 0)],
      ports: [
        port('overlay2', { tx_frames: 4 }),
        port('foo0', { rx_bytes: 7, mac_spoofed: 2, restricted: 5 }),
      ],
    }),
    overlay('overlay3', { rates: { tx_frames: null, tx_bytes: null } }),
  ],
  missing: [{ name: 'off0', message: 'off0 is OFFLINE: 10.88.88.69 is not an address of this host' }],
};
const NEWS: News = { sample: SAMPLE, at: '12:34:56', everySeconds: 1, problem: null };

const text = (line: Line): string => line.map((span) => span.text).join('');
const screen = (state: State, news = NEWS, size = SIZE): string[] =>
  layout(state, news, size).lines.map((line) => text(line).trimEnd());
/** After some keys, with blanks between. */
const after = (keys: string, state = initialState(1)): State =>
  keys.split(' ').reduce((now, key) => press(now, key, layout(now, NEWS, SIZE)), state);
const links = (state: State): unknown[] => rowsOf(state, SAMPLE).map(({ cells }) => cells['LINK']);

t.test('rates of the time between two readings', (t) => {
  const at = (tx: number, dropped: number, ports: string[]) => ({
    ...overlay('overlay0', { drops: [drop('rx_no_port', null, dropped)] }),
    counters: [{ name: 'tx_frames', value: tx, perSecond: 7 }],
    ports: ports.map((name) => ({ name, counters: [{ name: 'rx_frames', value: tx, perSecond: 8 }] })),
  });
  const [later] = withRates([at(150, 30, ['foo0', 'foo1'])], [at(100, 10, ['foo0'])], 5);
  t.match(later, { counters: [{ value: 150, perSecond: 10 }], drops: [{ frames: 30, perSecond: 4 }] });
  t.equal(later.ports[0].counters[0].perSecond, 10);
  t.equal(later.ports[1].counters[0].perSecond, 8, 'a port that was not there before has the rate of varpd');
  for (const [what, now] of [
    ['counters', at(50, 30, [])],
    ['drops', at(200, 5, [])],
  ] as const)
    t.same(withRates([now], [at(100, 10, [])], 5), [now], `${what} that begin again have the rates of varpd`);
  t.same(withRates([at(1, 1, [])], [], 5), [at(1, 1, [])], 'a new overlay as well');
  const [first] = withRates([overlay('o0', { rates: { lookups: 3 } })], [overlay('o0')], 2);
  t.equal(first.counters[0].perSecond, 15, 'a counter that is not listed was zero');
  t.end();
});

t.test('rates of peers', (t) => {
  const at = (ip: string | null, tx: number, rx: number, perSecond: number | null = null) => ({
    ...peer('overlay0', peerRow(ip)),
    counters: [
      { name: 'tx_bytes', value: tx, perSecond },
      { name: 'rx_bytes', value: rx, perSecond },
    ],
  });
  const before = [at('10.0.0.1', 100, 100), at(null, 7, 7), at('10.0.0.3', 50, 50)];
  const rates = withPeerRates(
    [at('10.0.0.1', 200, 150), at(null, 7, 17), at('10.0.0.3', 60, 40), at('10.0.0.4', 9, 9)],
    before,
    5,
  ).map((reading) => reading.counters.map(({ perSecond }) => perSecond));
  t.same(rates[0], [20, 10]);
  t.same(rates[1], [0, 2], 'the row of all others');
  t.same(rates[2], [null, null], 'a record that begins again');
  t.same(rates[3], [null, null], 'one that is new');
  const other = [{ ...at('10.0.0.1', 200, 150), overlay: 'overlay1' }];
  t.same(withPeerRates(other, before, 5), other, 'the same address in another overlay');
  const sample = { overlays: [], missing: [], peers: before };
  t.equal(rateSample(sample, undefined, 5), sample, 'the first reading');
  t.same(rateSample(sample, { overlays: [], missing: [] }, 5), sample, 'the first that has peers');
  t.notOk('peers' in rateSample({ overlays: [], missing: [] }, sample, 5), 'and one that has none');
  t.same(rateSample(sample, sample, 5).peers?.[0], at('10.0.0.1', 100, 100, 0));
  t.end();
});

t.test('peers are read for the view that shows them alone, all pages', async (t) => {
  const asked: string[] = [];
  const answers: Record<string, () => unknown> = {
    'overlay.statistics': () => ({ overlays: [overlay('o0'), overlay('o1'), overlay('o2')], missing: [] }),
    'overlay.peers o0': () => ({
      rows: [peerRow('10.0.0.1', { txFrames: 1, txBytes: 2, rxFrames: 3, rxBytes: 4 })],
      next: 'x',
    }),
    'overlay.peers o0 x': () => ({ rows: [peerRow('10.0.0.2')], next: null }),
    'overlay.peers o1': () => {
      throw new ControlError('there is no overlay o1', { reason: 'NOT_FOUND' } as never);
    },
    'overlay.peers o2': () => ({ rows: [peerRow('10.0.0.1')], next: null }),
  };
  const call = ((method: string, { name, after }: { name?: string; after?: string }) => {
    const request = [method, name, after].filter((word) => word !== undefined).join(' ');
    asked.push(request);
    return Promise.resolve().then(answers[request]);
  }) as never as Call;
  const read = async (state: State) => {
    asked.length = 0;
    const sample = await readSample(call, [], state);
    return sample.peers?.map(({ overlay, peer }) => `${overlay} ${peer.ip}`);
  };
  for (const keys of ['', '2', '3', '4 1']) {
    t.equal(await read(after(keys)), undefined);
    t.same(asked, ['overlay.statistics']);
  }
  t.same(await read(after('4')), ['o0 10.0.0.1', 'o0 10.0.0.2', 'o2 10.0.0.1'], 'o1 has just been deleted');
  t.same(asked, Object.keys(answers));
  t.same(await read({ ...after('4'), only: 'o2' }), ['o2 10.0.0.1']);
  t.same(asked, ['overlay.statistics', 'overlay.peers o2'], 'those that are shown');
  const { peers } = await readSample(call, [], after('4'));
  t.same(peers?.[0].counters, [
    { name: 'tx_frames', value: 1, perSecond: null },
    { name: 'tx_bytes', value: 2, perSecond: null },
    { name: 'rx_frames', value: 3, perSecond: null },
    { name: 'rx_bytes', value: 4, perSecond: null },
  ]);
  answers['overlay.peers o1'] = () => {
    throw new ControlError('no', { reason: 'UNSUPPORTED' } as never);
  };
  await t.rejects(read(after('4')), { message: 'no' }, 'another error is one of the reading');
});

t.test('numbers take five characters at most', (t) => {
  const shown: [number | null, string][] = [
    [null, '--'],
    [0, '0'],
    [0.44, '0.4'],
    [9.95, '9.9'],
    [10.4, '10'],
    [999.4, '999'],
    [999.5, '1.00k'],
    [12_345, '12.3k'],
    [99_949, '99.9k'],
    [99_950, '100k'],
    [999_499, '999k'],
    [999_500, '1.00M'],
    [40e9, '40.0G'],
    [Number.MAX_SAFE_INTEGER, '9.01P'],
    [Infinity, 'huge'],
  ];
  for (const [value, expected] of shown) t.equal(scaled(value), expected);
  const column = { name: 'X', width: 9, is: 'rate' } as const;
  t.equal(exactText(column, 12_345.4), '12345');
  t.equal(exactText({ ...column, is: 'count' }, 12_345), '12345');
  t.equal(cellText({ ...column, is: 'count' }, 1), '1', 'a count has no tenths');
  t.equal(cellText({ ...column, is: 'count' }, 12_345), '12.3k');
  t.equal(exactText(column, null), '--');
  t.equal(cellText({ ...column, is: 'seconds' }, 125), '2 min');
  t.end();
});

t.test('sorting', (t) => {
  t.same(links(after('')), ['overlay2', 'overlay10', 'off0', 'overlay3'], 'the busiest first, unknown last');
  t.same(
    links(after('r')),
    ['overlay10', 'overlay2', 'off0', 'overlay3'],
    'reversed, unknown last all the same',
  );
  t.same(links(after('n')), ['off0', 'overlay2', 'overlay3', 'overlay10'], 'names with their numbers');
  t.same(links(after('n r')).slice(0, 2), ['overlay10', 'overlay3']);
  t.same(links(after('t')).slice(0, 2), ['overlay10', 'overlay2'], 'by frames');
  t.same(links(after('x')).slice(0, 1), ['overlay10']);
  t.same(links(after('e')).slice(0, 2), ['overlay2', 'off0'], 'by state: trouble comes first');
  t.same(links(after('t >')), links(after('T')), 'the next column');
  t.same(links(after('t > s <')), links(after('T')), 'and back');
  t.same(after('n <').sorts[0].key, 'd', 'from the first column to the last');
  t.same(after('d >').sorts[0].key, 'n');
  t.same(links(after('u')), links(after('')), 'bytes are sorted as bits are');
  const reasons = (state: State) => rowsOf(state, SAMPLE).map(({ cells }) => cells['REASON']);
  t.same(reasons(after('3')), ['tx_unreachable', 'rx_no_port', 'tx_group'], 'trouble before design');
  t.same(reasons(after('3 e r')), ['tx_unreachable', 'rx_no_port', 'tx_group'], 'however they are sorted');
  t.end();
});

t.test('rows', (t) => {
  const cells = (state: State) => rowsOf(state, SAMPLE).map((row) => row.cells);
  const [busiest, , offline] = cells(after(''));
  t.match(busiest, { STATE: 'DEGRADED', BITS: 40_000, BYTES: 5000, DROPS: 3, BYDESIGN: 90, LOOKUPS: 2 });
  t.match(busiest, { DETAILS: 'no route to 10.88.88.70; lookups: 0 open' });
  t.match(offline, { STATE: 'OFFLINE', DETAILS: '10.88.88.69 is not an address of this host' });
  const missing = [{ name: 'x0', message: 'there is no overlay x0' }];
  t.match(rowsOf(after(''), { overlays: [], missing }), [{ cells: { STATE: 'MISSING' } }]);
  const ports = cells(after('2 d'));
  t.match(ports[0], {
    LINK: 'foo0',
    OVER: 'overlay2',
    RXBYTES: 7,
    DROPS: 2,
    DETAILS: /^20 dropped as mac_spoofed: /,
  });
  t.equal(ports.length, 4);
  const old: object = { ...overlay('old0'), health: undefined };
  t.match(rowsOf(after(''), { overlays: [old as never], missing: [] }), [{ cells: { STATE: null } }]);
  t.end();
});

t.test('keys', (t) => {
  const names = BINDINGS.flatMap(({ keys }) => keys);
  t.equal(new Set(names).size, names.length, 'a key has one meaning');
  for (const { name, columns, sort } of VIEWS) {
    const keys = new Map(
      columns.filter(({ unit }) => unit !== 'bytes').map((each) => [each.key ?? each.name, each]),
    );
    t.equal(keys.size, columns.filter(({ unit }) => unit !== 'bytes').length, `${name}: in sorting as well`);
    t.ok(keys.has(sort));
    for (const key of keys.keys()) t.notOk(names.includes(key), `${name}: ${key}`);
  }
  t.same(
    [after('tab'), after('right'), after('2'), after('shift-tab tab tab')].map(({ view }) => view),
    [1, 1, 1, 1],
  );
  t.equal(after('left').view, VIEWS.length - 1);
  t.same(after('e r tab shift-tab').sorts[0], { key: 'e', isReversed: true }, 'each view keeps its order');
  t.ok(after('q').isOver && after('ctrl-c').isOver && after('h q').isOver);
  t.notOk(after('h x').isHelp || after('').isHelp);
  t.ok(after('h').isHelp);
  t.same(after('h x').sorts, after('').sorts, 'the key that ends the help does nothing else');
  t.ok(after('p').isPaused && !after('p space').isPaused);
  t.same(
    [after('+'), after('+ +'), after('-'), after('- - -')].map((each) => each.intervalSeconds),
    [2, 5, 0.5, 0.5],
  );
  t.equal(press(initialState(86_400), '+', { rows: [], pageRows: 1 }).intervalSeconds, 86_400);
  t.equal(press(initialState(7), '-', { rows: [], pageRows: 1 }).intervalSeconds, 5);
  t.same(after('ctrl-x'), after(''), 'a key without a meaning');
  const selected = (keys: string): string | null => after(`n ${keys}`).selected;
  t.equal(selected('down'), 'overlay2');
  t.equal(selected('down down up j k'), 'overlay2');
  t.equal(selected('up'), null, 'the first one, whichever it is');
  t.equal(selected('end'), 'overlay10');
  t.equal(selected('pagedown'), 'overlay10', 'not beyond the end');
  t.equal(selected('G pageup'), null);
  t.equal(selected('G g'), null);
  const inside = after('n down return');
  t.match(inside, { view: 1, only: 'overlay2' });
  t.same(links(inside), ['foo0', 'overlay2']);
  t.match(after('escape', inside), { view: 0, only: null, selected: 'overlay2' }, 'and back to where it was');
  for (const key of ['down', 'up', 'G', 'return', 'pagedown'])
    t.same(
      press(initialState(1), key, { rows: [], pageRows: 5 }),
      initialState(1),
      `${key} in an empty table`,
    );
  t.end();
});

t.test('the screen of 80 columns', (t) => {
  const lines = screen(after('n'));
  t.equal(lines.length, 24);
  t.match(lines[0], /^4 overlays \(1 DEGRADED, 1 not running\), 4 ports +12:34:56 every 1 s$/);
  t.match(lines[1], /^tx 15 frames\/s 48\.0k bits\/s {3}rx 1\.0 frames\/s 800 bits\/s {3}2\.0 lookups\/s$/);
  t.match(lines[2], /^ 1 overlays {2}2 ports {2}3 drops {2}4 peers +sort: LINK$/);
  t.equal(lines[3], 'LINK      STATE      BITS TXFRAMES TXBITS RXFRAMES RXBITS  LOCAL LOOKUPS  DROPS');
  t.equal(lines[4], 'off0      OFFLINE      --       --     --       --     --     --      --     --');
  t.equal(lines[5], 'overlay2  DEGRADED  40.0k      5.0  40.0k        0      0      0     2.0    3.0');
  t.match(lines[21], /^off0: 10\.88\.88\.69 is not an address/, 'about the selected row');
  t.match(lines[23], /^h help/);
  t.match(screen(after('u'))[3], /BYTES TXFRAMES TXBYTES/);
  t.match(screen(after('n r'))[2], /sort: LINK reversed$/);
  t.match(screen(after('n down return'))[2], /only overlay2 \(Esc: all\) {2}sort: BITS$/);
  t.match(screen(after('p'))[0], /PAUSED$/);
  const help = screen(after('h'));
  for (const { about } of BINDINGS)
    t.ok(
      help.some((line) => line.includes(about)),
      about,
    );
  t.ok(help.some((line) => line.includes('Sort this view by: n LINK')));
  const broken = screen(after(''), { ...NEWS, problem: 'cannot reach varpd at /run/varpd/varpd.sock' });
  t.match(broken, {
    0: /^cannot reach varpd at .*sock$/,
    1: 'as of 12:34:56; trying again',
    4: /^overlay2 /,
  });
  t.match(screen(after(''), { ...NEWS, everySeconds: 4.04 })[0], /every 4 s \(slow answers\)$/);
  const none = { ...NEWS, sample: { overlays: [], missing: [] } };
  t.match(screen(after('3'), none)[4], /^There are no drops\.$/);
  t.match(screen(after(''), { ...NEWS, sample: { ...SAMPLE, overlays: [overlay('o0')] } })[0], /1 port /);
  t.end();
});

t.test('the view of peers', (t) => {
  const reason = 'peer 10.88.88.71 cannot be reached: port unreachable';
  const heardAt = new Date(Date.now() - 125_000).toISOString();
  const peers = [
    peer('overlay0', peerRow('10.88.88.70', { heardAt }), { tx_frames: 5, tx_bytes: 1000, rx_bytes: 10 }),
    peer('overlay0', peerRow('10.88.88.71', { state: 'unreachable', reason, stationCount: null })),
    peer('overlay1', peerRow('2001:db8::88:70', { state: 'silent', reason: 'x' }), { tx_bytes: 1 }),
    peer('overlay1', peerRow(null, { isPeer: false, mtuBytes: null, stations: [] }), { tx_bytes: null }),
  ];
  const news = { ...NEWS, sample: { ...SAMPLE, peers } };
  const lines = screen(after('4'), news);
  t.match(lines[2], /^ 1 overlays {2}2 ports {2}3 drops {2}4 peers +sort: BITS$/);
  t.equal(lines[3], 'PEER            LINK     STATE         BITS TXFRAMES TXBITS RXBITS  HEARD  MACS');
  t.equal(lines[4], '10.88.88.70     overlay0 ok           8.08k      5.0  8.00k     80  2 min     1');
  t.match(lines[5], /^2001:db8::88:70 overlay1 silent +8\.0 +0 +8\.0 +0 +-- /);
  t.match(lines[6], /^10\.88\.88\.71 +overlay0 unreachable +0 /);
  t.match(lines[7], /^others +overlay1 ok +-- /, 'unknown last');
  t.equal(lines[21], 'overlay0: MTU 1500; path train; MACs: 02:00:00:00:00:01');
  t.match(screen(after('4 a'), news)[4], /^10\.88\.88\.70 /, 'by the time since it was heard');
  const links = screen(after('4 n r'), news).slice(4, 8);
  t.match(links, [/ overlay1 /, / overlay1 /, / overlay0 /, / overlay0 /]);
  const byAddress = after('4 i');
  const worst = press(byAddress, 'down', layout(byAddress, news, SIZE));
  t.equal(screen(worst, news)[21], `overlay0: ${reason}`);
  const red = layout(after('4'), news, SIZE).lines.filter((line) =>
    line.some(({ style }) => style === 'trouble'),
  );
  t.match(red.map(text), [/ silent /, / unreachable /]);
  t.ok(
    red.every((line) => line.every(({ style }) => style === 'trouble')),
    'the whole row is red',
  );
  t.equal(screen(after('4'))[4], 'The peers have not been read yet.');
  const none = { ...NEWS, sample: { ...SAMPLE, peers: [] } };
  t.equal(screen(after('4'), none)[4], 'There are no peers.');
  const inside = press(after('4'), 'return', layout(after('4'), news, SIZE));
  t.match(inside, { view: 1, only: 'overlay0' });
  t.match(screen(press(inside, '4', { rows: [], pageRows: 5 }), news).slice(4, 7), [/70/, /71/, /^$/]);
  t.match(screen(after('4'), news, { columns: 20, rows: 5 })[3], /^10\.88\.88\.70$/);
  t.end();
});

t.test('pages', (t) => {
  const overlays = Array.from({ length: 100 }, (_, index) => overlay(`o${index}`));
  const news = { ...NEWS, sample: { overlays, missing: [] } };
  const size = { columns: 80, rows: 13 };
  const { pageRows } = layout(after('n'), news, size);
  t.equal(pageRows, 8);
  const pressed = (keys: string) =>
    keys.split(' ').reduce((now, key) => press(now, key, layout(now, news, size)), after('n'));
  const first = (state: State) => screen(state, news, size)[4].split(' ')[0];
  t.equal(first(pressed('pagedown')), 'o8');
  t.equal(first(pressed('pagedown down')), 'o8', 'rows stay where they are');
  t.equal(first(pressed('end')), 'o96');
  const marked = layout(pressed('pagedown down'), news, size).lines.filter((line) =>
    line.some(({ style }) => style === 'selected'),
  );
  t.match(marked.map(text), [/^LINK/, /^o9 /], 'the column of the order, and the selected row');
  t.end();
});

t.test('every size from 20x5 to 300x100 holds the screen', (t) => {
  const evil = '\x1b[31m\x07\u202e\u9f52\u9f52 e\u0301 '.repeat(4);
  const overlays = [
    ...SAMPLE.overlays,
    overlay(evil, {
      health: { status: 'DEGRADED', details: evil.repeat(9) },
      drops: [{ ...drop('tx_error', 1), reason: evil, about: evil }],
      ports: [{ name: evil, counters: counters({ tx_frames: 1 }) }],
    }),
  ];
  const peers = [peer(evil, peerRow(evil, { state: 'silent', reason: evil, stations: [evil] }))];
  const sample = { overlays, missing: [{ name: evil, message: evil }], peers };
  let screens = 0;
  for (const keys of ['', 'n', '2', '3', '3 a', '4', 'h', 'G return'])
    for (const problem of [null, evil.repeat(10)])
      for (const columns of [1, 5, 20, 21, 33, 40, 60, 79, 80, 81, 100, 132, 300])
        for (const rows of [1, 2, 3, 4, 5, 6, 8, 10, 14, 24, 50, 100]) {
          const { lines } = layout(after(keys), { ...NEWS, sample, problem }, { columns, rows });
          const where = `${keys} ${columns}x${rows}`;
          if (lines.length > rows) t.fail(`${where}: ${lines.length} lines`);
          const long = lines.find((line) => widthOf(text(line)) > columns);
          if (long !== undefined) t.fail(`${where}: ${text(long)}`);
          // eslint-disable-next-line no-control-regex
          if (/[\x00-\x1f\x7f-\x9f\u202e]/.test(lines.map(text).join(''))) t.fail(`${where}: controls`);
          screens++;
        }
  t.equal(screens, 8 * 2 * 13 * 12);
  const rowsIn = (columns: number, rows: number) => screen(after('n'), NEWS, { columns, rows });
  t.same(rowsIn(20, 5), [
    '4 overlays (1 DEGRAD',
    ' 1 overlays',
    'LINK        BITS',
    'off0          --',
    'overlay2   40.0k',
  ]);
  t.match(rowsIn(40, 10)[3], /^LINK {6}STATE {6}BITS TXBITS {2}DROPS$/);
  t.match(rowsIn(120, 24)[3], /DETAILS$/);
  t.end();
});

t.test('text in columns', (t) => {
  t.equal(fit('abc', 5), 'abc  ');
  t.equal(fit('abcdef', 3), 'abc');
  t.equal(fit('\u9f52\u9f52', 3), '\u9f52 ', 'a wide character is not cut in half');
  t.equal(fit('e\u0301x', 2), 'e\u0301x', 'an accent takes no column');
  t.equal(widthOf('a\u9f52\uff01'), 5);
  t.end();
});

t.test('sequences', (t) => {
  const plain = (...texts: string[]): Line[] => texts.map((each) => [{ text: each, style: 'plain' }]);
  const esc = (sequence: string): string => sequence.replaceAll('^', '\x1b[');
  t.equal(
    paint(plain('a', 'b'), undefined, true),
    esc('^m^H^J^1;1H^2Ka^2;1H^2Kb'),
    'a screen of unknown content',
  );
  t.equal(paint(plain('a', 'b'), plain('a', 'b'), true), '', 'nothing for what is there');
  t.equal(paint(plain('a', 'c'), plain('a', 'b'), true), esc('^2;1H^2Kc'), 'one line');
  t.equal(paint(plain('a'), plain('a', 'b', 'c'), true), esc('^2;1H^2K^3;1H^2K'), 'and no residue');
  const trouble: Line = [{ text: 'x\x1b[2J\x07\x9b', style: 'trouble' }];
  t.equal(paint([trouble], [], true), esc('^1;1H^2K^31mx\\x1b[2J\\x07\\x9b^m'), 'text controls nothing');
  t.equal(paint([trouble], [], false), esc('^1;1H^2K^1mx\\x1b[2J\\x07\\x9b^m'), 'bold without colours');
  t.end();
});
