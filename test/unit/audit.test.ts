// Each change is one line of the log: who, what, and the result; and the fields of the log are those of docs/logs.md.
import t from 'tap';
import { METHOD_NAMES } from '../../src/control/methods.js';
import { type Change, commandText, isChange, sentenceText, TYPED } from '../../src/daemon/control/audit.js';
import { answer, type Caller, type Handlers } from '../../src/daemon/control/rpc.js';
import { DaemonLog, LOG_FIELDS, PRIORITIES } from '../../src/daemon/log.js';
import { invalidError, OverlayError } from '../../src/model/errors.js';
import { textOf } from '../helpers/documents.js';

type Form = Parameters<typeof DaemonLog.to>[1]['format'];

function logOf(format: Form, level: 'info' | 'warn' = 'info') {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  return { lines, log: DaemonLog.to(stream, { level, format }, undefined, () => 0) };
}

const ASKER = { uid: 0, pid: 4711 };
const GOOD: Change = { asker: ASKER, command: 'delete-vnic foo0', result: 'done' };
const BAD: Change = {
  asker: ASKER,
  command: 'delete-overlay o0',
  result: 'BUSY',
  message: 'it has VNICs\nfoo0',
};

t.test('what is typed', (t) => {
  for (const method of METHOD_NAMES.filter(isChange)) t.ok(TYPED[method], `${method} has its words`);
  const properties: [string, string][] = [
    ['http/url', 'http://me:hunter2@10.0.0.1/x'],
    ['http/token', 'hunter2'],
    ['nats/password', 'hunter2'],
    ['a/private-key', 'hunter2'],
    ['files/config', "/etc/it's here"],
  ];
  const create = commandText('overlay.create', {
    name: 'o0',
    encap: 'vxlan',
    search: 'http',
    vnetid: 23,
    temporary: true,
    properties,
  });
  const shown =
    'create-overlay -t -e vxlan -s http -v 23 -p http/url=http://me:***@10.0.0.1/x -p http/token=***';
  t.equal(
    create,
    `${shown} -p nats/password=*** -p a/private-key=*** -p 'files/config=/etc/it'\\''s here' o0`,
  );
  t.notMatch(create, 'hunter2');
  const quotes =
    "http/url: found 'http://me:hunter@2@10.0.0.1/x', expected x; nats/password: found 'hunter2'";
  t.equal(
    sentenceText({ name: 'o0', temporary: false, properties }, quotes),
    "http/url: found 'http://me:***@10.0.0.1/x', expected x; nats/password: found '***'",
    'nor does the reason of a refusal',
  );
  t.equal(
    sentenceText({ name: 'o0', temporary: false, properties: ['mtu'] }, quotes.slice(-16)),
    quotes.slice(-16),
  );
  const vnic = { name: 'foo0', over: 'o0', mac: '02:00:00:00:00:01', vid: 7, temporary: false };
  t.equal(
    commandText('vnic.create', { ...vnic, properties: [['allowed-ips', ['10.0.0.1', 'fd00::/64']]] }),
    'create-vnic -l o0 -m 02:00:00:00:00:01 -v 7 -p allowed-ips=10.0.0.1,fd00::/64 foo0',
  );
  t.equal(commandText('linkprop.reset', { name: 'foo0', temporary: false }), 'reset-linkprop foo0');
  const flags = { isDropsOnly: true, isOuter: false, isCut: false };
  t.equal(commandText('capture.start', { name: 'o0', ...flags }), 'capture --drops o0');
  t.equal(
    commandText('capture.start', {
      ...{ name: 'foo0', ...flags, isOuter: true, reason: 'tx_too_big', count: 7, snapBytes: 64 },
      ...{ mac: '02:00:00:00:00:01', ip: '10.0.0.1', etherType: 2048, vlan: 0, peer: '10.88.88.70' },
    }),
    'capture -s 64 -c 7 --drops=tx_too_big --outer --mac 02:00:00:00:00:01 --ip 10.0.0.1 --type 2048 --vlan 0 --peer 10.88.88.70 foo0',
  );
  t.equal(
    commandText('overlay.explain', { name: 'o0', port: 'foo0', destination: '10.0.0.1', vlan: 5, bytes: 98 }),
    'explain -i foo0 --dst 10.0.0.1 --vlan 5 --size 98 o0',
  );
  t.equal(
    commandText('overlay.explain', { name: 'o0', frame: '00ff', from: '10.88.88.70', vnetid: 24 }),
    'explain --frame 00ff --inbound --from 10.88.88.70 --vni 24 o0',
  );
  const probe = { name: 'o0', target: '02:00:00:00:00:01', isMtuSought: false, isEachPath: false };
  t.equal(commandText('overlay.probe', probe), 'probe o0 02:00:00:00:00:01');
  t.equal(
    commandText('overlay.probe', {
      ...{ ...probe, target: '10.0.0.1', isMtuSought: true, isEachPath: true },
      ...{ port: 'foo0', vlan: 5, packetBytes: 64, count: 7 },
    }),
    'probe -i foo0 --vlan 5 -s 64 -c 7 --mtu --paths o0 10.0.0.1',
  );
  t.equal(commandText('overlay.up', {}), 'up-overlay');
  t.equal(commandText('overlay.up', undefined), 'overlay.up', 'arguments that are not valid are left out');
  t.end();
});

t.test('one line in each format', (t) => {
  const text = logOf('text');
  for (const change of [GOOD, BAD]) text.log.change(change);
  t.match(text.lines[0], /^\S+Z info change by 0 \(root\), process 4711: delete-vnic foo0: done\n$/);
  t.match(
    text.lines[1],
    /^\S+Z warn change by 0 \(root\), process 4711: delete-overlay o0: BUSY: it has VNICs\S*foo0\n$/,
  );
  text.log.change({ asker: undefined, command: 'SIGHUP', result: 'done' });
  t.match(text.lines[2], / info change by a signal: SIGHUP: done\n$/);

  for (const format of ['journal', 'journal json'] as const) {
    const { lines, log } = logOf(format);
    log.change(GOOD);
    log.change(BAD);
    log.error('x', 'y');
    t.same(
      lines.map((line) => line.slice(0, 3)),
      [`<${PRIORITIES.info}>`, `<${PRIORITIES.warn}>`, `<${PRIORITIES.error}>`],
      `${format}: priorities for journalctl -p`,
    );
    if (format === 'journal json') t.match(JSON.parse(lines[1].slice(3)), { level: 'warn', result: 'BUSY' });
  }
  const quiet = logOf('text', 'warn');
  for (const change of [GOOD, BAD]) quiet.log.change(change);
  t.equal(quiet.lines.length, 1, 'at level warn those that failed are left');

  const many = logOf('text');
  for (let number = 0; number < 2000; number++) many.log.change(GOOD);
  t.equal(many.lines.length, 2000, 'none is left out');
  const denied = logOf('text');
  for (let number = 0; number < 2000; number++) denied.log.change({ ...BAD, result: 'DENIED' });
  t.equal(denied.lines.length, 10, 'but for one without rights who asks on and on');
  t.end();
});

t.test('the fields are those of docs/logs.md', (t) => {
  const { lines, log } = logOf('json');
  log.change(GOOD);
  log.change(BAD);
  log.info('a', 'b');
  const fields = lines.flatMap((line) => Object.keys(JSON.parse(line) as object));
  t.same([...new Set(fields)].sort(), Object.keys(LOG_FIELDS).sort());
  t.match(JSON.parse(lines[0]), {
    level: 'info',
    pid: process.pid,
    event: 'change',
    uid: 0,
    askerPid: 4711,
    user: 'root',
    command: 'delete-vnic foo0',
    result: 'done',
    msg: 'change by 0 (root), process 4711: delete-vnic foo0: done',
  });
  for (const name of Object.keys(LOG_FIELDS))
    t.ok(textOf('docs/logs.md').includes(`\n| \`${name}\` | `), name);
  t.end();
});

t.test('every outcome of a request', async (t) => {
  const changes: unknown[] = [];
  const outcomes: Record<string, () => unknown> = {
    'overlay.delete': () => null,
    'vnic.delete': () => {
      throw new OverlayError('BUSY', 'it is in use', ['by foo0']);
    },
    'overlay.up': () => ({ failures: [{ name: 'o0', message: 'no address' }] }),
    'daemon.reload': () => ({ failures: [] }),
    'linkprop.set': () => {
      throw invalidError('foo0: protection: found 7, expected one of mac-nospoof, ip-nospoof');
    },
    'overlay.list': () => ({ overlays: [], missing: [], next: null }),
  };
  const caller = (mayChange: boolean): Caller => ({
    mayChange,
    changed: (change) => void changes.push(change),
  });
  const ask = async (method: string, params: object, mayChange = true): Promise<void> => {
    const request = { jsonrpc: '2.0', id: 1, method, params };
    const bug = (error: unknown): void => {
      t.fail(String(error));
    };
    const pieces = answer(request, caller(mayChange), outcomes as unknown as Handlers, bug, () =>
      Promise.resolve(),
    );
    for await (const piece of pieces) t.ok(piece);
  };
  const named = { name: 'x0', temporary: false };
  await ask('overlay.list', {});
  await ask('overlay.delete', named);
  await ask('vnic.delete', named);
  await ask('overlay.up', {});
  await ask('daemon.reload', {});
  await ask('linkprop.set', { name: 'foo0', temporary: false, properties: [['protection', ['7']]] });
  await ask('overlay.delete', { name: 7 });
  await ask('overlay.delete', named, false);
  t.match(changes, [
    { command: 'delete-overlay x0', result: 'done', message: undefined },
    { command: 'delete-vnic x0', result: 'BUSY', message: 'by foo0; it is in use' },
    { command: 'up-overlay', result: 'failed', message: 'o0: no address' },
    { command: 'reload', result: 'done' },
    {
      command: 'set-linkprop -p protection=7 foo0',
      result: 'INVALID',
      // Once, though it is the error's message and its detail.
      message: /^foo0: protection: found 7, expected one of mac-nospoof, ip-nospoof$/,
    },
    { command: 'overlay.delete', result: 'INVALID', message: /name/ },
    { command: 'overlay.delete', result: 'DENIED' },
  ]);
  t.equal(changes.length, 7, 'one each, and none for a look');
});
