// The store is away for a while, and all hosts lose it in the same moment: what known flows notice, and how the hosts come back.
import { type Flow, Site, type SiteTerms } from '../site.js';

export interface OutageTerms {
  /** Hosts whose stations speak, and the MACs that each speaks to; the others only hold their streams. */
  readonly speakers: number;
  readonly workingSet: number;
  readonly awayMs: number;
}

export const OUTAGE: OutageTerms = { speakers: 20, workingSet: 20, awayMs: 30_000 };

export interface OutageResult {
  readonly hosts: number;
  /** Frames between stations that know each other, from a second before the end of the store until a minute after its return. */
  readonly sent: number;
  readonly lost: number;
  /** Attempts to connect while the store was away, and the most in a second of that; and the most after its return. */
  readonly attemptsAway: number;
  readonly peakAway: number;
  readonly peakConnects: number;
  /** From the return of the store until so many of the streams were open again; s. */
  readonly halfSeconds: number;
  readonly allSeconds: number;
  readonly refused: number;
  readonly perSecond: readonly number[];
}

const USE_EVERY_MS = 1000;
const AFTER_MS = 60_000;
const STEP_MS = 1000;
const LONGEST_MS = 900_000;

export async function outage(terms: SiteTerms, given: OutageTerms = OUTAGE): Promise<OutageResult> {
  const site = new Site(terms);
  try {
    return await run(site, given);
  } finally {
    site.close();
  }
}

async function run(site: Site, given: OutageTerms): Promise<OutageResult> {
  const { clock, random, terms, store } = site;
  const { hosts } = terms;
  // As slowly as the store can take them: the start is not the question here.
  const startMs = (2000 * hosts) / terms.store.connectsPerSecond + 1000;
  for (let index = 0; index < hosts; index++)
    clock.at(random() * startMs, () => {
      site.host(index).start();
    });
  const flows: Flow[] = [];
  for (let speaker = 0; speaker < Math.min(given.speakers, hosts); speaker++) {
    const index = Math.floor((speaker * hosts) / Math.min(given.speakers, hosts));
    for (const mac of site.peersOf(index, given.workingSet)) flows.push(site.flow(index, mac));
  }
  const startedMs = startMs + 10_000;
  const goneMs = startedMs + 5000;
  const backMs = goneMs + given.awayMs;
  const endMs = backMs + AFTER_MS;
  for (const flow of flows) useBetween(site, flow, startedMs, endMs);
  await clock.run(goneMs - 1000);
  const opened = store.streamCount;
  const before = { sent: site.sent, received: site.received };
  await clock.run(goneMs);
  store.stop();
  await clock.run(backMs);
  store.start();
  let halfMs = Infinity;
  while (clock.nowMs < endMs || (store.streamCount < opened && clock.nowMs < LONGEST_MS)) {
    await clock.run(clock.nowMs + STEP_MS);
    if (store.streamCount >= opened / 2) halfMs = Math.min(halfMs, clock.nowMs - backMs);
    if (store.streamCount >= opened && clock.nowMs >= endMs) break;
  }
  const away = store.load.each(['connects'], goneMs).slice(0, given.awayMs / 1000);
  return {
    hosts: opened,
    sent: site.sent - before.sent,
    lost: site.sent - before.sent - (site.received - before.received),
    attemptsAway: sum(away),
    peakAway: Math.max(0, ...away),
    peakConnects: store.load.peak(['connects'], backMs),
    halfSeconds: halfMs / 1000,
    allSeconds: lastConnect(store.load.each(['connects'], backMs)),
    refused: store.load.total(['refused'], backMs),
    perSecond: store.load.each(['connects', 'lookups'], goneMs),
  };
}

const sum = (counts: readonly number[]): number => counts.reduce((total, each) => total + each, 0);

/** The second after which nobody connects any more. */
const lastConnect = (counts: readonly number[]): number => counts.findLastIndex((count) => count > 0) + 1;

/** A frame a second, not in step with others, until then or until `isOver`. */
export function useBetween(
  site: Site,
  flow: Flow,
  fromMs: number,
  untilMs: number,
  isOver: () => boolean = () => false,
): void {
  const { clock, random } = site;
  const again = (): void => {
    if (clock.nowMs >= untilMs || isOver()) return;
    site.send(flow);
    clock.after(USE_EVERY_MS, again);
  };
  clock.at(fromMs + random() * USE_EVERY_MS, again);
}
