/**
 * How many frames a descriptor stands for, as they are on a wire: a superframe is its segments, a run its frames. All
 * counters count these, delivered or dropped, so that they add up.
 */
import { GSO_SIZE, GSO_TYPE, HEADER_BYTES, LENGTH, runBytes, runFrames } from '../wire/descriptor.js';
import * as virtio from '../wire/virtio-net.js';

/** A superframe that cannot be cut is one frame. */
export function wireFrames(descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runFrames(descriptors, at);
  const payloadBytes = descriptors[at + LENGTH] - descriptors[at + HEADER_BYTES];
  const segmentBytes = descriptors[at + GSO_SIZE];
  return payloadBytes > 0 && segmentBytes > 0 ? Math.ceil(payloadBytes / segmentBytes) : 1;
}

/** No path carries segments smaller than this (RFC 9293 3.7.1), so whoever has them cut makes work. */
const LEAST_SEGMENT_BYTES = 536;
/** Of a smaller one: a turn of them takes 0.25 to 0.8 ms where the underlay cuts in software (over a veth without offloads). */
const SMALL_SEGMENT_COST = 4;

/** What it costs of a turn to write a frame to a local port, superframe or not: the kernel sees it through its stack meanwhile,
 * which takes 4 to 5 us. */
export const WRITE_COST = 16;

/** What these frames cost of a port's turn (datapath/port-turn.ts), in segments. */
export function turnCost(descriptors: Int32Array, at: number, frames: number): number {
  const isSmall =
    descriptors[at + GSO_TYPE] !== virtio.GSO_NONE && descriptors[at + GSO_SIZE] < LEAST_SEGMENT_BYTES;
  return isSmall ? frames * SMALL_SEGMENT_COST : frames;
}

/** Bytes of these frames: each segment has the headers of its superframe. */
export function wireBytes(descriptors: Int32Array, at: number, frames: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runBytes(descriptors, at);
  const more = frames - 1;
  return descriptors[at + LENGTH] + (more === 0 ? 0 : more * descriptors[at + HEADER_BYTES]);
}

/** Bytes of a frame, of the largest segment where it still has to be cut; -1 where it cannot be. */
export function largestFrameBytes(descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return descriptors[at + LENGTH];
  const headerBytes = descriptors[at + HEADER_BYTES];
  const hasSegments = headerBytes < descriptors[at + LENGTH] && descriptors[at + GSO_SIZE] > 0;
  return hasSegments ? headerBytes + descriptors[at + GSO_SIZE] : -1;
}
