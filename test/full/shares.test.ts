// A storm of ARP of one VNIC under a slow plugin: its neighbour has all its answers, and another overlay loses nothing.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { FrameSink, sendFrames } from '../helpers/traffic.js';
import { arpFrame, pacedFrames } from '../helpers/zlan.js';

/** Each answer takes that long: 256 places are enough for 1,280 a second, and the storm has 10,000. */
const SLOW_MS = 200;
const STORM = 20_000;
const NEIGHBOURS = 12;
const [NOISY, QUIET, WANTED] = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:0b'];

const SOURCE = `
import { setTimeout } from 'node:timers/promises';
export default {
  apiVersion: 2, name: 'slow', mode: 'dynamic', properties: [],
  create: () => ({
    start: async () => {}, stop: async () => {},
    resolve: async ({ etherType }) => {
      await setTimeout(${SLOW_MS});
      return etherType === 0x0806 ? { kind: 'proxy', what: 'arp' } : { kind: 'drop', reason: 'nobody' };
    },
    neighbor: () => 0x${WANTED.replaceAll(':', '')},
  }),
};
`;

await t.test(
  'an ARP storm beside a neighbour, and beside another overlay',
  { skip: skipUnlessNetns() },
  async (t) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const [a] = await bed.twoHosts();
    const directory = bed.directory();
    mkdirSync(path.join(directory, 'slow'));
    writeFileSync(path.join(directory, 'slow', 'index.mjs'), SOURCE);
    const daemon = (await Daemon.start(bed, a, { pluginPath: [directory], withoutRoot: true })).explain(t);
    const vnics = { noisy0: NOISY, quiet0: QUIET, other0: QUIET };
    for (const [index, name] of ['overlay0', 'overlay1'].entries()) {
      await daemon.ok(
        `create-overlay -e vxlan -s slow -v ${7 + index} -p vxlan/listen_ip=${a.underlay.v4} ${name}`,
      );
      await a.quietIpv6(name);
    }
    for (const [name, mac] of Object.entries(vnics)) {
      await daemon.ok(`create-vnic -m ${mac} -l ${name === 'other0' ? 'overlay1' : 'overlay0'} ${name}`);
      await a.quietIpv6(name);
      await a.ip(`link set ${name} up`);
    }
    const counters = async (name: string): Promise<Record<string, number>> =>
      (await daemon.overlays(name))[0].counters;
    const sinks = await Promise.all(['quiet0', 'other0'].map((name) => FrameSink.open(a, name)));
    const replies = (sink: FrameSink): number =>
      sink.frames.filter((frame) => frame.readUInt16BE(12) === 0x0806 && frame.readUInt16BE(20) === 2).length;
    const request = (from: string, n: number): Uint8Array =>
      arpFrame({ from, senderIp: '10.55.55.1', targetIp: `10.55.${1 + (n >> 8)}.${n & 255}` });

    const storm = pacedFrames(
      a,
      'noisy0',
      Array.from({ length: STORM }, (_, n) => request(NOISY, n & 0xffff)),
    );
    const full = async (): Promise<boolean> => ((await counters('overlay0'))['pending_full'] ?? 0) > 1000;
    await waitUntil(full, { what: 'the storm to fill what it may' });
    for (let n = 0; n < NEIGHBOURS; n++) {
      await sendFrames(a, 'quiet0', [request(QUIET, n)]);
      await sendFrames(a, 'other0', [
        request(QUIET, n),
        udpFrame({ sourceMac: QUIET, destinationMac: WANTED }),
      ]);
      await sleep(50);
    }
    const areThere = (): boolean => sinks.every((sink) => replies(sink) >= NEIGHBOURS);
    await waitUntil(areThere, { what: 'the answers' }).catch(() => undefined);
    t.same(
      sinks.map(replies),
      [NEIGHBOURS, NEIGHBOURS],
      'each question of the neighbour, and of the other overlay, is answered',
    );
    await storm;
    t.notOk((await counters('overlay1'))['pending_full'], 'the other overlay has lost nothing');
    for (const sink of sinks) await sink.close();
  },
);
