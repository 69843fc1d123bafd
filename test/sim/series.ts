// Counts by kind, second by second of the simulated time.

export class Series {
  readonly #kinds = new Map<string, number[]>();

  add(kind: string, nowMs: number, count: number): void {
    let seconds = this.#kinds.get(kind);
    if (seconds === undefined) this.#kinds.set(kind, (seconds = []));
    const second = Math.floor(nowMs / 1000);
    while (seconds.length <= second) seconds.push(0);
    seconds[second] += count;
  }

  /** The most in one second, of the kinds together, from a time on. */
  peak(kinds: readonly string[], fromMs = 0): number {
    return Math.max(0, ...this.each(kinds, fromMs));
  }

  /** All of them, from a time on. */
  total(kinds: readonly string[], fromMs = 0): number {
    return this.each(kinds, fromMs).reduce((sum, count) => sum + count, 0);
  }

  /** One number a second. */
  each(kinds: readonly string[], fromMs = 0): number[] {
    const lists = kinds.map((kind) => this.#kinds.get(kind) ?? []);
    const from = Math.floor(fromMs / 1000);
    const length = Math.max(0, ...lists.map((list) => list.length));
    return Array.from({ length: Math.max(0, length - from) }, (_, second) =>
      lists.reduce((sum, list) => sum + (list[from + second] ?? 0), 0),
    );
  }
}
