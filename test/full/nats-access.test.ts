// Access to a bucket: TLS, passwords, nkeys, credentials, permissions. Against real servers on the loopback address.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { connect } from '@nats-io/transport-node';
import { nkeys } from '@nats-io/transport-node';
import t from 'tap';
import nats from '../../plugins/nats/index.js';
import { parseServers } from '../../plugins/nats/client.js';
import { ipKey, ipOfKey, macKey, macOfKey, vtepKey, vtepOfKey } from '../../plugins/nats/keys.js';
import { parseIp } from '../../src/plugin/index.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { NatsServer, skipWithoutNats } from '../helpers/nats-server.js';
import { ask, entry, key, mac, type NatsValues, startNats, stateDirectory } from '../helpers/nats-scene.js';
import { TableHost } from '../helpers/table-host.js';

t.test('keys', async (t) => {
  t.equal(macKey(0xdead_beef_0001), 'mac.de-ad-be-ef-00-01');
  t.equal(macOfKey('mac.de-ad-be-ef-00-01'), 0xdead_beef_0001);
  const bad = [
    'mac.DE-ad-be-ef-00-01',
    'mac.1-2-3-4-5-6',
    'mac.01-00-5e-00-00-01',
    'mac.00-00-00-00-00-00',
    'mac.',
    'x',
  ];
  for (const each of bad) t.equal(macOfKey(each), undefined, each);
  const ips = ['10.0.0.1', '::1', 'fe80::', '2001:db8::3', '1:2:3:4:5:6:7:8', '255.255.255.255'].map((each) =>
    parseIp(each)!,
  );
  for (const ip of ips) {
    t.match(ipKey(ip), /^ip\.[-0-9a-f]+$/);
    t.equal(ipOfKey(ipKey(ip)), ip);
    t.strictSame(vtepOfKey(vtepKey({ ip, port: 4789 })), { ip, port: 4789 });
  }
  for (const each of ['ip.10-0-0', 'ip.010-0-0-1', 'ip.2001-DB8--3', 'ip.', 'ip.0-0-0-0-0-0-0-1'])
    t.equal(ipOfKey(each), undefined, each);
  for (const each of ['vtep.10-0-0-1', 'vtep.10-0-0-1.0', 'vtep.10-0-0-1.70000', 'vtep.10-0-0-1.1.2'])
    t.equal(vtepOfKey(each), undefined, each);
});

t.test('properties', async (t) => {
  t.strictSame(parseServers('a, nats://b:5222,tls://[::1]'), {
    servers: ['a:4222', 'b:5222', '[::1]:4222'],
    mustEncrypt: true,
  });
  for (const bad of [
    '',
    'a,',
    'http://a',
    'user:secret@a',
    'nats://user:secret@a:1',
    'a:0',
    'a:65536',
    '[x]:1',
    'a/b',
  ]) {
    t.type(parseServers(bad), 'string', bad);
    t.notMatch(parseServers(bad), /secret/, 'a password that is misplaced is not shown');
  }
  const good: NatsValues = { servers: 'a', mode: 'lookup', flood: 'off', protect: 'off' };
  t.equal(await nats.refuse!(good), undefined);
  const refused: [Partial<NatsValues>, RegExp][] = [
    [{ servers: 'a b' }, /^nats\/servers: expected servers as/],
    [{ bucket: 'a.b' }, /^nats\/bucket: expected letters/],
    [{ cert: '/a' }, /cert and nats\/key need each other/],
    [{ user: 'a' }, /user and nats\/password need each other/],
    [{ nkey: 'a', creds: 'b' }, /exclude each other/],
    [{ stale_ms: 5 }, /stale_ms needs nats\/ttl_ms/],
    [{ mode: 'snapshot', ttl_ms: 5000 }, /a snapshot does not age/],
  ];
  for (const [values, sentence] of refused) t.match(await nats.refuse!({ ...good, ...values }), sentence);
});

t.test('TLS', { skip: skipWithoutNats || skipUnless({ programs: ['openssl'] }) }, async (t) => {
  const plain = await NatsServer.start(t);
  const make = (...words: string[]): void =>
    void execFileSync('openssl', words, { cwd: plain.directory, stdio: 'ignore' });
  const ca = (name: string): void => {
    make(
      ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'.split(' '),
      ...['-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`],
    );
  };
  const signed = (name: string, subject: string): void => {
    const extensions = plain.file(`${name}.ext`, `subjectAltName=${subject}\n`);
    make(
      ...'req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'.split(' '),
      ...['-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`],
    );
    make(
      ...`x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -in ${name}.csr -out ${name}.pem`.split(
        ' ',
      ),
      ...['-extfile', extensions],
    );
  };
  ca('ca');
  ca('other');
  signed('server', 'IP:127.0.0.1');
  signed('host', 'DNS:host1');
  const server = await NatsServer.start(t, {
    config:
      `tls { cert_file: "${plain.file('server.pem')}", key_file: "${plain.file('server.key')}", ` +
      `ca_file: "${plain.file('ca.pem')}", verify: true }`,
  });
  const files = { ca: plain.file('ca.pem'), cert: plain.file('host.pem'), key: plain.file('host.key') };
  const kv = await server.bucket(t, 'varpd-23', {
    // This client takes a server by its address for localhost; the plugin must know better.
    tls: Object.assign(
      { caFile: files.ca, certFile: files.cert, keyFile: files.key },
      { checkServerIdentity: () => undefined },
    ),
  });
  await kv.put(key(1), entry());
  const { host, stop } = await startNats(t, server, files);
  t.equal(host.destinationOf(mac(1)), '10.88.88.70:4789');
  await stop();
  const refused: [Partial<NatsValues>, string, RegExp][] = [
    [
      { ...files, ca: plain.file('other.pem') },
      'EACCES',
      /TLS with NATS at .* fails \([A-Z_]+\): check nats\/ca/,
    ],
    [{ ca: files.ca }, '', /NATS at/],
    [{ ...files, ca: '/nonexistent/ca.pem' }, 'EACCES', /\/nonexistent\/ca\.pem cannot be read: ENOENT/],
  ];
  for (const [values, code, message] of refused)
    await t.rejects(startNats(t, server, values), code === '' ? { message } : { code, message });
  await t.rejects(startNats(t, plain, { servers: plain.url.replace('nats:', 'tls:') }), {
    code: 'EACCES',
    message: /does not offer TLS/,
  });
});

/** plugins/nats/README.md has the same. */
const permissions = (bucket: string): string => `permissions: {
  publish: [
    "$JS.API.STREAM.INFO.KV_${bucket}", "$JS.API.CONSUMER.CREATE.KV_${bucket}.>", "$JS.API.DIRECT.GET.KV_${bucket}.>",
    "$JS.FC.KV_${bucket}.>"
  ],
  subscribe: ["_INBOX.${bucket}.>"]
}`;

t.test('users', { skip: skipWithoutNats }, async (t) => {
  const pair = nkeys.createUser();
  const seed = new TextDecoder().decode(pair.getSeed());
  const server = await NatsServer.start(t, {
    config: `authorization { users: [
      { user: operator, password: all }
      { user: host23, password: "pa ss", ${permissions('varpd-23')} }
      { user: host24, password: other, ${permissions('varpd-24')} }
      { nkey: ${pair.getPublicKey()}, ${permissions('varpd-23')} }
    ] }`,
  });
  const operator = { user: 'operator', pass: 'all' };
  for (const bucket of ['varpd-23', 'varpd-24'])
    await (await server.bucket(t, bucket, operator)).put(key(1), entry({ arp: '10.0.0.1' }));
  const secrets = { right: 'pa ss', wrong: 'wrong', other: 'other', seed, bad: 'SUABC', creds: 'no creds' };
  const started: Partial<NatsValues>[] = [
    { user: 'host23', password: 'right' },
    { user: 'host23', password: 'right', mode: 'lookup' },
    { nkey: 'seed' },
  ];
  for (const values of started) {
    const scene = await startNats(t, server, { ...values, secrets });
    t.match(await ask(scene, mac(1)), { kind: 'target' }, JSON.stringify(values));
    // One that is asked for on its own.
    const client = await server.client(t, operator);
    client.publish(`$KV.varpd-23.${key(1)}`, entry({ ip: '10.88.88.71' }));
    await client.flush();
    await scene.stop();
  }
  const refused: [Partial<NatsValues>, RegExp][] = [
    [{ user: 'host23', password: 'wrong' }, /refuses this user: check nats\/user/],
    [{}, /refuses this user/],
    [{ user: 'host24', password: 'other' }, /the user of this host may not look at the bucket varpd-23/],
    [{ nkey: 'bad' }, /the secret of nats\/nkey is not of the form/],
    [{ creds: 'creds' }, /NATS at|the secret of nats\/creds is not of the form/],
    [{ nkey: 'absent' }, /no secret absent/],
  ];
  for (const [values, message] of refused)
    await t.rejects(startNats(t, server, { ...values, secrets }), { message }, JSON.stringify(values));

  // The user of one network does not see the inbox of another.
  const spy = await connect({
    servers: server.url,
    user: 'host24',
    pass: 'other',
    inboxPrefix: '_INBOX.varpd-24',
  });
  t.teardown(() => spy.close());
  const errors: unknown[] = [];
  spy.subscribe('_INBOX.varpd-23.>', { callback: (error) => void errors.push(error) });
  await spy.flush();
  t.match(String(errors[0]), /Permissions Violation/i);
});

t.test('without the packages of NATS', async (t) => {
  const directory = stateDirectory(t);
  const inside = (...names: string[]): string => path.join(directory, ...names);
  for (const folder of ['plugins/nats', 'src/plugin', 'src/wire'])
    cpSync(fromRoot(`dist/${folder}`), inside('dist', folder), { recursive: true });
  writeFileSync(inside('package.json'), '{"type": "module"}');
  mkdirSync(inside('node_modules'));
  symlinkSync(fromRoot('node_modules/ipaddr.js'), inside('node_modules/ipaddr.js'));
  writeFileSync(
    inside('start.js'),
    `import nats from './dist/plugins/nats/index.js';
    const host = { listen: { ip: '10.0.0.1', port: 4789 }, overlay: 'o', vnetid: 1, stateDir: '/nonexistent' };
    nats.create(host).start({ servers: 'a', mode: 'snapshot' }).catch(({ code, message }) => console.log(code, message));`,
  );
  const said = execFileSync(process.execPath, [inside('start.js')], { encoding: 'utf8' });
  t.match(said, /^ENOENT the packages of NATS are not installed; .*: npm install @nats-io\/transport-node /);
});

const INFO = `INFO ${JSON.stringify({ server_id: 'x', version: '2.9.10', proto: 1, headers: true, max_payload: 1024, jetstream: true })}\r\n`;

/** Says `first` at once, and answers each request with `answer`. Without one it answers not even a PING. */
function badServer(first: string | Buffer, answer?: string) {
  return (socket: Socket): void => {
    socket.write(first);
    let [buffer, sid] = ['', ''];
    socket.on('data', (chunk) => {
      if (answer === undefined) return;
      buffer += chunk.toString();
      sid = /SUB \S+ (\d+)/.exec(buffer)?.[1] ?? sid;
      if (/^PING/m.test(buffer)) socket.write('PONG\r\n');
      const reply = /PUB \S+ (\S+) \d+\r\n/.exec(buffer)?.[1];
      if (reply !== undefined) socket.write(`MSG ${reply} ${sid} ${answer.length}\r\n${answer}\r\n`);
      buffer = '';
    });
  };
}

const wrongInfo = '{"type":"io.nats.jetstream.api.v1.stream_info_response","config":null,"state":7}';
const BAD_SERVERS: [what: string, server: (socket: Socket) => void, sentence: RegExp][] = [
  ['speaks HTTP', badServer('HTTP/1.1 400 Bad Request\r\n\r\n'), /does not speak the protocol of NATS/],
  ['introduces itself with no JSON', badServer('INFO {x}\r\n'), /does not speak the protocol of NATS/],
  ['sends bytes without a line', badServer(Buffer.alloc(10_000_000, 0x80)), /does not answer/],
  ['closes at once', (socket) => socket.destroy(), /does not answer/],
  ['closes after its introduction', (socket) => socket.end(INFO), /does not answer/],
  ['never answers a PING', badServer(INFO), /does not answer/],
  ['answers a question with no JSON', badServer(INFO, '{x}'), /an answer that JetStream does not have/],
  ['answers with other members', badServer(INFO, wrongInfo), /an answer that JetStream does not have/],
];

for (const [what, behave, sentence] of BAD_SERVERS)
  t.test(`a server that ${what}`, async (t) => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      behave(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '::1', resolve));
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as { port: number };
    await t.rejects(startNats(t, { url: `nats://[::1]:${port}` }), { code: 'EAGAIN', message: sentence });
  });

t.test('a server that says nothing', async (t) => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const servers = `127.0.0.1:${port}`;
  await t.rejects(startNats(t, { url: servers }), { code: 'EAGAIN', message: /does not answer/ });
  // A stop in the middle of an attempt.
  const host = new TableHost(stateDirectory(t));
  const instance = nats.create(host, undefined);
  const values: NatsValues = { servers, mode: 'snapshot', flood: 'off', protect: 'off' };
  const ended = new AbortController();
  const before = sockets.size;
  const start = instance.start(values, ended.signal);
  start.catch(() => undefined);
  await waitUntil(() => sockets.size > before, { what: 'an attempt' });
  ended.abort();
  await instance.stop();
  await t.rejects(start);
});
