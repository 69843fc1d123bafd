// The control socket: who may do what, and what becomes of clients that do not behave.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createClient } from '../../src/control/client.js';
import { encodeMessage } from '../../src/control/framing.js';
import { MAX_BATCH_REQUESTS, MAX_REQUEST_BYTES } from '../../src/control/messages.js';
import { METHOD_NAMES } from '../../src/control/methods.js';
import { createOpener } from '../../src/control/stream-client.js';
import type { Timing } from '../../src/daemon/control/connection.js';
import type { Handlers } from '../../src/daemon/control/rpc.js';
import { ControlServer, type Credentials } from '../../src/daemon/control/server.js';
import { Streamed } from '../../src/daemon/control/streamed.js';
import { Turns } from '../../src/daemon/control/turns.js';
import { pageOf } from '../../src/daemon/overlays/pages.js';
import { claimSocket } from '../../src/daemon/socket-file.js';
import { OverlayError } from '../../src/model/errors.js';

const ROOT: Credentials = { uid: 0, gid: 0, groups: [] };
const QUICK: Timing = { halfRequestMs: 100, writeMs: 100, idleMs: 300, aliveMs: 5_000 };
const TARGETS = { jsonrpc: '2.0', id: 7, method: 'overlay.targets', params: { name: 'overlay0' } };

interface Options {
  readonly credentials?: Credentials | (() => Credentials);
  readonly gid?: number;
  readonly maxClients?: number;
  readonly timing?: Timing;
  readonly handlers?: Partial<Handlers>;
}

type Context = { teardown(work: () => unknown): unknown };

/** Not testdir(): a socket's path has 107 bytes at most. */
function shortDirectory(t: Context): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  return directory;
}

async function serve(t: Context, options: Options = {}): Promise<{ socket: string; log: string[] }> {
  const socket = path.join(shortDirectory(t), 'varpd.sock');
  const log: string[] = [];
  const keep = (_kind: string, message: string): void => void log.push(message);
  const every = Object.fromEntries(METHOD_NAMES.map((name) => [name, () => null])) as unknown as Handlers;
  const server = await ControlServer.listen({
    socket,
    gid: options.gid,
    handlers: { ...every, ...options.handlers },
    credentials: () =>
      typeof options.credentials === 'function' ? options.credentials() : (options.credentials ?? ROOT),
    maxClients: () => options.maxClients ?? 64,
    log: { debug: keep, info: keep, warn: keep, error: keep },
    timing: options.timing ?? QUICK,
  });
  t.teardown(() => server.close());
  return { socket, log };
}

/** A client that sends what it is told; `lines` are the answers so far. */
class Raw {
  readonly lines: unknown[] = [];
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  #rest = '';

  constructor(file: string) {
    this.#socket = connect(file);
    this.#socket.on('error', () => undefined);
    this.#socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines.filter((text) => text !== '')) this.lines.push(JSON.parse(line));
    });
    this.closed = new Promise((resolve) => {
      this.#socket.on('close', () => {
        resolve();
      });
    });
  }

  send(text: string | Buffer): this {
    this.#socket.write(text);
    return this;
  }

  end(): this {
    this.#socket.end();
    return this;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  async answers(count: number): Promise<unknown[]> {
    for (let tries = 0; this.lines.length < count && tries < 500; tries++) await sleep(5);
    return this.lines;
  }
}

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
    code: 'BUSY',
    status: 'link busy',
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
    else await t.rejects(change, { code: 'DENIED', status: 'permission denied' }, `${name} may not change`);
  }
  const { socket } = await serve(t, { credentials: { uid: 1000, gid: 0, groups: [0] } });
  await t.rejects(createClient(socket)('overlay.up', {}), { code: 'DENIED' }, 'without a group, root alone');
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
      error: { code: -32000, message: 'a bug', data: { code: 'INTERNAL', status: 'operation failed' } },
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
      timing: { ...QUICK, idleMs: 100 },
      handlers: {
        'overlay.up': async () => {
          await sleep(300);
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
      timing: { ...QUICK, aliveMs: 20 },
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
    const { socket } = await serve(t, { maxClients: 2, timing: { ...QUICK, idleMs: 10_000 } });
    const [first, second] = [new Raw(socket), new Raw(socket)];
    for (const client of [first, second]) client.send(`${JSON.stringify(TARGETS)}\n`);
    await first.answers(1);
    await second.answers(1);
    const third = new Raw(socket);
    await third.closed;
    t.match(third.lines, [{ error: { data: { status: 'try again later' } } }]);
    first.destroy();
    await sleep(20);
    t.equal(await createClient(socket)('overlay.targets', { name: 'x' }), null, 'there is room again');
    second.destroy();
  });

  t.test('a client that does not read is cut off', async (t) => {
    const rows = Array.from({ length: 20_000 }, () => ({
      mac: '02:00:00:00:00:01',
      state: 'drop' as const,
      destinations: [],
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

const batchOf = (count: number): string => {
  const batch = Array.from({ length: count }, (_, id) => ({ ...TARGETS, id }));
  return encodeMessage(batch);
};

t.test('what a batch may cost', async (t) => {
  const mebibyte = 'x'.repeat(1 << 20);
  let calls = 0;
  const { socket } = await serve(t, {
    timing: { ...QUICK, writeMs: 60_000, idleMs: 60_000, aliveMs: 1 },
    handlers: {
      'overlay.targets': async ({ name }) => {
        calls++;
        if (name === 'slow0') await sleep(20);
        return { rows: [], next: name === 'large0' ? mebibyte : null };
      },
    },
  });

  t.test('requests', async (t) => {
    const client = new Raw(socket).send(batchOf(MAX_BATCH_REQUESTS + 1));
    const refusal = {
      id: null,
      error: { code: -32600, message: /at most 64 requests, not 65: send several/ },
    };
    t.match(await client.answers(1), [refusal]);
    t.equal(calls, 0, 'nothing of it is done');
    client.send(batchOf(MAX_BATCH_REQUESTS));
    const [, answers] = (await client.answers(2)) as [unknown, { id: number }[]];
    t.same(
      answers.map(({ id }) => id),
      Array.from({ length: MAX_BATCH_REQUESTS }, (_, id) => id),
    );
    client.destroy();
  });

  t.test('signs of life within it are none of its text', async (t) => {
    const slow = { ...TARGETS, params: { name: 'slow0' } };
    const client = new Raw(socket).send(encodeMessage([slow, slow, slow]));
    t.match(await client.answers(1), [[{ id: 7 }, { id: 7 }, { id: 7 }]]);
    client.destroy();
  });

  t.test('the length of the answer', async (t) => {
    const large = (id: number): object => ({ ...TARGETS, id, params: { name: 'large0' } });
    const client = new Raw(socket).send(encodeMessage([1, 2, 3, 4].map(large)));
    const [answers] = (await client.answers(1)) as [unknown[]];
    t.match(answers.slice(0, 2), [
      { id: 1, result: {} },
      { id: 2, result: {} },
    ]);
    t.match(answers.slice(2), [
      { id: 3, error: { message: /ask again for this one/ } },
      { id: 4, error: {} },
    ]);
    client.destroy();
  });

  t.test('who does not read gets nothing made', async (t) => {
    calls = 0;
    const client = new Raw(socket);
    client.pause();
    const large = encodeMessage([{ ...TARGETS, params: { name: 'large0' } }]);
    client.send(large.repeat(200));
    const reader = createClient(socket);
    for (let turn = 0; turn < 20; turn++) await reader('overlay.up', {});
    t.ok(calls < 5, `worked for it ${calls} times`);
    client.destroy();
  });
});

t.test('users have shares of the connections', async (t) => {
  const users = {
    root: ROOT,
    member: { uid: 5, gid: 77, groups: [] },
    reader: { uid: 6, gid: 6, groups: [] },
  };
  let next: Credentials = ROOT;
  const { socket } = await serve(t, {
    credentials: () => next,
    gid: 77,
    maxClients: 8,
    timing: { ...QUICK, idleMs: 60_000 },
  });
  const clients: Raw[] = [];
  const connects = async (who: Credentials): Promise<unknown> => {
    next = who;
    const client = new Raw(socket).send(`${JSON.stringify(TARGETS)}\n`);
    clients.push(client);
    const [answer] = await client.answers(1);
    return (answer as { error?: { message: string } }).error?.message;
  };
  t.equal(await connects(users.reader), undefined);
  t.equal(await connects(users.reader), undefined);
  t.equal(await connects(users.reader), '2 clients of this user are connected, which is the limit');
  for (const uid of [7, 7, 8, 8]) t.equal(await connects({ ...users.reader, uid }), undefined);
  t.equal(
    await connects({ ...users.reader, uid: 9 }),
    '6 clients that only read are connected, which is the limit',
  );
  t.equal(await connects(users.member), undefined, 'who may change something has a place');
  t.equal(await connects(users.root), undefined, 'and root');
  t.equal(await connects(users.root), '8 clients are connected, which is the limit');
  for (const client of clients) client.destroy();
});

t.test('turns go round by user', async (t) => {
  const turns = new Turns();
  const order: number[] = [];
  const work = async (user: number): Promise<void> => {
    await turns.take(user);
    order.push(user);
  };
  await Promise.all([1, 1, 1, 1, 2, 3, 3].map(work));
  t.same(order, [1, 2, 3, 1, 3, 1, 1]);
  await work(4);
  t.equal(order.at(-1), 4, 'and begin again');
});

t.test('a list in pages', async (t) => {
  const names = Array.from({ length: 1000 }, (_, index) => `n${index}`);
  const text = 'x'.repeat(4096);
  const all = (change: (page: number) => void = () => undefined): string[] => {
    const found: string[] = [];
    let page = 0;
    for (let after: string | undefined, isMore = true; isMore;) {
      const { rows, next } = pageOf(names, after, (name) => [{ name, text }]);
      found.push(...rows.map((row) => row.name));
      isMore = next !== null;
      after = next ?? undefined;
      change(page++);
    }
    t.ok(page > 5, `${page} pages`);
    return found;
  };
  const before = [...names];
  t.same(all(), before);
  t.same(
    all((page) => {
      if (page === 0) names.splice(10, 20);
      // Where the page before ended.
      if (page === 1) names.splice(names.indexOf('n255'), 1);
    }),
    before,
    'what goes meanwhile makes nothing else be left out or come twice',
  );
  t.throws(() => pageOf(names, 'nonsense', () => []), {
    code: 'INVALID',
    message: /'next' of the page before/,
  });
  t.same(
    pageOf(names, '99999:x', () => [1]),
    { rows: [], next: null },
  );
  t.end();
});

t.test('the place of the socket', async (t) => {
  t.test('a served one is refused', async (t) => {
    const { socket } = await serve(t);
    await t.rejects(claimSocket(socket, undefined), {
      code: 'BUSY',
      message: `another varpd serves ${socket}`,
    });
    t.ok(existsSync(socket));
  });

  t.test('a stale one is replaced, another file is not', async (t) => {
    const directory = shortDirectory(t);
    const stale = path.join(directory, 'stale.sock');
    // As kill -9 leaves it: libuv removes the file only when the server is closed.
    const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    t.ok(lstatSync(stale).isSocket());
    await claimSocket(stale, undefined);
    t.notOk(existsSync(stale));

    const file = path.join(directory, 'file');
    writeFileSync(file, 'precious');
    await t.rejects(claimSocket(file, undefined), { code: 'EXISTS', message: /is not a socket/ });
    mkdirSync(path.join(directory, 'dir'));
    await t.rejects(claimSocket(path.join(directory, 'dir'), undefined), { code: 'EXISTS' });
    await t.rejects(claimSocket(path.join(file, 'varpd.sock'), undefined), {
      code: 'IO',
      message: /cannot make/,
    });
  });

  t.test('closing the server removes it', async (t) => {
    const socket = path.join(shortDirectory(t), 'x.sock');
    const server = createServer().listen(socket);
    await new Promise((resolve) => server.on('listening', resolve));
    await new Promise((resolve) => server.close(resolve));
    t.notOk(existsSync(socket));
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
  const { socket } = await serve(t, { handlers, gid: 42 });
  const { result, stream } = await createOpener(socket)('capture.start', params);
  t.same(result, { overlay: 'overlay0' });
  // Longer than a client may be idle, or take to read an answer.
  await sleep(2 * QUICK.idleMs);
  stream.end('whatever comes behind the request is for nobody');
  const pieces: Buffer[] = [];
  for await (const piece of stream as AsyncIterable<Buffer>) pieces.push(piece);
  t.equal(Buffer.concat(pieces).toString(), 'bytes, as they are\n\0the end');
  t.same([started, ended], [1, 1]);

  const gone = await createOpener(socket)('capture.start', params);
  gone.stream.destroy();
  for (let tries = 0; ended < 2 && tries < 500; tries++) await sleep(5);
  t.equal(ended, 2, 'it hears of a client that is gone');

  const batch = new Raw(socket).send(encodeMessage([request, TARGETS]));
  t.match(await batch.answers(1), [[{ error: { message: /a request of its own/ } }, { result: null }]]);
  const silent = new Raw(socket).send(encodeMessage({ ...request, id: undefined }) + encodeMessage(TARGETS));
  t.match(await silent.answers(1), [{ id: 7, result: null }], 'without an id there is none');
  t.equal(started, 2);

  const { socket: others } = await serve(t, { handlers, credentials: { uid: 7, gid: 7, groups: [] } });
  await t.rejects(createOpener(others)('capture.start', params), { code: 'DENIED' }, 'to look is not enough');
  await t.rejects(createOpener(`${others}.none`)('capture.start', params), { code: 'NO_DAEMON' });
});
