// The control protocol for programs that are not dladm: the clients of docs/control.md, the schema, and watches, with a real varpd.
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t, { type Test } from 'tap';
import type { MethodName } from '../../src/control/methods.js';
import { createOpener } from '../../src/control/stream-client.js';
import { openWatch } from '../../src/control/watch-client.js';
import type { WatchEvent } from '../../src/control/watch-messages.js';
import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import { block, textOf } from '../helpers/documents.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { oneDaemon } from '../helpers/one-daemon.js';
import { Child, exec, succeeds, waitUntil } from '../helpers/process.js';
import { filesOverlay, MappingFile } from '../helpers/zlan.js';

const skip = skipUnlessNetns();
const MAC = '02:00:00:00:00:77';

async function site(t: Test) {
  const { bed, a, b, daemon } = await oneDaemon(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const mapping = new MappingFile(bed);
  await daemon.ok(filesOverlay(a, mapping, { name: 'files0', more: '-p vxlan/listen_port=4790' }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  return { bed, a, b, daemon, mapping };
}

// -- Clients of the documentation

for (const { language, program, file, command } of [
  { language: 'python', program: 'python3', file: 'client.py', command: ['python3', 'client.py'] },
  { language: 'go', program: 'go', file: 'client.go', command: ['go', 'run', 'client.go'] },
])
  await t.test(
    `the client in ${language}`,
    { skip: skip || skipUnless({ programs: [program] }) },
    async (t) => {
      const { bed, daemon } = await site(t);
      const directory = bed.directory();
      writeFileSync(path.join(directory, file), block('docs/control.md', language));
      const env = { VARPD_SOCKET: daemon.socket, HOME: directory, GOCACHE: path.join(directory, 'cache') };
      const child = new Child(command, { cwd: directory, env });
      t.teardown(() => child.stop('SIGKILL'));
      await child.waitForOutput(/^overlay0 ONLINE\nfiles0 ONLINE$/m, 240_000);
      if (language === 'python')
        await child.waitForOutput(/^begin None\ncounters overlay0\ncounters files0$/m);
      else t.match(await child.exited, { code: 0 }, child.stderr);
      t.equal(child.stderr, '');
    },
  );

// -- The schema

type Schema = Record<string, unknown>;

/** No object may have a member that the schema does not name. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== 'object' || schema === null) return schema;
  const all = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  return 'properties' in all && !('additionalProperties' in all)
    ? { ...all, additionalProperties: false }
    : all;
}

await t.test('answers are as the schema says, and have no other member', { skip }, async (t) => {
  const { b, daemon } = await site(t);
  const schema = closed(JSON.parse(textOf('config/control.schema.json'))) as Schema;
  const ajv = new Ajv2020({ strict: false });
  ajv.addSchema(schema, 'control');
  const check = (what: string, value: unknown): void => {
    const validate = ajv.getSchema(`control#/$defs/${encodeURIComponent(what)}`)!;
    t.ok(validate(value), `${what}: ${ajv.errorsText(validate.errors)}`);
  };
  await daemon.ok(`modify-overlay -s ${MAC}=${b.underlay.v4}:4789 files0`);
  const asked: [MethodName, Record<string, unknown>][] = [
    ['overlay.list', {}],
    ['overlay.list', { names: ['overlay0', 'none0'] }],
    ['overlay.statistics', {}],
    ['overlay.targets', { name: 'files0' }],
    ['overlay.targets', { name: 'overlay0' }],
    ['overlay.peers', { name: 'overlay0' }],
    ['vnic.list', {}],
    ['linkprop.list', { persistent: false }],
    ['overlay.explain', { name: 'files0', destination: MAC }],
    ['overlay.up', {}],
    ['overlay.deleteTarget', { name: 'files0', mac: MAC }],
    ['daemon.reload', {}],
    ['daemon.status', {}],
  ];
  for (const [method, params] of asked) {
    t.ok(ajv.validate('control', { jsonrpc: '2.0', id: 1, method, params }), `a request of ${method}`);
    check(`${method} result`, await daemon.call(method, params));
  }
  for (const params of [{}, { name: 3 }, { name: 'x', other: 1 }])
    t.notOk(ajv.validate('control', { jsonrpc: '2.0', id: 1, method: 'overlay.targets', params }), 'refused');
  const refused = await daemon.call('overlay.targets', { name: 'none0' }).catch((error: unknown) => error);
  const { reason, status, words, details, hint } = refused as Schema;
  check('ErrorData', { reason, status, words, details, hint });
  const watch = await openWatch(createOpener(daemon.socket), {});
  check('watch.start result', watch.info);
  await daemon.ok(`modify-overlay -s ${MAC}=drop files0`);
  await daemon.ok('reload');
  const seen = new Set<string>();
  for await (const event of watch.events) {
    check('WatchEvent', event);
    seen.add(event.kind);
    if (seen.size === 4) break;
  }
  t.same([...seen].sort(), ['counters', 'log', 'state', 'targets']);
});

// -- Watches

/** What comes, in a list that grows. */
async function watching(t: Test, daemon: Daemon, kinds: string[], overlays?: string[]) {
  const watch = await openWatch(createOpener(daemon.socket), { kinds, ...(overlays && { overlays }) });
  const events: WatchEvent[] = [];
  const over = (async () => {
    for await (const event of watch.events) events.push(event);
  })();
  t.teardown(async () => {
    watch.end();
    await over;
  });
  const find = async (what: string, is: (event: WatchEvent) => boolean): Promise<void> => {
    await waitUntil(() => events.some(is), { what: `${what}: ${JSON.stringify(events).slice(-2000)}` });
  };
  return { events, over, find };
}

await t.test('states, targets, counters and the log', { skip }, async (t) => {
  const { a, b, daemon, mapping } = await site(t);
  const { find, over } = await watching(t, daemon, ['state', 'targets', 'counters', 'log']);
  const ofFiles = (event: WatchEvent): boolean => 'overlay' in event && event.overlay === 'files0';
  await find('its state', (event) => event.kind === 'state' && ofFiles(event) && event.status === 'ONLINE');
  await daemon.ok('create-vnic -l overlay0 bar0');
  await find('a VNIC', (e) => e.kind === 'state' && e.ports.some(({ name }) => name === 'bar0'));
  await find('its line in the log', (event) => event.kind === 'log' && event.message.includes('create-vnic'));
  await daemon.ok(`modify-overlay -s ${MAC}=${b.underlay.v4}:4789 files0`);
  const isSet = (event: WatchEvent, state: string): boolean =>
    event.kind === 'targets' && event.rows?.some((row) => row.mac === MAC && row.state === state) === true;
  await find('a target that was set', (event) => isSet(event, 'valid'));
  await daemon.ok(`modify-overlay -d ${MAC} files0`);
  await find('and deleted', (event) => isSet(event, 'gone'));
  await daemon.ok('modify-overlay -f files0');
  await find('a flush', (event) => event.kind === 'targets' && event.rows === null);
  // The own port asks for a MAC of the mapping.
  const known = Object.keys(mapping.article).at(-1)!;
  await a.exec(`ip addr add 10.55.55.9/24 dev files0`);
  await a.exec(`ip neigh replace 10.55.55.77 lladdr ${known} dev files0`);
  await a.run('ping -c 1 -W 1 10.55.55.77');
  const isAnswer = (event: WatchEvent): boolean =>
    event.kind === 'targets' &&
    event.rows?.some(
      ({ mac, origin, state }) => mac === known && origin === 'plugin' && state === 'valid',
    ) === true;
  await find('an answer of the plugin', isAnswer);
  await find('a rate', (event) => {
    if (event.kind !== 'counters' || event.overlay !== 'files0') return false;
    return event.counters.some(({ name, value }) => name === 'lookups' && value > 0);
  });
  mapping.rewrite('{');
  await find('a broken mapping', (event) => event.kind === 'state' && event.status === 'DEGRADED');
  await daemon.ok('delete-overlay files0');
  await find('its end', (event) => event.kind === 'state' && ofFiles(event) && event.isGone);
  await daemon.stop();
  await over;
});

await t.test('clients that do not read, and clients that go', { skip }, async (t) => {
  const { daemon } = await site(t);
  const request = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'watch.start', params: {} })}\n`;
  for (let n = 0; n < 8; n++) {
    const slow = connect(daemon.socket, () => slow.write(request));
    slow.pause();
    t.teardown(() => slow.destroy());
    const gone = connect(daemon.socket, () => gone.write(request));
    gone.once('data', () => gone.destroy());
  }
  const { find } = await watching(t, daemon, ['log']);
  const beforeKib = daemon.residentKib();
  // Each is a line of the log for every client: far more than the queues hold.
  for (let n = 0; n < 3000; n++) await daemon.call('overlay.flushTargets', { name: 'files0' });
  await find('the last line', (event) => event.kind === 'log' && event.message.includes('modify-overlay -f'));
  t.ok(daemon.residentKib() - beforeKib < 40_000, `${daemon.residentKib() - beforeKib} KiB more`);
  t.match(await daemon.call('daemon.status', {}), { pid: daemon.pid }, 'varpd goes on');
});

await t.test('a client that reads late', { skip }, async (t) => {
  const { daemon } = await site(t);
  const { result, stream } = await createOpener(daemon.socket)('watch.start', { kinds: ['log'] });
  t.same(result.kinds, ['log']);
  for (let n = 0; n < 6000; n++) await daemon.call('overlay.flushTargets', { name: 'files0' });
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString())).resume();
  t.teardown(() => stream.destroy());
  await waitUntil(() => text.includes('"kind":"missed"'), { what: 'the line about it' });
  const lines = text.trimEnd().split('\n');
  const missed = lines
    .filter((line) => line.includes('"kind":"missed"'))
    .map((line) => JSON.parse(line) as WatchEvent);
  const count = missed.reduce(
    (sum, event) => sum + (event.kind === 'missed' ? (event.lines.log ?? 0) : 0),
    0,
  );
  const got = lines.filter((line) => line.includes('flush') || line.includes('modify-overlay -f')).length;
  t.equal(got + count, 6000, `${got} came, ${count} were missed`);
});

await t.test('dladm watch goes on after a restart', { skip }, async (t) => {
  const { daemon } = await site(t);
  const env = { VARPD_SOCKET: daemon.socket };
  const child = new Child([process.execPath, DLADM_MAIN, 'watch', '-k', 'state', 'overlay0'], { env });
  t.teardown(() => child.stop('SIGKILL'));
  await child.waitForOutput(/^varpd .*: state\n[\d:]+ state +overlay0 +ONLINE, 1 peer$/m);
  await daemon.restart();
  await child.waitForOutput(
    /ONLINE(?:.*\n)+?varpd .*: state\n(?:.*\n)*[\d:]+ state +overlay0 +ONLINE, 1 peer$/m,
  );
  t.match(child.stderr, /^dladm: varpd at \S+ has ended the watch: trying again$/m);
  t.notMatch(child.stdout, /foo0|files0/);
  const few = await daemon.dladm('watch', '--json', '-c', '2', '-k', 'state,counters');
  t.equal(few.code, 0, few.stderr);
  const [begin, ...events] = few.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Schema);
  t.match(begin, { v: 1, kind: 'begin', pid: daemon.pid });
  t.match(events, [
    { v: 1, kind: 'state' },
    { v: 1, kind: 'state' },
  ]);
  for (const [args, code, message] of [
    [['-k', 'frames'], 7, /unknown kind 'frames'/],
    [['none0'], 4, /none0/],
    [['-c', '0'], 7, /invalid number of events/],
  ] as const) {
    const refused = await daemon.dladm('watch', ...args);
    t.equal(refused.code, code, refused.stderr);
    t.match(refused.stderr, message);
  }
});

const mayRead =
  skip === false &&
  (await succeeds(exec(['setpriv', '--reuid', '65534', '--clear-groups', 'test', '-r', DLADM_MAIN])));

await t.test('a user that may not change anything', { skip: skip || !mayRead }, async (t) => {
  const { a, daemon } = await site(t);
  await exec(['chmod', '0666', daemon.socket]);
  const as = [
    'setpriv',
    '--reuid',
    '65534',
    '--regid',
    '65534',
    '--clear-groups',
    process.execPath,
    DLADM_MAIN,
  ];
  const env = { VARPD_SOCKET: daemon.socket };
  const refused = await a.run([...as, 'watch', '-k', 'log'], { env });
  t.equal(refused.code, 6);
  t.match(refused.stderr, /only root and the configured group may watch the log/);
  const { stdout } = await a.run([...as, 'watch', '--json', '-c', '1'], { env });
  t.match(JSON.parse(stdout.split('\n')[0]), { kinds: ['state', 'targets', 'counters'] });
});
