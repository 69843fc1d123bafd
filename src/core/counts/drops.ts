/**
 * Every drop of a frame goes through here. The frame is counted under its reason, and the last one of each
 * reason is noted, so that an operator sees which frame it was (drop-examples.ts). An overlay has one Drops,
 * and so has a socket, for frames that are dropped before their overlay is known.
 */
import { DESCRIPTOR_WORDS, type FrameBatch } from '../../wire/descriptor.js';
import type { Counters } from './counters.js';
import { type DropExamples, isNoted, note, type Origin } from './drop-examples.js';
import type { FrameWatch } from '../capture/frame-watch.js';

export type { Origin } from './drop-examples.js';

/** The parts of Shared (overlay-options.ts) that are needed here. */
export interface DropContext {
  readonly origin: Origin;
  readonly nowTick: number;
}

export class Drops {
  readonly counters: Counters;
  /** Set while frames of this overlay or socket are captured. */
  capture: FrameWatch | undefined;
  readonly #context: DropContext;
  readonly #examples: DropExamples | undefined;
  readonly #held: Origin = { port: undefined, isUnderlay: false };

  /** Without `examples`, frames are counted and not noted. */
  constructor(counters: Counters, context: DropContext, examples?: DropExamples) {
    this.counters = counters;
    this.#context = context;
    this.#examples = examples;
  }

  /** Drops frame `index` of the current batch. `reason` is the index of its counter; `frames` are counted as
   * on a wire. */
  add(reason: number, frames: number, batch: FrameBatch, index: number): void {
    this.counters[reason] += frames;
    if (this.capture !== undefined) this.capture.dropped(this, reason, batch, index);
    const { bytes, descriptors } = batch;
    const { nowTick, origin } = this.#context;
    // One per tick is enough for an operator, and costs a flood nothing.
    if (this.#examples !== undefined && !isNoted(this.#examples, reason, nowTick))
      note(this.#examples, reason, nowTick, bytes, descriptors, index * DESCRIPTOR_WORDS, origin);
  }

  /** Drops a frame that waited, a copy: its first byte is that of `bytes`. */
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

/** Frames at hand come from neither a port nor the underlay until the next batch is read. */
export function forgetOrigin({ origin }: { readonly origin: Origin }): void {
  origin.port = undefined;
  origin.isUnderlay = false;
}
