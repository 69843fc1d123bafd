/** How long the plugin of an overlay takes to answer: of the last 1,000 answers. */
import type { LookupStatistics } from '../../control/messages.js';

const KEPT = 1000;

export class LookupTimes {
  readonly #ms = new Float64Array(KEPT);
  #count = 0;

  add(ms: number): void {
    this.#ms[this.#count++ % KEPT] = ms;
  }

  /** Null before the first answer. */
  get latencyMs(): LookupStatistics['latencyMs'] {
    if (this.#count === 0) return null;
    const sorted = this.#ms.slice(0, Math.min(this.#count, KEPT)).sort();
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return { p50: at(0.5), p99: at(0.99), max: at(1) };
  }
}
