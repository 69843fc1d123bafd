/**
 * The table of the overlays that one underlay socket carries. They have one encapsulation, and the id in its
 * header says which overlay a datagram is for.
 */
import type { Encapsulation } from '../encap/contract.js';
import { type Counters, createCounters } from './counters.js';
import type { Overlay } from './overlay.js';

export class Mux {
  readonly encapsulation: Encapsulation;
  /** Counters of frames that are dropped before their overlay is known. */
  readonly counters: Counters;
  readonly #byId = new Map<number, Overlay>();
  /** The overlay found last: most frames are for the same overlay as the frame before. */
  #last: Overlay | undefined;

  constructor(encapsulation: Encapsulation, counters: Counters = createCounters()) {
    this.encapsulation = encapsulation;
    this.counters = counters;
  }

  get size(): number {
    return this.#byId.size;
  }

  add(overlay: Overlay): void {
    this.#byId.set(overlay.options.vnetid, overlay);
  }

  remove(overlay: Overlay): void {
    this.#byId.delete(overlay.options.vnetid);
    this.#last = undefined;
  }

  find(id: number): Overlay | undefined {
    if (this.#last?.options.vnetid !== id) this.#last = this.#byId.get(id);
    return this.#last;
  }
}
