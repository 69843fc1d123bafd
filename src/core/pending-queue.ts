/**
 * Frames that wait for an answer, per target, in order. Bounded twice, as a copy of each is kept: a flood to one
 * unknown MAC, or to a hundred thousand, costs no more than this and leaves known flows alone.
 */
import {
  DESCRIPTOR_WORDS,
  HEADROOM_BYTES,
  LENGTH,
  OFFSET,
  WAITING,
  type FrameBatch,
} from '../wire/descriptor.js';
import { wireFrames } from './frame-count.js';

/** What illumos allows one unknown MAC: some 90 full frames, or two 64 KiB superframes. */
export const MAX_BYTES_PER_TARGET = 128 * 1024;
/** All overlays of the daemon together: 128 targets at their own bound. */
export const MAX_BYTES = 16 * 1024 * 1024;
/** As they are on a wire: superframes of tiny segments, which are all sent at once when the answer is there. As many waiting
 * frames of 60 bytes take all of the 128 KiB five times over. */
export const MAX_FRAMES_PER_TARGET = 2048;
/** What a waiting frame costs beside its bytes (descriptor, two objects), so that runts do not come for free. */
const FRAME_OVERHEAD_BYTES = 256;

/** The budget that the queues of all overlays share. */
export interface PendingBudget {
  usedBytes: number;
}

/** Of a frame that waits (WAITING of its descriptor): it came from the overlay's own port. */
export const FROM_OWN = 1;
/** It is a broadcast that a proxy brings to one station. */
export const REDIRECTED = 2;

interface HeldFrame {
  readonly bytes: Uint8Array;
  readonly descriptor: Int32Array;
}

interface Held {
  readonly frames: HeldFrame[];
  /** As they are on a wire. */
  wireFrames: number;
  usedBytes: number;
}

export class PendingQueue {
  readonly #budget: PendingBudget;
  readonly #byRow = new Map<number, Held>();

  constructor(budget: PendingBudget) {
    this.#budget = budget;
  }

  /** Copies frame `index` of the batch; false when a bound is reached and it must be dropped. `marks`: FROM_OWN and the
   * like, which the copy has in its WAITING. */
  hold(row: number, batch: FrameBatch, index: number, marks = 0): boolean {
    const at = index * DESCRIPTOR_WORDS;
    const offset = batch.descriptors[at + OFFSET];
    const length = batch.descriptors[at + LENGTH];
    const costBytes = length + FRAME_OVERHEAD_BYTES;
    let held = this.#byRow.get(row);
    const usedBytes = held?.usedBytes ?? 0;
    if (usedBytes + costBytes > MAX_BYTES_PER_TARGET || this.#budget.usedBytes + costBytes > MAX_BYTES)
      return false;
    const frames = wireFrames(batch.bytes, batch.descriptors, at);
    // One alone may be of any kind: a small MSS is no reason to lose it.
    if (held !== undefined && held.wireFrames + frames > MAX_FRAMES_PER_TARGET) return false;
    if (held === undefined) this.#byRow.set(row, (held = { frames: [], wireFrames: 0, usedBytes: 0 }));
    const descriptor = batch.descriptors.slice(at, at + DESCRIPTOR_WORDS);
    descriptor[WAITING] = marks;
    held.frames.push({ bytes: batch.bytes.slice(offset, offset + length), descriptor });
    held.wireFrames += frames;
    held.usedBytes += costBytes;
    this.#budget.usedBytes += costBytes;
    return true;
  }

  /** Forgets the frames that wait for this target; how many they were, as they are on a wire. */
  discard(row: number): number {
    return this.#take(row)?.wireFrames ?? 0;
  }

  /** Puts the frames that wait for this target back into `batch`, as many as fit at a time, and calls `send` with
   * their number each time. */
  release(row: number, batch: FrameBatch, send: (count: number) => void): void {
    let count = 0;
    let offset = HEADROOM_BYTES;
    for (const { bytes, descriptor } of this.#take(row)?.frames ?? []) {
      if (count === batch.capacityFrames || offset + bytes.length > batch.bytes.length) {
        send(count);
        count = 0;
        offset = HEADROOM_BYTES;
      }
      batch.bytes.set(bytes, offset);
      const at = count++ * DESCRIPTOR_WORDS;
      batch.descriptors.set(descriptor, at);
      batch.descriptors[at + OFFSET] = offset;
      offset = ((offset + bytes.length + 15) & ~15) + HEADROOM_BYTES;
    }
    if (count > 0) send(count);
  }

  #take(row: number): Held | undefined {
    const held = this.#byRow.get(row);
    if (held === undefined) return undefined;
    this.#byRow.delete(row);
    this.#budget.usedBytes -= held.usedBytes;
    return held;
  }
}
