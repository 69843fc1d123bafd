/**
 * Attempts to bring up what is stored and does not run. The cause may go at any time, and of most causes nobody tells: a UDP
 * port is given up, a file is mended, a device is removed. So each overlay is tried again after a pause that grows with
 * each attempt, and at once when its listen address appears.
 */
import { inBackground } from '../../model/background.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Following, LinkWatch } from '../underlay/link-watch.js';

/** Soon at first, for whoever mends and looks; then often enough for whoever comes back later. */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 5000;
/** The pause is at least this many times what the attempt took. */
const PAUSE_FACTOR = 9;

interface Retry {
  pauseMs: number;
  timer: NodeJS.Timeout;
  waiting: Following | undefined;
}

export class Retries {
  readonly #watch: Pick<LinkWatch, 'isUsable' | 'awaitAddress'>;
  readonly #attempt: (name: string) => Promise<void>;
  readonly #retries = new Map<string, Retry>();
  #isStopped = false;

  /** `attempt` calls `later` or `forget` in its turn. It never rejects. */
  constructor(watch: Pick<LinkWatch, 'isUsable' | 'awaitAddress'>, attempt: (name: string) => Promise<void>) {
    this.#watch = watch;
    this.#attempt = attempt;
  }

  /** An attempt has failed. `ip`: the address that may have been wanting. */
  later(name: string, ip: IpAddress | undefined, tookMs: number): void {
    const before = this.#retries.get(name);
    this.forget(name);
    if (this.#isStopped) return;
    const doubledMs = before === undefined ? FIRST_PAUSE_MS : Math.min(2 * before.pauseMs, LAST_PAUSE_MS);
    const pauseMs = Math.max(doubledMs, PAUSE_FACTOR * tookMs);
    const again = (): void => {
      inBackground(`bringing up ${name}`, this.#attempt(name));
    };
    const isMissing = ip !== undefined && !this.#watch.isUsable(ip);
    this.#retries.set(name, {
      pauseMs: doubledMs,
      timer: setTimeout(again, pauseMs).unref(),
      waiting: isMissing ? this.#watch.awaitAddress(ip, again) : undefined,
    });
  }

  forget(name: string): void {
    const retry = this.#retries.get(name);
    if (retry === undefined) return;
    this.#retries.delete(name);
    clearTimeout(retry.timer);
    retry.waiting?.stop();
  }

  stop(): void {
    this.#isStopped = true;
    for (const name of [...this.#retries.keys()]) this.forget(name);
  }
}
