/**
 * A port's turn at the datapath thread. The thread serves ready ports in turns (deficit round robin,
 * Shreedhar and Varghese 1995). The unit of a turn is work, since a frame may be one datagram or sixty
 * thousand:
 *
 *   1   a frame, even if it is dropped
 *   16  a write to a local port (WRITE_COST in core/counts/frame-count.ts), times the ports that receive a broadcast
 *   1   each datagram into the tunnel: a segment of a superframe, times the destinations of a flood;
 *       4 if a segment has less than 536 bytes, which is unusual (core/counts/frame-count.ts)
 *   64  a question to the control side (QUESTION_SEGMENTS)
 *
 * A turn has TURN_SEGMENTS units. It ends with the frame that uses them up, and the excess is subtracted from
 * the next turn. So in the long run all busy ports have the same share of the thread. Frames that were read
 * and not served are copied from the slab, which other ports need, into the port's backlog. Until the backlog
 * is empty, nothing is read from the device, so a guest that sends more than its share fills its own queue. A
 * superframe of more than 128 segments also goes through the backlog, and comes out in parts of 128 segments
 * each. The parts are frames like others: each is checked, routed, flooded and counted by itself, in order.
 * No superframe is dropped here, however small its segments are. Usual superframes (64 KiB of 1,4xx bytes: 45
 * segments, and 16 of them per read) cost only two comparisons here.
 *
 * Answers send the frames that wait for them. Commands have a turn in common (worker.ts), and per MAC at most
 * two turns of frames wait (pending-queue.ts).
 */
import { Backlog } from '../../../core/queues/backlog.js';
import type { Overlay, Port } from '../../../core/overlay.js';
import { isLong } from '../../../core/queues/superframe-part.js';
import { answerTooBig } from '../../../core/too-big.js';
import { transmit } from '../../../core/transmit.js';
import type { PortDevice } from '../../../io/contract.js';
import { DESCRIPTOR_WORDS, type FrameBatch } from '../../../wire/descriptor.js';

/** Units of a turn. Other ports wait for its end. A read of full superframes has fewer (tap.c, ENOUGH). With
 * a quarter of this, TCP took an eighth more processor time. */
export const TURN_SEGMENTS = 1024;
/** Cost of a question. To post it takes 0.8 us. The copy of the waiting frame, the way of the answer and the
 * frames that it sends take more, and the control thread takes most. Some fifteen questions are one
 * message. */
export const QUESTION_SEGMENTS = 64;

/** As many frames as a batch holds. */
const MAX_READ_FRAMES = 64;

export class PortTurn {
  readonly #device: PortDevice;
  readonly #overlay: Overlay;
  readonly #port: Port;
  readonly #backlog = new Backlog();
  /** Segments by which earlier turns were too long. */
  #debt = 0;
  /** Frames to read: as many as lately were served at once. Further frames are better left in the device,
   * where they need no copy. */
  #mostFrames = MAX_READ_FRAMES;

  constructor(device: PortDevice, overlay: Overlay, port: Port) {
    this.#device = device;
    this.#overlay = overlay;
    this.#port = port;
  }

  /** Whether frames that were read are left, so that the port's next turn is due even if its device is not
   * ready. */
  get isWaiting(): boolean {
    return !this.#backlog.isEmpty;
  }

  /** Gives the port a turn. Returns how many frames were in the batch; 0 = none, negative = the device can no
   * longer be used. */
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

/** Returns how many of the first `count` frames come before one that goes in parts. */
function untilLong({ descriptors }: FrameBatch, count: number): number {
  for (let index = 0; index < count; index++) if (isLong(descriptors, index * DESCRIPTOR_WORDS)) return index;
  return count;
}
