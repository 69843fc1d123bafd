/**
 * Frames that wait for the answer to a question, in order, by target. Each is a copy, so their bytes are
 * bounded: for each target, and for all overlays of a thread together. Every port has a share of both bounds,
 * and every overlay a share of the second (shares.ts). So a flood to one unknown MAC, or to a hundred
 * thousand, costs no more than the bound, leaves known flows alone, and takes nothing from other ports. If
 * there is no room, the holder with the most loses its oldest frames first: the guest has probably given
 * those up already.
 */
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  HEADROOM_BYTES,
  LENGTH,
  OFFSET,
  WAITING,
} from '../../wire/descriptor.js';
import { COUNTER } from '../counts/counters.js';
import type { Drops, Origin } from '../counts/drops.js';
import { wireFrames } from '../counts/frame-count.js';
import { type Linked, Shares } from './shares.js';

/** The bound of illumos for one unknown MAC: some 90 full frames, or two 64 KiB superframes. */
export const MAX_BYTES_PER_TARGET = 128 * 1024;
/** Bound for all overlays of a thread together: 128 targets at their own bound. */
export const MAX_BYTES = 16 * 1024 * 1024;
/** Cost of a waiting frame beside its bytes (descriptor, objects), so that tiny frames are not free. */
const FRAME_OVERHEAD_BYTES = 256;
/** Least cost of each further segment of a superframe. All waiting frames are sent at once when the answer
 * arrives, and segments may be tiny; normal superframes have larger ones. */
const SEGMENT_BYTES = 256;

/** Mark of a waiting frame (WAITING in its descriptor): the frame came from the overlay's own port. */
export const FROM_OWN = 1;
/** Mark of a waiting frame: it is a broadcast that a proxy redirects to one station. */
export const REDIRECTED = 2;

/** The bytes that the queues of all overlays share. */
export class PendingBudget extends Shares<PendingQueue> {
  constructor(maxBytes = MAX_BYTES) {
    super(maxBytes);
  }
}

/** A port. */
type Sender = NonNullable<Origin['port']>;

interface HeldFrame extends Linked<HeldFrame> {
  readonly bytes: Uint8Array;
  readonly descriptor: Int32Array;
  readonly costBytes: number;
  /** Number of frames as they are on a wire. */
  readonly wireFrames: number;
  readonly row: number;
  readonly port: Sender;
}

/** The frames that wait for one target. */
interface Held {
  readonly frames: Set<HeldFrame>;
  readonly shares: Shares<Sender>;
}

export class PendingQueue {
  readonly #budget: PendingBudget;
  readonly #drops: Pick<Drops, 'addHeld'>;
  readonly #lost: (row: number) => void;
  readonly #byRow = new Map<number, Held>();
  /** Its bound is this overlay's part of the budget. */
  readonly #shares = new Shares<Sender, HeldFrame>(Infinity);

  /** `lost` is called for each frame that was dropped to make room for another port or overlay. */
  constructor(budget: PendingBudget, drops: Pick<Drops, 'addHeld'>, lost: (row: number) => void) {
    this.#budget = budget;
    this.#drops = drops;
    this.#lost = lost;
  }

  /** Keeps a copy of frame `index` of the batch, which `port` sent. Returns false if the frame must be
   * dropped, since the port has its whole share. `marks` (FROM_OWN, REDIRECTED) become WAITING of the
   * copy. */
  hold(row: number, port: Sender, batch: FrameBatch, index: number, marks = 0): boolean {
    const at = index * DESCRIPTOR_WORDS;
    const offset = batch.descriptors[at + OFFSET];
    const length = batch.descriptors[at + LENGTH];
    const frames = wireFrames(batch.descriptors, at);
    // The cost of one frame is at most the bound, so that a single superframe with a small MSS is not lost.
    const costBytes = Math.min(
      Math.max(length, (frames - 1) * SEGMENT_BYTES) + FRAME_OVERHEAD_BYTES,
      MAX_BYTES_PER_TARGET,
    );
    const held = this.#byRow.get(row) ?? { frames: new Set(), shares: new Shares(MAX_BYTES_PER_TARGET) };
    if (!held.shares.mayTake(port, costBytes) || !this.#mayTake(port, costBytes)) return false;
    while (!held.shares.hasRoom(costBytes)) this.#loseOldestOf(held);
    while (!this.#budget.hasRoom(costBytes)) this.#budget.largest().#loseOldest(costBytes);
    const descriptor = batch.descriptors.slice(at, at + DESCRIPTOR_WORDS);
    descriptor[WAITING] = marks;
    this.#put(held, {
      bytes: batch.bytes.slice(offset, offset + length),
      descriptor,
      costBytes,
      wireFrames: frames,
      row,
      port,
      older: undefined,
      newer: undefined,
    });
    return true;
  }

  /** Makes this queue, and its budget, refuse to `own` what `other` refuses to `port`. */
  imitate(other: PendingQueue, port: Sender, own: Sender): void {
    const most = Math.max(other.#budget.most(other), other.#shares.most(port, other.#budget.part(other)));
    if (most >= MAX_BYTES) return;
    this.#budget.leave(this, most);
    this.#shares.take(own, MAX_BYTES - most);
  }

  /** The same for the frames of `ownRow`, which stand for those of `row`. */
  imitateRow(ownRow: number, other: PendingQueue, row: number, port: Sender, own: Sender): void {
    const waiting = other.#byRow.get(row);
    if (waiting === undefined) return;
    const held: Held = { frames: new Set(), shares: new Shares(MAX_BYTES_PER_TARGET) };
    held.shares.leave(own, waiting.shares.most(port));
    this.#byRow.set(ownRow, held);
  }

  /** Returns whether frames wait for this target. */
  isWaitedFor(row: number): boolean {
    return (this.#byRow.get(row)?.frames.size ?? 0) > 0;
  }

  /** Drops the frames that wait for this target. */
  drop(row: number, reason: number): void {
    for (const frame of this.#take(row)) this.#drop(frame, reason);
  }

  /** Forgets the frames that wait for this target, since something else was done in their place. Returns how
   * many they were, as they are on a wire. */
  discard(row: number): number {
    let count = 0;
    for (const frame of this.#take(row)) count += frame.wireFrames;
    return count;
  }

  /** Puts the frames that wait for this target into `batch`, as many as fit at a time, and calls `send` with
   * their number each time. */
  release(row: number, batch: FrameBatch, send: (count: number) => void): void {
    let count = 0;
    let offset = HEADROOM_BYTES;
    for (const { bytes, descriptor } of this.#take(row)) {
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

  /** To be called when no frame waits and none will. */
  close(): void {
    this.#budget.forget(this);
  }

  /** Returns whether the port may have `costBytes` more of the budget, or of this overlay's part of it. */
  #mayTake(port: Sender, costBytes: number): boolean {
    if (this.#budget.mayTake(this, costBytes)) return true;
    return this.#shares.mayTake(port, costBytes, this.#budget.part(this));
  }

  /** Drops the oldest frames of the port that has the most, until `costBytes` are free or the port is down to
   * its part. */
  #loseOldest(costBytes: number): void {
    const port = this.#shares.largest();
    const part = this.#shares.part(port, this.#shares.used);
    for (let left = costBytes; left > 0;) {
      const frame = this.#shares.oldest(port)!;
      left -= frame.costBytes;
      this.#lose(frame);
      if (this.#shares.of(port) <= part) return;
    }
  }

  /** Drops, of the frames that wait for one target, the oldest frame of the port that has the most. */
  #loseOldestOf({ frames, shares }: Held): void {
    const largest = shares.largest();
    for (const frame of frames) {
      if (frame.port !== largest) continue;
      this.#lose(frame);
      return;
    }
  }

  #lose(frame: HeldFrame): void {
    const { row } = frame;
    const held = this.#byRow.get(row)!;
    held.frames.delete(frame);
    held.shares.giveBack(frame.port, frame.costBytes);
    if (held.frames.size === 0) this.#byRow.delete(row);
    this.#unlink(frame);
    this.#drop(frame, COUNTER.pending_full);
    this.#lost(row);
  }

  #drop({ bytes, descriptor, wireFrames, port }: HeldFrame, reason: number): void {
    this.#drops.addHeld(reason, wireFrames, bytes, descriptor, port);
  }

  #put(held: Held, frame: HeldFrame): void {
    const { row, port, costBytes } = frame;
    this.#byRow.set(row, held);
    held.frames.add(frame);
    held.shares.take(port, costBytes);
    this.#shares.add(port, frame, costBytes);
    this.#budget.take(this, costBytes);
  }

  #take(row: number): Iterable<HeldFrame> {
    const held = this.#byRow.get(row);
    if (held === undefined) return [];
    this.#byRow.delete(row);
    for (const frame of held.frames) this.#unlink(frame);
    return held.frames;
  }

  #unlink(frame: HeldFrame): void {
    const { port, costBytes } = frame;
    this.#shares.remove(port, frame, costBytes);
    this.#budget.giveBack(this, costBytes);
  }
}
