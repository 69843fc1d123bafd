/** Sees the frames of overlays and sockets during a capture: capture.ts, which knows overlays and sockets by their objects. */
import type { FrameBatch } from '../../wire/descriptor.js';

/** The frames that go out to one port or socket: outputs.ts has the layout. */
interface Delivery {
  readonly entries: Int32Array;
  readonly count: number;
}

export interface FrameWatch {
  /** Frames that `port` has sent, before anything is done with them. Not new: they have been here before, and come out of the
   * backlog of the port. */
  fromPort(overlay: object, port: object, batch: FrameBatch, count: number, isNew: boolean): void;
  /** Datagrams, before anything is done with them. */
  fromTunnel(mux: object, batch: FrameBatch, count: number): void;
  /** The frames of the list go out when this returns. */
  delivering(list: Delivery, batch: FrameBatch, drops: object): void;
  /** The next drop is of this entry of the list that was delivered last. */
  refused(entry: number, drops: object): void;
  /** Frame `index` of the current batch was dropped. */
  dropped(drops: object, reason: number, batch: FrameBatch, index: number): void;
  /** A frame that waited was dropped; its bytes are a copy. */
  droppedHeld(
    drops: object,
    reason: number,
    bytes: Uint8Array,
    descriptor: Int32Array,
    port: object | undefined,
  ): void;
}
