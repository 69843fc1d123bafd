// Superframes, segment by segment, between varpd and a peer that shares no code with it: the kernel's vxlan. What goes
// in is made by hand and so is what must come out (helpers/superframe.ts); with offload=off the sender's own kernel
// does the cutting, so the same expectation is held against it, too.
import path from 'node:path';

import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as d from '../../src/wire/descriptor.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { filler, toHex, udpFrame } from '../helpers/frames.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';
import {
  frameOf,
  packetOf,
  type Packet,
  PLAIN,
  segmentsOf,
  superframeFields,
} from '../helpers/superframe.js';
import { DatagramSink, FrameSink, reaches, sendFrames, transferTcp } from '../helpers/traffic.js';
import { part, usual } from '../helpers/whole.js';

const VNETID = 42;
const MEGABYTE = 1_000_000;
const OFFLOADS = ['auto', 'off'] as const;
/** RFC 1191: what a link of 1500 bytes leaves inside VXLAN over IPv4. */
const INNER_MTU = 1450;

interface Tunnel {
  readonly bed: Bed;
  /** varpd, with overlay0. */
  readonly a: Namespace;
  /** The kernel, with vx0. */
  readonly b: Namespace;
  readonly daemon: Daemon;
}

async function tunnel(t: Test, offload: 'auto' | 'off', more?: string): Promise<Tunnel> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  const ends = { from: a.underlay.v4, to: b.underlay.v4, vnetid: VNETID };
  await daemon.ok(directOverlay(ends, `-p offload=${offload}${more === undefined ? '' : `,${more}`}`));
  await addKernelVxlan(b, { vnetid: VNETID, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip(`link set vx0 mtu ${INNER_MTU}`);
  await a.plumb('overlay0');
  await b.plumb('vx0');
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemon };
}

// ---------------------------------------------------------------- superframes made by hand

interface Case {
  readonly name: string;
  readonly of: Partial<Packet>;
  readonly segmentBytes: number;
}

const V6: Partial<Packet> = { version: 6, identification: 0, dontFragment: false };
const TIMESTAMPS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7); // RFC 7323 3.2
/** 4 no-operations (RFC 791 3.1): nobody on the way has reason to change them. */
const IP_OPTIONS = Uint8Array.of(1, 1, 1, 1);
const PADDING = { type: ipv6.DESTINATION_OPTIONS, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) }; // RFC 8200 4.6
const { ACK, CWR, ECE, FIN, PSH } = tcp;

const CASES: readonly Case[] = [
  { name: 'plain', of: {}, segmentBytes: 1410 },
  { name: 'an odd MSS', of: { payload: filler(7 * 777 + 5) }, segmentBytes: 777 },
  { name: 'a tiny odd MSS', of: { payload: filler(40 * 37 + 1) }, segmentBytes: 37 },
  { name: 'PSH and FIN: on the last alone', of: { flags: ACK | PSH | FIN }, segmentBytes: 1001 },
  {
    name: 'CWR: on the first alone; ECE: on all',
    of: { flags: ACK | CWR | ECE, trafficClass: 2 },
    segmentBytes: 1001,
  },
  { name: 'ECT(1) and a DSCP', of: { trafficClass: 0x29 }, segmentBytes: 1400 },
  { name: 'IP ids that run over', of: { identification: 0xfffe }, segmentBytes: 1400 },
  { name: 'sequence numbers that run over', of: { sequence: 0xffff_fff0 }, segmentBytes: 1400 },
  { name: 'timestamps', of: { tcpOptions: TIMESTAMPS }, segmentBytes: 1398 },
  { name: 'IP options', of: { options: IP_OPTIONS }, segmentBytes: 1401 },
  { name: 'IPv6', of: V6, segmentBytes: 1390 },
  {
    name: 'IPv6 with all flags',
    of: { ...V6, flags: ACK | PSH | FIN | CWR | ECE, trafficClass: 2 },
    segmentBytes: 999,
  },
  { name: 'IPv6 with an extension header', of: { ...V6, extension: PADDING }, segmentBytes: 1377 },
  { name: 'a VLAN tag', of: { tags: [5] }, segmentBytes: 1398 },
  { name: 'two VLAN tags, IPv6', of: { ...V6, tags: [5, 6] }, segmentBytes: 1301 },
  { name: 'UDP', of: { protocol: 'udp', flags: 0 }, segmentBytes: 1401 },
  { name: 'UDP over IPv6', of: { ...V6, protocol: 'udp', flags: 0 }, segmentBytes: 1301 },
];

const PAYLOAD = filler(5 * 1400 + 11);
const packetFor = ({ of }: Case): Packet => ({ ...PLAIN, payload: PAYLOAD, ...of });

/** As PACKET_VNET_HDR takes it: the virtio-net header, then the superframe. */
function withHeader(packet: Packet, segmentBytes: number): Uint8Array {
  const fields = superframeFields(packet, segmentBytes);
  const header = new DataView(new ArrayBuffer(10));
  header.setUint8(0, fields[d.FLAGS]);
  header.setUint8(1, fields[d.GSO_TYPE]);
  [d.HEADER_BYTES, d.GSO_SIZE, d.CSUM_START, d.CSUM_OFFSET].forEach((name, index) => {
    header.setUint16(2 + 2 * index, fields[name], true);
  });
  return Uint8Array.from([...new Uint8Array(header.buffer), ...frameOf(packet, 'partial')]);
}

/** Whether a frame was made here, and not by a stack that has something to say meanwhile: by its source MAC. */
const isOwn = (frame: Uint8Array): boolean => toHex(frame.subarray(6, 12)) === '02000000000a';

/** What enters a device, as it would be on a wire: superframes cut, and checksums finished that were left to it. */
class Wire {
  #seen = 0;

  private constructor(readonly sink: FrameSink) {}

  static async open(t: Test, host: Namespace, device: string): Promise<Wire> {
    const sink = await FrameSink.open(host, device);
    t.teardown(() => sink.close());
    return new Wire(sink);
  }

  /** Frames made here that have come in since the last time, once there are so many; or those that have after a while. */
  async next(count: number, segmentBytes: number): Promise<string[]> {
    let found: string[] = [];
    const isThere = (): boolean => {
      found = this.#since(segmentBytes);
      return found.length >= count;
    };
    await waitUntil(isThere, { stepMs: 10, what: 'frames' }).catch(() => undefined);
    this.#seen = this.sink.frames.length;
    return found;
  }

  #since(segmentBytes: number): string[] {
    const { frames, partialChecksum } = this.sink;
    return frames.slice(this.#seen).flatMap((frame, index) => {
      if (!isOwn(frame)) return [];
      if (!partialChecksum[this.#seen + index]) return [toHex(frame)];
      return segmentsOf(packetOf(frame), segmentBytes).map((segment) => toHex(frameOf(segment)));
    });
  }
}

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const offload of OFFLOADS) {
  t.test(`superframes by hand, offload ${offload}`, { skip: skipUnlessNetns(['ethtool']) }, async (t) => {
    const { a, b } = await tunnel(t, offload);
    // Otherwise the receiving kernel puts together again what varpd has cut.
    await b.exec('ethtool -K vx0 gro off');
    const ways = [
      { name: 'out', from: a, device: 'overlay0', arrivals: await Wire.open(t, b, 'vx0') },
      { name: 'in', from: b, device: 'vx0', arrivals: await Wire.open(t, a, 'overlay0') },
    ];
    for (const each of CASES) {
      const packet = packetFor(each);
      const expected = segmentsOf(packet, each.segmentBytes).map((segment) => toHex(frameOf(segment)));
      for (const { name, from, device, arrivals } of ways) {
        const sent = await sendFrames(from, device, [withHeader(packet, each.segmentBytes)], {
          vnet: true,
        });
        t.equal(sent.code, 0, sent.stderr);
        t.same(await arrivals.next(expected.length, each.segmentBytes), expected, `${each.name}, ${name}`);
      }
    }
  });
}

// ---------------------------------------------------------------- what a bridge forwards

/** As large as a sender with the default gso_max_size of 65,536 makes them: IP header and all, less than 300 bytes short. */
const LARGEST_BYTES = 65_200;
const FORWARDED: readonly { readonly name: string; readonly of: Partial<Packet> }[] = [
  { name: 'TCP', of: { tcpOptions: TIMESTAMPS } },
  { name: 'TCP over IPv6', of: { ...V6, tcpOptions: TIMESTAMPS } },
  { name: 'UDP', of: { protocol: 'udp', flags: 0 } },
  { name: 'UDP over IPv6', of: { ...V6, protocol: 'udp', flags: 0 } },
];
/** Frames that the stack has handed over to a device. */
const takenFrom = async (host: Namespace, device: string): Promise<number> =>
  (
    JSON.parse(await host.ip(`-j -s link show dev ${device}`)) as { stats64: { tx: { packets: number } } }[]
  )[0].stats64.tx.packets;

/** Until the tap has been asked for as many as come at once. */
const REPEATS = 10;

t.test(
  'the largest superframes, out of a guest behind a bridge',
  { skip: skipUnlessNetns(['ethtool']) },
  async (t) => {
    for (const mtuBytes of usual([INNER_MTU, 1400, 1280], (bytes) => bytes === 1400)) {
      const { bed, a, b } = await tunnel(t, 'auto', `mtu=${mtuBytes}`);
      await b.exec('ethtool -K vx0 gro off');
      const guest = await bed.host();
      await a.ip('link add br0 type bridge mcast_snooping 0');
      await a.ip(`link add guest0 type veth peer eth0 netns ${guest.name}`);
      for (const device of ['br0', 'guest0']) {
        await a.quietIpv6(device);
        await a.ip(`link set ${device} mtu ${mtuBytes} up`);
      }
      for (const port of ['overlay0', 'guest0']) await a.ip(`link set ${port} master br0`);
      await guest.quietIpv6('eth0');
      await guest.ip(`link set eth0 mtu ${mtuBytes} up`);
      const arrivals = await Wire.open(t, b, 'vx0');
      for (const { name, of } of FORWARDED) {
        const bare = frameOf({ ...PLAIN, ...of }).length;
        const segmentBytes = mtuBytes - (bare - 14);
        const count = Math.floor((LARGEST_BYTES - bare) / segmentBytes);
        const packet = { ...PLAIN, ...of, payload: filler(count * segmentBytes) };
        const expected = segmentsOf(packet, segmentBytes).map((segment) => toHex(frameOf(segment)));
        const handedOver = await takenFrom(a, 'overlay0');
        const frames = Array<Uint8Array>(REPEATS).fill(withHeader(packet, segmentBytes));
        const sent = await sendFrames(guest, 'eth0', frames, { vnet: true });
        t.equal(sent.code, 0, sent.stderr);
        const seen = await arrivals.next(REPEATS * count, segmentBytes);
        t.ok(
          seen.length === REPEATS * count && seen.every((frame, index) => frame === expected[index % count]),
          `mtu ${mtuBytes}, ${name}: ${seen.length} of ${REPEATS} times ${count} segments, as they should be`,
        );
        const uncut = (await takenFrom(a, 'overlay0')) - handedOver;
        t.ok(uncut < 2 * REPEATS, `handed over whole: ${uncut} frames`);
      }
    }
  },
);

// ---------------------------------------------------------------- what a network does to a flow

/** Segments of one flow, as they leave the peer one after the other. */
const HISTORIES: readonly { readonly name: string; readonly of: (segments: Uint8Array[]) => Uint8Array[] }[] =
  [
    { name: 'in order', of: (segments) => segments },
    { name: 'backwards', of: (segments) => segments.toReversed() },
    { name: 'two swapped', of: ([a, b, c, ...rest]) => [a, c, b, ...rest] },
    { name: 'each sent twice', of: (segments) => segments.flatMap((each) => [each, each]) },
    { name: 'one lost and sent again at the end', of: ([a, b, ...rest]) => [a, ...rest, b] },
    {
      name: 'a retransmission that overlaps the next one',
      of: ([a, b, c, ...rest]) => {
        const [first, second] = [packetOf(b), packetOf(c)];
        const both = { ...first, payload: Uint8Array.from([...first.payload, ...second.payload]) };
        return [a, b, frameOf(both), c, ...rest];
      },
    },
    {
      name: 'some with a bit that is wrong',
      of: (segments) =>
        segments.map((each, index) => {
          if (index % 3 !== 1) return each;
          const spoilt = each.slice();
          spoilt[each.length - 1 - index] ^= 4;
          return spoilt;
        }),
    },
  ];

const HISTORY_BYTES = 400;

for (const offload of OFFLOADS) {
  t.test(
    `out of order, twice, spoilt, offload ${offload}`,
    { skip: skipUnlessNetns(['ethtool', 'nstat']) },
    async (t) => {
      const { a, b } = await tunnel(t, offload);
      // The receiving kernel puts datagrams together, so that runs arrive.
      await a.exec(`ethtool -K ${UNDERLAY_DEVICE} gro on`);
      const arrivals = await Wire.open(t, a, 'overlay0');
      for (const shape of [{}, V6]) {
        const payload = filler(24 * HISTORY_BYTES);
        const segments = segmentsOf({ ...PLAIN, payload, ...shape }, HISTORY_BYTES).map((each) =>
          frameOf(each),
        );
        for (const { name, of } of HISTORIES) {
          const frames = of(segments);
          await sendFrames(b, 'vx0', frames);
          const seen = await arrivals.next(frames.length, HISTORY_BYTES);
          t.same(
            seen,
            frames.map(toHex),
            `IPv${'version' in shape ? 6 : 4} ${name}: every byte, in the order sent`,
          );
        }
      }
      await claims(t, a, b);
    },
  );
}

/** What arrives spoilt is spoilt for the stack, too: nobody has told it that the checksum was good. */
async function claims(t: Test, a: Namespace, b: Namespace): Promise<void> {
  const macs = { sourceMac: await b.macOf('vx0'), destinationMac: await a.macOf('overlay0') };
  for (const [family, counter] of [
    ['v4', 'UdpInCsumErrors'],
    ['v6', 'Udp6InCsumErrors'],
  ] as const) {
    const sink = await DatagramSink.open(a, a.overlay[family]);
    const ends = { source: b.overlay[family], destination: a.overlay[family], destinationPort: sink.port };
    const payloads = Array.from({ length: 12 }, (_, index) => filler(300).fill(index, 0, 8));
    const frames = payloads.map((payload) => udpFrame({ ...macs, ...ends, payload }));
    const isSpoilt = (index: number): boolean => index % 4 === 2;
    frames.filter((_, index) => isSpoilt(index)).forEach((frame) => (frame[frame.length - 20] ^= 1));
    await sendFrames(b, 'vx0', frames);
    const good = payloads.filter((_, index) => !isSpoilt(index)).map(toHex);
    await sink.waitFor(good.length);
    const errors = async (): Promise<number> =>
      Number(new RegExp(`${counter}\\s+(\\d+)`).exec(await a.exec(`nstat -asz ${counter}`))?.[1]);
    await waitUntil(async () => (await errors()) >= 3, { what: 'wrong checksums to be counted' });
    t.same(
      sink.datagrams.map(({ payload }) => toHex(payload)),
      good,
      `IP${family}: the good ones arrive, and no other`,
    );
    t.equal(await errors(), 3, 'the stack has looked, and found the others wrong');
    await sink.close();
  }
}

// ---------------------------------------------------------------- refused by the kernel, later

/** errno(3) of Linux. */
const REFUSALS = { EIO: 5, EINVAL: 22, EMSGSIZE: 90 } as const;
/** Longer than any frame of one segment. */
const MANY = 'greater 1700';

t.test(
  'a destination that takes no message of many frames',
  { skip: skipUnlessNetns(['tcpdump']) },
  async (t) => {
    const library = path.join(new Bed().directory(), 'refuse.so');
    const source = fromRoot('test/helpers/refuse-segmentation.c');
    await exec([process.env['CC'] ?? 'cc', '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
    for (const [code, errno] of usual(Object.entries(REFUSALS), ([name]) => name !== 'EINVAL')) {
      const bed = new Bed();
      t.teardown(() => bed.cleanup());
      const hosts = await bed.hostsOnSwitch(3);
      const [a, refusing, other] = hosts;
      const env = { LD_PRELOAD: library, REFUSE_TO: refusing.underlay.v4, REFUSE_ERRNO: `${errno}` };
      const daemon = (await Daemon.start(bed, a, { env, withoutRoot: true })).explain(t);
      for (const [index, peer] of [refusing, other].entries()) {
        const [vnetid, name] = [VNETID + index, `overlay${index}`];
        await daemon.ok(directOverlay({ from: a.underlay.v4, to: peer.underlay.v4, vnetid, name }));
        await addKernelVxlan(peer, { vnetid, local: peer.underlay.v4, remote: a.underlay.v4 });
        await peer.plumb('vx0', { mtuBytes: INNER_MTU });
      }
      const columns = 'show-overlay -p -o link,offloads,refused';
      const offloads = `checksum,tso,uso,train,coalesce${extra.probeFeatures().tapTunnelSegmentation ? ',nested' : ''}`;
      t.equal(await daemon.ok(columns), `overlay0:${offloads}:0\noverlay1:${offloads}:0\n`, 'before');
      for (const [index, peer] of [refusing, other].entries()) {
        await a.ip('addr flush dev overlay0 scope global');
        await a.ip('addr flush dev overlay1 scope global');
        await a.plumb(`overlay${index}`);
        t.ok(await reaches(a, peer.overlay.v4));
        const capture = await Capture.start(
          bed,
          a,
          UNDERLAY_DEVICE,
          `dst host ${peer.underlay.v4} and ${MANY}`,
        );
        const { exact } = await transferTcp(a, peer, { bytes: part(5 * MEGABYTE) });
        t.ok(exact, `${code}: TCP to ${index === 0 ? 'the one that refuses' : 'the other one'}`);
        const many = await capture.count('');
        if (index === 0) t.equal(many, 0, 'goes frame by frame');
        else t.ok(many > 0, 'goes many frames at once');
      }
      t.equal(
        await daemon.ok(columns),
        `overlay0:${offloads}:1\noverlay1:${offloads}:0\n`,
        'and that is shown',
      );
      for (const { name, counters } of await daemon.overlays()) {
        const lost = Object.entries(counters).filter(
          ([key, count]) => count > 0 && /^tx_(path|queue|err|unr)/.test(key),
        );
        t.same(lost, [], `${name}: nothing was lost`);
      }
    }
  },
);
