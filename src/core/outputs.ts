/**
 * Output lists: the frames of the current batch, by the place where they go out. The policy adds frame by
 * frame, and a flush hands each list to its sink in one call. Frames of a list are in the order of arrival.
 *
 *   entry: | frame index | argument |    argument for a socket: destination slot; for a port: bits, STRIP_TAG, KEEP_APART, NESTED
 */
import { dropOfPortError, type DropReason } from '../model/drops.js';
import { DESCRIPTOR_WORDS, type FrameBatch, GSO_TYPE } from '../wire/descriptor.js';
import { GSO_NONE } from '../wire/virtio-net.js';
import { COUNTER, type Counters } from './counts/counters.js';
import type { Drops } from './counts/drops.js';
import { wireFrames } from './counts/frame-count.js';

/** Argument of a frame for an access port: its 802.1Q tag is taken out on the way. */
export const STRIP_TAG = 1;
/** Argument of a run for a port: its frames are written one by one, not put together. */
export const KEEP_APART = 2;
/** Argument of a frame in a UDP tunnel that the kernel behind the port ends: it is put together with others inside the
 * tunnel. */
export const NESTED = 4;
/** A bit in the result of `deliver`: a socket's destination refuses messages of many frames and will not be asked again,
 * or the kernel of a port refused a superframe, and its frames were written one by one. */
export const REFUSED = 0x4000_0000;
/** From this bit on, below REFUSED, the result has the number of messages or superframes that were put together out of
 * many frames. The bits below have the number of entries. */
export const JOINED_SHIFT = 16;
/** The number of entries that were delivered, out of such a result. */
export const deliveredOf = (result: number): number => result & ((1 << JOINED_SHIFT) - 1);

const ENTRY_WORDS = 2;

/** A place where frames go out: a TAP or a UDP socket. */
export interface Sink {
  /** Delivers as many frames as possible and returns how many those were; JOINED_SHIFT and REFUSED say what else is in
   * the result. The argument of each other entry
   * becomes a negated errno, less 65,536 for each further frame of a run, or segment of a superframe, that
   * was lost. On return the batch is free to be used again. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number;
  /** Two words, for a sink that may send tunnel frames: superframes that left so, and those that were refused, since the
   * reader has set the words to 0. */
  readonly tunnelUse?: Int32Array | undefined;
}

export class OutputList {
  readonly entries: Int32Array;
  count = 0;
  /** Drops of the overlay that the frames in the list are of. */
  drops: Drops | undefined;
  readonly sink: Sink;
  /** Maps an errno of the sink to the reason of the drop. */
  readonly dropOf: (errno: number) => DropReason;

  constructor(sink: Sink, capacityFrames: number, dropOf: (errno: number) => DropReason) {
    this.sink = sink;
    this.dropOf = dropOf;
    this.entries = new Int32Array(capacityFrames * ENTRY_WORDS);
  }
}

/** Frames of a batch that are noted as too big. One per flow is enough: if the sender ignores the answer,
 * more answers do not help. */
const MAX_NOTED = 16;

/** The output lists of a thread that have frames. */
export class Outputs {
  readonly #dirty: OutputList[] = [];
  /** How many entries of `#dirty` are in use. An array that is emptied for each batch would be allocated
   * again. */
  #dirtyCount = 0;
  /** Cost of the current turn so far, its frames and commands, in segments sent (port-turn.ts). */
  spentSegments = 0;
  /** Frames of the current batch that are too big for their destination. */
  #tooBig: number[] = [];
  /** Those of the batch before, which the caller of `flush` still has. */
  #lastTooBig: number[] = [];

  noteTooBig(index: number): void {
    if (this.#tooBig.length < MAX_NOTED) this.#tooBig.push(index);
  }

  /** Adds a frame to a list. Between two flushes a list has frames of one overlay, and `drops` are those of
   * that overlay. A full list is flushed at once, so that a flood to more places than fit loses nothing. */
  add(list: OutputList, batch: FrameBatch, index: number, argument: number, drops: Drops): void {
    if (list.count * ENTRY_WORDS === list.entries.length) this.#deliver(list, batch);
    else if (list.count === 0) this.#dirty[this.#dirtyCount++] = list;
    list.drops = drops;
    const at = list.count++ * ENTRY_WORDS;
    list.entries[at] = index;
    list.entries[at + 1] = argument;
  }

  /** Hands every list to its sink. Returns the frames that were too big for the policy (`noteTooBig`) or for
   * a sink, the first 16 of them; too-big.ts answers them. The result is valid until the next flush. After
   * reading it the caller may fill the batch again. */
  flush(batch: FrameBatch): readonly number[] {
    for (let index = 0; index < this.#dirtyCount; index++) this.#deliver(this.#dirty[index], batch);
    this.#dirtyCount = 0;
    const tooBig = this.#tooBig;
    this.#tooBig = this.#lastTooBig;
    // Most batches have none, and setting the length of an array calls into the engine.
    if (this.#tooBig.length > 0) this.#tooBig.length = 0;
    this.#lastTooBig = tooBig;
    return tooBig;
  }

  #deliver(list: OutputList, batch: FrameBatch): void {
    const { entries, count, drops } = list;
    const capture = drops?.capture;
    if (drops !== undefined && capture !== undefined) capture.delivering(list, batch, drops);
    list.count = 0;
    const result = list.sink.deliver(batch, entries, count);
    const { tunnelUse } = list.sink;
    if (tunnelUse !== undefined && drops !== undefined) countTunnel(drops.counters, tunnelUse);
    if (result === count || drops === undefined) return;
    const { counters } = drops;
    const isPort = list.dropOf === dropOfPortError;
    if (result > 0) {
      counters[isPort ? COUNTER.rx_coalesce : COUNTER.tx_train] += (result & ~REFUSED) >> JOINED_SHIFT;
      if ((result & REFUSED) !== 0)
        counters[isPort ? COUNTER.rx_coalesce_refused : COUNTER.tx_segmentation_refused]++;
      if (deliveredOf(result) === count) return;
    }
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

function countTunnel(counters: Counters, use: Int32Array): void {
  counters[COUNTER.tx_tunnel] += use[0];
  counters[COUNTER.tx_tunnel_refused] += use[1];
  use[0] = use[1] = 0;
}

/** Returns how many frames on the wire an entry has lost. A socket reports each lost segment of a superframe,
 * and socket and port report each lost frame of a run. A port delivers a superframe whole or not at all. */
function lostFrames(list: OutputList, { descriptors }: FrameBatch, index: number, more: number): number {
  if (more > 0 || list.dropOf !== dropOfPortError) return 1 + more;
  const at = index * DESCRIPTOR_WORDS;
  return descriptors[at + GSO_TYPE] === GSO_NONE ? 1 : wireFrames(descriptors, at);
}
