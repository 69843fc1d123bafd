/**
 * Shares out the control thread among clients. The thread has other work than requests: it asks plugins, and
 * watches links.
 *
 * Requests are done one piece at a time, user by user, however many connections a user has. After a piece
 * that took long the thread does other work for as long as that, so all clients together get half of it.
 */

/** After a shorter piece the next one follows at once. */
const SHORT_MS = 1;
/** Longest pause: other work may have made the piece appear long. */
const MAX_PAUSE_MS = 50;

export class Turns {
  /** Waiting pieces by user, in the order of the users' turns. */
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
