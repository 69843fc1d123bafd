// Two hosts, a daemon each, and a known flow between them, while the mapping of one of them becomes large, changes in every
// entry, and becomes small again.
import { renameSync } from 'node:fs';
import path from 'node:path';

import { Daemon } from '../helpers/daemon.js';
import { LARGE_MAPPING_VTEPS, writeLargeMapping } from '../helpers/mapping.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { residentKib } from '../helpers/procfs.js';
import { reaches } from '../helpers/traffic.js';
import { SteadyPing } from '../helpers/zlan.js';
import { median, quantile } from './report/statistics.js';

const INTERVAL_S = 0.002;
const FEW = 10;
/** Longer than a million entries take, on a machine that is busy otherwise too. */
const DEADLINE_MS = 60_000;
const MACS = ['de:ad:be:ef:00:00', 'de:ad:be:ef:00:01'] as const;

const shown = (us: number): string => `${(us / 1000).toFixed(2)} ms`;

/** A step, with what packets felt of it. Whether none was lost. */
async function step(what: string, daemon: Daemon, peer: string, work: () => Promise<void>): Promise<boolean> {
  const flow = await SteadyPing.start(daemon.host, peer, INTERVAL_S);
  let mostKib = 0;
  const timer = setInterval(() => (mostKib = Math.max(mostKib, residentKib(daemon.pid))), 20);
  const startedMs = performance.now();
  await work();
  const tookS = (performance.now() - startedMs) / 1000;
  clearInterval(timer);
  const { rttUs } = flow;
  const { lost } = await flow.stop();
  const latency = `p50 ${shown(median(rttUs))}, p99 ${shown(quantile(rttUs, 0.99))}, most ${shown(Math.max(...rttUs))}`;
  console.log(
    `${what.padEnd(28)} ${tookS.toFixed(1)} s, RSS ${Math.round(mostKib / 1024)} MiB; ` +
      `${rttUs.length} pings: ${latency}, ${lost} lost`,
  );
  return lost === 0;
}

async function measure(bed: Bed, entries: number): Promise<boolean> {
  const hosts = await bed.twoHosts({ v6: false });
  const files = hosts.map(() => path.join(bed.directory(), 'hosts.json'));
  const first = hosts.map(({ underlay, overlay }, index): [string, object] => [
    MACS[index],
    { arp: overlay.v4, ip: underlay.v4, port: 4789 },
  ]);
  const daemons: Daemon[] = [];
  for (const [index, host] of hosts.entries()) {
    writeLargeMapping(files[index], FEW, first);
    const limits = { startDeadlineMs: DEADLINE_MS };
    const daemon = await Daemon.start(bed, host, { config: { limits } });
    const properties = `-p vxlan/listen_ip=${host.underlay.v4} -p files/config=${files[index]}`;
    await daemon.ok(`create-overlay -e vxlan -s files -v 23 ${properties} overlay0`);
    await daemon.ok(`create-vnic -m ${MACS[index]} -l overlay0 vnic0`);
    await host.plumb('vnic0', { v6: false });
    daemons.push(daemon);
  }
  await hosts[0].ip(`route add ${LARGE_MAPPING_VTEPS} via ${hosts[1].underlay.v4}`);
  const [daemon] = daemons;
  const peer = hosts[1].overlay.v4;
  if (!(await reaches(hosts[0], peer))) throw new Error('no answer through the overlay');

  const large = [4789, 4790].map((port) => {
    const file = `${files[0]}.${port}`;
    writeLargeMapping(file, entries, first, port);
    return file;
  });
  const small = `${files[0]}.small`;
  writeLargeMapping(small, FEW, first);
  const become = async (file: string, pattern: RegExp): Promise<void> => {
    renameSync(file, files[0]);
    const says = async (): Promise<boolean> =>
      pattern.test((await daemon.overlays('overlay0'))[0].health.details ?? '');
    await waitUntil(says, { timeoutMs: DEADLINE_MS, what: `show-overlay to say ${pattern}` });
  };
  const more = entries - FEW;
  const results = [
    await step('nothing', daemon, peer, () => new Promise((resolve) => setTimeout(resolve, 3000))),
    await step(`${FEW} -> ${entries} entries`, daemon, peer, () =>
      become(large[0], new RegExp(`\\+${more} -0`)),
    ),
    await step('all move', daemon, peer, () => become(large[1], new RegExp(`~${entries} `))),
    await step(`${entries} -> ${FEW} entries`, daemon, peer, () =>
      become(small, new RegExp(`\\+0 -${more}`)),
    ),
    await step('nothing', daemon, peer, () => new Promise((resolve) => setTimeout(resolve, 3000))),
  ];
  return results.every(Boolean);
}

/** False when packets were lost. */
export async function underTraffic(entries: number): Promise<boolean> {
  const bed = new Bed();
  try {
    return await measure(bed, entries);
  } finally {
    await bed.cleanup();
  }
}
