/**
 * Attempts to bring up stored overlays and VNICs that do not run. Most causes end without an event: a UDP
 * port becomes free, a file is mended, a device is removed. So each overlay is tried again after a pause that
 * grows with each attempt, and at once when its listen address appears. A random part of the pause keeps hosts apart
 * that wait for the same store.
 */
import { inBackground } from '../../model/background.js';
import { spread } from '../../plugin/back-off.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Following, LinkWatch } from '../underlay/link-watch.js';

/**
 * The first pause is short, for an operator that mends something and looks at once; later pauses stay short
 * enough for one that comes back later.
 */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 5000;
/** Ceiling of the pause as a multiple of the time of the attempt, at the least. */
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

  /** `attempt` calls `later` or `forget` itself. It never rejects. */
  constructor(watch: Pick<LinkWatch, 'isUsable' | 'awaitAddress'>, attempt: (name: string) => Promise<void>) {
    this.#watch = watch;
    this.#attempt = attempt;
  }

  /** An attempt has failed. `ip`: the address that may have been missing. */
  later(name: string, ip: IpAddress | undefined, tookMs: number): void {
    const before = this.#retries.get(name);
    this.forget(name);
    if (this.#isStopped) return;
    const doubledMs = before === undefined ? FIRST_PAUSE_MS : Math.min(2 * before.pauseMs, LAST_PAUSE_MS);
    const pauseMs = spread(Math.max(doubledMs, PAUSE_FACTOR * tookMs));
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
