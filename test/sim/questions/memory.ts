// What a target costs a host: the structures of one host, with more and more targets in use. The batches of its threads are not
// in it, since they do not grow (npm run sim -- --measure has whole processes).
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Site, type SiteTerms } from '../site.js';

export interface MemoryResult {
  readonly targets: number;
  /** Of all that one host holds, per target beyond the smallest row; bytes. */
  readonly bytesATarget: number;
  readonly kibAHost: number;
}

const SIZES = [10, 100, 1000, 10_000, 100_000] as const;
/** Hosts that are measured together, so that a few KB of noise are none. */
const TARGETS_TOGETHER = 200_000;
/** Frames at once, below the burst of questions that a port may ask (core/queues/questions.ts). */
const SLICE = 500;

export async function memory(terms: SiteTerms): Promise<readonly MemoryResult[]> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const rows: MemoryResult[] = [];
  for (const targets of SIZES.filter((size) => size <= terms.macs / 2)) {
    const hosts = Math.max(1, Math.min(200, Math.floor(TARGETS_TOGETHER / targets)));
    const bytes = (await measure({ ...terms, hosts: hosts + 1 }, hosts, targets, collect)) / hosts;
    const first = rows.at(0);
    const grown = first === undefined ? NaN : bytes - first.kibAHost * 1024;
    rows.push({
      targets,
      kibAHost: bytes / 1024,
      bytesATarget: first === undefined ? NaN : grown / (targets - first.targets),
    });
  }
  return rows;
}

/** Bytes of so many hosts, each with so many targets in use. */
async function measure(
  terms: SiteTerms,
  hosts: number,
  targets: number,
  collect: () => void,
): Promise<number> {
  const site = new Site(terms);
  try {
    const before = used(collect);
    for (let index = 0; index < hosts; index++) {
      site.host(index).start();
      await site.clock.run(site.clock.nowMs + 100);
      const flow = site.flow(index, 0);
      for (let mac = 0; mac < targets;) {
        for (const end = Math.min(targets, mac + SLICE); mac < end; mac++) site.send({ ...flow, mac });
        await site.clock.run(site.clock.nowMs + 1000);
      }
    }
    await site.clock.run(site.clock.nowMs + 10_000);
    const answered = site.store.load.total(['lookups']);
    if (answered < 0.99 * hosts * targets)
      throw new Error(`${answered} of ${hosts * targets} MACs were asked about`);
    return used(collect) - before;
  } finally {
    site.close();
  }
}

function used(collect: () => void): number {
  for (let round = 0; round < 3; round++) collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
