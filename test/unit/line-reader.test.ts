// Lines of a stream in shares: what a side that sends without end may take, and what is left of it.
import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';

import { LineReader, type LineOptions } from '../../src/plugin-process/lines.js';
import { waitUntil } from '../helpers/process.js';

const SHARE_MS = 2;
const MANY = 6000;

function reader(options: Partial<LineOptions> = {}) {
  const source = new PassThrough();
  const lines: string[] = [];
  let tooLong = 0;
  const made = new LineReader(source, {
    maxBytes: 100,
    shareMs: SHARE_MS,
    heard: (line) => lines.push(line.toString()),
    tooLong: () => {
      tooLong++;
    },
    ...options,
  });
  return { source, lines, made, tooLong: () => tooLong };
}

/** Takes time, as a message does. */
function work(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs);
}

const numbered = (count: number): string => Array.from({ length: count }, (_, n) => `${n}\n`).join('');

await t.test('lines come whole and in order, however they are cut', async (t) => {
  const { source, lines } = reader();
  for (const part of ['a', 'b\nc', '\n\nd\n', 'e']) {
    source.write(part);
    await nextTurn();
  }
  t.same(lines, ['ab', 'c', '', 'd'], 'the last one is not whole');
});

await t.test('a character may lie in two chunks, and lines that are kept stay as they are', async (t) => {
  const kept: Buffer[] = [];
  const { source } = reader({ heard: (line) => kept.push(line) });
  const bytes = Buffer.from('für\nüber\n');
  for (const byte of bytes) source.write(Buffer.of(byte));
  await waitUntil(() => kept.length === 2, { what: 'both lines' });
  t.same(kept.map(String), ['für', 'über']);
});

await t.test('a line that is too long ends it', async (t) => {
  const { source, lines, tooLong } = reader();
  source.write(`short\n${'x'.repeat(101)}`);
  await waitUntil(() => tooLong() > 0, { what: 'the line to be refused' });
  source.write('\nmore\n');
  await nextTurn();
  t.same(lines, ['short']);
  t.equal(tooLong(), 1);
});

for (const restMs of [0, 5])
  await t.test(`a share ends, and other work is done, with a rest of ${restMs} ms`, async (t) => {
    const heardAtMs: number[] = [];
    const heard = (): void => {
      heardAtMs.push(performance.now());
      work(0.05);
    };
    const { source } = reader({ heard, restMs });
    source.write(numbered(MANY));
    let turns = 0;
    for (; heardAtMs.length < MANY; turns++) await nextTurn();
    t.ok(turns > 100, `${turns} turns of the event loop meanwhile`);
    const pauses = heardAtMs.slice(1).map((ms, index) => ms - heardAtMs[index]);
    const rests = pauses.filter((ms) => ms > 4);
    if (restMs > 0) t.ok(rests.length > 100, `${rests.length} rests`);
  });

for (const [what, chunks, lineBytes, workMs] of [
  ['many chunks of one turn come out of one share', 400, 16, 0.2],
  ['the clock is looked at after few long lines', 1, 64 * 1024, 4],
] as const)
  await t.test(what, async (t) => {
    const turnsOf: number[] = [];
    let turn = 0;
    const heard = (): void => {
      turnsOf.push(turn);
      work(workMs);
    };
    const { source } = reader({ heard, restMs: 1, maxBytes: lineBytes });
    const line = `${'x'.repeat(lineBytes)}\n`;
    const count = chunks === 1 ? 8 : chunks * 2;
    for (let chunk = 0; chunk < chunks; chunk++) source.write(line.repeat(count / chunks));
    for (; turnsOf.length < count; turn++) await nextTurn();
    const most = Math.max(...turnsOf.map((one) => turnsOf.filter((other) => other === one).length));
    t.ok(most <= (SHARE_MS + 1) / workMs + 32, `${most} lines of ${count} in one turn`);
    // A rest may end in the turn in which it began.
    if (chunks === 1) t.ok(most <= 2, `${most} lines of ${count} in one turn`);
  });

await t.test('nothing is heard after a stop, or while it is held', async (t) => {
  const { source, lines, made } = reader();
  made.hold();
  source.write(numbered(3));
  await nextTurn();
  t.same(lines, []);
  made.release();
  await waitUntil(() => lines.length === 3, { what: 'the lines that waited' });
  source.write('4\n5');
  await waitUntil(() => lines.length === 4, { what: 'the next line' });
  made.stop();
  source.write('6\n7\n');
  for (let turn = 0; turn < 5; turn++) await nextTurn();
  t.same(lines, ['0', '1', '2', '4']);
  source.end();
  await waitUntil(() => source.destroyed, { what: 'the stream to end: it is still read' });
});

for (const state of ['held', 'in a rest'] as const)
  await t.test(`a stop while it is ${state}: the end of the stream is seen`, async (t) => {
    const heard = (): void => {
      work(0.5);
    };
    const { source, made } = reader({ heard, restMs: 1000 });
    source.write(numbered(100));
    if (state === 'held') made.hold();
    else await waitUntil(() => source.isPaused(), { what: 'the rest' });
    made.stop();
    source.end();
    await waitUntil(() => source.destroyed, { what: 'the stream to end' });
    t.pass();
  });
