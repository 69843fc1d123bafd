/**
 * The destinations of one overlay whose routes lead back into it, as the control side has found out: what was sent there
 * would be wrapped again and again. Asked for every frame to the tunnel, so there is nothing to ask while there is none.
 */
import type { IpAddress } from '../wire/ip.js';
import type { Destinations } from './destinations.js';

const MIN_SLOTS = 64;

export class LoopMarks {
  /** 1 for the slot of such a destination. Undefined while there is none. */
  marks: Uint8Array | undefined;
  #ips: ReadonlySet<IpAddress> = new Set();

  /** In place of those named before. */
  name(ips: readonly IpAddress[], destinations: Destinations): void {
    this.#ips = new Set(ips);
    this.marks = undefined;
    for (const [slot, { ip }] of destinations) this.acquired(slot, ip);
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
