/** Commands to the datapath worker: packed, posted, and those that are answered waited for. */
import type { Worker } from 'node:worker_threads';
import { signalEvent } from '../../dgram-extra/index.js';
import type { MacAddress } from '../../wire/mac.js';
import type { Command } from './protocol.js';

/** Command members that a caller leaves to `request`. */
type Request<C = Command> = C extends { readonly reply: number } ? Omit<C, 'reply'> : never;

/** In one message (worker.ts says why there is a bound). */
const MAX_COMMANDS = 64;
/** In one `invalidate`. */
const MAX_MACS = 2048;

export class Channel {
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #waiting = new Map<number, (value: unknown) => void>();
  #outbox: Command[] = [];
  /** The beginning of the next `invalidate`. */
  readonly #stale = { overlay: 0, macs: new Float64Array(MAX_MACS), count: 0 };
  #lastReply = 0;

  constructor(worker: Worker, wakeFd: number) {
    this.#worker = worker;
    this.#wakeFd = wakeFd;
  }

  /** A message and a wake-up for all that is said in one go: answers come in as many as the questions did. */
  post(command: Command): void {
    this.#packStale();
    if (this.#outbox.push(command) === 1) queueMicrotask(this.#flush);
    if (this.#outbox.length >= MAX_COMMANDS) this.#flush();
  }

  invalidate(overlay: number, mac?: MacAddress): void {
    if (mac === undefined) {
      this.post({ kind: 'invalidate', overlay, macs: undefined });
      return;
    }
    // A million at once, when a mapping is replaced: packed, a message each 2,048.
    if (this.#stale.overlay !== overlay || this.#stale.count === MAX_MACS) this.#flush();
    if (this.#outbox.length + this.#stale.count === 0) queueMicrotask(this.#flush);
    this.#stale.overlay = overlay;
    this.#stale.macs[this.#stale.count++] = mac;
  }

  request(request: Request): Promise<unknown> {
    const reply = ++this.#lastReply;
    return new Promise((resolve) => {
      this.#waiting.set(reply, resolve);
      this.post({ ...request, reply });
    });
  }

  replied(reply: number, value: unknown): void {
    this.#waiting.get(reply)?.(value);
    this.#waiting.delete(reply);
  }

  readonly #flush = (): void => {
    this.#packStale();
    if (this.#outbox.length === 0) return;
    this.#worker.postMessage(this.#outbox);
    this.#outbox = [];
    signalEvent(this.#wakeFd);
  };

  /** Before anything that is said after it. */
  #packStale(): void {
    const { overlay, macs, count } = this.#stale;
    if (count === 0) return;
    this.#stale.count = 0;
    this.#outbox.push({ kind: 'invalidate', overlay, macs: macs.slice(0, count) });
  }
}
