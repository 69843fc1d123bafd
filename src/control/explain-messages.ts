/** The shapes of the answer to `overlay.explain`: the fate of one frame in the datapath. */
import type { DropRow } from './messages.js';

/** A rule of the datapath that a frame comes to. */
export interface ExplainedStep {
  /** `port`, `vlan`, `table` and others (docs/explain.md). */
  readonly step: string;
  readonly verdict: 'pass' | 'drop';
  /** The facts that the rule read. */
  readonly read: string;
  readonly rule: string;
}

export interface ExplainedSend {
  readonly from: string;
  readonly to: string;
  /** Payload of UDP: the header of the tunnel and the frame. */
  readonly bytes: number;
  /** The IP packet. */
  readonly packetBytes: number;
}

/** The fate of a frame in the datapath, had it come now. */
export interface Explanation {
  readonly overlay: string;
  /** The port that sends it; null for a frame out of the tunnel. */
  readonly port: string | null;
  /** The peer that sends it; null for a frame of a port. */
  readonly from: string | null;
  /** Its layers, in one line. */
  readonly frame: string;
  readonly frameBytes: number;
  readonly steps: readonly ExplainedStep[];
  /** `pass`: something would be sent, delivered or answered. */
  readonly outcome: 'pass' | 'drop';
  readonly sentence: string;
  readonly sends: readonly ExplainedSend[];
  /** Ports that would get it. */
  readonly deliveries: readonly string[];
  /** Frames that the port would get back, each in one line. */
  readonly answers: readonly string[];
  readonly drops: readonly {
    readonly reason: string;
    readonly kind: DropRow['kind'];
    readonly about: string;
    readonly advice: string;
  }[];
  /** How often the plugin was asked, for this explanation alone. */
  readonly questions: number;
}

/** Bytes of a frame that can be explained: more than any overlay carries in one frame. */
export const MAX_EXPLAINED_BYTES = 16_384;
