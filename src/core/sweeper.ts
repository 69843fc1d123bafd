/**
 * Takes out of a target table what is over since all of it was invalidated, some entries at a time: a million of them take
 * half a second, and nobody's frame waits for that.
 */
import type { HeldDestinations } from './held-destinations.js';
import type { TargetTable } from './target-table.js';

/** Of one `sweep`, in rows looked at: a quarter of a millisecond. */
const MAX_WORK = 8192;
/** To take an entry out costs as much as so many looks, and one more for each of its destinations. */
const ENTRY_WORK = 15;

export class Sweeper {
  readonly #targets: TargetTable;
  readonly #held: HeldDestinations;
  /** Below this row nothing is over. */
  #sweptRows = 0;

  constructor(targets: TargetTable, held: HeldDestinations) {
    this.#targets = targets;
    this.#held = held;
  }

  /** All that is known is over; `sweep` is to be called until there is no more. */
  expireAll(): void {
    this.#targets.expireAll();
    this.#sweptRows = 0;
  }

  /** `forget` lets go of all that hangs on an entry. Whether there may be more. */
  sweep(forget: (row: number) => void): boolean {
    const targets = this.#targets;
    let left = MAX_WORK;
    for (; left > 0 && this.#sweptRows < targets.end; this.#sweptRows++, left--) {
      const row = this.#sweptRows;
      if (!targets.isOver(row)) continue;
      left -= ENTRY_WORK + (this.#held.floods.get(row)?.length ?? 0);
      forget(row);
      targets.remove(row);
    }
    return this.#sweptRows < targets.end;
  }
}
