// Statistics and what an overlay says of trouble: the classic mistakes are made for real, and each is named with its culprit.
import t, { type Test } from 'tap';

import type { CounterRow, DropRow, OverlayStatistics, TargetRow } from '../../src/control/messages.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';
import { filesOverlay, MappingFile } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['ping']);

async function twoDaemons(t: Test) {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const [here, there] = await Promise.all(
    [a, b].map((host) => Daemon.start(bed, host, { withoutRoot: true })),
  );
  return { a, b, here, there };
}

const statistics = async (daemon: Daemon, name = 'overlay0'): Promise<OverlayStatistics> =>
  (await daemon.call('overlay.statistics', { names: [name] })).overlays[0];

/** `show-overlay -f` says so within 5 s, and so does the log, once. */
async function says(t: Test, daemon: Daemon, expected: RegExp): Promise<void> {
  await waitUntil(
    async () => {
      const { stdout } = await daemon.dladm('show-overlay', '-f', '-p', '-o', 'details', 'overlay0');
      return expected.test(stdout);
    },
    { what: `the note ${expected}` },
  );
  const reason = /\w+/.exec(expected.source)?.[0] ?? '';
  const lines = (): string[] =>
    daemon
      .log()
      .split('\n')
      .filter((line) => line.includes(`dropped as ${reason} (`));
  await waitUntil(() => lines().length > 0, { what: 'the line in the log' });
  t.equal(lines().length, 1, `once in the log: ${lines()[0]}`);
}

await t.test('another VNI at the peer', { skip }, async (t) => {
  const { a, b, here, there } = await twoDaemons(t);
  await here.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid: 42 }));
  await there.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4, vnetid: 32 }));
  await b.exec(['ip', 'addr', 'add', '10.0.0.2/24', 'dev', 'overlay0']);
  const mac = (await exec(['ip', 'netns', 'exec', b.name, 'cat', '/sys/class/net/overlay0/address'])).trim();
  const ping = b.spawn(['ping', '-i', '0.3', '10.0.0.1']);
  t.teardown(() => {
    ping.signal('SIGKILL');
  });
  await says(t, here, new RegExp(`rx_unknown_vni \\(VNI 32 from ${b.underlay.v4}:\\d+, ${mac} > .* ARP, `));
  let row: DropRow | undefined;
  const isArp = async (): Promise<boolean> => {
    row = (await statistics(here)).drops.find(({ reason }) => reason === 'rx_unknown_vni');
    return row?.last?.etherType === 0x0806;
  };
  await waitUntil(isArp, { what: 'ARP to be the last frame' });
  t.match(row, {
    kind: 'trouble',
    about: 'no overlay with that VNI on this address and port',
    last: { vnetid: 32, sourceMac: mac, destinationMac: 'ff:ff:ff:ff:ff:ff', etherType: 0x0806, bytes: 42 },
  });
  const { stdout } = await here.dladm('show-overlay', '-s', 'overlay0');
  t.match(stdout, /^LINK +COUNTER +VALUE +RATE +DETAILS$/m);
  t.match(
    stdout,
    /^overlay0 +rx_unknown_vni +\d+ +\S+ +VNI 32 from .*, \d+ bytes, \d+ s ago: no overlay with that VNI/m,
  );
});

await t.test('a peer that is not in the list; a frame too large', { skip }, async (t) => {
  const { a, b, here, there } = await twoDaemons(t);
  await here.ok(directOverlay({ from: a.underlay.v4, to: '10.88.88.99' }));
  await there.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4 }));
  await b.exec(['ip', 'addr', 'add', '10.0.0.2/24', 'dev', 'overlay0']);
  const ping = b.spawn(['ping', '-i', '0.3', '10.0.0.1']);
  t.teardown(() => {
    ping.signal('SIGKILL');
  });
  await says(t, here, new RegExp(`rx_unknown_peer \\(from ${b.underlay.v4}:\\d+, .* ARP, 42 bytes\\)`));
  // What its owner sets on the interface lets frames out that the overlay does not carry.
  await b.exec(['ip', 'link', 'set', 'overlay0', 'mtu', '1500']);
  await b.exec(['ip', 'neigh', 'add', '10.0.0.9', 'lladdr', '02:00:00:00:00:09', 'dev', 'overlay0']);
  await b.run(['ping', '-c', '3', '-i', '0.3', '-W', '1', '-M', 'dont', '-s', '1460', '10.0.0.9']);
  let row: DropRow | undefined;
  const isCounted = async (): Promise<boolean> => {
    row = (await statistics(there)).drops.find(({ reason }) => reason === 'tx_too_big');
    return row?.frames === 3;
  };
  await waitUntil(isCounted, { what: 'three frames that are too large' });
  t.match(row?.last, { port: 'overlay0', from: null, destinationMac: '02:00:00:00:00:09', bytes: 1502 });
  t.match(
    (await there.dladm('show-overlay', '-f')).stdout,
    /DEGRADED .*MTU of 1500/,
    'health tells the cause',
  );
});

await t.test('counters, rates and ports', { skip }, async (t) => {
  const { a, b, here, there } = await twoDaemons(t);
  await here.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await there.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4 }));
  await here.ok('create-vnic -l overlay0 foo0');
  await a.exec(['ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'foo0']);
  await b.exec(['ip', 'addr', 'add', '10.0.0.2/24', 'dev', 'overlay0']);
  const ping = a.spawn(['ping', '-i', '0.05', '10.0.0.2']);
  t.teardown(() => {
    ping.signal('SIGKILL');
  });
  let seen: OverlayStatistics | undefined;
  const hasRate = async (): Promise<boolean> => {
    seen = await statistics(here);
    const sentOf = (rows: readonly CounterRow[] = []): CounterRow | undefined =>
      rows.find(({ name }) => name === 'tx_frames');
    const [overlay, port] = [sentOf(seen.counters), sentOf(seen.ports[1]?.counters)];
    return (overlay?.perSecond ?? 0) > 5 && (port?.value ?? 0) > 10;
  };
  await waitUntil(hasRate, { what: 'a rate' });
  t.same(
    seen?.ports.map(({ name }) => name),
    ['overlay0', 'foo0'],
  );
  const { stdout } = await here.dladm(
    'show-vnic',
    '-s',
    '-i',
    '0.5',
    '-p',
    '-o',
    'link,counter,value,rate',
    'foo0',
    '3',
  );
  const sent = stdout.split('\n').filter((line) => line.startsWith('foo0:tx_frames:'));
  t.equal(sent.length, 3, 'as often as asked for');
  for (const line of sent.slice(1))
    t.match(line, /^foo0:tx_frames:\d+:[1-9]\d*$/, 'with the rate of the interval');
  const json = await here.dladm('show-overlay', '-s', '-i', '0.2', '--json', 'overlay0', '2');
  const documents = json.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  const document = { v: 1, overlays: [{ name: 'overlay0' }] };
  t.match(documents, [document, document], 'a document a line');
  const missing = await here.dladm('show-overlay', '-s', 'overlay9');
  t.equal(missing.code, 4);
  t.match(missing.stderr, /overlay9.*(not found|there is no)/);
});

await t.test('rows of targets: their origin, age, last use and ttl', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const file = new MappingFile(bed);
  const BAR = 'de:ad:be:ef:00:01';
  const ODD = '02:00:00:00:00:0d';
  const here = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await here.ok(filesOverlay(a, file));
  await here.ok('create-vnic -m de:ad:be:ef:00:00 -l overlay0 foo0');
  await a.ip('addr add 10.55.55.2/24 dev foo0');
  await here.ok(`modify-overlay -s ${ODD}=${b.underlay.v4}:4789 overlay0`);
  const ping = a.spawn(['ping', '-i', '0.3', '10.55.55.3']);
  t.teardown(() => {
    ping.signal('SIGKILL');
  });
  let rows: readonly TargetRow[] = [];
  const row = (mac: string): TargetRow | undefined => rows.find((one) => one.mac === mac);
  const until = (what: string, isSo: () => boolean): Promise<void> =>
    waitUntil(
      async () => {
        ({ rows } = await here.call('overlay.targets', { name: 'overlay0' }));
        return isSo();
      },
      { what },
    );
  await until('an answer', () => row(BAR)?.origin === 'plugin' && (row(BAR)?.ageMs ?? 0) > 1000);
  t.ok((row(BAR)?.idleMs ?? Infinity) <= 3000, 'in use');
  t.match(row(ODD), { origin: 'set', idleMs: null, ttlMs: null });
  const { stdout } = await here.dladm('show-overlay', '-t', '-s', 'overlay0');
  t.match(stdout, /^overlay0 +02:00:00:00:00:0d 10.88.88.70:4789 +set +\d+ +-- +--$/m);
  t.match(stdout, /^overlay0 +de:ad:be:ef:00:01 10.88.88.70:4789 +plugin +\d+ +\d+ +--$/m);
  await here.restart();
  await until('what was known', () => row(ODD)?.origin === 'restored');
  t.match(row(ODD), { idleMs: null, ttlMs: 0, isStale: true, staleMs: null });
  await a.ip('addr replace 10.55.55.2/24 dev foo0');
  await until('the plugin to confirm', () => row(BAR)?.origin === 'plugin');
  await a.ip('neigh replace 10.55.55.77 lladdr 02:00:00:00:00:77 dev foo0');
  const lost = a.spawn(['ping', '-i', '0.3', '10.55.55.77']);
  t.teardown(() => {
    lost.signal('SIGKILL');
  });
  await until('a MAC that the mapping lacks', () => row('02:00:00:00:00:77')?.state === 'drop');
  t.equal(row('02:00:00:00:00:77')?.origin, 'plugin');
  t.ok((row('02:00:00:00:00:77')?.ttlMs ?? 0) > 0, 'is asked for again soon');
});
