// Capture files, and what is said of the frames in them.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { describe } from '../../src/wire/describe.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as pcapng from '../../src/wire/pcapng.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import * as udp from '../../src/wire/udp.js';
import * as vlan from '../../src/wire/vlan.js';
import * as vxlan from '../../src/wire/vxlan.js';
import { frame, fromHex, vectors } from '../vectors/frames.js';
import { names, patched } from '../helpers/wire.js';

const sample: readonly pcapng.Repr[] = [
  { kind: 'section' },
  { kind: 'interface', linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 0, name: 'overlay0' },
  { kind: 'interface', linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 96, name: '' },
  {
    kind: 'packet',
    interfaceId: 0,
    timestampNs: 1_753_000_000_123_456_789n,
    originalBytes: 1500,
    data: frame('arpRequest'),
    direction: 'in',
    comment: 'dropped: mac-nospoof',
  },
  {
    kind: 'packet',
    interfaceId: 1,
    timestampNs: 1n,
    originalBytes: 47,
    data: frame('udpV4').slice(0, 47),
    direction: undefined,
    comment: '',
  },
];

function fileOf(blocks: readonly pcapng.Repr[]): Uint8Array {
  const bytes = new Uint8Array(blocks.reduce((total, block) => total + pcapng.byteLength(block), 0));
  bytes.fill(0xa5);
  let at = 0;
  for (const block of blocks) at += pcapng.write(block, bytes, at);
  return bytes;
}

await t.test('pcapng', (t) => {
  const bytes = fileOf(sample);
  t.strictSame(
    bytes.slice(0, 28),
    fromHex('0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000'),
    'section header block',
  );
  const capture = readCapture(bytes);
  t.ok(capture?.complete);
  t.strictSame(capture?.interfaces, sample.slice(1, 3));
  t.strictSame(capture?.packets, sample.slice(3));

  const twoSections = readCapture(Uint8Array.from([...bytes, ...bytes]));
  t.strictSame(
    twoSections?.packets.map(({ interfaceId }) => interfaceId),
    [0, 1, 2, 3],
  );

  const ends = sample.map((_, block) => fileOf(sample.slice(0, block + 1)).length);
  for (let length = 12; length < bytes.length; length++) {
    const part = readCapture(bytes.slice(0, length));
    t.equal(part?.complete, ends.includes(length), `${length} bytes`);
    t.equal(part?.packets.length, ends.slice(3).filter((end) => end <= length).length);
  }
  t.end();
});

await t.test(
  'pcapng of others: big-endian, microseconds, powers of two, simple packets, unknown blocks',
  (t) => {
    const bytes = fromHex(
      '0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c' +
        '00000001 00000014 0001 0000 00000000 00000014' +
        '00000001 00000020 0001 0000 00000000 0009 0001 8a000000 0000 0000 00000020' +
        '00000bad 00000010 deadbeef 00000010' +
        '00000006 00000024 00000000 00000000 000f4240 00000003 00000003 61626300 00000024' +
        '00000006 00000024 00000001 00000000 00000600 00000002 00000009 61620000 00000024' +
        '00000003 00000014 00000003 61626300 00000014',
    );
    const capture = readCapture(bytes);
    t.ok(capture?.complete);
    t.strictSame(
      capture?.packets.map(({ interfaceId, timestampNs, data, originalBytes }) => [
        interfaceId,
        timestampNs,
        data.length,
        originalBytes,
      ]),
      [
        [0, 1_000_000_000n, 3, 3],
        [1, 1_500_000_000n, 2, 9],
        [0, 0n, 3, 3],
      ],
    );
    const lying = patched(bytes, { [bytes.length - 20 - 36 + 20]: 0xff });
    t.match(
      readCapture(lying),
      { complete: false, packets: { length: 1 } },
      'a captured length past its block',
    );
    t.end();
  },
);

await t.test('classic pcap: both byte orders, both resolutions', (t) => {
  for (const little of [true, false]) {
    for (const [magic, unitNs] of [
      [0xa1b2c3d4, 1000n],
      [0xa1b23c4d, 1n],
    ] as const) {
      const bytes = new Uint8Array(24 + 16 + 3);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, magic, little);
      view.setUint32(16, 262144, little);
      view.setUint32(20, 1, little);
      [1_700_000_000, 999_999, 3, 60].forEach((word, at) => {
        view.setUint32(24 + 4 * at, word, little);
      });
      bytes.set([1, 2, 3], 40);
      const capture = readCapture(bytes);
      t.equal(capture?.complete, true);
      t.equal(capture?.interfaces[0].linkType, pcapng.LINK_TYPE_ETHERNET);
      t.match(capture?.packets, [
        {
          timestampNs: 1_700_000_000_000_000_000n + 999_999n * unitNs,
          originalBytes: 60,
          data: Uint8Array.of(1, 2, 3),
        },
      ]);
      t.match(readCapture(bytes.slice(0, -1)), { complete: false, packets: [] });
    }
  }
  t.equal(readCapture(new Uint8Array(100)), undefined);
  t.equal(readCapture(new Uint8Array(0)), undefined);
  t.end();
});

// -- The pretty printer

await t.test('describe says one clause a layer', (t) => {
  for (const name of names) t.equal(describe(frame(name)), vectors[name].line, name);
  t.match(describe(patched(frame('udpV4'), { 22: 9 })), /ttl 9 bad checksum \|/);
  t.match(describe(patched(frame('udpV4'), { 14: 0x42 })), / \| IPv4 bad header length \(46 bytes\)$/);
  t.match(describe(patched(frame('vxlanV4'), { 42: 0x48 })), /VXLAN 1193046 reserved bits \| Ethernet/);
  t.equal(describe(new Uint8Array(13)), 'Ethernet truncated (13 bytes)');
  t.equal(describe(new Uint8Array(0)), 'Ethernet truncated (0 bytes)');
  t.equal(describe(frame('arpRequest'), 40, 1000), 'Ethernet truncated (2 bytes)', 'cut to what there is');
  t.equal(describe(frame('arpRequest'), -5, -1), 'Ethernet truncated (0 bytes)');
  const tags = new Uint8Array(65536);
  for (let at = 12; at < tags.length; at += 4) tags.set([0x81, 0x00], at);
  t.ok(describe(tags).length < 400, 'a frame of tags is a line all the same');
  t.end();
});

await t.test('every truncation of every frame is described by what is there', (t) => {
  for (const name of names) {
    const whole = frame(name);
    let differences = 0;
    for (let length = 0; length < whole.length; length++) {
      // The same bytes in a buffer that goes on: `length` alone must decide.
      if (describe(whole, 0, length) !== describe(whole.slice(0, length))) differences++;
    }
    t.equal(differences, 0, name);
  }
  t.end();
});

// -- Captures of others

const captures = new URL('../../../../shared/testdata/pcaps/', import.meta.url);
const skip = existsSync(captures) ? false : `no captures at ${captures.pathname}`;

/** Where the frame inside a VXLAN packet begins, by the gates alone; 0 if it is none. */
function innerOffset(bytes: Uint8Array): number {
  let at = vlan.headerLength(bytes, 0, bytes.length);
  if (at < 0 || ethernet.IPV4 !== ((bytes[at - 2] << 8) | bytes[at - 1])) return 0;
  const packet = ipv4.check(bytes, at, bytes.length - at);
  if (packet < 0 || ipv4.protocol(bytes, at) !== ipv4.UDP || ipv4.isFragment(bytes, at)) return 0;
  const length = ipv4.payloadLength(bytes, at);
  at += packet;
  if (udp.check(bytes, at, length) < 0 || udp.destinationPort(bytes, at) !== vxlan.PORT) return 0;
  at += udp.HEADER_BYTES;
  const header = vxlan.check(bytes, at, length - udp.HEADER_BYTES);
  return header < 0 ? 0 : at + header;
}

await t.test('captures of other projects', { skip }, (t) => {
  const packets: Record<string, readonly pcapng.Packet[]> = {};
  for (const file of readdirSync(captures)) {
    const capture = readCapture(readFileSync(new URL(file, captures)));
    t.ok(capture?.complete, `${file} is read to its end`);
    packets[file] = capture?.packets ?? [];
    for (const { data } of packets[file]) {
      const line = describe(data);
      t.notMatch(line, /truncated|bad|too many/, `${file}: ${line}`);
      for (let length = 0; length < data.length; length++) describe(data, 0, length);
    }
  }
  const tunnelled = {
    'tcpdump__vxlan.pcap': 10,
    'suricata-verify__vxlan-decoder-03_vxlan.pcap': 100,
    'zeek__vxlan-encapsulated-igmp-v2.pcap': 3,
    'gopacket-hex__vxlan_test.pcap': 1,
  };
  for (const [file, count] of Object.entries(tunnelled)) {
    const inner = packets[file].filter(({ data }) => innerOffset(data) > 0);
    t.equal(inner.length, count, `${file}: all are VXLAN`);
  }
  t.end();
});
