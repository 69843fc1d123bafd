/** Replies to loopback messages (loopback.ts) that wait for the next turn of their thread. */
import type { Rate } from '../queues/allowance.js';
import type { Port } from '../port.js';

/** Rate of answers of an overlay. A probe of each source port sends up to 256 messages at once. */
export const LOOPBACK_RATE: Rate = { perSecond: 500, burst: 256 };
/** Replies of all overlays that may wait. One batch of datagrams rarely has more. */
const MAX_REPLIES = 256;

export interface LoopbackReply {
  /** Id of the overlay. */
  readonly overlay: number;
  /** The port that was asked. */
  readonly port: Port;
  readonly frame: Uint8Array;
}

export class LoopbackReplies {
  #waiting: LoopbackReply[] = [];

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  get isFull(): boolean {
    return this.#waiting.length >= MAX_REPLIES;
  }

  hold(reply: LoopbackReply): void {
    this.#waiting.push(reply);
  }

  take(): readonly LoopbackReply[] {
    const replies = this.#waiting;
    this.#waiting = [];
    return replies;
  }
}
