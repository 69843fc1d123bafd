/** The part of the contract (contract.ts) for watches: what is put into a target table, and taken out of it. */
import type { Destination } from '../wire/ip.js';
import type { MacAddress } from '../wire/mac.js';

export interface TargetNews {
  readonly mac: MacAddress;
  /** Undefined: it was forgotten. Empty: frames are dropped. */
  readonly to: readonly Destination[] | undefined;
  readonly origin: 'plugin' | 'pushed' | 'set';
}

export interface WatchedDatapath {
  /**
   * Calls `heard` for every change of the target table that the control side makes, as it makes it; undefined: all were forgotten.
   * The answer to a lookup that was asked before the watch is not heard. Returns a function that ends it. An overlay has one
   * watch at a time.
   */
  watchTargets(heard: (news: readonly TargetNews[] | undefined) => void): () => void;
}
