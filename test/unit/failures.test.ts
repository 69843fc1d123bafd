// What fails where nobody waits for it, and what is thrown that nobody can read: it is told, and costs nothing else.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { encodeMessage } from '../../src/control/framing.js';
import { Connection } from '../../src/daemon/control/connection.js';
import { answer, type Handlers } from '../../src/daemon/control/rpc.js';
import { startMetricsServer } from '../../src/daemon/observe/metrics-server.js';
import { startWatchdog } from '../../src/daemon/process/watchdog.js';
import { errnoName, explain, systemErrorText } from '../../src/daemon/system-error.js';
import { inBackground, ownBackground } from '../../src/model/background.js';
import { asOverlayError, errorCode, errorStack, errorText, OverlayError } from '../../src/model/errors.js';
import { counted } from '../../src/model/sentences.js';
import { get } from '../helpers/metrics.js';
import { waitUntil } from '../helpers/process.js';

const refuse = (): never => {
  throw new Error('not to be had');
};
const everyTrap = Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, refuse]));
const withGetter = (error: Error, name: string): Error => Object.defineProperty(error, name, { get: refuse });

/** What can be thrown, and what is said of it. */
const THROWN: readonly (readonly [unknown, string])[] = [
  [new Error('plain'), 'plain'],
  [new Error(''), 'an error of type Error without a message'],
  [new TypeError(''), 'an error of type TypeError without a message'],
  ['text', 'text'],
  ['', 'an empty error message'],
  [null, 'null'],
  [undefined, 'undefined'],
  [7n, '7'],
  [Symbol('sign'), 'Symbol(sign)'],
  [{}, '[object Object]'],
  [Object.create(null), 'a value of type object that cannot be shown'],
  [new Proxy({}, everyTrap), 'a value of type object that cannot be shown'],
  [new Proxy(new OverlayError('BUSY', 'x'), everyTrap), 'a value of type object that cannot be shown'],
  [new Proxy(refuse, everyTrap), 'a value of type function that cannot be shown'],
  [{ toString: refuse }, 'a value of type object that cannot be shown'],
  [{ toString: () => 7, [Symbol.toPrimitive]: 'no' }, 'a value of type object that cannot be shown'],
  [withGetter(new Error('x'), 'message'), 'a value of type object that cannot be shown'],
  [withGetter(new Error('kept'), 'stack'), 'kept'],
  [withGetter(new Error('kept'), 'code'), 'kept'],
  [withGetter(new Error(''), 'name'), 'a value of type object that cannot be shown'],
  [
    Object.assign(new Error('x'), { message: { toString: refuse } }),
    'a value of type object that cannot be shown',
  ],
  [Object.assign(new Error('x'), { message: 5, code: 5, errno: 'x' }), '5'],
];

t.test('whatever is thrown can be told', async (t) => {
  for (const [thrown, said] of THROWN) {
    t.equal(errorText(thrown), said, said);
    t.equal(systemErrorText(thrown), said);
    t.match(
      [asOverlayError(thrown), explain(thrown, { ENOENT: 'no' })],
      [
        { code: 'INTERNAL', message: said },
        { code: 'INTERNAL', message: said },
      ],
    );
    t.ok(errorStack(thrown).includes(said) || thrown instanceof Error);
    t.same([errnoName(thrown), errorCode(thrown)], [undefined, undefined]);
  }
  const own = new OverlayError('BUSY', 'x');
  t.equal(asOverlayError(own), own);
  const missing = Object.assign(new Error(`ENOENT: no such file, open '/x'`), { code: 'ENOENT' });
  t.match(asOverlayError(missing), { code: 'NOT_FOUND' });
  t.equal(systemErrorText(missing), 'no such file');
  for (const message of ['kill EPERM', 'bind EPERM 10.0.0.1:4789'])
    t.equal(systemErrorText(Object.assign(new Error(message), { code: 'EPERM' })), 'operation not permitted');
  const other = Object.assign(new Error('kill EPERM'), { code: 'EIO' });
  t.equal(systemErrorText(other), 'kill EPERM', 'its code says something else');
});

t.test('work in the background has an owner', async (t) => {
  const heard: [string, unknown][] = [];
  ownBackground((what, error) => heard.push([what, error]));
  inBackground('one', Promise.resolve());
  inBackground('two', Promise.reject(new Error('failed')));
  await waitUntil(() => heard.length > 0, { what: 'the owner to hear' });
  t.match(heard, [['two', { message: 'failed' }]]);
});

t.test('an answer that fails, or cannot be sent', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const circle: Record<string, unknown> = {};
  circle['circle'] = circle;
  const one = { jsonrpc: '2.0', id: 7, method: 'daemon.status' };
  const internal = { id: 7, error: { data: { reason: 'INTERNAL', status: 1 } } };
  const cases: readonly (readonly [string, unknown, unknown, object | undefined, number])[] = [
    ['circle', circle, one, internal, 1],
    ['batch', circle, [one, one], [internal, internal], 2],
    [
      'huge',
      { toJSON: () => 'x'.repeat(2 ** 29) },
      one,
      { id: 7, error: { message: 'the answer cannot be sent: see the log of varpd' } },
      1,
    ],
    ['long', 'x'.repeat(2 ** 22), one, { id: 7, error: { message: /ask for less at a time/ } }, 0],
    ['rejects', undefined, one, undefined, 1],
  ];
  for (const [name, result, request, expected, count] of cases) {
    const bugs: unknown[] = [];
    const bug = (error: unknown): void => void bugs.push(error);
    const handlers = { 'daemon.status': () => result } as unknown as Handlers;
    const turn = (): Promise<void> =>
      expected === undefined ? Promise.reject(new Error('out of order')) : Promise.resolve();
    const file = path.join(directory, name);
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      new Connection(socket, (value) => answer(value, { mayChange: false }, handlers, bug, turn), bug);
    }).listen(file);
    await once(server, 'listening');
    const client = connect(file);
    let text = '';
    client.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    client.end(encodeMessage(request));
    await once(client, 'close');
    server.close();
    t.equal(bugs.length, count, `${name}: somebody hears of it`);
    if (expected === undefined) t.equal(text, '', 'the client sees the end');
    else t.match(JSON.parse(text), expected, name);
  }
});

t.test('a request for metrics that fails half way', async (t) => {
  const log: string[] = [];
  const keep = (_kind: string, message: string): void => void log.push(message);
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  // No text: the head of the answer is sent, and then it cannot be ended.
  const source = { contentType: 'text/plain', text: () => Promise.resolve(5 as unknown as string) };
  const options = {
    address: `127.0.0.1:${port}`,
    gid: undefined,
    source,
    log: { debug: keep, info: keep, warn: keep, error: keep },
  };
  const close = await startMetricsServer(options, false);
  t.teardown(close);
  await t.rejects(get(port));
  t.match(log.at(-1), /a request for metrics failed unexpectedly: .*ERR_HTTP_HEADERS_SENT/);
});

t.test('one ping that fails does not silence the later ones', async (t) => {
  let pings = 0;
  const end = startWatchdog(
    () => (++pings % 2 === 0 ? Promise.resolve() : Promise.reject(new Error('busy'))),
    { WATCHDOG_USEC: '10000' },
  );
  t.teardown(end);
  await waitUntil(() => pings > 5, { what: 'more pings' });
  t.pass('they go on');
});

t.test('counts with their noun', (t) => {
  t.same(
    [0, 1, 2].map((count) => counted(count, 'VNIC')),
    ['0 VNICs', '1 VNIC', '2 VNICs'],
  );
  t.same(
    [1, 2].map((count) => counted(count, 'entry', 'entries')),
    ['1 entry', '2 entries'],
  );
  t.end();
});
