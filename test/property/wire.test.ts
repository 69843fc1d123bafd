// Laws of src/wire that hold for all values, and behaviour that must hold for all bytes.

import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import * as arp from '../../src/wire/arp.js';
import * as checksum from '../../src/wire/checksum.js';
import { describe } from '../../src/wire/describe.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ip from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as loopback from '../../src/wire/loopback.js';
import * as mac from '../../src/wire/mac.js';
import * as ndp from '../../src/wire/ndp.js';
import * as pcapng from '../../src/wire/pcapng.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtioNet from '../../src/wire/virtio-net.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { holds } from '../helpers/law.js';
import { frame, vectors, type Name } from '../vectors/frames.js';

const names = Object.keys(vectors) as Name[];

const bit8 = fc.nat(0xff);
const bit16 = fc.nat(0xffff);
const bit32 = fc.nat(0xffff_ffff);
const macs = fc.nat(mac.BROADCAST);
const bytesUpTo = (maxLength: number) => fc.uint8Array({ maxLength });
const addressesV4 = fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => ip.readV4(bytes, 0));
/** Many zero groups, as real addresses have. */
const sixteenBytes = fc
  .array(fc.oneof(fc.constant(0), bit16, fc.constant(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])));
const addresses = sixteenBytes.map((bytes) => ip.readV6(bytes, 0));

function same(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

await t.test('mac: number, text and bytes are one', (t) => {
  holds(t, 'text', [macs], (address) => mac.parseMac(mac.formatMac(address)) === address);
  holds(t, 'bytes', [macs], (address) => {
    const bytes = new Uint8Array(8).fill(0xa5);
    mac.writeMac(bytes, 1, address);
    const halves = mac.macHigh(bytes, 1) * 2 ** 32 + (mac.macLow(bytes, 1) >>> 0);
    return mac.readMac(bytes, 1) === address && halves === address && bytes[0] === 0xa5 && bytes[7] === 0xa5;
  });
  holds(t, 'any text is refused or canonical', [fc.string({ maxLength: 20 })], (text) => {
    const address = mac.parseMac(text);
    return address === undefined || mac.parseMac(mac.formatMac(address)) === address;
  });
  holds(
    t,
    'one more character is refused',
    [macs, fc.nat(16), fc.string({ unit: 'binary', minLength: 1, maxLength: 2 })],
    (address, at, extra) => {
      const text = mac.formatMac(address);
      const broken = text.slice(0, at) + extra + text.slice(at);
      return mac.parseMac(broken) === undefined;
    },
  );
  holds(
    t,
    'random addresses are local and unicast',
    [fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 2 })],
    (draws) => {
      let at = 0;
      const address = mac.randomLocalMac(() => draws[at++ % draws.length]);
      return (
        !mac.isMulticast(address) && '26ae'.includes(mac.formatMac(address)[1]) && address <= mac.BROADCAST
      );
    },
  );
  t.end();
});

await t.test('ip: text and bytes are one, and the text is what the URL standard writes', (t) => {
  holds(t, 'v6 bytes', [sixteenBytes], (bytes) => {
    const address = ip.readV6(bytes, 0);
    const back = new Uint8Array(16);
    ip.writeV6(address, back, 0);
    return same(bytes, back) && ip.parse(address) === address;
  });
  holds(
    t,
    'v6 text',
    [addresses],
    (address) => ip.isV4(address) || new URL(`http://[${address}]/`).hostname === `[${address}]`,
  );
  holds(t, 'v4 bytes', [addressesV4], (address) => {
    const bytes = new Uint8Array(4);
    ip.writeV4(address, bytes, 0);
    return ip.readV4(bytes, 0) === address && ip.parse(address) === address;
  });
  holds(t, 'v4 text', [fc.ipV4()], (text) => ip.parse(text) === text);
  holds(t, 'odd v4 forms are refused', [fc.ipV4Extended()], (text) => {
    // Octal, hexadecimal and short forms: refused unless the text happens to be canonical.
    const address = ip.parse(text);
    return address === undefined ? !/^(?:(?:0|[1-9]\d*)\.){3}(?:0|[1-9]\d*)$/.test(text) : address === text;
  });
  holds(t, 'v6 text of every form', [fc.ipV6()], (text) => {
    const address = ip.parse(text);
    const leadingZero = /(?:^|[:.])0\d+\./.test(text);
    if (address === undefined) return leadingZero;
    if (ip.isV4(address))
      return new URL(`http://[${text}]/`).hostname === new URL(`http://[::ffff:${address}]/`).hostname;
    return new URL(`http://[${text}]/`).hostname === `[${address}]`;
  });
  holds(
    t,
    'zones are refused',
    [fc.ipV6(), fc.string({ minLength: 1 })],
    (text, zone) => ip.parse(`${text}%${zone}`) === undefined,
  );
  holds(t, 'endpoints', [addresses, fc.integer({ min: 1, max: 65535 })], (address, port) => {
    const endpoint = ip.parseEndpoint(ip.formatEndpoint({ ip: address, port }));
    return endpoint?.ip === address && endpoint.port === port;
  });
  holds(
    t,
    'any text',
    [fc.string({ maxLength: 50 })],
    (text) => ip.parse(text) === undefined || /^[0-9a-fA-F:.]+$/.test(text),
  );
  t.end();
});

/** RFC 1071 word by word, on one big number. */
function naive(bytes: Uint8Array, initial: number): number {
  let total = initial;
  for (let at = 0; at < bytes.length; at += 2)
    total += bytes[at] * 256 + (at + 1 < bytes.length ? bytes[at + 1] : 0);
  while (total > 0xffff) total = (total % 0x10000) + Math.floor(total / 0x10000);
  return total;
}

await t.test('checksum', (t) => {
  holds(t, 'sum', [bytesUpTo(100), bit16], (bytes, initial) => {
    return checksum.sum(bytes, 0, bytes.length, initial) === naive(bytes, initial);
  });
  holds(t, 'sum in pieces', [bytesUpTo(100), bytesUpTo(100), bit16], (first, second, initial) => {
    const head = first.subarray(0, first.length & ~1);
    const whole = Uint8Array.from([...head, ...second]);
    const pieces = checksum.sum(second, 0, second.length, checksum.sum(head, 0, head.length, initial));
    return pieces === checksum.sum(whole, 0, whole.length, initial);
  });
  holds(t, 'update', [bytesUpTo(60), bit16, bit16, fc.nat(29)], (tail, initial, value, word) => {
    // The field is word 0; any other word is replaced, and mended must equal computed anew.
    const bytes = Uint8Array.from([0, 0, ...tail, ...new Uint8Array(62 - tail.length)]);
    checksum.fill(bytes, 0, bytes.length, 0, initial);
    checksum.replaceWord(bytes, 2 + 2 * word, value, 0);
    const anew = Uint8Array.from(bytes);
    checksum.fill(anew, 0, anew.length, 0, initial);
    // Nothing but zeros sums to +0, which the difference cannot know from -0; no packet is nothing but zeros.
    return same(bytes, anew) || naive(bytes.subarray(2), initial) === 0;
  });
  holds(t, 'verify', [bytesUpTo(100), bit16], (bytes, initial) => {
    const field = Uint8Array.from([0, 0, ...bytes, 1]);
    checksum.fill(field, 0, field.length, 0, initial);
    return checksum.verify(field, 0, field.length, initial);
  });
  t.end();
});

interface Codec<Repr> {
  parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined;
  byteLength(repr: Repr): number;
  write(repr: Repr, bytes: Uint8Array, offset: number): number;
}

const MAX_PAYLOAD = 40;

/** Writes into a dirty buffer, a payload's room behind, and reads back. */
function roundTrips<Repr>(t: Test, name: string, codec: Codec<Repr>, arbitrary: fc.Arbitrary<Repr>): void {
  holds(t, name, [arbitrary, fc.nat(20), bit8], (repr, offset, dirt) => {
    const length = codec.byteLength(repr);
    const bytes = new Uint8Array(offset + length + MAX_PAYLOAD).fill(dirt);
    if (codec.write(repr, bytes, offset) !== length) return false;
    const again = new Uint8Array(length).fill(~dirt);
    const back = codec.parse(bytes, offset, length + MAX_PAYLOAD) ?? codec.parse(bytes, offset, length);
    if (back === undefined || codec.write(back, again, 0) !== length) return false;
    return same(again, bytes.slice(offset, offset + length)) && isDeepStrictEqual(back, { ...repr });
  });
}

await t.test('every Repr survives being written and parsed', (t) => {
  const payloadLength = fc.nat(MAX_PAYLOAD);
  const flag = fc.boolean();
  roundTrips(t, 'ethernet', ethernet, fc.record({ destination: macs, source: macs, etherType: bit16 }));
  const tag = { priority: fc.nat(7), dropEligible: flag, vlanId: fc.nat(4095), etherType: bit16 };
  roundTrips(t, 'vlan', vlan, fc.record(tag));
  const opcode = fc.constantFrom(loopback.MESSAGE, loopback.REPLY);
  const message = { level: fc.nat(7), opcode, transaction: fc.integer(), dataBytes: payloadLength };
  roundTrips(t, 'loopback', loopback, fc.record(message));
  roundTrips(
    t,
    'arp',
    arp,
    fc.record({
      operation: bit16,
      senderMac: macs,
      senderIp: addressesV4,
      targetMac: macs,
      targetIp: addressesV4,
    }),
  );
  roundTrips(
    t,
    'ipv4',
    ipv4,
    fc.record({
      source: addressesV4,
      destination: addressesV4,
      protocol: bit8,
      ttl: bit8,
      trafficClass: bit8,
      identification: bit16,
      dontFragment: flag,
      payloadLength,
    }),
  );
  roundTrips(
    t,
    'ipv6',
    ipv6,
    fc.record({
      source: addresses,
      destination: addresses,
      nextHeader: bit8,
      hopLimit: bit8,
      trafficClass: bit8,
      flowLabel: fc.nat(0xfffff),
      payloadLength,
    }),
  );
  roundTrips(t, 'udp', udp, fc.record({ sourcePort: bit16, destinationPort: bit16, payloadLength }));
  roundTrips(
    t,
    'tcp',
    tcp,
    fc.record({
      sourcePort: bit16,
      destinationPort: bit16,
      sequence: bit32,
      acknowledgment: bit32,
      flags: bit8,
      window: bit16,
    }),
  );
  roundTrips(t, 'icmp', icmp, fc.record({ type: bit8, code: bit8, word: bit32 }));
  roundTrips(t, 'vxlan', vxlan, fc.record({ vni: fc.nat(vxlan.VNI_MAX) }));
  roundTrips(
    t,
    'virtio-net',
    virtioNet,
    fc.record({
      flags: fc.constantFrom(0, virtioNet.DATA_VALID),
      gsoType: fc.constant(virtioNet.GSO_NONE),
      headerLength: bit16,
      gsoSize: bit16,
      checksumStart: bit16,
      checksumOffset: bit16,
    }),
  );
  t.end();
});

await t.test('every message of ndp and dhcp survives being written and parsed', (t) => {
  const flag = fc.boolean();
  const maybeMac = fc.option(macs, { nil: undefined });
  const target = addresses.filter((address) => !ip.isMulticast(address));
  // Messages that say by their length where they end: no payload behind them.
  const exact: Codec<ndp.Repr> = {
    ...ndp,
    parse: (bytes, offset, length) => ndp.parse(bytes, offset, Math.max(0, length - MAX_PAYLOAD)),
  };
  roundTrips(
    t,
    'ndp',
    exact,
    fc.oneof(
      fc.record({ kind: fc.constant('neighborSolicitation' as const), target, sourceMac: maybeMac }),
      fc.record({
        kind: fc.constant('neighborAdvertisement' as const),
        target,
        router: flag,
        solicited: flag,
        override: flag,
        targetMac: maybeMac,
      }),
      fc.record({ kind: fc.constant('routerSolicitation' as const), sourceMac: maybeMac }),
      fc.record({
        kind: fc.constant('routerAdvertisement' as const),
        hopLimit: bit8,
        managed: flag,
        other: flag,
        lifetimeS: bit16,
        reachableMs: bit32,
        retransmitMs: bit32,
        sourceMac: maybeMac,
      }),
    ),
  );
  const optionCodes = fc.integer({ min: 1, max: 254 }).filter((code) => code !== 52);
  const options = fc
    .array(fc.tuple(optionCodes, bytesUpTo(300)), { maxLength: 6 })
    .map((entries) => new Map(entries));
  roundTrips(
    t,
    'dhcpv4',
    dhcpv4,
    fc.record({
      operation: fc.constantFrom(dhcpv4.REQUEST, dhcpv4.REPLY),
      hops: bit8,
      transactionId: bit32,
      secs: bit16,
      wantsBroadcast: flag,
      ciaddr: addressesV4,
      yiaddr: addressesV4,
      siaddr: addressesV4,
      giaddr: addressesV4,
      clientMac: macs,
      options,
    }),
  );
  t.end();
});

await t.test('what fillChecksum writes, verifyChecksum takes, and one flipped bit it does not', (t) => {
  const bodies = bytesUpTo(64);
  holds(
    t,
    'transports',
    [addresses, addresses, bodies, fc.boolean(), fc.nat(2000)],
    (source, destination, body, isTcp, flip) => {
      const header = isTcp ? tcp.HEADER_BYTES : udp.HEADER_BYTES;
      const length = header + body.length;
      const bytes = new Uint8Array(ipv6.HEADER_BYTES + length);
      const common = { hopLimit: 1, trafficClass: 0, flowLabel: 0, payloadLength: length };
      ipv6.write({ source, destination, nextHeader: isTcp ? ipv4.TCP : ipv4.UDP, ...common }, bytes, 0);
      bytes.set(body, 40 + header);
      if (isTcp) {
        tcp.write(
          { sourcePort: 1, destinationPort: 2, sequence: 3, acknowledgment: 4, flags: 5, window: 6 },
          bytes,
          40,
        );
        tcp.fillChecksum(bytes, 0, 40, length);
      } else {
        udp.write({ sourcePort: 1, destinationPort: 2, payloadLength: body.length }, bytes, 40);
        udp.fillChecksum(bytes, 0, 40);
      }
      const verify = () =>
        isTcp ? tcp.verifyChecksum(bytes, 0, 40, length) : udp.verifyChecksum(bytes, 0, 40);
      const good = verify();
      const at = 40 + header + (flip % Math.max(1, body.length));
      if (body.length === 0) return good;
      bytes[at] ^= 1 << (flip & 7);
      return good && !verify();
    },
  );
  holds(
    t,
    'ECN',
    [bit8, bit8, bit16, fc.nat(3), addressesV4],
    (trafficClass, ttl, identification, ecn, source) => {
      const bytes = new Uint8Array(ipv4.HEADER_BYTES);
      const common = { protocol: ipv4.UDP, dontFragment: true, payloadLength: 0 };
      ipv4.write({ source, destination: source, ttl, trafficClass, identification, ...common }, bytes, 0);
      ipv4.setEcn(bytes, 0, ecn);
      const anew = Uint8Array.from(bytes);
      ipv4.fillChecksum(anew, 0);
      return same(bytes, anew) && ipv4.trafficClass(bytes, 0) === ((trafficClass & ~3) | ecn);
    },
  );
  t.end();
});

// -- Any bytes at all

/** Real frames with a few bytes changed and the end cut off get deeper than noise does. */
const mutations = fc
  .tuple(fc.constantFrom(...names), fc.array(fc.tuple(fc.nat(2000), bit8), { maxLength: 6 }), fc.nat(400))
  .map(([name, changes, cut]) => {
    const bytes = frame(name);
    for (const [at, value] of changes) bytes[at % bytes.length] = value;
    return bytes.slice(0, Math.max(0, bytes.length - (cut < 300 ? 0 : cut - 300)));
  });
const anyBytes = fc.oneof(bytesUpTo(200), mutations);

const gates = {
  ...{ arp, dhcpv4, ethernet, icmp, icmpv6, ipv4, ipv6 },
  ...{ loopback, ndp, tcp, udp, virtioNet, vlan, vxlan },
};

await t.test('no bytes make a check, a parse or describe throw, or reach past the length', (t) => {
  for (const [name, codec] of Object.entries(gates)) {
    holds(t, name, [anyBytes, fc.nat(60)], (bytes, at) => {
      const offset = Math.min(at, bytes.length);
      const length = bytes.length - offset;
      const result = codec.check(bytes, offset, length);
      if (result === 0 || result > length) return false;
      // The same bytes with others behind them must be judged the same.
      const longer = Uint8Array.from([...bytes, ...new Uint8Array(64).fill(1)]);
      if (codec.check(longer, offset, length) !== result) return false;
      const repr = codec.parse(bytes, offset, length);
      if (repr !== undefined && result < 0) return false;
      return isDeepStrictEqual(repr, codec.parse(longer, offset, length));
    });
  }
  holds(t, 'tag stacks', [anyBytes], (bytes) => {
    const header = vlan.headerLength(bytes, 0, bytes.length);
    return header < 0 || (header >= 14 && header <= bytes.length);
  });
  holds(t, 'extension headers', [anyBytes], (bytes) => {
    if (ipv6.check(bytes, 0, bytes.length) < 0) return true;
    const found = ipv6.transport(bytes, 0);
    return found < 0 || ipv6.transportOffset(found) <= bytes.length;
  });
  holds(
    t,
    'describe',
    [anyBytes, fc.integer({ min: -10, max: 300 }), fc.integer({ min: -10, max: 300 })],
    (bytes, offset, length) => {
      const line = describe(bytes, offset, length);
      return line.startsWith('Ethernet') && !/undefined|NaN|\n/.test(line) && describe(bytes).length < 1000;
    },
  );
  t.end();
});

await t.test('capture files: what is written is read, and no bytes make read throw', (t) => {
  const packets = fc.record({
    kind: fc.constant('packet' as const),
    interfaceId: fc.constant(0),
    timestampNs: fc.bigInt(0n, 2n ** 64n - 1n),
    originalBytes: bit32,
    data: bytesUpTo(50),
    direction: fc.constantFrom('in', 'out', undefined),
    comment: fc.string({ unit: 'grapheme', maxLength: 30 }),
  });
  const files = fc
    .tuple(fc.array(packets, { maxLength: 5 }), fc.string({ maxLength: 20 }))
    .map(([list, name]) => {
      const source = { kind: 'interface' as const, linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 0, name };
      const blocks: pcapng.Repr[] = [{ kind: 'section' }, source, ...list];
      const bytes = new Uint8Array(blocks.reduce((total, block) => total + pcapng.byteLength(block), 0)).fill(
        0xa5,
      );
      let at = 0;
      for (const block of blocks) at += pcapng.write(block, bytes, at);
      return { bytes, list };
    });
  holds(t, 'round trip', [files], ({ bytes, list }) => {
    const capture = readCapture(bytes);
    return (
      capture?.complete === true &&
      isDeepStrictEqual(
        capture.packets,
        list.map((packet) => ({ ...packet })),
      )
    );
  });
  holds(
    t,
    'damaged pcapng',
    [files, fc.array(fc.tuple(fc.nat(2000), bit8), { maxLength: 4 }), fc.nat(50)],
    ({ bytes }, changes, cut) => {
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      const part = bytes.slice(0, Math.max(0, bytes.length - cut));
      return (readCapture(part)?.packets ?? []).every(({ data }) => data.length <= part.length);
    },
  );
  const magics = [0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1, 0x0a0d0d0a];
  holds(t, 'noise', [fc.constantFrom(...magics), bytesUpTo(300)], (magic, rest) => {
    const bytes = Uint8Array.from([magic >>> 24, magic >>> 16, magic >>> 8, magic, ...rest]);
    readCapture(bytes);
    return true;
  });
  t.end();
});
