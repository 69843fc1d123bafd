/** How long the plugin of an overlay takes to answer: the last 1,000 answers for dladm, and all of them for metrics. */
import type { LookupStatistics } from '../../control/messages.js';

const KEPT = 1000;

/**
 * Upper bounds of the buckets of all answers, in seconds: a plugin in memory, a process on this host, a store
 * near by, one far away, and trouble. `limits.lookupDeadlineMs` is 1 s by default.
 */
const BOUNDS_S = [0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5] as const;

/** All answers since the overlay was started. */
export interface LookupHistogram {
  /** Number of answers within each bound. */
  readonly within: readonly { readonly boundS: number; readonly count: number }[];
  readonly count: number;
  readonly sumS: number;
}

export class LookupTimes {
  readonly #ms = new Float64Array(KEPT);
  #count = 0;
  #sumMs = 0;
  readonly #within = BOUNDS_S.map((boundS) => ({ boundS, count: 0 }));

  add(ms: number): void {
    this.#ms[this.#count++ % KEPT] = ms;
    this.#sumMs += ms;
    for (const bucket of this.#within) if (ms <= 1000 * bucket.boundS) bucket.count++;
  }

  /** Null before the first answer. */
  get latencyMs(): LookupStatistics['latencyMs'] {
    if (this.#count === 0) return null;
    const sorted = this.#ms.slice(0, Math.min(this.#count, KEPT)).sort();
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return { p50: at(0.5), p99: at(0.99), max: at(1) };
  }

  get histogram(): LookupHistogram {
    return { within: this.#within, count: this.#count, sumS: this.#sumMs / 1000 };
  }
}
