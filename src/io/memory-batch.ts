/**
 * Moves frames into and out of a slab as the native layer does (dgram_extra.c), for memory.ts, which has no
 * system calls. Layout, alignment and refusals are the same.
 */
import {
  CSUM_OFFSET,
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  HEADROOM_BYTES,
  LENGTH,
  MAX_FRAME_BYTES,
  OFFSET,
  type FrameBatch,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';

/** Bytes of the two addresses, which a tag follows. */
const ADDRESSES_BYTES = 12; // IEEE 802.1Q-2018 9.3

/** Fills a new slab, so that a read of bytes that were never written shows. */
const DIRT = 0xa5;

/** A frame as it crosses a TAP. */
export interface MemoryFrame {
  readonly bytes: Uint8Array;
  readonly header: virtio.Repr;
}

/** The header of a frame without offloads. */
export const WHOLE: virtio.Repr = {
  flags: 0,
  gsoType: virtio.GSO_NONE,
  headerLength: 0,
  gsoSize: 0,
  checksumStart: 0,
  checksumOffset: 0,
};

export function createBatch(handle: number, capacityFrames: number): FrameBatch {
  const slab = new ArrayBuffer(capacityFrames * 2048 + 2 * (HEADROOM_BYTES + MAX_FRAME_BYTES));
  const bytes = new Uint8Array(slab).fill(DIRT);
  const descriptors = new Int32Array(capacityFrames * DESCRIPTOR_WORDS);
  return { handle, bytes, words: new Int32Array(slab), descriptors, capacityFrames };
}

/** Moves frames into the slab, each behind its headroom, and 16-aligned after its first `leadBytes`. Stops
 * when there is less room than for the largest frame. */
export function pack<Frame extends { readonly bytes: Uint8Array }>(
  batch: FrameBatch,
  inbox: Frame[],
  leadBytes: number,
  mostFrames: number,
  describe: (frame: Frame, at: number) => void,
): number {
  let count = 0;
  for (let base = HEADROOM_BYTES; base + MAX_FRAME_BYTES <= batch.bytes.length;) {
    const frame = inbox.at(count);
    if (frame === undefined || count === Math.min(mostFrames, batch.capacityFrames)) break;
    const offset = base - leadBytes;
    const at = count++ * DESCRIPTOR_WORDS;
    batch.bytes.set(frame.bytes, offset);
    batch.descriptors[at + OFFSET] = offset;
    batch.descriptors[at + LENGTH] = frame.bytes.length;
    describe(frame, at);
    base = ((base + frame.bytes.length + 15) & ~15) + HEADROOM_BYTES;
  }
  inbox.splice(0, count);
  return count;
}

/** `deliverOne` returns 0 or an errno. */
export function deliverEach(
  entries: Int32Array,
  count: number,
  deliverOne: (index: number, argument: number) => number,
): number {
  let delivered = 0;
  for (let at = 0; at < count * 2; at += 2) {
    const errno = deliverOne(entries[at], entries[at + 1]);
    if (errno === 0) delivered++;
    else entries[at + 1] = -errno;
  }
  return delivered;
}

export function isInSlab(
  { bytes, descriptors, capacityFrames }: FrameBatch,
  index: number,
  headerBytes: number,
): boolean {
  if (index < 0 || index >= capacityFrames) return false;
  const offset = descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  const length = descriptors[index * DESCRIPTOR_WORDS + LENGTH];
  return offset >= headerBytes && length >= 0 && offset + length <= bytes.length;
}

/** Returns HEADER_BYTES of a frame from a TAP, as the native layer does. */
export function headerBytes({ bytes, header }: MemoryFrame): number {
  const { gsoType, headerLength, checksumStart } = header;
  if (gsoType === virtio.GSO_NONE) return headerLength;
  if (gsoType === virtio.GSO_UDP_L4) return Math.min(checksumStart + udp.HEADER_BYTES, bytes.length);
  if (checksumStart + tcp.HEADER_BYTES > bytes.length) return bytes.length;
  return Math.min(checksumStart + tcp.headerLength(bytes, checksumStart), bytes.length);
}

/** Completes a checksum that was left to the device; its field has the sum of the pseudo-header. Works in
 * place, as the native layer does. */
export function completeChecksum({ bytes, descriptors }: FrameBatch, at: number): boolean {
  if ((descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) === 0) return true;
  const start = descriptors[at + CSUM_START];
  const offset = descriptors[at + CSUM_OFFSET];
  const length = descriptors[at + LENGTH];
  if (start < ethernet.HEADER_BYTES || offset < 0 || start + offset + 2 > length) return false;
  const from = descriptors[at + OFFSET] + start;
  virtio.completeChecksum(bytes, from, length - start, offset);
  descriptors[at + FLAGS] &= ~virtio.NEEDS_CHECKSUM;
  return true;
}

/** Returns a copy of the frame as the kernel would get it, or undefined if the kernel would refuse it
 * (tun_get_user: EINVAL). */
export function readFrame(
  { bytes, descriptors }: FrameBatch,
  index: number,
  strip: boolean,
): MemoryFrame | undefined {
  const at = index * DESCRIPTOR_WORDS;
  const offset = descriptors[at + OFFSET];
  const end = offset + descriptors[at + LENGTH];
  const cut = strip ? vlan.HEADER_BYTES : 0;
  const length = end - offset - cut;
  if (length < ethernet.HEADER_BYTES) return undefined;
  const frame = new Uint8Array(length);
  frame.set(bytes.subarray(offset, offset + ADDRESSES_BYTES));
  frame.set(bytes.subarray(offset + ADDRESSES_BYTES + cut, end), ADDRESSES_BYTES);

  const needsChecksum = (descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) !== 0;
  const isSegmented = descriptors[at + GSO_TYPE] !== virtio.GSO_NONE;
  const raw = new Uint8Array(virtio.HEADER_BYTES);
  virtio.writeHeader(
    raw,
    0,
    descriptors[at + FLAGS],
    descriptors[at + GSO_TYPE],
    descriptors[at + HEADER_BYTES] - (isSegmented ? cut : 0),
    descriptors[at + GSO_SIZE],
    descriptors[at + CSUM_START] - (needsChecksum ? cut : 0),
    descriptors[at + CSUM_OFFSET],
  );
  const header = virtio.parse(raw, 0, virtio.HEADER_BYTES + length);
  return header && { bytes: frame, header };
}
