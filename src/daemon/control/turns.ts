/**
 * Whose turn it is on the control thread, which has more to do than to answer: it asks plugins, and watches links.
 *
 * What clients ask for is done one piece at a time, user by user, however many connections one has. After a piece that took
 * long the thread is left alone for as long as that: all clients together get half of it.
 */

/** A piece that is shorter is followed by the next at once. */
const SHORT_MS = 1;
/** Whatever else has kept the thread meanwhile. */
const MAX_PAUSE_MS = 50;

export class Turns {
  /** By user, the one whose turn is next first. */
  readonly #waiting = new Map<number, (() => void)[]>();
  #isRunning = false;

  /** Resolves when it is this user's turn, which lasts until the caller waits for something. */
  take(user: number): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(user);
      if (waiting === undefined) this.#waiting.set(user, [resolve]);
      else waiting.push(resolve);
      if (this.#isRunning) return;
      this.#isRunning = true;
      setImmediate(this.#next);
    });
  }

  readonly #next = (): void => {
    if (this.#waiting.size === 0) {
      this.#isRunning = false;
      return;
    }
    const [[user, [begin, ...others]]] = this.#waiting;
    this.#waiting.delete(user);
    if (others.length > 0) this.#waiting.set(user, others);
    const startedMs = performance.now();
    begin();
    setImmediate(() => {
      const tookMs = performance.now() - startedMs;
      if (tookMs < SHORT_MS) this.#next();
      else setTimeout(this.#next, Math.min(tookMs, MAX_PAUSE_MS));
    });
  };
}
