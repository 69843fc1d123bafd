/**
 * The messages between dladm and varpd: JSON-RPC 2.0, one message a line, over the Unix control socket.
 * methods.ts has the methods; here are the shapes of their results and the bounds of a message.
 */

/** One property as `show-overlay` prints it. */
export interface PropertyRow {
  readonly property: string;
  readonly permission: 'rw' | 'r-' | '--';
  readonly required: boolean;
  /** null = unset, printed as `--`. */
  readonly value: string | null;
  readonly default: string | null;
  /** `1-65535`, a comma list, or null. */
  readonly possible: string | null;
}

/** A lookup plugin that overlays may use. */
export interface PluginInfo {
  readonly name: string;
  readonly mode: 'point' | 'dynamic';
  readonly properties: readonly PluginProperty[];
}

export interface PluginProperty {
  readonly property: string;
  readonly required: boolean;
  readonly default: string | null;
  /** `1-65535`, a comma list, or null. */
  readonly possible: string | null;
  /** A narrower meaning: host, path, url, endpoint, secret; or null. */
  readonly kind: string | null;
  readonly about: string | null;
}

/**
 * ONLINE: `details` is the latest news of its plugin and its notes, or null. DEGRADED: the overlay works on what it has,
 * and `details` says why. OFFLINE: the overlay is stored and does not run, or its state file was set aside;
 * `details` is the reason.
 */
export interface OverlayHealth {
  readonly status: 'ONLINE' | 'DEGRADED' | 'OFFLINE';
  readonly details: string | null;
  /** ONLINE: the notes alone, if there are any: what an operator should look at, though the overlay works. */
  readonly notes?: string;
}

/** State of the links and routes that carry an overlay. */
export interface UnderlayInfo {
  /** Whether its destinations can be reached: all, some, none. */
  readonly state: 'up' | 'partly' | 'down';
  /** How often it has ceased to be `up`. */
  readonly losses: number;
  /** Time of the last change of `state`, or of the overlay's start; ISO 8601. */
  readonly changedAt: string;
}

/** The data that a plugin answers out of. */
export interface MappingInfo {
  /** A file has `sha256:` and its digest, a store its own name for the state. */
  readonly revision: string;
  readonly entries: number;
  /** Since when it is in force; ISO 8601. */
  readonly at: string;
}

export interface OverlayInfo {
  readonly name: string;
  readonly temporary: boolean;
  /** Null while it is offline and its plugin is not loaded. */
  readonly mode: 'point' | 'dynamic' | null;
  /** For an offline overlay: the stored properties, and defaults; empty when its state file was set aside. */
  readonly properties: readonly PropertyRow[];
  readonly health: OverlayHealth;
  /** Null while it is offline, and for a plugin without a mapping; absent from a varpd that does not know it. */
  readonly mapping?: MappingInfo | null;
  /** Null while it is offline. */
  readonly underlay: UnderlayInfo | null;
  /** Underlay addresses that frames go to; null while it is offline. */
  readonly peers: number | null;
  /** Offloads in force, out of checksum, tso, uso, train, tunnel, coalesce, nested. */
  readonly offloads: readonly string[];
  /** Frame and drop counters by name, zero ones included; empty while it is offline. */
  readonly counters: Readonly<Record<string, number>>;
}

/** Information about an overlay that runs. */
export type RunningOverlayInfo = OverlayInfo & {
  readonly mode: 'point' | 'dynamic';
  readonly underlay: UnderlayInfo;
  readonly peers: number;
};

export interface TargetRow {
  /** Padded lower-case MAC, or `*:*:*:*:*:*` for the one row of a point overlay. */
  readonly mac: string;
  /** `drop` and `pending` have no destinations. `flood` may have several. */
  readonly state: 'valid' | 'flood' | 'drop' | 'pending';
  /** `10.0.0.1:4789` or `[2001:db8::1]:4789`. */
  readonly destinations: readonly string[];
  /**
   * `plugin`: the plugin has answered so. `pushed`: it said so without a question. `set`: by an operator.
   * `restored`: from before a restart, and not asked about since. Null for a pending row, and for the one row of
   * a point overlay.
   */
  readonly origin: 'plugin' | 'pushed' | 'set' | 'restored' | null;
  /** Since the row is as it is. Null for the one row of a point overlay. */
  readonly ageMs: number | null;
  /** Since a frame used it last, to a second; null if none has. */
  readonly idleMs: number | null;
  /** Until it is stale; 0 if it is, null if that has no time. */
  readonly ttlMs: number | null;
  /** It is used although its time is over: the plugin is asked again, or asking fails. */
  readonly isStale: boolean;
  /** Time for which it may be used after `ttlMs`; null if the plugin's answer does not say. */
  readonly staleMs: number | null;
}

export interface TargetPage extends PageResult {
  readonly rows: readonly TargetRow[];
}

export interface VnicInfo {
  readonly name: string;
  readonly over: string;
  /** The MAC in force: that of its device, unless link protection or another port prevents it. */
  readonly mac: string;
  /** The MAC that the VNIC was created with. */
  readonly configuredMac: string;
  /** Given at create, or chosen at random. */
  readonly macType: 'fixed' | 'random';
  /** 0 = none: the VNIC carries every VLAN, tags untouched. */
  readonly vid: number;
  /**
   * MTU of its interface, as it was last seen in the network namespace of varpd; null while it is offline.
   */
  readonly mtuBytes: number | null;
  readonly temporary: boolean;
  /**
   * The purpose of the VNIC, in the words of the program that moved it into another network namespace; null for
   * others; absent from a varpd that does not know it.
   */
  readonly attachment?: string | null;
  /**
   * `up`, or the reason why not: the device was removed; its interface is down, was renamed or has a MAC that
   * is not followed; `OFFLINE: reason`.
   */
  readonly state: string;
  readonly counters: Readonly<Record<string, number>>;
}

/** One property of one link as `show-linkprop` prints it; an empty list is printed as `--`. */
export interface LinkPropertyRow {
  readonly link: string;
  readonly property: string;
  readonly permission: 'rw';
  readonly value: readonly string[];
  /**
   * The values in force, with leases and the plugin's answers; empty for a property that no protection uses.
   */
  readonly effective: readonly string[];
  readonly default: readonly string[];
  readonly possible: readonly string[] | null;
}

/** One counter that is not zero. */
export interface CounterRow {
  readonly name: string;
  /** Since the overlay or port was started. */
  readonly value: number;
  /** Rate of the last 2 to 4 seconds; null while it is not known. */
  readonly perSecond: number | null;
}

/** One of the frames that were dropped for a reason: the last that varpd noted. */
export interface DroppedFrameInfo {
  /** ISO 8601. */
  readonly at: string;
  /** VTEP and UDP port that sent it; null for a frame from a port. */
  readonly from: string | null;
  /** Port that sent it; null for a frame from the underlay, and where that is not known any more. */
  readonly port: string | null;
  /** Only for a frame that belonged to no overlay of its socket. */
  readonly vnetid: number | null;
  readonly sourceMac: string | null;
  readonly destinationMac: string | null;
  readonly etherType: number | null;
  /** Null for a frame without a tag. */
  readonly vlan: number | null;
  /** Length of the inner frame. */
  readonly bytes: number;
}

/** Frames that were dropped for one reason. */
export interface DropRow {
  readonly reason: string;
  /** A healthy network drops frames `by_design`; everything else is trouble. */
  readonly kind: 'trouble' | 'by_design';
  readonly about: string;
  readonly frames: number;
  /** Rate of the last 2 to 4 seconds; null while it is not known. */
  readonly perSecond: number | null;
  readonly last: DroppedFrameInfo | null;
}

export interface LookupStatistics {
  /** Lookups since the overlay was started. */
  readonly asked: number;
  /** Lookups that the plugin has not answered yet. */
  readonly open: number;
  /** Times of the last 1,000 answers; null before the first. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number } | null;
}

export interface PortStatistics {
  readonly name: string;
  readonly counters: readonly CounterRow[];
}

/** Everything that an overlay that runs has counted. */
export interface OverlayStatistics {
  readonly name: string;
  readonly health: OverlayHealth;
  /** Without drops. */
  readonly counters: readonly CounterRow[];
  readonly lookups: LookupStatistics;
  readonly drops: readonly DropRow[];
  /** Its own port and those of its VNICs. */
  readonly ports: readonly PortStatistics[];
}

/** `isCreated` false: it was there already, as it was asked for. */
export interface CreationInfo {
  readonly isCreated: boolean;
}

/** An entry of a list that could not be handled; the other entries were. */
export interface Failure {
  readonly name: string;
  readonly message: string;
  /** As in ErrorData; absent where the message is all there is. */
  readonly reason?: string;
  readonly hint?: string;
}

/** Where varpd listens and logs after its restart, with warnings about it. */
export interface RestartInfo {
  readonly socket: string;
  /** Null = standard error. */
  readonly logFile: string | null;
  readonly warnings: readonly string[];
}

/** A capture has begun. */
export interface CaptureInfo {
  /** The overlay that is captured, or that has the VNIC. */
  readonly overlay: string;
}

export interface RoundTrips {
  readonly min: number;
  readonly avg: number;
  readonly max: number;
}

/** Frames that were sent in one way, and the answers to them. */
export interface ProbeCount {
  readonly sent: number;
  readonly received: number;
  /** Null when nothing came back. */
  readonly roundTripMs: RoundTrips | null;
}

export interface ProbeInfo extends ProbeCount {
  readonly overlay: string;
  /** The port that sent, and its MAC. */
  readonly port: string;
  readonly source: string;
  /** Null while it is not known: nothing has answered for the IP address. */
  readonly mac: string | null;
  readonly ip: string | null;
  /** VLAN of the frames; 0 = none. */
  readonly vlan: number;
  readonly packetBytes: number;
  /** `loopback`: answered by varpd at the other end, or by nothing. Else by the station itself, after `unanswered`
   * loopback messages. */
  readonly method: 'loopback' | 'arp' | 'ndp';
  readonly unanswered: number;
  /** Underlay address that the answers came from. */
  readonly peer: string | null;
  /** Frames that were dropped at this host. */
  readonly dropped: { readonly reason: string; readonly about: string; readonly frames: number } | null;
  /** Null unless it was asked for and there was an answer. `isBothWays`: the answers were as large. */
  readonly mtu: {
    readonly packetBytes: number;
    /** The whole outer packet. */
    readonly underlayBytes: number;
    /** The mtu of the overlay: larger packets were not tried. */
    readonly limitBytes: number;
    readonly isBothWays: boolean;
  } | null;
  /** One for each source port, in their order. Null unless they were asked for and loopback messages are answered. */
  readonly paths: readonly (ProbeCount & { readonly sourcePort: number })[] | null;
}

/** A list comes in pages. An entry that exists from the first page to the last is on one of them. */
export interface PageResult {
  /** `after` of the next page; null on the last page. */
  next: string | null;
}

/** The `data` member of a JSON-RPC error. */
export interface ErrorData {
  /** Stable code of `model/errors.ts`, as `NOT_FOUND`. */
  readonly reason: string;
  /** The exit status of a command that fails for this reason (model/exit-statuses.ts). */
  readonly status: number;
  /** The words of illumos for this reason, as `object not found`. */
  readonly words: string;
  /** Lines printed before the message: which step or property failed, each on its own. */
  readonly details: readonly string[];
  /** Advice: `did you mean overlay0?`; null if varpd has none. */
  readonly hint: string | null;
}

/** A longer request ends the connection. No honest request comes near. */
export const MAX_REQUEST_BYTES = 64 * 1024;
/** Longest value of an overlay's property in a request; a plugin may allow as many bytes (LARGEST_TEXT_BYTES). */
export const MAX_PROPERTY_CHARACTERS = 4096;
/** Longest `attachment` of a VNIC. CNI sets no limit to its identifiers; those of container engines have 64 characters. */
export const MAX_ATTACHMENT_CHARACTERS = 512;
/** Beginning of the `attachment` of a VNIC that dladm has put into a network namespace. Behind it is the name or the path. */
export const NETNS_ATTACHMENT = 'netns:';

/**
 * Rows of the target table on one page. illumos takes 500 (OVERLAY_TARGET_ITER_MAX) and asks for 100; here
 * each page is a walk over the whole table, so few pages are better.
 */
export const MAX_TARGET_ROWS = 4096;

/**
 * Bytes of a packet in a capture. None is longer: a superframe of 64 KiB with its headers. tcpdump has the
 * same (MAXIMUM_SNAPLEN).
 */
export const MAX_SNAP_BYTES = 262_144;

/** Packets of a probe: the payload of the smallest frame of a wire, and the largest `mtu` of an overlay. */
export const MIN_PROBE_BYTES = 46;
export const MAX_PROBE_BYTES = 8900;

/** Frames of a probe that are sent one after the other. varpd answers when all have been sent. */
export const MAX_PROBES = 100;

/** Requests in one line; their answers come one after the other. */
export const MAX_BATCH_REQUESTS = 64;

/** Default path of the socket, when neither `--socket` nor `VARPD_SOCKET` is given. */
export const DEFAULT_SOCKET = '/run/varpd/varpd.sock';
