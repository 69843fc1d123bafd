// The protocol between dladm and varpd: framing, and the client when things go wrong.
import { chmod } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { type ClientOptions, ConnectionError, createClient } from '../../src/control/client.js';
import { encodeMessage, MessageReader } from '../../src/control/framing.js';
import { MAX_REQUEST_BYTES } from '../../src/control/messages.js';
import { directory, listen, run } from '../helpers/fake-control.js';

// -- Framing

await t.test('framing', (t) => {
  const read = (maxBytes: number, ...chunks: (string | number[])[]): unknown[] => {
    const seen: unknown[] = [];
    const reader = new MessageReader(maxBytes, {
      message: (value) => seen.push(value),
      problem: (problem) => seen.push(problem),
    });
    for (const chunk of chunks) reader.push(Buffer.from(chunk as string));
    reader.end();
    reader.push(Buffer.from('"after the end"\n'));
    return seen;
  };
  t.same(read(100, '1\n"b"\n', '{"c":', '[3]}', '\n'), [1, 'b', { c: [3] }]);
  t.same(read(100, '\n \r\n1\r\n'), [1], 'blank lines are none');
  t.same(read(100, 'x\n1\n'), ['not JSON', 1], 'reading goes on behind a bad line');
  t.same(read(100, [0x22, 0xff, 0x22, 0x0a], '2\n'), ['not UTF-8', 2]);
  t.same(read(100, '1\n2'), [1, 'ends inside a line']);
  t.same(read(5, '12345\n123456\n1\n'), [12345, 'line too long']);
  t.same(read(5, '123', '456'), ['line too long'], 'before its end is seen');
  t.same(read(3, '123', '\n1\n'), [123, 1]);
  t.same(read(100, '\ufeff1\n'), ['not JSON']);

  const text = encodeMessage({ text: 'a\nb é 漢 \u{1f600}' });
  const bytes = [...Buffer.from(text)];
  t.equal(text.indexOf('\n'), text.length - 1);
  for (let cut = 0; cut <= bytes.length; cut++) {
    t.same(read(100, bytes.slice(0, cut), bytes.slice(cut)), [JSON.parse(text)], `cut at ${cut}`);
  }
  t.same(read(100, ...bytes.map((byte) => [byte])), [JSON.parse(text)], 'byte by byte');

  const seen: unknown[] = [];
  const reader: MessageReader = new MessageReader(100, {
    message: (value) => {
      seen.push(value);
      reader.stop();
    },
    problem: (problem) => seen.push(problem),
  });
  reader.push(Buffer.from('1\n2\n'));
  t.same(seen, [1], 'nothing after stop');
  t.ok(reader.stopped);
  t.end();
});

// -- The client, when things go wrong

await t.test('client', async (t) => {
  const fails = async (
    socket: string,
    code: ConnectionError['code'],
    message: RegExp,
    options: ClientOptions = {},
  ): Promise<void> => {
    const error: unknown = await createClient(socket, options)('daemon.status', {}).catch((e: unknown) => e);
    t.type(error, ConnectionError);
    t.match(error, { code, message });
  };
  const answering = (text: string): Promise<string> =>
    listen((connection) => {
      connection.on('error', () => undefined);
      connection.once('data', () => connection.end(text));
    });
  const id = 1;

  await fails(
    path.join(directory, 'none.sock'),
    'NO_DAEMON',
    /none\.sock: no such socket: is varpd running\?/,
  );
  await fails(directory, 'NO_DAEMON', /no program listens there: start varpd$/);
  await fails('x'.repeat(108), 'UNREACHABLE', /^cannot reach varpd at x+: .* at most 107 bytes$/);
  await fails(await answering(''), 'CLOSED', /closed the connection without an answer/);
  await fails(await answering('{"jsonrpc":"2.0"'), 'CLOSED', /broke off its answer/);
  await fails(await answering('HTTP/1.1 400 Bad Request\r\n\r\n'), 'PROTOCOL', /not JSON; is that varpd\?/);
  await fails(await answering('[1]\n'), 'PROTOCOL', /no JSON-RPC 2\.0 response/);
  await fails(await answering('{"jsonrpc":"2.0","id":7,"result":null}\n'), 'PROTOCOL', /no JSON-RPC/);
  await fails(await answering('{"jsonrpc":"2.0","id":1}\n'), 'PROTOCOL', /no JSON-RPC/);
  await fails(await answering(`"${'x'.repeat(1000)}"\n`), 'PROTOCOL', /line too long/, {
    maxAnswerBytes: 1000,
  });
  await fails(await listen(() => undefined), 'TIMEOUT', /did not answer daemon\.status within 0\.05 s/, {
    timeoutMs: 50,
  });
  await fails(await listen(() => undefined), 'TIMEOUT', /no sign of life for 0\.05 s/, { silenceMs: 50 });
  const chatty = await listen((connection) => {
    const timer = setInterval(() => connection.write('\n'), 5);
    connection
      .on('error', () => undefined)
      .on('close', () => {
        clearInterval(timer);
      });
  });
  await fails(chatty, 'TIMEOUT', /did not answer daemon\.status within 0\.2 s/, { timeoutMs: 200 });
  await fails(await listen((connection) => connection.destroy()), 'CLOSED', /closed the connection/);

  const error = { code: -32601, message: 'Method not found' };
  const odd = createClient(await answering(encodeMessage({ jsonrpc: '2.0', id: null, error })));
  await t.rejects(odd('daemon.status', {}), {
    message: 'Method not found',
    reason: 'INTERNAL',
    status: 1,
    words: 'operation failed',
    details: [],
  });
  const large = createClient(
    await answering(encodeMessage({ jsonrpc: '2.0', id, result: 'x'.repeat(200_000) })),
  );
  t.same(await large('daemon.status', {}), 'x'.repeat(200_000), 'an answer may be longer than a request');
  const names = ['x'.repeat(MAX_REQUEST_BYTES)];
  await t.rejects(large('overlay.list', { names }), { code: 'TOO_LONG', message: /at most 65536/ });
});

await t.test('a socket that may not be used', async (t) => {
  const socket = await listen(() => undefined);
  await chmod(socket, 0);
  await chmod(directory, 0o755);
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  const outcome = await run(socket, 'show-overlay').finally(() => {
    if (isRoot) process.seteuid?.(0);
  });
  t.equal(outcome.status, 6);
  t.match(outcome.err, `dladm: cannot reach varpd at ${socket}: permission denied: only root`);
});
