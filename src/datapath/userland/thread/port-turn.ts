/**
 * A port's turn at the datapath thread. The thread serves whoever is ready in turns (deficit round robin, Shreedhar and
 * Varghese 1995), and what is counted is work, since a frame may be one datagram or sixty thousand:
 *
 *   1   a frame, whatever becomes of it
 *   16  a write to a local port (WRITE_COST in core/frame-count.ts), times the ports that hear a broadcast
 *   1   each datagram into the tunnel: a segment of a superframe, times the destinations of a flood;
 *       4 where a segment has less than 536 bytes, which no honest one has (core/frame-count.ts)
 *   64  a question to the control side (QUESTION_SEGMENTS)
 *
 * A turn has TURN_SEGMENTS. It ends with the frame that uses them up, and what that took too much is missing in the next turn,
 * so in the long run all ports that want the thread have the same share of it. What was read and had no turn is copied
 * out of the slab, which others need, into the port's backlog; until that is empty nothing is read from the device, and whoever
 * sends more than its share fills its own queue. A superframe of more than 128 segments goes through the backlog as well:
 * it comes out of it in parts, superframes of 128 segments each, which then are frames like others: each is checked,
 * routed, flooded and counted by itself, in order. Nothing is dropped here, however small its segments are. Honest
 * superframes (64 KiB of 1,4xx bytes: 45 segments, and 16 of them a read) never meet any of this but for two comparisons.
 *
 * Answers send what waited for them: commands have a turn in common (worker.ts), and per MAC no more waits than two turns (pending-queue.ts).
 */
import { Backlog } from '../../../core/backlog.js';
import type { Overlay, Port } from '../../../core/overlay.js';
import { isLong } from '../../../core/superframe-part.js';
import { answerTooBig } from '../../../core/too-big.js';
import { transmit } from '../../../core/transmit.js';
import type { PortDevice } from '../../../io/contract.js';
import { DESCRIPTOR_WORDS, type FrameBatch } from '../../../wire/descriptor.js';

/** Whoever comes meanwhile waits for it. A read of full superframes has fewer (tap.c, ENOUGH): with a quarter, TCP took an eighth more
 * of the processors. */
export const TURN_SEGMENTS = 1024;
/** To post one takes 0.8 us; the copy that waits, the answer's way back and what it sends take more, and the control thread
 * takes most. Some fifteen are a message. */
export const QUESTION_SEGMENTS = 64;

/** As many as a batch holds. */
const MAX_READ_FRAMES = 64;

export class PortTurn {
  readonly #device: PortDevice;
  readonly #overlay: Overlay;
  readonly #port: Port;
  readonly #backlog = new Backlog();
  /** Segments that earlier turns took too much. */
  #debt = 0;
  /** What is read is what lately had its turn at once: the rest is better off in the device, where it is no copy. */
  #mostFrames = MAX_READ_FRAMES;

  constructor(device: PortDevice, overlay: Overlay, port: Port) {
    this.#device = device;
    this.#overlay = overlay;
    this.#port = port;
  }

  /** Frames are left that were read: its next turn is due though its device may have nothing. */
  get isWaiting(): boolean {
    return !this.#backlog.isEmpty;
  }

  /** Frames of the batch that were looked at; 0 = there are none, negative = the device is of no more use. */
  take(batch: FrameBatch): number {
    if (this.#debt >= TURN_SEGMENTS) {
      this.#debt -= TURN_SEGMENTS;
      return 1;
    }
    const segments = TURN_SEGMENTS - this.#debt;
    let count = 0;
    let ready = 0;
    if (this.#backlog.isEmpty) {
      count = this.#device.receive(batch, this.#mostFrames);
      if (count <= 0) {
        this.#debt = 0;
        return count;
      }
      const { capture } = this.#overlay.drops;
      if (capture !== undefined) capture.fromPort(this.#overlay, this.#port, batch, count, true);
      ready = untilLong(batch, count);
      if (ready === 0) this.#backlog.keep(batch, 0, count);
    }
    const isResumed = !this.#backlog.isEmpty;
    if (isResumed) {
      ready = count = this.#backlog.refill(batch, segments);
      this.#overlay.drops.capture?.fromPort(this.#overlay, this.#port, batch, count, false);
    }
    const done = transmit(this.#overlay, this.#port, batch, ready, segments);
    const { outputs } = this.#overlay.shared;
    this.#debt = Math.max(0, outputs.spentSegments - segments);
    if (isResumed) this.#backlog.done(done);
    else if (done < count) this.#backlog.keep(batch, done, count);
    if (!isResumed)
      this.#mostFrames = done < count ? Math.max(1, done) : Math.min(this.#mostFrames + 1, MAX_READ_FRAMES);
    answerTooBig(this.#overlay, this.#port, batch, outputs.flush(batch));
    return count;
  }
}

/** How many of the first `count` frames come before one that goes in parts. */
function untilLong({ descriptors }: FrameBatch, count: number): number {
  for (let index = 0; index < count; index++) if (isLong(descriptors, index * DESCRIPTOR_WORDS)) return index;
  return count;
}
