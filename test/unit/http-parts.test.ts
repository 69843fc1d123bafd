// Parts of the http plugin alone: ages out of headers, lines and events out of chunks, the cache of answers.
import t from 'tap';

import { Cache } from '../../plugins/http/cache.js';
import { ageOf } from '../../plugins/http/freshness.js';
import { Events, Lines } from '../../plugins/http/lines.js';
import { Repeated } from '../../plugins/http/timing.js';
import type { Known } from '../../plugins/http/store.js';
import { TableHost } from '../helpers/table-host.js';
import { waitUntil } from '../helpers/process.js';

t.test('ages out of headers (RFC 9111, RFC 5861)', (t) => {
  const defaults = { ttlMs: 30_000, staleMs: undefined };
  const rows: [control: string | undefined, age: string | undefined, expected: object][] = [
    [undefined, undefined, { ttlMs: 30_000 }],
    ['max-age=60', undefined, { ttlMs: 60_000 }],
    ['Max-Age="60", public', '20', { ttlMs: 40_000 }],
    ['max-age=60', '90', { ttlMs: 1000 }],
    ['max-age=0', undefined, { ttlMs: 1000 }],
    ['max-age=-1', undefined, { ttlMs: 1000 }],
    ['no-store', undefined, { ttlMs: 1000 }],
    ['no-cache, max-age=60', undefined, { ttlMs: 1000 }],
    [
      'max-age=60, stale-while-revalidate=10, stale-if-error=600',
      undefined,
      { ttlMs: 60_000, staleMs: 600_000 },
    ],
    ['max-age=60, stale-while-revalidate=10', undefined, { ttlMs: 60_000, staleMs: 10_000 }],
    ['max-age=60, must-revalidate, stale-if-error=5', undefined, { ttlMs: 60_000, staleMs: 0 }],
    ['max-age=99999999999999999999', undefined, { ttlMs: 2 ** 31 - 1 }],
    [',,=,max-age', 'x', { ttlMs: 1000 }],
  ];
  for (const [control, age, expected] of rows) {
    const headers = { ...(control && { 'cache-control': control }), ...(age && { age }) };
    t.strictSame(ageOf(headers, defaults), expected, `${control} ${age}`);
  }
  t.strictSame(ageOf({}, { ttlMs: 5000, staleMs: 7 }), { ttlMs: 5000, staleMs: 7 });
  t.end();
});

/** The text in chunks of every size. */
function* chunked(text: string): Generator<Buffer[]> {
  const bytes = Buffer.from(text);
  for (const size of [1, 2, 3, 7, bytes.length])
    yield Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      bytes.subarray(index * size, (index + 1) * size),
    );
}

t.test('lines and events, however they are cut', (t) => {
  for (const chunks of chunked('one\r\n\ntwö\nthree')) {
    const lines = new Lines('store');
    t.strictSame(chunks.flatMap((chunk) => [...lines.of(chunk)]).map(String), ['one', '', 'twö']);
    t.equal(lines.hasRest, true);
  }
  const [marked] = new Events('store').of(Buffer.from('\ufeffdata: a\n\n'));
  t.equal(String(marked.data), 'a', 'a byte order mark at the beginning is no part of the first line');
  const stream =
    ': comment\n\nid: 1\nevent: cursor\ndata\n\ndata:a\ndata:  b\nretry: 5\n\nid\nevent:x\n\nid: 2\0\nevent: y\n\ndata: cut';
  for (const end of ['\n', '\r\n', '\r'])
    for (const chunks of chunked(`\ufeff${stream}`.replaceAll('\n', end))) {
      const events = new Events('store');
      const seen = chunks.flatMap((chunk) => [...events.of(chunk)]);
      t.strictSame(
        seen.map(({ type, data, id }) => [type, data.toString(), id]),
        [
          ['cursor', '', '1'],
          ['message', 'a\n b', '1'],
          ['x', '', ''],
          ['y', '', ''],
        ],
        JSON.stringify(end),
      );
    }
  const mixed = new Events('store');
  const [one, other] = ['data: a\r', '\ndata: b\n\r'].map((text) => [...mixed.of(Buffer.from(text))]);
  t.strictSame([one.length, other.map(({ data }) => String(data))], [0, ['a\nb']], 'CR LF in two chunks');
  const long = Buffer.alloc(600_000, 'x');
  const lines = new Lines('store');
  t.strictSame([...lines.of(long)], []);
  t.throws(() => [...lines.of(long)], { message: 'store sends a line of more than 1048576 bytes' });
  const events = new Events('store');
  const data = Buffer.concat([Buffer.from('data:'), long, Buffer.from('\n')]);
  t.strictSame([...events.of(data)], []);
  t.throws(() => [...events.of(data)], { message: 'store sends an event of more than 1048576 bytes' });
  t.end();
});

t.test('the cache: fresh, stale, renewed, failing, overtaken', async (t) => {
  let nowMs = 0;
  let value = 1;
  let isDown = false;
  const asked: string[] = [];
  const age: { ttlMs: number; staleMs?: number } = { ttlMs: 10_000 };
  let release: (() => void) | undefined;
  const cache = new Cache<string, number>(
    async (key, known) => {
      asked.push(known === undefined ? key : `${key} after ${known.value}`);
      const answer: Known<number> = { value, etag: undefined, age: { ...age } };
      if (release !== undefined) await new Promise<void>((resolve) => (release = resolve));
      if (isDown) throw new Error('down');
      return answer;
    },
    () => nowMs,
  );
  t.equal(await cache.get('a'), 1);
  value = 2;
  nowMs = 9999;
  t.equal(await cache.get('a'), 1, 'fresh');
  nowMs = 10_000;
  isDown = true;
  t.equal(await cache.get('a'), 1, 'old, while asking fails');
  isDown = false;
  t.equal(await cache.get('a'), 2, 'and asked again');
  t.strictSame(asked, ['a', 'a after 1', 'a after 1']);

  t.same((await cache.renewed('a')).age, { ttlMs: 10_000 }, 'as good as new');
  nowMs += 400;
  t.same((await cache.renewed('a')).age, { ttlMs: 9600 });
  nowMs += 1000;
  value = 3;
  t.same(
    await cache.renewed('a'),
    { value: 3, etag: undefined, age: { ttlMs: 10_000 } },
    'asked, although fresh',
  );
  isDown = true;
  nowMs += 1000;
  await t.rejects(cache.renewed('a'), { message: 'down' }, 'varpd itself keeps what is stale');
  isDown = false;

  age.staleMs = 5000;
  cache.forget('a');
  t.equal(await cache.get('a'), 3);
  value = 4;
  nowMs += 12_000;
  t.equal(await cache.get('a'), 3, 'stale, while it is asked again');
  await cache.renewed('a');
  t.equal(await cache.get('a'), 4);
  isDown = true;
  nowMs += 16_000;
  await t.rejects(cache.get('a'), { message: 'down' }, 'gone');
  isDown = false;

  release = () => undefined;
  asked.length = 0;
  const both = [cache.get('b'), cache.get('b')];
  t.strictSame(asked, ['b'], 'one request for both');
  cache.set('b', { value: 9, etag: undefined, age });
  release();
  release = undefined;
  t.strictSame(await Promise.all(both), [9, 9], 'a change is newer than an answer');
  t.equal(cache.known('b'), 9);

  for (let index = 0; index < 65_536; index++) cache.set(`x${index}`, { value: index, etag: undefined, age });
  t.equal(cache.keys.length, 65_536);
  t.equal(cache.has('b'), false, 'the oldest has gone');
});

t.test('repeated work: the earlier time wins, and the end of the overlay ends it', async (t) => {
  const host = new TableHost();
  let turns = 0;
  const work = new Repeated(() => {
    turns++;
    return Promise.resolve(3_600_000);
  }, host);
  work.within(3_600_000);
  work.within(1);
  work.within(2);
  await waitUntil(() => turns > 0, { what: 'the first turn' });
  work.within(1);
  await waitUntil(() => turns > 1, { what: 'the second turn' });
  host.end();
  work.within(0);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(turns, 2);
});
