/**
 * Fault: a device around a device that loses, doubles, spoils, swaps and refuses frames. The same seed gives the same
 * faults for the same frames.
 *
 * All of it happens on the way out. A frame that comes in is changed in place by whoever receives it, so it cannot be
 * given twice without a second copy, for which a batch has no room; wrap what sends it instead.
 */
import { DESCRIPTOR_WORDS, FLAGS, LENGTH, OFFSET, type FrameBatch } from '../wire/descriptor.js';
import * as virtio from '../wire/virtio-net.js';
import type { Device } from './contract.js';

/** How often each fault happens: 0 = never (when left out), 1 = always. */
export interface FaultRates {
  /** Lost on the way: the sender believes that it was taken. */
  readonly drop?: number;
  /** Goes out twice. */
  readonly duplicate?: number;
  /** One bit is wrong. Frames with a checksum still to be done are spared: it would be done over the wrong bit. */
  readonly corrupt?: number;
  /** Goes out before the frame that came before it. */
  readonly reorder?: number;
  /** Fails with `errno`. */
  readonly refuse?: number;
  /** EAGAIN when left out. */
  readonly errno?: number;
}

const EAGAIN = 11; // asm-generic/errno-base.h

export class Fault implements Device {
  readonly #device: Device;
  readonly #rates: FaultRates;
  #state: number;

  constructor(device: Device, seed: number, rates: FaultRates) {
    this.#device = device;
    this.#rates = rates;
    this.#state = seed | 0 || 1; // xorshift never leaves zero
  }

  receive(batch: FrameBatch, mostFrames?: number): number {
    return this.#device.receive(batch, mostFrames);
  }

  rest(batch: FrameBatch): number {
    return this.#device.rest?.(batch) ?? 0;
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    const { drop, duplicate, corrupt, reorder, refuse, errno = EAGAIN } = this.#rates;
    const going: number[] = [];
    const undo: (() => void)[] = [];
    let lost = 0;
    for (let at = 0; at < count * 2; at += 2) {
      if (this.#happens(refuse)) {
        entries[at + 1] = -errno;
      } else if (this.#happens(drop)) {
        lost++;
      } else {
        if (this.#happens(corrupt)) undo.push(this.#flipBit(batch, entries[at]));
        going.push(...(this.#happens(duplicate) ? [at, at] : [at]));
        if (this.#happens(reorder)) going.splice(-2, 2, ...going.slice(-2).reverse());
      }
    }
    const copy = Int32Array.from(going.flatMap((at) => [entries[at], entries[at + 1]]));
    this.#device.deliver(batch, copy, going.length);
    for (const restore of undo) restore();

    // A frame that went out twice counts as taken when one copy was.
    const taken = new Set(going.filter((_, index) => copy[2 * index + 1] >= 0));
    going.forEach((at, index) => {
      if (!taken.has(at)) entries[at + 1] = copy[2 * index + 1];
    });
    return lost + taken.size;
  }

  /** The frame may be on other lists, where it is whole: returns what makes it so again. */
  #flipBit({ bytes, descriptors }: FrameBatch, index: number): () => void {
    const at = index * DESCRIPTOR_WORDS;
    const bit = this.#next() & 7;
    const byte = descriptors[at + OFFSET] + (this.#next() % Math.max(1, descriptors[at + LENGTH]));
    if (descriptors[at + LENGTH] === 0 || descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM)
      return () => undefined;
    bytes[byte] ^= 1 << bit;
    return () => {
      bytes[byte] ^= 1 << bit;
    };
  }

  #happens(rate = 0): boolean {
    return this.#next() < rate * 2 ** 32;
  }

  /** xorshift32 (Marsaglia 2003): 32 bits, good enough for dice. */
  #next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }
}
