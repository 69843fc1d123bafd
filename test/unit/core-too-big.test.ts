// Frames that are larger than the overlay or the path carries, and the errors that answer them.
import t, { type Test } from 'tap';
import { WHOLE } from '../../src/io/memory.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmp from '../../src/wire/icmp.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { endpoint, frame, hex, MAC, packet, type Packet, type Tag } from '../helpers/lab.js';
import { facing, pair, same } from '../helpers/scenes.js';

await t.test('the MTU is exact, both ways, tags apart (V11)', (t) => {
  const { net, port, inject, peer } = facing({ mtuBytes: 1000 });
  for (const tags of [[], [5], [5, 6]] as Tag[][]) {
    const bytes = 1014 + 4 * tags.length;
    port.send(frame(MAC.b, MAC.a, bytes, ...tags), frame(MAC.b, MAC.a, bytes + 1, ...tags));
    inject(frame(MAC.a, MAC.b, bytes, ...tags));
    inject(frame(MAC.a, MAC.b, bytes + 1, ...tags));
  }
  t.strictSame([port.take().length, peer.take().length], [3, 3]);
  t.strictSame(net.drops, { tx_too_big: 3, rx_too_big: 3 });
  t.end();
});

await t.test('never fragmented: what the path does not carry is dropped (V11, V13)', (t) => {
  for (const [addresses, overhead] of [
    [['192.0.2.1', '192.0.2.2'], 50],
    [['2001:db8::1', '2001:db8::2'], 70],
  ] as const) {
    const { lab, netA, portA, portB } = pair({ mtuBytes: 1500 }, [...addresses], 1500);
    portA.send(
      frame(MAC.b, MAC.a, 1514 - overhead),
      frame(MAC.b, MAC.a, 1515 - overhead),
      frame(MAC.b, MAC.a),
    );
    t.equal(portB.take().length, 2, 'the next frame is not harmed');
    t.equal(lab.datagrams.length, 2);
    t.strictSame(netA.drops, { tx_path_mtu: 1 });
  }
  t.end();
});

/** An ICMP error about a packet that is to be read in full. */
function readTooBig(t: Test, answer: Uint8Array, header = 14) {
  const isV4 = answer[header] >> 4 === 4;
  const at = header + (isV4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
  const message = answer.length - at;
  if (isV4) {
    const ip = ipv4.parse(answer, header, answer.length - header);
    t.match(
      ip,
      { protocol: ipv4.ICMP, ttl: 64, payloadLength: message },
      'a whole packet, its checksum good',
    );
    t.ok(icmp.verifyChecksum(answer, at, message));
    t.strictSame([icmp.type(answer, at), icmp.code(answer, at)], [3, 4]);
  } else {
    t.match(ipv6.parse(answer, header, answer.length - header), { nextHeader: 58, payloadLength: message });
    t.ok(icmpv6.verifyChecksum(answer, header, at, message));
    t.strictSame([icmpv6.type(answer, at), icmpv6.code(answer, at)], [2, 0]);
  }
  const { source, destination } = isV4 ? ipv4 : ipv6;
  return {
    to: ethernet.destination(answer, 0),
    from: ethernet.source(answer, 0),
    ends: [source(answer, header), destination(answer, header)],
    mtu: icmp.word(answer, at),
    quoted: answer.subarray(at + icmp.HEADER_BYTES),
  };
}

await t.test('a packet that does not fit is answered with the size that does (V11, V13)', (t) => {
  const wide = { mtuBytes: 1500 };
  const outer = { 4: ['192.0.2.1', '192.0.2.2'], 6: ['2001:db8::1', '2001:db8::2'] };
  for (const [version, limit] of [
    [4, 576],
    [6, 1280],
  ] as const) {
    for (const [underlay, addresses] of Object.entries(outer)) {
      const { netA, portA, portB } = pair(wide, addresses);
      const largest = 1500 - (underlay === '4' ? 50 : 70);
      const headers = version === 4 ? 28 : 48;
      const fits = packet({ version, payloadBytes: largest - headers });
      const big = packet({ version, payloadBytes: largest - headers + 1 });
      portA.send(fits, big);
      same(t, portB.take(), [fits], 'what fits');
      const [answer, ...more] = portA.take();
      t.equal(more.length, 0);
      t.equal(answer.length, 14 + limit, 'as much of it as an answer holds');
      const { quoted, ...rest } = readTooBig(t, answer);
      const [near, far] = version === 4 ? ['10.0.0.1', '10.0.0.2'] : ['fd00::1', 'fd00::2'];
      t.strictSame(
        rest,
        { to: MAC.a, from: MAC.b, ends: [far, near], mtu: largest },
        'from where it was going',
      );
      t.equal(hex(quoted), hex(big.subarray(14, 14 + quoted.length)));
      t.strictSame(netA.drops, { tx_path_mtu: 1 });
      t.equal(netA.counters.too_big_answers, 1);
    }
  }
  const { net, port } = facing({ mtuBytes: 1000 });
  port.send(packet({ payloadBytes: 973 }));
  t.equal(readTooBig(t, port.take()[0]).mtu, 1000, 'larger than the overlay');
  t.strictSame(net.drops, { tx_too_big: 1 });

  const tagged = pair(wide);
  const access = tagged.netA.port(MAC.c, { vid: 5 });
  tagged.portA.send(packet({ tags: [0x6005], payloadBytes: 1450 - 28 - 3 }));
  access.send(packet({ from: MAC.c, payloadBytes: 1450 - 28 - 3 }));
  const [behindTag] = tagged.portA.take();
  t.equal(hex(behindTag.subarray(12, 18)), '810060050800', 'with the tag that it had');
  t.equal(readTooBig(t, behindTag, 18).mtu, 1446, 'which needs room');
  t.match(readTooBig(t, access.take()[0]), { to: MAC.c, mtu: 1446 }, 'an access port has it untagged');

  const dynamic = pair({ ...wide, destination: undefined });
  dynamic.netA.setTarget(MAC.b, [dynamic.b.endpoint]);
  dynamic.netA.setTarget(MAC.d, [dynamic.b.endpoint, endpoint('192.0.2.3')]);
  dynamic.portA.send(packet({ payloadBytes: 1450 }));
  t.equal(readTooBig(t, dynamic.portA.take()[0]).mtu, 1450, 'mode dynamic');
  dynamic.portA.send(packet({ to: MAC.d, payloadBytes: 1450 }));
  t.strictSame(dynamic.portA.take(), [], 'copies are not answered');
  t.end();
});

await t.test('a superframe is answered as the segment it would have become', (t) => {
  const { port } = facing({ mtuBytes: 1000 });
  const tcp4: Packet = { protocol: ipv4.TCP, payloadBytes: 5000, checksum: 'partial' };
  for (const [version, gsoType] of [
    [4, virtio.GSO_TCPV4],
    [6, virtio.GSO_TCPV6],
  ] as const) {
    const ipBytes = version === 4 ? 20 : 40;
    const offload = {
      ...WHOLE,
      flags: virtio.NEEDS_CHECKSUM,
      gsoType,
      gsoSize: 1000,
      checksumStart: 14 + ipBytes,
      checksumOffset: tcp.CHECKSUM,
    };
    port.sendWith(offload, packet({ ...tcp4, version }));
    const { quoted, mtu } = readTooBig(t, port.take()[0]);
    t.equal(mtu, 1000);
    if (version === 4) {
      t.equal(ipv4.totalLength(quoted, 0), 1040);
      t.ok(ipv4.verifyChecksum(quoted, 0), 'and its header is good');
    } else {
      t.equal(ipv6.payloadLength(quoted, 0), 1020);
    }
    t.equal(tcp.sourcePort(quoted, ipBytes), 40000);
    // What is large, but is cut into what fits, is no concern of size.
    port.sendWith({ ...offload, gsoSize: 500 }, packet({ ...tcp4, version }));
    t.strictSame(port.take(), []);
  }
  t.end();
});

await t.test('a loop that brings back what was sent is not answered, and so makes no path narrower', (t) => {
  for (const encapsulation of ['vxlan', 'geneve'] as const) {
    for (const [version, ip, peerIp] of [
      [4, '192.0.2.1', '192.0.2.2'],
      [6, '2001:db8::1', '2001:db8::2'],
    ] as const) {
      const { net, port, peer } = facing({ mtuBytes: 1000 }, { ip, peerIp, encapsulation });
      port.send(frame(MAC.b, MAC.a, 1014));
      const [{ bytes: payload }] = peer.take();
      const ends = { version, source: ip, destination: peerIp, ports: [50_000, peer.local.port] } as const;
      port.send(packet({ ...ends, payload }));
      t.strictSame(port.take(), [], `${encapsulation} over IPv${version}`);
      const otherId = payload.slice();
      otherId[6] ^= 1;
      for (const [what, spec] of [
        ['of another network', { payload: otherId }],
        ['of another host', { payload, source: peerIp }],
      ] as const) {
        port.send(packet({ ...ends, ...spec }));
        t.equal(port.take().length, 1, `one ${what} is`);
      }
      t.strictSame(net.drops, { tx_too_big: 3 });
    }
  }
  t.end();
});

await t.test('what is never answered with an error, and how often (RFC 1122 3.2.2, RFC 4443 2.4)', (t) => {
  const { net, lab, vtep, port } = facing({ mtuBytes: 1000 });
  const big = (spec: Packet): Uint8Array => packet({ payloadBytes: 1200, ...spec });
  const icmpOf = (type: number, version: 4 | 6 = 4): Uint8Array => {
    const bytes = big({ version, protocol: version === 4 ? ipv4.ICMP : ipv6.ICMPV6 });
    bytes[version === 4 ? 34 : 54] = type;
    return bytes;
  };
  const v6 = { version: 6 } as const;
  const silent: Record<string, Uint8Array> = {
    'may be fragmented': big({ fragment: 0 }),
    'a later fragment': big({ fragment: 0x4010 }),
    'a later IPv6 fragment': big({ ...v6, fragment: 0x0100 }),
    ...Object.fromEntries([3, 4, 5, 11, 12].map((type) => [`ICMP error ${type}`, icmpOf(type)])),
    ...Object.fromEntries([1, 2, 3, 4, 127, 137].map((type) => [`ICMPv6 ${type}`, icmpOf(type, 6)])),
    'to a group MAC': big({ to: MAC.all }),
    'from a group MAC': big({ from: MAC.group }),
    'no IP': frame(MAC.b, MAC.a, 1400),
    'no IPv4 header': frame(MAC.b, MAC.a, 1400).fill(0x08, 12, 13).fill(0, 13, 14),
    'endless extension headers': big({ ...v6, extensions: 9 }),
  };
  for (const source of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'])
    silent[`from ${source}`] = big({ source });
  for (const destination of ['224.0.0.18', '255.255.255.255'])
    silent[`to ${destination}`] = big({ destination });
  for (const source of ['::', '::1', 'ff02::1']) silent[`from ${source}`] = big({ ...v6, source });
  silent['to ff02::1'] = big({ ...v6, destination: 'ff02::1' });
  for (const [what, bytes] of Object.entries(silent)) {
    port.send(bytes);
    t.strictSame(port.take(), [], what);
  }
  t.equal(net.drops.tx_too_big, Object.keys(silent).length, 'each is dropped, and counted');
  const answered: Record<string, Uint8Array> = {
    'a first fragment': big({ fragment: 0x6000 }),
    'a first IPv6 fragment': big({ ...v6, fragment: 1 }),
    echo: icmpOf(8),
    'ICMPv6 echo': icmpOf(128, 6),
  };
  for (const [what, bytes] of Object.entries(answered)) {
    port.send(bytes);
    t.equal(port.take().length, 1, what);
  }

  const other = net.port(MAC.c);
  for (let count = 0; count < 100; count++) port.send(big({}));
  t.equal(port.take().length, 10 - Object.keys(answered).length, '10 in 100 ms');
  other.send(big({ from: MAC.c }));
  t.equal(other.take().length, 1, 'each port for itself');
  vtep.engine.setTime(100);
  for (let count = 0; count < 100; count++) port.send(big({}));
  t.equal(port.take().length, 10, 'and so on');
  t.equal(lab.datagrams.length, 0);
  t.end();
});
