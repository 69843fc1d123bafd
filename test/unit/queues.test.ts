// An overlay that several threads carry, in memory: two datapath engines stand for them, each with a queue of the port,
// and UserlandOverlay, which makes them one, is between them and whoever answers.
import t from 'tap';
import type { Offload } from '../../src/model/offloads.js';

import { createAskedLeases } from '../../src/core/protection/asked-leases.js';
import { createCounters } from '../../src/core/counts/counters.js';
import type { LookupAnswer, LookupRequest, OverlayConfig, PortConfig } from '../../src/datapath/contract.js';
import { UserlandOverlay } from '../../src/datapath/userland/main/overlay.js';
import type { Request } from '../../src/datapath/userland/main/thread.js';
import type { Command } from '../../src/datapath/userland/protocol.js';
import type { Features } from '../../src/dgram-extra/index.js';
import { queueCount } from '../../src/model/overlay-specs.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address } from '../../src/wire/ip.js';
import type { MacAddress } from '../../src/wire/mac.js';
import { SILENT } from '../helpers/fake-datapath.js';
import { dhcpFrame, frame, Lab, MAC, type Net, type Tap, type Vtep } from '../helpers/lab.js';

interface Thread {
  readonly vtep: Vtep;
  readonly net: Net;
  /** Its queue of the port of MAC.a. */
  readonly tap: Tap;
}

interface Host {
  readonly lab: Lab;
  readonly threads: readonly Thread[];
  readonly overlay: UserlandOverlay;
  /** What came to the plugin, in order. */
  readonly asked: LookupRequest[];
  /** How many came at a time. */
  readonly batches: number[];
  /** Commands that the threads were given. */
  readonly posted: Command[];
  /** Questions that the threads have asked reach the control side. */
  hear(): void;
  readonly peer: Vtep;
  /** How many frames have come to the peer since it was last asked. */
  arrived(): number;
}

const TARGET = (host: Host, ttlMs = Infinity): LookupAnswer => ({
  kind: 'target',
  to: [host.peer.endpoint],
  ttlMs,
});

/** As far as it is looked at here: the threads have what they were made with. */
const CONFIG = { id: 1, offload: [] as readonly Offload[] } as OverlayConfig;

function newHost(count = 2): Host {
  const lab = new Lab();
  const peer = lab.vtep('192.0.2.99');
  const remote = peer.overlay({ acceptAny: true }).port(MAC.b);
  const threads = Array.from({ length: count }, (_, index) => {
    const vtep = lab.vtep(`192.0.2.${index + 1}`);
    const net = vtep.overlay();
    return { vtep, net, tap: net.port(MAC.a) };
  });
  const asked: LookupRequest[] = [];
  const batches: number[] = [];
  const posted: Command[] = [];
  const links = threads.map(({ vtep, net }) => ({
    post: (command: Command) => {
      posted.push(command);
      vtep.obey(command);
    },
    invalidate: (_: number, mac: MacAddress | undefined) => {
      net.invalidate(mac);
    },
    request: (request: Request) => Promise.resolve(vtep.ask({ ...request, reply: 1 })),
    inspect: (request: Request) => Promise.resolve(vtep.ask({ ...request, reply: 1 })),
  }));
  const context = {
    links,
    sockets: {
      tokens: [],
      senderPorts: [],
      senders: { senderFds: [], segmentation: false },
      counters: () => [],
      examples: [],
      release: () => Promise.resolve(),
    },
    openSockets: () => Promise.reject(new Error('the sockets are those of the threads')) as never,
    ports: {
      add: () => Promise.reject(new Error('the ports are those of the threads')) as never,
      offload: () => undefined,
    },
    features: () => ({}) as Features,
    leaving: () => undefined,
    left: () => Promise.resolve(),
  };
  const lookups = (requests: readonly LookupRequest[]): void => {
    asked.push(...requests);
    batches.push(requests.length);
  };
  const overlay = new UserlandOverlay(CONFIG, context, { ...SILENT, lookups });
  const hear = (): void => {
    threads.forEach(({ vtep }, index) => {
      overlay.heard(index, vtep.questions.splice(0));
    });
  };
  return { lab, threads, overlay, asked, batches, posted, hear, peer, arrived: () => remote.take().length };
}

await t.test('with one thread, everything passes as it is', (t) => {
  const host = newHost(1);
  const [{ tap }] = host.threads;
  tap.send(frame(MAC.b, MAC.a), frame(MAC.c, MAC.a));
  host.hear();
  t.match(host.asked, [
    { lookup: 1, destinationMac: MAC.b },
    { lookup: 2, destinationMac: MAC.c },
  ]);
  t.same(host.batches, [2], 'in one go');
  host.overlay.answer(1, TARGET(host));
  t.equal(host.arrived(), 1);
  t.end();
});

await t.test('a MAC that both ask about is asked for once', (t) => {
  const host = newHost();
  const { overlay, asked } = host;
  for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a), frame(MAC.b, MAC.a));
  host.hear();
  t.match(asked, [{ destinationMac: MAC.b, overlay: 1 }]);
  t.equal(asked.length, 1);
  t.equal(overlay.counters()['lookups'], 1);
  overlay.answer(asked[0].lookup, TARGET(host));
  t.equal(host.arrived(), 4, 'the answer frees what waits in both');
  overlay.answer(asked[0].lookup, { kind: 'drop', reason: 'lookup_drop' });
  for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a));
  t.equal(host.arrived(), 2, 'a second answer has nobody to hear it');
  t.end();
});

await t.test('targets are counted where most are known', async (t) => {
  const { threads, overlay } = newHost();
  threads[0].tap.send(frame(MAC.b, MAC.a), frame(MAC.c, MAC.a));
  threads[1].tap.send(frame(MAC.b, MAC.a));
  t.equal(await overlay.targetCount(), 2);
  threads[0].net.remove();
  t.equal(await overlay.targetCount(), 1);
});

await t.test('what one is told, the other knows', (t) => {
  const host = newHost();
  const [one, other] = host.threads;
  one.tap.send(frame(MAC.b, MAC.a));
  host.hear();
  host.overlay.answer(host.asked[0].lookup, TARGET(host));
  other.tap.send(frame(MAC.b, MAC.a));
  host.hear();
  t.equal(host.asked.length, 1, 'and does not ask');
  t.equal(host.arrived(), 2);
  one.tap.send(frame(MAC.c, MAC.a));
  host.hear();
  host.overlay.answer(host.asked[1].lookup, { kind: 'drop', reason: 'lookup_failed' });
  t.equal(one.net.counters.lookup_failed, 1);
  other.tap.send(frame(MAC.c, MAC.a));
  host.hear();
  t.equal(host.asked.length, 3, 'a drop is of who asked alone: it may have been a failure of the moment');
  t.end();
});

await t.test('an answer that is too old reaches nobody', async (t) => {
  await t.test('after a target was set', (t) => {
    const host = newHost();
    const [one, other] = host.threads;
    one.tap.send(frame(MAC.b, MAC.a));
    host.hear();
    host.overlay.setTarget(MAC.b, [], Infinity, 'set');
    host.overlay.answer(host.asked[0].lookup, TARGET(host));
    for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a));
    t.equal(host.arrived(), 0);
    t.same([one.net.counters.lookup_drop, other.net.counters.lookup_drop], [2, 1]);
    // The other had asked before it heard of it. Its question comes late, and the answer must not undo what was set.
    const late = { overlay: 1, lookup: 77, destinationMac: MAC.b, sourceMac: MAC.a, etherType: 0, vlan: 0 };
    host.overlay.heard(1, [late]);
    host.overlay.answer(host.asked[1].lookup, TARGET(host));
    for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a));
    t.equal(host.arrived(), 0);
    t.end();
  });
  for (const mac of [MAC.b, undefined]) {
    await t.test(`after ${mac === undefined ? 'all were' : 'it was'} invalidated`, (t) => {
      const host = newHost();
      for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a));
      host.hear();
      host.overlay.invalidate(mac === undefined ? undefined : [mac]);
      host.overlay.answer(host.asked[0].lookup, TARGET(host));
      t.equal(host.arrived(), 0, 'the old answer');
      host.hear();
      t.equal(host.asked.length, 2, 'asked again, once');
      host.overlay.answer(host.asked[1].lookup, TARGET(host));
      t.equal(host.arrived(), 2, 'nothing that waited is lost');
      t.end();
    });
  }
  await t.test('after a delete', async (t) => {
    const host = newHost();
    const [one, other] = host.threads;
    one.tap.send(frame(MAC.b, MAC.a));
    host.hear();
    t.equal(await host.overlay.deleteTarget(MAC.b), true, 'one of them had it');
    t.equal(await host.overlay.deleteTarget(MAC.b), false);
    host.overlay.answer(host.asked[0].lookup, TARGET(host));
    other.tap.send(frame(MAC.b, MAC.a));
    t.equal(host.arrived(), 0);
  });
});

await t.test('a broadcast is a question of its own, and answered to who asked', (t) => {
  const host = newHost();
  for (const { tap } of host.threads) tap.send(frame(MAC.all, MAC.a));
  host.hear();
  t.equal(host.asked.length, 2);
  const reply = frame(MAC.a, MAC.b);
  host.overlay.answer(host.asked[1].lookup, { kind: 'reply', frame: reply, counter: 'proxy_arp' });
  t.same(
    host.threads.map(({ tap }) => tap.take().length),
    [0, 1],
  );
  host.overlay.answer(host.asked[0].lookup, TARGET(host, 0));
  t.equal(host.arrived(), 1);
  t.end();
});

await t.test('the targets of all are shown as one table', async (t) => {
  const host = newHost();
  const [one, other] = host.threads;
  const { peer, overlay } = host;
  one.net.setTarget(MAC.b, [peer.endpoint]);
  other.net.setTarget(MAC.b, []);
  other.net.setTarget(MAC.c, [peer.endpoint]);
  one.tap.send(frame(MAC.d, MAC.a), frame(MAC.c, MAC.a));
  const to = [peer.endpoint];
  const table = [
    { mac: MAC.b, state: 'valid', to },
    { mac: MAC.c, state: 'valid', to },
    { mac: MAC.d, state: 'pending', to: [] },
  ];
  const page = async (after: MacAddress, limit: number) => {
    const { entries, next } = await overlay.targets(after, limit);
    return { entries: entries.map(({ mac, state, to }) => ({ mac, state, to })), next };
  };
  t.same(await page(-1, 100), { entries: table, next: undefined });
  t.same(await page(-1, 2), { entries: table.slice(0, 2), next: table[1].mac });
  t.same(await page(MAC.c, 2), { entries: table.slice(2), next: undefined });
  const idle = async () => (await overlay.targets(MAC.a, 1)).entries[0].facts?.idleMs;
  t.equal(await idle(), undefined, 'no thread has used it');
  other.tap.send(frame(MAC.b, MAC.a));
  t.equal(await idle(), 0, 'another thread has');
  overlay.setPeers([peer.endpoint.ip]);
  overlay.announce(frame(MAC.all, MAC.d));
  t.same(
    host.threads.map(({ tap }) => tap.take().length),
    [1, 0],
    'an announcement comes out of one queue',
  );
  await overlay.remove();
  t.same(await overlay.targets(-1, 100), { entries: [], next: undefined });
});

await t.test('once it has ended, no thread is told of it and its listener hears nothing', async (t) => {
  const host = newHost();
  const { overlay, peer } = host;
  host.threads[0].tap.send(frame(MAC.b, MAC.a));
  host.hear();
  await overlay.remove();
  const late = { overlay: 1, lookup: 77, destinationMac: MAC.c, sourceMac: MAC.a, etherType: 0, vlan: 0 };
  overlay.heard(0, [late]);
  t.equal(host.asked.length, 1);
  const count = host.posted.length;
  overlay.answer(host.asked[0].lookup, TARGET(host));
  overlay.setTarget(MAC.b, [peer.endpoint], Infinity, 'set');
  overlay.restore({ peers: [], targets: [{ mac: MAC.b, to: [peer.endpoint] }] });
  overlay.setPeers([peer.endpoint.ip]);
  overlay.announce(frame(MAC.all, MAC.d));
  t.equal(host.posted.length, count);
  t.equal(await overlay.deleteTarget(MAC.b), false);
  t.equal(await overlay.targetCount(), 0);
  t.throws(() => overlay.addPort({} as PortConfig), /overlay 1 has ended/);
  await overlay.remove();
});

await t.test('a lease that is asked for through one queue and comes through the other', (t) => {
  const host = newHost();
  const askedLeases = createAskedLeases();
  const queues = host.threads.map(({ vtep, net }) => {
    const port = vtep.host.openPort();
    const token = vtep.nextToken();
    const config = {
      overlay: net.id,
      name: 'foo0',
      headerBytes: 0,
      mac: MAC.c,
      vid: 0,
      own: false,
      counters: createCounters(),
    };
    const protection = { types: ['ip-nospoof'], addresses: [], clientIds: [] } as const;
    vtep.obey({ kind: 'add-port', token, fd: port.fd, ...config, protection, askedLeases });
    return port;
  });
  const answerTo = (transactionId: number): void => {
    const yiaddr = '10.0.0.77' as Ipv4Address;
    const options = new Map([
      [dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.ACK)],
      [dhcpv4.LEASE_TIME, Uint8Array.of(0, 0, 14, 16)],
    ]);
    const message = { operation: dhcpv4.REPLY, transactionId, clientMac: MAC.c, yiaddr, options };
    // A port of the same thread is as good as the tunnel.
    host.threads[1].tap.send(dhcpFrame(message, { to: MAC.c, from: MAC.a }));
  };
  const options = new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.REQUEST_MESSAGE)]]);
  queues[0].send(dhcpFrame({ transactionId: 7, clientMac: MAC.c, options }, { from: MAC.c }));
  host.lab.run();
  const news = () => host.threads.map(({ vtep }) => vtep.leases.splice(0));
  answerTo(8);
  t.same(news(), [[], []], 'not one that was not asked for');
  answerTo(7);
  t.match(news(), [[], [{ port: 'foo0', family: 4, ip: '10.0.0.77', validS: 3600 }]]);
  answerTo(7);
  t.same(news(), [[], []], 'a number is good for one answer');
  t.end();
});

await t.test('an answer that gets old is asked for by one thread, and refreshes all', (t) => {
  const host = newHost();
  const [one, other] = host.threads;
  const use = (): number => {
    for (const { tap } of host.threads) tap.send(frame(MAC.b, MAC.a));
    host.hear();
    return host.arrived();
  };
  let nowMs = 0;
  const pass = (ms: number): void => {
    for (const endMs = nowMs + ms; nowMs < endMs; nowMs += 10)
      for (const { vtep } of host.threads) vtep.engine.setTime(nowMs);
    host.hear();
  };
  const facts = () => host.threads.map(({ net }) => net.facts(MAC.b));
  use();
  host.overlay.answer(host.asked[0].lookup, TARGET(host, 8000));
  host.arrived();
  t.equal(use(), 2);
  pass(8100);
  t.equal(host.asked.length, 2, 'both have asked, and the plugin was asked once');
  t.equal(use(), 2, 'both use it meanwhile');
  host.overlay.answer(host.asked[1].lookup, { kind: 'drop', reason: 'lookup_failed' });
  t.match(facts(), [{ isStale: true }, { isStale: true }]);
  t.equal(use(), 2);
  pass(3000);
  t.equal(host.asked.length, 3, 'again, once');
  host.overlay.answer(host.asked[2].lookup, TARGET(host, 8000));
  t.match(facts(), [{ isStale: false }, { isStale: false }]);
  one.tap.send(frame(MAC.b, MAC.a));
  pass(8000);
  t.equal(host.asked.length, 4, 'one of them uses it');
  host.overlay.answer(host.asked[3].lookup, TARGET(host, 8000));
  t.match(facts(), [{ isStale: false }, { isStale: false, origin: 'plugin' }], 'the other has learnt it');
  one.tap.send(frame(MAC.b, MAC.a));
  other.net.setTarget(MAC.b, [host.peer.endpoint]);
  pass(8000);
  host.overlay.answer(host.asked[4].lookup, { kind: 'drop', reason: 'lookup_drop' });
  t.match(
    host.threads.map(({ net }) => net.targets()[0].state),
    ['drop', 'valid'],
    'a drop ends it, but not what an operator has set',
  );
  t.end();
});

t.test('how many', (t) => {
  t.equal(queueCount('auto', 2), 2);
  t.equal(queueCount('auto', 64), 16);
  t.equal(queueCount('3', 2), 3);
  t.end();
});
