// dladm top without a terminal: rates, sorting, keys, and the screen as a function of choices, reading and size.
import t from 'tap';

import { withRates } from '../../src/cli/rates.js';
import { paint } from '../../src/cli/top/escapes.js';
import { layout, type Line, type News, type Size } from '../../src/cli/top/layout.js';
import { BINDINGS, initialState, press, rowsOf, type State } from '../../src/cli/top/state.js';
import { cellText, exactText, type Sample, scaled, VIEWS } from '../../src/cli/top/views.js';
import { fit, widthOf } from '../../src/cli/text.js';
import { counters, drop, overlay, port } from '../helpers/top-samples.js';

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
  t.match(lines[2], /^ 1 overlays {2}2 ports {2}3 drops +sort: LINK$/);
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
  const sample = { overlays, missing: [{ name: evil, message: evil }] };
  let screens = 0;
  for (const keys of ['', 'n', '2', '3', '3 a', 'h', 'G return'])
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
  t.equal(screens, 7 * 2 * 13 * 12);
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
