/** The shapes of `overlay.peers` (methods.ts). */

/** Trouble of a peer. `unreachable`: ICMP came back. `silent`: nothing comes back, although answers were asked for. */
export interface PeerTrouble {
  readonly state: 'unreachable' | 'silent';
  /** Sentence with the peer, and what to look at. */
  readonly reason: string;
}

/** Messages of ICMP or ICMPv6 that a peer cannot be reached. */
export interface UnreachableInfo {
  /** As `port unreachable`. */
  readonly what: string;
  readonly type: number;
  readonly code: number;
  readonly protocol: 'icmp' | 'icmpv6';
  /** The host that sent the last one; null = not known. */
  readonly from: string | null;
  /** UDP port that the frames were sent to. */
  readonly port: number;
  readonly messages: number;
  /** ISO 8601. */
  readonly firstAt: string;
  readonly lastAt: string;
}

/** A peer of an overlay: an underlay address that frames go to or come from. */
export interface PeerRow {
  /** Null for the row of all addresses that have none of their own, since there are too many. */
  readonly ip: string | null;
  /** Frames go there, or the plugin names it. False: frames came from there, since the overlay accepts any. */
  readonly isPeer: boolean;
  /** UDP port that frames go to; null = none go there. */
  readonly port: number | null;
  /**
   * `ok`: it was heard. `unheard`: frames went there, none came, and none was expected. `idle`: no frame went
   * either way.
   */
  readonly state: PeerTrouble['state'] | 'ok' | 'unheard' | 'idle';
  /** About `unreachable` and `silent`. */
  readonly reason: string | null;
  /** Unicast MACs that the target table places there; null in a point overlay, which has no table. */
  readonly stationCount: number | null;
  /** The first of them. */
  readonly stations: readonly string[];
  /** Inner frames, as the counters of the overlay count them, since it was started. */
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Times of the last frame each way, ISO 8601; null = there was none. */
  readonly sentAt: string | null;
  readonly heardAt: string | null;
  /** The last that came, even if the peer was heard since; null = none came. */
  readonly unreachable: UnreachableInfo | null;
  /** Bytes of IP packet that the path carries, as far as it is known. */
  readonly mtuBytes: number | null;
  /** `icmp`: a router said so, which holds for ten minutes. */
  readonly mtuFrom: 'icmp' | 'route' | null;
  /**
   * `tunnel`: superframes of TCP leave whole, as tunnel frames, all others as `train`. `train`: many datagrams leave as one
   * message, which the kernel or the device cuts. `single`: each by itself.
   */
  readonly path: 'tunnel' | 'train' | 'single';
  readonly pathReason: string;
  /** UDP checksums of what is sent. */
  readonly checksum: 'full' | 'zero';
  /** Frames that one read brought on average, since the kernel puts frames of a flow together; null = none came. */
  readonly framesPerRead: number | null;
  /**
   * Reads of eight messages or more in which full-size datagrams of one flow lay side by side, though the
   * kernel could have put them together. Many, of a peer with `framesPerRead` near 1: it sends zero checksums.
   */
  readonly uncoalescedReads: number;
}
