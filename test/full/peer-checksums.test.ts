// PEER-CHECKSUMS of dladm doctor: peers that send zero UDP checksums, and peers that send them, over links that cut and put
// together as network cards do.
import t, { type Test } from 'tap';

import type { Finding } from '../../src/cli/doctor/finding.js';
import type { PeerRow } from '../../src/control/peer-messages.js';
import type { Daemon } from '../helpers/daemon.js';
import { doctor } from '../helpers/doctor.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../helpers/openvswitch.js';
import { reaches, transferTcp } from '../helpers/traffic.js';
import { type Family, newBed, OVERHEAD, startOverlay, UNDERLAY_MTU, VNETID } from '../helpers/tunnels.js';
import { usual } from '../helpers/whole.js';

interface Peer {
  readonly name: string;
  readonly family: Family;
  /** Words for `ip link add type vxlan`; undefined = another varpd. */
  readonly kernel?: string;
  readonly encap?: 'vxlan' | 'geneve';
  /** Words for create-overlay at a peer with varpd. */
  readonly more?: string;
  readonly sendsZero: boolean;
  /** `npm test` has it too. */
  readonly isUsual?: boolean;
}

const BOTH_WAYS = 'udp6zerocsumtx udp6zerocsumrx';
const PEERS: readonly Peer[] = [
  { name: 'the kernel, noudpcsum', family: 'v4', kernel: 'noudpcsum', sendsZero: true, isUsual: true },
  { name: 'the kernel, udpcsum', family: 'v4', kernel: 'udpcsum', sendsZero: false },
  { name: 'the kernel, udp6zerocsumtx', family: 'v6', kernel: BOTH_WAYS, sendsZero: true },
  {
    name: 'the kernel, noudp6zerocsumtx',
    family: 'v6',
    kernel: 'noudp6zerocsumtx',
    sendsZero: false,
    isUsual: true,
  },
  { name: 'varpd, zero', family: 'v4', more: '-p vxlan/udp_checksum=zero', sendsZero: true },
  {
    name: 'varpd by Geneve, zero',
    family: 'v6',
    encap: 'geneve',
    more: '-p geneve/udp_checksum=zero',
    sendsZero: true,
    isUsual: true,
  },
  { name: 'varpd', family: 'v4', sendsZero: false },
];

/** As the interrupts of a network card are held back. Without it a device of the kernel hands over each packet of a sender that
 * sends them one by one. */
const HOLD_NS = 20_000;

/** As between two network cards: the sender cuts and has all checksums, the receiver puts together. */
async function likeCards(from: Namespace, to: Namespace): Promise<void> {
  const cut = ['tx', 'tso', 'gso', 'tx-udp_tnl-segmentation', 'tx-udp_tnl-csum-segmentation'];
  await from.exec(
    `ethtool -K ${UNDERLAY_DEVICE} ${[...cut, 'tx-udp-segmentation'].map((word) => `${word} off`).join(' ')}`,
  );
  await to.exec(`ethtool -K ${UNDERLAY_DEVICE} gro on`);
  await to.exec(['sh', '-c', `echo ${HOLD_NS} > /sys/class/net/${UNDERLAY_DEVICE}/gro_flush_timeout`]);
}

async function verdict(t: Test, host: Namespace, daemon: Daemon): Promise<Finding> {
  const { socket, configFile: config } = daemon;
  const { findings } = await doctor({ host, socket, config });
  const found = findings.filter(({ code }) => code === 'PEER-CHECKSUMS');
  t.same(
    found.map(({ about }) => about),
    ['overlay0'],
    'one line for each overlay',
  );
  return found[0];
}

/** A busy machine may cut a transfer into many small reads: what counts is that it comes out in the end. */
async function afterTraffic(t: Test, from: Namespace, host: Namespace, daemon: Daemon): Promise<Finding> {
  let found: Finding | undefined;
  for (let round = 0; round < 5 && (found === undefined || found.status === 'skip'); round++) {
    t.ok((await transferTcp(from, host, { bytes: 32 << 20 })).exact);
    found = await verdict(t, host, daemon);
  }
  return found!;
}

const row = async (daemon: Daemon): Promise<PeerRow> =>
  (await daemon.call('overlay.peers', { name: 'overlay0' })).rows[0];

for (const peer of usual(PEERS, (each) => each.isUsual === true)) {
  const { name, family, kernel, encap, sendsZero } = peer;
  await t.test(`${name} over IP${family}`, { skip: skipUnlessNetns(['ethtool']) }, async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    await likeCards(b, a);
    const daemon = await startOverlay(t, bed, a, b, { ...peer, more: '' });
    let device = 'overlay0';
    if (kernel === undefined) await startOverlay(t, bed, b, a, peer);
    else {
      const ends = { local: b.underlay[family], remote: a.underlay[family] };
      device = await addKernelVxlan(b, { vnetid: VNETID, ...ends, extra: kernel });
    }
    await a.plumb('overlay0');
    await b.plumb(device, { mtuBytes: UNDERLAY_MTU - OVERHEAD[family] });
    t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
    const before = await verdict(t, a, daemon);
    t.equal(before.status, 'skip');
    t.match(before.sentence, 'enough full-size datagrams', 'too little traffic');

    const found = await afterTraffic(t, b, a, daemon);
    const { uncoalescedReads, framesPerRead, rxFrames } = await row(daemon);
    t.comment(`${uncoalescedReads} reads, ${framesPerRead} frames a read, ${rxFrames} frames`);
    t.equal(found.status, sendsZero ? 'warn' : 'ok', found.sentence);
    if (!sendsZero) return;
    t.match(found.sentence, `${b.underlay[family]} seems to send zero UDP checksums (inferred)`);
    t.match(found.advice, `${encap ?? 'vxlan'}/udp_checksum=full`);
    t.match(found.advice, 'options:csum=true');

    await a.exec(`ethtool -K ${UNDERLAY_DEVICE} gro off`);
    const off = await verdict(t, a, daemon);
    t.equal(off.status, 'skip', 'a link that puts nothing together says nothing about a peer');
    t.match(off.sentence, 'generic-receive-offload is off');
  });
}

// It sends packets one by one.
await t.test('Open vSwitch', { skip: skipUnlessOpenVSwitch() }, async (t) => {
  const all = [
    ['', 'warn'],
    ['options:csum=true', 'ok'],
  ] as const;
  for (const [options, status] of usual(all, ([, status]) => status === 'warn')) {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    await likeCards(b, a);
    // It reads packets raw: a checksum left to a device that has none would be a wrong one.
    await a.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
    const daemon = await startOverlay(t, bed, a, b);
    const ovs = await OpenVSwitch.start(bed, b);
    await ovs.tunnel(b.underlay.v4, a.underlay.v4, VNETID);
    if (options !== '') await ovs.configure(`set interface tunnel0 ${options}`);
    await a.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4, 10_000), 'the tunnel is up');
    const found = await afterTraffic(t, b, a, daemon);
    t.equal(found.status, status, `${options}: ${found.sentence}`);
    // With one peer the other cause cannot be told, so it is named.
    if (status === 'warn') t.match(found.sentence, 'or packets come too far apart');
  }
});

await t.test('the advice: what the kernel says', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  for (const [family, made, wanted] of [
    ['v4', 'noudpcsum', 'udpcsum'],
    ['v6', 'udp6zerocsumtx', 'noudp6zerocsumtx'],
  ] as const) {
    const ends = { local: a.underlay[family], remote: b.underlay[family] };
    await addKernelVxlan(a, { device: `vx${family}`, vnetid: VNETID, ...ends, extra: made });
    const { code, stderr } = await a.run(`ip link set vx${family} type vxlan ${wanted}`);
    t.not(code, 0, 'a link that is there cannot be changed');
    t.match(stderr, /annot change UDP_/);
    await a.ip(`link delete vx${family}`);
  }
});
