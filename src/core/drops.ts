/**
 * Every frame that is dropped comes here: it is counted under its reason, and the last one of each reason is noted, so
 * that an operator sees which frame it was (drop-examples.ts). An overlay has one of these, and so has a socket, for what is
 * dropped before its overlay is known.
 */
import { DESCRIPTOR_WORDS, type FrameBatch } from '../wire/descriptor.js';
import type { Counters } from './counters.js';
import { type DropExamples, isNoted, note } from './drop-examples.js';
import type { FrameWatch } from './frame-watch.js';

/** Where the frames at hand come from. */
export interface Origin {
  /** The port that sent them. */
  port: { readonly name?: string } | undefined;
  /** The underlay: their descriptors have its address. */
  isUnderlay: boolean;
}

/** Parts of what all overlays of a thread share. */
export interface DropContext {
  readonly origin: Origin;
  readonly nowTick: number;
}

export class Drops {
  readonly counters: Counters;
  /** While somebody captures frames of this overlay, or of this socket. */
  capture: FrameWatch | undefined;
  readonly #context: DropContext;
  readonly #examples: DropExamples | undefined;
  readonly #held: Origin = { port: undefined, isUnderlay: false };

  /** Without `examples` frames are counted and not noted. */
  constructor(counters: Counters, context: DropContext, examples?: DropExamples) {
    this.counters = counters;
    this.#context = context;
    this.#examples = examples;
  }

  /** Drops frame `index` of the batch at hand. `reason` is the index of its counter; `frames` are counted as on a wire. */
  add(reason: number, frames: number, batch: FrameBatch, index: number): void {
    this.counters[reason] += frames;
    if (this.capture !== undefined) this.capture.dropped(this, reason, batch, index);
    const { bytes, descriptors } = batch;
    const { nowTick, origin } = this.#context;
    // One a tick is enough to be told of, and costs a flood nothing.
    if (this.#examples !== undefined && !isNoted(this.#examples, reason, nowTick))
      note(this.#examples, reason, nowTick, bytes, descriptors, index * DESCRIPTOR_WORDS, origin);
  }

  /** Drops a frame that waited: a copy, whose first byte is that of `bytes`. */
  addHeld(
    reason: number,
    frames: number,
    bytes: Uint8Array,
    descriptor: Int32Array,
    port: Origin['port'],
  ): void {
    this.counters[reason] += frames;
    if (this.capture !== undefined) this.capture.droppedHeld(this, reason, bytes, descriptor, port);
    const { nowTick } = this.#context;
    if (this.#examples === undefined || isNoted(this.#examples, reason, nowTick)) return;
    this.#held.port = port;
    note(this.#examples, reason, nowTick, bytes, descriptor, 0, this.#held, 0);
  }
}
