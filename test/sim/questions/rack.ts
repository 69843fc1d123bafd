// A rack loses its power. Its stations are started on other hosts, and those that speak to them find them there.
import { quantile } from '../../bench/report/statistics.js';
import { wholeBelow } from '../random.js';
import { Site, type SiteTerms } from '../site.js';
import { useBetween } from './outage.js';

export interface RackTerms {
  readonly rackHosts: number;
  /** Hosts that speak to each station of the rack. */
  readonly users: number;
  /** The stations are started elsewhere within so long. */
  readonly withinMs: number;
}

export const RACK: RackTerms = { rackHosts: 40, users: 2, withinMs: 30_000 };

export interface RackResult {
  readonly stations: number;
  readonly flows: number;
  readonly peakWrites: number;
  readonly peakLookups: number;
  readonly peakPushes: number;
  /** From the start of a station on its new host to the first frame of a flow that arrived there; ms. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly unserved: number;
}

const FAILS_MS = 40_000;
/** The flows begin before, not in step with others: an answer holds for 30 s. */
const BEGIN_MS = 30_000;
const STEP_MS = 5000;
const LONGEST_MS = 600_000;

export async function rack(terms: SiteTerms, given: RackTerms = RACK): Promise<RackResult> {
  const site = new Site(terms);
  try {
    return await run(site, given);
  } finally {
    site.close();
  }
}

async function run(site: Site, given: RackTerms): Promise<RackResult> {
  const { clock, random, terms, store, places } = site;
  const perHost = terms.macs / terms.hosts;
  const stations = given.rackHosts * perHost;
  const others = terms.hosts - given.rackHosts;
  const anyOther = (): number => given.rackHosts + wholeBelow(random, others);
  const started = (index: number): void => {
    if (!site.host(index).isUp) site.host(index).start();
  };
  for (let index = 0; index < given.rackHosts; index++) started(index);
  const times: number[] = [];
  let flows = 0;
  for (let mac = 0; mac < stations; mac++) {
    const users = new Set<number>();
    while (users.size < Math.min(given.users, others - 1)) users.add(anyOther());
    let to = anyOther();
    while (users.has(to)) to = anyOther();
    const bootsMs = FAILS_MS + random() * given.withinMs;
    clock.at(bootsMs, () => {
      started(to);
      places[mac] = to;
      store.move(mac, to);
    });
    for (const user of users) {
      clock.at(random() * 1000, () => {
        started(user);
      });
      flows++;
      const flow = site.flow(user, mac);
      useBetween(site, flow, 2000 + random() * BEGIN_MS, LONGEST_MS, () => flow.arrived === undefined);
      flow.arrived = (host) => {
        if (host !== to || places[mac] !== to) return;
        flow.arrived = undefined;
        times.push(clock.nowMs - bootsMs);
      };
    }
  }
  store.otherStreams = Math.max(0, terms.hosts - site.hosts.filter(Boolean).length);
  await clock.run(FAILS_MS);
  for (let index = 0; index < given.rackHosts; index++) site.host(index).stop();
  while (times.length < flows && clock.nowMs < LONGEST_MS) await clock.run(clock.nowMs + STEP_MS);
  return {
    stations,
    flows,
    peakWrites: store.load.peak(['writes'], FAILS_MS),
    peakLookups: store.load.peak(['lookups'], FAILS_MS),
    peakPushes: store.load.peak(['pushes'], FAILS_MS),
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    unserved: flows - times.length,
  };
}
