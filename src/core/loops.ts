/**
 * The destinations of one overlay whose routes lead back into it, as the control side has found out: what was sent there
 * would be wrapped again and again. Asked for every frame to the tunnel, so there is nothing to ask while there is none.
 */
import type { IpAddress } from '../wire/ip.js';
import type { Destinations } from './destinations.js';

const MIN_SLOTS = 64;
/** Slots that one `sweep` looks at: a tenth of a millisecond. */
const MAX_WORK = 4096;

export class LoopMarks {
  /** 1 for the slot of such a destination. Undefined while there is none. */
  marks: Uint8Array | undefined;
  readonly #destinations: Destinations;
  #ips: ReadonlySet<IpAddress> = new Set();
  /** Below this slot `sweep` has still to look. */
  #unsweptSlots = 0;

  constructor(destinations: Destinations) {
    this.#destinations = destinations;
  }

  /** In place of those named before; they are few. `sweep` is to be called until there is no more: then this is in force
   * for all. */
  name(ips: readonly IpAddress[]): void {
    this.#ips = new Set(ips);
    if (ips.length === 0) this.marks = undefined;
    this.#unsweptSlots = ips.length === 0 ? 0 : this.#destinations.end;
  }

  /** Marks some of the slots. Whether there are more. */
  sweep(): boolean {
    for (let left = MAX_WORK; left > 0 && this.#unsweptSlots > 0; left--) {
      const slot = --this.#unsweptSlots;
      const endpoint = this.#destinations.find(slot);
      if (endpoint !== undefined) this.acquired(slot, endpoint.ip);
    }
    return this.#unsweptSlots > 0;
  }

  /** A slot is used for this address from now on. */
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
