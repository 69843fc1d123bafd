// The host of a plugin: its calls in their order, timers, secrets, what instances share; specs and values that are refused.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';

import { waitingCallsOf } from '../../src/daemon/plugins/host/complaints.js';
import { Secrets } from '../../src/daemon/plugins/host/secrets.js';
import { AnswerError, shown } from '../../src/daemon/plugins/plugin-answer.js';
import { specProblems } from '../../src/daemon/plugins/spec-check.js';
import { sentenceWithCauses } from '../../src/daemon/system-error.js';
import { refuseKind } from '../../src/model/property-kinds.js';
import { type GivenProperty, parseValue } from '../../src/model/properties.js';
import {
  type Answer,
  type Host,
  parseIp,
  type PropertyKind,
  type PropertySpec,
} from '../../src/plugin/index.js';
import { type Behaviour, newSite } from '../helpers/hosted.js';
import { waitUntil } from '../helpers/process.js';
import { part } from '../helpers/whole.js';

const A = { ip: '10.0.0.2', port: 4789 };
const resolve = (): Answer => ({ kind: 'drop', reason: '' });
const NOTHING: Behaviour = { resolve };

/** Waits for what the instance does by itself. */
const until = (condition: () => boolean): Promise<void> =>
  waitUntil(condition, { what: String(condition), stepMs: 2 });

// -- Calls

await t.test('a long list is used whole, in its order; a bad one not at all', async (t) => {
  const site = newSite();
  const { host, instance } = await site.start(NOTHING);
  const rows = Array.from({ length: 5000 }, (_, mac) => ({ mac, to: A, ttlMs: 5 }));
  host.setTargets(rows);
  host.invalidate([7]);
  host.setTargets([{ mac: 5001, to: A }]);
  t.equal(site.overlay.table.size, 0, 'nothing yet');
  t.ok(waitingCallsOf(host) > 0);
  await until(() => site.overlay.table.has(5001));
  t.equal(site.overlay.table.size, 5000);
  t.notOk(site.overlay.table.has(7), 'the call behind it was carried out behind it');
  t.equal(waitingCallsOf(host), 0);
  host.setTargets([...rows.slice(0, 100), { mac: -1, to: A }]);
  await until(() => site.health.report().status === 'DEGRADED');
  t.match(site.health.report().details, /^plugin test: gave -1 where a MAC as a 48-bit number was expected/);

  const peers = Array.from({ length: 3000 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
  host.setPeers(peers);
  host.setPeers(['10.9.9.9', '10.0.0.1', 'fd00::1']);
  await until(() => instance.peers.length === 1);
  t.same(site.overlay.namedPeers, ['10.9.9.9'], 'the later list is in force');
  host.setAllowedIps(Array.from({ length: 300 }, (_, mac) => ({ mac, ips: ['10.3.3.3'] })));
  await until(() => site.knowledge.allowedIps(1, undefined) !== undefined);
  t.same(site.knowledge.allowedIps(299, undefined), ['10.3.3.3']);
  t.throws(() => {
    host.setAllowedIps([{ mac: 1, ips: 5 as never }]);
  }, AnswerError);
  host.setTargets(rows);
  await instance.stop();
  const { size } = site.overlay.table;
  for (let round = 0; round < 50; round++) await turn();
  t.equal(site.overlay.table.size, size, 'a list of an instance that has stopped is dropped');
});

await t.test('lists before the overlay is there follow in their order', async (t) => {
  const site = newSite();
  const rows = Array.from({ length: 1000 }, (_, mac) => ({ mac, to: A }));
  await site.start({
    ...NOTHING,
    onCreate: (host) => {
      host.setTargets(rows);
      host.invalidate([5]);
      host.announce('10.1.1.1', 7);
    },
  });
  await until(() => site.overlay.announced.length === 1);
  t.equal(site.overlay.table.size, 999);
});

await t.test('allowed addresses outlive an instance, and close what is not in the list', async (t) => {
  const { knowledge, start } = newSite();
  t.equal(knowledge.allowedIps(1, undefined), undefined, 'no plugin has said anything');
  t.same(knowledge.allowedIps(1, ['10.5.5.5' as never]), ['10.5.5.5'], 'the list of the previous process');
  const { host, instance } = await start(NOTHING);
  host.setAllowedIps([{ mac: 1, ips: ['10.1.1.1'] }]);
  await instance.stop();
  host.setAllowedIps();
  t.same([knowledge.allowedIps(1, undefined), knowledge.allowedIps(2, undefined)], [['10.1.1.1'], []]);
  const next = await start(NOTHING);
  t.same(knowledge.allowedIps(2, ['10.5.5.5' as never]), [], 'until the next instance says otherwise');
  next.host.setAllowedIps();
  t.equal(knowledge.allowedIps(1, ['10.5.5.5' as never]), undefined);
});

await t.test('every: never twice at a time, an error degrades, and stop ends it', async (t) => {
  const site = newSite();
  let [calls, open] = [0, 0];
  let host!: Host;
  const { instance } = await site.start({
    ...NOTHING,
    onCreate: (created) => {
      host = created;
      created.every(1, async () => {
        t.equal(++open, 1);
        await sleep(2);
        open--;
        if (++calls === 2) throw new Error('no store', { cause: new Error('refused') });
      });
    },
  });
  for (const bad of [0, -1, NaN, Infinity, 2 ** 31, '5'])
    t.throws(() => {
      host.every(bad as number, () => undefined);
    }, AnswerError);
  await until(() => site.lines.some((line) => line.includes('degraded: plugin test: no store: refused')));
  await until(() => calls > 3);
  t.equal(site.health.report().status, 'ONLINE', 'the next good call ends it');
  t.notOk(host.signal.aborted);
  await instance.stop();
  t.ok(host.signal.aborted);
  const before = calls;
  await sleep(20);
  t.ok(calls <= before + 1);
  t.equal(host.stateDir, '/state/test');
  t.equal(await host.secret('token'), 'the token');
});

// -- Start, change, and what instances share

await t.test('refuse is asked about all values together, before anything else', async (t) => {
  const specs: PropertySpec[] = [
    { name: 'test/a', type: 'uint', required: false, changeable: true },
    { name: 'test/b', type: 'string', required: false, changeable: true },
  ];
  const seen: unknown[] = [];
  let said: unknown = 'test/a and test/b exclude each other';
  const behaviour: Behaviour = {
    resolve,
    specs,
    plugin: {
      refuse: (values) => {
        seen.push(values);
        return Promise.resolve('a' in values && 'b' in values ? (said as string) : undefined);
      },
    },
    change: (values) => {
      seen.push(values);
      return values['a'] === 9 ? Promise.reject(new Error('nine is taken')) : Promise.resolve();
    },
    onCreate: () => seen.push('created'),
  };
  const both: GivenProperty[] = [
    ['test/a', '5'],
    ['test/b', 'x,y'],
  ];
  await t.rejects(newSite().start(behaviour, both), {
    code: 'INVALID',
    message: 'invalid properties: test/a and test/b exclude each other',
  });
  t.same(seen, [{ a: 5, b: 'x,y' }]);
  said = 5;
  await t.rejects(newSite().start(behaviour, both), { message: /the plugin does not say why/ });
  seen.length = 0;
  const { instance } = await newSite().start(behaviour, [['test/a', '5']]);
  const { propertiesOf, pluginOf } = await import('../helpers/hosted.js');
  const set = (given: GivenProperty[]) => propertiesOf(pluginOf(behaviour), given);
  await instance.change(set([['test/a', '6']]));
  t.same(seen, [{ a: 5 }, 'created', { a: 6 }, { a: 6 }]);
  await t.rejects(instance.change(set(both)), { code: 'INVALID' });
  await t.rejects(instance.change(set([['test/a', '9']])), { message: 'not changed: nine is taken' });
  await instance.stop();
  await t.rejects(instance.change(set([])), { code: 'AGAIN' });
  const fixed = await newSite().start(NOTHING);
  await t.rejects(fixed.instance.change(set([])), { code: 'UNSUPPORTED' });
  await t.rejects(newSite().start({ resolve, specs }), {
    message: /has no change, and its property test\/a is changeable/,
  });
});

await t.test('open comes before the first instance, close after the last', async (t) => {
  const events: string[] = [];
  let isWell = false;
  const { pluginOf, propertiesOf } = await import('../helpers/hosted.js');
  const { PluginInstance } = await import('../../src/daemon/plugins/plugin-host.js');
  const plugin = pluginOf({
    resolve,
    plugin: {
      open: async (context) => {
        events.push(`open ${context.stateDir} ${await context.secret('s')}`);
        await turn();
        if (!isWell) throw new Error('no server');
        return 'connection';
      },
      close: (shared) => {
        events.push(`close ${String(shared)}`);
        return Promise.reject(new Error('did not answer'));
      },
    },
    onCreate: (_host, shared) => events.push(`create ${String(shared)}`),
    stop: () => {
      events.push('stop');
      return Promise.resolve();
    },
  });
  const lines: string[] = [];
  const site = newSite();
  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (_: string, line: string) => lines.push(line)]),
  );
  const services = {
    log: log as never,
    health: site.health,
    limits: () => ({ lookupDeadlineMs: 1000, startDeadlineMs: 1000 }) as never,
    reprotect: () => undefined,
    files: { stateDir: () => '/s', secret: () => Promise.resolve('secret') },
  };
  const served = { overlay: 'overlay0', vnetid: 1, listen: { ip: parseIp('10.0.0.1')!, port: 1 } };
  const make = () => new PluginInstance(plugin, served, services);
  const start = (instance: ReturnType<typeof make>) => instance.start(propertiesOf(plugin));
  const failed = await Promise.allSettled([start(make()), start(make())]);
  t.same(
    failed.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  t.same(events.splice(0), ['open /s secret'], 'both waited for the one attempt');
  isWell = true;
  const [one, two] = [make(), make()];
  await Promise.all([start(one), start(two)]);
  await one.stop();
  await one.stop();
  t.same(events.splice(0), ['open /s secret', 'create connection', 'create connection', 'stop']);
  const three = make();
  await two.stop();
  await start(three);
  t.same(events, ['stop', 'close connection', 'open /s secret', 'create connection']);
  t.match(lines.join('\n'), /did not close: did not answer/);
  await three.stop();
});

await t.test('every method may answer later', async (t) => {
  const later = <T>(value: T): Promise<T> => turn().then(() => value);
  const { instance } = await newSite().start({
    resolve: () => later<Answer>({ kind: 'drop', reason: '' }),
    placeOf: () => later(A),
    neighbor: () => later(5),
    ports: () => later(undefined),
  });
  t.equal(instance.placeOf(1), undefined, 'not answered yet');
  await until(() => instance.placeOf(1) !== undefined);
  t.same(instance.placeOf(1), A);
  t.equal(await instance.neighbor(parseIp('10.1.1.1')!), 5);
  const site = newSite();
  const bad = await site.start({ ...NOTHING, ports: () => Promise.reject(new Error('no ports')) });
  bad.instance.ports([1]);
  await until(() => site.health.report().status === 'DEGRADED');
  t.match(site.health.report().details, /no ports/);
  const point = await newSite().start({ mode: 'point', defaultDestination: () => later(A) });
  t.same(await point.instance.destination(), A);
});

// -- Errors

await t.test('causes are told, once each, and no error about an error', (t) => {
  const chain = new Error('cannot read the table', {
    cause: new Error('fetch failed', {
      cause: Object.assign(new Error('connect ECONNREFUSED 10.0.0.9:80'), { code: 'ECONNREFUSED' }),
    }),
  });
  t.match(
    sentenceWithCauses(chain),
    /^cannot read the table: fetch failed: connect(?:ion refused| ECONNREFUSED)/,
  );
  t.equal(sentenceWithCauses(new Error('a: b', { cause: new Error('b') })), 'a: b', 'not twice');
  const self: Error & { cause?: unknown } = new Error('round');
  self.cause = self;
  t.equal(sentenceWithCauses(self), 'round');
  const [one, two]: (Error & { cause?: unknown })[] = [new Error('one'), new Error('two')];
  [one.cause, two.cause] = [two, one];
  t.equal(sentenceWithCauses(one), 'one: two');
  let deep = new Error('0');
  for (let depth = 1; depth < 100; depth++) deep = new Error(`d${depth}`, { cause: deep });
  t.match(sentenceWithCauses(deep), /^d99: d98: d97: d96: d95: d94: \.\.\.$/);
  t.match(sentenceWithCauses(new AggregateError([new Error('first')], 'all failed')), /^all failed: first$/);
  t.end();
});

await t.test('whatever is thrown, telling it does not fail (property)', (t) => {
  const refuse = (): never => {
    throw new Error('trap');
  };
  const traps = Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((name) => [name, refuse]));
  // Thunks, since the generator looks into its values, and a trap may be anywhere in these.
  const leaf: fc.Arbitrary<() => unknown> = fc.oneof(
    fc
      .anything({ withBigInt: true, withDate: true, withNullPrototype: true, withSparseArray: true })
      .map((value) => () => value),
    fc.constantFrom<() => unknown>(
      () => Symbol('s'),
      () => new Proxy(new Error('x'), traps),
      () => Object.create(null) as unknown,
      () => refuse,
    ),
  );
  const trap = fc.constantFrom('message', 'cause', 'name', 'stack', 'code', 'errors', '');
  const error = (cause: fc.Arbitrary<() => unknown>): fc.Arbitrary<() => unknown> =>
    fc.tuple(leaf, cause, trap, fc.boolean()).map(([message, inner, trapped, isAggregate]) => () => {
      const made = isAggregate ? new AggregateError([inner()], 'm') : new Error('m', { cause: inner() });
      // The trap first: the engine reads the message when the stack is defined.
      if (trapped !== '') Object.defineProperty(made, trapped, { get: refuse });
      if (trapped !== 'message') Object.defineProperty(made, 'message', { value: message() });
      return made;
    });
  const { thrown } = fc.letrec<{ thrown: () => unknown }>((tie) => ({
    thrown: fc.oneof({ maxDepth: 4 }, leaf, error(tie('thrown'))),
  }));
  fc.assert(
    fc.property(thrown, (make) => {
      const value = make();
      const [sentence, text] = [sentenceWithCauses(value), shown(value)];
      return typeof sentence === 'string' && sentence !== '' && typeof text === 'string' && text.length < 400;
    }),
    { numRuns: part(2000) },
  );
  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  t.equal(shown(cycle), '{"self":{"self":"..."}}');
  t.equal(shown(10n), '"10"');
  t.equal(shown(new Proxy({}, traps)), 'a value of type object');
  t.equal(shown(Array.from({ length: 1e6 }, () => 'x')), '["x","x","x","x"]');
  t.end();
});

// -- Specs, kinds, secrets

await t.test('specs are checked', (t) => {
  const good: PropertySpec[] = [
    {
      name: 'p/a',
      type: 'uint',
      required: true,
      min: 1,
      max: 9,
      default: '3',
      about: 'A number.',
      changeable: true,
    },
    { name: 'p/b', type: 'choice', required: false, choices: ['x', 'y'], default: 'y' },
    { name: 'p/c', type: 'ip', required: false, kind: 'host' },
    { name: 'p/d', type: 'string', required: false, maxBytes: 4096, kind: 'url', default: 'https://a/' },
  ];
  t.same(specProblems('p', good), []);
  const base = { name: 'p/x', type: 'uint', required: false };
  const bad: [unknown, RegExp][] = [
    [5, /^properties\[0\] is no object$/],
    [{}, /^properties\[0\] has no name; .*has no type; .*has no required$/],
    [{ ...base, colour: 1 }, /^property p\/x has an unknown member colour, expected one of name, type, /],
    [{ ...base, type: 'int' }, /has a type that is not one of uint, ip, string, choice/],
    [{ ...base, required: 1 }, /has a required that is not true or false/],
    [{ ...base, min: 9, max: 8 }, /has a min of 9 above its max of 8/],
    [{ ...base, min: -1 }, /has a min that is not a whole number/],
    [{ ...base, default: '5', max: 4 }, /has a default that is not a whole number from 0 to 4/],
    [{ ...base, type: 'ip', min: 1 }, /has a min, which goes with type uint alone/],
    [{ ...base, maxBytes: 5 }, /has a maxBytes, which goes with type string alone/],
    [{ ...base, type: 'string', maxBytes: 4097 }, /has a maxBytes that is not a whole number from 1 to 4096/],
    [{ ...base, choices: ['a'] }, /has a choices, which goes with type choice alone/],
    [{ ...base, type: 'choice' }, /is a choice without choices/],
    [{ ...base, type: 'choice', choices: [] }, /has a choices that is not a list of words/],
    [{ ...base, type: 'choice', choices: ['a', 'b', 'a'] }, /has the choice 'a' twice/],
    [{ ...base, type: 'choice', choices: ['a'], default: 'b' }, /has a default that is not one of a/],
    [{ ...base, kind: 'host' }, /has the kind host, which goes with type ip alone/],
    [{ ...base, type: 'ip', kind: 'url' }, /has the kind url, which goes with type string alone/],
    [{ ...base, type: 'string', kind: 'mail' }, /has a kind that is not one of host, path/],
    [{ ...base, type: 'string', kind: 'path', default: 'x' }, /has a default that is not an absolute path/],
    [{ ...base, changeable: 'yes' }, /has a changeable that is not true or false/],
    [{ ...base, about: 'two\nlines' }, /has a about that is not a sentence/],
    [{ ...base, name: 'q/x' }, /must begin with 'p\/'/],
    [{ ...base, name: 'p/x y' }, /must begin with 'p\/' and go on with letters/],
    [{ ...base, name: `p/${'x'.repeat(62)}` }, /has more than 63 characters/],
  ];
  for (const [spec, says] of bad) t.match(specProblems('p', [spec]).join('; '), says, String(says));
  t.match(specProblems('p', [base, base]).join(), /^property p\/x is named twice$/);
  t.end();
});

await t.test('kinds', (t) => {
  const values: Record<PropertyKind, readonly [good: readonly string[], bad: readonly string[]]> = {
    host: [
      ['10.0.0.1', 'fd00::1', '239.1.1.1'],
      ['0.0.0.0', '255.255.255.255', '::', '::102:304', '2002::1', 'fe80::1'],
    ],
    path: [
      ['/', '/etc/x', '/a b'],
      ['x', './x', ''],
    ],
    url: [
      ['http://a', 'https://a.b:81/c?d=e', 'https://[::1]/', 'HTTP://A/'],
      ['a', 'ftp://a', 'file:///a', 'http://u@a', 'http://u:p@a', 'https://', 'javascript:1'],
    ],
    endpoint: [
      ['a:1', 'a.b-c:65535', '10.0.0.1:80', '[fd00::1]:80'],
      ['a', 'a:0', 'a:65536', 'a:01', ':80', 'fd00::1:80', '[x]:80', '-a:80', 'a b:80', 'a:8 '],
    ],
    secret: [
      ['token', 'a.b-c_d', 'A1', 'x'.repeat(63)],
      ['', '.', '..', '../x', 'a/b', '/x', '-x', '.x', 'a b', 'x'.repeat(64), 'a\0b', 'a\n'],
    ],
  };
  for (const [kind, [good, bad]] of Object.entries(values) as [
    PropertyKind,
    readonly [string[], string[]],
  ][]) {
    for (const value of good) t.equal(refuseKind(kind, value), undefined, `${kind} ${value}`);
    for (const value of bad) t.type(refuseKind(kind, value), 'string', `not ${kind} '${value}'`);
  }
  const spec = { name: 'p/list', type: 'string', required: false, maxBytes: 4096 } as const;
  t.same(parseValue(spec, 'a,b'), { value: 'a,b' });
  t.same(parseValue(spec, 'x'.repeat(4096)), { value: 'x'.repeat(4096) });
  t.match(parseValue(spec, 'x'.repeat(4097)), { expected: /1 to 4096 bytes/ });
  t.match(parseValue(spec, `${'x'.repeat(4095)}\u00e9`), { expected: /bytes/ }, 'bytes, not characters');
  t.match(parseValue({ ...spec, maxBytes: 5 }, 'x'.repeat(6)), { expected: /1 to 5 bytes/ });
  t.end();
});

await t.test('secrets', async (t) => {
  // Not testdir(): the directories above must belong to this user or to root.
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-secrets-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const [own, credentials] = ['own', 'credentials'].map((name) => path.join(directory, name));
  for (const each of [own, credentials]) mkdirSync(each, { mode: 0o700 });
  const put = (file: string, text: string | Uint8Array, mode = 0o600): void => {
    writeFileSync(path.join(directory, file), text);
    chmodSync(path.join(directory, file), mode);
  };
  put('own/token', 'hunter2\n');
  put('own/crlf', 'hunter3\r\n');
  put('own/plain', 'two\nlines\n\n');
  put('credentials/token', 'not this one');
  put('credentials/other', 'from systemd');
  put('own/empty', '\n');
  put('own/large', 'x'.repeat(64 * 1024 + 1));
  put('own/largest', 'x'.repeat(64 * 1024));
  put('own/binary', Uint8Array.from([0xff, 0xfe, 0x00]));
  put('own/shared', 'hunter4', 0o666);
  mkdirSync(path.join(own, 'folder'));
  symlinkSync('token', path.join(own, 'link'));
  put('outside', 'hunter5');
  const secrets = new Secrets(own, credentials);
  t.equal(await secrets.read('token'), 'hunter2', 'the directory of the configuration comes first');
  t.equal(await secrets.read('crlf'), 'hunter3');
  t.equal(await secrets.read('plain'), 'two\nlines\n', 'one line end is cut');
  t.equal(await secrets.read('other'), 'from systemd');
  t.equal(await secrets.read('link'), 'hunter2');
  t.equal((await secrets.read('largest')).length, 64 * 1024);
  const bad: [string, RegExp][] = [
    [
      'nothing',
      new RegExp(`^there is no secret 'nothing': put it into the file ${own}/nothing, or pass it with Load`),
    ],
    ['empty', /own\/empty is empty$/],
    ['large', /own\/large has more than 65536 bytes$/],
    ['binary', /own\/binary is not UTF-8 text$/],
    ['folder', /own\/folder .*/],
    ['shared', /own\/shared is refused: others may change what is in .*shared/],
    ['../outside', /by a name that is not the name of a secret/],
    ['..', /by a name that is not/],
    ['hunter2!', /by a name that is not/],
    [5 as never, /by a name that is not text/],
  ];
  for (const [name, message] of bad) {
    const error = await secrets.read(name).catch((error: unknown) => error as Error);
    t.match(error, { message }, String(message));
    t.notMatch(sentenceWithCauses(error), /hunter|xxx/, 'nothing of it is quoted');
  }
  await t.rejects(new Secrets(null, undefined).read('token'), {
    message: /set the key secrets of the configuration/,
  });
  t.equal(await new Secrets(null, credentials).read('token'), 'not this one');
  await t.rejects(
    new Secrets(path.join(directory, 'nowhere'), undefined).read('token'),
    /there is no secret/,
  );
});
