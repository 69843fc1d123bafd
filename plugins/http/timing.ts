/** Pauses and repeated work that end with the overlay. */
import type { Host } from '../../src/plugin/index.js';

/** Runs work that has no caller. A rejection would be a defect of the plugin, and becomes a line of the log. */
export function inBackground({ log, signal }: Host, work: Promise<unknown>): void {
  work.catch((error: unknown) => {
    if (!signal.aborted) log.error(error instanceof Error ? error.message : String(error));
  });
}

/** Resolves after `ms`, or as soon as the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end, { once: true });
  });
}

/** Work that is done again and again, never twice at a time. Each turn says when the next one is due. */
export class Repeated {
  readonly #work: () => Promise<number>;
  readonly #host: Host;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Infinity;
  #isBusy = false;

  /** `work` resolves to the pause before the next turn, in ms, and never rejects. */
  constructor(work: () => Promise<number>, host: Host) {
    this.#work = work;
    this.#host = host;
    host.signal.addEventListener('abort', () => {
      clearTimeout(this.#timer);
    });
  }

  /** Makes the next turn due after `ms`, unless it is due earlier. */
  within(ms: number): void {
    const dueMs = performance.now() + ms;
    if (this.#isBusy || this.#host.signal.aborted || dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => {
      inBackground(this.#host, this.#turn());
    }, ms);
  }

  async #turn(): Promise<void> {
    this.#dueMs = Infinity;
    this.#isBusy = true;
    const nextMs = await this.#work();
    this.#isBusy = false;
    this.within(nextMs);
  }
}
