// Whole tunnels on real devices, byte by byte: to another varpd, and to the kernel's vxlan.

import t, { type Test } from 'tap';

import { encapsulation, type EncapsulationName } from '../../src/encap/index.js';
import * as ethernet from '../../src/wire/ethernet.js';
import type { RunningOverlayInfo } from '../../src/control/messages.js';
import { Capture } from '../helpers/capture.js';
import { Daemon } from '../helpers/daemon.js';
import { udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches, sendFrames, udpEcho } from '../helpers/traffic.js';
import {
  type Family,
  FAMILIES,
  FRAGMENTS,
  newBed,
  OVERHEAD,
  startOverlay,
  tcpBothWays,
  UNDERLAY_MTU,
  VNETID,
} from '../helpers/tunnels.js';
import { every, part, usual } from '../helpers/whole.js';

const MAX_MTU_BYTES = 8900; // of an overlay, whatever the underlay carries

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

const ALL_PEERS: readonly Peer[] = [
  ...FAMILIES.map((family) => ({ name: 'varpd', family })),
  ...FAMILIES.map((family) => ({ name: 'varpd by Geneve', family, encap: 'geneve' as const })),
  ...FAMILIES.map((family) => ({ name: 'the kernel', family, kernel: '' })),
];
const PEERS = usual(ALL_PEERS, ({ family, encap }) => (family === 'v6') === (encap === 'geneve'));

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

const skipTunnels = skipUnlessNetns(['tcpdump', 'tshark', 'ethtool']);
for (const peer of PEERS) {
  await t.test(`a tunnel to ${peer.name} over IP${peer.family}`, { skip: skipTunnels }, async (t) => {
    const tunnel = await buildTunnel(t, peer);
    await t.test('ping and the largest frame', (t) => mtuBoundary(t, tunnel));
    await t.test('UDP of all sizes', (t) => udpSizes(t, tunnel));
    await t.test('TCP both ways, byte by byte', (t) => tcpBothWays(t, tunnel, (100 << 20) / every(10)));
  });
}
for (const peer of VARIANTS) {
  await t.test(`a tunnel to ${peer.name} over IP${peer.family}`, { skip: skipTunnels }, async (t) => {
    const tunnel = await buildTunnel(t, peer);
    const { a, b, mtuBytes } = tunnel;
    t.equal((await ping(a, b.overlay.v4, { packetBytes: mtuBytes })).received, 3, 'the largest packet');
    t.equal((await ping(b, a.overlay.v6, { packetBytes: mtuBytes })).received, 3, 'both ways');
    await tcpBothWays(t, tunnel, part(10 << 20));
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
  // So that the capture shows each segment: two frames that leave at once may go as one message.
  const cut = async (isOn: 'on' | 'off'): Promise<void> => {
    for (const host of [a, b])
      await host.exec(`ethtool -K ${UNDERLAY_DEVICE} gso ${isOn} tx-udp-segmentation ${isOn}`);
  };
  await cut('off');
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

  const lengths = await capture.fields(encap, ['frame.len']);
  const wrong = [FRAGMENTS, '_ws.malformed', `${encap} && ${encap}.vni != ${VNETID}`];
  t.same(await capture.counts(...wrong), [0, 0, 0], 'no fragment, nothing that cannot be read, one network');
  const longest = Math.max(...lengths.map((row) => Number(row['frame.len'][0])));
  t.equal(
    longest,
    largestPacketBytes + ethernet.HEADER_BYTES,
    'the largest packet fills the underlay exactly',
  );
  await cut('on');
}

async function udpSizes(t: Test, { a, b, mtuBytes }: Tunnel): Promise<void> {
  for (const inner of FAMILIES) {
    const largest = mtuBytes - (inner === 'v4' ? 28 : 48);
    const sizes = [0, 1, 2, 7, 8, 100, 1000, largest - 1, largest, largest + 1, 4000, 20_000, 65_487];
    const echoed = await udpEcho(a, b, { address: b.overlay[inner], sizes });
    t.same(echoed, sizes, `IP${inner}: all come back`);
  }
}
