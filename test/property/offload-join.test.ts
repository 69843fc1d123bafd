// The offloads of src/dgram-extra against an independent opinion (helpers/offload.ts): what is put together was together.
import type { Test } from 'tap';

import { deliveredOf } from '../../src/core/outputs.js';
import { recognise } from '../../src/core/partial-checksum.js';
import * as d from '../../src/wire/descriptor.js';
import { encapsulated, toHex } from '../helpers/frames.js';
import {
  AMBIGUOUS,
  asMessage,
  type Bench,
  cuttable,
  type Fields,
  goesOn,
  incoming,
  KEEP_APART,
  law,
  MAX_DATAGRAM,
  MAX_RUN,
  native,
  noise,
  offloadTests,
  outgoing,
  packets,
  put,
  readAll,
  sameList,
  STRIP_TAG,
  superframe,
  three,
  through,
  total,
  UDP,
  V6,
  VNETID,
  VXLAN_BYTES,
  whole,
  wireOf,
  word,
} from '../helpers/offload.js';
import {
  frameOf,
  layoutOf,
  type Packet,
  PLAIN,
  segmentsOf,
  superframeFields,
} from '../helpers/superframe.js';

/** What fits into one message, and comes back as one run. */
const fitsOneMessage = ([packet, size]: [Packet, number]): boolean =>
  total(segmentsOf(packet, size).map((segment) => frameOf(segment))) <= MAX_DATAGRAM;

function together(t: Test, bench: Bench): void {
  const plainOnes = packets.map((packet) => ({
    ...packet,
    flags: goesOn(packet.flags),
    extension: undefined,
    tags: packet.tags.slice(1),
  }));
  const whole = cuttable(plainOnes, MAX_RUN)
    .filter(fitsOneMessage)
    .filter(([packet, size]) => packet.payload.length > size);
  law(
    t,
    'a superframe that is cut and put together again is the same',
    whole,
    ([packet, size]) => {
      const segments = segmentsOf(packet, size).map((segment) => frameOf(segment));
      const out = through(bench, [superframe(packet, size)], total(segments));
      if (out.length !== 1) throw new Error(`${out.length} frames`);
      const [got] = out;
      const expected = superframe(packet, size);
      sameList([toHex(got.frame)], [toHex(expected.frame)]);
      for (const name of [d.FLAGS, d.GSO_TYPE, d.GSO_SIZE, d.CSUM_START, d.CSUM_OFFSET]) {
        if (got.fields[name] !== expected.fields[name])
          throw new Error(`word ${name}: ${got.fields[name]}, expected ${expected.fields[name]}`);
      }
    },
    300,
  );
  law(
    t,
    'of whatever kind it is, the segments are the same',
    cuttable(packets, 200),
    ([packet, size]) => {
      const segments = segmentsOf(packet, size).map((segment) => frameOf(segment));
      sameList(wireOf(through(bench, [superframe(packet, size)], total(segments))), segments.map(toHex));
    },
    300,
  );
  law(
    t,
    'and one by one where they are to stay apart',
    cuttable(packets, 64),
    ([packet, size]) => {
      const segments = segmentsOf(packet, size).map((segment) => frameOf(segment));
      const got = through(bench, [superframe(packet, size)], total(segments), KEEP_APART);
      sameList(
        got.map(({ frame }) => toHex(frame)),
        segments.map(toHex),
      );
      if (got.some(({ fields }) => fields[d.FLAGS] !== 0 || fields[d.GSO_TYPE] !== 0))
        throw new Error('claims');
    },
    100,
  );
  law(
    t,
    'without their tag where it is to be taken out',
    whole.map(([packet, size]): [Packet, number] => [{ ...packet, tags: [5] }, size]).filter(fitsOneMessage),
    ([packet, size]) => {
      const bytes = total(segmentsOf(packet, size).map((segment) => frameOf(segment)));
      const untagged = segmentsOf({ ...packet, tags: [] }, size).map((segment) => toHex(frameOf(segment)));
      const got = through(bench, [superframe(packet, size)], bytes, STRIP_TAG);
      sameList(wireOf(got), untagged);
      if (got.length !== 1) throw new Error(`${got.length} frames`);
    },
    100,
  );
}

/** The words of the only descriptor, after what decap does with it. */
function recognised(mtuBytes: number, network: number): { accepted: boolean; fields: Fields } {
  incoming.descriptors[d.OFFSET] += VXLAN_BYTES;
  incoming.descriptors[d.LENGTH] -= VXLAN_BYTES;
  const payload = incoming.descriptors[d.OFFSET] + network;
  const accepted = recognise(incoming.bytes, incoming.descriptors, 0, payload, mtuBytes);
  return { accepted, fields: Object.fromEntries(incoming.descriptors.subarray(0, 16).entries()) };
}

function uncut(t: Test, bench: Bench): void {
  // A kernel's vxlan on this machine hands on what its own stack has not cut; the segment size is the inner one.
  for (const [version, size, tagsOf] of [
    [4, 1000, []],
    [6, 1300, []],
    [4, 100, [5]],
    [6, 97, []],
    [4, 30, []],
    [6, 40, []],
  ] as const) {
    const shape = version === 4 ? {} : V6;
    const packet: Packet = { ...PLAIN, ...UDP, ...shape, tags: tagsOf, payload: noise(9, 5 * size + 7) };
    const frame = frameOf(packet, 'partial');
    const count = asMessage(bench, encapsulated(VNETID, frame), size);
    const name = `IPv${version} in pieces of ${size}`;
    t.equal(count, 1, `${name}: one frame`);
    t.equal(word(incoming, 0, d.SEGMENT), 0, 'no run');
    const { accepted, fields } = recognised(1450, layoutOf(packet).network);
    t.ok(accepted, 'taken');
    t.match(fields, superframeFields(packet, size), 'as a superframe of that size');
    native.tapWrite(incoming.handle, bench.into, Int32Array.of(0, 0), 1);
    const segments = segmentsOf(packet, size).map((segment) => toHex(frameOf(segment)));
    t.same(wireOf(readAll(bench.outOf)), segments, 'and the stack knows');
  }
  // Datagrams larger than the overlay's MTU are no better for being many.
  const big: Packet = { ...PLAIN, ...UDP, payload: noise(9, 4000) };
  asMessage(bench, encapsulated(VNETID, frameOf(big, 'partial')), 1500);
  t.notOk(recognised(1450, 14).accepted, 'segments above the MTU are not taken');

  // An IP length that claims all datagrams behind it, which are somebody else's; or payload that looks like VXLAN. Only the
  // kernel knows (netns/receive.test.ts has the other lies).
  const liar = frameOf({ ...PLAIN, ...UDP, payload: noise(1, 100) });
  new DataView(liar.buffer).setUint16(16, 2 * liar.length + VXLAN_BYTES - 14);
  const claim = Uint8Array.from([...encapsulated(VNETID, liar), ...encapsulated(7, frameOf(three(UDP)[0]))]);
  const count = asMessage(bench, claim, liar.length + VXLAN_BYTES);
  t.equal(count, 1 | AMBIGUOUS);
  t.equal(word(incoming, 0, d.LENGTH), 0, 'a length that claims just the next datagram costs the message');
  t.equal(d.runFrames(incoming.descriptors, 0), 2, 'which counts as its datagrams');
}

/** One decision is made for a run, so its frames are alike in all that it is made of. */
function runs(t: Test, bench: Bench): void {
  const frames = three().map((packet) => frameOf(packet));
  const datagrams = (change: (bytes: Uint8Array) => void): Uint8Array[] =>
    frames.map((frame, index) => {
      const bytes = encapsulated(VNETID, frame);
      if (index === 1) change(bytes);
      return bytes;
    });
  const set = (at: number, value: number) => (bytes: Uint8Array) => {
    bytes[at] = value;
  };
  const rows: readonly [name: string, message: Uint8Array[], descriptors: readonly number[]][] = [
    ['nothing else', datagrams(() => undefined), [3]],
    ['a payload', datagrams(set(100, 1)), [3]],
    ['a VNI', datagrams(set(6, 1)), [1, 1, 1]],
    ['a flag', datagrams(set(0, 0)), [1, 1, 1]],
    ['a destination', datagrams(set(8 + 5, 1)), [1, 1, 1]],
    ['a source', datagrams(set(8 + 11, 1)), [1, 1, 1]],
    ['an EtherType', datagrams(set(8 + 12, 9)), [1, 1, 1]],
    ['a traffic class', datagrams(set(8 + 15, 1)), [1, 1, 1]],
    [
      'the last one shorter',
      [...datagrams(() => undefined), encapsulated(VNETID, frames[0].slice(0, 40))],
      [4],
    ],
    [
      'and shorter than IP',
      [...datagrams(() => undefined), encapsulated(VNETID, frames[0].slice(0, 20))],
      [3, 1],
    ],
    ['all of them tiny', Array<Uint8Array>(3).fill(encapsulated(VNETID, frames[0].slice(0, 14))), [1, 1, 1]],
  ];
  for (const [name, message, expected] of rows) {
    const count = asMessage(bench, Buffer.concat(message), message[0].length);
    const at = Array.from({ length: count }, (_, index) => index * d.DESCRIPTOR_WORDS);
    t.same(
      at.map((each) => d.runFrames(incoming.descriptors, each)),
      expected,
      `what differs: ${name}`,
    );
    const bytes = at.reduce((sum, each) => sum + d.runBytes(incoming.descriptors, each), 0);
    t.equal(bytes, Buffer.concat(message).length, 'all of it is there');
  }

  // A run that was not made by udpReceive is not believed.
  const strange = frames.map((frame) => frame.slice());
  strange[1][5] ^= 4;
  put([whole(Buffer.concat(strange))]);
  outgoing.descriptors[d.LENGTH] = strange[0].length;
  outgoing.descriptors[d.SEGMENT] = strange[0].length;
  outgoing.descriptors[d.RUN_END] = outgoing.descriptors[d.OFFSET] + 3 * strange[0].length;
  t.equal(deliveredOf(native.tapWrite(outgoing.handle, bench.into, Int32Array.of(0, 0), 1)), 1);
  t.same(
    readAll(bench.outOf).map(({ frame }) => toHex(frame)),
    strange.map(toHex),
    'frames to different places stay apart',
  );
}

await offloadTests(import.meta.url, [
  ['segments are put together right', together],
  ['superframes that a kernel peer has not cut', uncut],
  ['what makes a run', runs],
]);
