/**
 * The destinations that an overlay holds: those of its targets, its fixed one, and those of frames sent once.
 * They are slots in the table of all overlays (destinations.ts). A destination is a peer of the overlay as
 * long as it is held.
 */
import type { Endpoint } from '../../wire/ip.js';
import type { Destinations } from './destinations.js';
import type { LoopMarks } from '../loops.js';
import type { Peers } from '../peers/peers.js';
import { NONE } from './mac-index.js';
import { beginOf, type TargetList } from './target-list.js';
import { FLOOD, HERE, type TargetTable } from './target-table.js';

/** The parts of the overlay that are used here. */
interface OverlayParts {
  /** `listen`: the overlay's own endpoint. */
  readonly options: { readonly listen: Endpoint };
  readonly targets: TargetTable;
  readonly peers: Peers;
  readonly loops: LoopMarks;
  readonly shared: { readonly nowTick: number; readonly destinations: Destinations };
}

/** The slot of the only destination of a target, or a list of slots. */
export type Slots = number | readonly number[];

export class HeldDestinations {
  /** Row -> slots, for entries with several destinations. */
  readonly floods = new Map<number, readonly number[]>();
  readonly #parts: OverlayParts;
  /** Slot -> number of times that it is held. */
  readonly #holds = new Map<number, number>();

  constructor(parts: OverlayParts) {
    this.#parts = parts;
  }

  /** Returns the slot of a destination, which is a peer as long as it is held, or HERE for this overlay's own
   * endpoint. `likely` as for Destinations. */
  acquire(endpoint: Endpoint, likely = NONE): number {
    if (this.isOwn(endpoint)) return HERE;
    const { peers, loops, shared } = this.#parts;
    const slot = shared.destinations.acquire(endpoint, likely);
    const holds = this.#holds.get(slot) ?? 0;
    this.#holds.set(slot, holds + 1);
    // A million targets live behind some thousand peers: most rows change nothing about these.
    if (holds > 0) return slot;
    peers.add(endpoint.ip, slot, shared.nowTick);
    loops.acquired(slot, endpoint.ip);
    return slot;
  }

  release(slot: number): void {
    if (slot === HERE) return;
    const { peers, shared } = this.#parts;
    const { destinations } = shared;
    const holds = (this.#holds.get(slot) ?? 0) - 1;
    if (holds > 0) this.#holds.set(slot, holds);
    else {
      this.#holds.delete(slot);
      peers.remove(destinations.endpoint(slot).ip);
    }
    destinations.release(slot);
  }

  isOwn({ ip, port }: Endpoint): boolean {
    const { listen } = this.#parts.options;
    return ip === listen.ip && port === listen.port;
  }

  acquireAll(to: readonly Endpoint[]): number[] {
    return to.map((endpoint) => this.acquire(endpoint));
  }

  /** Acquires the destinations of a row of a list. */
  acquireListed(list: TargetList, row: number): Slots {
    const begin = beginOf(list, row);
    const end = list.ends[row];
    if (end - begin === 1) return this.#acquirePlace(list, list.places[begin]);
    return Array.from(list.places.subarray(begin, end), (place) => this.#acquirePlace(list, place));
  }

  #acquirePlace({ endpoints, slots }: TargetList, place: number): number {
    return (slots[place] = this.acquire(endpoints[place], slots[place]));
  }

  /** Gives a row destinations that were acquired for it, one at least. Returns the value for the row in the target table: a
   * slot, HERE or FLOOD. */
  assign(row: number, slots: Slots): number {
    if (typeof slots === 'number') return slots;
    if (slots.length > 1) this.floods.set(row, slots);
    return slots.length > 1 ? FLOOD : slots[0];
  }

  /** Releases all destinations of a row. If it is to get others, the caller has acquired them before, so that a peer that
   * stays is a peer all the time. */
  releaseAll(row: number): void {
    const slots = this.floods.get(row);
    if (slots !== undefined) {
      this.floods.delete(row);
      for (const slot of slots) this.release(slot);
      return;
    }
    const slot = this.#parts.targets.destination(row);
    if (slot >= 0) this.release(slot);
  }
}
