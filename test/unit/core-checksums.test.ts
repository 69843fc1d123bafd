// Checksums and segments that a sender leaves to the device: recognised out of the tunnel, done or handed on.
import t from 'tap';
import { WHOLE } from '../../src/io/memory.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as tcp from '../../src/wire/tcp.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { concat, frame, hex, MAC, packet, type Packet } from '../helpers/lab.js';
import { facing, inner, same } from '../helpers/scenes.js';

const TRANSPORTS = [
  { version: 4, protocol: ipv4.TCP, start: 34, field: tcp.CHECKSUM },
  { version: 4, protocol: ipv4.UDP, start: 34, field: udp.CHECKSUM },
  { version: 6, protocol: ipv4.TCP, start: 54, field: tcp.CHECKSUM },
  { version: 6, protocol: ipv4.UDP, start: 54, field: udp.CHECKSUM },
] as const;

await t.test('a partial checksum out of the tunnel is recognised', (t) => {
  for (const { version, protocol, start, field } of TRANSPORTS) {
    for (const payloadBytes of [0, 1, 33, 1000]) {
      const { port, inject } = facing();
      const spec: Packet = { to: MAC.a, from: MAC.b, version, protocol, payloadBytes };
      inject(packet({ ...spec, checksum: 'partial' }));
      inject(packet({ ...spec, checksum: 'partial', tags: [5] }));
      inject(packet(spec));
      const [partial, tagged, full] = port.takeWhole();
      const needs = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: start, checksumOffset: field };
      t.strictSame(partial.header, needs, `IPv${version} protocol ${protocol} ${payloadBytes} bytes`);
      t.strictSame(tagged.header, { ...needs, checksumStart: start + 4 });
      t.strictSame(full, { bytes: packet(spec), header: WHOLE }, 'a full one is left alone');
    }
  }
  const { net, inject } = facing();
  const access = net.port(MAC.c, { vid: 5 });
  inject(packet({ to: MAC.c, from: MAC.b, checksum: 'partial', tags: [5] }));
  t.match(access.takeWhole(), [{ header: { flags: 1, checksumStart: 34 } }], 'where the tag goes, it moves');

  const { port, inject: injectPlain } = facing();
  const odd: Packet[] = [
    { fragment: 0x2000 },
    { version: 6, fragment: 1 },
    { protocol: ipv4.ICMP },
    { version: 6, extensions: 9 },
  ];
  for (const spec of odd) injectPlain(packet({ to: MAC.a, from: MAC.b, ...spec, checksum: 'partial' }));
  injectPlain(packet({ to: MAC.a, from: MAC.b, checksum: 'partial' }).subarray(0, -1));
  t.strictSame(
    port.takeWhole().map(({ header }) => header),
    Array(5).fill(WHOLE),
    'nothing is guessed of fragments, other protocols, endless chains, lying lengths',
  );
  t.end();
});

await t.test('an unsegmented TCP frame out of the tunnel', (t) => {
  const { net, port, inject } = facing({ mtuBytes: 1450 });
  const spec: Packet = {
    to: MAC.a,
    from: MAC.b,
    protocol: ipv4.TCP,
    checksum: 'partial',
    payloadBytes: 9000,
  };
  const header = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumOffset: tcp.CHECKSUM };
  const cases: [Packet, Partial<virtio.Repr>][] = [
    [{}, { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 54, checksumStart: 34 }],
    [{ version: 6 }, { gsoType: virtio.GSO_TCPV6, gsoSize: 1390, headerLength: 74, checksumStart: 54 }],
    [{ tags: [5] }, { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 58, checksumStart: 38 }],
    [
      { version: 6, extensions: 2 },
      { gsoType: virtio.GSO_TCPV6, gsoSize: 1374, headerLength: 90, checksumStart: 70 },
    ],
    [
      { tcpFlags: tcp.ACK | tcp.CWR },
      { gsoType: virtio.GSO_TCPV4 | virtio.GSO_ECN, gsoSize: 1410, headerLength: 54, checksumStart: 34 },
    ],
    [
      { payloadBytes: 65000 },
      { gsoType: virtio.GSO_TCPV4, gsoSize: 1410, headerLength: 54, checksumStart: 34 },
    ],
  ];
  for (const [variant, expected] of cases) {
    const bytes = packet({ ...spec, ...variant });
    inject(bytes);
    const [taken] = port.takeWhole();
    t.strictSame(
      [taken.header, hex(taken.bytes)],
      [{ ...header, ...expected }, hex(bytes)],
      JSON.stringify(variant),
    );
  }
  t.strictSame(net.drops, {});
  const access = net.port(MAC.c, { vid: 5 });
  inject(packet({ ...spec, to: MAC.c, tags: [5] }));
  t.match(access.takeWhole(), [{ header: { headerLength: 54, checksumStart: 34, gsoSize: 1410 } }]);

  const refused: Record<string, Uint8Array> = {
    'TCP with a full checksum': packet({ ...spec, checksum: 'full' }),
    'UDP, which cannot be cut like this': packet({ ...spec, protocol: ipv4.UDP }),
    'UDP with a full checksum': packet({ ...spec, protocol: ipv4.UDP, checksum: 'full' }),
    'a fragment': packet({ ...spec, fragment: 0x2000 }),
    'a small packet with a long tail': concat(packet({ ...spec, payloadBytes: 10 }), new Uint8Array(5000)),
    'no IP at all': frame(MAC.a, MAC.b, 9000),
  };
  for (const bytes of Object.values(refused)) inject(bytes);
  t.strictSame([port.takeWhole(), net.drops], [[], { rx_too_big: 6 }], Object.keys(refused).join(', '));

  const small = facing({ mtuBytes: 576 });
  small.inject(packet({ ...spec, version: 6, extensions: 8 }));
  t.match(small.port.takeWhole(), [{ header: { gsoSize: 576 - 40 - 64 - 20 } }]);
  const long = packet({ ...spec, version: 6, extensions: 8 });
  const chained = concat(
    long.subarray(0, 54),
    Uint8Array.of(ipv4.TCP, 69, 1, 0xff), // one destination options header of 560 bytes instead of the eight
    new Uint8Array(556),
    long.subarray(54 + 64),
  );
  new DataView(chained.buffer).setUint16(14 + 4, chained.length - 54);
  const sum = packet({ ...spec, version: 6, payloadBytes: 9000 });
  chained.set(sum.subarray(70, 72), 54 + 560 + tcp.CHECKSUM);
  small.inject(chained);
  t.strictSame(
    [small.port.takeWhole(), small.net.drops],
    [[], { rx_too_big: 1 }],
    'headers as long as the MTU',
  );
  t.end();
});

await t.test('a checksum that the sender left to the device', (t) => {
  for (const { version, protocol, start, field } of TRANSPORTS) {
    const { net, port, peer } = facing();
    const spec: Packet = { version, protocol, payloadBytes: 101 };
    const header = { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: start, checksumOffset: field };
    port.sendWith(header, packet({ ...spec, checksum: 'partial' }));
    same(t, inner(peer), [packet(spec)], `is done before it leaves: IPv${version} protocol ${protocol}`);

    const local = net.port(MAC.b);
    port.sendWith(header, packet({ ...spec, checksum: 'partial' }));
    t.strictSame(
      local.takeWhole(),
      [{ bytes: packet({ ...spec, checksum: 'partial' }), header }],
      'or left for the next port',
    );

    const [access, accessToo] = [net.port(MAC.c, { vid: 7 }), net.port(MAC.d, { vid: 7 })];
    access.sendWith(header, packet({ ...spec, to: MAC.all, checksum: 'partial' }));
    same(t, inner(peer), [packet({ ...spec, to: MAC.all, tags: [7] })], 'a tag put in moves it');
    const [{ bytes, header: after }] = accessToo.takeWhole();
    if (after.flags === virtio.NEEDS_CHECKSUM) {
      t.strictSame([bytes, after], [packet({ ...spec, to: MAC.all, checksum: 'partial' }), header]);
    } else {
      same(t, [bytes], [packet({ ...spec, to: MAC.all })], 'done for the tunnel, so done here');
    }
    t.strictSame(net.drops, {});
  }
  t.end();
});
