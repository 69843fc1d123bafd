/**
 * One underlay socket carries many overlays: the VNI says which. A mux is that socket's table of them.
 */
import { type Counters, createCounters } from './counters.js';
import type { Overlay } from './overlay.js';

export class Mux {
  /** For what is dropped before its overlay is known. */
  readonly counters: Counters;
  readonly #byVni = new Map<number, Overlay>();
  /** Most frames come for the overlay that the one before them came for. */
  #last: Overlay | undefined;

  constructor(counters: Counters = createCounters()) {
    this.counters = counters;
  }

  get size(): number {
    return this.#byVni.size;
  }

  add(overlay: Overlay): void {
    this.#byVni.set(overlay.options.vnetid, overlay);
  }

  remove(overlay: Overlay): void {
    this.#byVni.delete(overlay.options.vnetid);
    this.#last = undefined;
  }

  find(vni: number): Overlay | undefined {
    if (this.#last?.options.vnetid !== vni) this.#last = this.#byVni.get(vni);
    return this.#last;
  }
}
