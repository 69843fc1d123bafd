// The endpoint of metrics, which nobody can misuse.

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';

import { type MetricsOptions, startMetricsServer } from '../../src/daemon/observe/metrics-server.js';
import { get } from '../helpers/metrics.js';
import { waitUntil } from '../helpers/process.js';

type Context = { teardown(work: () => unknown): unknown };

/** No client of a test is too slow for these, on any host. */
const PATIENT = { requestMs: 60_000, answerMs: 60_000, idleMs: 60_000, retryMs: 50 };
const QUICK = { ...PATIENT, requestMs: 250, answerMs: 2000, idleMs: 500 };

/** A port that was free just now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function serve(
  t: Context,
  address: string,
  text = (): Promise<string> => Promise.resolve('fine\n'),
  { mayWait = false, ...more }: Partial<MetricsOptions> & { readonly mayWait?: boolean } = {},
) {
  const log: string[] = [];
  const keep = (_kind: string, message: string): void => void log.push(message);
  const source = { contentType: 'text/plain; version=0.0.4', text };
  const options = {
    address,
    gid: undefined,
    source,
    log: { debug: keep, info: keep, warn: keep, error: keep },
    timing: PATIENT,
    ...more,
  };
  const close = await startMetricsServer(options, mayWait);
  t.teardown(close);
  return { log, close };
}

function client(
  t: Context,
  port: number,
  localAddress = '127.0.0.1',
): { socket: Socket; heard: () => string; closed: Promise<void> } {
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  socket.on('error', () => undefined);
  t.teardown(() => socket.destroy());
  const closed = new Promise<void>((resolve) =>
    socket.on('close', () => {
      resolve();
    }),
  );
  return { socket, heard: () => text, closed };
}

const isServed = (port: number, bytes = 'fine\n'.length): Promise<boolean> =>
  get(port).then(
    ({ body }) => body.length === bytes,
    () => false,
  );

t.test('GET /metrics, and nothing else', async (t) => {
  const port = await freePort();
  const { log } = await serve(t, `127.0.0.1:${port}`);
  t.match(await get(port), {
    status: 200,
    body: 'fine\n',
    headers: { 'content-type': 'text/plain; version=0.0.4' },
  });
  t.equal((await get(port, { path: '/metrics?x=1' })).status, 200);
  for (const path of ['/', '/metrics/', '/metricsx', '/../metrics', '//metrics', 'http://x/metrics'])
    t.equal((await get(port, { path })).status, 404, path);
  for (const method of ['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH'])
    t.match(await get(port, { method }), { status: 405, headers: { allow: 'GET' } }, method);
  for (const garbage of [
    '\0\0\0\r\n\r\n',
    'GET\r\n\r\n',
    `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`,
    'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
  ]) {
    const one = client(t, port);
    one.socket.write(garbage);
    await one.closed;
    t.notMatch(one.heard(), /200 OK/, 'garbage ends its connection');
  }
  t.equal((await get(port)).status, 200);
  t.same(log, [`metrics are served on 127.0.0.1:${port}`]);
});

t.test('clients that keep it waiting', async (t) => {
  const port = await freePort();
  await serve(t, `127.0.0.1:${port}`, undefined, { timing: QUICK });
  const half = [
    'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n',
    'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n',
    '',
  ];
  for (const text of half) {
    const one = client(t, port);
    one.socket.write(text);
    await one.closed;
    t.pass(`ended: ${JSON.stringify(text)}`);
  }
  const crowd = Array.from({ length: 40 }, () => client(t, port));
  await Promise.all(crowd.map(({ closed }) => closed));
  t.pass('so is a crowd, most of it at once');
  await waitUntil(() => isServed(port), { what: 'others to be served' });
});

/** From another address of this host: a client of its own. */
const idle = client;

t.test('a place is kept for whoever has none', async (t) => {
  const port = await freePort();
  await serve(t, `127.0.0.1:${port}`);
  const others = Array.from({ length: 12 }, (_, at) => idle(t, port, `127.0.1.${at}`));
  await Promise.all(others.map(({ socket }) => new Promise((resolve) => socket.once('connect', resolve))));
  // As many as one may hold, of which some have half a request.
  const crowd = Array.from({ length: 8 }, () => idle(t, port));
  for (const { socket } of crowd.slice(0, 4)) socket.write('GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n');
  await Promise.all(crowd.slice(0, 4).map(({ closed }) => closed));
  t.pass('the oldest of one client give way to its newer ones');
  t.equal((await get(port)).status, 200, 'the same client is served');
  t.equal((await get(port, { from: '127.0.0.9' })).status, 200, 'another client is served');
  t.notOk(
    others.some(({ socket }) => socket.destroyed),
    'at the cost of the crowd alone',
  );
  const many = Array.from({ length: 60 }, (_, at) => idle(t, port, `127.0.2.${at}`));
  await Promise.all(many.slice(0, 40).map(({ closed }) => closed));
  t.equal((await get(port, { from: '127.0.0.9' })).status, 200, 'so it is beside sixty that have one each');
});

/** Connections that a server on this port has not closed: proc_net(5). */
function established(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  return rows.filter(([, address = '', , state]) => address.endsWith(local) && state === '01').length;
}

t.test('those who do not read their answers keep nobody out', async (t) => {
  const port = await freePort();
  const large = 'x'.repeat(8 << 20);
  await serve(t, `127.0.0.1:${port}`, () => Promise.resolve(large), {
    timing: { ...PATIENT, requestMs: 1000 },
  });
  const ask = 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
  for (let count = 0; count < 8; count++) client(t, port).socket.pause().write(ask);
  t.equal((await get(port, { from: '127.0.0.9' })).status, 200, 'another client');
  await waitUntil(() => isServed(port, large.length), { what: 'the same client to be served' });
  const quick = await freePort();
  await serve(t, `127.0.0.1:${quick}`, () => Promise.resolve(large), {
    timing: { ...PATIENT, answerMs: 200 },
  });
  const one = client(t, quick);
  one.socket.write(ask);
  // A byte now and then is no longer enough.
  one.socket.pause();
  await waitUntil(() => established(quick) === 1, { what: 'the server to have the client' });
  await waitUntil(() => established(quick) === 0, { what: 'the server to give the client up' });
  one.socket.resume();
  await one.closed;
  t.ok(one.heard().length < large.length, 'an answer has an end');
});

t.test('a request is for this host', async (t) => {
  const port = await freePort();
  const { log } = await serve(t, `127.0.0.1:${port}`, undefined, { hosts: ['Metrics.example'] });
  const ask = async (...hosts: string[]): Promise<string> => {
    const one = client(t, port);
    one.socket.write(
      `GET /metrics HTTP/1.1\r\n${hosts.map((host) => `Host: ${host}\r\n`).join('')}Connection: close\r\n\r\n`,
    );
    await one.closed;
    return one.heard();
  };
  for (const host of [
    '127.0.0.1',
    `127.0.0.1:${port}`,
    '192.0.2.1:80',
    '[::1]',
    '[2001:db8::1]:9560',
    'localhost',
    'LOCALHOST:1',
    'localhost.',
    'metrics.example',
    'METRICS.example.:9560',
  ])
    t.match(await ask(host), /^HTTP\/1\.1 200 /, host);
  const before = log.length;
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    'localhost.evil.example',
    'metrics.example.evil',
    'xlocalhost',
    '[evil]',
    '0x7f.1',
    '127.0.0.1.evil',
    '',
    ':9560',
    'a:b:c',
  ])
    t.match(
      await ask(host),
      /^HTTP\/1\.1 421 .*\nthis host is not known by that name: .*metricsHosts\n/s,
      host,
    );
  t.match(log[before], /^metrics: refused a request for 'evil\.example': .*metricsHosts$/);
  t.notMatch(await ask('127.0.0.1', 'evil.example'), / 200 /, 'two');
  const old = client(t, port);
  old.socket.write('GET /metrics HTTP/1.0\r\n\r\n');
  await old.closed;
  t.match(old.heard(), / 200 /, 'a client that is no browser names none');
});

t.test('clients that do not read, or go away', async (t) => {
  const port = await freePort();
  // More than a socket takes that nobody reads from.
  const text = 'x'.repeat(8 << 20);
  const { log } = await serve(t, `127.0.0.1:${port}`, () => Promise.resolve(text), { timing: QUICK });
  const ask = 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
  for (let count = 0; count < 8; count++) client(t, port).socket.pause().write(ask);
  const isWhole = (): Promise<boolean> => isServed(port, text.length);
  await waitUntil(isWhole, { what: 'others to be served once those have been ended' });
  for (const moment of ['connect', 'data', 'connect', 'data']) {
    const one = client(t, port);
    one.socket.write(ask);
    await Promise.race([one.closed, new Promise((resolve) => one.socket.once(moment, resolve))]);
    one.socket.resetAndDestroy();
    await one.closed;
  }
  await waitUntil(isWhole, { what: 'others to be served' });
  t.equal(log.length, 1, 'which is nothing to tell');
});

t.test('whoever asks without end gets a share', async (t) => {
  const port = await freePort();
  let workedMs = 0;
  let made = 0;
  const text = (): Promise<string> => {
    const startedMs = performance.now();
    while (performance.now() - startedMs < 10);
    workedMs += performance.now() - startedMs;
    return Promise.resolve(`text ${++made}\n`);
  };
  await serve(t, `127.0.0.1:${port}`, text);
  const one = client(t, port);
  one.socket.write('GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.repeat(4));
  await waitUntil(() => one.heard().split('\ntext ').length === 5, { what: 'four answers' });
  t.equal(made, 1, 'those who ask at the same time have the same');
  const startedMs = performance.now();
  workedMs = 0;
  for (let round = 0; round < 10; round++) await get(port);
  // The first may come after the rest, and after the last there is none: at least 9 of 10 times work and rest.
  const spentMs = performance.now() - startedMs;
  t.ok(workedMs < spentMs / 3, `${workedMs.toFixed(0)} ms of ${spentMs.toFixed(0)}`);
});

t.test('what cannot be made is an error of that request', async (t) => {
  const port = await freePort();
  let fails = true;
  const { log } = await serve(t, `127.0.0.1:${port}`, () =>
    fails ? Promise.reject(new Error('on purpose')) : Promise.resolve('fine\n'),
  );
  t.match(await get(port), { status: 500, body: 'internal error: see the log of varpd\n' });
  t.match(log.at(-1), /the metrics could not be computed: Error: on purpose/);
  fails = false;
  t.equal((await get(port)).status, 200);
});

t.test('an address that is taken', async (t) => {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const first = await serve(t, address);
  await t.rejects(serve(t, address), {
    code: 'BUSY',
    message: `metrics: another program uses ${address}: choose another port for metrics`,
  });
  await t.rejects(serve(t, '192.0.2.1:9560'), {
    message: 'metrics: 192.0.2.1 is not an address of this host',
  });
  const second = await serve(t, address, () => Promise.resolve('second\n'), { mayWait: true });
  t.match(second.log[0], /another program uses .*; tried again/);
  await first.close();
  await waitUntil(() => second.log.includes(`metrics are served on ${address}`), {
    what: 'the second to have it',
  });
  t.equal((await get(port)).body, 'second\n');
  const third = await serve(t, address, undefined, { mayWait: true });
  await third.close();
  t.pass('one that still waits can be ended');
});

t.test('a Unix socket', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const file = path.join(directory, 'sub/metrics.sock');
  const { close } = await serve(t, file);
  t.equal(statSync(file).mode & 0o777, 0o660);
  t.equal((await get(file)).body, 'fine\n');
  await t.rejects(serve(t, file), /serves/, 'it is in use');
  await close();
  t.notOk(existsSync(file), 'nothing is left');
  rmSync(path.dirname(file), { recursive: true });
});
