/**
 * The ends of a dry run (dry-run.ts): batches of one frame, and outputs that record. They refuse as the kernel does, as far as
 * that can be known without a try.
 */
import {
  DESCRIPTOR_WORDS,
  type FrameBatch,
  HEADROOM_BYTES,
  LENGTH,
  OFFSET,
  TOS,
} from '../../wire/descriptor.js';
import { ERRNO } from '../../wire/errno.js';
import { type Endpoint, family } from '../../wire/ip.js';
import * as udp from '../../wire/udp.js';
import * as vlan from '../../wire/vlan.js';
import type { Destinations } from '../tables/destinations.js';
import { largestFrameBytes } from '../counts/frame-count.js';
import { type Sink, STRIP_TAG } from '../outputs.js';
import type { Overlay } from '../overlay.js';
import type { Port } from '../port.js';

/** Both MACs, which a tag follows. */
const ADDRESSES_BYTES = 12; // IEEE 802.1Q-2018 9.3

/** A datagram that would be sent. */
export interface DrySend {
  readonly to: Endpoint;
  /** Number of the socket, out of `sockets` of the overlay. */
  readonly socket: number;
  /** Bytes of the payload of UDP: the tunnel header and the frame. */
  readonly bytes: Uint8Array;
  readonly trafficClass: number;
}

/** A frame that would be written to a port. */
export interface DryDelivery {
  readonly port: string;
  readonly bytes: Uint8Array;
}

export class RecordingPort implements Sink {
  readonly #port: Port;
  readonly #deliveries: DryDelivery[];

  constructor(port: Port, deliveries: DryDelivery[]) {
    this.#port = port;
    this.#deliveries = deliveries;
  }

  /** Refuses as the kernel does: a device that is down takes nothing. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    if (this.#port.presence.isDown) return refuse(entries, count, ERRNO.EIO);
    for (let at = 0; at < 2 * count; at += 2) {
      const bytes = bytesOf(batch, entries[at], 0);
      this.#deliveries.push({
        port: this.#port.name,
        bytes: entries[at + 1] & STRIP_TAG ? withoutTag(bytes) : bytes,
      });
    }
    return count;
  }
}

export class RecordingSocket implements Sink {
  readonly #real: Overlay;
  readonly #destinations: Destinations;
  readonly #socket: number;
  readonly #sends: DrySend[];

  constructor(real: Overlay, destinations: Destinations, socket: number, sends: DrySend[]) {
    this.#real = real;
    this.#destinations = destinations;
    this.#socket = socket;
    this.#sends = sends;
  }

  /** Refuses as the kernel does: without a route, and more than the device of the route carries. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    const { options, shared, encapsulation } = this.#real;
    let sent = 0;
    for (let at = 0; at < 2 * count; at += 2) {
      const to = this.#destinations.endpoint(entries[at + 1]);
      const descriptor = entries[at] * DESCRIPTOR_WORDS;
      const datagramBytes = encapsulation.headerBytes + largestFrameBytes(batch.descriptors, descriptor);
      const mtuBytes = shared.routeMtuBytes(options.listen.ip, to.ip);
      if (mtuBytes < 0) entries[at + 1] = -ERRNO.ENETUNREACH;
      else if (udp.overheadBytes(family(to.ip)) + datagramBytes > mtuBytes) entries[at + 1] = -ERRNO.EMSGSIZE;
      else {
        sent++;
        this.#sends.push({
          to,
          socket: this.#socket,
          bytes: bytesOf(batch, entries[at], encapsulation.headerBytes),
          trafficClass: batch.descriptors[descriptor + TOS],
        });
      }
    }
    return sent;
  }
}

function refuse(entries: Int32Array, count: number, errno: number): number {
  for (let at = 1; at < 2 * count; at += 2) entries[at] = -errno;
  return 0;
}

/** Returns a copy of a frame, with so many bytes of the header before it. */
function bytesOf({ bytes, descriptors }: FrameBatch, index: number, headerBytes: number): Uint8Array {
  const offset = descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  return bytes.slice(offset - headerBytes, offset + descriptors[index * DESCRIPTOR_WORDS + LENGTH]);
}

function withoutTag(frame: Uint8Array): Uint8Array {
  const bytes = frame.copyWithin(vlan.HEADER_BYTES, 0, ADDRESSES_BYTES);
  return bytes.subarray(vlan.HEADER_BYTES);
}

// -- Batches of one frame

export function createBatch(frameBytes: number): FrameBatch {
  const slab = new ArrayBuffer((HEADROOM_BYTES + frameBytes + 3) & ~3);
  return {
    handle: -1,
    capacityFrames: 1,
    bytes: new Uint8Array(slab),
    words: new Int32Array(slab),
    descriptors: new Int32Array(DESCRIPTOR_WORDS),
  };
}

export function place({ bytes, descriptors }: FrameBatch, frame: Uint8Array, offset: number): void {
  bytes.set(frame, offset);
  descriptors[OFFSET] = offset;
  descriptors[LENGTH] = frame.length;
}
