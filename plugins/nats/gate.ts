/** Bounds the questions that one host has open at the store; the rest waits in the order of its coming. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(open: number) {
    this.#free = open;
  }

  /** Runs `work` when there is room. Rejects without asking when the signal is aborted by then. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
