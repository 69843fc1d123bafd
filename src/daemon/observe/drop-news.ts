/**
 * Drops that are reported in the log, because their cause lies outside of varpd and nothing else shows it.
 * The datapath only counts; the counters are looked at here at an interval.
 */
import type { DropReason } from '../../model/drops.js';
import type { Log } from '../log.js';
import type { ObservedOverlay } from './observed.js';

/** Advice about each reason. */
const ADVICE: Partial<Record<DropReason, string>> = {
  tx_firewall:
    'a firewall of this host drops what varpd sends (EPERM): let UDP to the listen port of the peers pass its output rules',
};

const LOOK_MS = 2_000;
/** A trouble is logged once while it goes on, and again when it begins after this time without a drop. */
const QUIET_MS = 60_000;

interface Directory {
  readonly overlays: ReadonlyMap<string, Pick<ObservedOverlay, 'name' | 'id' | 'datapath'>>;
}

interface Trouble {
  count: number;
  lastMs: number;
}

export class DropNews {
  readonly #directory: Directory;
  readonly #log: Log;
  readonly #nowMs: () => number;
  #troubles = new Map<string, Trouble>();

  constructor(directory: Directory, log: Log, nowMs: () => number = () => performance.now()) {
    this.#directory = directory;
    this.#log = log;
    this.#nowMs = nowMs;
  }

  look(): void {
    const nowMs = this.#nowMs();
    const troubles = new Map<string, Trouble>();
    for (const { name, id, datapath } of this.#directory.overlays.values()) {
      const counters = datapath.counters();
      for (const [reason, advice] of Object.entries(ADVICE)) {
        // An overlay that was deleted and created again counts from zero.
        const key = `${id} ${reason}`;
        const { count, lastMs } = this.#troubles.get(key) ?? { count: 0, lastMs: -Infinity };
        const found = counters[reason] ?? 0;
        troubles.set(key, { count: found, lastMs: found > count ? nowMs : lastMs });
        if (found > count && nowMs - lastMs >= QUIET_MS)
          this.#log.warn(`drops ${name}`, `${name}: ${found - count} frames dropped as ${reason}: ${advice}`);
      }
    }
    this.#troubles = troubles;
  }
}

/** Returns a function that ends it. */
export function startDropNews(directory: Directory, log: Log): () => void {
  const news = new DropNews(directory, log);
  const timer = setInterval(() => {
    news.look();
  }, LOOK_MS).unref();
  return () => {
    clearInterval(timer);
  };
}
