/**
 * The calls of one instance on their way to varpd, in their order. A call with a long list goes out in slices: between two
 * of them the process answers lookups and pings, and the next slice comes when varpd has read the one before. So a list
 * of a million rows takes no more memory here than one slice of its text. The calls behind it wait until it is out.
 */

/** A turn of the event loop sends rows for so long. */
const SLICE_MS = 4;
/** With more calls behind a long one, the plugin waits in its call, as it does for a full channel. */
const MAX_WAITING = 1000;

/** The channel to varpd. */
export interface Channel {
  /** Sends a line. */
  readonly send: (text: string) => void;
  /** Text waits until varpd reads. */
  readonly isFull: () => boolean;
  /** Calls back once, when no text waits any more. */
  readonly drained: (then: () => void) => void;
}

/** Lines of a call. Undefined: nothing is to be sent yet, and the slice may end here. */
export type Lines = Generator<string | undefined, void>;

interface Waiting {
  readonly lines: Lines;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Calls {
  readonly #channel: Channel;
  readonly #signal: AbortSignal;
  readonly #waiting: Waiting[] = [];
  #isScheduled = false;

  /** After an abort of the signal nothing is sent. */
  constructor(channel: Channel, signal: AbortSignal) {
    this.#channel = channel;
    this.#signal = signal;
  }

  /** Sends a call without a result. An error of its generator is an unhandled rejection, for which the plugin is blamed. */
  tell(lines: Lines): void {
    this.send(lines).catch((error: unknown) => {
      if (!this.#signal.aborted) throw error;
    });
  }

  /**
   * Sends the lines of a call, the first slice at once. Resolves when all are out, and rejects with what the generator
   * throws, or when the instance has been stopped.
   */
  send(lines: Lines): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ lines, resolve, reject });
      if (this.#waiting.length > MAX_WAITING) while (this.#waiting.length > 0) this.#step();
      else if (!this.#isScheduled) this.#slice();
    });
  }

  readonly #slice = (): void => {
    this.#isScheduled = false;
    const endMs = performance.now() + SLICE_MS;
    while (this.#waiting.length > 0) {
      this.#step();
      this.#isScheduled = this.#waiting.length > 0 && (this.#channel.isFull() || performance.now() > endMs);
      if (!this.#isScheduled) continue;
      if (this.#channel.isFull()) this.#channel.drained(this.#slice);
      else setImmediate(this.#slice);
      return;
    }
  };

  /** Takes one step of the first call. */
  #step(): void {
    const { lines, resolve, reject } = this.#waiting[0];
    try {
      if (this.#signal.aborted) throw new Error('the instance has been stopped');
      const { done, value } = lines.next();
      if (value !== undefined) this.#channel.send(value);
      if (done !== true) return;
      resolve();
    } catch (error) {
      reject(error);
    }
    this.#waiting.shift();
  }
}
