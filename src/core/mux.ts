/**
 * The table of the overlays that one underlay socket carries. They have one encapsulation, and the id in its
 * header says which overlay a datagram is for.
 */
import type { Encapsulation } from '../encap/contract.js';
import type { Counters } from './counters.js';
import { type DropExamples } from './drop-examples.js';
import { type DropContext, Drops, type Origin } from './drops.js';
import type { Overlay } from './overlay.js';

export class Mux {
  readonly encapsulation: Encapsulation;
  /** Drops of frames before their overlay is known. */
  readonly drops: Drops;
  readonly origin: Origin;
  readonly #byId = new Map<number, Overlay>();
  /** The overlay found last: most frames are for the same overlay as the frame before. */
  #last: Overlay | undefined;

  constructor(
    encapsulation: Encapsulation,
    context: DropContext,
    counters: Counters,
    examples?: DropExamples,
  ) {
    this.encapsulation = encapsulation;
    this.origin = context.origin;
    this.drops = new Drops(counters, context, examples);
  }

  get counters(): Counters {
    return this.drops.counters;
  }

  get size(): number {
    return this.#byId.size;
  }

  get overlays(): Iterable<Overlay> {
    return this.#byId.values();
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
