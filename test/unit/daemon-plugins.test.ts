// Living with bad plugins: whatever one does, its overlay is degraded and nothing else happens.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import { PluginInstance } from '../../src/daemon/plugins/plugin-host.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { PropertySet } from '../../src/model/properties.js';
import {
  type Answer,
  definePlugin,
  type Host,
  type Instance,
  type LookupPlugin,
  parseIp,
} from '../../src/plugin/index.js';
import { FakeDatapath, fakeOverlay } from '../helpers/fake-datapath.js';
import { newLog } from '../helpers/kept-log.js';

const LISTEN = { ip: parseIp('10.0.0.1')!, port: 4789 };
const PEER = { ip: parseIp('10.0.0.2')!, port: 4789 };
const OTHER = { ip: parseIp('10.0.0.3')!, port: 4789 };
const MAC = 0x0200_0000_0007;

type Behaviour = Partial<Instance> & { readonly onCreate?: (host: Host) => void };

function plugin(behaviour: Behaviour, mode: LookupPlugin['mode'] = 'dynamic'): LookupPlugin {
  return definePlugin({
    apiVersion: 2,
    name: 'test',
    mode,
    properties: [],
    create: (host) => {
      behaviour.onCreate?.(host);
      return { start: () => Promise.resolve(), stop: () => Promise.resolve(), ...behaviour };
    },
  });
}

const LIMITS = { ...parseConfig('', '').limits, lookupDeadlineMs: 100, startDeadlineMs: 100 };

function makeInstance(behaviour: Behaviour, mode?: LookupPlugin['mode']) {
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const log = newLog();
  const health = new Health('overlay0', log);
  const site = { overlay: 'overlay0', vnetid: 42, listen: LISTEN };
  const instance = new PluginInstance(plugin(behaviour, mode), site, {
    log,
    health,
    limits: () => LIMITS,
    reprotect: () => undefined,
    files: { stateDir: () => '/nonexistent', secret: () => Promise.reject(new Error('no secrets here')) },
  });
  const properties = PropertySet.from(
    overlaySpecs(VXLAN, [], ['test']),
    [['vxlan/listen_ip', LISTEN.ip]],
    {},
  );
  let lookups = 0;
  /** One question; resolves with its answer. */
  const ask = (): Promise<LookupAnswer> => {
    const lookup = ++lookups;
    const answered = overlay.answerTo(lookup);
    instance.lookup({ lookup, destinationMac: MAC, sourceMac: 2, etherType: 0x800, vlan: 0 });
    return answered;
  };
  const start = async (): Promise<void> => {
    await instance.start(properties);
    instance.attach(overlay);
  };
  return { instance, datapath, overlay, log, health, properties, ask, start };
}

t.test('answers', async (t) => {
  const answered = (answer: unknown): Promise<LookupAnswer> => {
    const { start, ask } = makeInstance({ resolve: () => answer as Answer });
    return start().then(ask);
  };
  t.same(await answered({ kind: 'target', to: PEER }), { kind: 'target', to: [PEER], ttlMs: Infinity });
  t.same(await answered({ kind: 'target', to: PEER, ttlMs: 5 }), { kind: 'target', to: [PEER], ttlMs: 5 });
  t.same(await answered({ kind: 'target', to: PEER, ttlMs: 5, staleMs: 0 }), {
    kind: 'target',
    to: [PEER],
    ttlMs: 5,
    staleMs: 0,
  });
  t.same(await answered(Promise.resolve({ kind: 'drop', reason: 'no' })), {
    kind: 'drop',
    reason: 'lookup_drop',
  });
  t.same(await answered({ kind: 'drop', reason: 'no', ttlMs: 9 }), {
    kind: 'drop',
    reason: 'lookup_drop',
    ttlMs: 9,
  });
  const flood = { kind: 'flood', to: [PEER, LISTEN, OTHER] };
  t.same(await answered(flood), { kind: 'target', to: [PEER, LISTEN, OTHER], ttlMs: Infinity });
  t.same(
    await answered({ kind: 'target', to: LISTEN }),
    { kind: 'target', to: [LISTEN], ttlMs: Infinity },
    'here',
  );
});

t.test('bad plugins degrade their overlay until the next good answer', async (t) => {
  const good: Answer = { kind: 'target', to: PEER };
  const block = (): Answer => {
    for (const end = performance.now() + 150; performance.now() < end;);
    return good;
  };
  const cases: Record<
    string,
    { resolve: () => unknown; reason: 'lookup_failed' | 'lookup_timeout'; says: RegExp }
  > = {
    throws: {
      resolve: () => {
        throw new Error('out of order');
      },
      reason: 'lookup_failed',
      says: /^plugin test: out of order$/,
    },
    rejects: { resolve: () => Promise.reject(new Error('later')), reason: 'lookup_failed', says: /later/ },
    hangs: {
      resolve: () => new Promise(() => undefined),
      reason: 'lookup_timeout',
      says: /no answer within 100 ms/,
    },
    blocks: { resolve: block, reason: 'lookup_timeout', says: /held up the whole daemon for \d+ ms/ },
    'wrong family': {
      resolve: () => ({ kind: 'target', to: { ip: '2001:db8::1', port: 4789 } }),
      reason: 'lookup_failed',
      says: /gave the destination \[2001:db8::1\]:4789, which is not of the same family/,
    },
    'no answer at all': {
      resolve: () => undefined,
      reason: 'lookup_failed',
      says: /gave undefined where an answer/,
    },
  };
  const garbage: unknown[] = [
    null,
    42,
    'target',
    {},
    { kind: 'proxy', what: 'arp' },
    { kind: 'target' },
    { kind: 'target', to: { ip: '10.0.0.300', port: 1 } },
    { kind: 'target', to: { ip: '0.0.0.0', port: 1 } },
    { kind: 'target', to: { ip: '10.0.0.2', port: 0 } },
    { kind: 'target', to: { ip: '10.0.0.2', port: '4789' } },
    { kind: 'target', to: { ip: '10.0.0.2', port: 65536 } },
    { kind: 'target', to: PEER, ttlMs: -1 },
    { kind: 'target', to: PEER, ttlMs: NaN },
    { kind: 'target', to: PEER, staleMs: -1 },
    { kind: 'flood', to: [PEER], staleMs: '5' },
    { kind: 'flood', to: PEER },
    { kind: 'flood', to: new Array(1025).fill(PEER) },
    {
      get kind(): string {
        throw new Error('a trap');
      },
    },
  ];
  for (const [index, value] of garbage.entries())
    cases[`garbage ${index}`] = { resolve: () => value, reason: 'lookup_failed', says: /gave|a trap/ };

  for (const [name, { resolve, reason, says }] of Object.entries(cases)) {
    let bad = true;
    const { start, ask, health } = makeInstance({ resolve: () => (bad ? resolve() : good) as Answer });
    await start();
    t.same(await ask(), { kind: 'drop', reason }, name);
    t.match(health.report(), { status: 'DEGRADED', details: says }, name);
    bad = false;
    t.match(await ask(), { kind: 'target' });
    t.same(health.report(), { status: 'ONLINE', details: null });
  }
});

t.test('a late answer goes nowhere, and its signal was aborted', async (t) => {
  let aborted = false;
  const { start, ask, overlay } = makeInstance({
    resolve: async (_lookup, signal) => {
      signal.addEventListener('abort', () => (aborted = true));
      await sleep(150);
      return { kind: 'target', to: PEER };
    },
  });
  await start();
  t.match(await ask(), { reason: 'lookup_timeout' });
  t.ok(aborted);
  await sleep(150);
  t.equal(overlay.answers.length, 1);
});

t.test('starting', async (t) => {
  const resolve = (): Answer => ({ kind: 'drop', reason: '' });
  const cases: Record<
    string,
    { behaviour: Behaviour; mode?: LookupPlugin['mode']; error: { code?: string; message: RegExp } }
  > = {
    rejects: {
      behaviour: {
        resolve,
        start: () =>
          Promise.reject(Object.assign(new Error("ENOENT: no such file, open '/x'"), { code: 'ENOENT' })),
      },
      error: { code: 'NOT_FOUND', message: /^failed to activate varpd instance: no such file$/ },
    },
    hangs: {
      behaviour: { resolve, start: () => new Promise(() => undefined) },
      error: { code: 'AGAIN', message: /within 100 ms/ },
    },
    'throws in create': {
      behaviour: {
        onCreate: () => {
          throw new Error('boom');
        },
      },
      error: { message: /boom/ },
    },
    'has no resolve': { behaviour: {}, error: { message: /has no resolve/ } },
    'has no destination': { behaviour: {}, mode: 'point', error: { message: /has no defaultDestination/ } },
  };
  for (const [name, { behaviour, mode, error }] of Object.entries(cases)) {
    let stops = 0;
    const stop = (): Promise<void> => {
      stops++;
      return Promise.resolve();
    };
    const { instance, properties } = makeInstance({ stop, ...behaviour }, mode);
    await t.rejects(instance.start(properties), error, name);
    if (behaviour.start !== undefined) t.equal(stops, 1, 'stopped after a failed start');
  }
});

t.test('the destination of a point plugin', async (t) => {
  for (const [to, message] of [
    [LISTEN, /sends to 10\.0\.0\.1:4789, which is this overlay's own listen address/],
    [{ ip: parseIp('2001:db8::1')!, port: 4789 }, /not of the same family/],
    [{ ip: 'example.org', port: 4789 }, /where an \{ ip, port \} was expected/],
  ] as const) {
    const { start, instance } = makeInstance({ defaultDestination: () => to }, 'point');
    await start();
    await t.rejects(instance.destination(), { code: 'INVALID', message });
  }
});

t.test('what a plugin may tell', async (t) => {
  let host!: Host;
  const { start, instance, datapath, overlay, health, log } = makeInstance({
    onCreate: (given) => {
      host = given;
      host.setTargets([{ mac: MAC, to: PEER }]);
    },
    resolve: () => ({ kind: 'drop', reason: '' }),
  });
  const known = () => overlay.table.get(MAC);
  t.equal(known(), undefined);
  await start();
  t.same(known(), { to: [PEER], ttlMs: Infinity }, 'kept until the overlay is there');
  host.setTargets([{ mac: MAC, to: PEER, ttlMs: 50 }]);
  t.same(known(), { to: [PEER], ttlMs: 50 });
  host.setTargets([{ mac: MAC, to: LISTEN }]);
  t.same(known(), { to: [LISTEN], ttlMs: Infinity });
  host.invalidate();
  t.equal(overlay.table.size, 0);
  host.setPeers([PEER.ip, LISTEN.ip, parseIp('2001:db8::1')!]);
  t.same(overlay.namedPeers, [PEER.ip]);
  t.throws(() => {
    host.setTargets([{ mac: -1, to: PEER }]);
  }, /48-bit/);
  t.throws(() => {
    host.setTargets([{ mac: MAC, to: { ip: 'x', port: 1 } }]);
  }, /gave/);
  t.throws(() => {
    host.setPeers(['x'] as never);
  }, /gave/);

  host.degrade('the database\nis gone');
  t.same(health.report(), { status: 'DEGRADED', details: 'the database\\x0ais gone' });
  host.restore();
  t.equal(health.report().status, 'ONLINE');
  host.log.info('hello');
  t.match(log.lines.at(-1), 'info overlay0: plugin test: hello');

  const { changes } = datapath;
  await instance.stop();
  await instance.stop();
  host.setTargets([{ mac: MAC, to: PEER }]);
  host.degrade('too late');
  t.equal(datapath.changes, changes);
  t.equal(health.report().status, 'ONLINE');
});

t.test('health keeps apart who complains', async (t) => {
  const health = new Health('overlay0', newLog());
  health.degrade('plugin', 'no peers');
  health.degrade('port foo0', 'port foo0: the device was removed');
  t.equal(health.report().details, 'no peers; port foo0: the device was removed');
  health.restore('plugin');
  t.equal(health.report().details, 'port foo0: the device was removed');
  health.restore('port foo0');
  t.equal(health.report().status, 'ONLINE');
});
