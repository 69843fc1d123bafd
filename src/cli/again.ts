/** Commands that go on for long wait for a varpd that has ended or restarts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectionError, ControlError } from '../control/client.js';
import type { Context } from './command.js';

/** Between two attempts to reach it. */
const RETRY_MS = 500;

/** Asks until varpd answers. Rejects when it refuses. */
export async function askAgain<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    await sleep(RETRY_MS);
    try {
      return await ask();
    } catch (error) {
      if (!isLater(error)) throw error;
    }
  }
}

/** Asks, and warns and asks again while varpd does not answer. Rejects when it refuses. */
export async function askPatiently<T>(ask: () => Promise<T>, { warn }: Context): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ConnectionError && isLater(error))) throw error;
    warn(`${error.problem}: trying again`);
    return askAgain(ask);
  }
}

function isLater(error: unknown): boolean {
  return error instanceof ConnectionError
    ? error.code !== 'DENIED'
    : error instanceof ControlError && error.reason === 'AGAIN';
}
