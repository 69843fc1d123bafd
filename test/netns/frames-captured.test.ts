// Packets that other projects have captured arrive as these say.

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { fieldsOf } from '../helpers/capture.js';
import { directOverlay } from '../helpers/daemon.js';
import { toHex } from '../helpers/frames.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { exec } from '../helpers/process.js';
import { FrameSink, sendDatagrams } from '../helpers/traffic.js';
import { VXLAN_PORT, oneDaemon } from '../helpers/one-daemon.js';

// ---------------------------------------------------------------- captures

const CAPTURES = fromRoot('../shared/testdata/pcaps');
const JUMBO_MTU = 9000;

/** A datagram, and the frame that tshark finds in it. */
interface Sample {
  readonly vnetid: number;
  readonly datagram: Buffer;
  readonly frame: string;
}

/** A node of `tshark -T json -x`: digits, first byte, and more. */
type Raw = readonly [hex: string, offset: number, ...unknown[]];
interface Packet {
  readonly _source: { readonly layers: { readonly frame_raw: Raw; readonly eth_raw: readonly Raw[] } };
}

async function samplesOf(file: string): Promise<Sample[]> {
  const rows = await fieldsOf(file, 'vxlan', ['vxlan.vni', 'udp.payload', 'udp.length']);
  if (rows.length === 0) return [];
  const json = ['-T', 'json', '-x', '--no-duplicate-keys'];
  const packets = JSON.parse(await exec(['tshark', '-n', '-r', file, '-Y', 'vxlan', ...json])) as Packet[];
  return rows.map((row, index) => {
    const { frame_raw: whole, eth_raw: headers } = packets[index]._source.layers;
    const [, start] = headers[1];
    // The datagram ends before the packet does where a wire has padded it. 16: the UDP and the VXLAN header.
    const end = start + Number(row['udp.length'][0]) - 16;
    const datagram = Buffer.from(row['udp.payload'][0], 'hex');
    return { vnetid: Number(row['vxlan.vni'][0]), datagram, frame: whole[0].slice(2 * start, 2 * end) };
  });
}

const files = existsSync(CAPTURES) ? readdirSync(CAPTURES).sort() : [];
const skipCaptures =
  skipUnlessNetns(['tshark']) || (files.length === 0 && `needs the captures of ${CAPTURES}`);

await t.test('captures of other projects', { skip: skipCaptures }, async (t) => {
  const { a, b, daemon } = await oneDaemon(t, JUMBO_MTU);
  const replay = async (t: Test, samples: readonly Sample[]): Promise<void> => {
    for (const vnetid of new Set(samples.map((sample) => sample.vnetid))) {
      await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid }, '-t'));
      const sink = await FrameSink.open(a, 'overlay0');
      const own = samples.filter((sample) => sample.vnetid === vnetid);
      const payloads = own.map(({ datagram }) => datagram);
      await sendDatagrams(b, { to: a.underlay.v4, port: VXLAN_PORT, payloads });
      const frames = (await sink.waitFor(own.length)).map(toHex);
      t.same(
        frames,
        own.map(({ frame }) => frame),
        `VNI ${vnetid}: ${own.length} frames, byte for byte`,
      );
      await sink.close();
      await daemon.ok('delete-overlay overlay0');
    }
  };
  let replayed = 0;
  for (const file of files) {
    const samples = await samplesOf(path.join(CAPTURES, file));
    if (samples.length > 0) await t.test(file, (t) => replay(t, samples));
    replayed += samples.length;
  }
  t.ok(replayed > 100, `${replayed} datagrams`);
});
