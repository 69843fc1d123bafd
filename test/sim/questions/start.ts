// What the store is asked when all hosts of a site get their power at once, and how long it takes until all stations speak.
import { quantile } from '../../bench/report/statistics.js';
import { type Flow, Site, type SiteTerms } from '../site.js';

export interface StartTerms {
  /** MACs that each host speaks to. */
  readonly workingSet: number;
  /** The hosts start within so long, and the stations of each begin to speak within as long after it. */
  readonly withinMs: number;
}

export const START: StartTerms = { workingSet: 10, withinMs: 5000 };

export interface StartResult {
  readonly flows: number;
  readonly lookups: number;
  readonly peakLookups: number;
  readonly peakConnects: number;
  readonly refused: number;
  /** Answers that came after their asker had given up. */
  readonly wasted: number;
  readonly gigabytes: number;
  /** From the first frame of a flow to the first that arrived; ms. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** From the start of the first host until the last flow had arrived; s. */
  readonly allSeconds: number;
  readonly unserved: number;
  /** Requests of any kind, second by second. */
  readonly perSecond: readonly number[];
}

/** As Linux repeats a SYN: tcp(7), tcp_syn_retries. */
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [1000, 32_000];
const STEP_MS = 5000;
const LONGEST_MS = 900_000;

export async function start(terms: SiteTerms, given: StartTerms = START): Promise<StartResult> {
  const site = new Site(terms);
  try {
    return await run(site, given);
  } finally {
    site.close();
  }
}

async function run(site: Site, { workingSet, withinMs }: StartTerms): Promise<StartResult> {
  const { clock, random, terms, store } = site;
  const times: number[] = [];
  let lastMs = 0;
  let flows = 0;
  const startsMs = Float64Array.from({ length: terms.hosts }, () => random() * withinMs);
  for (let index = 0; index < terms.hosts; index++) {
    const host = site.host(index);
    clock.at(startsMs[index], () => {
      host.start();
    });
    // No answer comes before both hosts run, whatever the store does.
    const begin = site.peersOf(index, workingSet).map((mac) => ({
      mac,
      atMs: Math.max(startsMs[index], startsMs[site.places[mac]]) + random() * withinMs,
    }));
    begin.sort((one, other) => other.atMs - one.atMs);
    flows += begin.length;
    // One event a host at a time: a million that wait would slow down all others.
    const next = (): void => {
      const { mac } = begin.pop()!;
      speak(site, site.flow(index, mac), (tookMs) => {
        times.push(tookMs);
        lastMs = clock.nowMs;
      });
      if (begin.length > 0) clock.at(begin.at(-1)!.atMs, next);
    };
    clock.at(begin.at(-1)!.atMs, next);
  }
  while (times.length < flows && clock.nowMs < LONGEST_MS) await clock.run(clock.nowMs + STEP_MS);
  const kinds = ['lookups', 'connects', 'snapshots'];
  const { load } = store;
  return {
    flows,
    lookups: load.total(['lookups']),
    peakLookups: load.peak(['lookups']),
    peakConnects: load.peak(['connects']),
    refused: load.total(['refused']),
    wasted: load.total(['wasted']),
    gigabytes: load.total(['megabytes']) / 1000,
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    allSeconds: lastMs / 1000,
    unserved: flows - times.length,
    perSecond: load.each(kinds),
  };
}

/** A frame, and again after pauses that double, until one has arrived. */
export function speak(site: Site, flow: Flow, done: (tookMs: number) => void): void {
  const { clock } = site;
  const beganMs = clock.nowMs;
  let isDone = false;
  flow.arrived = () => {
    if (isDone) return;
    isDone = true;
    flow.arrived = undefined;
    done(clock.nowMs - beganMs);
  };
  let pauseMs = FIRST_RETRY_MS;
  const again = (): void => {
    if (isDone || clock.nowMs > LONGEST_MS) return;
    site.send(flow);
    clock.after(pauseMs, again);
    pauseMs = Math.min(2 * pauseMs, LAST_RETRY_MS);
  };
  again();
}
