/**
 * The devices at the two ends of the datapath: ports and sockets. Both move batches: one call moves many
 * frames without a copy. Linux devices and sockets (linux.ts), a network in memory (memory.ts) and middleware
 * around either (fault.ts; for tests, also capture and trace) all have this interface.
 *
 * Ownership: a batch belongs to the caller. `receive` fills it from its first frame on, whatever it held; the
 * frames are valid until the next `receive` into the same batch. `deliver` no longer uses the batch when it
 * returns. One thread uses a device at a time.
 */
import type { FrameBatch } from '../wire/descriptor.js';

export interface Device {
  /** Reads the frames that are there, without waiting. Returns how many; 0 = none now. A negative result is a
   * negated errno: the device can no longer be used. `mostFrames`: the most that are wanted, at least 1. */
  receive(batch: FrameBatch, mostFrames?: number): number;
  /** For a socket, to be called if `receive` or `rest` has filled all descriptors of the batch and its frames
   * are done with: puts datagrams that were read, and had no descriptor, into the same batch. Returns how
   * many; 0 = none. A device without `rest` never leaves any. */
  rest?(batch: FrameBatch): number;
  /** Sends the frames that `entries` name: pairs of frame index and argument. Returns how many were sent; the
   * argument of every other entry becomes a negated errno. A refused frame does not affect the others.
   * core/outputs.ts (Sink) describes the results for runs and superframes. */
  deliver(batch: FrameBatch, entries: Int32Array, count: number): number;
  /** core/outputs.ts (Sink) */
  readonly tunnelUse?: Int32Array | undefined;
}

/** A TAP: whole Ethernet frames, with the virtio-net header in the descriptor. Argument 1 = take the 802.1Q
 * tag out, 2 = write the frames of a run one by one, 3 = both. */
export type PortDevice = Device;

/** The ways by which a socket sends many frames at once. */
export interface SendingWays {
  /** Frames that fit together may leave as one message for the kernel to cut; the socket must then send full checksums. */
  readonly segmentation: boolean;
  /** The tunnel port, if superframes may leave as tunnel frames. */
  readonly tunnelFd?: number | undefined;
}
/** Each frame leaves by itself. */
export const DATAGRAMS: SendingWays = { segmentation: false };

/** A UDP socket. `receive` gives datagrams with ADDRESS, PORT and TOS. `deliver` sends each frame, with the
 * tunnel header before it and marked with TOS, to the destination with the slot in the argument. A frame
 * that asks for a checksum gets it. Frames are never fragmented: the result is EMSGSIZE if the device of the
 * route cannot carry a frame; later routers may report the same (wire/path-news.ts). */
export type UnderlaySocket = Device;
