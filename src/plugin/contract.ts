/**
 * The contract between varpd and a lookup plugin. A plugin author needs no other file.
 *
 * A lookup plugin knows where each MAC address of an overlay network lives. It is a directory with an `index.js` (or
 * `index.mjs`) that has a LookupPlugin as its default export. varpd loads the plugin once, and creates one Instance for
 * each overlay that was created with `-s NAME`. Instances are independent of each other.
 *
 * The promises of varpd to an Instance
 *   - `start` is called first, and the other methods only after `start` has resolved. `stop` is the last call; it may be
 *     repeated, and it also comes after a `start` that has failed.
 *   - At most one `resolve` is in flight for a unicast MAC. Calls for different MACs may overlap. For a group MAC
 *     (broadcast or multicast) every frame causes a call of its own, unless an earlier answer with a ttlMs is still valid.
 *   - Every call that may return a promise has a deadline: `limits.lookupDeadlineMs` (1 s) for a lookup,
 *     `limits.startDeadlineMs` (5 s) for `start` and `reload`. At the deadline varpd aborts the signal of the call and
 *     ignores its result. The frames that wait for a lookup are dropped as `lookup_timeout`. The signal of a call has no
 *     meaning once the call has returned its result.
 *   - `invalidate` overtakes an answer: when a MAC is invalidated during a lookup, varpd throws the answer of that lookup
 *     away and asks again.
 *   - A mistake costs the plugin's own overlay only. When a call throws, does not return in time, or returns an invalid
 *     value, the overlay becomes degraded until the next good answer, and its earlier answers stay in use.
 *
 * The duty of an Instance: no secrets in messages
 *   varpd shows exceptions, log lines and health sentences of a plugin to every user that may run dladm. Some of these
 *   users may not read the files or servers that the plugin reads. So a message must not quote a file, a reply of a server,
 *   or a secret. It names the place and the kind of the mistake; ContentError of `varpd/plugin` has this form. From a
 *   SyntaxError that JSON.parse has thrown, varpd shows the position alone.
 */
import type { Endpoint, IpAddress } from '../wire/ip.js';

/** A MAC address as a 48-bit number: de:ad:be:ef:00:01 is 0xdeadbeef0001. */
export type MacAddress = number;

/**
 * The VTEP (address and UDP port on the underlay) that a frame is sent to. The overlay's own listen address and port
 * mean that the MAC lives at this host: behind the VNIC with that MAC, otherwise behind the overlay's own interface,
 * for example in a bridge.
 */
export type Destination = Endpoint;

/** Value of a property: a whole number, an address, or text. */
export type PropertyValue = number | IpAddress | string;

/** One property that a plugin owns. `dladm create-overlay -p` sets it, and `dladm show-overlay` shows it. */
export interface PropertySpec {
  /** `plugin/property`, at most 63 characters. */
  readonly name: string;
  readonly type: 'uint' | 'ip' | 'string' | 'choice';
  /** create-overlay fails without a required property. Its error names all that are missing. */
  readonly required: boolean;
  /** The text that an operator would type. */
  readonly default?: string;
  /** Bounds of a `uint`, inclusive. */
  readonly min?: number;
  readonly max?: number;
  /** The permitted words of a `choice`. */
  readonly choices?: readonly string[];
  /**
   * A last check of a value that already has the right type and is within bounds. Returns undefined for a good value, and
   * for a bad one the words that follow "expected" in the error: 'an absolute path'.
   */
  readonly refuse?: (value: PropertyValue) => string | undefined;
}

/** The properties of one overlay, checked against their specs. A read of a property without a value throws. */
export interface Properties {
  has(name: string): boolean;
  uint(name: string): number;
  ip(name: string): IpAddress;
  text(name: string): string;
}

/** One lookup: header fields of the frame that varpd has no destination for. */
export interface Lookup {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  /** EtherType behind any VLAN tags. 0 when no frame waits: after a restart varpd asks about the targets of the previous
   * process, and uses them until the answer comes. */
  readonly etherType: number;
  /** 802.1Q VLAN id. 0 for a frame without a tag. */
  readonly vlan: number;
}

/** The protocols for which varpd can answer or redirect a broadcast. */
export type ProxyKind = 'arp' | 'ndp' | 'dhcp';

/**
 * The answer to one lookup.
 *
 * `ttlMs` says how long varpd may use the answer before it asks again. For a unicast MAC a target without ttlMs is used
 * for ever, and a drop without ttlMs for the daemon's `limits.negativeTtlMs`. For a group MAC an answer without ttlMs
 * is for this frame alone, since the next frame to the same MAC may be another kind of request. An answer with a ttlMs
 * is used for every frame to that group MAC, of any kind.
 */
export type Answer =
  | { readonly kind: 'target'; readonly to: Destination; readonly ttlMs?: number }
  /** One copy of the frame goes to each destination, and none back to the sender of the frame. */
  | { readonly kind: 'flood'; readonly to: readonly Destination[]; readonly ttlMs?: number }
  /**
   * varpd reads the frame. If the frame is a valid request of that kind, varpd asks the instance for the one fact that is
   * missing and replies itself. Any other frame is dropped with a reason, or follows `otherwise`. varpd caches nothing of
   * this: the next such frame causes a lookup again. `proxy` is valid only for a lookup with a group `destinationMac`.
   *   arp    for EtherType 0x0806. varpd asks `neighbor` for the IPv4 address in the request.
   *   ndp    for EtherType 0x86dd. varpd asks `neighbor` for the IPv6 address in the solicitation.
   *   dhcp   for EtherType 0x0800, broadcast. For a message from a client varpd asks `dhcpServer` and sends the frame to
   *          that MAC alone. A message from a server goes to the client named in it, without a question.
   */
  | {
      readonly kind: 'proxy';
      readonly what: ProxyKind;
      /**
       * Destinations that get a copy of a frame that is of another kind: IPv6 multicast that is neither neighbour nor
       * router discovery, or an IPv4 broadcast that is not DHCP. Without `otherwise` such a frame is dropped. ARP and
       * discovery messages are never flooded.
       */
      readonly otherwise?: readonly Destination[];
    }
  | { readonly kind: 'drop'; readonly reason: string; readonly ttlMs?: number };

/**
 * The overlay that an instance serves. The instance may call these methods at any time: before `start` resolves, during a
 * lookup, out of a timer. A method throws when an argument is invalid. After `stop` a call changes nothing.
 */
export interface Host {
  /** Name of the overlay. */
  readonly overlay: string;
  readonly vnetid: number;
  /** Address and UDP port at which the overlay listens. All destinations must have the family of this address. */
  readonly listen: Endpoint;
  readonly log: PluginLog;
  /** A monotonic clock, in milliseconds. */
  now(): number;
  /** Sets the target of a MAC before varpd asks for it. */
  setTarget(mac: MacAddress, to: Destination, ttlMs?: number): void;
  /** Makes varpd forget the target of one MAC, or of all MACs. The next frame to such a MAC causes a lookup. */
  invalidate(mac?: MacAddress): void;
  /**
   * Tells the ports of this host that `ip` is now at `mac`, so that their neighbour caches are right at once. Call
   * `announce` when an address has moved to another MAC, and not for every known address.
   *
   * varpd sends one untagged frame to every local port, except the port that has `mac`. The frame is an ARP announcement
   * for IPv4 (a request, RFC 5227 2.3), and an unsolicited neighbour advertisement with the override flag for IPv6
   * (RFC 4861 7.2.6). No frame enters the tunnel: on every host the plugin tells the ports of that host. `announce` throws
   * unless `mac` and `ip` are addresses that one station can have (not zero, and no group).
   */
  announce(ip: IpAddress, mac: MacAddress): void;
  /**
   * Sets the peers: the underlay addresses that frames of this network may come from. The list replaces the one before.
   * varpd also accepts frames from every destination that the instance has answered, so these need not be in the list. A
   * plugin that never calls `setPeers` accepts frames from these destinations alone. The peers that are set before `start`
   * resolves determine the default MTU of the overlay.
   */
  setPeers(peers: readonly IpAddress[]): void;
  /** Says that `allowedIps` has new answers. varpd calls `allowedIps` again for every VNIC. */
  allowedIpsChanged(): void;
  /** Makes the overlay degraded: it works on earlier answers. `dladm show-overlay -f` shows the sentence. */
  degrade(sentence: string): void;
  /** Ends the state that `degrade` has begun. */
  restore(): void;
  /** Gives news that is not trouble. `dladm show-overlay -f` shows the latest remark while the overlay is online. */
  remark(sentence: string): void;
  /**
   * Says that the operator should look at something, although the overlay works. `dladm status` and `show-overlay -f`
   * show the note until the next call replaces it, or ends it without a sentence. The log has a line about each.
   */
  note(sentence?: string): void;
}

/** Lines for the log of varpd. varpd puts the names of overlay and plugin before each. */
export interface PluginLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** The plugin at work for one overlay. A method with a `?` may be left out, except where its comment says "Needed". */
export interface Instance {
  /**
   * Checks the properties, reads files, connects to servers. A rejection makes create-overlay fail, and create-overlay
   * undoes its work. When varpd itself starts and brings up a stored overlay, it tries again later with a new instance.
   * A `code` of the error that is the name of an errno (ENOENT, EINVAL) selects the status words of dladm. EAGAIN means
   * that a file or server which the instance needs does not answer.
   */
  start(properties: Properties, signal: AbortSignal): Promise<void>;
  /** Undoes `start`, within 500 ms. May be called twice, and after a failed start. */
  stop(): Promise<void>;
  /**
   * Reads again the files that `start` has read. Called for SIGHUP and `dladm reload`. Calls may overlap. A rejection
   * means that the earlier contents stay in use, and dladm shows its sentence. varpd does not degrade the overlay for
   * it: the instance calls `degrade` where that is right.
   */
  reload?(signal: AbortSignal): Promise<void>;
  /** Returns the one destination of all frames. Needed in mode `point`, and not used in mode `dynamic`. Called once, after
   * `start`. */
  defaultDestination?(): Destination;
  /**
   * Answers where `destinationMac` lives. Needed in mode `dynamic`, and not used in mode `point`. When the station behind
   * a local port has been silent for a while, varpd also asks about the MAC of that port. Frames to that MAC stay at this
   * host, unless the answer names another host.
   */
  resolve?(lookup: Lookup, signal: AbortSignal): Answer | Promise<Answer>;
  /**
   * Returns the MAC that has this address on the overlay. For null, varpd sends no reply. Needed by an instance that
   * answers `proxy` with arp (`ip` is always IPv4 then) or with ndp (`ip` is always IPv6 then). IPv6 addresses have the
   * canonical spelling of `parseIp`.
   *
   * A host may ask for its own address, to see whether the address is free. `neighbor` returns the MAC of the owner
   * then as well, and varpd sends no reply.
   *
   * varpd calls `neighbor` at most once for a frame, within the deadline of the lookup of this frame. Calls for the same
   * address may overlap.
   */
  neighbor?(ip: IpAddress, signal: AbortSignal): MacAddress | null | Promise<MacAddress | null>;
  /**
   * Returns the MAC of the server that gets the DHCP requests of this client; varpd looks that MAC up like any
   * destination. For null, varpd drops the request. `client` is the Ethernet source address of the request. Needed by
   * an instance that answers `proxy` with dhcp. Number of calls and deadline are those of `neighbor`.
   */
  dhcpServer?(client: MacAddress, signal: AbortSignal): MacAddress | null | Promise<MacAddress | null>;
  /**
   * Returns the addresses that the VNIC with this MAC may send from, or undefined when the plugin sets no rule for it.
   * With a list, even an empty one, the VNIC is protected (mac-nospoof, ip-nospoof) whatever its properties say. It may
   * then use the listed addresses and the link-local address made from its MAC. `allowedIps` must return at once, out
   * of memory. If it throws, the VNIC may use no address.
   */
  allowedIps?(mac: MacAddress): readonly IpAddress[] | undefined;
  /**
   * Returns where the plugin places this MAC of a port of this host: null if it does not know the MAC, undefined if it
   * cannot tell. varpd asks every few seconds about each port. If the answer is null or another endpoint than `listen`,
   * other hosts do not reach the port, and the overlay has a note that says so. `placeOf` must return at once, out of
   * memory.
   */
  placeOf?(mac: MacAddress): Destination | null | undefined;
}

/** An error or warning at a place in a file. It may quote the file, since `check` runs with the rights of its user. */
export interface FileProblem {
  /** Line and column count from 1. A column is a character. */
  readonly line: number;
  readonly column: number;
  /** The part of the file that the problem concerns: a JSON path (RFC 9535) or the like. */
  readonly path: string;
  readonly found: string;
  readonly expected: string;
}

/** The result of `check`. */
export interface CheckReport {
  /** The first errors, some hundred at most, in the order of the file. */
  readonly errors: readonly FileProblem[];
  /** Number of all errors, including those that are not in `errors`. */
  readonly errorCount: number;
  /** The first valid parts of the file that are probably not intended, and their number. */
  readonly warnings: readonly FileProblem[];
  readonly warningCount: number;
  /** The contents of the file in a few words, for example '3 entries'. Undefined when the file is not valid. */
  readonly summary: string | undefined;
}

/** The default export of a plugin. */
export interface LookupPlugin {
  readonly apiVersion: 1;
  /** The name that `-s` takes, and the prefix of its properties: `files` owns `files/...`. At most 31 characters. */
  readonly name: string;
  /** `point`: one destination for all frames. `dynamic`: a lookup for each MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly properties: readonly PropertySpec[];
  /** Makes the instance of one overlay. Does no I/O: that belongs in `start`. */
  create(host: Host): Instance;
  /**
   * Checks whether an instance would accept this file. `dladm check-mapping` calls it in its own process, without a daemon
   * and without an overlay. Rejects with a sentence when the file cannot be read at all.
   */
  check?(file: string): Promise<CheckReport>;
}
