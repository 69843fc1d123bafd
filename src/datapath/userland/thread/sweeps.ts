/** The tables to sweep, one part of one table in each turn. */

/** A table that is swept in parts. */
export interface Swept {
  /** Sweeps a part. Returns whether there may be more. */
  sweep(nowTick: number): boolean;
}

export class Sweeps {
  /** Tables to sweep: overlays with expired entries, and the paths after a change of routes or time. */
  readonly #unswept = new Set<Swept>();
  readonly #nowTick: () => number;

  constructor(nowTick: () => number) {
    this.#nowTick = nowTick;
  }

  /** Sweeps a part at once, and the rest in `goOn`. */
  begin(table: Swept): void {
    if (table.sweep(this.#nowTick())) this.#unswept.add(table);
  }

  get isDone(): boolean {
    return this.#unswept.size === 0;
  }

  /** Sweeps one part of one table. */
  goOn(): void {
    for (const table of this.#unswept) {
      // The table's next turn comes after those of the others.
      this.#unswept.delete(table);
      this.begin(table);
      break;
    }
  }
}
