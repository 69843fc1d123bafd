// Devices that give and take many frames as one, as those of Linux do, for what counts frames.
import type { Device } from '../../src/io/contract.js';
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  LENGTH,
  OFFSET,
  RUN_END,
  runFrames,
  SEGMENT,
} from '../../src/wire/descriptor.js';
import * as virtio from '../../src/wire/virtio-net.js';

/** Frames in a superframe and in a run. */
export const MANY = 3;

/** A header that the socket below makes a message of which nobody knows what it is (udp-receive.c). */
export const AMBIGUOUS = '08000000 00009900';

/** A socket that gives what is of one size as a run, as UDP_GRO does. */
export class Coalescing implements Device {
  constructor(readonly inner: Device) {}

  receive(batch: FrameBatch): number {
    const count = this.inner.receive(batch);
    const { bytes, descriptors } = batch;
    const isAmbiguous = count > 0 && bytes[descriptors[OFFSET] + 6] === 0x99;
    const coalesced = this.#coalesce(batch, count);
    if (isAmbiguous) descriptors.set([0, 0, 0, 1], LENGTH);
    return coalesced;
  }

  #coalesce({ descriptors }: FrameBatch, count: number): number {
    if (count < 2) return count;
    const last = (count - 1) * DESCRIPTOR_WORDS;
    descriptors[SEGMENT] = descriptors[DESCRIPTOR_WORDS + OFFSET] - descriptors[OFFSET];
    descriptors[RUN_END] = descriptors[last + OFFSET] + descriptors[last + LENGTH];
    return 1;
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    return this.inner.deliver(batch, entries, count);
  }
}

/** A TAP that writes the frames of a run one by one. */
export class Apart implements Device {
  constructor(readonly inner: Device) {}

  receive(batch: FrameBatch): number {
    return this.inner.receive(batch);
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    let delivered = 0;
    for (let at = 0; at < 2 * count; at += 2) {
      const words = batch.descriptors.subarray(entries[at] * DESCRIPTOR_WORDS);
      const [offset, argument] = [words[OFFSET], entries[at + 1]];
      let lost = 0;
      for (let left = runFrames(words, 0); left > 0; left--) {
        const one = Int32Array.of(entries[at], argument);
        if (this.inner.deliver(batch, one, 1) === 0) lost += lost === 0 ? one[1] : -0x1_0000;
        words[OFFSET] += words[SEGMENT];
      }
      words[OFFSET] = offset;
      entries[at + 1] = lost === 0 ? argument : lost;
      if (lost === 0) delivered++;
    }
    return delivered;
  }
}

/** A socket that refuses each segment, as udpSend says it. */
export const refusing = (errno: number): Device => ({
  receive: () => 0,
  deliver: ({ descriptors }, entries, count) => {
    for (let at = 0; at < 2 * count; at += 2) {
      const isMany = descriptors[entries[at] * DESCRIPTOR_WORDS + 3] !== virtio.GSO_NONE;
      entries[at + 1] = -errno - (isMany ? MANY - 1 : 0) * 0x1_0000;
    }
    return 0;
  },
});
