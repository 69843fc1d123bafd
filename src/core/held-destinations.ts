/**
 * The destinations that an overlay holds: those of its targets, its fixed one, and those of frames sent once.
 * They are slots in the table of all overlays (destinations.ts). A destination is a peer of the overlay as
 * long as it is held.
 */
import type { Endpoint } from '../wire/ip.js';
import type { Destinations } from './destinations.js';
import type { LoopMarks } from './loops.js';
import type { Peers } from './peers.js';
import { FLOOD, HERE, type TargetTable } from './target-table.js';

/** The parts of the overlay that are used here. */
interface Parts {
  /** The overlay's own endpoint. */
  readonly listen: Endpoint;
  readonly destinations: Destinations;
  readonly targets: TargetTable;
  readonly peers: Peers;
  readonly loops: LoopMarks;
  readonly shared: { readonly nowTick: number };
}

export class HeldDestinations {
  /** Row -> slots, for entries with several destinations. */
  readonly floods = new Map<number, readonly number[]>();
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Returns the slot of a destination, which is a peer as long as it is held, or HERE for this overlay's own
   * endpoint. */
  acquire(endpoint: Endpoint): number {
    if (this.isOwn(endpoint)) return HERE;
    const { peers, destinations, loops, shared } = this.#parts;
    const slot = destinations.acquire(endpoint);
    peers.add(endpoint.ip, slot, shared.nowTick);
    loops.acquired(slot, endpoint.ip);
    return slot;
  }

  release(slot: number): void {
    if (slot === HERE) return;
    const { peers, destinations } = this.#parts;
    peers.remove(destinations.endpoint(slot).ip);
    destinations.release(slot);
  }

  isOwn({ ip, port }: Endpoint): boolean {
    const { listen } = this.#parts;
    return ip === listen.ip && port === listen.port;
  }

  /** Holds these destinations for a row. Returns the value for the row in the target table: a slot, HERE or
   * FLOOD. */
  acquireFor(row: number, to: readonly Endpoint[]): number {
    const slots = to.map((endpoint) => this.acquire(endpoint));
    if (slots.length > 1) this.floods.set(row, slots);
    return slots.length > 1 ? FLOOD : slots[0];
  }

  /** Releases all destinations of a row. */
  releaseAll(row: number): void {
    for (const slot of this.take(row)) this.release(slot);
  }

  /** Returns the slots of a row. The row no longer holds them: the caller must release them. */
  take(row: number): readonly number[] {
    const slots = this.floods.get(row);
    this.floods.delete(row);
    if (slots !== undefined) return slots;
    const slot = this.#parts.targets.destination(row);
    return slot >= 0 ? [slot] : [];
  }
}
