/** Waiting with an end: for whatever a plugin is asked. */

/** The time was up; the signal has been aborted and the answer, should it still come, goes nowhere. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
}

/**
 * Calls and waits at most `deadlineMs`. Rejects with what the call threw or rejected with, or with a DeadlineError.
 * A call that blocks the thread can only be noticed when it returns; its answer is too late all the same.
 */
export function withDeadline<T>(
  deadlineMs: number,
  call: (signal: AbortSignal) => T | Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const expire = (message: string): void => {
      const error = new DeadlineError(message);
      reject(error);
      controller.abort(error);
    };
    const timer = setTimeout(expire, deadlineMs, `no answer within ${deadlineMs} ms`);
    const startedMs = performance.now();
    // `async`, so that a throw of the call itself becomes a rejection like any other.
    const answered = (async () => call(controller.signal))();
    const blockedMs = Math.round(performance.now() - startedMs);
    if (blockedMs > deadlineMs) expire(`it held up the whole daemon for ${blockedMs} ms`);
    answered.then(resolve, reject).finally(() => {
      clearTimeout(timer);
    });
  });
}
