// Watches of the control socket: what is told, to which clients, and what becomes of those that are too slow.
import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { OverlayHealth, OverlayStatistics } from '../../src/control/messages.js';
import type { WatchEvent } from '../../src/control/watch-messages.js';
import type { LogLine } from '../../src/daemon/log.js';
import { TargetChanges } from '../../src/daemon/watch/target-changes.js';
import { WatchClient, type Wish } from '../../src/daemon/watch/watch-client.js';
import { Watches } from '../../src/daemon/watch/watches.js';
import { TargetWatch } from '../../src/datapath/userland/main/target-watch.js';
import type { TargetNews } from '../../src/datapath/watch-contract.js';
import type { MacAddress } from '../../src/wire/mac.js';
import { ipOf } from '../helpers/frames.js';
import { waitUntil } from '../helpers/process.js';

const ALL: Wish = { kinds: new Set(['state', 'targets', 'counters', 'log']), overlays: undefined };
const linesOf = (text: string): unknown[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);

/** A client that reads nothing until it is told to. */
function slowClient(wish: Wish = ALL, states: () => Iterator<string> = () => [].values()) {
  const socket = new PassThrough({ readableHighWaterMark: 1, writableHighWaterMark: 1 });
  const client = new WatchClient(socket, wish, states);
  return {
    client,
    socket,
    offer: (kind: 'counters' | 'log' | 'state', n: number, filler = '') => {
      client.offer(kind, `${JSON.stringify({ kind, n, filler })}\n`);
    },
    read: async () => {
      let text = '';
      for (let idle = 0; idle < 5; idle++) {
        for (
          let chunk = socket.read() as Buffer | null;
          chunk !== null;
          chunk = socket.read() as Buffer | null
        ) {
          text += chunk.toString();
          idle = 0;
        }
        await turn();
      }
      return linesOf(text) as { kind: string; n?: number; lines?: Record<string, number> }[];
    },
  };
}

async function overflow(t: Test, count: number, filler: string): Promise<void> {
  const { client, socket, offer, read } = slowClient(ALL, () => ['{"kind":"state","n":-1}\n'].values());
  const over = client.run();
  socket.pause();
  for (let n = 0; n < count; n++) offer('counters', n, filler);
  offer('log', 0);
  const lines = await read();
  const missed = lines.filter(({ kind }) => kind === 'missed');
  t.equal(missed.length, 1, 'one line about all');
  const counters = lines.filter(({ kind }) => kind === 'counters').map(({ n }) => n);
  t.same(
    counters,
    Array.from({ length: counters.length }, (_, n) => n),
    'the first ones, in their order',
  );
  t.ok(counters.length > 0 && counters.length < count, `${counters.length} of ${count} were kept`);
  t.same(missed[0].lines, { counters: count - counters.length, log: 1 }, 'the others are counted');
  offer('log', 1);
  t.match(await read(), [{ kind: 'log', n: 1 }], 'and it goes on');
  socket.destroy();
  await over;
}

t.test('a slow client is told what it has missed', async (t) => {
  await overflow(t, 5000, '');
  await overflow(t, 50, 'x'.repeat(20_000));
});

t.test('after missed states, each overlay comes again', async (t) => {
  let asked = 0;
  const { client, socket, offer, read } = slowClient(ALL, () => {
    asked++;
    return [`{"kind":"state","n":${asked}}\n`].values();
  });
  const over = client.run();
  socket.pause();
  for (let n = 0; n < 2000; n++) offer('state', 100 + n);
  const lines = await read();
  t.equal(lines.at(-1)?.n, 2, 'behind the line about it');
  t.equal(lines.at(-2)?.kind, 'missed');
  t.equal(asked, 2);
  socket.destroy();
  await over;
});

t.test('a line longer than the queue comes all the same; signs of life', async (t) => {
  let nowMs = 0;
  const socket = new PassThrough();
  const client = new WatchClient(
    socket,
    ALL,
    () => [].values(),
    () => nowMs,
  );
  const over = client.run();
  socket.pause();
  client.offer('log', `${'x'.repeat(300_000)}\n`);
  t.equal((socket.read() as Buffer).length, 300_001);
  await turn();
  client.beAlive();
  t.equal(socket.read(), null, 'not before its time');
  nowMs = 5000;
  client.beAlive();
  t.equal(String(socket.read()), '\n');
  socket.end();
  socket.resume();
  await over;
});

t.test('a client that is gone already', async () => {
  const { client, socket } = slowClient();
  socket.destroy();
  await client.run();
});

// -- What is told

interface Scene {
  readonly watches: Watches<ReturnType<typeof overlay>>;
  readonly overlays: Map<string, ReturnType<typeof overlay>>;
  readonly offlineOverlays: Map<string, string>;
  readonly log: Set<(line: LogLine) => void>;
}

function overlay(name: string, id: number) {
  const heard: ((news: readonly TargetNews[] | undefined) => void)[] = [];
  return {
    id,
    name,
    heard,
    report: { status: 'ONLINE', details: null } as OverlayHealth,
    health: { report: (): OverlayHealth => ({ status: 'ONLINE', details: null }) },
    links: { destinationCount: 1, info: { state: 'up' as const } },
    ports: () => [{ name, state: 'up' }],
    datapath: {
      watchTargets: (listener: (news: readonly TargetNews[] | undefined) => void) => {
        heard.push(listener);
        return () => {
          heard.splice(heard.indexOf(listener), 1);
        };
      },
    },
  };
}

function scene(): Scene {
  const overlays = new Map([['a0', overlay('a0', 1)]]);
  const offlineOverlays = new Map([['b0', 'no such address']]);
  const log: Scene['log'] = new Set();
  const watches = new Watches({
    places: { overlays, offlineOverlays },
    statistics: ({ name }) => ({ name, counters: [], drops: [], ports: [] }) as unknown as OverlayStatistics,
    listen: (heard) => {
      log.add(heard);
      return () => log.delete(heard);
    },
    about: { version: '1', pid: 2, startedAt: 'then' },
  });
  return { watches, overlays, offlineOverlays, log };
}

function watching(
  t: Test,
  { watches }: Scene,
  params: Parameters<Scene['watches']['start']>[0],
  mayChange = true,
) {
  const { result, run } = watches.start(params, mayChange);
  const socket = new PassThrough();
  const sent = new PassThrough();
  let text = '';
  sent.on('data', (chunk: Buffer) => (text += chunk.toString()));
  // A duplex whose other side is `sent`: what is written to it is read there.
  const over = run(Object.assign(socket, { write: (line: string) => sent.write(line) }));
  t.teardown(async () => {
    socket.destroy();
    await over;
  });
  return {
    result,
    events: () => linesOf(text) as WatchEvent[],
    end: async () => {
      socket.destroy();
      await over;
    },
  };
}

t.test('states: all at the beginning, then what changes', async (t) => {
  const all = scene();
  const { result, events } = watching(t, all, { kinds: ['state'] });
  t.same(result, { version: '1', pid: 2, startedAt: 'then', kinds: ['state'] });
  await waitUntil(() => events().length === 2, { what: 'two overlays' });
  t.match(events(), [
    { kind: 'state', overlay: 'a0', isGone: false, status: 'ONLINE', ports: [{ name: 'a0', state: 'up' }] },
    { kind: 'state', overlay: 'b0', status: 'OFFLINE', details: 'no such address', peers: null },
  ]);
  all.overlays.get('a0')!.health.report = () => ({ status: 'DEGRADED', details: 'oh' });
  all.offlineOverlays.delete('b0');
  await waitUntil(() => events().length === 4, { what: 'two changes' });
  t.match(events().slice(2), [
    { overlay: 'a0', status: 'DEGRADED', details: 'oh' },
    { overlay: 'b0', isGone: true },
  ]);
  all.overlays.set('c0', overlay('c0', 3));
  await waitUntil(() => events().length === 5, { what: 'a new one' });
  t.match(events()[4], { overlay: 'c0', isGone: false });
});

t.test('only those that are named', async (t) => {
  const all = scene();
  all.overlays.set('c0', overlay('c0', 3));
  const { events } = watching(t, all, { kinds: ['state', 'counters'], overlays: ['c0'] });
  await waitUntil(() => events().some(({ kind }) => kind === 'counters'), { what: 'counters' });
  t.same([...new Set(events().map((event) => 'overlay' in event && event.overlay))], ['c0']);
});

t.test('rights and wrong wishes', (t) => {
  const { watches } = scene();
  t.same(watches.start({}, false).result.kinds, ['state', 'targets', 'counters'], 'a reader');
  t.same(watches.start({}, true).result.kinds, ['state', 'targets', 'counters', 'log']);
  t.throws(() => watches.start({ kinds: ['state', 'log'] }, false), { code: 'DENIED' });
  t.throws(() => watches.start({ kinds: ['frames'] }, true), {
    code: 'INVALID',
    message: /'frames'.*one of state, /,
  });
  t.throws(() => watches.start({ overlays: ['a0', 'x0'] }, true), { code: 'NOT_FOUND', message: /^x0/ });
  for (let n = 2; n < 32; n++) watches.start({}, true);
  t.throws(() => watches.start({}, true), { code: 'AGAIN', message: /^32 clients watch/ });
  t.end();
});

t.test('the log, and nothing while nothing is watched', async (t) => {
  const all = scene();
  const one = watching(t, all, { kinds: ['log'], overlays: ['a0'] });
  t.equal(all.log.size, 1);
  for (const heard of all.log) heard({ level: 'warn', time: 'now', msg: 'hello' });
  await waitUntil(() => one.events().length > 0, { what: 'the line' });
  t.same(one.events(), [{ kind: 'log', at: 'now', level: 'warn', message: 'hello' }]);
  const two = watching(t, all, { kinds: ['targets'] });
  t.equal(all.overlays.get('a0')!.heard.length, 1);
  await one.end();
  t.equal(all.log.size, 0);
  await two.end();
  t.equal(all.overlays.get('a0')!.heard.length, 0);
});

t.test('targets of an overlay that comes meanwhile', async (t) => {
  const all = scene();
  const { events } = watching(t, all, { kinds: ['targets'] });
  all.overlays.set('c0', overlay('c0', 3));
  await waitUntil(() => events().length > 0, { what: 'its line' });
  t.match(events(), [{ kind: 'targets', overlay: 'c0', rows: null }], 'its table may have rows already');
});

// -- Targets

const mac = (n: number): MacAddress => n;
const TO = { ip: ipOf('10.0.0.1'), port: 4789 };

t.test('changes of a table are collected', async (t) => {
  const told: { rows: readonly unknown[] | null }[] = [];
  const changes = new TargetChanges((event) => told.push(event));
  const table = overlay('a0', 1);
  changes.follow([table], true);
  const [hear] = table.heard;
  hear([{ mac: mac(1), to: [TO], origin: 'plugin' }]);
  hear([{ mac: mac(1), to: [TO, TO], origin: 'pushed' }]);
  hear([{ mac: mac(2), to: [], origin: 'set' }]);
  hear([{ mac: mac(3), to: undefined, origin: 'pushed' }]);
  await waitUntil(() => told.length > 0, { what: 'the line' });
  const to = '10.0.0.1:4789';
  t.match(told, [
    {
      rows: [
        { mac: '00:00:00:00:00:01', state: 'flood', destinations: [to, to], origin: 'pushed' },
        { mac: '00:00:00:00:00:02', state: 'drop', destinations: [], origin: 'set' },
        { mac: '00:00:00:00:00:03', state: 'gone', destinations: [], origin: null },
      ],
    },
  ]);
  told.length = 0;
  for (let n = 0; n < 4096; n++) hear([{ mac: mac(n), to: [TO], origin: 'plugin' }]);
  await waitUntil(() => told.length === 16, { what: '16 lines of 256 rows' });
  t.equal(told.flatMap(({ rows }) => rows ?? []).length, 4096);
  told.length = 0;
  for (let n = 0; n < 5000; n++) hear([{ mac: mac(n), to: [TO], origin: 'plugin' }]);
  await waitUntil(() => told.length > 0, { what: 'one line' });
  t.match(told, [{ rows: null }], 'too many');
  told.length = 0;
  hear(undefined);
  await waitUntil(() => told.length > 0, { what: 'a line' });
  t.match(told, [{ rows: null }], 'all were forgotten');
  changes.stop();
  t.equal(table.heard.length, 0);
});

t.test('the MAC of an answer is that of its question', (t) => {
  const news: (readonly TargetNews[] | undefined)[] = [];
  const watch = new TargetWatch((one) => news.push(one));
  const question = { sourceMac: mac(9), etherType: 0x800, vlan: 0 };
  watch.asked([
    { lookup: 1, destinationMac: mac(1), ...question },
    { lookup: 2, destinationMac: mac(2), ...question },
    { lookup: 3, destinationMac: mac(3), ...question, frame: new Uint8Array(14) },
  ]);
  watch.answered(1, { kind: 'target', to: [TO], ttlMs: Infinity });
  watch.answered(2, { kind: 'drop', reason: 'lookup_drop' });
  watch.answered(3, { kind: 'target', to: [TO], ttlMs: 0 });
  watch.answered(4, { kind: 'drop', reason: 'lookup_drop' });
  watch.answered(1, { kind: 'drop', reason: 'lookup_drop' });
  t.same(
    news,
    [[{ mac: 1, to: [TO], origin: 'plugin' }], [{ mac: 2, to: [], origin: 'plugin' }]],
    'not of one about a frame, of one from before, or a second time',
  );
  t.end();
});
