// Frames through varpd on real devices: to another varpd, to the kernel's vxlan, and into the hands of a test that
// judges every byte.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { encapsulated, filler, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';
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
const VXLAN_PORT = 4789;
const UNDERLAY_MTU = 1500;
type Family = 'v4' | 'v6';
const FAMILIES = ['v4', 'v6'] as const;
/** Ethernet, VXLAN, UDP and IP: what the tunnel takes off the MTU (RFC 7348 4.3). */
const OVERHEAD = { v4: 50, v6: 70 } as const;
const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';
const TRANSFER_BYTES = 100 << 20;

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
  { family = 'v4', more = '' }: { family?: Family; more?: string } = {},
): Promise<Daemon> {
  const daemon = (await Daemon.start(bed, host)).explain(t);
  const ends = { from: host.underlay[family], to: peer.underlay[family], vnetid: VNETID };
  await daemon.ok(directOverlay(ends, more));
  return daemon;
}

// ---------------------------------------------------------------- whole tunnels

interface Peer {
  readonly name: string;
  readonly family: Family;
  /** More words for `ip link add type vxlan`; undefined = another varpd. */
  readonly kernel?: string;
  /** More words for create-overlay. */
  readonly more?: string;
}

const PEERS: readonly Peer[] = [
  ...FAMILIES.map((family) => ({ name: 'varpd', family })),
  ...FAMILIES.map((family) => ({ name: 'the kernel', family, kernel: '' })),
  {
    name: 'the kernel without checksums',
    family: 'v6',
    kernel: 'udp6zerocsumtx udp6zerocsumrx',
    more: '-p vxlan/udp_checksum=zero',
  },
  { name: 'the kernel with checksums', family: 'v4', kernel: 'udpcsum', more: '-p vxlan/udp_checksum=full' },
];

for (const peer of PEERS) {
  const { name, family, kernel } = peer;
  await t.test(`a tunnel to ${name} over IP${family}`, { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const daemon = await startOverlay(t, bed, a, b, peer);
    let device = 'overlay0';
    if (kernel === undefined) {
      await startOverlay(t, bed, b, a, peer);
    } else {
      const ends = { local: b.underlay[family], remote: a.underlay[family] };
      device = await addKernelVxlan(b, { vnetid: VNETID, ...ends, extra: kernel });
    }
    await a.plumb('overlay0');
    await b.plumb(device);
    t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');

    const mtuBytes = UNDERLAY_MTU - OVERHEAD[family];
    t.equal(await a.mtuOf('overlay0'), mtuBytes, 'the MTU leaves room for the headers');
    await t.test('ping and the largest frame', (t) => mtuBoundary(t, { bed, a, b, daemon, device, mtuBytes }));
    await t.test('UDP of all sizes', async (t) => {
      for (const inner of FAMILIES) {
        const largest = mtuBytes - (inner === 'v4' ? 28 : 48);
        const sizes = [0, 1, 2, 7, 8, 100, 1000, largest - 1, largest, largest + 1, 4000, 20_000, 65_507 - 20];
        t.same(await udpEcho(a, b, { address: b.overlay[inner], sizes }), sizes, `IP${inner}, all come back`);
      }
    });
    await t.test('TCP both ways, byte by byte', async (t) => {
      for (const [from, to, inner] of [
        [a, b, 'v4'],
        [b, a, 'v6'],
      ] as const) {
        const transfer = await transferTcp(from, to, { address: to.overlay[inner], bytes: TRANSFER_BYTES });
        t.equal(transfer.bytesReceived, TRANSFER_BYTES, `${from.name} to ${to.name}, IP${inner}: all arrived`);
        t.ok(transfer.exact, 'with the same sha256');
      }
    });
  });
}

interface Tunnel {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
  /** Of b. */
  readonly device: string;
  readonly mtuBytes: number;
}

/** RFC 7348 4.3: a VTEP must not fragment. What does not fit is dropped and counted. */
async function mtuBoundary(t: Test, { bed, a, b, daemon, device, mtuBytes }: Tunnel): Promise<void> {
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, `udp port ${VXLAN_PORT} or ip6 proto 44`);
  for (const inner of FAMILIES) {
    for (const packetBytes of [84, mtuBytes]) {
      const there = await ping(a, b.overlay[inner], { packetBytes });
      const back = await ping(b, a.overlay[inner], { packetBytes });
      t.match([there.received, back.received], [3, 3], `IP${inner}, ${packetBytes} bytes, both ways`);
    }
  }
  // The device's own MTU would keep a larger frame from varpd.
  await a.ip('link set overlay0 mtu 9000');
  await b.ip(`link set ${device} mtu ${device === 'overlay0' ? 9000 : mtuBytes}`);
  for (const inner of FAMILIES) {
    const counted = await daemon.counted(async () => {
      const { received } = await ping(a, b.overlay[inner], { count: 2, packetBytes: mtuBytes + 1, waitMs: 200 });
      t.equal(received, 0, `IP${inner}, one byte more does not pass`);
    });
    t.equal(counted['tx_too_big'], 2, 'and is counted');
  }
  await a.ip(`link set overlay0 mtu ${mtuBytes}`);
  await b.ip(`link set ${device} mtu ${mtuBytes}`);

  t.equal(await capture.count(FRAGMENTS), 0, 'no fragment on the underlay');
  const lengths = await capture.fields('vxlan', ['frame.len']);
  const longest = Math.max(...lengths.map((row) => Number(row['frame.len'][0])));
  t.equal(longest, UNDERLAY_MTU + ethernet.HEADER_BYTES, 'the largest packet fills the underlay exactly');
}

// ---------------------------------------------------------------- what leaves

interface Departure {
  readonly name: string;
  readonly family?: Family;
  readonly more?: string;
  readonly frames: readonly Uint8Array[];
  /** Field -> the one value that it must have in every packet. */
  readonly fields: Readonly<Record<string, string>>;
}

const flows = (count: number, times = 1): Uint8Array[] =>
  Array.from({ length: count * times }, (_, at) => udpFrame({ sourcePort: 20_000 + (at % count) }));

const BY_DEFAULT = {
  'vxlan.flags': '0x0800',
  'vxlan.vni': `${VNETID}`,
  'vxlan.gbp': '0',
  'vxlan.reserved8': '0',
  'udp.dstport': `${VXLAN_PORT}`,
};

const DEPARTURES: readonly Departure[] = [
  {
    name: 'over IPv4',
    frames: flows(100),
    fields: { ...BY_DEFAULT, 'udp.checksum': '0x0000', 'ip.ttl': '64', 'ip.flags.df': '1', 'ip.dsfield': '0x00' },
  },
  {
    name: 'over IPv6',
    family: 'v6',
    frames: flows(100),
    fields: { ...BY_DEFAULT, 'udp.checksum.status': '1', 'ipv6.hlim': '64', 'ipv6.tclass': '0x00' },
  },
  {
    name: 'over IPv4 with full checksums',
    more: '-p vxlan/udp_checksum=full',
    frames: flows(100),
    fields: { ...BY_DEFAULT, 'udp.checksum.status': '1' },
  },
  {
    name: 'over IPv6 with zero checksums',
    family: 'v6',
    more: '-p vxlan/udp_checksum=zero',
    frames: flows(10),
    fields: { ...BY_DEFAULT, 'udp.checksum': '0x0000' },
  },
  {
    name: 'from the listen port alone, to another port',
    more: '-p vxlan/source_ports=1 -p vxlan/listen_port=5555',
    frames: flows(100),
    fields: { ...BY_DEFAULT, 'udp.srcport': '5555' },
  },
  ...[ipv4.NOT_ECT, ipv4.ECT_1, ipv4.ECT_0, ipv4.CE].flatMap((ecn) =>
    FAMILIES.map((family) => ({
      name: `marked as inside: ECN ${ecn} over IP${family}`,
      family,
      frames: [
        udpFrame({ trafficClass: 0xb8 | ecn, ttl: 1 }),
        udpFrame({ trafficClass: 0xb8 | ecn, ttl: 1, source: 'fd55::1', destination: 'fd55::2' }),
      ],
      fields:
        family === 'v4'
          ? { 'ip.dsfield': `0x0${ecn}`, 'ip.ttl': '64' }
          : { 'ipv6.tclass': `0x0${ecn}`, 'ipv6.hlim': '64' },
    })),
  ),
  {
    name: 'with the DSCP of the inner packet',
    more: '-p vxlan/dscp=copy',
    frames: [udpFrame({ trafficClass: 0xba })],
    fields: { 'ip.dsfield': '0xba' },
  },
];
