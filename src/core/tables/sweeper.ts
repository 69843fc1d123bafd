/**
 * Removes the entries of a target table that have expired because all were invalidated. It removes some at a
 * time: a million of them take half a second, and no frame waits for that.
 */
import type { HeldDestinations } from './held-destinations.js';
import type { TargetTable } from './target-table.js';

/** Work of one `sweep`, in rows looked at: a quarter of a millisecond. */
const MAX_WORK = 8192;
/** Cost of removing an entry, in rows looked at; each of its destinations costs one more. */
const ENTRY_WORK = 15;

export class Sweeper {
  readonly #targets: TargetTable;
  readonly #held: HeldDestinations;
  /** No row below this one has an expired entry. */
  #sweptRows = 0;

  constructor(targets: TargetTable, held: HeldDestinations) {
    this.#targets = targets;
    this.#held = held;
  }

  /** Expires all that is known; `sweep` is to be called until it returns false. */
  expireAll(): void {
    this.#targets.expireAll();
    this.#sweptRows = 0;
  }

  /** Removes some expired entries; `forget` releases all that belongs to one. Returns whether there may be
   * more. */
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
