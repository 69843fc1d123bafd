/**
 * Output lists: which frames of the batch at hand go out where. The policy fills them frame by frame; a flush hands
 * each to its sink in one call. The order within a list is the order of arrival.
 *
 *   entry: | frame index | argument |    argument for a socket: destination slot; for a port: STRIP_TAG, KEEP_APART, both
 */
import { dropOfPortError, type DropReason } from '../model/drops.js';
import { DESCRIPTOR_WORDS, type FrameBatch, GSO_TYPE } from '../wire/descriptor.js';
import { GSO_NONE } from '../wire/virtio-net.js';
import { COUNTER } from './counters.js';
import type { Drops } from './drops.js';
import { wireFrames } from './frame-count.js';

/** Argument of a frame for an access port: its 802.1Q tag is taken out on the way. */
export const STRIP_TAG = 1;
/** Argument of a run for a port: its frames are written one by one, not put together. */
export const KEEP_APART = 2;
/** Added to the result of `deliver`: a destination refused segmentation by the device and will not be asked again. */
export const SEGMENTATION_REFUSED = 0x4000_0000;

const ENTRY_WORDS = 2;

/** Where frames go out: a TAP, or a UDP socket. */
export interface Sink {
  /** Delivers what it can and returns how many that were; the argument of every other entry becomes a negated errno,
   * less 65,536 for each further frame of a run or segment of a superframe that was lost. The batch is the caller's
   * again on return. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number;
}

export class OutputList {
  readonly entries: Int32Array;
  count = 0;
  /** Of the overlay whose frames are in the list now. */
  drops: Drops | undefined;
  readonly sink: Sink;
  /** Which drop an errno of the sink is. */
  readonly dropOf: (errno: number) => DropReason;

  constructor(sink: Sink, capacityFrames: number, dropOf: (errno: number) => DropReason) {
    this.sink = sink;
    this.dropOf = dropOf;
    this.entries = new Int32Array(capacityFrames * ENTRY_WORDS);
  }
}

/** One a flow is enough to be told of, and a flow that does not listen needs no more. */
const MAX_NOTED = 16;

/** The lists of one worker that have something in them. */
export class Outputs {
  readonly #dirty: OutputList[] = [];
  /** How many of `#dirty` count: an array that is emptied for each batch would be allocated again. */
  #dirtyCount = 0;
  /** What frames and commands of the turn at hand have cost so far, in segments sent (port-turn.ts). */
  spentSegments = 0;
  /** Frames of the batch at hand that are too big for where they go. */
  #tooBig: number[] = [];
  /** The same of the batch before: the caller of `flush` has it. */
  #lastTooBig: number[] = [];

  noteTooBig(index: number): void {
    if (this.#tooBig.length < MAX_NOTED) this.#tooBig.push(index);
  }

  /** A list holds frames of one overlay between two flushes: `drops` are that overlay's. A list that is full is
   * flushed at once, so a flood to more places than it holds loses nothing. */
  add(list: OutputList, batch: FrameBatch, index: number, argument: number, drops: Drops): void {
    if (list.count * ENTRY_WORDS === list.entries.length) this.#deliver(list, batch);
    else if (list.count === 0) this.#dirty[this.#dirtyCount++] = list;
    list.drops = drops;
    const at = list.count++ * ENTRY_WORDS;
    list.entries[at] = index;
    list.entries[at + 1] = argument;
  }

  /** Hands every list to its sink. Returns the frames that were too big for the policy (`noteTooBig`) or for a sink, the
   * first 16 of them (too-big.ts answers them); the list is good until the next flush. The batch may be filled again when they
   * have been looked at. */
  flush(batch: FrameBatch): readonly number[] {
    for (let index = 0; index < this.#dirtyCount; index++) this.#deliver(this.#dirty[index], batch);
    this.#dirtyCount = 0;
    const tooBig = this.#tooBig;
    this.#tooBig = this.#lastTooBig;
    // Most batches have none, and setting a length is a call into the engine.
    if (this.#tooBig.length > 0) this.#tooBig.length = 0;
    this.#lastTooBig = tooBig;
    return tooBig;
  }

  #deliver(list: OutputList, batch: FrameBatch): void {
    const { entries, count, drops } = list;
    const capture = drops?.capture;
    if (drops !== undefined && capture !== undefined) capture.delivering(list, batch, drops);
    list.count = 0;
    const delivered = list.sink.deliver(batch, entries, count);
    if (delivered === count || drops === undefined) return;
    if (delivered >= SEGMENTATION_REFUSED) drops.counters[COUNTER.tx_segmentation_refused]++;
    for (let at = 1; at < count * ENTRY_WORDS; at += ENTRY_WORDS) {
      const lost = -entries[at];
      if (lost <= 0) continue;
      const reason = list.dropOf(lost & 0xffff);
      const index = entries[at - 1];
      if (capture !== undefined) capture.refused((at - 1) / ENTRY_WORDS, drops);
      drops.add(COUNTER[reason], lostFrames(list, batch, index, lost >>> 16), batch, index);
      if (reason === 'tx_path_mtu') this.noteTooBig(index);
    }
  }
}

/** A socket counts each segment of a superframe that is lost, and either each frame of a run; a port has a superframe whole
 * or not at all. */
function lostFrames(list: OutputList, { descriptors }: FrameBatch, index: number, more: number): number {
  if (more > 0 || list.dropOf !== dropOfPortError) return 1 + more;
  const at = index * DESCRIPTOR_WORDS;
  return descriptors[at + GSO_TYPE] === GSO_NONE ? 1 : wireFrames(descriptors, at);
}
