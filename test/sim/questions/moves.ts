// How long frames go to the wrong host after a MAC has moved.
import { quantile } from '../../bench/report/statistics.js';
import { wholeBelow } from '../random.js';
import { type Flow, Site, type SiteTerms } from '../site.js';

export interface MovesTerms {
  /** MACs that move, one by one. */
  readonly moves: number;
  /** Hosts that speak to each of them all the time. */
  readonly users: number;
  /** The moves are spread over so long. */
  readonly overMs: number;
  /** `files`: bytes of a row on the way to the hosts, and time that a host takes to read a row. */
  readonly fileRowBytes: number;
  readonly readRowUs: number;
}

export const MOVES: MovesTerms = { moves: 200, users: 20, overMs: 30_000, fileRowBytes: 12, readRowUs: 4 };

export interface MovesResult {
  readonly flows: number;
  /** Times from the move to the first frame that arrived where the MAC is; ms. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Flows that never arrived there. */
  readonly lost: number;
  readonly lookupsASecond: number;
  readonly pushesASecond: number;
}

const WARM_MS = 10_000;
const USE_EVERY_MS = 1000;
/** Frames after a move are this part of the time since the move apart: so exact is the result. */
const [STEP, FIRST_STEP_MS] = [0.05, 0.5];
const LONGEST_MS = 3_600_000;

export async function moves(terms: SiteTerms, given: MovesTerms = MOVES): Promise<MovesResult> {
  const site = new Site(terms);
  try {
    return await run(site, given);
  } finally {
    site.close();
  }
}

async function run(site: Site, given: MovesTerms): Promise<MovesResult> {
  const { clock, random, terms, store, places } = site;
  const times: number[] = [];
  let open = 0;
  const distribution = terms.way.way === 'files' ? new Distribution(site, given) : undefined;
  const macs = new Set<number>();
  while (macs.size < Math.min(given.moves, terms.macs / 2)) macs.add(wholeBelow(random, terms.macs));
  const endMs = WARM_MS + given.overMs + 2 * terms.way.ttlMs;
  for (const mac of macs) {
    const flows = chooseUsers(site, mac, given.users);
    open += flows.length;
    const movesAtMs = WARM_MS + random() * given.overMs;
    for (const flow of flows) use(site, flow, movesAtMs);
    clock.at(movesAtMs, () => {
      // A host that has spoken to it would speak to its own station then, and use no tunnel.
      const taken = new Set([places[mac], ...flows.map(({ from }) => from)]);
      let to = wholeBelow(random, terms.hosts);
      while (taken.has(to)) to = wholeBelow(random, terms.hosts);
      if (!site.host(to).isUp) site.host(to).start();
      places[mac] = to;
      store.move(mac, to);
      distribution?.changed();
      for (const flow of flows)
        watch(site, flow, to, (tookMs) => {
          open--;
          if (tookMs !== undefined) times.push(tookMs);
        });
    });
  }
  store.otherStreams = terms.hosts - site.hosts.filter(Boolean).length;
  await clock.run(endMs);
  while (open > 0 && clock.nowMs < endMs + LONGEST_MS) await clock.run(clock.nowMs + 10_000);
  const seconds = given.overMs / 1000;
  return {
    flows: times.length + open,
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    maxMs: Math.max(...times),
    lost: open,
    lookupsASecond: store.load.total(['lookups'], WARM_MS) / seconds,
    pushesASecond: store.load.total(['pushes'], WARM_MS) / seconds,
  };
}

/** Hosts that speak to a MAC from now on. */
function chooseUsers(site: Site, mac: number, users: number): Flow[] {
  const { random, terms, places } = site;
  const hosts = new Set<number>();
  while (hosts.size < Math.min(users, terms.hosts - 2)) {
    const host = wholeBelow(random, terms.hosts);
    if (host !== places[mac]) hosts.add(host);
  }
  if (!site.host(places[mac]).isUp) site.host(places[mac]).start();
  return [...hosts].map((host) => {
    if (!site.host(host).isUp) site.host(host).start();
    return site.flow(host, mac);
  });
}

/** A frame a second until then, not in step with others. */
function use(site: Site, flow: Flow, untilMs: number): void {
  const again = (): void => {
    if (site.clock.nowMs >= untilMs) return;
    site.send(flow);
    site.clock.after(USE_EVERY_MS, again);
  };
  site.clock.after(site.random() * USE_EVERY_MS, again);
}

/** Frames from the move on, until one arrives where the MAC is. */
function watch(site: Site, flow: Flow, to: number, done: (tookMs: number | undefined) => void): void {
  const { clock } = site;
  const movedMs = clock.nowMs;
  let isDone = false;
  flow.arrived = (host) => {
    if (isDone || host !== to) return;
    isDone = true;
    flow.arrived = undefined;
    done(clock.nowMs - movedMs);
  };
  const again = (): void => {
    if (isDone || clock.nowMs - movedMs > LONGEST_MS) return;
    site.send(flow);
    clock.after(Math.max(FIRST_STEP_MS, STEP * (clock.nowMs - movedMs)), again);
  };
  again();
}

/** The tool that brings the file to every host: one run after another, each with all changes until its start. */
class Distribution {
  #isRunning = false;
  #isStale = false;

  constructor(
    readonly site: Site,
    readonly given: MovesTerms,
  ) {}

  changed(): void {
    this.#isStale = true;
    if (!this.#isRunning) this.#run();
  }

  #run(): void {
    const { clock, store, terms, random } = this.site;
    this.#isRunning = true;
    this.#isStale = false;
    // What was written in this moment is in the file.
    clock.after(1000, () => {
      const { revision } = store;
      const fileMs = (terms.macs * this.given.fileRowBytes * 1000) / terms.store.bytesPerSecond;
      const readMs = (terms.macs * this.given.readRowUs) / 1000;
      const allMs = fileMs * terms.hosts;
      for (const host of this.site.hosts)
        if (host !== undefined)
          clock.after(fileMs + random() * (allMs - fileMs) + readMs, () => {
            host.client?.fileArrived(revision);
          });
      clock.after(allMs, () => {
        this.#isRunning = false;
        if (this.#isStale) this.#run();
      });
    });
  }
}
