// The rows V1 to V20 of the conformance tables, once for each encapsulation: what a tunnel endpoint must do (RFC 7348, and
// RFC 8926 where it says the same of Geneve). What differs from one to the other is in FACTS; a row reads nothing else of it.
// A row that a network in memory cannot show, since it has no checksums and no fragments, says where it is run instead.
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import {
  encapsulation,
  ENCAPSULATION_NAMES,
  type EncapsulationName,
  overheadBytes,
} from '../../src/encap/index.js';
import type { DropReason } from '../../src/model/drops.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { dhcpFrame, endpoint, frame, hex, Lab, MAC, packet, type Packet, type Tag } from '../helpers/lab.js';
import { fromRoot } from '../helpers/need.js';
import { asking as anyAsking, facing as anyFacing, inner, pair as anyPair, same } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

/** What its standard says of an encapsulation, written out by hand. */
interface Facts {
  readonly encap: EncapsulationName;
  /** The header that is sent in front of frames of network 0; the id is in bytes 4 to 6. */
  readonly plain: string;
  readonly udpPort: number;
  /** Bits that are sent as zero and ignored on receipt, and how many they are. */
  readonly reserved: { readonly mask: string; readonly count: number };
  /** Headers that name no network of Ethernet frames, by the reason for which each is dropped. */
  readonly invalid: Partial<Record<DropReason, readonly string[]>>;
  /** What the headers of a tunnel over IPv4, and over IPv6, take from the MTU. */
  readonly overhead: { readonly v4: number; readonly v6: number };
}

const twoDigits = (value: number): string => value.toString(16).padStart(2, '0');
const allBytes = Array.from({ length: 256 }, (_, value) => value);

const FACTS: Readonly<Record<EncapsulationName, Facts>> = {
  // RFC 7348 5
  vxlan: {
    encap: 'vxlan',
    plain: '08000000 00000000',
    udpPort: 4789,
    reserved: { mask: 'f7ffffff 000000ff', count: 39 },
    invalid: {
      // The I flag says that there is a VNI.
      rx_no_vni: allBytes
        .filter((flags) => (flags & 0x08) === 0)
        .map((flags) => `${twoDigits(flags)}000000 00006400`),
    },
    overhead: { v4: 50, v6: 70 },
  },
  // RFC 8926 3.4. There is a VNI in every header; version and protocol type say whether it is read as one of Ethernet frames.
  geneve: {
    encap: 'geneve',
    plain: '00006558 00000000',
    udpPort: 6081,
    reserved: { mask: '003f0000 000000ff', count: 14 },
    invalid: {
      rx_version: allBytes
        .filter((first) => first >= 0x40)
        .map((first) => `${twoDigits(first)}006558 00006400`),
      rx_protocol: ['00000000', '00000800', '000086dd', '00006559', '00006458', '00005865'].map(
        (head) => `${head} 00006400`,
      ),
      rx_control: ['00806558 00006400', '00c06558 00006400'],
      rx_critical_option: ['00406558 00006400'],
    },
    overhead: { v4: 50, v6: 70 },
  },
};

/** The header that is sent in front of frames of a network. */
function headerOf({ plain }: Facts, id = 100): Uint8Array {
  const header = fromHex(plain);
  header.set([id >> 16, (id >> 8) & 0xff, id & 0xff], 4);
  return header;
}

// -- The scenes of scenes.ts, with the encapsulation of the facts

type FacingOptions = Parameters<typeof anyFacing>[0];
const facing = ({ encap }: Facts, options?: FacingOptions, place = {}) =>
  anyFacing(options, { encapsulation: encap, ...place });
const pair = ({ encap }: Facts, options?: FacingOptions, addresses?: string[]) =>
  anyPair(options, addresses, 1500, { encapsulation: encap });
const asking = ({ encap }: Facts, options?: FacingOptions, senders = 1) =>
  anyAsking(options, { encapsulation: encap, senders });

const ADDRESSES = {
  v4: ['192.0.2.1', '192.0.2.2'],
  v6: ['2001:db8::1', '2001:db8::2'],
} as const;
const FAMILIES = ['v4', 'v6'] as const;
/** Tags that a guest may send. */
const STACKS: readonly Tag[][] = [[5], [0x6005], [[0x88a8, 5]], [[0x9100, 5], 6], [1, 2, 3, 4]];

// -- Rows

type Row =
  | { readonly says: string; readonly run: (t: Test, facts: Facts) => void }
  /** Why it is not run here, and the test that runs it, with a path below `test`. */
  | { readonly says: string; readonly because: string; readonly runBy: string };

const NO_CHECKSUMS = 'a network in memory has no checksums';
const NO_FRAGMENTS = 'a network in memory has no fragments';
const ON_THE_WIRE = 'netns/encap-wire.test.ts';

const ROWS: Readonly<Record<string, Row>> = {
  V1: { says: 'every header sent is the plain one and the id', run: headersSent },
  V2: { says: 'reserved bits are ignored, and counted', run: reservedBits },
  V3: { says: 'a header that names no network is dropped, with its reason', run: invalidHeaders },
  V4: { says: 'ids never mix', run: idsNeverMix },
  V5: { says: 'the UDP port is the registered one, or another that is set', run: udpPorts },
  V6: { says: 'the source port is chosen by the flow', run: sourcePorts },
  V7: { says: 'the checksum is sent as the property says', because: NO_CHECKSUMS, runBy: ON_THE_WIRE },
  V8: { says: 'a zero checksum is accepted', because: NO_CHECKSUMS, runBy: ON_THE_WIRE },
  V9: { says: 'a checksum that is sent is correct', because: NO_CHECKSUMS, runBy: ON_THE_WIRE },
  V10: { says: 'a wrong checksum is dropped', because: NO_CHECKSUMS, runBy: ON_THE_WIRE },
  V11: { says: 'what the path does not carry is dropped, never fragmented', run: neverFragmented },
  V12: { says: 'a datagram that came in fragments does no harm', because: NO_FRAGMENTS, runBy: ON_THE_WIRE },
  V13: { says: 'the headers have their room, to the byte', run: roomForHeaders },
  V14: { says: 'a tagged frame that arrives is dropped where tags are not carried', run: tagsThatArrive },
  V15: { says: 'a tagged frame is not sent where tags are not carried', run: tagsThatLeave },
  V16: { says: 'a datagram is a header and a whole Ethernet frame', run: wholeFrames },
  V17: { says: 'a broadcast goes nowhere but where the plugin says', run: groupFrames },
  V18: { says: 'the outer source is the listen address', run: outerSource },
  V19: { says: 'strangers are dropped, unless any may send', run: strangers },
  V20: { says: 'own, group and zero inner sources are dropped', run: badSources },
};

for (const name of ENCAPSULATION_NAMES) {
  const facts = FACTS[name];
  for (const [id, row] of Object.entries(ROWS)) {
    const title = `${encapsulation(name).title}, ${id}: ${row.says}`;
    if ('run' in row) {
      await t.test(title, (t) => {
        row.run(t, facts);
        t.end();
      });
    } else {
      await t.test(`${title}: not here, ${row.because}: ${row.runBy}`, (t) => {
        t.match(
          readFileSync(fromRoot(`test/${row.runBy}`), 'utf8'),
          new RegExp(`\\b${id}\\b`),
          'it is there',
        );
        t.end();
      });
    }
  }
}

t.test('there is a row for each number', (t) => {
  t.strictSame(
    Object.keys(ROWS),
    Array.from({ length: 20 }, (_, index) => `V${index + 1}`),
  );
  t.end();
});

function headersSent(t: Test, facts: Facts): void {
  const ids = [0, 1, 0x123456, 0xffffff];
  for (const family of FAMILIES) {
    for (const vnetid of ids) {
      const { lab, portA } = pair(facts, { vnetid, mtuBytes: 1430 }, [...ADDRESSES[family]]);
      for (let count = 0; count < 1000; count += 4)
        portA.send(
          frame(MAC.b, MAC.a, 14 + count),
          frame(MAC.all, MAC.a, 100, 5),
          packet({ trafficClass: count & 0xff }),
          packet({ version: 6, protocol: ipv4.TCP }),
        );
      const heads = lab.datagrams.map(({ bytes }) => hex(bytes.subarray(0, 8)));
      t.strictSame(
        [heads.length, [...new Set(heads)]],
        [1000, [hex(headerOf(facts, vnetid))]],
        `IP${family}, ${vnetid}`,
      );
    }
  }
}

function reservedBits(t: Test, facts: Facts): void {
  const { net, port, inject } = facing(facts);
  const mask = fromHex(facts.reserved.mask);
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => (mask[bit >> 3] & (0x80 >> (bit & 7))) !== 0,
  );
  const { count } = facts.reserved;
  t.equal(bits.length, count);
  for (const bit of bits) {
    const header = headerOf(facts);
    header[bit >> 3] |= 0x80 >> (bit & 7);
    inject(frame(MAC.a, MAC.b), hex(header));
  }
  t.equal(port.take().length, count);
  t.match(net.counters, { rx_frames: count, rx_reserved_bits: count });
  inject(frame(MAC.a, MAC.b), hex(headerOf(facts).map((byte, at) => byte | mask[at])));
  t.equal(port.take().length, 1, 'all of them at once');
  t.equal(net.counters.rx_reserved_bits, count + 1, 'are counted once');
  inject(frame(MAC.a, MAC.b));
  t.equal(net.counters.rx_reserved_bits, count + 1, 'a plain header is not counted');
  t.strictSame(net.drops, {});
}

function invalidHeaders(t: Test, facts: Facts): void {
  for (const [reason, headers] of Object.entries(facts.invalid)) {
    const { net, port, inject } = facing(facts);
    for (const header of headers) inject(frame(MAC.a, MAC.b), header);
    t.strictSame([port.take(), net.drops], [[], { [reason]: headers.length }], reason);
  }
  // The headers of the other encapsulations are such headers too.
  for (const other of ENCAPSULATION_NAMES.filter((name) => name !== facts.encap)) {
    const { net, port, inject } = facing(facts);
    inject(frame(MAC.a, MAC.b), hex(headerOf(FACTS[other])));
    const [reason] = Object.keys(net.drops);
    t.strictSame([port.take(), net.drops], [[], { [reason]: 1 }], other);
    t.ok(reason in facts.invalid, `${other}: ${reason}`);
  }
  const { net, port, inject } = facing(facts);
  for (let bytes = 0; bytes < 8; bytes++) inject(new Uint8Array(0), hex(headerOf(facts).subarray(0, bytes)));
  t.strictSame([port.take(), net.drops], [[], { rx_truncated: 8 }], 'half a header');
}

function idsNeverMix(t: Test, facts: Facts): void {
  const lab = new Lab();
  const [a, b] = ADDRESSES.v4.map((ip) => lab.vtep(ip, { encapsulation: facts.encap }));
  const ids = [0, 1, 0xffffff, 0x00ff00, 256];
  // The MACs are the same in all of them.
  const sides = ids.map((vnetid) => {
    const [netA, netB] = [
      a.overlay({ vnetid, destination: b.endpoint }),
      b.overlay({ vnetid, destination: a.endpoint }),
    ];
    return { from: netA.port(MAC.a, { own: true }), to: netB.port(MAC.b, { own: true }), netA, netB };
  });
  sides.forEach(({ from }, index) => {
    from.send(frame(MAC.b, MAC.a, 60 + index), frame(MAC.all, MAC.a, 100 + index));
  });
  sides.forEach(({ to, netA, netB }, index) => {
    same(
      t,
      to.take(),
      [frame(MAC.b, MAC.a, 60 + index), frame(MAC.all, MAC.a, 100 + index)],
      `id ${ids[index]}`,
    );
    t.strictSame([netA.drops, netB.drops], [{}, {}]);
  });
  t.strictSame(
    lab.datagrams.filter((_, index) => index % 2 === 0).map(({ bytes }) => hex(bytes.subarray(4, 8))),
    ['00000000', '00000100', 'ffffff00', '00ff0000', '00010000'],
  );
  sides[1].netB.remove();
  sides[1].from.send(frame(MAC.b, MAC.a));
  sides[0].from.send(frame(MAC.b, MAC.a));
  t.equal(sides[0].to.take().length, 1, 'the others go on');
  t.strictSame(sides[0].netB.drops, { rx_unknown_vni: 1 }, 'an id that nobody has');
}

function udpPorts(t: Test, facts: Facts): void {
  const { encap, udpPort } = facts;
  t.equal(encapsulation(encap).defaultPort, udpPort);
  const listenPort = overlaySpecs(encapsulation(encap), [], []).find(
    ({ name }) => name === `${encap}/listen_port`,
  );
  t.match(listenPort, { default: `${udpPort}`, permission: 'rw', min: 1, max: 65535 });
  const { lab, net, port } = asking(facts);
  const places = [udpPort, 1, 5555, 65535].map((number) => endpoint('192.0.2.2', number));
  for (const place of places) {
    net.setTarget(MAC.b, [place]);
    port.send(frame(MAC.b, MAC.a));
  }
  t.strictSame(
    lab.datagrams.map(({ to }) => to),
    places,
    'sent to the port of the destination',
  );
}

function sourcePorts(t: Test, facts: Facts): void {
  const portsOf = (frames: readonly Uint8Array[], senders: number): number[] => {
    const { lab, net, port, peer } = asking(facts, {}, senders);
    net.setTarget(MAC.b, [peer.local]);
    port.send(...frames);
    return lab.datagrams.map(({ from }) => from.port);
  };
  const kinds: Packet[] = [{}, { protocol: ipv4.TCP }, { version: 6 }];
  for (const kind of kinds) {
    const flows = allBytes.map((flow) => packet({ ...kind, ports: [40000 + flow, 5001] }));
    const ports = portsOf(flows, 256);
    t.ok(ports.every((port) => port >= 49152 && port <= 65535));
    t.ok(new Set(ports).size >= 100, `${new Set(ports).size} of 256 ports for 256 flows`);
    t.strictSame(portsOf(flows, 256), ports, 'the same flow, the same port');
    t.equal(new Set(portsOf(flows, 1)).size, 1, 'one port, where there is one');
  }
  const ofOneFlow = allBytes.map((bytes) => packet({ payloadBytes: bytes, trafficClass: bytes & 3 }));
  t.equal(new Set(portsOf(ofOneFlow, 256)).size, 1, 'all of a flow from one');
}

function neverFragmented(t: Test, facts: Facts): void {
  for (const family of FAMILIES) {
    const { lab, netA, portA, portB } = pair(facts, { mtuBytes: 1500 }, [...ADDRESSES[family]]);
    const largest = 1514 - facts.overhead[family];
    portA.send(frame(MAC.b, MAC.a, largest), frame(MAC.b, MAC.a, largest + 1), frame(MAC.b, MAC.a));
    same(t, portB.take(), [frame(MAC.b, MAC.a, largest), frame(MAC.b, MAC.a)], 'the next one is not harmed');
    t.equal(lab.datagrams.length, 2);
    t.strictSame(netA.drops, { tx_path_mtu: 1 });
  }
  const { net, port, inject, peer } = facing(facts, { mtuBytes: 1000 });
  for (const tags of [[], [5], [5, 6]] as Tag[][]) {
    const bytes = 1014 + 4 * tags.length;
    port.send(frame(MAC.b, MAC.a, bytes, ...tags), frame(MAC.b, MAC.a, bytes + 1, ...tags));
    inject(frame(MAC.a, MAC.b, bytes, ...tags));
    inject(frame(MAC.a, MAC.b, bytes + 1, ...tags));
  }
  t.strictSame([port.take().length, peer.take().length], [3, 3], 'the MTU is exact, both ways, tags apart');
  t.strictSame(net.drops, { tx_too_big: 3, rx_too_big: 3 });
}

function roomForHeaders(t: Test, facts: Facts): void {
  for (const [family, version] of [
    ['v4', 4],
    ['v6', 6],
  ] as const) {
    const overhead = facts.overhead[family];
    t.equal(overheadBytes(encapsulation(facts.encap), version), overhead);
    const { lab, netA, portA, portB } = pair(facts, { mtuBytes: 1500 }, [...ADDRESSES[family]]);
    const fits = packet({ payloadBytes: 1500 - overhead - 28 });
    portA.send(fits, packet({ payloadBytes: 1500 - overhead - 28 + 1 }));
    same(t, portB.take(), [fits], `IP${family}: the largest packet`);
    const udpAndIp = version === 4 ? 28 : 48;
    t.equal(lab.datagrams[0].bytes.length + udpAndIp, 1500, 'fills the path exactly');
    const [answer] = portA.take();
    t.equal((answer[40] << 8) | answer[41], 1500 - overhead, 'the sender of a larger one is told its size');
    t.match(netA.counters, { tx_path_mtu: 1, too_big_answers: 1 });
  }
}

function tagsThatArrive(t: Test, facts: Facts): void {
  const [keep, drop] = [facing(facts), facing(facts, { carryTags: false })];
  const tagged = STACKS.map((tags) => frame(MAC.a, MAC.b, 100, ...tags));
  for (const { inject } of [keep, drop]) {
    for (const bytes of tagged) inject(bytes);
    inject(frame(MAC.a, MAC.b));
  }
  same(t, keep.port.take(), [...tagged, frame(MAC.a, MAC.b)], 'keep');
  same(t, drop.port.take(), [frame(MAC.a, MAC.b)], 'drop: what has no tag passes');
  t.strictSame([keep.net.drops, drop.net.drops], [{}, { rx_vlan: 5 }]);
}

function tagsThatLeave(t: Test, facts: Facts): void {
  const [keep, drop] = [facing(facts), facing(facts, { carryTags: false })];
  const tagged = STACKS.map((tags) => frame(MAC.b, MAC.a, 100, ...tags));
  for (const { port } of [keep, drop]) port.send(...tagged, frame(MAC.b, MAC.a));
  same(t, inner(keep.peer), [...tagged, frame(MAC.b, MAC.a)], 'keep');
  same(t, inner(drop.peer), [frame(MAC.b, MAC.a)], 'drop: what has no tag passes');
  t.strictSame([keep.net.drops, drop.net.drops], [{}, { tx_vlan: 5 }]);
}

function wholeFrames(t: Test, facts: Facts): void {
  const { net, port, inject, peer } = facing(facts);
  const frames = [14, 15, 60, 61, 200, 1444].map((bytes) => frame(MAC.b, MAC.a, bytes));
  port.send(...frames);
  t.strictSame(
    peer.take().map(({ bytes }) => hex(bytes)),
    frames.map((bytes) => hex(headerOf(facts)) + hex(bytes)),
    'nothing between, no FCS',
  );
  const whole = frame(MAC.a, MAC.b, 14);
  for (let bytes = 0; bytes < 14; bytes++) inject(whole.subarray(0, bytes));
  t.strictSame([port.take(), net.drops], [[], { rx_runt: 14 }]);
  inject(whole);
  same(t, port.take(), [whole], '14 bytes pass');
}

function groupFrames(t: Test, facts: Facts): void {
  const groups = [MAC.all, 0x3333_0000_0001, MAC.group, 0x0180_c200_0000];
  const { lab, vtep, net, port, peer } = asking(facts);
  vtep.resolve = () => ({ kind: 'drop', reason: 'tx_group' });
  for (const group of groups) port.send(frame(group, MAC.a), frame(group, MAC.a, 1000));
  port.send(packet({ to: MAC.all }), packet({ version: 6, to: groups[1] }), dhcpFrame());
  t.strictSame(
    [lab.datagrams, net.drops],
    [[], { tx_group: 2 * groups.length + 3 }],
    'nowhere: each is counted',
  );
  vtep.resolve = () => ({ kind: 'target', to: [peer.local], ttlMs: 0 });
  port.send(frame(MAC.all, MAC.a));
  same(t, inner(peer), [frame(MAC.all, MAC.a)], 'to the one place that the plugin says');
  vtep.resolve = () => ({ kind: 'drop', reason: 'lookup_drop' });
  port.send(frame(MAC.d, MAC.a));
  t.match([lab.datagrams.length, net.drops], [1, { lookup_drop: 1 }], 'nor is an unknown MAC flooded');
  const point = facing(facts);
  for (const group of groups) point.port.send(frame(group, MAC.a));
  t.equal(inner(point.peer).length, groups.length, 'with one destination for all, to that one');
}

function outerSource(t: Test, facts: Facts): void {
  for (const family of FAMILIES) {
    const lab = new Lab();
    const [a, b] = ADDRESSES[family].map((ip) => lab.vtep(ip, { encapsulation: facts.encap, senders: 64 }));
    const [netA, netB] = [a.overlay({ destination: b.endpoint }), b.overlay({ destination: a.endpoint })];
    const [portA, portB] = [netA.port(MAC.a), netB.port(MAC.b)];
    portA.send(...allBytes.map((flow) => packet({ ports: [flow, 1] })), frame(MAC.all, MAC.a));
    t.strictSame(new Set(lab.datagrams.map(({ from }) => from.ip)), new Set([a.endpoint.ip]), `IP${family}`);
    lab.datagrams.length = 0;
    portB.send(frame(MAC.a, MAC.b));
    t.strictSame(
      lab.datagrams.map(({ from }) => from.ip),
      [b.endpoint.ip],
      'and back',
    );
  }
}

function strangers(t: Test, facts: Facts): void {
  for (const [family, stranger] of [
    ['v4', '192.0.2.66'],
    // Addresses are compared whole.
    ['v6', '2001:db8:0:1::2'],
  ] as const) {
    const [ip, peerIp] = ADDRESSES[family];
    for (const acceptAny of [false, true]) {
      const { lab, vtep, net, port, inject } = facing(facts, { acceptAny }, { ip, peerIp });
      lab.inject(lab.peer(stranger), vtep, hex(headerOf(facts)), frame(MAC.a, MAC.c));
      inject(frame(MAC.a, MAC.b));
      same(
        t,
        port.take(),
        [...(acceptAny ? [frame(MAC.a, MAC.c)] : []), frame(MAC.a, MAC.b)],
        `IP${family}, accept=${acceptAny ? 'any' : 'known'}`,
      );
      t.strictSame(net.drops, acceptAny ? {} : { rx_unknown_peer: 1 });
    }
  }
}

function badSources(t: Test, facts: Facts): void {
  const { net, port, inject } = facing(facts);
  const second = net.port(MAC.c);
  port.send(frame(MAC.all, MAC.a));
  second.send(frame(MAC.all, MAC.c));
  t.equal(port.take().length + second.take().length, 2);
  for (const source of [MAC.a, MAC.c, MAC.group, MAC.all, 0]) inject(frame(MAC.all, source));
  t.strictSame([port.take(), second.take(), net.drops], [[], [], { rx_bad_source: 5 }]);
  second.remove();
  inject(frame(MAC.a, MAC.c));
  t.equal(port.take().length, 1, 'a port that is gone is not ours');
}
