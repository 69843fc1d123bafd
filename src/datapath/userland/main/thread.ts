/** One datapath thread as the control side has it: commands go in and wake it, what it reports comes out. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { closeDescriptor, createEvent, signalEvent } from '../../../dgram-extra/index.js';
import { errorText } from '../../../model/errors.js';
import type { MacAddress } from '../../../wire/mac.js';
import type { Command, Report } from '../protocol.js';
import { returnRing, takeRing } from './rings.js';

/** In one message: to unpack it takes the thread a fraction of a millisecond. */
const MAX_COMMANDS = 64;
/** In one `invalidate`. */
const MAX_MACS = 2048;

/** Between two parts of tables that are read: whoever reads them, and however many do, takes a fifth of the thread's time. */
const INSPECTION_PAUSE_MS = 1;

/** Of its heap. */
const YOUNG_GENERATION_MIB = 6;

/** Command members that a caller leaves to `request`. */
export type Request<C = Command> = C extends { readonly reply: number } ? Omit<C, 'reply'> : never;

/** What obeys commands, in the order in which they are given. */
export interface Link {
  post(command: Command): void;
  /** One MAC of an overlay is forgotten, or all. */
  invalidate(overlay: number, mac: MacAddress | undefined): void;
  /** Resolves to what is replied. */
  request(request: Request): Promise<unknown>;
  /** The same without haste: one after the other, so that readers of tables leave the thread to its frames. */
  inspect(request: Request): Promise<unknown>;
}

export type ThreadNews = Exclude<Report, { kind: 'reply' }>;

export interface ThreadEvents {
  /** `index`: the number of the thread. */
  heard(report: ThreadNews, index: number): void;
  /** It is gone, and nobody has stopped it. */
  failed(error: Error): void;
}

export class DatapathThread implements Link {
  readonly #index: number;
  readonly #events: ThreadEvents;
  readonly #wakeFd = createEvent();
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (value: unknown) => void>();
  #outbox: Command[] = [];
  /** The beginning of the next `invalidate`. */
  readonly #stale = { overlay: 0, macs: new Float64Array(MAX_MACS), count: 0 };
  #lastReply = 0;
  /** Resolves when the next `inspect` may begin. */
  #inspected: Promise<unknown> = Promise.resolve();
  /** What goes wrong before it runs is told to who waits for that. */
  #starting = false;
  #stopping = false;

  /** It takes commands at once, and obeys them as soon as it runs. One that is held looks at no device before `begin`. */
  constructor(index: number, isHeld: boolean, events: ThreadEvents) {
    this.#index = index;
    this.#events = events;
    const ring = takeRing();
    this.#worker = new Worker(new URL('../thread/worker.js', import.meta.url), {
      workerData: { wakeFd: this.#wakeFd, isHeld, ring },
      // Known traffic allocates nothing; in a storm of lookups, V8's own 48 MiB would fill with garbage.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
      name: index === 0 ? 'datapath' : `datapath ${index}`,
    });
    this.#worker.on('message', this.#hear);
    this.#worker.on('error', (error) => {
      if (!this.#starting) events.failed(error instanceof Error ? error : new Error(errorText(error)));
    });
    this.#worker.on('exit', (code) => {
      returnRing(ring);
      if (!this.#stopping && !this.#starting)
        events.failed(new Error(`the datapath thread ended with code ${code}`));
    });
  }

  /** Resolves when the thread runs. */
  async started(): Promise<void> {
    this.#starting = true;
    await new Promise<void>((resolve, reject) => {
      this.#worker.once('online', resolve);
      this.#worker.once('error', reject);
    });
    this.#starting = false;
  }

  /** A message and a wake-up for all that is said in one go: answers come in as many as the questions did. */
  post(command: Command): void {
    if (this.#packStale() || command.kind === 'restore-targets') this.#flush();
    if (this.#outbox.push(command) === 1) queueMicrotask(this.#flush);
    // Hundreds of targets are a message of their own.
    if (this.#outbox.length >= MAX_COMMANDS || command.kind === 'restore-targets') this.#flush();
  }

  invalidate(overlay: number, mac: MacAddress | undefined): void {
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

  inspect(request: Request): Promise<unknown> {
    const reply = this.#inspected.then(() => this.request(request));
    this.#inspected = reply.then(() => sleep(INSPECTION_PAUSE_MS, undefined, { ref: false }));
    return reply;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.request({ kind: 'stop' });
    await exited;
    closeDescriptor(this.#wakeFd);
  }

  readonly #flush = (): void => {
    this.#packStale();
    if (this.#outbox.length === 0) return;
    this.#worker.postMessage(this.#outbox);
    this.#outbox = [];
    signalEvent(this.#wakeFd);
  };

  /** Before anything that is said after it. Whether there was something. */
  #packStale(): boolean {
    const { overlay, macs, count } = this.#stale;
    if (count === 0) return false;
    this.#stale.count = 0;
    this.#outbox.push({ kind: 'invalidate', overlay, macs: macs.slice(0, count) });
    return true;
  }

  readonly #hear = (report: Report): void => {
    if (report.kind !== 'reply') {
      this.#events.heard(report, this.#index);
      return;
    }
    this.#waiting.get(report.reply)?.(report.value);
    this.#waiting.delete(report.reply);
  };
}
