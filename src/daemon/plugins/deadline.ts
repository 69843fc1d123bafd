/**
 * Deadlines for the questions that a plugin is asked, and for its process.
 *
 * A plugin that answers out of memory answers at once, and then no promise, timer or signal is made for it. A
 * scan of the network asks 100,000 questions, and the garbage of each would be memory that varpd keeps.
 */

/** Time for the stop of an instance. varpd has 2 s to end, and all plugins share them. */
export const STOP_DEADLINE_MS = 500;

/** A value that is there, or a promise of it. */
export type Eventually<T> = T | Promise<T>;

/** Goes on with a value: at once when it is there. */
export function andThen<T, U>(value: Eventually<T>, next: (value: T) => Eventually<U>): Eventually<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}

/** The time was up. The signal has been aborted, and an answer that still comes is thrown away. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
}

export class Deadlines {
  /** A controller that no open call uses; the next call may have it. */
  #spare: AbortController | undefined;

  /**
   * Calls, and waits at most `deadlineMs`. Throws, or rejects, with the error of the call, or with a
   * DeadlineError. A call that blocks the thread is only noticed when it returns; its answer is too late all
   * the same.
   */
  within<T>(deadlineMs: number, call: (signal: AbortSignal) => T | PromiseLike<T>): Eventually<T> {
    const controller = this.#spare ?? new AbortController();
    this.#spare = undefined;
    const startedMs = performance.now();
    const value = call(controller.signal);
    const blockedMs = Math.round(performance.now() - startedMs);
    const answered = isThenable(value) ? Promise.resolve(value) : undefined;
    if (blockedMs > deadlineMs) {
      answered?.catch(() => undefined);
      throw expire(controller, `it held up the whole daemon for ${blockedMs} ms`);
    }
    if (answered !== undefined) return inTime(answered, deadlineMs, controller);
    this.#spare = controller;
    return value as T;
  }
}

function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as Partial<PromiseLike<T>> | null | undefined)?.then === 'function';
}

function expire(controller: AbortController, message: string): DeadlineError {
  const error = new DeadlineError(message);
  controller.abort(error);
  return error;
}

function inTime<T>(answered: Promise<T>, deadlineMs: number, controller: AbortController): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(expire(controller, `no answer within ${deadlineMs} ms`));
    }, deadlineMs);
    answered.then(resolve, reject).finally(() => {
      clearTimeout(timer);
    });
  });
}

/** A plugin process is nice, so on a busy host it hardly runs. The time in which it waited for a processor moves its
 * deadlines, by this multiple of them at most: a plugin with many threads waits for its own. */
const MAX_WAIT_FACTOR = 5;

/** The part of the time that a process has waited for a processor by which a deadline moves. */
export const excusedMs = (waitedMs: number, deadlineMs: number): number =>
  Math.min(waitedMs, MAX_WAIT_FACTOR * deadlineMs);

/** Calls `late` at the deadline, unless the function that it returns is called first. `waitedMs`: since now. */
export function atDeadline(deadlineMs: number, waitedMs: () => number, late: () => void): () => void {
  const startedMs = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const wait = (ms: number): void => {
    timer = setTimeout(() => {
      const restMs = startedMs + deadlineMs + excusedMs(waitedMs(), deadlineMs) - performance.now();
      if (restMs <= 0) late();
      else wait(restMs);
    }, ms);
  };
  wait(deadlineMs);
  return () => {
    clearTimeout(timer);
  };
}
