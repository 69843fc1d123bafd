/**
 * Frames of one port that were read and have to wait for its next turn (port-turn.ts), in their order. Each is a copy, since
 * the slab is needed for other ports meanwhile. What is here is a batch at most: while there is something, nothing is read.
 *
 * The head may be a superframe of more segments than one part may have: it stays until its last part is out, and goes back
 * into a batch part by part (superframe-part.ts).
 */
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  HEADROOM_BYTES,
  LENGTH,
  MAX_FRAME_BYTES,
  OFFSET,
} from '../wire/descriptor.js';
import { turnCost, wireFrames } from './frame-count.js';
import { PART_SEGMENTS, partsOf, type Superframe, writePart } from './superframe-part.js';

interface Waiting extends Superframe {
  /** Segments in all; 0 = it goes as it is. */
  readonly segments: number;
  /** Of a turn, at once. */
  readonly cost: number;
}

export class Backlog {
  #frames: Waiting[] = [];
  /** Frames of `#frames` that are done with, and segments of the one behind them. */
  #frame = 0;
  #segment = 0;
  /** The same two behind each frame of the last `refill`. */
  readonly #frameAfter: number[] = [];
  readonly #segmentAfter: number[] = [];

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** Frames `from` up to `to` of the batch, behind what is here. */
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

  /** Puts the first of them into `batch`, as many as it holds and as are worth about `segments`, and forgets none: how many
   * frames. `done` says what became of them. */
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
