/**
 * Number of frames that a descriptor stands for, as they are on a wire: the segments of a superframe, the
 * frames of a run. All counters count these, delivered or dropped, so that they add up.
 */
import { GSO_SIZE, GSO_TYPE, HEADER_BYTES, LENGTH, runBytes, runFrames } from '../../wire/descriptor.js';
import * as virtio from '../../wire/virtio-net.js';

/** A superframe that cannot be cut counts as one frame. */
export function wireFrames(descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runFrames(descriptors, at);
  const payloadBytes = descriptors[at + LENGTH] - descriptors[at + HEADER_BYTES];
  const segmentBytes = descriptors[at + GSO_SIZE];
  return payloadBytes > 0 && segmentBytes > 0 ? Math.ceil(payloadBytes / segmentBytes) : 1;
}

/** Every path carries segments of this size (RFC 9293 3.7.1), so smaller ones are needless work. */
const LEAST_SEGMENT_BYTES = 536;
/** Cost of a smaller segment: a turn of such segments takes 0.25 to 0.8 ms if the underlay cuts in software
 * (over a veth without offloads). */
const SMALL_SEGMENT_COST = 4;

/** Cost of a frame or superframe written to a local port, in segments of a turn: the write includes the
 * kernel's network stack, which takes 4 to 5 us. */
export const WRITE_COST = 16;

/** Returns the cost of these frames in a port's turn (datapath/port-turn.ts), in segments. */
export function turnCost(descriptors: Int32Array, at: number, frames: number): number {
  const isSmall =
    descriptors[at + GSO_TYPE] !== virtio.GSO_NONE && descriptors[at + GSO_SIZE] < LEAST_SEGMENT_BYTES;
  return isSmall ? frames * SMALL_SEGMENT_COST : frames;
}

/** Returns the bytes of these frames. Each segment has the headers of its superframe. */
export function wireBytes(descriptors: Int32Array, at: number, frames: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runBytes(descriptors, at);
  const more = frames - 1;
  return descriptors[at + LENGTH] + (more === 0 ? 0 : more * descriptors[at + HEADER_BYTES]);
}

/** Returns the bytes of a frame, or of the largest segment of a superframe; -1 if a superframe cannot be
 * cut. */
export function largestFrameBytes(descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return descriptors[at + LENGTH];
  const headerBytes = descriptors[at + HEADER_BYTES];
  const hasSegments = headerBytes < descriptors[at + LENGTH] && descriptors[at + GSO_SIZE] > 0;
  return hasSegments ? headerBytes + descriptors[at + GSO_SIZE] : -1;
}
