/** The peers of an overlay, as the datapath reports them to the control side. */
import type { IpAddress } from '../wire/ip.js';

/** The counts of an overlay for one underlay address, all threads together, since the address was first used. */
export interface PeerReport {
  readonly ip: IpAddress;
  /** Frames go there, or its plugin names it; otherwise frames came from there (accept=any). */
  readonly isPeer: boolean;
  /** As the overlay's own counters count them. */
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Reads that the received frames came in: the kernel may put many into one. */
  readonly rxReads: number;
  /** Reads that show that the kernel does not put its datagrams together (core/peers/coalescing.ts). */
  readonly uncoalescedReads: number;
  /** Times since the last frame each way, exact to 20 ms; undefined = there was none. */
  readonly sentAgoMs: number | undefined;
  readonly heardAgoMs: number | undefined;
  /** Frames to it that ask for an answer, sent while it was not heard for a second. It wraps around. */
  readonly asked: number;
  readonly unreachable: UnreachableReport | undefined;
}

/** The ICMP messages that said that a peer cannot be reached; those of the last trouble. */
export interface UnreachableReport {
  /** Type and code: wire/path-news.ts. */
  readonly kind: number;
  /** UDP port that the datagrams were for. */
  readonly port: number;
  /** The host that sent the last message; undefined if the kernel did not say. */
  readonly from: IpAddress | undefined;
  readonly messages: number;
  readonly firstAgoMs: number;
  readonly lastAgoMs: number;
}

/** In the order in which they became known. */
export interface PeerList {
  readonly peers: readonly PeerReport[];
  /** Addresses that have no record of their own, since there are too many; undefined if there are none. */
  readonly others: PeerReport | undefined;
}

/** How the datagrams of an overlay are sent. */
export interface Sending {
  /** UDP checksums. */
  readonly checksum: 'full' | 'zero';
  /** Whether the overlay may use the offload `train`. */
  readonly maySendTrains: boolean;
}
