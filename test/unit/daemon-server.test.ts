// The control socket: who may do what, and what becomes of clients that do not behave.

import { once } from 'node:events';
import { statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createClient } from '../../src/control/client.js';
import { encodeMessage } from '../../src/control/framing.js';
import { MAX_REQUEST_BYTES } from '../../src/control/messages.js';
import { createOpener } from '../../src/control/stream-client.js';
import type { Handlers } from '../../src/daemon/control/rpc.js';
import { type Credentials } from '../../src/daemon/control/server.js';
import { Streamed } from '../../src/daemon/control/streamed.js';
import { claimSocket } from '../../src/daemon/socket-file.js';
import { OverlayError } from '../../src/model/errors.js';
import { ROOT, QUICK, TARGETS, shortDirectory, serve, Raw } from '../helpers/control-server.js';
import { succeeds, waitUntil } from '../helpers/process.js';

t.test('a call of the real client', async (t) => {
  const { socket } = await serve(t, {
    handlers: {
      'overlay.list': ({ names }) => ({
        overlays: [],
        missing: (names ?? []).map((name) => ({ name, message: 'no' })),
        next: null,
      }),
      'overlay.delete': () => {
        throw new OverlayError('BUSY', 'overlay0 is busy', ['one', 'two']);
      },
    },
  });
  const call = createClient(socket);
  t.same(await call('overlay.list', { names: ['a'] }), {
    overlays: [],
    missing: [{ name: 'a', message: 'no' }],
    next: null,
  });
  await t.rejects(call('overlay.delete', { name: 'overlay0', temporary: false }), {
    message: 'overlay0 is busy',
    reason: 'BUSY',
    status: 7,
    words: 'link busy',
    details: ['one', 'two'],
  });
});

t.test('the socket is for root and one group', async (t) => {
  const { socket } = await serve(t);
  t.equal(statSync(socket).mode & 0o7777, 0o660);
  const directory = path.join(shortDirectory(t), 'a/b');
  await claimSocket(path.join(directory, 'varpd.sock'), undefined);
  t.equal(statSync(directory).mode & 0o7777, 0o750);
});

t.test('who may change something', async (t) => {
  const denied = { message: /^only root/, reason: 'DENIED' };
  const cases: [string, Credentials, boolean][] = [
    ['root', ROOT, true],
    ['by its group', { uid: 1000, gid: 77, groups: [] }, true],
    ['by a supplementary group', { uid: 1000, gid: 1, groups: [5, 77] }, true],
    ['another', { uid: 1000, gid: 1, groups: [5] }, false],
  ];
  for (const [name, credentials, allowed] of cases) {
    const { socket } = await serve(t, { credentials, gid: 77 });
    const call = createClient(socket);
    t.equal(await call('overlay.targets', { name: 'overlay0' }), null, `${name} may read`);
    const change = call('overlay.flushTargets', { name: 'overlay0' });
    if (allowed) t.equal(await change, null, `${name} may change`);
    else await t.rejects(change, { ...denied, status: 6 }, `${name} may not change`);
  }
  const { socket } = await serve(t, { credentials: { uid: 1000, gid: 0, groups: [0] } });
  await t.rejects(createClient(socket)('overlay.up', {}), denied, 'without a group, root alone');
});

t.test('garbage is answered and does no harm', async (t) => {
  const { socket, log } = await serve(t, {
    handlers: {
      'daemon.status': () => {
        throw new TypeError('a bug');
      },
    },
  });
  const client = new Raw(socket);
  const lines = [
    'GET / HTTP/1.0',
    'null',
    '[]',
    '42',
    '{"jsonrpc":"2.0","id":{},"method":"overlay.up"}',
    '{"jsonrpc":"2.0","id":1,"method":"overlay.explode"}',
    '{"jsonrpc":"2.0","id":2,"method":"constructor"}',
    '{"jsonrpc":"2.0","id":3,"method":"overlay.create","params":{"name":7}}',
    '{"jsonrpc":"2.0","id":4,"method":"overlay.up","params":{"names":"x"}}',
    '{"jsonrpc":"2.0","id":5,"method":"daemon.status"}',
    '{"jsonrpc":"2.0","method":"overlay.up"}',
    `[${JSON.stringify(TARGETS)},{"jsonrpc":"2.0","method":"overlay.up"},1]`,
    JSON.stringify(TARGETS),
  ];
  client.send(`${lines.join('\n')}\n`);
  client.send(Buffer.from([0xff, 0xfe, 0x0a]));
  const refused = (id: unknown, code: number): object => ({
    jsonrpc: '2.0',
    id,
    error: { code, data: { details: [] } },
  });
  t.match(await client.answers(13), [
    refused(null, -32700),
    refused(null, -32600),
    refused(null, -32600),
    refused(null, -32600),
    refused(null, -32600),
    refused(1, -32601),
    refused(2, -32601),
    refused(3, -32602),
    refused(4, -32602),
    {
      id: 5,
      error: {
        code: -32000,
        message: 'a bug',
        data: { reason: 'INTERNAL', status: 1, words: 'operation failed' },
      },
    },
    [{ id: 7, result: null }, refused(null, -32600)],
    { id: 7, result: null },
    refused(null, -32700),
  ]);
  t.equal(log.length, 1);
  t.match(log[0], /TypeError: a bug/);
  client.destroy();
});

t.test('answers come in the order of the requests', async (t) => {
  let running = 0;
  const { socket } = await serve(t, {
    handlers: {
      'overlay.targets': async ({ limit = 0 }) => {
        t.equal(++running, 1, 'one at a time');
        await sleep(10 - limit);
        running--;
        return { rows: [], next: String(limit) };
      },
    },
  });
  const client = new Raw(socket);
  for (const limit of [1, 9, 5]) client.send(encodeMessage({ ...TARGETS, params: { name: 'x', limit } }));
  t.match(await client.answers(3), [
    { result: { next: '1' } },
    { result: { next: '9' } },
    { result: { next: '5' } },
  ]);
  client.destroy();
});

t.test('limits', async (t) => {
  t.test('the length of a request', async (t) => {
    const { socket } = await serve(t);
    const client = new Raw(socket);
    for (let count = 0; count < 40; count++) client.send('x'.repeat(64 * 1024));
    t.match(await client.answers(1), [{ error: { code: -32600, message: /longer than 65536 bytes/ } }]);
    await client.closed;

    const long = new Raw(socket);
    const body = JSON.stringify(TARGETS);
    long.send(`${body}${' '.repeat(MAX_REQUEST_BYTES - body.length)}\n`);
    t.match(await long.answers(1), [{ id: 7, result: null }], 'exactly that long');
    long.destroy();
  });

  t.test('the time for half a request, whatever trickles in', async (t) => {
    // Far longer than a test may take: it is not that which ends it.
    const { socket } = await serve(t, { timing: { ...QUICK, idleMs: 600_000 } });
    const client = new Raw(socket).send(`${JSON.stringify(TARGETS)}\n{"jsonrpc"`);
    t.match(await client.answers(1), [{ id: 7 }]);
    const trickle = setInterval(() => client.send(' '), 20);
    t.teardown(() => {
      clearInterval(trickle);
    });
    await client.closed;
    t.pass('closed');
  });

  t.test('the time without any request, but not while one is worked at', async (t) => {
    const { socket } = await serve(t, {
      timing: { ...QUICK, idleMs: 800 },
      handlers: {
        'overlay.up': async () => {
          await sleep(1200);
          return { failures: [] };
        },
      },
    });
    t.same(await createClient(socket)('overlay.up', {}), { failures: [] });
    await new Raw(socket).closed;
  });

  t.test('a client waits for as long as its request is worked at, and those before it', async (t) => {
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const { socket } = await serve(t, {
      timing: { ...QUICK, idleMs: 60_000, aliveMs: 20 },
      handlers: {
        'overlay.up': async () => {
          await gate;
          return { failures: [] };
        },
      },
    });
    const silenceMs = 1000;
    const startedMs = performance.now();
    const patient = createClient(socket, { silenceMs })('overlay.up', {});
    // However busy the machine is: twice the silence that would be the end of it.
    await sleep(2 * silenceMs);
    open();
    t.same(await patient, { failures: [] });
    t.ok(performance.now() - startedMs > silenceMs);
  });

  t.test('the number of clients', async (t) => {
    const { socket } = await serve(t, { maxClients: 2 });
    const [first, second] = [new Raw(socket), new Raw(socket)];
    for (const client of [first, second]) client.send(`${JSON.stringify(TARGETS)}\n`);
    await first.answers(1);
    await second.answers(1);
    const third = new Raw(socket);
    await third.closed;
    t.match(third.lines, [{ error: { data: { reason: 'AGAIN', status: 7, words: 'try again later' } } }]);
    first.destroy();
    const isServed = (): Promise<boolean> => succeeds(createClient(socket)('overlay.targets', { name: 'x' }));
    await waitUntil(isServed, { what: 'room again' });
    second.destroy();
  });

  t.test('a client that does not read is cut off', async (t) => {
    const rows = Array.from({ length: 10_000 }, () => ({
      mac: '02:00:00:00:00:01',
      state: 'drop' as const,
      destinations: [],
      ...{ origin: null, ageMs: null, idleMs: null, ttlMs: null, isStale: false, staleMs: null },
    }));
    let asked = 0;
    const { socket } = await serve(t, {
      timing: { ...QUICK, idleMs: 10_000 },
      handlers: {
        'overlay.targets': () => {
          asked++;
          return { rows, next: null };
        },
      },
    });
    const client = new Raw(socket);
    client.pause();
    client.send(`${JSON.stringify(TARGETS)}\n`.repeat(100));
    await sleep(400);
    t.ok(asked < 5, `worked for it ${asked} times`);
    t.equal(await createClient(socket)('overlay.flushTargets', { name: 'x' }), null, 'others are served');
    client.destroy();
  });

  t.test('clients that leave early', async (t) => {
    let done = 0;
    const { socket } = await serve(t, {
      handlers: {
        'overlay.up': async () => {
          await sleep(20);
          done++;
          return { failures: [] };
        },
      },
    });
    const request = encodeMessage({ jsonrpc: '2.0', id: 1, method: 'overlay.up' });
    for (let count = 0; count < 30; count++) {
      const client = new Raw(socket).send(request);
      setTimeout(() => {
        client.destroy();
      }, count % 10);
    }
    const polite = new Raw(socket).send(request).end();
    t.match(
      await polite.answers(1),
      [{ result: { failures: [] } }],
      'the end of sending is not the end of reading',
    );
    await sleep(50);
    t.ok(done >= 1);
    t.equal(await createClient(socket)('overlay.targets', { name: 'x' }), null);
  });
});

t.test('an answer that goes on', async (t) => {
  const params = { name: 'overlay0', isDropsOnly: false, isOuter: false, isCut: false };
  const request = { jsonrpc: '2.0', id: 7, method: 'capture.start', params };
  let started = 0;
  let ended = 0;
  const handlers: Partial<Handlers> = {
    'capture.start': () => {
      started++;
      return new Streamed({ overlay: 'overlay0' }, async (client) => {
        client.write('bytes, as they are\n\0');
        client.resume();
        await Promise.race([once(client, 'end'), once(client, 'close')]);
        ended++;
        client.end('the end');
      });
    },
  };
  const { socket } = await serve(t, { handlers, gid: 42, timing: QUICK });
  const { result, stream } = await createOpener(socket)('capture.start', params);
  t.same(result, { overlay: 'overlay0' });
  // Longer than a client may be idle, or take to read an answer.
  await sleep(2 * QUICK.idleMs);
  stream.end('bytes after the request are ignored');
  const pieces: Buffer[] = [];
  for await (const piece of stream as AsyncIterable<Buffer>) pieces.push(piece);
  t.equal(Buffer.concat(pieces).toString(), 'bytes, as they are\n\0the end');
  t.same([started, ended], [1, 1]);

  const gone = await createOpener(socket)('capture.start', params);
  gone.stream.destroy();
  for (let tries = 0; ended < 2 && tries < 500; tries++) await sleep(5);
  t.equal(ended, 2, 'the stream ends when its client is gone');

  const batch = new Raw(socket).send(encodeMessage([request, TARGETS]));
  t.match(await batch.answers(1), [[{ error: { message: /must be sent alone/ } }, { result: null }]]);
  const silent = new Raw(socket).send(encodeMessage({ ...request, id: undefined }) + encodeMessage(TARGETS));
  t.match(await silent.answers(1), [{ id: 7, result: null }], 'without an id there is none');
  t.equal(started, 2);

  const { socket: others } = await serve(t, { handlers, credentials: { uid: 7, gid: 7, groups: [] } });
  const denied = { message: /^only root/, reason: 'DENIED', status: 6 };
  await t.rejects(createOpener(others)('capture.start', params), denied, 'the right to read is not enough');
  await t.rejects(createOpener(`${others}.none`)('capture.start', params), { code: 'NO_DAEMON' });
});
