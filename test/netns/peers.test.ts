// The peers of an overlay: what is counted of each against what the other end counts, and peers that cannot be
// reached, are silent, or only seem so.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import type { PeerRow } from '../../src/control/peer-messages.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { giveToDaemon } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches, transferTcp } from '../helpers/traffic.js';
import { type Family, FAMILIES, newBed, startOverlay, VNETID } from '../helpers/tunnels.js';
import { usual } from '../helpers/whole.js';

const skip = skipUnlessNetns(['ping', 'nft']);

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 3;

const peersOf = async (daemon: Daemon, name = 'overlay0'): Promise<PeerRow[]> =>
  (await daemon.call('overlay.peers', { name })).rows;

async function peerOf(daemon: Daemon, ip: string): Promise<PeerRow> {
  const row = (await peersOf(daemon)).find((each) => each.ip === ip);
  if (row === undefined) throw new Error(`${ip} is no peer`);
  return row;
}

async function health(daemon: Daemon): Promise<string> {
  return (await daemon.dladm('show-overlay', '-f', '-p', '-o', 'status,details', 'overlay0')).stdout.trim();
}

async function untilState(daemon: Daemon, ip: string, state: PeerRow['state']): Promise<PeerRow> {
  await waitUntil(async () => (await peerOf(daemon, ip)).state === state, { what: `${ip} to be ${state}` });
  return peerOf(daemon, ip);
}

/** Pings all the time, until the test ends. */
function keepPinging(t: Test, from: Namespace, to: string): void {
  const child = from.spawn(['ping', '-n', '-i', '0.3', to]);
  t.teardown(() => {
    child.signal('SIGKILL');
  });
}

const warnings = (daemon: Daemon, text: string): string[] =>
  daemon
    .log()
    .split('\n')
    .filter((line) => line.includes(text));

interface Kind {
  readonly family: Family;
  readonly encap?: 'vxlan' | 'geneve';
  readonly more?: string;
}

const KINDS: readonly Kind[] = [
  { family: 'v4' },
  { family: 'v6' },
  { family: 'v6', encap: 'geneve', more: '-p queues=2' },
  { family: 'v4', more: '-p queues=2 -p vxlan/source_ports=1' },
];

for (const kind of usual(KINDS, (each) => each === KINDS[0] || each.encap === 'geneve')) {
  const { family, encap = 'vxlan', more = '' } = kind;
  const name = `a varpd is stopped and started: IP${family} ${encap} ${more}`;
  t.test(name, { skip }, async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const here = await startOverlay(t, bed, a, b, kind);
    const there = await startOverlay(t, bed, b, a, kind);
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
    await ping(a, b.overlay.v6);
    const [to, from] = [b.underlay[family], a.underlay[family]];

    await t.test('both ends count the same', async (t) => {
      const mb = 4 << 20;
      await transferTcp(a, b, { address: b.overlay.v4, bytes: mb });
      let both = [await peerOf(here, to), await peerOf(there, from)];
      await waitUntil(
        async () => {
          both = [await peerOf(here, to), await peerOf(there, from)];
          return both[0].txBytes === both[1].rxBytes && both[0].rxBytes === both[1].txBytes;
        },
        { what: 'both ends to agree' },
      );
      const [mine, theirs] = both;
      t.equal(mine.txFrames, theirs.rxFrames);
      t.equal(mine.rxFrames, theirs.txFrames);
      t.ok(mine.txBytes > mb, `${mine.txBytes} bytes`);
      const [overlay] = await here.overlays('overlay0');
      t.ok(overlay.counters['tx_frames'] >= mine.txFrames, 'all of them are of the one peer');
      t.equal(overlay.peers, (await peersOf(here)).length, 'status counts them too');
      t.match(mine, {
        isPeer: true,
        port: encap === 'vxlan' ? 4789 : 6081,
        state: 'ok',
        reason: null,
        stationCount: null,
        unreachable: null,
        mtuBytes: 1500,
        mtuFrom: 'route',
        path: 'train',
        checksum: 'full',
      });
      t.ok(
        theirs.framesPerRead !== null && theirs.framesPerRead > 1,
        `${theirs.framesPerRead} frames a read`,
      );
      t.equal((await peersOf(here)).length, 1);
    });

    await t.test('it is stopped', async (t) => {
      keepPinging(t, a, b.overlay.v4);
      await there.stop();
      const stoppedAt = Date.now();
      const row = await untilState(here, to, 'unreachable');
      t.comment(`named after ${Date.now() - stoppedAt} ms`);
      t.match(row.unreachable, {
        what: 'port unreachable',
        protocol: family === 'v4' ? 'icmp' : 'icmpv6',
        from: to,
        port: encap === 'vxlan' ? 4789 : 6081,
      });
      t.match(row.reason, `peer ${to} cannot be reached: port unreachable (`);
      const said = await health(here);
      t.match(said, /^ONLINE:peer /, said);
      t.match(said, 'is varpd stopped there, or does a firewall reject UDP port');
      t.equal(warnings(here, 'cannot be reached').length, 1, 'one line of the log');
      const { stdout } = await here.dladm('show-peers', 'overlay0');
      t.match(stdout, /^overlay0 .* unreachable$/m);
      t.ok(
        family === 'v6' || stdout.split('\n').every((line) => line.length <= 80),
        'no line is longer than a terminal',
      );
    });

    await t.test('it is started again', async (t) => {
      await there.start();
      await b.plumb('overlay0');
      t.ok(await reaches(a, b.overlay.v4));
      const row = await untilState(here, to, 'ok');
      t.match(row.unreachable, { what: 'port unreachable' }, 'the last trouble is kept');
      await waitUntil(async () => (await health(here)) === 'ONLINE:-', { what: 'the note to end' });
      t.equal(warnings(here, `peer ${to} is no longer unreachable`).length, 1);
    });
  });
}

for (const family of usual(FAMILIES, (each) => each === 'v6')) {
  t.test(`a firewall at the peer: IP${family}`, { skip }, async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const here = await startOverlay(t, bed, a, b, { family });
    await startOverlay(t, bed, b, a, { family });
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
    const to = b.underlay[family];
    const rules = async (verdict: string): Promise<void> => {
      const chain = `type filter hook input priority 0; udp dport 4789 ${verdict};`;
      const table = verdict === '' ? '' : `table inet f { chain in { ${chain} }; }`;
      await b.exec(['nft', '-f', '-'], { input: `flush ruleset\n${table}\n` });
    };
    keepPinging(t, a, b.overlay.v4);

    await rules('reject with icmpx admin-prohibited');
    const row = await untilState(here, to, 'unreachable');
    t.match(row.reason, 'administratively prohibited');
    await rules('');
    await untilState(here, to, 'ok');

    // What comes from there is not let in here: as if the peer were silent.
    await rules('drop');
    const silent = await untilState(here, to, 'silent');
    t.match(silent.reason, `peer ${to} sends nothing back (last heard `);
    t.match(await health(here), /^ONLINE:peer .* sends nothing back/);
    t.equal(warnings(here, 'sends nothing back').length, 1, 'one line of the log');
    await rules('');
    await untilState(here, to, 'ok');
    await waitUntil(async () => (await health(here)) === 'ONLINE:-', { what: 'the note to end' });
  });
}

t.test('a stream one way is no trouble', { skip }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts({ v6: false });
  const here = await startOverlay(t, bed, a, b);
  const there = await startOverlay(t, bed, b, a);
  // The stations know each other, and the one at the peer answers nothing.
  for (const [host, other] of [
    [a, b],
    [b, a],
  ]) {
    await host.exec(['ip', 'addr', 'add', `${host.overlay.v4}/24`, 'dev', 'overlay0']);
    const mac = await other.macOf('overlay0');
    await host.exec(`ip neigh replace ${other.overlay.v4} lladdr ${mac} nud permanent dev overlay0`);
  }
  const chain = 'type filter hook ingress device overlay0 priority 0; drop;';
  await b.exec(['nft', '-f', '-'], { input: `table netdev f { chain in { ${chain} }; }\n` });
  const before = await peerOf(there, a.underlay.v4);
  const script = 'i=0; while [ $i -lt 60 ]; do echo x > /dev/udp/$0/9; sleep 0.2; i=$((i+1)); done';
  await a.exec(['bash', '-c', script, b.overlay.v4]);
  const row = await peerOf(here, b.underlay.v4);
  t.ok((await peerOf(there, a.underlay.v4)).rxFrames >= before.rxFrames + 60, 'the frames arrived');
  t.equal(row.rxFrames, 0, 'nothing came back');
  t.match(row, { state: 'unheard', reason: null, sentAt: /Z$/, heardAt: null });
  t.equal(await health(here), 'ONLINE:-');
});

t.test("the kernel's vxlan, stations, strangers", { skip }, async (t) => {
  const bed = newBed(t);
  const [a, b, c] = await bed.hostsOnSwitch(3, { v6: false });
  const here = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  const mapping = path.join(bed.directory(), 'hosts.json');
  const station = (host: Namespace) => ({ arp: host.overlay.v4, ip: host.underlay.v4, port: 4789 });
  const [macB, other] = ['02:00:00:00:00:0b', '02:00:00:00:01:0b'];
  writeFileSync(
    mapping,
    JSON.stringify({ [macB]: station(b), [other]: { ...station(b), arp: '10.55.55.99' } }),
  );
  giveToDaemon(mapping);
  const properties = `vxlan/listen_ip=${a.underlay.v4},files/config=${mapping},vxlan/accept=any`;
  await here.ok(`create-overlay -e vxlan -s files -v ${VNETID} -p ${properties} overlay0`);
  await a.exec(['ip', 'addr', 'add', `${a.overlay.v4}/24`, 'dev', 'overlay0']);
  const vx = async (host: Namespace, mac: string): Promise<string> => {
    const ends = { local: host.underlay.v4, remote: a.underlay.v4 };
    const device = await addKernelVxlan(host, { vnetid: VNETID, ...ends });
    await host.exec(`ip link set ${device} address ${mac} up`);
    await host.exec(['ip', 'addr', 'add', `${host.overlay.v4}/24`, 'dev', device]);
    return device;
  };
  await vx(b, macB);
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  t.equal((await ping(a, b.overlay.v4)).received, 3);
  const kernelCounts = async (): Promise<readonly number[]> => {
    const read = async (name: string): Promise<number> =>
      Number(await b.exec(['cat', `/sys/class/net/vx0/statistics/${name}`]));
    return [await read('rx_packets'), await read('rx_bytes'), await read('tx_packets')];
  };
  await waitUntil(
    async () => {
      const row = await peerOf(here, b.underlay.v4);
      const [rx, , tx] = await kernelCounts();
      return row.txFrames === rx && row.rxFrames === tx;
    },
    { what: 'the kernel to have counted the same' },
  );
  const row = await peerOf(here, b.underlay.v4);
  const [, rxBytes] = await kernelCounts();
  // The kernel counts without the Ethernet header.
  t.equal(row.txBytes - 14 * row.txFrames, rxBytes - 0, 'and as many bytes');
  t.match(row, { state: 'ok', stationCount: 1, stations: [macB], checksum: 'full' });

  // The mapping knows nothing of c, whose frames are accepted all the same.
  const device = await vx(c, '02:00:00:00:00:0c');
  await c.exec(`ip neigh replace ${a.overlay.v4} lladdr ${await a.macOf('overlay0')} dev ${device}`);
  await c.run(['ping', '-c', '1', '-W', '1', a.overlay.v4]);
  const stranger = await peerOf(here, c.underlay.v4);
  t.match(stranger, { isPeer: false, state: 'ok', port: null, stationCount: 0, txFrames: 0 });
  t.ok(stranger.rxFrames > 0);
  const parsable = await here.ok('show-peers -p -o peer,macs,state,port overlay0');
  t.match(parsable, `${b.underlay.v4}:1:ok:4789\n`);
  t.match(parsable, `${c.underlay.v4}:0:ok:--\n`);
  const json = JSON.parse(await here.ok('show-peers --json')) as { v: number; overlays: unknown[] };
  t.match(json, {
    v: 1,
    overlays: [{ name: 'overlay0', peers: [{ ip: b.underlay.v4 }, { ip: c.underlay.v4 }] }],
  });
});

t.test('mistakes', { skip }, async (t) => {
  const bed = newBed(t);
  const [a] = await bed.twoHosts();
  const here = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await here.ok(directOverlay({ from: a.underlay.v4, to: '10.88.88.99' }));
  const missing = await here.dladm('show-peers', 'nope0', 'overlay0');
  t.match(missing.stderr, 'nope0');
  t.match(missing.stdout, /^overlay0 +10\.88\.88\.99 +-- +\d+ +0 +-- /m);
  t.equal(missing.code, EXIT.NOT_FOUND);
  t.match(await here.dladm('show-peers', '-p', '-o', 'x'), { stderr: /unknown output field/ });
});
