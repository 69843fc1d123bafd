/** Tables that are looked through in parts, a part a turn: what is left to do without haste. */

/** A table that is looked through in parts. */
export interface Swept {
  /** A part. Whether there may be more. */
  sweep(nowTick: number): boolean;
}

export class Sweeps {
  /** Overlays with entries that are over and not yet taken out; the paths, while routes or time have changed some of them. */
  readonly #unswept = new Set<Swept>();
  readonly #nowTick: () => number;

  constructor(nowTick: () => number) {
    this.#nowTick = nowTick;
  }

  /** A part at once, and the rest in `goOn`. */
  begin(table: Swept): void {
    if (table.sweep(this.#nowTick())) this.#unswept.add(table);
  }

  get isDone(): boolean {
    return this.#unswept.size === 0;
  }

  /** One part of one table. */
  goOn(): void {
    for (const table of this.#unswept) {
      // Its next turn comes after those of the others.
      this.#unswept.delete(table);
      this.begin(table);
      break;
    }
  }
}
