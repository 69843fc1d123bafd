/**
 * How many frames a descriptor stands for, as they are on a wire: a superframe is its segments, a run its frames. All
 * counters count these, delivered or dropped, so that they add up.
 */
import { CSUM_START, GSO_SIZE, GSO_TYPE, LENGTH, OFFSET, runBytes, runFrames } from '../wire/descriptor.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';
import * as virtio from '../wire/virtio-net.js';

/** A superframe that cannot be cut is one frame. */
export function wireFrames(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runFrames(descriptors, at);
  const payloadBytes = descriptors[at + LENGTH] - superframeHeaderBytes(bytes, descriptors, at);
  const segmentBytes = descriptors[at + GSO_SIZE];
  return payloadBytes > 0 && segmentBytes > 0 ? Math.ceil(payloadBytes / segmentBytes) : 1;
}

/** Bytes of these frames: each segment has the headers of its superframe. */
export function wireBytes(bytes: Uint8Array, descriptors: Int32Array, at: number, frames: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return runBytes(descriptors, at);
  const more = frames - 1;
  return descriptors[at + LENGTH] + (more === 0 ? 0 : more * superframeHeaderBytes(bytes, descriptors, at));
}

/** Bytes of a frame, of the largest segment where it still has to be cut; -1 where it cannot be. */
export function largestFrameBytes(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  if (descriptors[at + GSO_TYPE] === virtio.GSO_NONE) return descriptors[at + LENGTH];
  const headerBytes = superframeHeaderBytes(bytes, descriptors, at);
  const hasSegments = headerBytes < descriptors[at + LENGTH] && descriptors[at + GSO_SIZE] > 0;
  return hasSegments ? headerBytes + descriptors[at + GSO_SIZE] : -1;
}

/** From the first byte of a superframe to its TCP or UDP payload. The device says where its transport header is. */
export function superframeHeaderBytes(bytes: Uint8Array, descriptors: Int32Array, at: number): number {
  const transport = descriptors[at + CSUM_START];
  const isUdp = (descriptors[at + GSO_TYPE] & ~virtio.GSO_ECN) === virtio.GSO_UDP_L4;
  return (
    transport + (isUdp ? udp.HEADER_BYTES : tcp.headerLength(bytes, descriptors[at + OFFSET] + transport))
  );
}
