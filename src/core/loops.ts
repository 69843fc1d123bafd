/**
 * Destinations with routes that lead back into the overlay, as the control side has found out. A frame sent
 * there would be wrapped again and again. The datapath checks every frame to the tunnel, and checks nothing
 * while there is no such destination.
 */
import type { IpAddress } from '../wire/ip.js';
import type { Destinations } from './tables/destinations.js';

const MIN_SLOTS = 64;
/** Slots that one `sweep` looks at: a tenth of a millisecond. */
const MAX_WORK = 4096;

export class LoopMarks {
  /** 1 for the slot of such a destination. Undefined while there is none. */
  marks: Uint8Array | undefined;
  readonly #destinations: Destinations;
  #ips: ReadonlySet<IpAddress> = new Set();
  /** `sweep` has still to look at the slots below this one. */
  #unsweptSlots = 0;

  constructor(destinations: Destinations) {
    this.#destinations = destinations;
  }

  /** Addresses of such destinations. */
  get ips(): readonly IpAddress[] {
    return [...this.#ips];
  }

  /** Replaces the addresses of such destinations, which are few. They apply to all slots once `sweep` returns
   * false. */
  name(ips: readonly IpAddress[]): void {
    this.#ips = new Set(ips);
    if (ips.length === 0) this.marks = undefined;
    this.#unsweptSlots = ips.length === 0 ? 0 : this.#destinations.end;
  }

  /** Marks some of the slots. Returns whether there are more. */
  sweep(): boolean {
    for (let left = MAX_WORK; left > 0 && this.#unsweptSlots > 0; left--) {
      const slot = --this.#unsweptSlots;
      const endpoint = this.#destinations.find(slot);
      if (endpoint !== undefined) this.acquired(slot, endpoint.ip);
    }
    return this.#unsweptSlots > 0;
  }

  /** Notes that a slot is used for this address from now on. */
  acquired(slot: number, ip: IpAddress): void {
    if (this.#ips.size === 0) return;
    this.marks ??= new Uint8Array(MIN_SLOTS);
    if (slot >= this.marks.length) {
      const grown = new Uint8Array(2 * (slot + 1));
      grown.set(this.marks);
      this.marks = grown;
    }
    this.marks[slot] = this.#ips.has(ip) ? 1 : 0;
  }
}
