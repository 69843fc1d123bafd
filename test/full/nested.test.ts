// Tunnels of the kernel over a port of varpd: what is sent in them arrives byte for byte, whole superframes go in and come out,
// and a program with a socket of its own gets single datagrams all the same.
import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { encapsulated, toHex } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace, skipUnlessGeneveDevices } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { frameOf, PLAIN, segmentsOf } from '../helpers/superframe.js';
import { DatagramSink, reaches, transferTcp } from '../helpers/traffic.js';
import { FAMILIES, type Family } from '../helpers/tunnels.js';
import { bytesOr, isThorough, usual } from '../helpers/whole.js';

const VNETID = 42;
const PORT = 8472;
const BYTES = 4_000_000;
const THOROUGH_TIMEOUT_MS = 600_000;

interface Shape {
  readonly name: string;
  /** For `ip link add`. */
  readonly link: string;
  /** Of the tunnel's own packets, and of the underlay. */
  readonly outer: Family;
  readonly inner: Family;
  readonly offload?: 'off';
  /** In npm test too. */
  readonly isUsual?: true;
}

const SHAPES: readonly Shape[] = [
  {
    name: 'vxlan without a checksum',
    link: 'vxlan dstport 8472 noudpcsum',
    outer: 'v4',
    inner: 'v4',
    isUsual: true,
  },
  {
    name: 'vxlan with one, over IPv6',
    link: 'vxlan dstport 8472 udp6zerocsumrx',
    outer: 'v6',
    inner: 'v6',
    isUsual: true,
  },
  { name: 'Geneve', link: 'geneve dstport 8472 udpcsum', outer: 'v4', inner: 'v6' },
  { name: 'vxlan, without offloads', link: 'vxlan dstport 8472', outer: 'v4', inner: 'v4', offload: 'off' },
];

const ADDRESSES = { v4: ['10.99.0.1', '10.99.0.2'], v6: ['fd99::1', 'fd99::2'] } as const;

interface Hosts {
  readonly bed: Bed;
  readonly pair: readonly [Namespace, Namespace];
}

async function hosts(t: Test, family: Family = 'v4', offload = 'auto'): Promise<Hosts> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const daemon = (await Daemon.start(bed, from, { withoutRoot: true })).explain(t);
    const ends = { from: from.underlay[family], to: to.underlay[family], vnetid: VNETID };
    await daemon.ok(directOverlay(ends, `-p offload=${offload}`));
    await from.plumb('overlay0');
  }
  t.ok(await reaches(a, b.overlay.v4), 'the overlay is up');
  return { bed, pair: [a, b] };
}

async function addTunnel(pair: Hosts['pair'], { link, outer }: Shape): Promise<void> {
  const [kind, ...words] = link.split(' ');
  for (const [index, host] of pair.entries()) {
    const remote = pair[1 - index].overlay[outer];
    const local = kind === 'vxlan' ? `local ${host.overlay[outer]}` : '';
    await host.ip(`link add inner0 type ${kind} id 77 remote ${remote} ${local} ${words.join(' ')}`);
    await host.ip('link set inner0 up mtu 1300');
    await host.ip(`addr add ${ADDRESSES.v4[index]}/24 dev inner0`);
    await host.ip(`addr add ${ADDRESSES.v6[index]}/64 dev inner0 nodad`);
  }
}

const isNested = extra.probeFeatures().tapTunnelSegmentation;

/** Why a tunnel has nothing to verify here, where the kernel hands over no superframes of tunnels. */
function unverifiable({ offload }: Shape): false | string {
  if (!isThorough || isNested || offload === 'off') return false;
  return 'a TAP of this kernel has no superframes in tunnels (Linux 6.17): varpd has no offload `nested`';
}

t.test('TCP in a tunnel of the kernel', { skip: skipUnlessNetns(['tshark']) }, async (t) => {
  for (const shape of usual(SHAPES, ({ isUsual }) => isUsual === true)) {
    const skip =
      unverifiable(shape) || (shape.link.startsWith('geneve') && (await skipUnlessGeneveDevices()));
    await t.test(shape.name, { skip }, async (t) => {
      const { bed, pair } = await hosts(t, shape.outer, shape.offload);
      await addTunnel(pair, shape);
      const [a, b] = pair;
      const [there, back] = ADDRESSES[shape.inner];
      t.ok(await reaches(a, back), 'the tunnel inside is up');
      const captures: Capture[] = [];
      for (const host of pair) captures.push(await Capture.start(bed, host, 'overlay0', `udp port ${PORT}`));
      const sent = await transferTcp(a, b, { address: back, bytes: BYTES });
      t.ok(sent.exact, 'there');
      for (const [index, capture] of captures.entries()) {
        await capture.stop();
        const large = await capture.count(`udp.dstport == ${PORT} && frame.len > 3000`);
        const isExpected = isNested && shape.offload === undefined;
        t.equal(large > 0, isExpected, `${index === 0 ? 'sent' : 'received'}: ${large} superframes`);
      }
      t.ok((await transferTcp(b, a, { address: there, bytes: BYTES })).exact, 'and back');
      if (isThorough) await verify(t, pair);
    });
  }
});

/** Each family each way, without a capture: it would hold all of it. */
async function verify(t: Test, [a, b]: Hosts['pair']): Promise<void> {
  const bytes = bytesOr(BYTES);
  for (const inner of FAMILIES) {
    const [there, back] = ADDRESSES[inner];
    for (const [from, to, address] of [
      [a, b, back],
      [b, a, there],
    ] as const) {
      const { exact } = await transferTcp(from, to, { address, bytes, timeoutMs: THOROUGH_TIMEOUT_MS });
      t.ok(exact, `${bytes / 1e6} MB over IP${inner}, ${from === a ? 'there' : 'back'}`);
    }
  }
}

/** Many datagrams of one size that look like VXLAN with TCP inside. */
const SENDER = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
frames = [bytes.fromhex(line) for line in sys.stdin.read().split()]
s.sendmsg([b''.join(frames)], [(17, 103, struct.pack('=H', len(frames[0])))]) # SOL_UDP, UDP_SEGMENT`;

t.test('a program that is the end of a tunnel', { skip: skipUnlessNetns(['python3']) }, async (t) => {
  const { pair } = await hosts(t);
  const [a, b] = pair;
  const sink = await DatagramSink.open(b, b.overlay.v4, PORT);
  const segments = segmentsOf({ ...PLAIN, payload: new Uint8Array(2000) }, 100);
  const datagrams = segments.map((each) => toHex(encapsulated(VNETID, frameOf(each))));
  const sender = a.spawn(['python3', '-c', SENDER, b.overlay.v4, `${PORT}`], {}, 'pipe');
  sender.write(datagrams.join('\n'));
  sender.end();
  await sender.exited;
  await waitUntil(() => sink.datagrams.length >= datagrams.length, { what: 'all datagrams' });
  t.same(
    sink.datagrams.map(({ payload }) => payload.toString('hex')),
    datagrams,
    'gets one by one what was sent',
  );
  sink.job.stop();
});
