/**
 * The table of the overlays that one underlay socket carries. They have one encapsulation, and the id in its
 * header says which overlay a datagram is for.
 */
import type { Encapsulation } from '../encap/contract.js';
import { headerOf } from '../encap/index.js';
import { isSameEndpoint } from '../wire/ip.js';
import type { Counters } from './counts/counters.js';
import { type DropExamples } from './counts/drop-examples.js';
import { type DropContext, Drops, type Origin } from './counts/drops.js';
import type { Overlay, OverlayOptions } from './overlay.js';

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

/**
 * Puts other options of an overlay in force, between two batches. `from`, `to`: the tables of the sockets that receive for
 * the overlay until now, and from now on. Returns whether all targets are forgotten, as by `Overlay.invalidate`: they are
 * of another network, or of another listen address, by which HERE is known.
 */
export function changeOptions(
  overlay: Overlay,
  options: OverlayOptions,
  from: Mux | undefined,
  to: Mux | undefined,
): boolean {
  const before = overlay.options;
  from?.remove(overlay);
  overlay.options = options;
  overlay.peers.isOpen = options.acceptAny;
  overlay.header = headerOf(overlay.encapsulation, options.vnetid);
  to?.add(overlay);
  if (options.vnetid === before.vnetid && isSameEndpoint(options.listen, before.listen)) return false;
  overlay.invalidate(undefined);
  return true;
}
