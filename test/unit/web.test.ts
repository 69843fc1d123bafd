// The live page without a browser: what it makes of a watch, what it shows as trouble, and which requests it answers.
import type { IncomingMessage } from 'node:http';
import t from 'tap';
import type { PeerRow } from '../../src/control/peer-messages.js';
import type { CountersEvent, StateEvent } from '../../src/control/watch-messages.js';
import { type GuardOptions, refusal } from '../../src/web/guard.js';
import { HISTORY_POINTS, LOG_LINES, type PeerView } from '../../src/web/messages.js';
import { Model, peerViews } from '../../src/web/model.js';
import { ageText, bitsText, framesText } from '../../src/web/page/format.js';
import {
  linesOf,
  NOTHING,
  troublesOf,
  withNews,
  withSnapshot,
  withUpdate,
} from '../../src/web/page/state.js';

const INFO = { version: '1', pid: 2, startedAt: 'then', kinds: [] };
const state = (overlay: string, more: Partial<StateEvent> = {}): StateEvent => ({
  kind: 'state',
  at: 'now',
  overlay,
  isGone: false,
  status: 'ONLINE',
  details: null,
  notes: null,
  underlay: 'up',
  peers: 1,
  ports: [{ name: overlay, state: 'up' }],
  ...more,
});
const counters = (overlay: string, bytes: number | null): CountersEvent => ({
  kind: 'counters',
  at: 'now',
  overlay,
  counters: [{ name: 'tx_bytes', value: 9, perSecond: bytes }],
  lookups: { asked: 0, open: 0, latencyMs: null },
  drops: [
    { reason: 'lookup_failed', kind: 'trouble', about: 'why', frames: 3, perSecond: 2, last: null },
    { reason: 'lookup_drop', kind: 'by_design', about: 'why', frames: 3, perSecond: 5, last: null },
  ],
  ports: [],
});

t.test('the page has what a watch says', (t) => {
  const model = new Model('box', true);
  t.match(model.snapshot(), { about: { host: 'box', problem: 'not reached yet' }, overlays: [], peers: [] });
  model.begin(INFO);
  model.take(counters('a0', 1));
  t.same(model.snapshot().overlays, [], 'no overlay without a state');
  model.take(state('a0'));
  let page = withSnapshot(model.snapshot());
  model.update();
  t.equal(model.update(), undefined, 'nothing new');
  for (let n = 0; n < HISTORY_POINTS + 5; n++) {
    model.take(counters('a0', n));
    page = withUpdate(page, model.update()!);
  }
  const [overlay] = model.snapshot().overlays;
  t.match(
    overlay.rates,
    { txBits: (HISTORY_POINTS + 4) * 8, rxBits: 0, drops: 2 },
    'only trouble counts as drops',
  );
  t.equal(overlay.history.txBits.length, HISTORY_POINTS);
  t.equal(overlay.history.txBits.at(-1), (HISTORY_POINTS + 4) * 8, 'the newest last');
  t.same(page.overlays.get('a0'), overlay, 'updates lead to the same as a snapshot');
  model.take(state('a0', { status: 'DEGRADED', details: 'oh' }));
  page = withUpdate(page, model.update()!);
  t.equal(page.overlays.get('a0')?.history.txBits.length, HISTORY_POINTS, 'no point without counters');
  t.equal(page.overlays.get('a0')?.rates?.drops, 2);
  model.lose('gone');
  page = withUpdate(page, model.update()!);
  t.equal(page.about?.problem, 'gone');
  model.begin(INFO);
  page = withUpdate(page, model.update()!);
  t.equal(page.overlays.size, 0, 'not there after a restart');
  model.take(state('b0'));
  model.take(state('b0', { isGone: true }));
  t.same(model.update()?.gone, ['b0']);
  t.end();
});

t.test('rates of peers', (t) => {
  const row = (ip: string | null, txBytes: number) =>
    ({ ip, txBytes, rxBytes: 0, state: 'ok', stations: [] as string[] }) as unknown as PeerRow;
  const before = new Map([['a0 1', row('1', 100)]]);
  const views = peerViews('a0', [row('1', 300), row('2', 5)], before, 2);
  t.match(views, [
    { ip: '1', txBits: 800, rxBits: 0 },
    { ip: '2', txBits: null },
  ]);
  t.match(peerViews('a0', [row('1', 50)], before, 2), [{ txBits: null }], 'it counts from zero again');
  t.end();
});

t.test('trouble, the most serious first', (t) => {
  const model = new Model('box', true);
  model.begin(INFO);
  model.take(state('a0', { notes: 'a note' }));
  model.take(state('b0', { status: 'OFFLINE', details: 'no address', underlay: null, ports: [] }));
  model.take(state('c0', { underlay: 'partly', ports: [{ name: 'foo0', state: 'its interface is down' }] }));
  model.take(counters('c0', 1));
  const page = withSnapshot(model.snapshot());
  const peer = {
    overlay: 'a0',
    ip: '10.0.0.1',
    state: 'silent',
    reason: 'peer 10.0.0.1 is silent',
  } as PeerView;
  const texts = troublesOf({ ...page, isLost: true, peers: [peer] }).map(({ text }) => text);
  const expected = [
    /^The page has lost/,
    /^b0 is OFFLINE: no address$/,
    /^c0: some destinations/,
    /^foo0 of c0: its interface is down$/,
    /^a0: peer 10\.0\.0\.1 is silent$/,
    /^a0: a note$/,
    /^c0: frames are dropped as lookup_failed: why$/,
  ];
  t.equal(texts.length, expected.length, texts.join('\n'));
  expected.forEach((pattern, index) => t.match(texts[index], pattern));
  t.same(troublesOf(NOTHING), []);
  t.end();
});

t.test('changes of a table', (t) => {
  const change = { mac: 'b', state: 'valid', destinations: ['x', 'y'], origin: 'set' } as const;
  const rows = [['a', 'valid', 'z', 'plugin', 5] as const, ['b', 'drop', '', 'plugin', 5] as const];
  t.same(withNews(rows, [change]), [rows[0], ['b', 'valid', 'x y', 'set', 0]]);
  t.same(withNews(rows, [{ ...change, state: 'gone' }]), [rows[0]]);
  t.same(withNews([], [change]), [['b', 'valid', 'x y', 'set', 0]]);
  t.end();
});

t.test('numbers', (t) => {
  t.same([null, 0, 5, 999, 1500, 2_500_000, 10e9].map(bitsText), [
    '--',
    '0 bit/s',
    '5 bit/s',
    '999 bit/s',
    '1.5 kbit/s',
    '2.5 Mbit/s',
    '10.0 Gbit/s',
  ]);
  t.equal(framesText(1500), '1.5k frames/s');
  t.same([null, 5, 600, 7200, 200_000].map(ageText), ['--', '5 s', '10 min', '2 h', '2 d']);
  t.end();
});

t.test('requests', (t) => {
  const guard: GuardOptions = { hosts: ['box.example'], token: undefined, isUnix: false };
  const statusOf = (headers: Record<string, string[]>, more: Partial<GuardOptions> = {}, url = '/events') => {
    const headersDistinct = headers;
    const plain = Object.fromEntries(Object.entries(headers).map(([name, values]) => [name, values[0]]));
    return refusal({ headersDistinct, headers: plain, url, method: 'GET' } as unknown as IncomingMessage, {
      ...guard,
      ...more,
    })?.status;
  };
  for (const host of ['127.0.0.1:9570', '[::1]:9570', 'localhost', 'LOCALHOST.:9570', 'box.example:9570'])
    t.equal(statusOf({ host: [host] }), undefined, host);
  for (const host of ['evil.example', 'localhost.evil.example', '', 'box.example.evil'])
    t.equal(statusOf({ host: [host] }), 421, host);
  t.equal(statusOf({ host: ['localhost', 'localhost'] }), 421, 'two names');
  t.equal(statusOf({ host: ['localhost:1'], origin: ['http://localhost:1'] }), undefined);
  t.equal(
    statusOf({ host: ['localhost:1'], origin: ['http://localhost:2'] }),
    403,
    'another program of this host',
  );
  t.equal(statusOf({ host: ['localhost:1'], origin: ['null'] }), 403);
  t.equal(statusOf({ host: ['localhost'], 'sec-fetch-site': ['same-site'] }), 403);
  t.equal(statusOf({ host: ['localhost'], 'sec-fetch-site': ['same-origin'] }), undefined);
  t.equal(statusOf({ host: ['any'] }, { isUnix: true }), undefined);
  t.equal(statusOf({ host: ['localhost'] }, { token: 'a b' }), 401);
  t.equal(statusOf({ host: ['localhost'], cookie: ['x=1; varpd_token=a%20b'] }, { token: 'a b' }), undefined);
  t.equal(statusOf({ host: ['localhost'] }, { token: 'a b' }, '/?token=a+b'), undefined);
  t.end();
});

t.test('the log: bounded, the newest first, by level', (t) => {
  const model = new Model('box', true);
  const line = (message: string, level: 'info' | 'error' = 'info') =>
    ({ kind: 'log', at: '2026-01-01T00:00:00.000Z', level, message }) as const;
  model.take(line('first', 'error'));
  let page = withSnapshot(model.snapshot());
  t.same(
    linesOf(page.log ?? [], 'debug').map(({ message }) => message),
    ['first'],
  );
  model.update();
  for (let n = 0; n < 3 * LOG_LINES; n++) model.take(line(`line ${n}`));
  model.take({ kind: 'missed', at: '2026-01-01T00:00:00.000Z', lines: { log: 7 } });
  page = withUpdate(page, model.update()!);
  t.same(page.log, model.snapshot().log, 'a page that was open has what a new one gets');
  const lines = linesOf(page.log ?? [], 'debug');
  t.equal(lines.length, LOG_LINES);
  t.match(lines, [
    { level: 'warn', message: /^7 lines of the log/ },
    { message: `line ${3 * LOG_LINES - 1}` },
  ]);
  t.equal(linesOf(page.log ?? [], 'warn').length, 1);
  t.same(linesOf(page.log ?? [], 'error'), []);
  t.equal(model.update(), undefined, 'and nothing twice');
  t.equal(withSnapshot(new Model('box', false).snapshot()).log, null, 'a page for every user has none');
  t.end();
});
