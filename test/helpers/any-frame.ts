// Any frame that a guest may send: good, cut short, with wrong bytes, or noise.
import fc from 'fast-check';
import * as ipv4 from '../../src/wire/ipv4.js';
import { frame, MAC, packet, type Tag } from './lab.js';

export const MACS = [MAC.a, MAC.b, MAC.c, MAC.d, MAC.all, MAC.group, 0x3333_0000_0001, 0x0200_0000_0055, 0];
export const anyMac = fc.constantFrom(...MACS);
const anyTags = fc.array(
  fc.oneof(fc.constantFrom<Tag[]>(0, 5, 6, 0x6005, 0xe000, [0x88a8, 5]), fc.nat(0xffff)),
  {
    maxLength: 6,
    size: 'small',
  },
);
const plain = fc
  .record({
    to: anyMac,
    from: anyMac,
    bytes: fc.oneof(fc.integer({ min: 14, max: 80 }), fc.nat(1600)),
    tags: anyTags,
  })
  .map(({ to, from, bytes, tags }) => frame(to, from, bytes, ...tags));
const packets = fc
  .record({
    to: anyMac,
    from: anyMac,
    tags: anyTags,
    version: fc.constantFrom<(4 | 6)[]>(4, 6),
    protocol: fc.constantFrom(ipv4.TCP, ipv4.UDP, ipv4.ICMP),
    trafficClass: fc.nat(255),
    payloadBytes: fc.oneof(fc.nat(100), fc.constantFrom(560, 1400, 1500, 9000)),
    checksum: fc.constantFrom<('full' | 'partial')[]>('full', 'partial'),
    extensions: fc.nat(9),
    fragment: fc.option(fc.constantFrom(1, 0x2000, 0x0100), { nil: 0 }),
  })
  .map(({ fragment, ...spec }) => packet(fragment === 0 ? spec : { ...spec, fragment }));
/** Good frames, frames cut short, frames with wrong bytes, and noise. */
export const frames = fc
  .record({
    bytes: fc.oneof(plain, packets, fc.uint8Array({ maxLength: 120 })),
    keep: fc.option(fc.nat(100), { nil: Infinity, freq: 3 }),
    wrong: fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 3, size: 'small' }),
  })
  .map(({ bytes, keep, wrong }) => {
    const copy = bytes.slice(0, keep);
    for (const [at, value] of wrong) if (at < copy.length) copy[at] = value;
    return copy;
  });
