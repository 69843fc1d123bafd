// Each offload by itself, and all but that one: right bytes and checksums, and the counters say what is used.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { type Offload, OFFLOADS, USUAL_OFFLOADS } from '../../src/model/offloads.js';
import { Capture } from '../helpers/capture.js';
import { type Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { type Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { overlayOf } from '../helpers/site.js';
import { DatagramSink, reaches, transferTcp } from '../helpers/traffic.js';
import { FRAGMENTS, newBed, startOverlay } from '../helpers/tunnels.js';
import { usual } from '../helpers/whole.js';

const BYTES = 2_000_000;
const DATAGRAM_BYTES = 1000;
const DATAGRAMS = 40;

/** Offload -> its counter of use, the shortest list that has it, and the offloads that need it. */
const SWITCHES: Readonly<
  Record<Offload, { counter: string; list: readonly Offload[]; neededBy: readonly Offload[] }>
> = {
  checksum: { counter: 'tx_checksum', list: ['checksum'], neededBy: ['tso', 'uso', 'tunnel', 'nested'] },
  // The tunnel inside carries TCP.
  tso: { counter: 'tx_tso', list: ['checksum', 'tso'], neededBy: ['tunnel', 'nested'] },
  uso: { counter: 'tx_uso', list: ['checksum', 'uso'], neededBy: [] },
  train: { counter: 'tx_train', list: ['train'], neededBy: [] },
  tunnel: { counter: 'tx_tunnel', list: ['checksum', 'tso', 'tunnel'], neededBy: [] },
  coalesce: { counter: 'rx_coalesce', list: ['coalesce'], neededBy: [] },
  nested: { counter: 'tx_nested', list: ['checksum', 'tso', 'nested'], neededBy: [] },
};

/** What `auto` gets of this kernel. The other one, `tunnel`, needs another underlay: netns/tunnel-offload.test.ts. */
const features = extra.probeFeatures();
const KNOWN = USUAL_OFFLOADS.filter((offload) => offload !== 'nested' || features.tapTunnelSegmentation);

/** Leaves the cutting of UDP to the kernel (UDP_SEGMENT). */
const SENDER = `
import socket, struct, sys
size, count = int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendmsg([b''.join(bytes([i]) * size for i in range(count))], [(17, 103, struct.pack('=H', size))])`;

interface Hosts {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

async function hosts(t: Test): Promise<Hosts> {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemon = await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  for (const host of [a, b]) await host.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'the overlay is up');
  return { bed, a, b, daemon };
}

/** A tunnel of the kernel over the ports, for `nested`. */
async function addInner({ a, b }: Hosts): Promise<string> {
  for (const [host, peer, address] of [
    [a, b, '10.99.0.1'],
    [b, a, '10.99.0.2'],
  ] as const) {
    const ends = `remote ${peer.overlay.v4} local ${host.overlay.v4}`;
    await host.ip(`link add inner0 type vxlan id 77 ${ends} dstport 8472`);
    await host.ip('link set inner0 up mtu 1300');
    await host.ip(`addr add ${address}/24 dev inner0`);
  }
  t.ok(await reaches(a, '10.99.0.2'), 'the tunnel inside is up');
  return '10.99.0.2';
}

async function sendTrain(t: Test, { a, b }: Hosts): Promise<void> {
  const sink = await DatagramSink.open(b, b.overlay.v4);
  const words = [b.overlay.v4, `${sink.port}`, `${DATAGRAM_BYTES}`, `${DATAGRAMS}`];
  await a.exec(['python3', '-c', SENDER, ...words]);
  const payloads = (await sink.waitFor(DATAGRAMS)).map(({ payload }) => payload.toString('hex'));
  const expected = Array.from({ length: DATAGRAMS }, (_, index) =>
    Buffer.alloc(DATAGRAM_BYTES, index).toString('hex'),
  );
  t.same(payloads, expected, 'UDP that the stack may leave uncut');
  await sink.close();
}

/** Carries every kind of traffic. Returns the offloads that were used meanwhile. */
async function carry(t: Test, site: Hosts, inner: string): Promise<readonly Offload[]> {
  const { bed, a, b, daemon } = site;
  const before = (await overlayOf(daemon)).counters;
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp port 4789');
  t.ok((await transferTcp(a, b, { bytes: BYTES })).exact, 'there');
  t.ok((await transferTcp(b, a, { bytes: BYTES })).exact, 'back');
  await sendTrain(t, site);
  await capture.stop();
  // Where the stack completes checksums it writes 0xffff for zero (Linux, skb_checksum_help), which receivers take as zero.
  const badTcp = '(tcp.checksum.status == 0 && tcp.checksum != 0xffff)';
  const bad = `${badTcp} || ip.checksum.status == 0 || ${FRAGMENTS}`;
  t.equal(await capture.count(`vxlan && ip.src == ${a.overlay.v4} && (${bad})`), 0, 'no bad checksum');
  t.ok((await capture.count(`vxlan && tcp.checksum.status == 1`)) > BYTES / 1500, 'out of many');
  t.ok((await transferTcp(a, b, { address: inner, bytes: BYTES })).exact, 'in a tunnel of the kernel');
  const { counters } = await overlayOf(daemon);
  return OFFLOADS.filter((offload) => {
    const { counter } = SWITCHES[offload];
    return (counters[counter] ?? 0) > (before[counter] ?? 0);
  });
}

t.jobs = 2;

t.test('one by one', { skip: skipUnlessNetns(['tcpdump', 'tshark', 'ethtool', 'python3']) }, async (t) => {
  const site = await hosts(t);
  const { a, b, daemon } = site;
  const inner = await addInner(site);
  // So that the capture shows each datagram.
  for (const host of [a, b]) await host.exec(`ethtool -K ${UNDERLAY_DEVICE} gso off tx-udp-segmentation off`);
  const set = async (value: string): Promise<void> => {
    await daemon.ok(`set-overlayprop -p offload=${value} overlay0`);
  };
  const inForce = (): Promise<string> => daemon.ok('show-overlay -p -o offloads overlay0');
  for (const offload of usual(KNOWN, (one) => one === 'train'))
    await t.test(offload, async (t) => {
      const { list, neededBy } = SWITCHES[offload];
      const others = KNOWN.filter((one) => one !== offload && !neededBy.includes(one));
      await set(others.join());
      t.equal(await inForce(), `${others.join()}\n`);
      t.same(await carry(t, site, inner), others, `all but ${offload} are used`);
      const alone = OFFLOADS.filter((one) => list.includes(one));
      await set(list.join());
      t.equal(await inForce(), `${alone.join()}\n`);
      const used = await carry(t, site, inner);
      t.ok(used.includes(offload), `${offload} is used`);
      t.same(
        used.filter((one) => !alone.includes(one)),
        [],
        'and nothing else',
      );
    });
  await set('off');
  t.equal(await inForce(), '--\n');
  t.same(await carry(t, site, inner), [], 'off: none is used');
  await set('auto');
  t.equal(await inForce(), `${KNOWN.join()}\n`);
  t.same(await carry(t, site, inner), KNOWN, 'auto: all are used');
});

t.test('while TCP runs', { skip: skipUnlessNetns() }, async (t) => {
  const { a, b, daemon } = await hosts(t);
  let isOver = false;
  const transfers = Promise.all([
    transferTcp(a, b, { bytes: 20 * BYTES }),
    transferTcp(b, a, { bytes: 20 * BYTES }),
  ]).finally(() => (isOver = true));
  let changes = 0;
  for (; !isOver; changes++) {
    const { list } = SWITCHES[OFFLOADS[changes % OFFLOADS.length]];
    await daemon.ok(`set-overlayprop -p offload=${list.join()} overlay0`);
  }
  t.ok(
    (await transfers).every(({ exact }) => exact),
    `all bytes arrive over ${changes} changes`,
  );
  t.ok(changes > 0);
  const { counters } = await overlayOf(daemon);
  const drops = Object.entries(counters).filter(
    ([name, count]) => count > 0 && /too_big|error|malformed|truncated|_refused/.test(name),
  );
  t.same(drops, [], 'and no frame is lost or refused for it');
});

t.test('what is kept, and beside other overlays', { skip: skipUnlessNetns(['ethtool']) }, async (t) => {
  const { a, b, daemon } = await hosts(t);
  const ends = { from: a.underlay.v4, to: b.underlay.v4 };
  await daemon.ok(directOverlay({ ...ends, vnetid: 43, name: 'other0' }, '-p offload=off'));
  await daemon.ok('set-overlayprop -p offload=train,tso,checksum overlay0');
  const columns = 'show-overlay -p -o link,offloads';
  const shown = 'overlay0:checksum,tso,train\nother0:--\n';
  t.same((await daemon.ok(columns)).split('\n').sort(), shown.split('\n').sort(), 'on the same socket');
  t.match(
    await daemon.ok('show-overlay -p -o property,perm,value overlay0'),
    'offload:rw:checksum,tso,train\n',
    'in its canonical spelling',
  );
  t.ok((await transferTcp(a, b, { bytes: BYTES })).exact);

  const { stdout: exported } = await daemon.dladm('export');
  t.match(exported, /offload: checksum,tso,train$/m);
  const file = path.join(t.testdir(), 'site.yaml');
  writeFileSync(file, exported.replace('checksum,tso,train', 'train,checksum,tso'));
  t.match(await daemon.dladm('apply', '-f', file, '--exit-code'), { code: 0, stdout: '' }, 'no change');
  writeFileSync(file, exported.replace('checksum,tso,train', 'coalesce'));
  t.match(await daemon.dladm('apply', '-f', file, '--exit-code'), {
    code: 10,
    stdout: '~ overlay0 offload checksum,tso,train -> coalesce\n',
  });
  writeFileSync(file, exported.replace('checksum,tso,train', 'tunel'));
  const refused = await daemon.dladm('apply', '-f', file);
  t.match(refused.stderr, /found 'tunel', expected auto, off, or a list out of .*: there is no 'tunel'/);

  await daemon.ok('restart');
  const after = 'overlay0:coalesce\nother0:--\n';
  t.same((await daemon.ok(columns)).split('\n').sort(), after.split('\n').sort(), 'after a restart');
  await daemon.ok('reset-overlayprop -p offload overlay0');
  t.equal(await daemon.ok('show-overlay -p -o offloads overlay0'), `${KNOWN.join()}\n`, 'the default again');
  t.ok((await transferTcp(a, b, { bytes: BYTES })).exact);

  await a.exec('ethtool -K overlay0 tx-udp-segmentation off');
  await waitUntil(async () => (await overlayOf(daemon)).counters['tx_uso_refused'] === 1, {
    what: 'the offload that was switched off to be counted',
  });
});
