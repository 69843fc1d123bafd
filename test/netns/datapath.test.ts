// Whole tunnels on real devices: to another varpd, to the kernel's vxlan, to Open vSwitch; with VNICs, VLANs, a second
// network beside the first, and an underlay that is narrower than it looks.

import t, { type Test } from 'tap';

import { encapsulation, ENCAPSULATION_NAMES, type EncapsulationName } from '../../src/encap/index.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as ethernet from '../../src/wire/ethernet.js';
import type { RunningOverlayInfo } from '../../src/control/messages.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { toHex, udpFrame, withTag } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../helpers/openvswitch.js';
import {
  DatagramSink,
  FrameSink,
  ping,
  reaches,
  sendDatagrams,
  sendFrames,
  transferTcp,
  udpEcho,
} from '../helpers/traffic.js';

const VNETID = 42;
const UNDERLAY_MTU = 1500;
const MAX_MTU_BYTES = 8900; // of an overlay, whatever the underlay carries
type Family = 'v4' | 'v6';
const FAMILIES = ['v4', 'v6'] as const;
/** Ethernet, VXLAN, UDP and IP: what the tunnel takes off the MTU (RFC 7348 4.3). */
const OVERHEAD = { v4: 50, v6: 70 } as const;
const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';

function newBed(t: Test): Bed {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  return bed;
}

/** A varpd with one overlay from `host` to `peer`. */
async function startOverlay(
  t: Test,
  bed: Bed,
  host: Namespace,
  peer: Namespace,
  { family = 'v4', encap = 'vxlan', more = '' }: Pick<Partial<Peer>, 'family' | 'encap' | 'more'> = {},
): Promise<Daemon> {
  const daemon = (await Daemon.start(bed, host, { withoutRoot: true })).explain(t);
  const ends = { from: host.underlay[family], to: peer.underlay[family], vnetid: VNETID, encap };
  await daemon.ok(directOverlay(ends, more));
  return daemon;
}

// ---------------------------------------------------------------- whole tunnels

interface Peer {
  readonly name: string;
  readonly family: Family;
  readonly encap?: EncapsulationName;
  /** More words for `ip link add type vxlan`; undefined = another varpd. */
  readonly kernel?: string;
  /** More words for create-overlay. */
  readonly more?: string;
  /** Of the underlay, if it is no ordinary Ethernet. */
  readonly jumboMtuBytes?: number;
}

const PEERS: readonly Peer[] = [
  ...FAMILIES.map((family) => ({ name: 'varpd', family })),
  ...FAMILIES.map((family) => ({ name: 'varpd by Geneve', family, encap: 'geneve' as const })),
  ...FAMILIES.map((family) => ({ name: 'the kernel', family, kernel: '' })),
];

/** The same in other words: a ping and a short transfer tell. */
const VARIANTS: readonly Peer[] = [
  { name: 'the kernel with checksums', family: 'v4', kernel: 'udpcsum', more: '-p vxlan/udp_checksum=full' },
  {
    name: 'the kernel without checksums',
    family: 'v6',
    kernel: 'udp6zerocsumtx udp6zerocsumrx',
    more: '-p vxlan/udp_checksum=zero',
  },
  { name: 'the kernel with jumbo frames', family: 'v4', kernel: '', jumboMtuBytes: 9000 },
  { name: 'varpd from one source port', family: 'v4', more: '-p vxlan/source_ports=1' },
];

const skipTunnels = skipUnlessNetns(['tcpdump', 'tshark']);
for (const peer of PEERS) {
  await t.test(`a tunnel to ${peer.name} over IP${peer.family}`, { skip: skipTunnels }, async (t) => {
    const tunnel = await buildTunnel(t, peer);
    await t.test('ping and the largest frame', (t) => mtuBoundary(t, tunnel));
    await t.test('UDP of all sizes', (t) => udpSizes(t, tunnel));
    await t.test('TCP both ways, byte by byte', (t) => tcpBothWays(t, tunnel, 100 << 20));
  });
}
for (const peer of VARIANTS) {
  await t.test(`a tunnel to ${peer.name} over IP${peer.family}`, { skip: skipTunnels }, async (t) => {
    const tunnel = await buildTunnel(t, peer);
    const { a, b, mtuBytes } = tunnel;
    t.equal((await ping(a, b.overlay.v4, { packetBytes: mtuBytes })).received, 3, 'the largest packet');
    t.equal((await ping(b, a.overlay.v6, { packetBytes: mtuBytes })).received, 3, 'both ways');
    await tcpBothWays(t, tunnel, 10 << 20);
  });
}

interface Tunnel {
  readonly encap: EncapsulationName;
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
  /** The end of b. */
  readonly device: string;
  readonly mtuBytes: number;
  /** Of IP packets on the underlay. */
  readonly largestPacketBytes: number;
}

async function buildTunnel(t: Test, peer: Peer): Promise<Tunnel> {
  const { family, encap = 'vxlan', kernel, jumboMtuBytes } = peer;
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts({ mtuBytes: jumboMtuBytes ?? UNDERLAY_MTU });
  const mtuBytes = jumboMtuBytes === undefined ? UNDERLAY_MTU - OVERHEAD[family] : MAX_MTU_BYTES;
  const daemon = await startOverlay(t, bed, a, b, peer);
  let device = 'overlay0';
  if (kernel === undefined) {
    await startOverlay(t, bed, b, a, peer);
  } else {
    const ends = { local: b.underlay[family], remote: a.underlay[family] };
    device = await addKernelVxlan(b, { vnetid: VNETID, ...ends, extra: kernel });
  }
  await a.plumb('overlay0');
  await b.plumb(device, { mtuBytes });
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  t.equal(await a.mtuOf('overlay0'), mtuBytes, 'the MTU leaves room for the headers');
  return { encap, bed, a, b, daemon, device, mtuBytes, largestPacketBytes: mtuBytes + OVERHEAD[family] };
}

/** RFC 7348 4.3: a VTEP must not fragment. What does not fit is dropped and counted. */
async function mtuBoundary(t: Test, tunnel: Tunnel): Promise<void> {
  const { encap, bed, a, b, daemon, device, mtuBytes, largestPacketBytes } = tunnel;
  const { defaultPort } = encapsulation(encap);
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, `udp port ${defaultPort} or ip6 proto 44`);
  for (const inner of FAMILIES) {
    // Each asks for the other's address first: that may lose a packet, and is not what is looked at here.
    t.ok((await reaches(a, b.overlay[inner])) && (await reaches(b, a.overlay[inner])), `IP${inner} is up`);
    for (const packetBytes of [84, mtuBytes]) {
      const there = await ping(a, b.overlay[inner], { packetBytes });
      const back = await ping(b, a.overlay[inner], { packetBytes });
      t.same([there.received, back.received], [3, 3], `IP${inner}, ${packetBytes} bytes, both ways`);
    }
  }

  // The devices' own MTU would keep a larger frame from the tunnel.
  const setMtu = async (bytes: number): Promise<void> => {
    await a.ip(`link set overlay0 mtu ${bytes}`);
    if (device === 'overlay0') await b.ip(`link set overlay0 mtu ${bytes}`);
  };
  const dropped = async (): Promise<number> => {
    const [overlay] = JSON.parse(await daemon.ok('show-overlay --json overlay0')) as RunningOverlayInfo[];
    return overlay.counters['tx_too_big'];
  };
  await setMtu(9000);
  for (const inner of FAMILIES) {
    const one = { count: 2, packetBytes: mtuBytes + 1, waitMs: 200 };
    t.equal((await ping(a, b.overlay[inner], one)).received, 0, `IP${inner}, one byte more does not pass`);
    // Its kernel has been told what would fit, and may send no second one. Whole frames ask no kernel.
    const before = await dropped();
    const frame = udpFrame({
      sourceMac: await a.macOf('overlay0'),
      destinationMac: await b.macOf(device),
      source: a.overlay[inner],
      destination: b.overlay[inner],
      payload: Buffer.alloc(mtuBytes + 1 - (inner === 'v4' ? 28 : 48)),
    });
    await sendFrames(a, 'overlay0', [frame, frame]);
    await waitUntil(async () => (await dropped()) >= before + 2, { what: 'both frames to be counted' });
    t.equal(await dropped(), before + 2, 'and is counted');
  }
  await setMtu(mtuBytes);

  t.equal(await capture.count(FRAGMENTS), 0, 'no fragment on the underlay');
  const lengths = await capture.fields(encap, ['frame.len']);
  t.equal(await capture.count('_ws.malformed'), 0, 'nothing that cannot be read');
  t.equal(await capture.count(`${encap} && ${encap}.vni != ${VNETID}`), 0, 'one network');
  const longest = Math.max(...lengths.map((row) => Number(row['frame.len'][0])));
  t.equal(
    longest,
    largestPacketBytes + ethernet.HEADER_BYTES,
    'the largest packet fills the underlay exactly',
  );
}

async function udpSizes(t: Test, { a, b, mtuBytes }: Tunnel): Promise<void> {
  for (const inner of FAMILIES) {
    const largest = mtuBytes - (inner === 'v4' ? 28 : 48);
    const sizes = [0, 1, 2, 7, 8, 100, 1000, largest - 1, largest, largest + 1, 4000, 20_000, 65_487];
    const echoed = await udpEcho(a, b, { address: b.overlay[inner], sizes });
    t.same(echoed, sizes, `IP${inner}: all come back`);
  }
}

async function tcpBothWays(t: Test, { a, b }: Pick<Tunnel, 'a' | 'b'>, bytes: number): Promise<void> {
  for (const [from, to, inner] of [
    [a, b, 'v4'],
    [b, a, 'v6'],
  ] as const) {
    const transfer = await transferTcp(from, to, { address: to.overlay[inner], bytes });
    t.equal(transfer.bytesReceived, bytes, `${bytes >> 20} MiB over IP${inner}: all arrive`);
    t.ok(transfer.exact, 'with the same sha256');
  }
}

// ---------------------------------------------------------------- Open vSwitch

const skipOvs = skipUnlessOpenVSwitch();
for (const encap of ENCAPSULATION_NAMES) {
  await t.test(
    `a tunnel to Open vSwitch's userland datapath by ${encap}`,
    { skip: skipOvs, timeout: 180_000 },
    async (t) => {
      const bed = newBed(t);
      const [a, b] = await bed.twoHosts();
      // It reads packets raw: a checksum left to a device that has none would be a wrong one (io-notes, pitfall 13).
      await b.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
      const ovs = await OpenVSwitch.start(bed, a);
      const daemon = (await Daemon.start(bed, b, { withoutRoot: true })).explain(t);
      const mtuBytes = 1430; // for both families
      const megabytes = encap === 'geneve' ? 100 : 20;
      for (const [name, family, more] of [
        ['over IPv4, without checksums', 'v4', `-p ${encap}/udp_checksum=zero`],
        ['over IPv4, with checksums', 'v4', `-p ${encap}/udp_checksum=full`],
        ['over IPv6', 'v6', ''],
      ] as const) {
        await t.test(name, async (t) => {
          const ends = { from: b.underlay[family], to: a.underlay[family], vnetid: VNETID, encap };
          await daemon.ok(directOverlay(ends, `-t -p mtu=${mtuBytes} ${more}`));
          await b.plumb('overlay0');
          await ovs.tunnel(a.underlay[family], b.underlay[family], VNETID, encap);
          t.ok(await reaches(a, b.overlay.v4, 10_000), 'the tunnel is up');
          t.equal(
            (await ping(a, b.overlay.v4, { packetBytes: mtuBytes })).received,
            3,
            'ping, the largest packet',
          );
          t.equal((await ping(b, a.overlay.v6, { packetBytes: mtuBytes })).received, 3, 'both ways');
          t.same(await udpEcho(b, a), [1, 100, 1000, 1400], 'UDP');
          await tcpBothWays(t, { a, b }, megabytes << 20);
          await daemon.ok('delete-overlay overlay0');
        });
      }
      await t.test('in a VLAN', async (t) => {
        const ends = { from: b.underlay.v4, to: a.underlay.v4, vnetid: VNETID, encap };
        await daemon.ok(directOverlay(ends, '-t'));
        await daemon.ok('create-vnic -t -l overlay0 -v 5 five0');
        await b.plumb('five0', { mtuBytes });
        await ovs.tunnel(a.underlay.v4, b.underlay.v4, VNETID, encap);
        await ovs.configure('set port br-int tag=5');
        t.ok(await reaches(a, b.overlay.v4, 10_000));
        await tcpBothWays(t, { a, b }, 20 << 20);
      });
    },
  );
}

// ---------------------------------------------------------------- VNICs

/** Puts a VNIC into a namespace of its own and gives it that host's addresses. */
async function moveTo(host: Namespace, from: Namespace, vnic: string): Promise<void> {
  await from.ip(`link set ${vnic} netns ${host.name}`);
  await host.plumb(vnic);
}

await t.test(
  'VNICs in namespaces of their own',
  { skip: skipUnlessNetns(['tcpdump', 'tshark']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const [c, d, e] = [await bed.host(), await bed.host(), await bed.host()];
    const daemon = await startOverlay(t, bed, a, b);
    const other = await startOverlay(t, bed, b, a);
    await daemon.ok('create-vnic -l overlay0 -m 02:00:00:00:00:c1 foo0');
    await daemon.ok('create-vnic -l overlay0 bar0');
    await other.ok('create-vnic -l overlay0 foo0');
    await moveTo(c, a, 'foo0');
    await moveTo(d, a, 'bar0');
    await moveTo(e, b, 'foo0');
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.equal(await c.macOf('foo0'), '02:00:00:00:00:c1', 'the MAC that was asked for');

    const everyone = [a, b, c, d, e];
    for (const from of everyone) {
      for (const to of everyone.filter((host) => host !== from)) {
        const received = [
          await ping(from, to.overlay.v4, { count: 2 }),
          await ping(from, to.overlay.v6, { count: 2 }),
        ];
        t.same(
          received.map((result) => result.received),
          [2, 2],
          `${from.name} reaches ${to.name}`,
        );
        t.same(
          received.map((result) => result.duplicates),
          [0, 0],
          'once',
        );
      }
    }
    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
    const transfer = async (): Promise<void> => {
      t.ok((await transferTcp(c, d)).exact, 'TCP between two VNICs of one host');
    };
    const grown = await daemon.counted(transfer, 'overlay0', { local_frames: 101 });
    t.ok(grown['local_frames'] > 100, 'it was switched here');
    t.equal(await capture.count('vxlan && tcp'), 0, 'and none of it went into the tunnel');
    t.ok((await transferTcp(c, e, { address: e.overlay.v6 })).exact, 'TCP through the tunnel');
    t.ok((await transferTcp(e, d)).exact, 'and back');

    const [foo] = await daemon.vnics();
    t.match(foo, {
      name: 'foo0',
      over: 'overlay0',
      vid: 0,
      mac: '02:00:00:00:00:c1',
      mtuBytes: 1450,
      state: 'up',
    });
    await daemon.ok('delete-vnic foo0');
    t.notOk(await c.hasDevice('foo0'), 'deleted where it is');
    t.equal((await ping(d, c.overlay.v4, { count: 1, waitMs: 200 })).received, 0);
    t.equal((await ping(d, e.overlay.v4)).received, 3, 'the other one goes on');
  },
);

await t.test('VLANs', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const [c, d, e] = [await bed.host(), await bed.host(), await bed.host()];
  const daemon = await startOverlay(t, bed, a, b);
  const other = await startOverlay(t, bed, b, a);
  // c and e are in VLAN 5, d is in VLAN 6 and has the addresses of c.
  await daemon.ok('create-vnic -l overlay0 -v 5 five0');
  await daemon.ok('create-vnic -l overlay0 -v 6 six0');
  await other.ok('create-vnic -l overlay0 -v 5 five0');
  await moveTo(c, a, 'five0');
  await moveTo(e, b, 'five0');
  await a.ip(`link set six0 netns ${d.name}`);
  await d.ip(`addr add ${c.overlay.v4}/24 dev six0`);
  await d.ip('link set six0 up');

  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
  t.equal((await ping(c, e.overlay.v4)).received, 3, 'through the tunnel, in one VLAN');
  t.equal((await ping(e, c.overlay.v6)).received, 3);
  t.equal((await ping(d, e.overlay.v4, { count: 1, waitMs: 200 })).received, 0, 'not from another');
  const tags = await capture.fields('vxlan && icmp', ['vlan.id']);
  t.same([...new Set(tags.flatMap((row) => row['vlan.id']))], ['5'], 'tagged in the tunnel');
  const mtuBytes = await c.mtuOf('five0');
  t.equal(
    (await ping(c, e.overlay.v4, { packetBytes: mtuBytes })).received,
    3,
    'the largest packet has room for its tag',
  );

  // The overlay's own port sees the tags; a VNIC takes its own VLAN, untagged, and gives no other.
  const own = await FrameSink.open(a, 'overlay0');
  const five = await FrameSink.open(e, 'five0');
  const frame = udpFrame();
  /** Waits for so many frames of this test, and leaves out what the hosts say of their own accord. */
  const heard = async (sink: FrameSink, count: number): Promise<string[]> => {
    const isOurs = (one: Buffer): boolean => one.subarray(6, 12).equals(frame.subarray(6, 12));
    await waitUntil(() => sink.frames.filter(isOurs).length >= count, { what: `${count} frames` });
    return sink.frames.filter(isOurs).map(toHex);
  };
  await sendFrames(c, 'five0', [frame]);
  t.same(await heard(own, 1), [toHex(withTag(frame, 5))], 'tagged at the own port');
  t.same(await heard(five, 1), [toHex(frame)], 'untagged at the VNIC');
  await sendFrames(a, 'overlay0', [withTag(frame, 5), withTag(frame, 6), frame]);
  await sendFrames(c, 'five0', [withTag(frame, 0)]);
  t.same(await heard(five, 3), [frame, frame, frame].map(toHex), 'its own VLAN; a priority is no VLAN');
  const tagged = () => sendFrames(c, 'five0', [withTag(frame, 5), withTag(frame, 7)]);
  const grown = await daemon.counted(tagged, 'overlay0', { tx_vlan: 2 });
  t.equal(grown['tx_vlan'], 2, 'a VNIC of a VLAN sends no tags');
  t.ok((await transferTcp(c, e, { timeoutMs: 20_000 })).exact, 'TCP');
  t.ok((await transferTcp(e, c, { address: c.overlay.v6, timeoutMs: 20_000 })).exact, 'and back');
});

/** Kernels without CONFIG_VLAN_8021Q have none. */
const skipUnlessVlanDevices = async (): Promise<false | string> => {
  const bed = new Bed();
  try {
    const host = await bed.host();
    const { code } = await host.run('ip link add link lo name lo.5 type vlan id 5');
    return code === 0 ? false : 'this kernel has no VLAN devices (CONFIG_VLAN_8021Q)';
  } finally {
    await bed.cleanup();
  }
};
const skipVlanDevices = skipUnlessNetns() || (await skipUnlessVlanDevices());

await t.test('VLAN devices on an overlay', { skip: skipVlanDevices }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  await startOverlay(t, bed, a, b);
  await addKernelVxlan(b, { vnetid: VNETID, local: b.underlay.v4, remote: a.underlay.v4 });
  for (const [host, device] of [
    [a, 'overlay0'],
    [b, 'vx0'],
  ] as const) {
    await host.ip(`link set ${device} up`);
    await host.ip(`link add link ${device} name tagged0 mtu 1446 type vlan id 5`);
    await host.plumb('tagged0');
  }
  t.equal((await ping(a, b.overlay.v4, { packetBytes: 1446 })).received, 3);
  t.ok((await transferTcp(a, b)).exact);
  t.ok((await transferTcp(b, a)).exact);
});

// ---------------------------------------------------------------- two networks

await t.test('two networks with the same addresses', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemons = [
    await Daemon.start(bed, a, { withoutRoot: true }),
    await Daemon.start(bed, b, { withoutRoot: true }),
  ] as const;
  const networks = [
    { name: 'red0', vnic: 'redvnic0', vnetid: 0, hosts: [await bed.host(), await bed.host()] },
    { name: 'blue0', vnic: 'bluevnic0', vnetid: 0xff_ffff, hosts: [await bed.host(), await bed.host()] },
  ] as const;
  const addresses = ['10.55.55.2', '10.55.55.3'] as const;
  for (const { name, vnic, vnetid, hosts } of networks) {
    for (const [side, [here, there]] of [
      [0, [a, b]],
      [1, [b, a]],
    ] as const) {
      const daemon = daemons[side].explain(t);
      const ends = { from: here.underlay.v4, to: there.underlay.v4, vnetid, name };
      await daemon.ok(directOverlay(ends, '-t'));
      await daemon.ok(`create-vnic -t -l ${name} -m 02:00:00:00:00:0${side + 1} ${vnic}`);
      await here.ip(`link set ${vnic} netns ${hosts[side].name}`);
      await hosts[side].ip(`addr add ${addresses[side]}/24 dev ${vnic}`);
      await hosts[side].ip(`link set ${vnic} up`);
    }
  }
  const sinks = await Promise.all(
    networks.map(({ hosts }) => DatagramSink.open(hosts[1], addresses[1], 7000)),
  );
  for (const [index, { name, hosts }] of networks.entries()) {
    t.equal((await ping(hosts[0], addresses[1])).received, 3, `${name}: its own hosts are reached`);
    await sendDatagrams(hosts[0], { to: addresses[1], port: 7000, payloads: [Buffer.from(name)] });
    await sinks[index].waitFor(1);
  }
  await networks[0].hosts[1].ip('link set redvnic0 down');
  t.equal(
    (await ping(networks[0].hosts[0], addresses[1], { count: 2, waitMs: 300 })).received,
    0,
    'red is down',
  );
  t.equal((await ping(networks[1].hosts[0], addresses[1])).received, 3, 'blue is not');
  t.same(
    sinks.map((sink) => sink.datagrams.map(({ payload }) => payload.toString())),
    [['red0'], ['blue0']],
    'each network has heard its own',
  );
});

// ---------------------------------------------------------------- MTU and path

await t.test(
  'a smaller MTU, and an underlay that shrinks',
  { skip: skipUnlessNetns(['tcpdump', 'tshark']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const daemon = await startOverlay(t, bed, a, b, { more: '-p mtu=1300' });
    await startOverlay(t, bed, b, a, { more: '-p mtu=1300' });
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.equal(await a.mtuOf('overlay0'), 1300, 'the device has the MTU of the overlay');
    t.ok(await reaches(a, b.overlay.v4));
    t.equal((await ping(a, b.overlay.v4, { packetBytes: 1300 })).received, 3);
    t.ok((await transferTcp(a, b)).exact);

    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE);
    await a.ip('link set under0 mtu 1320');
    const pings = async (): Promise<void> => {
      t.equal((await ping(a, b.overlay.v4, { packetBytes: 1270 })).received, 3, 'what still fits passes');
      const { received, text } = await ping(a, b.overlay.v4, { packetBytes: 1271, count: 2, waitMs: 200 });
      t.equal(received, 0, 'what no longer fits does not');
      t.match(text, /mtu[ =]+1270/, 'its sender is told');
    };
    const grown = await daemon.counted(pings, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
    t.match(grown, { tx_path_mtu: 1, too_big_answers: 1 }, 'and it is counted; the second was not even sent');
    t.equal(await capture.count(FRAGMENTS), 0, 'no fragments');
    await a.ip('link set under0 mtu 1500');
    await a.ip('route flush cache'); // the sender remembers the answer for ten minutes (mtu_expires)
    t.equal(
      (await ping(a, b.overlay.v4, { packetBytes: 1300 })).received,
      3,
      'it passes again when the underlay has grown',
    );
  },
);

/** Two hosts with a router between them, whose two links are as wide as is said. */
async function routedHosts(bed: Bed, rightMtuBytes: number): Promise<[Namespace, Namespace, Namespace]> {
  const [a, router, b] = [await bed.host(), await bed.host(), await bed.host()];
  for (const [host, device, net, mtu] of [
    [a, 'left0', 1, UNDERLAY_MTU],
    [b, 'right0', 2, rightMtuBytes],
  ] as const) {
    const end = `name ${UNDERLAY_DEVICE} netns ${host.name} mtu ${mtu}`;
    await router.ip(`link add ${device} mtu ${mtu} type veth peer ${end}`);
    for (const [at, dev, number] of [
      [router, device, 1],
      [host, UNDERLAY_DEVICE, 2],
    ] as const) {
      await at.ip(`addr add 10.88.${net}.${number}/24 dev ${dev}`);
      await at.ip(`addr add fd88:${net}::${number}/64 dev ${dev} nodad`);
      await at.ip(`link set ${dev} up`);
    }
    await host.ip(`route add default via 10.88.${net}.1`);
    await host.ip(`-6 route add default via fd88:${net}::1`);
  }
  for (const forwarding of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'])
    await router.sysctl(forwarding, 1);
  return [a, router, b];
}

const ROUTED = [
  ['v4', '10.88.1.2', '10.88.2.2'],
  ['v6', 'fd88:1::2', 'fd88:2::2'],
] as const;
const NARROW = 1400;

async function startRouted(left: Daemon, right: Daemon, ends: readonly [string, string]): Promise<void> {
  for (const [daemon, from, to] of [
    [left, ...ends],
    [right, ends[1], ends[0]],
  ] as const)
    await daemon.ok(directOverlay({ from, to, vnetid: VNETID }, '-t'));
}

await t.test('a narrow link on the way', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, router, b] = await routedHosts(bed, NARROW);
  const daemons = [
    (await Daemon.start(bed, a, { withoutRoot: true })).explain(t),
    (await Daemon.start(bed, b, { withoutRoot: true })).explain(t),
  ] as const;
  const capture = await Capture.start(bed, router, 'right0', `udp port ${VXLAN.defaultPort} or ip6 proto 44`);
  for (const [family, left, right] of ROUTED) {
    const mtuBytes = UNDERLAY_MTU - OVERHEAD[family];
    const largest = NARROW - OVERHEAD[family];
    await startRouted(...daemons, [left, right]);
    await a.plumb('overlay0', { mtuBytes });
    await b.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), `IP${family}: the tunnel is up`);
    t.equal(await b.mtuOf('overlay0'), largest, 'who sits at the narrow link knows');
    for (const target of [b.overlay.v4, b.overlay.v6]) {
      const pings = async (): Promise<void> => {
        const { received, text } = await ping(a, target, { packetBytes: mtuBytes, count: 5, waitMs: 200 });
        t.equal(received, 0, 'a large packet does not pass');
        t.match(text, new RegExp(`From ${target} .*mtu[ =]+${largest}`), 'and its sender is told what would');
      };
      const grown = await daemons[0].counted(pings, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
      t.ok(grown['tx_path_mtu'] >= 1, 'once the path is known, drops are counted here');
      t.ok(grown['too_big_answers'] >= 1);
      t.equal((await ping(a, target, { packetBytes: largest })).received, 3, 'what fits passes');
      t.equal((await ping(a, target, { packetBytes: largest + 1, count: 2, waitMs: 200 })).received, 0);
    }
    for (const daemon of daemons) await daemon.ok('delete-overlay overlay0');
  }
  t.equal(await capture.count(FRAGMENTS), 0, 'no fragments');
});

await t.test('TCP goes on when the path becomes narrow', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, router, b] = await routedHosts(bed, UNDERLAY_MTU);
  const daemons = [
    (await Daemon.start(bed, a, { withoutRoot: true })).explain(t),
    (await Daemon.start(bed, b, { withoutRoot: true })).explain(t),
  ] as const;
  const shrinks = [
    ['a link of a router', () => router.ip(`link set right0 mtu ${NARROW}`)],
    ['the link at hand', () => a.ip(`link set ${UNDERLAY_DEVICE} mtu ${NARROW}`)],
  ] as const;
  for (const [family, left, right] of ROUTED) {
    for (const inner of FAMILIES) {
      for (const [what, shrink] of shrinks) {
        await router.ip(`link set right0 mtu ${UNDERLAY_MTU}`);
        await a.ip(`link set ${UNDERLAY_DEVICE} mtu ${UNDERLAY_MTU}`);
        // What the kernel has learned of paths goes.
        for (const version of ['-4', '-6']) await a.ip(`${version} route flush cache`);
        await startRouted(...daemons, [left, right]);
        await a.plumb('overlay0');
        await b.plumb('overlay0');
        t.ok(await reaches(a, b.overlay[inner]), `IP${inner} over IP${family}, ${what}`);
        const narrowed = async (): Promise<void> => {
          const transfer = transferTcp(a, b, { address: b.overlay[inner], bytes: 200 << 20 });
          await waitUntil(async () => (await daemons[0].overlays())[0].counters['tx_bytes'] > 5 << 20, {
            what: 'the transfer to be under way',
          });
          await shrink();
          t.ok((await transfer).exact, 'every byte arrives');
        };
        const grown = await daemons[0].counted(narrowed, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
        t.ok(grown['tx_path_mtu'] >= 1 && grown['too_big_answers'] >= 1, 'though the path became narrow');
        for (const daemon of daemons) await daemon.ok('delete-overlay overlay0');
      }
    }
  }
});

// ---------------------------------------------------------------- congestion

await t.test('TCP with congestion marks', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  for (const host of [a, b]) {
    await host.sysctl('net.ipv4.tcp_ecn', 1);
    await host.plumb('overlay0');
  }
  t.ok(await reaches(a, b.overlay.v4));
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
  t.ok((await transferTcp(a, b, { bytes: 1 << 20 })).exact);
  const rows = await capture.fields('vxlan && tcp.len > 0', ['ip.dsfield.ecn']);
  const marks = new Set(rows.map((row) => row['ip.dsfield.ecn'].join()));
  t.ok(marks.delete('2,2'), 'ECT(0) inside and outside');
  marks.delete('0,0'); // what TCP sends again is not marked (RFC 3168 6.1.5)
  t.same([...marks], [], 'always the same on both');
});

// ---------------------------------------------------------------- change

await t.test('overlays that come and go beside a busy one', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemon = await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  for (const host of [a, b]) await host.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const before = await daemon.descriptorsAtRest();
  const state = { busy: true };
  const transfer = transferTcp(a, b, { bytes: 100 << 20 }).finally(() => (state.busy = false));
  const { call } = daemon;
  const properties: [string, string][] = [
    ['vxlan/listen_ip', a.underlay.v4],
    ['direct/dest_ip', b.underlay.v4],
    ['direct/dest_port', '4789'],
  ];
  let changes = 0;
  for (; state.busy || changes < 20; changes++) {
    const options = changes % 2 === 0 ? [] : [['vxlan/listen_port', '4790'] as [string, string]];
    const wish = {
      encap: 'vxlan',
      search: 'direct',
      temporary: true,
      properties: [...properties, ...options],
    };
    await call('overlay.create', { name: 'other0', vnetid: 43, ...wish });
    for (const over of ['overlay0', 'other0'])
      await call('vnic.create', { name: `on${over}`, over, temporary: true });
    for (const over of ['overlay0', 'other0'])
      await call('vnic.delete', { name: `on${over}`, temporary: true });
    await call('overlay.delete', { name: 'other0', temporary: true });
  }
  t.ok((await transfer).exact, `TCP does not notice ${changes} changes`);
  t.equal(await daemon.descriptorsAtRest(before), before, 'no descriptor is left open');
});
