/** A datapath thread as the control side has it: commands go in and wake it, and its reports come out. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { closeDescriptor, createEvent, needDescriptors, signalEvent } from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import { errorText } from '../../../model/errors.js';
import type { MacAddress } from '../../../wire/mac.js';
import type { Command, Report } from '../protocol.js';
import { returnRing, takeRing } from './rings.js';

/** Commands of one message: the thread unpacks it in a fraction of a millisecond. */
const MAX_COMMANDS = 64;
/** MACs of one `invalidate`. */
const MAX_MACS = 2048;

/** Pause between two parts of a table that is read: all readers together take a fifth of the thread's
 * time. */
const INSPECTION_PAUSE_MS = 1;

/** Size of the young generation of the thread's heap. */
const YOUNG_GENERATION_MIB = 6;

/** Node opens up to 48 files at once while it loads the modules of a thread. A thread that runs out of them ends, and Node
 * leaves some of them open. */
const START_DESCRIPTORS = 64;

/** Command members that a caller leaves to `request`. */
export type Request<C = Command> = C extends { readonly reply: number } ? Omit<C, 'reply'> : never;

/** A receiver of commands, which obeys them in order. */
export interface Link {
  post(command: Command): void;
  /** Makes an overlay forget one MAC, or all. */
  invalidate(overlay: number, mac: MacAddress | undefined): void;
  /** Resolves to the reply. */
  request(request: Request): Promise<unknown>;
  /** The same, one request after the other with pauses, so that readers of tables leave the thread to its
   * frames. */
  inspect(request: Request): Promise<unknown>;
}

export type ThreadNews = Exclude<Report, { kind: 'reply' }>;

export interface ThreadEvents {
  /** `index`: the number of the thread. */
  heard(report: ThreadNews, index: number): void;
  /** The thread ran, and has ended although nothing stopped it. */
  failed(error: Error): void;
}

/** A thread that loads its code, and obeys commands after that. */
interface Loading {
  readonly worker: Worker;
  readonly wakeFd: number;
  /** Resolves when the thread fails or ends. */
  readonly failure: Promise<Error>;
  readonly ended: Promise<void>;
}

/** Throws the system's error when the thread cannot be made. */
function load(index: number, isHeld: boolean): Loading {
  needDescriptors(START_DESCRIPTORS);
  const wakeFd = createEvent();
  const ring = takeRing();
  const release = (): void => {
    returnRing(ring);
    closeDescriptor(wakeFd);
  };
  try {
    const name = index === 0 ? 'datapath' : `datapath ${index}`;
    const worker = new Worker(new URL('../thread/worker.js', import.meta.url), {
      workerData: { wakeFd, isHeld, ring, name },
      // Known traffic allocates nothing; in a storm of lookups, V8's own 48 MiB would fill with garbage.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
      name,
    });
    const failure = new Promise<Error>((resolve) => {
      worker.on('error', (error) => {
        resolve(error instanceof Error ? error : new Error(errorText(error)));
      });
      worker.on('exit', (code) => {
        resolve(new Error(`the datapath thread ended with code ${code}`));
      });
    });
    const ended = new Promise<void>((resolve) => {
      worker.on('exit', () => {
        release();
        resolve();
      });
    });
    return { worker, wakeFd, failure, ended };
  } catch (error) {
    release();
    throw error;
  }
}

let first: Loading | undefined;

/** Starts the first thread while the rest of varpd loads: the two take a core each. `isHeld` as in DatapathThread. An error
 * comes again when the thread is made, and has a place to go then. */
export function loadFirstThread(isHeld: boolean): void {
  try {
    first = load(0, isHeld);
  } catch {
    first = undefined;
  }
}

function takeFirst(): Loading | undefined {
  const loading = first;
  first = undefined;
  return loading;
}

export class DatapathThread implements Link {
  /** Resolves when the thread obeys commands. Rejects when it ends before that; `failed` is not called then. */
  readonly running: Promise<void>;
  readonly #index: number;
  readonly #events: ThreadEvents;
  readonly #wakeFd: number;
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #waiting = new Map<number, (value: unknown) => void>();
  #outbox: Command[] = [];
  /** The beginning of the next `invalidate`. */
  readonly #stale = { overlay: 0, macs: new Float64Array(MAX_MACS), count: 0 };
  #lastReply = 0;
  /** Resolves when the next `inspect` may begin. */
  #inspected: Promise<unknown> = Promise.resolve();
  #isStopping = false;
  #hasEnded = false;

  /** Takes commands at once, and obeys them when it runs. A thread that is held looks at no device before `begin`. Throws
   * the system's error when the thread cannot be made. */
  constructor(index: number, isHeld: boolean, events: ThreadEvents) {
    this.#index = index;
    this.#events = events;
    const loading = (index === 0 ? takeFirst() : undefined) ?? load(index, isHeld);
    this.#worker = loading.worker;
    this.#wakeFd = loading.wakeFd;
    this.#ended = loading.ended.then(this.#forget);
    this.#worker.on('message', this.#hear);
    this.running = this.#watch(loading.failure);
    this.running.catch(() => undefined);
  }

  async #watch(failure: Promise<Error>): Promise<void> {
    const error = await Promise.race([failure, this.request({ kind: 'ping' })]);
    if (error instanceof Error) throw error;
    inBackground(
      'reporting the end of a datapath thread',
      failure.then((late) => {
        if (!this.#isStopping) this.#events.failed(late);
      }),
    );
  }

  /** Posts a command. Commands posted together are one message and one wake-up: answers come in batches, as
   * questions do. */
  post(command: Command): void {
    // A list of targets is a message of its own.
    const isList = command.kind === 'restore-targets' || command.kind === 'set-targets';
    if (this.#packStale() || isList) this.#flush();
    if (this.#outbox.push(command) === 1) queueMicrotask(this.#flush);
    if (this.#outbox.length >= MAX_COMMANDS || isList) this.#flush();
  }

  invalidate(overlay: number, mac: MacAddress | undefined): void {
    if (mac === undefined) {
      this.post({ kind: 'invalidate', overlay, macs: undefined });
      return;
    }
    // When a mapping is replaced, a million come at once; 2,048 of them are packed into a message.
    if (this.#stale.overlay !== overlay || this.#stale.count === MAX_MACS) this.#flush();
    if (this.#outbox.length + this.#stale.count === 0) queueMicrotask(this.#flush);
    this.#stale.overlay = overlay;
    this.#stale.macs[this.#stale.count++] = mac;
  }

  /** A thread that has ended replies undefined. */
  request(request: Request): Promise<unknown> {
    if (this.#hasEnded) return Promise.resolve();
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

  /** Resolves when the thread has ended, also when it had ended before. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.post({ kind: 'stop' });
    await this.#ended;
  }

  readonly #flush = (): void => {
    this.#packStale();
    if (this.#outbox.length === 0) return;
    const commands = this.#outbox;
    this.#outbox = [];
    // The number of its eventfd may be that of another descriptor by now.
    if (this.#hasEnded) return;
    this.#worker.postMessage(commands);
    signalEvent(this.#wakeFd);
  };

  /** Packs the MACs into a command, before later commands. Returns whether there were any. */
  #packStale(): boolean {
    const { overlay, macs, count } = this.#stale;
    if (count === 0) return false;
    this.#stale.count = 0;
    this.#outbox.push({ kind: 'invalidate', overlay, macs: macs.slice(0, count) });
    return true;
  }

  readonly #forget = (): void => {
    this.#hasEnded = true;
    for (const reply of this.#waiting.values()) reply(undefined);
    this.#waiting.clear();
  };

  readonly #hear = (report: Report): void => {
    if (report.kind !== 'reply') {
      this.#events.heard(report, this.#index);
      return;
    }
    this.#waiting.get(report.reply)?.(report.value);
    this.#waiting.delete(report.reply);
  };
}
