/**
 * The lookup plugin contract: everything a plugin author needs to know is in this file.
 *
 * A plugin is a directory whose `index.js` has a LookupPlugin as its default export. varpd loads it once; every
 * overlay made with `-s NAME` gets an Instance of its own. Instances are independent of each other.
 *
 * Guarantees to an Instance
 *   - no call before `start` resolved, none after `stop` was called;
 *   - at most one `resolve` in flight per unicast MAC; calls for different MACs may overlap. Frames to a group MAC
 *     (broadcast, multicast) are asked about one by one, as long as no answer has a ttlMs;
 *   - each call has a deadline (1 s unless configured): its signal is aborted, the answer is thrown away and the
 *     waiting frames are dropped as `lookup_timeout`. Once a call has answered its signal means nothing;
 *   - an answer older than an `invalidate` of the same MAC is thrown away, the question is asked again;
 *   - a throw, a hang or nonsense makes that overlay degraded and touches no other; what was resolved before
 *     stays in use.
 *
 * What an Instance throws, logs or says of its health is shown to whoever may ask varpd, who may not be allowed to read
 * what the plugin reads. So no message has a part of a file, of an answer of a server or of a secret in it: it says where,
 * and what kind of mistake (ContentError of varpd/plugin). Of a SyntaxError, as JSON.parse throws it, varpd shows the
 * position alone.
 */
import type { Endpoint, IpAddress } from '../wire/ip.js';

/** A MAC address as a 48-bit number: de:ad:be:ef:00:01 is 0xdeadbeef0001. */
export type MacAddress = number;

/** Where a frame is sent: a VTEP's address and UDP port on the underlay. The overlay's own listen address and port: it
 * lives at this host, behind the VNIC that has the MAC, else behind the overlay's own interface (a bridge, perhaps). */
export type Destination = Endpoint;

/** Value of a property: a whole number, an address, or text. */
export type PropertyValue = number | IpAddress | string;

/** One property that a plugin owns; shown by `dladm show-overlay`, given by `dladm create-overlay -p`. */
export interface PropertySpec {
  /** `plugin/property`, at most 63 characters. */
  readonly name: string;
  readonly type: 'uint' | 'ip' | 'string' | 'choice';
  /** create-overlay fails, naming all such, when one is unset. */
  readonly required: boolean;
  /** Text, as an operator would type it. */
  readonly default?: string;
  /** Bounds of a `uint`. */
  readonly min?: number;
  readonly max?: number;
  /** The words of a `choice`. */
  readonly choices?: readonly string[];
  /** A last check of a well-formed value: what was expected, in a sentence, or undefined when it is good. */
  readonly refuse?: (value: PropertyValue) => string | undefined;
}

/** The properties of one overlay, checked against their specs; reading a name that has no value is an error. */
export interface Properties {
  has(name: string): boolean;
  uint(name: string): number;
  ip(name: string): IpAddress;
  text(name: string): string;
}

/** The frame that an answer is wanted for. */
export interface Lookup {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  /** EtherType behind any VLAN tags. 0 when no frame waits: a target of the time before a restart is to be confirmed,
   * and is in use meanwhile. */
  readonly etherType: number;
  /** 802.1Q VLAN id, 0 when untagged. */
  readonly vlan: number;
}

/** What the library can answer, or redirect, in place of a broadcast. */
export type ProxyKind = 'arp' | 'ndp' | 'dhcp';

/** ttlMs: how long the answer may be used without asking again; for ever when left out. A drop without one lasts
 * the daemon's `negativeTtlMs`. For a group MAC an answer without ttlMs is for this frame alone, since the next one
 * to the same MAC may be another kind of question; with one it is used for every frame to that MAC, of any kind. */
export type Answer =
  | { readonly kind: 'target'; readonly to: Destination; readonly ttlMs?: number }
  /** One copy to each, never back to where the frame came from. */
  | { readonly kind: 'flood'; readonly to: readonly Destination[]; readonly ttlMs?: number }
  /**
   * Only for a lookup with a group `destinationMac`; nonsense for any other. The frame goes no further: the library
   * reads it and, when it is a sound request of that kind, asks the instance for the one fact it needs and replies
   * itself. What is none is dropped with a reason. Nothing is cached: the next frame is asked about again.
   *   arp    EtherType 0x0806. Asks `neighbor` for the IPv4 address asked for.
   *   ndp    EtherType 0x86dd. Asks `neighbor` for the IPv6 address solicited.
   *   dhcp   EtherType 0x0800, broadcast. Client to server: asks `dhcpServer`, and the frame goes to that MAC
   *          alone. Server to client: it goes to the client that it names, and nothing is asked.
   */
  | {
      readonly kind: 'proxy';
      readonly what: ProxyKind;
      /** One copy to each of what turns out to be of another kind: IPv6 multicast other than neighbour and router
       * discovery, IPv4 broadcast other than DHCP. Left out = that is dropped. ARP is never flooded, nor discovery. */
      readonly otherwise?: readonly Destination[];
    }
  | { readonly kind: 'drop'; readonly reason: string; readonly ttlMs?: number };

/** What an instance may ask of, and tell, the overlay it serves. Callable from any context, at any time. */
export interface Host {
  readonly overlay: string;
  readonly vnetid: number;
  /** Address and UDP port at which the overlay listens: destinations are of the family of the address. */
  readonly listen: Endpoint;
  readonly log: PluginLog;
  /** Monotonic milliseconds. */
  now(): number;
  /** Push an answer before it is asked for. */
  setTarget(mac: MacAddress, to: Destination, ttlMs?: number): void;
  /** Forget one MAC, or all; the next frame asks again. Frames known to others go on undisturbed. */
  invalidate(mac?: MacAddress): void;
  /**
   * `ip` is at `mac` from now on: tells the ports of this host, so that their neighbour caches do not wait to find
   * out. An ARP announcement (a request, RFC 5227 2.3) for IPv4, an unsolicited neighbour advertisement with the
   * override flag (RFC 4861 7.2.6) for IPv6; one frame, untagged, to every local port but one that has `mac` itself.
   * Nothing enters the tunnel: each host tells its own. Call it when an address moves to another MAC, not for every
   * address known. `mac` is one station's, `ip` one that a station can have; else it throws.
   */
  announce(ip: IpAddress, mac: MacAddress): void;
  /** The underlay addresses that frames of this network may come from, as a whole. Destinations of targets need
   * not be named; those named before `start` resolves give the overlay its MTU. A plugin that never calls it accepts from the destinations it answered, and from no other. */
  setPeers(peers: readonly IpAddress[]): void;
  /** What `allowedIps` answers is not what it was: it is asked again for every VNIC. */
  allowedIpsChanged(): void;
  /** Works on what it has: `dladm show-overlay -f` shows the sentence. */
  degrade(sentence: string): void;
  /** All is well again. */
  restore(): void;
  /** News that is no trouble: `dladm show-overlay -f` shows the latest while the overlay is online. */
  remark(sentence: string): void;
}

export interface PluginLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface Instance {
  /**
   * Check, read, connect. A rejection makes create-overlay fail and undoes it; a `code` of the error that is the name of
   * an errno (ENOENT, EINVAL) chooses the status words. EAGAIN: what it needs does not answer.
   */
  start(properties: Properties, signal: AbortSignal): Promise<void>;
  /** Undo `start`. May be called twice, and after a failed start. */
  stop(): Promise<void>;
  /**
   * Read again what `start` read: SIGHUP, or `dladm reload`. A rejection says, for whoever asked, that what was read
   * before stays in use; degrading the overlay for it is the instance's own business. Called after `start` has
   * resolved, under the deadline of a start; calls may overlap.
   */
  reload?(signal: AbortSignal): Promise<void>;
  /** Mode `point` only, and demanded of it: the one destination of every frame. Called once, after `start`. */
  defaultDestination?(): Destination;
  /** Mode `dynamic` only, and demanded of it: where does this MAC live? Asked also about the MAC of a local port that is
   * silent: it stays there unless the answer is another host. */
  resolve?(lookup: Lookup, signal: AbortSignal): Answer | Promise<Answer>;
  /**
   * Which MAC has this address on the overlay? Null: none that is known, and then there is no reply. Demanded of an
   * instance that answers `proxy` with arp (asked with IPv4 addresses alone) or ndp (with IPv6 addresses alone). The
   * MAC of the asker itself is a fine answer: the library keeps silent then, since the asker may be probing whether
   * its address is free. Called at most once per frame, under the deadline of a lookup; calls for the same address
   * may overlap. IPv6 addresses are in the canonical spelling of `parseIp`.
   */
  neighbor?(ip: IpAddress, signal: AbortSignal): MacAddress | null | Promise<MacAddress | null>;
  /**
   * To which MAC do the DHCP requests of this client go? Null: to none, and the request is dropped. `client` is the
   * Ethernet source of the request. Demanded of an instance that answers `proxy` with dhcp; otherwise as `neighbor`.
   * The MAC answered is looked up like any other destination.
   */
  dhcpServer?(client: MacAddress, signal: AbortSignal): MacAddress | null | Promise<MacAddress | null>;
  /**
   * The addresses that the VNIC with this MAC may send from, or undefined when the plugin has no say in it. With a list,
   * be it empty, the VNIC is protected (mac-nospoof, ip-nospoof) whatever its properties, and may use these addresses
   * and the link-local one made of its MAC. Answered at once, out of memory; a throw allows none.
   */
  allowedIps?(mac: MacAddress): readonly IpAddress[] | undefined;
}

/** Something in a file, at a place in it: for whoever reads the file himself (`check`), so it may quote it. */
export interface FileProblem {
  /** Both count from 1; a column is a character. */
  readonly line: number;
  readonly column: number;
  /** JSON path (RFC 9535) or the like, of what is concerned. */
  readonly path: string;
  readonly found: string;
  readonly expected: string;
}

export interface CheckReport {
  /** In the order of the file; the first hundred or so. */
  readonly errors: readonly FileProblem[];
  /** All of them. */
  readonly errorCount: number;
  /** What is good, but may not be what was meant. */
  readonly warnings: readonly FileProblem[];
  readonly warningCount: number;
  /** What the file holds, in a few words; undefined when it is not valid. */
  readonly summary: string | undefined;
}

export interface LookupPlugin {
  readonly apiVersion: 1;
  /** What `-s` takes, and the prefix of its properties: `files` owns `files/...`. At most 31 characters. */
  readonly name: string;
  /** `point`: one destination for all. `dynamic`: asked per MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly properties: readonly PropertySpec[];
  /** One instance an overlay. No I/O here. */
  create(host: Host): Instance;
  /**
   * Whether a file is one that an instance would take: what `dladm check-mapping` asks, in a process of its own, with no
   * overlay and no daemon. Rejects with a sentence when the file cannot be read at all.
   */
  check?(file: string): Promise<CheckReport>;
}
