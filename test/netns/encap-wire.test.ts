// The rows of the conformance tables about outer checksums and fragments (V7 to V10 and V12), on real sockets and for each
// encapsulation. The rows that need no kernel are in unit/encap-rows; everything else that VXLAN puts on the wire and takes
// off it is in frames.test.ts.
import t, { type Test } from 'tap';

import { encapsulation, ENCAPSULATION_NAMES, type EncapsulationName } from '../../src/encap/index.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { fromHex } from '../vectors/frames.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { filler, toHex, udpFrame, type UdpFrame } from '../helpers/frames.js';
import { concat, MAC, packet } from '../helpers/lab.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { newHosts } from '../helpers/site.js';
import { DatagramSink, FrameSink, reaches, sendDatagrams, sendFrames } from '../helpers/traffic.js';

const FAMILIES = ['v4', 'v6'] as const;
type Family = (typeof FAMILIES)[number];
const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';

/** RFC 7348 5 and RFC 8926 3.4: the first four bytes of a header; the id and a zero come after them. */
const HEADS: Readonly<Record<EncapsulationName, string>> = { vxlan: '08000000', geneve: '00006558' };

const carried = (encap: EncapsulationName, vnetid: number, frame: Uint8Array): Uint8Array =>
  concat(fromHex(HEADS[encap]), Uint8Array.of(vnetid >> 16, vnetid >> 8, vnetid, 0), frame);

/** Two hosts, of which the first has a varpd and devices that say nothing of their own accord. */
async function oneDaemon(t: Test): Promise<Awaited<ReturnType<typeof newHosts>> & { daemon: Daemon }> {
  const hosts = await newHosts(t);
  const { bed, a, b } = hosts;
  // The kernel queues a hundred packets for a neighbour that it does not know yet, and drops the others.
  for (const family of FAMILIES) await reaches(a, b.underlay[family]);
  await a.quietNewDevices();
  return { ...hosts, daemon: (await Daemon.start(bed, a)).explain(t) };
}

// ---------------------------------------------------------------- V7, V9: what leaves

/** Good: as `udp.checksum.status` of tshark has it. */
type Sum = 'good' | 'zero';

interface Departure {
  readonly family: Family;
  readonly properties: Readonly<Record<string, string>>;
  readonly sum: Sum;
}

/** `udp_checksum`, `offload`: what is sent over IPv4, over IPv6. */
const CHECKSUMS: readonly (readonly [value: string, offload: string, v4: Sum, v6: Sum])[] = [
  ['auto', 'auto', 'good', 'good'],
  ['auto', 'off', 'zero', 'good'],
  ['full', 'auto', 'good', 'good'],
  ['full', 'off', 'good', 'good'],
  ['zero', 'auto', 'zero', 'zero'],
  ['zero', 'off', 'zero', 'zero'],
];

/** Odd and even lengths, an inner checksum of zero, no IP at all, the largest that fits. */
const FRAMES = [
  udpFrame(),
  udpFrame({ payload: filler(19) }),
  udpFrame({ source: 'fd55::1', destination: 'fd55::2', payload: filler(1000) }),
  udpFrame({ payload: new Uint8Array(0) }),
  new Uint8Array(14).fill(0xff, 0, 12),
  udpFrame({ payload: filler(1430 - 28) }),
];

/** TCP that the kernel of the guest has not cut: this many segments, the last one odd. */
const SEGMENTS = 5;
const SEGMENT_BYTES = 1000;
const superframe = (() => {
  const bytes = packet({
    to: MAC.b,
    protocol: ipv4.TCP,
    payloadBytes: (SEGMENTS - 1) * SEGMENT_BYTES + 33,
    checksum: 'partial',
  });
  const header = new Uint8Array(virtio.HEADER_BYTES);
  virtio.write(
    {
      flags: virtio.NEEDS_CHECKSUM,
      gsoType: virtio.GSO_TCPV4,
      gsoSize: SEGMENT_BYTES,
      headerLength: 54,
      checksumStart: 34,
      checksumOffset: tcp.CHECKSUM,
    },
    header,
    0,
  );
  return concat(header, bytes);
})();

await t.test(
  'V7, V9: checksums that leave',
  { skip: skipUnlessNetns(['tcpdump', 'tshark', 'ethtool']) },
  async (t) => {
    const { bed, a, b, daemon } = await oneDaemon(t);
    // Otherwise the checksum is left to a device that has none, and no packet ever holds the good one.
    await a.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp or ip6 proto 44');
    const departures: (Departure & { readonly encap: EncapsulationName })[] = [];
    for (const encap of ENCAPSULATION_NAMES)
      for (const [value, offload, v4, v6] of CHECKSUMS)
        for (const family of FAMILIES)
          departures.push({
            encap,
            family,
            properties: { [`${encap}/udp_checksum`]: value, offload },
            sum: family === 'v4' ? v4 : v6,
          });
    for (const [index, { encap, family, properties }] of departures.entries()) {
      const name = `ovl${index}`;
      const ends = { from: a.underlay[family], to: b.underlay[family], vnetid: 100 + index, name, encap };
      const words = Object.entries(properties).map(([key, text]) => `-p ${key}=${text}`);
      await daemon.ok(directOverlay(ends, `-t ${words.join(' ')}`));
      await sendFrames(a, name, FRAMES);
      await sendFrames(a, name, [superframe], { vnet: true });
    }
    const wanted = FRAMES.length + SEGMENTS;
    const sent = async (): Promise<number[]> =>
      (await daemon.overlays()).map(({ counters }) => counters['tx_frames']);
    await waitUntil(async () => (await sent()).every((count) => count >= wanted), { what: 'the last frame' });

    const fields = ['udp.checksum', 'udp.checksum.status', 'udp.dstport'] as const;
    const rows = {
      vxlan: await capture.fields('vxlan', ['vxlan.vni', ...fields]),
      geneve: await capture.fields('geneve', ['geneve.vni', ...fields]),
    };
    t.equal(capture.lost, 0, 'the capture is complete');
    t.equal(await capture.count(`${FRAGMENTS} || ip.flags.df == 0`), 0, 'no fragments, and none allowed');
    for (const [index, { encap, family, properties, sum }] of departures.entries()) {
      const what = `${encap} over IP${family}, ${Object.values(properties).join(', offload ')}`;
      const all: readonly Readonly<Record<string, readonly string[]>>[] = rows[encap];
      const own = all.filter((row) => Number(row[`${encap}.vni`][0]) === 100 + index);
      t.equal(own.length, wanted, `${what}: every datagram is there`);
      t.strictSame(
        [...new Set(own.map((row) => row['udp.dstport'][0]))],
        [`${encapsulation(encap).defaultPort}`],
        `${what}: to the port of ${encap}`,
      );
      const sums = own.map((row) =>
        Number(row['udp.checksum'][0]) === 0
          ? 'zero'
          : row['udp.checksum.status'][0] === '1'
            ? 'good'
            : `status ${row['udp.checksum.status'][0]}`,
      );
      t.strictSame([...new Set(sums)], [sum], `${what}: ${sum} checksums`);
    }
  },
);

// ---------------------------------------------------------------- V8, V10, V12: what arrives

const ipBytes = (family: Family): number => (family === 'v4' ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);

function withChecksum(frame: Uint8Array, family: Family, value: number): Uint8Array {
  const changed = Uint8Array.from(frame);
  changed.set([value >> 8, value & 0xff], ethernet.HEADER_BYTES + ipBytes(family) + 6);
  return changed;
}

/** The packet of a frame in two fragments, the first with so many bytes (a multiple of 8) of what is behind the IP header. */
function inFragments(frame: Uint8Array, family: Family, firstBytes: number, id: number): Uint8Array[] {
  const network = ethernet.HEADER_BYTES;
  const start = network + ipBytes(family);
  return [
    { from: 0, to: firstBytes },
    { from: firstBytes, to: frame.length - start },
  ].map(({ from, to }) => {
    const isLast = start + to === frame.length;
    const part = frame.subarray(start + from, start + to);
    if (family === 'v4') {
      const bytes = concat(frame.subarray(0, start), part);
      const view = new DataView(bytes.buffer);
      view.setUint16(network + 2, ipv4.HEADER_BYTES + part.length);
      view.setUint16(network + 4, id);
      view.setUint16(network + 6, (isLast ? 0 : 0x2000) | (from / 8)); // RFC 791 3.1: more fragments
      ipv4.fillChecksum(bytes, network);
      return bytes;
    }
    // RFC 8200 4.5
    const fragment = Uint8Array.of(
      ipv4.UDP,
      0,
      from >> 8,
      (from & 0xff) | (isLast ? 0 : 1),
      0,
      0,
      id >> 8,
      id,
    );
    const bytes = concat(frame.subarray(0, start), fragment, part);
    new DataView(bytes.buffer).setUint16(network + 4, fragment.length + part.length);
    bytes[network + 6] = ipv6.FRAGMENT;
    return bytes;
  });
}

/** How many datagrams the kernel of a host has found with a wrong checksum, or without one where there has to be one. */
async function checksumErrors(host: Namespace, family: Family): Promise<number> {
  const counter = family === 'v4' ? 'UdpInCsumErrors' : 'Udp6InCsumErrors';
  return Number(new RegExp(`${counter}\\s+(\\d+)`).exec(await host.exec(`nstat -asz ${counter}`))?.[1]);
}

await t.test('what arrives', { skip: skipUnlessNetns(['nstat']) }, async (t) => {
  // A part that is left alone waits in the kernel for half a minute: no two packets have the same number.
  let fragmented = 0;
  const { a, b, daemon } = await oneDaemon(t);
  const [sourceMac, destinationMac] = [await b.macOf(UNDERLAY_DEVICE), await a.macOf(UNDERLAY_DEVICE)];
  for (const encap of ENCAPSULATION_NAMES)
    for (const family of FAMILIES)
      await t.test(`${encap} over IP${family}`, async (t) => {
        const ends = { from: a.underlay[family], to: b.underlay[family] };
        await daemon.ok(directOverlay({ ...ends, encap }, '-t'));
        const sink = await FrameSink.open(a, 'overlay0');
        const other = await DatagramSink.open(a, ends.from);
        const datagram = (payload: Uint8Array, more: UdpFrame = {}): Uint8Array =>
          udpFrame({
            sourceMac,
            destinationMac,
            source: ends.to,
            destination: ends.from,
            sourcePort: 50_000,
            destinationPort: encapsulation(encap).defaultPort,
            payload,
            ...more,
          });
        const frameOf = (number: number): Uint8Array =>
          udpFrame({ sourcePort: number, payload: filler(200) });
        let last = 0;
        /** Sends packets, and one behind them that must arrive: nothing has to be waited for that does not. */
        const arrived = async (packets: readonly Uint8Array[]): Promise<string[]> => {
          const end = frameOf(60_000 + ++last);
          const seen = sink.frames.length;
          await sendFrames(b, UNDERLAY_DEVICE, [...packets, datagram(carried(encap, 42, end))]);
          const isThere = (): boolean => sink.frames.slice(seen).some((frame) => frame.equals(end));
          await waitUntil(isThere, { what: 'the last datagram' });
          return sink.frames.slice(seen, -1).map(toHex);
        };
        const good = frameOf(1);
        const whole = datagram(carried(encap, 42, good));
        t.same(await arrived([whole]), [toHex(good)], 'a good checksum');

        t.same(
          await arrived([withChecksum(whole, family, 0)]),
          [toHex(good)],
          'V8: a zero checksum is accepted',
        );
        const before = await checksumErrors(a, family);
        const toOther = datagram(filler(100), { destinationPort: other.port });
        const byAnother = datagram(filler(101), { destinationPort: other.port });
        await arrived([withChecksum(toOther, family, 0), byAnother]);
        await other.waitFor(1);
        // On IPv4 a sender may always leave the checksum out (RFC 768); on IPv6 a socket must have asked for it (RFC 6935).
        const heard = other.datagrams.map(({ payload }) => payload.length);
        t.same(
          heard,
          family === 'v4' ? [100, 101] : [101],
          'V8: what IPv6 lacks is accepted on no other port',
        );
        t.equal((await checksumErrors(a, family)) - before, family === 'v4' ? 0 : 1, 'the kernel counts it');

        const wrong = [0x1234, 0xffff, 1].map((value) => withChecksum(whole, family, value));
        const spoilt = Uint8Array.from(whole);
        spoilt[spoilt.length - 1] ^= 1;
        t.same(await arrived([...wrong, spoilt]), [], 'V10: a wrong checksum is dropped');

        const parts = [8, 16, 24, 128].map((bytes) => inFragments(whole, family, bytes, ++fragmented));
        t.same(
          await arrived(parts.flat()),
          parts.map(() => toHex(good)),
          'V12: a datagram in fragments, as the kernel has put it together',
        );
        const others = [8, 16, 24, 128].map((bytes) => inFragments(whole, family, bytes, ++fragmented));
        t.same(
          await arrived(others.flatMap(([one, two], index) => (index % 2 === 0 ? [two, one] : [two]))),
          [toHex(good), toHex(good)],
          'V12: in another order; or a part of it alone, which is nothing',
        );
        // Its own kernel cuts what is larger than its link.
        const large = carried(encap, 42, udpFrame({ payload: filler(1600) }));
        const small = carried(encap, 42, good);
        const send = async (): Promise<void> => {
          const seen = sink.frames.length;
          const payloads = [large, small];
          await sendDatagrams(b, { to: ends.from, port: encapsulation(encap).defaultPort, payloads });
          await sink.waitFor(seen + 1);
        };
        const grown = await daemon.counted(send, 'overlay0', { rx_too_big: 1, rx_frames: 1 });
        t.match(grown, { rx_too_big: 1, rx_frames: 1 }, 'V12: one larger than the overlay carries');
        await sink.close();
        await other.close();
        await daemon.ok('delete-overlay -t overlay0');
      });
});
