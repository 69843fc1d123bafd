// Turns of the datapath thread (datapath/userland/thread/port-turn.ts): what one port sends, however it is packed, leaves the others
// their share, is bounded a turn, and arrives whole and in order.
import fc from 'fast-check';
import t, { type Test } from 'tap';

import { Backlog } from '../../src/core/queues/backlog.js';
import { createBatch } from '../../src/io/memory-batch.js';
import type { Device } from '../../src/io/contract.js';
import * as d from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { endpoint, frame, Lab, MAC, type Net, type Vtep } from '../helpers/lab.js';
import { frameOf, onTheWire, packetOf, PLAIN, superframeFields, type Packet } from '../helpers/superframe.js';

/** What README promises. */
const TURN_SEGMENTS = 1024;
/** Of less than 536 bytes. */
const SMALL_SEGMENTS = 256;
const PART_SEGMENTS = 128;
const QUESTION_SEGMENTS = 64;

// -- Parts

/** What a batch holds, as frames with the words of their virtio-net headers. */
function framesIn(
  batch: d.FrameBatch,
  count: number,
): { bytes: Uint8Array; fields: Record<number, number> }[] {
  return Array.from({ length: count }, (_, index) => {
    const words = batch.descriptors.subarray(index * d.DESCRIPTOR_WORDS, (index + 1) * d.DESCRIPTOR_WORDS);
    const bytes = batch.bytes.slice(words[d.OFFSET], words[d.OFFSET] + words[d.LENGTH]);
    return { bytes, fields: Object.fromEntries(words.entries()) };
  });
}

function place(batch: d.FrameBatch, bytes: Uint8Array, fields: Record<number, number>): void {
  batch.descriptors.fill(0, 0, d.DESCRIPTOR_WORDS);
  batch.bytes.set(bytes, d.HEADROOM_BYTES);
  batch.descriptors[d.OFFSET] = d.HEADROOM_BYTES;
  batch.descriptors[d.LENGTH] = bytes.length;
  for (const [word, value] of Object.entries(fields)) batch.descriptors[Number(word)] = value;
}

/** All that comes out of a backlog, `done` frames of each refill being taken. */
function drain(
  backlog: Backlog,
  batch: d.FrameBatch,
  done: (count: number) => number,
): ReturnType<typeof framesIn> {
  const all = [];
  while (!backlog.isEmpty) {
    const count = done(backlog.refill(batch, TURN_SEGMENTS));
    all.push(...framesIn(batch, count));
    backlog.done(count);
  }
  return all;
}

const bytesOf = (multiple: number, most: number): fc.Arbitrary<Uint8Array> =>
  fc
    .nat(most / multiple)
    .chain((count) => fc.uint8Array({ minLength: count * multiple, maxLength: count * multiple }));

/** Superframes of every type, and how many bytes a segment has. */
const long: fc.Arbitrary<readonly [Packet, number]> = fc
  .record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    tags: fc.array(fc.nat(0xfff), { maxLength: 4 }),
    identification: fc.nat(0xffff),
    options: bytesOf(4, 40),
    hasExtension: fc.boolean(),
    sequence: fc.nat(0xffff_ffff),
    flags: fc.nat(0xff),
    tcpOptions: bytesOf(4, 40),
    segmentBytes: fc.integer({ min: 1, max: 88 }),
    segments: fc.integer({ min: PART_SEGMENTS + 1, max: 700 }),
    missing: fc.nat(),
    seed: fc.nat(0xff),
  })
  .map(({ hasExtension, segmentBytes, segments, missing, seed, ...packet }) => {
    const length = segments * segmentBytes - (missing % segmentBytes);
    const payload = Uint8Array.from({ length }, (_, at) => (at * 7 + seed) & 0xff);
    const extension = hasExtension
      ? { type: ipv6.DESTINATION_OPTIONS, bytes: Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0) }
      : undefined;
    return [{ ...PLAIN, ...packet, extension, payload }, segmentBytes] as const;
  });

t.test('the parts of a superframe are, byte for byte, what the whole is on the wire', (t) => {
  const batch = createBatch(0, 4);
  fc.assert(
    fc.property(long, fc.constantFrom(1, 2, 4), ([packet, segmentBytes], most) => {
      const whole = frameOf(packet, 'partial');
      const fields = superframeFields(packet, segmentBytes);
      const backlog = new Backlog();
      place(batch, whole, fields);
      backlog.keep(batch, 0, 1);
      const parts = drain(backlog, batch, (count) => Math.min(count, most));
      const segments = parts.map(({ bytes, fields: words }) => {
        // As a device that cuts by itself would be given it.
        const partial = frameOf(packetOf(bytes), 'partial');
        if (!Buffer.from(bytes).equals(partial)) throw new Error('a part is no superframe');
        const isEcn = (words[d.GSO_TYPE] & virtio.GSO_ECN) !== 0;
        const hasCwr = packet.protocol === 'tcp' && (packetOf(bytes).flags & tcp.CWR) !== 0;
        if (isEcn !== hasCwr) throw new Error('ECN without CWR');
        const cut = onTheWire(bytes, words);
        if (cut.length > PART_SEGMENTS) throw new Error(`${cut.length} segments in a part`);
        return cut;
      });
      const expected = onTheWire(whole, fields);
      return (
        Buffer.concat(segments.flat()).equals(Buffer.concat(expected)) &&
        segments.flat().length === expected.length
      );
    }),
    { numRuns: 300, seed: 11 },
  );
  t.end();
});

// -- Turns

const HEADER_BYTES = 54;

/** TCP over IPv4 from `from` to `to`, and the virtio-net header that goes with it. */
function superframe(
  payloadBytes: number,
  gsoSize: number,
  { from = MAC.a, sequence = 1 }: { readonly from?: number; readonly sequence?: number } = {},
): readonly [Uint8Array, virtio.Repr] {
  const payload = Uint8Array.from({ length: payloadBytes }, (_, at) => at & 0xff);
  const bytes = frameOf({ ...PLAIN, payload, sequence }, 'partial');
  ethernet.write({ destination: MAC.b, source: from, etherType: ethernet.IPV4 }, bytes, 0);
  const header: virtio.Repr = {
    flags: virtio.NEEDS_CHECKSUM,
    gsoType: virtio.GSO_TCPV4,
    gsoSize,
    headerLength: HEADER_BYTES,
    checksumStart: 34,
    checksumOffset: tcp.CHECKSUM,
  };
  return [bytes, header];
}

/** A socket that counts what its frames are on the wire, and keeps the payloads of what it sends. */
class Counting implements Device {
  segments = 0;
  readonly sequences: number[] = [];
  payloadBytes = 0;

  receive(): number {
    return 0;
  }

  deliver(batch: d.FrameBatch, entries: Int32Array, count: number): number {
    for (let entry = 0; entry < count; entry++) {
      const at = entries[2 * entry] * d.DESCRIPTOR_WORDS;
      const { bytes, descriptors } = batch;
      const frame = descriptors[at + d.OFFSET];
      const payloadBytes = descriptors[at + d.LENGTH] - HEADER_BYTES;
      const isCut = descriptors[at + d.GSO_TYPE] !== virtio.GSO_NONE;
      this.segments += isCut ? Math.ceil(payloadBytes / descriptors[at + d.GSO_SIZE]) : 1;
      if (!isCut) continue;
      this.sequences.push(tcp.sequence(bytes, frame + 34));
      this.payloadBytes += payloadBytes;
    }
    return count;
  }
}

function shared(options: ConstructorParameters<typeof Net>[2] = {}) {
  const lab = new Lab();
  const device = new Counting();
  const vtep = lab.vtep('192.0.2.1', { wrapSender: () => device });
  const net = vtep.overlay({ vnetid: 100, destination: endpoint('192.0.2.2'), ...options });
  const guest = net.port(MAC.a);
  const victims = vtep.overlay({ vnetid: 200, destination: endpoint('192.0.2.2') });
  const [from, to] = [victims.port(MAC.c), victims.port(MAC.d)];
  return { lab, vtep, device, net, guest, from, to };
}

/** One round of the thread: all that are ready, then what is waiting. What each turn cost in datagrams. */
function round(vtep: Vtep, device: Counting): number[] {
  const costs: number[] = [];
  let before = device.segments;
  const took = () => {
    costs.push(device.segments - before);
    before = device.segments;
  };
  for (const token of vtep.host.ready()) {
    vtep.engine.pump(token);
    took();
  }
  vtep.engine.resume();
  took();
  return costs;
}

/** The guest has queued what it has; a frame between two ports of another overlay is sent in each round and has to be there at
 * its end. */
function served(t: Test, { vtep, device, from, to }: ReturnType<typeof shared>, most: number): number {
  let rounds = 1;
  do {
    from.port.send(frame(MAC.d, MAC.c));
    const costs = round(vtep, device);
    t.ok(Math.max(...costs) <= most, `a turn is at most ${most} datagrams, not ${Math.max(...costs)}`);
    t.equal(to.take().length, 1, 'the others have their turn in every round');
  } while ((vtep.host.ready().length > 0 || vtep.engine.hasWaiting) && ++rounds < 10_000);
  return rounds;
}

t.test('superframes of very small segments: bounded a turn, none lost, in order', (t) => {
  for (const [payloadBytes, gsoSize] of [
    [60_000, 1],
    [65_000, 88],
    [20_000, 20],
  ] as const) {
    const bed = shared();
    const { net, guest, device } = bed;
    const COUNT = 5;
    for (let index = 0; index < COUNT; index++)
      guest.port.send(...superframe(payloadBytes, gsoSize, { sequence: 1 + index * payloadBytes }));
    served(t, bed, SMALL_SEGMENTS + PART_SEGMENTS);
    const segments = COUNT * Math.ceil(payloadBytes / gsoSize);
    t.equal(device.segments, segments, `gso_size ${gsoSize}`);
    t.equal(device.payloadBytes, COUNT * payloadBytes, 'no byte is lost or doubled');
    t.strictSame(
      device.sequences,
      [...device.sequences].sort((a, b) => a - b),
      'in order',
    );
    t.match([net.drops, net.counters], [{}, { tx_frames: segments }]);
    t.match(guest.counters, {
      tx_frames: segments,
      tx_bytes: segments * HEADER_BYTES + COUNT * payloadBytes,
    });
  }
  t.end();
});

t.test('honest superframes go as they came, in one turn', (t) => {
  const { lab, vtep, device, guest, net } = shared();
  for (let index = 0; index < 2; index++) guest.port.send(...superframe(60_000, 1400));
  t.strictSame(round(vtep, device).slice(0, 2), [2 * 43, 0]);
  t.equal(vtep.engine.hasWaiting, false);
  t.equal(device.sequences.length, 2, 'whole');
  lab.run();
  t.strictSame(net.drops, {});
  t.end();
});

t.test('what comes behind one that goes in parts stays behind it', (t) => {
  const { lab, net, guest } = shared();
  const neighbour = net.port(MAC.b);
  const first = frame(MAC.b, MAC.a, 61);
  const last = frame(MAC.b, MAC.a, 62);
  guest.port.send(first);
  guest.port.send(...superframe(4_000, 1));
  guest.port.send(last);
  lab.run();
  const heard = neighbour.takeWhole();
  t.equal(heard.length, 2 + Math.ceil(4_000 / PART_SEGMENTS), 'a local port has the parts');
  t.strictSame([heard[0].bytes, heard.at(-1)?.bytes], [first, last]);
  const middle = heard.slice(1, -1).flatMap(({ bytes, header }) =>
    onTheWire(bytes, {
      [d.GSO_TYPE]: header.gsoType,
      [d.GSO_SIZE]: header.gsoSize,
      [d.FLAGS]: header.flags,
    }),
  );
  const [whole, header] = superframe(4_000, 1);
  // onTheWire has MACs of its own.
  const expected = onTheWire(whole, { [d.GSO_TYPE]: header.gsoType, [d.GSO_SIZE]: header.gsoSize });
  t.equal(Buffer.concat(middle).equals(Buffer.concat(expected)), true);
  t.match(neighbour.counters, { rx_frames: 4_002 });
  t.end();
});

t.test('one that cannot be cut is refused as ever, and holds up nobody', (t) => {
  const { lab, guest, device } = shared();
  const [bytes, header] = superframe(60_000, 1);
  guest.port.send(bytes, { ...header, gsoType: virtio.GSO_TCPV6 });
  guest.port.send(bytes, { ...header, checksumStart: 2 });
  lab.run();
  t.equal(device.sequences.length, 2, 'they come to the socket once, whole');
  t.end();
});

t.test('a flood costs what it sends', (t) => {
  const DESTINATIONS = 100;
  const bed = shared({ destination: undefined });
  const { net, guest, device } = bed;
  const to = Array.from({ length: DESTINATIONS }, (_, index) => endpoint(`192.0.2.${index + 10}`));
  net.setTarget(MAC.all, to);
  for (let index = 0; index < 64; index++) guest.port.send(frame(MAC.all, MAC.a));
  const rounds = served(t, bed, TURN_SEGMENTS + DESTINATIONS);
  t.equal(device.segments, 64 * DESTINATIONS);
  t.ok(rounds >= Math.floor((64 * DESTINATIONS) / TURN_SEGMENTS), 'in as many turns as it is worth');
  t.strictSame(net.drops, {});
  t.end();
});

t.test('so does a broadcast to many ports of this host', (t) => {
  const bed = shared();
  const { net, guest } = bed;
  const PORTS = 300;
  const others = Array.from({ length: PORTS }, (_, index) => net.port(0x0200_0000_1000 + index));
  for (let index = 0; index < 20; index++) guest.port.send(frame(MAC.all, MAC.a));
  t.ok(served(t, bed, 64) >= Math.floor((20 * PORTS) / TURN_SEGMENTS));
  for (const other of others) if (other.take().length !== 20) t.fail('a port has not had all');
  t.end();
});

t.test('and questions to the control side', (t) => {
  const bed = shared({ destination: undefined });
  const { vtep, guest, device } = bed;
  const most = TURN_SEGMENTS / (QUESTION_SEGMENTS + 1);
  for (let index = 0; index < 500; index++) guest.port.send(frame(0x0200_0000_2000 + index, MAC.a));
  for (let asked = 0; vtep.host.ready().length > 0 || vtep.engine.hasWaiting; asked = vtep.questions.length) {
    round(vtep, device);
    t.ok(vtep.questions.length - asked <= Math.ceil(most), `${vtep.questions.length - asked} in a turn`);
  }
  t.equal(vtep.questions.length, 500, 'all are asked');
  t.end();
});

t.test('who has just become ready does not wait for those who are never done', (t) => {
  const { vtep, guest, device, from, to } = shared();
  guest.port.send(...superframe(60_000, 1));
  round(vtep, device);
  t.equal(vtep.engine.hasWaiting, true);
  const before = device.segments;
  from.port.send(frame(MAC.d, MAC.c));
  for (const token of vtep.host.ready()) vtep.engine.pump(token);
  t.equal(to.take().length, 1);
  t.equal(device.segments, before, 'the guest has had no turn meanwhile');
  t.equal(vtep.engine.resume(), true);
  t.ok(device.segments > before, 'it has it now');
  t.end();
});

t.test('ports that want all have the same share, whatever their frames are', (t) => {
  const { vtep, device, net, guest } = shared();
  const others = [
    { tap: net.port(MAC.c), payloadBytes: 65_000, gsoSize: 88 },
    { tap: net.port(MAC.e), payloadBytes: 60_000, gsoSize: 1400 },
  ];
  for (let index = 0; index < 2; index++) guest.port.send(...superframe(60_000, 1));
  for (const { tap, payloadBytes, gsoSize } of others) {
    for (let index = 0; index < 60; index++)
      tap.port.send(...superframe(payloadBytes, gsoSize, { from: tap.mac }));
  }
  const ROUNDS = 20;
  for (let rounds = 0; rounds < ROUNDS; rounds++) round(vtep, device);
  for (const tap of [guest, ...others.map((other) => other.tap)]) {
    const { tx_frames } = tap.counters;
    // Of honest superframes a batch of the network in memory has fewer than a turn.
    const share = tx_frames / (ROUNDS * (tap === others[1].tap ? TURN_SEGMENTS : SMALL_SEGMENTS));
    t.ok(share <= 1 + 1 / ROUNDS, `${tx_frames} are no more than its turns`);
    if (tap !== others[1].tap) t.ok(share > 0.8, `${tx_frames} are most of them`);
  }
  t.end();
});

t.test('what waited for an answer goes out in turns too', (t) => {
  const { lab, vtep, net, guest, device } = shared({ destination: undefined });
  guest.port.send(...superframe(60_000, 1));
  lab.run();
  t.equal(vtep.questions.length, 1);
  vtep.engine.beginCommands();
  const answer = { kind: 'target', to: [endpoint('192.0.2.2')], ttlMs: Infinity } as const;
  vtep.engine.obey({ kind: 'answer', overlay: net.id, lookup: vtep.questions[0].lookup, answer });
  t.equal(vtep.engine.isSpent, true, 'the commands behind it are for the next turn');
  t.ok(device.segments <= 2 * SMALL_SEGMENTS, `${device.segments} at once`);
  t.equal(device.segments + (net.drops.pending_full ?? 0), 60_000, 'what had no room is counted');
  t.end();
});

t.test('frames of a port that goes are gone, and hold up nobody', (t) => {
  const { vtep, device, guest } = shared();
  guest.port.send(...superframe(60_000, 1));
  for (let rounds = 0; rounds < 3; rounds++) round(vtep, device);
  t.equal(vtep.engine.hasWaiting, true);
  guest.remove();
  t.equal(vtep.engine.hasWaiting, false);
  t.end();
});
