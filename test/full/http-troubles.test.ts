// The http plugin and a store in trouble: it is away, slow, restarted, hostile, or refuses us. Known targets go on, and a
// sentence says what is wrong and quotes nothing.
import { createServer as createNetServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';

import {
  ask,
  json,
  listen,
  mac,
  macText,
  ReferenceStore,
  serve,
  startHttp,
  VNETID,
} from '../helpers/http-store.js';
import { skipUnless } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { TableHost } from '../helpers/table-host.js';

const skip = skipUnless({ programs: ['python3'] });
const VTEP = { ip: '10.88.88.70', port: 4789 };
const OTHER = { ip: '10.88.88.71', port: 4790 };
const NETWORK = `/v1/networks/${VNETID}`;

t.test('watch: the server is killed, and comes back; changes meanwhile arrive', { skip }, async (t) => {
  const store = await ReferenceStore.start(t, ['--keep-alive', '0.2']);
  await store.put(macText(1), VTEP);
  const { host, instance } = await startHttp(t, store.url, { timeout_ms: 1000 });
  t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP });
  await waitUntil(
    async () => {
      await store.put(macText(2), VTEP);
      return host.invalidated.includes(mac(2));
    },
    { what: 'the stream', stepMs: 100 },
  );
  await store.kill();
  await t.rejects(ask(instance, mac(3)), {
    code: 'EAGAIN',
    message: /^http:\/\/127\.0\.0\.1:\d+ cannot be reached \(ECONNREFUSED\)$/,
  });
  t.match(host.degraded, /cannot be reached \(ECONNREFUSED\)/);
  t.same(await instance.placeOf(mac(1)), VTEP, 'what is known is still answered');
  t.equal(await instance.placeOf(mac(9)), undefined, 'and it cannot tell about the rest');
  t.strictSame(host.peers, ['10.88.88.70']);
  host.invalidated.length = 0;
  await store.start();
  await store.put(macText(1), OTHER);
  await waitUntil(() => host.targets.has(mac(1)), { what: 'the change after the restart' });
  t.match(host.targets.get(mac(1)), { to: OTHER });
  await waitUntil(() => host.degraded === undefined, { what: 'the end of the trouble' });
});

t.test('snapshot: a restart, and a cursor that got too old', { skip }, async (t) => {
  const store = await ReferenceStore.start(t, ['--keep-alive', '0.2']);
  await store.put(macText(1), VTEP);
  const { host, instance } = await startHttp(t, store.url, { mode: 'snapshot', timeout_ms: 1000 });
  await store.kill();
  await waitUntil(() => host.degraded !== undefined, { what: 'the trouble' });
  t.match(host.degraded, /^changes do not arrive: http:\/\/127\.0\.0\.1:\d+ (?:cannot be reached|has ended)/);
  t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP });
  await store.start();
  await store.put(macText(2), VTEP);
  await waitUntil(() => host.snapshot?.targets.has(mac(2)) === true, {
    what: 'the change after the restart',
  });
  await waitUntil(() => host.degraded === undefined, { what: 'the end of the trouble' });
  t.equal(host.snapshots, 1, 'it went on where it was');

  await store.kill();
  await store.start(['--history', '2']);
  for (const last of [3, 4, 5, 6]) await store.put(macText(last), OTHER);
  await store.remove(macText(1));
  await waitUntil(() => host.snapshot?.targets.has(mac(6)) === true, { what: 'a new snapshot' });
  t.equal(host.snapshot?.targets.has(mac(1)), false);
  t.ok(host.snapshots === 2 || host.lines.some((line) => line.includes('no longer has the changes')));
  await waitUntil(() => host.degraded === undefined, { what: 'the end of the trouble' });
});

t.test('a record that is not valid: it is refused alone', { skip }, async (t) => {
  const store = await ReferenceStore.start(t);
  await store.put(macText(1), VTEP);
  await store.put(macText(2), { ...VTEP, port: 'hunter2' });
  const { host, instance } = await startHttp(t, store.url, { mode: 'snapshot' });
  t.strictSame([...(host.snapshot?.targets.keys() ?? [])], [mac(1)]);
  const wrong = 'found a string, expected a whole number from 1 to 65535';
  t.match(
    host.noted,
    new RegExp(`has 1 record that is not valid, .*: ${macText(2)} port at 1:\\d+: ${wrong}$`),
  );
  await store.put(macText(1), { ip: 'hunter2', port: 1, arp: 'hunter2' });
  await waitUntil(() => host.noted?.includes('2 records') === true, { what: 'the second one' });
  t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP }, 'what was known of it stays');
  await store.put(macText(3), OTHER);
  await waitUntil(() => host.snapshot?.targets.has(mac(3)) === true, { what: 'a good one behind it' });
  await instance.reload(new AbortController().signal);
  t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP }, 'over a new snapshot as well');
  await store.put(macText(1), OTHER);
  await store.put(macText(2), OTHER);
  await waitUntil(() => host.noted === undefined, { what: 'the end of the note' });
  t.notMatch(host.lines.join(), /hunter2/);

  await store.put(macText(2), { ...VTEP, port: 'hunter2' });
  const onDemand = await startHttp(t, store.url, { mode: 'lookup' });
  await t.rejects(ask(onDemand.instance, mac(2)), {
    code: 'EINVAL',
    message: new RegExp(`/macs/02-00-00-00-00-02: port at .* ${wrong}$`),
  });
  t.match(await ask(onDemand.instance, mac(1)), { kind: 'target', to: OTHER });
  t.equal(onDemand.host.degraded, undefined, 'the next good answer ends the trouble');
});

t.test('a slow server: the deadline, and the gate', async (t) => {
  let isSlow = false;
  let asked = 0;
  const url = await serve(t, ({ url: resource = '' }, response) => {
    if (resource.includes('/macs/')) asked++;
    if (isSlow) return false;
    if (resource.includes('/macs/')) json(response, VTEP);
    return true;
  });
  const { host, instance } = await startHttp(t, url, { mode: 'lookup', timeout_ms: 50 });
  isSlow = true;
  for (const last of [1, 2, 3])
    await t.rejects(ask(instance, mac(last)), {
      message: `${url} has not answered within 50 ms`,
      code: 'EAGAIN',
    });
  t.equal(host.degraded, `${url} has not answered within 50 ms`);
  t.equal(asked, 3);
  await t.rejects(Promise.all([4, 5, 6, 7].map((last) => ask(instance, mac(last)))), { code: 'EAGAIN' });
  t.ok(asked <= 4, 'the others fail at once, and spare the store');
  isSlow = false;
  await waitUntil(
    async () => {
      try {
        return (await ask(instance, mac(8))).kind === 'target';
      } catch {
        return false;
      }
    },
    { what: 'the store again' },
  );
  t.equal(host.degraded, undefined);
});

t.test('a request that asks for a pause gets one', async (t) => {
  let asked = 0;
  const url = await serve(t, ({ url: resource = '' }, response) => {
    if (!resource.includes('/macs/')) return;
    asked++;
    response.writeHead(503, { 'retry-after': '60' });
    response.end();
  });
  const { instance } = await startHttp(t, url, { mode: 'lookup' });
  await t.rejects(ask(instance, mac(1)), {
    message: `${url} has answered 503 to GET ${NETWORK}/macs/02-00-00-00-00-01`,
  });
  await t.rejects(ask(instance, mac(2)), { code: 'EAGAIN' });
  t.equal(asked, 1);
});

// -- Answers that no good store gives. The whole head and body of each; the connection stays open.

const head = (status: string, more = ''): string => `HTTP/1.1 ${status}\r\n${more}`;
const ok = (body: string, length = body.length): string =>
  head('200 OK', `content-type: application/json\r\ncontent-length: ${length}\r\n\r\n${body}`);

const HOSTILE: readonly (readonly [name: string, raw: string, message: RegExp])[] = [
  ['no HTTP', 'hunter2 hunter2\r\n\r\n', /does not speak HTTP \(HPE_/],
  ['TLS in place of HTTP', '\x15\x03\x01\x00\x02\x02\x16', /does not speak HTTP \(HPE_/],
  ['a huge header', head('200 OK', `x: ${'hunter2'.repeat(5000)}\r\n\r\n`), /sends too large a header$/],
  [
    'a redirect',
    head('302 Found', 'location: http://hunter2/\r\ncontent-length: 0\r\n\r\n'),
    /has answered 302 to GET .*, a redirect: varpd follows none/,
  ],
  [
    '401',
    head('401 No', 'content-length: 7\r\n\r\nhunter2'),
    /has answered 401 .*: http\/token names the secret with the token$/,
  ],
  [
    '404 of another server',
    head('404 No', 'content-type: text/html\r\ncontent-length: 7\r\n\r\nhunter2'),
    /has answered 404 .* is http\/url right\?$/,
  ],
  [
    '404 with another code',
    head('404 No', 'content-type: application/problem+json\r\ncontent-length: 18\r\n\r\n{"code":"hunter2"}'),
    /is http\/url right/,
  ],
  ['a status that there is not', head('299 hunter2', 'content-length: 0\r\n\r\n'), /has answered 299 to GET/],
  ['304 to no ETag', head('304 Not Modified', '\r\n'), /has answered 304 to GET/],
  ['no JSON', ok('hunter2'), /: at 1:1: found a number or a word, expected a JSON value$/],
  ['JSON that is cut', ok('{"ip": "10.0.0.1", "port": 1'), /: at 1:29: found the end of the file/],
  ['the end in the middle of a body', ok('{"ip"', 100), /has not answered within|has ended the connection/],
  [
    'a body without an end',
    head(
      '200 OK',
      `transfer-encoding: chunked\r\n\r\n${'20000\r\n' + ' '.repeat(0x20000) + '\r\n'}`.replace(
        /(20000[^]*)$/,
        (chunk) => chunk.repeat(9),
      ),
    ),
    /sends an answer of more than 1048576 bytes$/,
  ],
  [
    'a compressed answer, although none was asked for',
    head('200 OK', `content-encoding: gzip\r\ncontent-length: 1\r\n\r\n\x1f`),
    /sends a compressed answer, which varpd does not accept$/,
  ],
  [
    'another protocol',
    head('101 Switching Protocols', 'upgrade: other\r\nconnection: upgrade\r\n\r\n'),
    /has ended the connection before its answer was whole$/,
  ],
  ['nothing', '', /has not answered within 300 ms$/],
];

t.test('answers that no good store gives', async (t) => {
  for (const [name, raw, message] of HOSTILE) {
    const url = await rawServer(t, raw);
    const { host, instance } = await startHttp(t, url, { mode: 'lookup', timeout_ms: 300 });
    await t.rejects(ask(instance, mac(1)), { message }, name);
    t.match(host.degraded, message, name);
    t.notMatch(host.troubles.join() + host.lines.join(), /hunter2/, name);
  }
});

t.test('an idle connection that is closed while a request is on its way costs no lookup', async (t) => {
  let requests = 0;
  const server = createNetServer((socket: Socket) => {
    socket.on('error', () => undefined);
    let own = 0;
    socket.on('data', (data: Buffer) => {
      requests++;
      const isNetwork = data.toString('latin1').startsWith(`GET ${NETWORK} `);
      const entry = JSON.stringify(OTHER);
      // The second request of a connection comes too late.
      if (own++ === 0) socket.write(ok(isNetwork ? '{"entries": 0, "vteps": []}' : entry));
      else socket.destroy();
    });
  });
  const { host, instance } = await startHttp(t, await listen(t, server), { mode: 'lookup' });
  for (let last = 1; last <= 5; last++)
    t.match(await ask(instance, mac(last)), { kind: 'target', to: OTHER });
  t.ok(requests > 6, 'some were sent twice');
  t.equal(host.degraded, undefined);
});

/** Answers the network as it should, and all else with these bytes. */
async function rawServer(t: Test, raw: string): Promise<string> {
  const server = createNetServer((socket: Socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => {
      const isNetwork = data.toString('latin1').startsWith(`GET ${NETWORK} `);
      socket.write(isNetwork ? ok('{"entries": 0, "vteps": []}') : raw, 'latin1');
    });
  });
  return listen(t, server);
}

t.test('a stream that hangs, ends, or is none', async (t) => {
  const streams: ((write: (text: string) => void, end: () => void) => void)[] = [
    (write) => {
      write('event: cursor\nid: 1\ndata:\n\n');
    },
    (write) => {
      write(`id: 2\ndata: {"${macText(1)}": {"ip": "10.88.88.71", "port": 4790}}\r\n\r\nid: 3\nda`);
    },
    (write, end) => {
      write('id: 3\ndata: not JSON\n\n');
      end();
    },
    (write) => {
      write(`:\n\nevent: cursor\nid: 4\ndata:\n\nid: 5\ndata: {"${macText(2)}":\ndata: null}\n\n`);
    },
  ];
  const cursors: unknown[] = [];
  const url = await serve(t, (request, response) => {
    if (request.url === `${NETWORK}/entries`)
      response.end(
        `{"${macText(1)}": {"ip": "10.88.88.70", "port": 4789}}\n{"revision": "0", "entries": 1}\n`,
      );
    if (request.url !== `${NETWORK}/changes`) return;
    cursors.push(request.headers['last-event-id']);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    streams.shift()?.(
      (text) => response.write(text),
      () => response.end(),
    );
  });
  const { host } = await startHttp(t, url, { mode: 'snapshot', silence_ms: 1000 });
  await waitUntil(() => host.snapshot?.revision === '2', { what: 'the change of the second stream' });
  t.match(host.snapshot?.targets.get(mac(1)), { to: OTHER });
  await waitUntil(() => host.snapshot?.revision === '5', { what: 'the change of the last stream' });
  t.equal(host.snapshot?.targets.has(mac(2)), false);
  t.strictSame(
    cursors.slice(0, 4),
    ['0', '1', '2', '0'],
    'from where it was; behind what cannot be read, from a new snapshot',
  );
  t.equal(host.snapshots, 2);
  t.match(host.troubles.join('\n'), /changes do not arrive: .* has not answered within 1000 ms/);
  t.match(host.troubles.join('\n'), /changes do not arrive: .*: an event: at 1:1: found a number or a word/);
  await waitUntil(() => host.degraded === undefined, { what: 'the end of the trouble' });

  const none = await serve(t, (request, response) => {
    if (request.url === `${NETWORK}/changes`) response.end('<html>');
  });
  const { host: other } = await startHttp(t, none);
  await waitUntil(() => other.degraded !== undefined, { what: 'the trouble' });
  t.match(other.degraded, /^changes do not arrive: .* is no event stream \(text\/event-stream\)$/);
});

// -- Snapshots

const LINE = `{"${macText(1)}": {"ip": "10.88.88.70", "port": 4789}}\n`;
const SNAPSHOTS: readonly (readonly [name: string, body: string, message: RegExp])[] = [
  ['without its last line', LINE, /\/entries: ended before the line with the revision$/],
  ['with half of its last line', `${LINE}{"revision": "1", "entries": 1}`, /ended before the line/],
  [
    'with fewer entries than it says',
    `${LINE}{"revision": "1", "entries": 2}\n`,
    /line 2 does not have the number of entries before it, which is 1$/,
  ],
  ['without a revision', `${LINE}{"entries": 1}\n`, /line 2 has no valid revision$/],
  [
    'with a revision that is no header',
    `${LINE}{"revision": "a\\r\\nb", "entries": 1}\n`,
    /no valid revision$/,
  ],
  [
    'that goes on',
    `${LINE}{"revision": "1", "entries": 1}\n${LINE}`,
    /line 3 is behind the line with the revision$/,
  ],
  [
    'with a line that is no JSON',
    `${LINE}hunter2\n`,
    /line 2: at 1:1: found a number or a word, expected '\{'$/,
  ],
  [
    'with an endless line',
    `${LINE}${' '.repeat(1024 * 1024 + 1)}`,
    /sends a line of more than 1048576 bytes$/,
  ],
];

t.test('snapshots that are not whole are refused', async (t) => {
  for (const [name, body, message] of SNAPSHOTS) {
    const url = await serve(t, (request, response) => {
      if (request.url === `${NETWORK}/entries`) response.end(body);
    });
    const host = new TableHost();
    await t.rejects(startHttp(t, url, { mode: 'snapshot' }, host), { message }, name);
    t.equal(host.snapshot, undefined, name);
  }
});

t.test('a snapshot that varpd refuses leaves the one before in force', { skip }, async (t) => {
  const store = await ReferenceStore.start(t);
  await store.put(macText(1), VTEP);
  const { host, instance } = await startHttp(t, store.url, { mode: 'snapshot' });
  host.refuses = true;
  await t.rejects(instance.reload(new AbortController().signal), { message: 'a row is invalid' });
  t.equal(host.degraded, 'a row is invalid');
  t.match(await ask(instance, mac(1)), { kind: 'target', to: VTEP });
  await instance.reload(new AbortController().signal);
  t.equal(host.degraded, undefined);
  host.refuses = true;
  await store.put(macText(2), VTEP);
  await waitUntil(() => host.snapshot?.targets.has(mac(2)) === true, { what: 'a new snapshot' });
  t.match(host.troubles.at(-1), /varpd refuses a change: a row is invalid/);
});

t.test('100,000 entries', { skip }, async (t) => {
  const line = (index: number): string =>
    `{"02:00:00:${[index >> 16, (index >> 8) & 255, index & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}": ` +
    `{"ip": "10.88.${index % 200}.70", "port": 4789, "arp": "10.${index >> 16}.${(index >> 8) & 255}.${index & 255}", "ndp": "fd00::${(index >> 16).toString(16)}:${(index & 65535).toString(16)}"}}\n`;
  const url = await serve(t, (request, response) => {
    if (request.url !== `${NETWORK}/entries`) return;
    for (let index = 0; index < 100_000; index += 1000)
      response.write(Array.from({ length: 1000 }, (_, row) => line(index + row)).join(''));
    response.end('{"revision": "100000", "entries": 100000}\n');
  });
  const { host, instance } = await startHttp(t, url, { mode: 'snapshot' });
  // On a busy machine the start does not wait for all of it.
  await waitUntil(() => host.snapshot !== undefined, { what: 'the snapshot' });
  t.equal(host.snapshot?.targets.size, 100_000);
  t.equal(host.snapshot?.addresses.size, 199_999 + 1);
  t.equal(host.peers.length, 200);
  t.match(await ask(instance, 0x0200_0000_0000 + 65_536), { kind: 'target', to: { ip: '10.88.136.70' } });
  t.equal(host.snapshot?.addresses.get('fd00::1:869f'), 0x0200_0000_0000 + 99_999);
});
