// What varpd puts on the wire and takes off it, byte for byte: headers, source ports, checksums, marks, and what it has
// to refuse a packet. One daemon, and a host at the other end that only listens or sends what it is given.

import t, { type Test } from 'tap';

import * as ipv4 from '../../src/wire/ipv4.js';
import { Capture } from '../helpers/capture.js';
import { directOverlay } from '../helpers/daemon.js';
import { encapsulated, filler, toHex, udpFrame, type UdpFrame, withTag } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { DatagramSink, FrameSink, sendDatagrams, sendFrames } from '../helpers/traffic.js';
import { VXLAN_PORT, FAMILIES, type Family, VNIC, FRAGMENTS, oneDaemon } from '../helpers/one-daemon.js';

// ---------------------------------------------------------------- what leaves

/** An overlay and the frames sent into it; every overlay has a VNI of its own, so that one capture does for all. */
interface Departure {
  readonly name: string;
  readonly family?: Family;
  readonly more?: string;
  readonly frames: readonly Uint8Array[];
  /** Field -> the one value that it must have in the outer headers of every packet. */
  readonly fields: Readonly<Record<string, number>>;
}

/** udp.checksum.status of tshark. */
const GOOD = 1;
const ECN_FIELDS = [ipv4.NOT_ECT, ipv4.ECT_1, ipv4.ECT_0, ipv4.CE] as const;
const FLOWS = 100;
/** Each flow three times. */
const flows = Array.from({ length: 3 * FLOWS }, (_, at) => udpFrame({ sourcePort: 20_000 + (at % FLOWS) }));

const DEPARTURES: readonly Departure[] = [
  {
    name: 'over IPv4: a good checksum, never a fragment',
    frames: flows,
    fields: { 'udp.checksum.status': GOOD, 'ip.ttl': 64, 'ip.dsfield': 0 },
  },
  {
    name: 'over IPv4 without offloads: no checksum',
    more: '-p offload=off',
    frames: flows.slice(0, 10),
    fields: { 'udp.checksum': 0 },
  },
  {
    name: 'over IPv6: a good checksum',
    family: 'v6',
    frames: flows,
    fields: { 'udp.checksum.status': GOOD, 'ipv6.hlim': 64, 'ipv6.tclass': 0 },
  },
  {
    name: 'over IPv4 with full checksums',
    more: '-p vxlan/udp_checksum=full',
    frames: flows,
    fields: { 'udp.checksum.status': GOOD },
  },
  {
    name: 'over IPv6 with zero checksums',
    family: 'v6',
    more: '-p vxlan/udp_checksum=zero',
    frames: flows.slice(0, 10),
    fields: { 'udp.checksum': 0 },
  },
  {
    name: 'from the listen port alone',
    more: '-p vxlan/source_ports=1 -p vxlan/listen_port=5555',
    frames: flows,
    fields: { 'udp.srcport': 5555 },
  },
  ...ECN_FIELDS.flatMap((ecn) =>
    FAMILIES.map((family): Departure => {
      const inner = { trafficClass: 0xb8 | ecn, ttl: 1 };
      const frames = [udpFrame(inner), udpFrame({ ...inner, source: 'fd55::1', destination: 'fd55::2' })];
      const fields: Record<string, number> =
        family === 'v4' ? { 'ip.dsfield': ecn, 'ip.ttl': 64 } : { 'ipv6.tclass': ecn, 'ipv6.hlim': 64 };
      return { name: `ECN ${ecn}, as inside, over IP${family}`, family, frames, fields };
    }),
  ),
  {
    name: 'the DSCP of the inner packet too, where it is asked for',
    more: '-p vxlan/dscp=copy',
    frames: [udpFrame({ trafficClass: 0xba })],
    fields: { 'ip.dsfield': 0xba },
  },
  {
    name: 'frames of any kind, whole',
    frames: [
      withTag(udpFrame(), 77),
      withTag(withTag(udpFrame(), 77), 5, 0x88a8),
      new Uint8Array(14).fill(0xff, 0, 12),
      udpFrame({ payload: filler(1422) }),
      udpFrame({ destinationMac: '01:80:c2:00:00:00' }),
    ],
    fields: { 'ip.ttl': 64 },
  },
];

await t.test('what leaves the host', { skip: skipUnlessNetns(['tcpdump', 'tshark', 'ethtool']) }, leaves);

async function leaves(t: Test): Promise<void> {
  const { bed, a, b, daemon } = await oneDaemon(t);
  // Otherwise the checksum is left to a device that has none, and no packet ever holds the good one.
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
  for (const [index, { family = 'v4', frames, more = '' }] of DEPARTURES.entries()) {
    const name = `ovl${index}`;
    const ends = { from: a.underlay[family], to: b.underlay[family], vnetid: 100 + index, name };
    await daemon.ok(directOverlay(ends, `-t ${more}`));
    await sendFrames(a, name, frames);
  }
  const wanted = DEPARTURES.map(({ frames }) => frames.length);
  const sent = async (): Promise<number[]> =>
    (await daemon.overlays()).map(({ counters }) => counters['tx_frames']);
  await waitUntil(async () => (await sent()).every((count, index) => count >= wanted[index]), {
    what: 'the last frame',
  });
  t.same(await sent(), wanted, 'every frame is counted');

  const header = { 'vxlan.flags': 0x0800, 'vxlan.gbp': 0, 'vxlan.reserved8': 0, 'udp.dstport': VXLAN_PORT };
  const own = ['udp.srcport', 'vxlan.vni', 'udp.payload', ...Object.keys(header)];
  const all = DEPARTURES.flatMap(({ fields }) => Object.keys(fields));
  const rows = await capture.fields('vxlan', [...new Set([...own, ...all])]);
  t.equal(capture.lost, 0, 'the capture is complete');
  t.equal(await capture.count(`${FRAGMENTS} || ip.flags.df == 0`), 0, 'no fragments, and none allowed');

  for (const [index, { name, frames, fields }] of DEPARTURES.entries()) {
    const vnetid = 100 + index;
    const packets = rows.filter((row) => row['vxlan.vni'][0] === `${vnetid}`);
    const expected = frames.map((frame) => toHex(encapsulated(vnetid, frame)));
    const payloads = packets.map((row) => row['udp.payload'][0]);
    t.same(payloads.sort(), expected.sort(), `${name}: header and frame, and not a byte more`);
    for (const [field, value] of Object.entries({ ...header, ...fields })) {
      const found = [...new Set(packets.map((row) => Number(row[field][0])))];
      t.same(found, [value], `${name}: ${field} is ${value}`);
    }
    if ('udp.srcport' in fields) continue;

    // RFC 7348 5: out of 49152-65535, the same for all frames of a flow, different for different flows.
    const flowsAndPorts = new Set(packets.map((row) => row['udp.srcport'].slice(0, 2).join()));
    const ports = [...flowsAndPorts].map((pair) => parseInt(pair, 10));
    const inRange = ports.every((port) => port >= 49_152 && port <= 65_535);
    t.ok(inRange, `${name}: source ports are in the range`);
    if (frames !== flows) continue;
    t.equal(flowsAndPorts.size, FLOWS, `${name}: every flow has one source port`);
    t.ok(new Set(ports).size > FLOWS / 3, `${name}: flows are spread over ${new Set(ports).size} ports`);
  }
}

// ---------------------------------------------------------------- what does not leave

await t.test('what does not leave the host', { skip: skipUnlessNetns() }, async (t) => {
  const { a, b, daemon } = await oneDaemon(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, '-t -p mtu=1000'));
  const untagged = { from: a.underlay.v4, to: b.underlay.v4, vnetid: 43, name: 'untagged0' };
  await daemon.ok(directOverlay(untagged, '-t -p vxlan/vlan=drop'));
  await daemon.ok(`create-vnic -t -l overlay0 -v 5 ${VNIC}`);
  // Wider than varpd made it: otherwise the device itself refuses what is too large.
  await a.ip('link set overlay0 mtu 1500');
  const [own, vnic] = [await a.macOf('overlay0'), await a.macOf(VNIC)];
  const [fits, exceeds] = [972, 973].map((bytes) => udpFrame({ payload: filler(bytes) }));
  const good = udpFrame();
  const nested = [1, 2, 3, 4, 5].reduce<Uint8Array>((frame, vlan) => withTag(frame, vlan), good);
  const arrived = await DatagramSink.open(b, b.underlay.v4, VXLAN_PORT);
  const inVnic = await FrameSink.open(a, VNIC);

  const rows: readonly (readonly [
    name: string,
    device: string,
    frame: Uint8Array,
    counted: Record<string, number>,
  ])[] = [
    ['larger than the MTU', 'overlay0', exceeds, { tx_too_big: 1 }],
    ['half a tag', 'overlay0', withTag(good, 5).subarray(0, 15), { tx_runt: 1 }],
    ['a tower of tags', 'overlay0', nested, { tx_vlan: 1 }],
    ['tagged, where tags are not carried', 'untagged0', withTag(good, 5), { tx_vlan: 1 }],
    ['tagged, by a VNIC of a VLAN', VNIC, withTag(good, 5), { tx_vlan: 1 }],
    ['to the port it came from', 'overlay0', udpFrame({ destinationMac: own }), { tx_hairpin: 1 }],
    ['to another port', 'overlay0', withTag(udpFrame({ destinationMac: vnic }), 5), { local_frames: 1 }],
  ];
  for (const [name, device, frame, counted] of rows) {
    const overlay = device === VNIC ? 'overlay0' : device;
    const grown = await daemon.counted(() => sendFrames(a, device, [frame]), overlay, counted);
    t.same(grown, counted, name);
  }
  t.same((await inVnic.waitFor(1)).map(toHex), [toHex(udpFrame({ destinationMac: vnic }))]);
  const send = async (): Promise<void> => {
    await sendFrames(a, 'overlay0', [fits]);
    await arrived.waitFor(1);
  };
  const last = await daemon.counted(send, 'overlay0', { tx_frames: 1 });
  t.match(last, { tx_frames: 1 }, 'the largest frame leaves');
  const payloads = arrived.datagrams.map(({ payload }) => toHex(payload));
  t.same(payloads, [toHex(encapsulated(42, fits))], 'and nothing else has');
});

// ---------------------------------------------------------------- what arrives

interface OverlayOf {
  readonly name: string;
  readonly vnetid: number;
  readonly family?: Family;
  readonly more?: string;
}

const OVERLAYS: readonly OverlayOf[] = [
  { name: 'overlay0', vnetid: 42 },
  { name: 'any0', vnetid: 43, more: '-p vxlan/accept=any' },
  { name: 'untagged0', vnetid: 44, more: '-p vxlan/vlan=drop' },
  { name: 'small0', vnetid: 45, more: '-p mtu=1000' },
  { name: 'six0', vnetid: 46, family: 'v6' },
  { name: 'lowest0', vnetid: 0 },
  { name: 'highest0', vnetid: 0xff_ffff },
];
/** What the table needs to know of the hosts. */
interface Site {
  readonly ownMac: string;
  readonly vnicMac: string;
  /** The packet around a datagram: from the peer to the listen port, checksums good, unless said otherwise. */
  readonly packet: (datagram: Uint8Array, more?: UdpFrame, family?: Family) => Uint8Array;
}

interface Arrival {
  readonly packets: readonly Uint8Array[];
  /** The device that is watched: the own port of an overlay, or the VNIC. */
  readonly device?: string;
  /** What it delivers. */
  readonly frames?: readonly Uint8Array[];
  /** By how much counters of the overlay grow, but for rx_frames and rx_bytes. */
  readonly counted?: Readonly<Record<string, number>>;
}

/** RFC 6040 4.2, figure 4: inner ECN, then outer, each in the order of ECN_FIELDS; undefined = dropped. */
const DECAPSULATED_ECN = [
  [0, 0, 0, undefined],
  [1, 1, 1, 3],
  [2, 1, 2, 3],
  [3, 3, 3, 3],
] as const;

/** The seven other flags and 24 + 8 reserved bits of RFC 7348 5, one by one, as bytes of the header. */
const RESERVED_BITS = [
  ...[0x80, 0x40, 0x20, 0x10, 0x04, 0x02, 0x01].map((bit) => ({ 0: 0x08 | bit })),
  ...[1, 2, 3, 7].flatMap((at) => [1, 2, 4, 8, 16, 32, 64, 128].map((bit) => ({ [at]: bit }))),
];

function withChecksum(packet: Uint8Array, value: number): Uint8Array {
  const changed = Uint8Array.from(packet);
  const field = changed[12] === 0x08 ? 40 : 60; // behind an IPv4 or an IPv6 header
  changed.set([value >> 8, value & 0xff], field);
  return changed;
}

function arrivals({ ownMac, vnicMac, packet }: Site): Readonly<Record<string, Arrival>> {
  const good = udpFrame();
  const carried = (frame: Uint8Array, header = {}): Uint8Array => packet(encapsulated(42, frame, header));
  const to = (destinationMac: string): Uint8Array => udpFrame({ destinationMac });
  const from = (sourceMac: string): Uint8Array => carried(udpFrame({ sourceMac }));
  const stranger = { source: '10.88.88.99' };
  const overV6 = packet(encapsulated(46, good), {}, 'v6');
  const twoTags = withTag(withTag(good, 5), 77, 0x88a8);
  const [fits, exceeds] = [972, 973].map((bytes) => udpFrame({ payload: filler(bytes) }));

  /** Each inner ECN with each outer one, in both families; `sourcePort` tells them apart. */
  const marks = FAMILIES.flatMap((family) =>
    ECN_FIELDS.flatMap((inner, row) =>
      ECN_FIELDS.map((outer, column) => {
        const ends = family === 'v4' ? {} : { source: 'fd55::1', destination: 'fd55::2' };
        const frame = (ecn: number): Uint8Array =>
          udpFrame({ ...ends, trafficClass: 0x28 | ecn, sourcePort: 100 + 4 * row + column });
        const result = DECAPSULATED_ECN[row][column];
        const sent = packet(encapsulated(42, frame(inner)), { trafficClass: outer });
        return { packet: sent, delivered: result === undefined ? [] : [frame(result)] };
      }),
    ),
  );

  return {
    'a good frame': { packets: [carried(good)], frames: [good] },
    'with a reserved bit: ignored, and counted': {
      packets: RESERVED_BITS.map((header) => carried(good, header)),
      frames: RESERVED_BITS.map(() => good),
      counted: { rx_reserved_bits: 39 },
    },
    'without the I flag': {
      packets: [carried(good, { 0: 0 }), carried(good, { 0: 0xf7 })],
      counted: { rx_no_vni: 2 },
    },
    'of a VNI that nobody has': {
      packets: [packet(encapsulated(99, good)), packet(encapsulated(42 << 8, good))],
      counted: { rx_unknown_vni: 2 },
    },
    'of the lowest VNI': { packets: [packet(encapsulated(0, good))], device: 'lowest0', frames: [good] },
    'of the highest VNI': {
      packets: [packet(encapsulated(0xff_ffff, good))],
      device: 'highest0',
      frames: [good],
    },
    'shorter than a VXLAN header': {
      packets: [0, 1, 4, 7].map((bytes) => packet(new Uint8Array(bytes).fill(8))),
      counted: { rx_truncated: 4 },
    },
    'shorter than an inner Ethernet header': {
      packets: Array.from({ length: 14 }, (_, bytes) => carried(good.subarray(0, bytes))),
      counted: { rx_runt: 14 },
    },
    'an inner Ethernet header and no more': {
      packets: [carried(good.subarray(0, 14))],
      frames: [good.subarray(0, 14)],
    },
    'shorter than the tag it says it has': {
      packets: [carried(withTag(good, 5).subarray(0, 17))],
      counted: { rx_runt: 1 },
    },
    'from a stranger': {
      packets: [packet(encapsulated(42, good), stranger)],
      counted: { rx_unknown_peer: 1 },
    },
    'from a stranger, where any may': {
      packets: [packet(encapsulated(43, good), stranger)],
      device: 'any0',
      frames: [good],
    },
    'from a group, from nobody': {
      packets: [from('01:00:5e:00:00:01'), from('00:00:00:00:00:00')],
      counted: { rx_bad_source: 2 },
    },
    'from MACs that ports of this host have, which have sent nothing lately': {
      packets: [from(ownMac), from(vnicMac)],
      frames: [ownMac, vnicMac].map((sourceMac) => udpFrame({ sourceMac })),
    },
    'tagged, once and twice': {
      packets: [carried(withTag(good, 77)), carried(twoTags)],
      frames: [withTag(good, 77), twoTags],
    },
    'tagged, where tags are not carried': {
      packets: [packet(encapsulated(44, withTag(good, 77))), packet(encapsulated(44, good))],
      device: 'untagged0',
      frames: [good],
      counted: { rx_vlan: 1 },
    },
    'tagged for the VNIC of that VLAN': {
      packets: [carried(withTag(to(vnicMac), 5)), carried(withTag(good, 5))],
      device: VNIC,
      frames: [to(vnicMac), good],
    },
    'for a VNIC, in the wrong VLAN': {
      packets: [carried(to(vnicMac)), carried(withTag(to(vnicMac), 6))],
      counted: { rx_no_port: 2 },
    },
    'for a MAC that nobody has: the own port takes it': {
      packets: [carried(to('02:00:00:00:12:34'))],
      frames: [to('02:00:00:00:12:34')],
      counted: { rx_unclaimed: 1 },
    },
    'the largest frame, and one byte more': {
      packets: [packet(encapsulated(45, fits)), packet(encapsulated(45, exceeds))],
      device: 'small0',
      frames: [fits],
      counted: { rx_too_big: 1 },
    },
    'without a checksum': { packets: [withChecksum(carried(good), 0)], frames: [good] },
    'with a wrong checksum: the kernel drops it': { packets: [withChecksum(carried(good), 0x1234)] },
    'over IPv6': { packets: [overV6], device: 'six0', frames: [good] },
    'over IPv6 without a checksum': {
      packets: [withChecksum(overV6, 0)],
      device: 'six0',
      frames: [good],
    },
    'over IPv6 with a wrong checksum': { packets: [withChecksum(overV6, 0x1234)], device: 'six0' },
    'every pair of congestion marks': {
      packets: marks.map((mark) => mark.packet),
      frames: marks.flatMap((mark) => mark.delivered),
      counted: { rx_ecn: 2 },
    },
  };
}

await t.test('what arrives at the host', { skip: skipUnlessNetns() }, arrives);

async function arrives(t: Test): Promise<void> {
  const { a, b, daemon } = await oneDaemon(t);
  for (const { name, vnetid, family = 'v4', more = '' } of OVERLAYS) {
    const ends = { from: a.underlay[family], to: b.underlay[family], vnetid, name };
    await daemon.ok(directOverlay(ends, `-t ${more}`));
  }
  await daemon.ok(`create-vnic -t -l overlay0 -v 5 ${VNIC}`);
  const sinks = new Map<string, FrameSink>();
  for (const device of [...OVERLAYS.map(({ name }) => name), VNIC])
    sinks.set(device, await FrameSink.open(a, device));
  const [sourceMac, destinationMac] = [await b.macOf(UNDERLAY_DEVICE), await a.macOf(UNDERLAY_DEVICE)];
  const packet: Site['packet'] = (payload, more = {}, family = 'v4') => {
    const ends = { source: b.underlay[family], destination: a.underlay[family] };
    const ports = { sourcePort: 50_000, destinationPort: VXLAN_PORT };
    return udpFrame({ sourceMac, destinationMac, ...ends, ...ports, payload, ...more });
  };
  const site = { ownMac: await a.macOf('overlay0'), vnicMac: await a.macOf(VNIC), packet };
  const reflected = await DatagramSink.open(b, b.underlay.v4, VXLAN_PORT);

  // Behind the packets of each row goes one that must arrive: then nothing has to be waited for that does not.
  const last = udpFrame({ sourcePort: 1, sourceMac: '02:00:00:00:00:ee' });
  for (const [name, row] of Object.entries(arrivals(site))) {
    const { packets, device = 'overlay0', frames = [], counted = {} } = row;
    const sink = sinks.get(device)!;
    const { vnetid, family, name: overlay } = OVERLAYS.find((one) => one.name === device) ?? OVERLAYS[0];
    const end = packet(encapsulated(vnetid, device === VNIC ? withTag(last, 5) : last), {}, family);
    const seen = sink.frames.length;
    const send = async (): Promise<void> => {
      await sendFrames(b, UNDERLAY_DEVICE, [...packets, end]);
      const ended = (): boolean => sink.frames.slice(seen).some((frame) => frame.equals(last));
      await waitUntil(ended, { what: `the end of "${name}"` });
    };
    const grown = await daemon.counted(send, overlay, counted);
    t.same(sink.frames.slice(seen, -1).map(toHex), frames.map(toHex), `${name}: what is delivered`);
    const others = Object.entries(grown).filter(([counter]) => !/^rx_(frames|bytes)$/.test(counter));
    t.same(Object.fromEntries(others), counted, `${name}: what is counted`);
  }

  // The kernel puts together what the underlay has fragmented; the overlay has no room for it.
  const send = async (): Promise<void> => {
    const [large, small] = [1600, 18].map((bytes) => encapsulated(42, udpFrame({ payload: filler(bytes) })));
    const seen = sinks.get('overlay0')!.frames.length;
    await sendDatagrams(b, { to: a.underlay.v4, port: VXLAN_PORT, payloads: [large, small] });
    await sinks.get('overlay0')!.waitFor(seen + 1);
  };
  const grown = await daemon.counted(send, 'overlay0', { rx_too_big: 1, rx_frames: 1 });
  t.match(grown, { rx_too_big: 1, rx_frames: 1 }, 'a datagram that came in fragments');
  t.same(reflected.datagrams, [], 'nothing that came out of the tunnel went back into it');
}
