// The wires of the bench that are not a veth alone: one that delays, one that loses. What they carry arrives as it was sent.
import t from 'tap';

import * as d from '../../src/wire/descriptor.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { probeFeatures } from '../../src/dgram-extra/index.js';
import { DELAY_RELAY, hostsOverWire, type Wire, wires } from '../bench/subjects/wire.js';
import { Capture } from '../helpers/capture.js';
import { filler, toHex } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';
import { frameOf, MACS, PLAIN, superframeFields } from '../helpers/superframe.js';
import { FrameSink, ping, reaches, sendFrames, transferTcp } from '../helpers/traffic.js';
import { newBed } from '../helpers/tunnels.js';

/** Long enough that a relay that keeps nothing back is told from one that does. */
const DELAY_US = 20_000;
const named = (wanted: string): Wire => wires.find(({ name }) => name === wanted)!;
const SEGMENT_BYTES = 1400;
const OURS = toHex(Uint8Array.from(MACS));
const VNETID = 42;

/** A virtio-net header and its frame: a packet, or a superframe where the payload is longer than a segment. */
function framed(payloadBytes: number, sequence: number, protocol: 'tcp' | 'udp'): Uint8Array {
  const packet = { ...PLAIN, protocol, sequence, payload: filler(payloadBytes) };
  const header = new Uint8Array(10);
  if (payloadBytes <= SEGMENT_BYTES) return Buffer.concat([header, frameOf(packet)]);
  const fields = superframeFields(packet, SEGMENT_BYTES);
  const view = new DataView(header.buffer);
  header[0] = fields[d.FLAGS];
  header[1] = fields[d.GSO_TYPE];
  for (const [index, field] of [d.HEADER_BYTES, d.GSO_SIZE, d.CSUM_START, d.CSUM_OFFSET].entries())
    view.setUint16(2 + 2 * index, fields[field], true);
  return Buffer.concat([header, frameOf(packet, 'partial')]);
}

t.test('a delay', { skip: skipUnlessNetns(['tshark']) }, async (t) => {
  await t.test('frames and superframes come whole and in order', async (t) => {
    const bed = newBed(t);
    const [a, b] = await hostsOverWire(bed, { ...named('delay'), delayUs: DELAY_US }, { v6: false });
    const frames = Array.from({ length: 300 }, (_, index) => {
      const protocol = index % 2 === 0 ? 'tcp' : 'udp';
      return framed(index % 5 === 0 ? 40_000 + index : 100 + index, index, protocol);
    });
    for (const [from, to] of [
      [a, b],
      [b, a],
    ]) {
      const sink = await FrameSink.open(to, UNDERLAY_DEVICE, OURS);
      const { code, stderr } = await sendFrames(from, UNDERLAY_DEVICE, frames, { vnet: true });
      t.equal(code, 0, stderr);
      const arrived = await sink.waitFor(frames.length);
      t.strictSame(
        arrived.map(toHex),
        frames.map((frame) => toHex(frame.subarray(10))),
        from === a ? 'there' : 'back',
      );
      t.strictSame(
        sink.partialChecksum,
        frames.map((frame) => (frame[0] & virtio.NEEDS_CHECKSUM) !== 0),
        'checksums that were left to the device are left still',
      );
      await sink.close();
    }
  });

  await t.test('a round trip takes the delay twice', async (t) => {
    const bed = newBed(t);
    const [a, b] = await hostsOverWire(bed, { ...named('delay'), delayUs: DELAY_US }, {});
    for (const target of [b.underlay.v4, b.underlay.v6]) {
      const { rttUs, received } = await ping(a, target, { count: 5 });
      t.equal(received, 5, target);
      t.ok(Math.min(...rttUs) >= 2 * DELAY_US, `${Math.min(...rttUs)} us`);
    }
  });

  await t.test('superframes in a tunnel of the kernel cross', async (t) => {
    const bed = newBed(t);
    const [a, b] = await hostsOverWire(bed, named('delay'), { mtuBytes: 9000, v6: false });
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ]) {
      const ends = { local: host.underlay.v4, remote: peer.underlay.v4 };
      const device = await addKernelVxlan(host, { vnetid: VNETID, ...ends });
      await host.plumb(device, { mtuBytes: 8900, v6: false });
    }
    t.ok(await reaches(a, b.overlay.v4));
    const capture = await Capture.start(bed, b, UNDERLAY_DEVICE, 'udp port 4789');
    t.ok((await transferTcp(a, b, { bytes: 10_000_000 })).exact);
    await capture.stop();
    const large = await capture.count('frame.len > 10000');
    t.equal(large > 0, probeFeatures().tapTunnelSegmentation, `${large} tunnel frames came uncut`);
  });

  await t.test('the relay refuses what is no delay', async (t) => {
    for (const words of [
      ['tap0', 'tap1'],
      ['tap0', 'tap1', 'soon'],
      ['tap0', 'tap1', ''],
    ]) {
      const { code, stderr } = await run([DELAY_RELAY, ...words]);
      t.equal(code, 2);
      t.match(stderr, /^usage: delay-relay TAP TAP MICROSECONDS/);
    }
  });
});

t.test(
  'a loss: each frame arrives or is counted as lost',
  { skip: skipUnlessNetns(['nft', 'ethtool']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await hostsOverWire(bed, { ...named('loss'), losesOneIn: 2 }, { v6: false });
    const sink = await FrameSink.open(b, UNDERLAY_DEVICE, OURS);
    const frames = Array.from({ length: 200 }, (_, index) =>
      framed(index % 2 === 0 ? 30_000 : 100, index, 'tcp'),
    );
    const { code, stderr } = await sendFrames(a, UNDERLAY_DEVICE, frames, { vnet: true });
    t.equal(code, 0, stderr);
    const lost = async (): Promise<number> => {
      const listed = await bed.hosts[2].exec('nft list ruleset');
      return Number(/counter packets (\d+)/.exec(listed)?.[1]);
    };
    await waitUntil(async () => sink.frames.length + (await lost()) >= frames.length, { what: 'all frames' });
    const sent = frames.map((frame) => toHex(frame.subarray(10)));
    const arrived = sink.frames.map(toHex);
    t.equal(arrived.length + (await lost()), frames.length, 'a superframe counts as one');
    t.ok(arrived.length > 0 && arrived.length < frames.length, `${arrived.length} of ${frames.length}`);
    t.strictSame(
      arrived,
      sent.filter((frame) => arrived.includes(frame)),
      'those that arrive are whole and in order',
    );
    await sink.close();
  },
);
