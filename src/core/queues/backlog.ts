/**
 * Frames of one port that were read and wait for the port's next turn (port-turn.ts), in order. Each is a
 * copy, since the slab is needed for other ports meanwhile. A backlog holds at most one batch: nothing is
 * read from the port while it has frames.
 *
 * The first frame may be a superframe with more segments than a part may have (superframe-part.ts). Such a
 * superframe goes into batches part by part, and stays here until its last part is out.
 */
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  HEADROOM_BYTES,
  LENGTH,
  MAX_FRAME_BYTES,
  OFFSET,
} from '../../wire/descriptor.js';
import { turnCost, wireFrames } from '../counts/frame-count.js';
import { PART_SEGMENTS, partsOf, type Superframe, writePart } from './superframe-part.js';

interface Waiting extends Superframe {
  /** Number of segments; 0 = the frame goes as it is, not in parts. */
  readonly segments: number;
  /** Cost of the frame or of one part, in segments of a turn. */
  readonly cost: number;
}

export class Backlog {
  #frames: Waiting[] = [];
  /** How many of `#frames` are out, and how many segments of the one after them. */
  #frame = 0;
  #segment = 0;
  /** The values of `#frame` and `#segment` after each frame of the last `refill`. */
  readonly #frameAfter: number[] = [];
  readonly #segmentAfter: number[] = [];

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** Appends copies of the frames from `from` up to, not including, `to`. */
  keep({ bytes, descriptors }: FrameBatch, from: number, to: number): void {
    for (let index = from; index < to; index++) {
      const at = index * DESCRIPTOR_WORDS;
      const offset = descriptors[at + OFFSET];
      const descriptor = descriptors.slice(at, at + DESCRIPTOR_WORDS);
      descriptor[OFFSET] = 0;
      this.#frames.push({
        bytes: bytes.slice(offset, offset + descriptors[at + LENGTH]),
        descriptor,
        segments: partsOf(bytes, descriptors, at),
        cost: turnCost(descriptors, at, Math.min(wireFrames(descriptors, at), PART_SEGMENTS)),
      });
    }
  }

  /** Puts frames into `batch`, until it is full or they cost about `segments`. Returns how many frames those
   * are. The backlog keeps them until `done` says how many of them are out. */
  refill(batch: FrameBatch, segments: number): number {
    let frame = this.#frame;
    let segment = this.#segment;
    let count = 0;
    let cost = 0;
    for (let offset = HEADROOM_BYTES; frame < this.#frames.length;) {
      if (cost >= segments || count === batch.capacityFrames || offset + MAX_FRAME_BYTES > batch.bytes.length)
        break;
      const waiting = this.#frames[frame];
      const at = count * DESCRIPTOR_WORDS;
      cost += waiting.cost;
      batch.descriptors.set(waiting.descriptor, at);
      batch.descriptors[at + OFFSET] = offset;
      if (waiting.segments === 0) batch.bytes.set(waiting.bytes, offset);
      else writePart(waiting, segment, batch, at);
      segment += PART_SEGMENTS;
      if (segment >= waiting.segments) {
        segment = 0;
        frame++;
      }
      this.#frameAfter[count] = frame;
      this.#segmentAfter[count++] = segment;
      offset = ((offset + batch.descriptors[at + LENGTH] + 15) & ~15) + HEADROOM_BYTES;
    }
    return count;
  }

  /** The first `count` frames of the last `refill` are out. */
  done(count: number): void {
    if (count === 0) return;
    this.#frame = this.#frameAfter[count - 1];
    this.#segment = this.#segmentAfter[count - 1];
    if (this.#frame < this.#frames.length) return;
    this.#frames = [];
    this.#frame = 0;
  }
}
