/** Copies of frames of an overlay (`dladm capture`), as the control side gets them from the datapath. */
import type { DropReason } from '../model/drops.js';
import type { Endpoint } from '../wire/ip.js';

/** Where a captured frame was seen. `from-socket`: a datagram that was dropped before its overlay or its frame was known. */
export type CapturePoint = 'from-port' | 'to-port' | 'to-tunnel' | 'from-tunnel' | 'from-socket';

export interface CapturedFrame {
  readonly point: CapturePoint;
  /** Name of the port; empty in the tunnel. */
  readonly port: string;
  /** Time since 1970. */
  readonly timeNs: bigint;
  /** Length of the whole frame, even if less was copied. A datagram without a frame counts from the tunnel's header on. */
  readonly frameBytes: number;
  /** The header of the tunnel, where there is one, and the frame, or its beginning. */
  readonly data: Uint8Array;
  /** Bytes of that header. */
  readonly leadBytes: number;
  /** The offloads that the frame still needs, as in wire/descriptor.ts. */
  readonly descriptor: Int32Array;
  readonly dropped: DropReason | undefined;
  /** The underlay sockets that the frame goes between; undefined at a port. */
  readonly from: Endpoint | undefined;
  readonly to: Endpoint | undefined;
  /** Traffic class of the outer packet. */
  readonly trafficClass: number;
}

/** Copies of frames of an overlay. A slow reader of them loses some; the traffic loses none. */
export interface FrameCapture {
  /** The oldest frame that was not taken yet; undefined when there is none now. */
  next(): CapturedFrame | undefined;
  /** Packets that there was no room for, by port; those of the tunnel under the empty name. */
  lost(): ReadonlyMap<string, number>;
  /** Nothing more comes in: it was stopped, or the overlay is gone. */
  readonly isOver: boolean;
  /** Resolves when nothing more comes in. The frames in it can still be taken. */
  stop(): Promise<void>;
}
