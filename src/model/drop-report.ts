/** Drops of an overlay, as the datapath reports them to the control side. */
import type { Endpoint } from '../wire/ip.js';
import type { DropReason } from './drops.js';

/** Frames that an overlay, or its socket before an overlay was known, dropped for one reason. */
export interface DropReport {
  readonly reason: DropReason;
  /** As they are on a wire; since the overlay was started. */
  readonly frames: number;
  /** The last of them, or one of the last; undefined where varpd has not seen the frame itself. */
  readonly last: DroppedFrame | undefined;
}

export interface DroppedFrame {
  readonly ageMs: number;
  /** The VTEP and UDP port that it came from. */
  readonly from: Endpoint | undefined;
  /** The port that sent it. */
  readonly port: string | undefined;
  /** Of the whole frame. */
  readonly lengthBytes: number;
  /** At most 64 bytes; for a reason of SOCKET_DROPS from the header of the tunnel on. */
  readonly beginning: Uint8Array;
}
