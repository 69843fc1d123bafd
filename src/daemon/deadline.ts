/** Waiting with an end: for whatever a plugin is asked. */

/** The time was up; the signal has been aborted and the answer, should it still come, goes nowhere. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
}

/**
 * Calls and waits at most `deadlineMs`. Rejects with what the call threw or rejected with, or with a DeadlineError.
 * A call that blocks the thread can only be noticed when it returns; its answer is too late all the same.
 */
export async function withDeadline<T>(
  deadlineMs: number,
  call: (signal: AbortSignal) => T | Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const startedMs = performance.now();
  const answered = call(controller.signal);
  const expire = (message: string): DeadlineError => {
    const error = new DeadlineError(message);
    controller.abort(error);
    return error;
  };
  const blockedMs = Math.round(performance.now() - startedMs);
  if (blockedMs > deadlineMs) {
    if (isThenable(answered)) answered.then(undefined, () => undefined);
    throw expire(`it held up the whole daemon for ${blockedMs} ms`);
  }
  // Answers out of memory are most of all: a scan of the network is not to cost a timer a question.
  if (!isThenable(answered)) return answered;
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(expire(`no answer within ${deadlineMs} ms`));
    }, deadlineMs);
    const done = (): void => {
      clearTimeout(timer);
    };
    // A thenable need not be a promise, and may throw, too.
    Promise.resolve(answered).finally(done).then(resolve, reject);
  });
}

function isThenable<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
