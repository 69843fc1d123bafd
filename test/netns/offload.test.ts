// Whole tunnels with offloads and without: byte for byte what was sent arrives, whoever the peer is, whatever the
// addresses are inside and outside, and whether frames are cut by the stack, by varpd, by the kernel's UDP or by the peer.
//
// VARPD_TEST_BYTES=1000000000 carries that much over each TCP connection instead of some megabytes, both families both ways,
// and UDP of all sizes over both families: `npm run bench -- --verify`.
import t, { type Test } from 'tap';

import * as ethernet from '../../src/wire/ethernet.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { filler, toHex } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { DatagramSink, reaches, transferTcp, udpEcho } from '../helpers/traffic.js';
import { bytesOr, every, isThorough, part, usual } from '../helpers/whole.js';

const VNETID = 42;
const UNDERLAY_MTU = 1500;
const JUMBO_MTU = 9000;
const MAX_MTU = 8900; // illumos overlay, OVERLAY_MAX_MTU
const MEGABYTE = 1_000_000;
const FAMILIES = ['v4', 'v6'] as const;
type Family = (typeof FAMILIES)[number];
/** Ethernet, VXLAN, UDP and IP: what the tunnel takes off the MTU (RFC 7348 4.3). */
const OVERHEAD = { v4: 50, v6: 70 } as const;
const UDP_OVERHEAD = { v4: 28, v6: 48 } as const;
const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';

interface Shape {
  readonly family: Family;
  readonly peer: 'kernel' | 'varpd';
  readonly offload: 'auto' | 'off';
  readonly mtuBytes?: number;
  /** More words for `create-overlay`. */
  readonly more?: string;
}

interface Tunnel {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemons: readonly Daemon[];
  /** The overlay device of b. */
  readonly device: string;
  readonly mtuBytes: number;
}

async function tunnel(t: Test, { family, peer, offload, mtuBytes, more = '' }: Shape): Promise<Tunnel> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const underlayMtu = mtuBytes ?? UNDERLAY_MTU;
  const [a, b] = await bed.twoHosts({ mtuBytes: underlayMtu });
  const varpd = async (here: Namespace, there: Namespace): Promise<Daemon> => {
    const daemon = (await Daemon.start(bed, here, { withoutRoot: true })).explain(t);
    const ends = { from: here.underlay[family], to: there.underlay[family], vnetid: VNETID };
    await daemon.ok(directOverlay(ends, `-p offload=${offload} ${more}`));
    return daemon;
  };
  const daemons = [await varpd(a, b)];
  let device = 'overlay0';
  if (peer === 'varpd') {
    daemons.push(await varpd(b, a));
  } else {
    const ends = { local: b.underlay[family], remote: a.underlay[family] };
    device = await addKernelVxlan(b, { vnetid: VNETID, ...ends });
    // IPv6 may come without a checksum or with one; varpd sends either.
    await b.ip(`link set ${device} mtu ${Math.min(underlayMtu - OVERHEAD[family], MAX_MTU)}`);
  }
  await a.plumb('overlay0');
  await b.plumb(device);
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemons, device, mtuBytes: await a.mtuOf('overlay0') };
}

/** Both ways at the same time would hide which one is broken. `all`: each family each way, else one there, one back. */
async function transfers(t: Test, { a, b }: Tunnel, bytes: number, all = isThorough): Promise<void> {
  const ways = [
    [a, b, 'v4'],
    [b, a, 'v6'],
    [b, a, 'v4'],
    [a, b, 'v6'],
  ] as const;
  for (const [from, to, inner] of all ? ways : ways.slice(0, 2)) {
    const transfer = await transferTcp(from, to, { address: to.overlay[inner], bytes, timeoutMs: 600_000 });
    t.ok(transfer.exact, `${bytes / MEGABYTE} MB of TCP over IP${inner}, ${from === a ? 'there' : 'back'}`);
  }
}

/** Sizes that never come back. A burst of so many may overrun a socket: that is no fault of a size, so it is sent again. */
async function missing(
  a: Namespace,
  b: Namespace,
  sizes: readonly number[],
  family: Family = 'v4',
): Promise<readonly number[]> {
  let left = sizes;
  for (let round = 0; round < 4 && left.length > 0; round++) {
    const back = new Set(await udpEcho(a, b, { address: b.overlay[family], sizes: left }));
    left = left.filter((size) => !back.has(size));
  }
  return left;
}

// ---------------------------------------------------------------- senders that leave the cutting to the kernel

/** A pause behind each message: the receiver's buffer holds one of them. */
const SENDER = `
import socket, struct, sys, time
address, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((address, port))
for train in sys.argv[3:]:
    size, count, last = map(int, train.split(','))
    payload = bytes((i * 7 + (i >> 8)) & 255 for i in range(size * count + last))
    s.sendmsg([payload], [(17, 103, struct.pack('=H', size))]) # SOL_UDP, UDP_SEGMENT
    time.sleep(0.05)`;

/** Datagrams sent as one message (UDP_SEGMENT): how many, and the length of one more. */
const TRAINS = (largest: number): (readonly [size: number, count: number, last: number])[] => [
  [1, 64, 0],
  [97, 60, 96],
  [777, 2, 0],
  [1000, 60, 1],
  [largest - 1, Math.min(40, Math.floor(50_000 / largest)), largest - 2],
  [largest, Math.min(40, Math.floor(60_000 / largest)), 3],
];

async function trains(
  t: Test,
  from: Namespace,
  to: Namespace,
  family: Family,
  mtuBytes: number,
): Promise<void> {
  const sink = await DatagramSink.open(to, to.overlay[family]);
  const list = TRAINS(mtuBytes - UDP_OVERHEAD[family]);
  const words = [to.overlay[family], `${sink.port}`, ...list.map((train) => train.join())];
  await from.exec(['python3', '-c', SENDER, ...words]);
  const expected = list.map(([size, count, last]) => {
    const message = filler(size * count + last);
    return Array.from({ length: count + (last > 0 ? 1 : 0) }, (_, index) =>
      toHex(message.subarray(index * size, (index + 1) * size)),
    );
  });
  const arrived = (await sink.waitFor(expected.flat().length)).map(({ payload }) => toHex(payload));
  list.forEach(([size, count, last], index) => {
    const seen = arrived.splice(0, expected[index].length);
    t.strictSame(seen, expected[index], `${count} times ${size} bytes and ${last}`);
  });
  await sink.close();
}

const FEATURES = ['tx-checksum-ip-generic', 'tcp-segmentation-offload', 'tx-udp-segmentation'];

async function featuresOf(host: Namespace, device: string): Promise<string[]> {
  const shown = await host.exec(`ethtool -k ${device}`);
  return FEATURES.filter((name) => shown.includes(`${name}: on`));
}

// ---------------------------------------------------------------- tunnels

const SHAPES: readonly Shape[] = usual(
  FAMILIES.flatMap((family) =>
    (['kernel', 'varpd'] as const).flatMap((peer) =>
      (['auto', 'off'] as const).map((offload) => ({ family, peer, offload })),
    ),
  ),
  ({ family, peer, offload }) =>
    (family === 'v4') === (peer === 'kernel') && (family === 'v4') === (offload === 'auto'),
);

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const shape of SHAPES) {
  const { family, peer, offload } = shape;
  const name = `${peer} over IP${family}, offload ${offload}`;
  t.test(name, { skip: skipUnlessNetns(['python3', 'ethtool']) }, async (t) => {
    const made = await tunnel(t, shape);
    const { a, b, daemons, mtuBytes } = made;
    const left = offload === 'auto' ? FEATURES : [];
    t.same(await featuresOf(a, 'overlay0'), left, 'what the stack may leave to us');

    await transfers(t, made, bytesOr(part(10 * MEGABYTE)), isThorough || peer === 'kernel');
    const largest = mtuBytes - UDP_OVERHEAD.v4;
    const sizes = Array.from({ length: largest }, (_, index) => largest - index * every(3)).filter(
      (size) => size > 0,
    );
    t.same(await missing(a, b, sizes), [], `UDP of all sizes to ${largest}, there and back`);
    await t.test('UDP that the kernel is to cut', async (t) => {
      await trains(t, a, b, 'v4', mtuBytes);
      await trains(t, b, a, 'v6', mtuBytes);
    });
    for (const daemon of daemons) {
      const [{ counters }] = await daemon.overlays();
      const drops = Object.entries(counters).filter(
        ([name, count]) => count > 0 && /too_big|error|full|malformed|refused|truncated|port_/.test(name),
      );
      t.same(drops, [], 'nothing was dropped');
    }
  });
}

/** So many datagrams at a time that their bytes fit into the buffers of a socket. */
const SIZES_AT_A_TIME = 3000;
const MAX_UDP_SIZE = 9000;

for (const [family, offload] of [
  ['v4', 'auto'],
  ['v6', 'off'],
] as const) {
  const name = `an underlay of 9000 bytes over IP${family}, offload ${offload}`;
  t.test(name, { skip: skipUnlessNetns(['python3']) }, async (t) => {
    const made = await tunnel(t, { family, peer: 'kernel', offload, mtuBytes: JUMBO_MTU });
    const { a, b, mtuBytes } = made;
    t.equal(mtuBytes, MAX_MTU);
    await transfers(t, made, bytesOr(part(20 * MEGABYTE)));
    for (const inner of isThorough ? FAMILIES : [family]) {
      // The larger ones come in fragments, and so does a superframe of fragments.
      for (let from = 1; from <= MAX_UDP_SIZE; from += SIZES_AT_A_TIME) {
        const step = every(3);
        const sizes = Array.from({ length: SIZES_AT_A_TIME / step }, (_, index) => from + index * step);
        const what = `UDP of all sizes from ${from} to ${from + SIZES_AT_A_TIME - 1} over IP${inner}`;
        t.same(await missing(a, b, sizes, inner), [], what);
      }
      t.same(await missing(a, b, [60_000], inner), [], `and 60,000 over IP${inner}`);
    }
    await trains(t, a, b, 'v4', mtuBytes);
    await trains(t, b, a, 'v4', mtuBytes);
  });
}

const TIMESTAMP_BYTES = 12; // RFC 7323 3.2, with two bytes of padding

t.test('an odd MSS', { skip: skipUnlessNetns(['tcpdump', 'tshark', 'ethtool']) }, async (t) => {
  const { bed, a, b, device } = await tunnel(t, { family: 'v4', peer: 'kernel', offload: 'auto' });
  // So that the capture shows each segment.
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} gso off tx-udp-segmentation off`);
  for (const mss of usual([549, 1389], (mss) => mss === 549)) {
    await a.ip(`route replace 10.55.55.0/24 dev overlay0 advmss ${mss}`);
    await b.ip(`route replace 10.55.55.0/24 dev ${device} advmss ${mss}`);
    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, `src host ${a.underlay.v4}`);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const { exact } = await transferTcp(from, to, { bytes: part(4 * MEGABYTE) });
      t.ok(exact, `${mss} bytes, ${from === a ? 'there' : 'back'}`);
    }
    const lengths = (await capture.fields('vxlan && tcp.len > 0', ['tcp.len'])).map((row) =>
      Number(row['tcp.len'][0]),
    );
    const full = lengths.filter((length) => length === mss - TIMESTAMP_BYTES);
    t.equal(Math.max(...lengths), mss - TIMESTAMP_BYTES, 'no segment is longer');
    t.ok(full.length > lengths.length * 0.9, 'most are as long as they may be');
  }
});

t.test('a VLAN inside', { skip: skipUnlessNetns(['python3']) }, async (t) => {
  for (const offload of usual(['auto', 'off'] as const, (offload) => offload === 'auto')) {
    const made = await tunnel(t, { family: 'v4', peer: 'varpd', offload });
    const { bed, a, b, daemons } = made;
    const [c, e] = [await bed.host(), await bed.host()];
    for (const [index, [here, inside]] of [[a, c] as const, [b, e] as const].entries()) {
      await daemons[index].ok('create-vnic -l overlay0 -v 5 five0');
      await here.ip(`link set five0 netns ${inside.name}`);
      // Room for the tag.
      await inside.plumb('five0', { mtuBytes: made.mtuBytes - 4 });
    }
    t.ok(await reaches(c, e.overlay.v4));
    await transfers(t, { ...made, a: c, b: e }, bytesOr(part(10 * MEGABYTE)));
    await trains(t, c, e, 'v4', made.mtuBytes - 4);
    await trains(t, e, c, 'v6', made.mtuBytes - 4);
  }
});

t.test('an underlay that loses packets', { skip: skipUnlessNetns(['tc', 'nstat']) }, async (t) => {
  for (const peer of usual(['kernel', 'varpd'] as const, (each) => each === 'varpd')) {
    const made = await tunnel(t, { family: 'v4', peer, offload: 'auto' });
    for (const host of [made.a, made.b]) {
      // A queue too short for what a TCP sends before it hears of a loss.
      await host.exec(`tc qdisc add dev ${UNDERLAY_DEVICE} root tbf rate 400mbit burst 64kb limit 100000`);
    }
    await transfers(t, made, 5 * MEGABYTE);
    const resent = await made.a.exec('nstat -asz TcpRetransSegs');
    t.ok(Number(/TcpRetransSegs\s+(\d+)/.exec(resent)?.[1]) > 0, 'segments were lost and sent again');
  }
});

// ---------------------------------------------------------------- on the wire

/** Of the sending device: who cuts (the kernel's UDP on the way out, or varpd after a refusal), who sums. */
const WIRES = [
  { name: 'cut by the kernel', switches: 'gso off tx-udp-segmentation off', outerIsGood: false },
  { name: 'a device that does not do checksums', switches: 'tx off', outerIsGood: true },
] as const;

for (const family of FAMILIES) {
  t.test(
    `what leaves over IP${family}`,
    { skip: skipUnlessNetns(['tcpdump', 'tshark', 'ethtool']) },
    async (t) => {
      const made = await tunnel(t, { family, peer: 'kernel', offload: 'auto' });
      const { bed, a, b } = made;
      for (const host of [a, b]) await host.sysctl('net.ipv4.tcp_ecn', 1);
      for (const { name, switches, outerIsGood } of usual(
        WIRES,
        (wire) => wire.outerIsGood === (family === 'v4'),
      )) {
        await a.exec(`ethtool -K ${UNDERLAY_DEVICE} ${switches}`);
        const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, `src host ${a.underlay[family]}`);
        for (const inner of FAMILIES) {
          const { exact } = await transferTcp(a, b, { address: b.overlay[inner], bytes: 2 * MEGABYTE });
          t.ok(exact, `${name}: TCP over IP${inner}`);
        }
        const fields = ['frame.len', 'ip.dsfield.ecn', 'ipv6.tclass.ecn', 'tcp.len'] as const;
        const rows = await capture.fields('vxlan && tcp', [
          ...fields,
          'tcp.checksum.status',
          'udp.checksum.status',
          'tcp.flags.cwr',
        ]);
        const lengths = rows.map((row) => Number(row['frame.len'][0]));
        t.ok(rows.length > 1000, 'segment by segment');
        t.equal(Math.max(...lengths), UNDERLAY_MTU + ethernet.HEADER_BYTES, 'the largest fills the underlay');
        t.same(
          new Set(rows.map((row) => row['tcp.checksum.status'][0])),
          new Set(['1']),
          'inner checksums are good',
        );
        if (outerIsGood)
          t.same(new Set(rows.map((row) => row['udp.checksum.status'][0])), new Set(['1']), 'outer ones too');
        const bad = `${FRAGMENTS} || ip.checksum.status == 0`;
        t.equal(await capture.count(bad), 0, 'no fragments, and IP checksums are good');
        const marks = rows.map((row) => [...row['ip.dsfield.ecn'], ...row['ipv6.tclass.ecn']]);
        t.ok(
          marks.every(([one, two]) => one === two),
          'the mark is the same inside and outside',
        );
        t.ok(
          marks.some(([one]) => one === '2'),
          'and there are some: ECT(0)',
        );
      }
    },
  );
}
