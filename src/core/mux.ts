/**
 * One underlay socket carries many overlays of one encapsulation: the id in the header says which. A mux is that socket's
 * table of them.
 */
import type { Encapsulation } from '../encap/contract.js';
import type { Counters } from './counters.js';
import { type DropExamples } from './drop-examples.js';
import { type DropContext, Drops, type Origin } from './drops.js';
import type { Overlay } from './overlay.js';

export class Mux {
  readonly encapsulation: Encapsulation;
  /** For what is dropped before its overlay is known. */
  readonly drops: Drops;
  readonly origin: Origin;
  readonly #byId = new Map<number, Overlay>();
  /** Most frames come for the overlay that the one before them came for. */
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
