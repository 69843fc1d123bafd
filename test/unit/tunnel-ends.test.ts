// The ends of kernel tunnels behind a port (core/tables/tunnel-ends.ts): only those that its own frames
// have shown, and not for ever.
import t from 'tap';

import { TICK_MS } from '../../src/core/tables/ticks.js';
import { TunnelEnds } from '../../src/core/tables/tunnel-ends.js';
import * as d from '../../src/wire/descriptor.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { type Nested, nestedSuperframe } from '../helpers/nested.js';
import type { Framed } from '../helpers/offload.js';
import { frameOf, layoutOf, type Packet, PLAIN, superframeFields } from '../helpers/superframe.js';

const SECOND = 1000 / TICK_MS;
const NOW = 0x7fff_fff0; // the ticks overflow

const inner: Packet = { ...PLAIN, payload: new Uint8Array(300) };
const nested = (outer: Partial<Packet> = {}): Nested => ({
  outer: { ...PLAIN, protocol: 'udp', destinationPort: 8472, ...outer },
  tunnelHeader: new Uint8Array(8),
  inner,
  hasOuterChecksum: false,
});
const V6: Partial<Packet> = { version: 6, identification: 0, dontFragment: false };

const headerOf = ({ tags }: Packet): number => 14 + 4 * tags.length;
function descriptorOf({ frame, fields }: Framed): Int32Array {
  const words = new Int32Array(d.DESCRIPTOR_WORDS);
  words[d.LENGTH] = frame.length;
  for (const [name, value] of Object.entries(fields)) words[Number(name)] = value;
  return words;
}

/** The port sends a frame. */
function sends(ends: TunnelEnds, framed: Framed, header = 14, now = NOW): void {
  ends.sent(framed.frame, descriptorOf(framed), 0, header, now);
}

/** A frame for the port: `packet`, with its addresses the other way round. */
function isEnd(ends: TunnelEnds, packet: Packet, now = NOW): boolean {
  const frame = frameOf({ ...packet, payload: new Uint8Array(100) });
  const { network } = layoutOf(packet);
  const [at, bytes] = packet.version === 4 ? [network + 12, 4] : [network + 8, 16];
  const source = frame.slice(at, at + bytes);
  frame.copyWithin(at, at + bytes, at + 2 * bytes);
  frame.set(source, at + bytes);
  return ends.isEnd(frame, descriptorOf({ frame, fields: {} }), 0, now);
}

t.test('an end is known by the frames of the kernel', (t) => {
  for (const outer of [nested().outer, nested(V6).outer, nested({ tags: [5] }).outer]) {
    const ends = new TunnelEnds();
    t.notOk(isEnd(ends, outer), 'not before');
    sends(ends, nestedSuperframe(nested(outer), 100), headerOf(outer));
    t.ok(isEnd(ends, outer), `IPv${outer.version}, ${outer.tags.length} tags`);
    t.ok(isEnd(ends, { ...outer, sourcePort: 7 }), 'from any port');
    t.notOk(isEnd(ends, { ...outer, destinationPort: 4789 }), 'another UDP port');
    t.notOk(isEnd(ends, { ...outer, protocol: 'tcp' }), 'TCP');
    const { network } = layoutOf(outer);
    const back = frameOf(outer);
    t.notOk(ends.isEnd(back, descriptorOf({ frame: back, fields: {} }), 0, NOW), 'the other end');
    t.notOk(
      ends.isEnd(back, descriptorOf({ frame: back.subarray(0, network + 10), fields: {} }), 0, NOW),
      'a part',
    );
  }
  t.end();
});

t.test('an acknowledgment, which is no superframe, is evidence too', (t) => {
  const ends = new TunnelEnds();
  const { frame, fields } = nestedSuperframe(nested(), 100);
  sends(ends, { frame, fields: { [d.FLAGS]: virtio.NEEDS_CHECKSUM, [d.CSUM_START]: fields[d.CSUM_START] } });
  t.ok(isEnd(ends, nested().outer));
  t.end();
});

t.test('frames that any program can send are none', (t) => {
  const ends = new TunnelEnds();
  const { outer } = nested();
  const { frame, fields } = nestedSuperframe(nested(), 100);
  const options = new Uint8Array(40).fill(1);
  const payload = new Uint8Array(1000);
  sends(ends, { frame, fields: { ...fields, [d.FLAGS]: 0 } });
  t.notOk(isEnd(ends, outer), 'a datagram with a complete checksum');
  for (const packet of [
    { ...outer, payload },
    { ...outer, options, payload },
    { ...PLAIN, destinationPort: 8472, options, payload },
    { ...outer, ...V6, extension: { type: 60, bytes: new Uint8Array(64).fill(7, 1, 2) }, payload },
  ])
    sends(ends, { frame: frameOf(packet, 'partial'), fields: superframeFields(packet, 100) });
  t.notOk(isEnd(ends, outer), 'a superframe of TCP or UDP');
  t.notOk(isEnd(ends, { ...outer, ...V6 }), 'over IPv6, with an extension header');
  const fragment = frame.slice();
  fragment[14 + 6] = 0x20; // more fragments
  sends(ends, { frame: fragment, fields });
  t.notOk(isEnd(ends, outer), 'a fragment');
  t.end();
});

t.test('evidence is forgotten', (t) => {
  const ends = new TunnelEnds();
  const made = nestedSuperframe(nested(), 100);
  sends(ends, made);
  const after = (seconds: number): number => (NOW + seconds * SECOND) | 0;
  t.ok(isEnd(ends, nested().outer, after(10)));
  t.notOk(isEnd(ends, nested().outer, after(11)));
  sends(ends, made, 14, after(20));
  t.ok(isEnd(ends, nested().outer, after(30)), 'and counts again');
  for (let port = 1; port <= 15; port++)
    sends(ends, nestedSuperframe(nested({ destinationPort: port }), 100), 14, after(21));
  t.ok(isEnd(ends, nested().outer, after(22)), 'sixteen ends');
  sends(ends, nestedSuperframe(nested({ destinationPort: 16 }), 100), 14, after(22));
  t.notOk(isEnd(ends, nested().outer, after(22)), 'and not one more: the oldest goes');
  for (let port = 1; port <= 16; port++)
    t.ok(isEnd(ends, nested({ destinationPort: port }).outer, after(22)), `port ${port}`);
  t.end();
});
