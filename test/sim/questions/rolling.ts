// varpd is restarted on all hosts, as for an upgrade: each keeps its targets, and asks again about those in use.
import { Site, type SiteTerms } from '../site.js';
import { useBetween } from './outage.js';

export interface RollingTerms {
  readonly workingSet: number;
  /** All hosts within so long, at even distances. */
  readonly overMs: number;
}

export const ROLLING: RollingTerms = { workingSet: 10, overMs: 600_000 };
/** All of them at once. */
export const AT_ONCE: RollingTerms = { workingSet: 10, overMs: 1000 };

export interface RollingResult {
  readonly lookups: number;
  readonly peakLookups: number;
  readonly peakConnects: number;
  readonly peakMegabytes: number;
  readonly sent: number;
  readonly lost: number;
  readonly refused: number;
  /** Until the last question after the last restart; s. */
  readonly lastSeconds: number;
  readonly perSecond: readonly number[];
}

const USED_MS = 4000;

export async function rolling(terms: SiteTerms, given: RollingTerms = ROLLING): Promise<RollingResult> {
  const site = new Site(terms);
  try {
    return await run(site, given);
  } finally {
    site.close();
  }
}

async function run(site: Site, given: RollingTerms): Promise<RollingResult> {
  const { clock, terms, store } = site;
  for (let index = 0; index < terms.hosts; index++) {
    const restartsMs = (index * given.overMs) / terms.hosts;
    clock.at(restartsMs, () => {
      const macs = site.peersOf(index, given.workingSet);
      // To speak to them, they need not run here: where a frame comes out is the question of others.
      site.host(index).start(macs.map((mac) => ({ mac, host: site.places[mac] })));
      for (const mac of macs) useBetween(site, site.flow(index, mac), clock.nowMs, clock.nowMs + USED_MS);
    });
  }
  let carried = 0;
  const { network } = site;
  const before = network.onDatagram;
  network.onDatagram = (datagram) => {
    carried++;
    before?.(datagram);
  };
  await clock.run(given.overMs + USED_MS + 60_000);
  const kinds = ['lookups', 'connects', 'snapshots'];
  return {
    lookups: store.load.total(['lookups']),
    peakLookups: store.load.peak(['lookups']),
    peakConnects: store.load.peak(['connects']),
    peakMegabytes: store.load.peak(['megabytes']),
    sent: site.sent,
    lost: site.sent - carried,
    refused: store.load.total(['refused']),
    lastSeconds: store.load.each(kinds).findLastIndex((count) => count > 0) + 1 - given.overMs / 1000,
    perSecond: store.load.each(kinds),
  };
}
