/**
 * The two ends of the datapath, as it sees them. Both move batches: one call, many frames, no copy in between.
 * Linux devices and sockets (linux.ts), a network in memory (memory.ts) and middleware that wraps either
 * (fault.ts; of tests, capture and trace) all look like this.
 *
 * Ownership: a batch belongs to the caller. `receive` fills it from its first frame on, whatever was there; what it
 * filled in stays good until the next `receive` into the same batch. `deliver` is done with the batch on return.
 * One thread uses a device at a time.
 */
import type { FrameBatch } from '../wire/descriptor.js';

export interface Device {
  /** Takes frames that are there, without waiting: how many, 0 = none now. Negative = a negated errno: the device is
   * of no more use. `mostFrames`: no more than so many are wanted, at least 1. */
  receive(batch: FrameBatch, mostFrames?: number): number;
  /** Of a socket, when `receive` or this has filled all descriptors of the batch: what there were none left for, into the same
   * batch, once its frames are done with. How many; 0 = nothing. Left out where `receive` leaves nothing behind. */
  rest?(batch: FrameBatch): number;
  /** Sends the frames that `entries` (pairs of frame index and argument) names. Returns how many were taken; the
   * argument of every other entry becomes a negated errno. One that is refused costs only itself. core/outputs.ts (Sink)
   * says what is added for runs and superframes. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number;
}

/** A TAP: whole Ethernet frames, virtio-net header in the descriptor. Argument 1 = take the 802.1Q tag out, 2 = write the
 * frames of a run one by one, 3 = both. */
export type PortDevice = Device;

/** A UDP socket. `receive` gives datagrams with ADDRESS, PORT and TOS filled in; `deliver` sends each frame with the
 * tunnel's header that stands before it, marked with TOS, to the destination whose slot is the argument. A frame that
 * asks for a checksum gets it. Never fragments: EMSGSIZE where the device at hand does not carry it; what lies behind that may
 * say so later (wire/path-news.ts). */
export type UnderlaySocket = Device;
