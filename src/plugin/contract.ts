/**
 * The contract between varpd and a lookup plugin. A plugin author needs no other file.
 *
 * A lookup plugin knows where each MAC address of an overlay network lives. It is a package or a directory. Its entry
 * file has a LookupPlugin as its default export. varpd runs each plugin in a process of its own, loads it there once, and
 * creates one Instance for each overlay that was created with `-s NAME`. Instances are independent of each other.
 *
 * All values that cross the contract are plain data, since they cross a process. Addresses are text, MACs are numbers.
 *
 * The promises of varpd to an Instance
 *   - `start` is called first, and the other methods only after `start` has resolved. `stop` is the last call; it may be
 *     repeated, and it also comes after a `start` that has failed.
 *   - At most one `resolve` is in flight for a unicast MAC. Calls for different MACs may overlap. For a group MAC
 *     (broadcast or multicast) every frame causes a call of its own, unless an earlier answer with a ttlMs is still valid.
 *   - Every call that may return a promise has a deadline: `limits.lookupDeadlineMs` (1 s) for a lookup,
 *     `limits.startDeadlineMs` (5 s) for `start`, `change` and `reload`. At the deadline varpd aborts the signal of the
 *     call and ignores its result. The frames that wait for a lookup are dropped as `lookup_timeout`. The signal of a call
 *     has no meaning once the call has returned its result.
 *   - `invalidate` overtakes an answer: when a MAC is invalidated during a lookup, varpd throws the answer of that lookup
 *     away and asks again.
 *   - A mistake costs the plugin's own overlays only. When a call throws, does not return in time, or returns an invalid
 *     value, the overlay becomes degraded until the next good answer, and its earlier answers stay in use. When the process
 *     of the plugin ends, blocks, or takes too much memory, varpd ends it and starts it again, with new instances.
 *   - A target that has been used keeps working while the plugin is in trouble (see `staleMs`).
 *
 * The duty of an Instance: no secrets in messages
 *   varpd shows exceptions, log lines and health sentences of a plugin to every user that may run dladm. Some of these
 *   users may not read the files or servers that the plugin reads. So a message must not quote a file, a reply of a server,
 *   or a secret. It names the place and the kind of the mistake; ContentError of `varpd/plugin` has this form. From a
 *   SyntaxError that JSON.parse has thrown, varpd shows the position alone. The `cause` of an error is shown as well.
 */

import type { Endpoint, IpAddress } from '../wire/ip.js';
import type { MappingStore } from './mapping-store.js';
import type { Properties, PropertySpec } from './properties.js';

/** A MAC address as a 48-bit number: de:ad:be:ef:00:01 is 0xdeadbeef0001. */
export type MacAddress = number;

/** An IPv4 or IPv6 address as a plugin writes it. varpd takes every spelling of it; what varpd gives is an IpAddress, text
 * in the canonical spelling of `parseIp`. */
export type IpText = string;

/**
 * The VTEP (address and UDP port on the underlay) that a frame is sent to. The overlay's own listen address and port
 * mean that the MAC lives at this host: behind the VNIC with that MAC, otherwise behind the overlay's own interface,
 * for example in a bridge.
 */
export interface Destination {
  readonly ip: IpText;
  readonly port: number;
}

/** One lookup: header fields of the frame that varpd has no destination for. */
export interface Lookup {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  /** EtherType behind any VLAN tags. 0 when no frame waits: varpd asks about a target that it knows already, because the
   * answer gets old or because the target is of the previous process. */
  readonly etherType: number;
  /** 802.1Q VLAN id. 0 for a frame without a tag. */
  readonly vlan: number;
}

/** The protocols for which varpd can answer or redirect a broadcast. */
export type ProxyKind = 'arp' | 'ndp' | 'dhcp';

/**
 * How long varpd may use an answer.
 *
 *   0 -------- ttlMs --------- ttlMs + staleMs ---->
 *      fresh           stale             gone
 *
 * While a target is fresh, varpd uses it without a question. varpd asks again about a target in use shortly before it
 * gets stale, so that frames never wait. A stale target is used while it is asked about, and while asking fails. A gone
 * one is not used: the next frame waits for an answer.
 *
 * Without ttlMs a target of a unicast MAC is fresh for ever, and a drop holds for the daemon's `limits.negativeTtlMs`.
 * Without staleMs a target stays stale as long as the plugin is in trouble (calls that fail or come too late, or no
 * process), and is gone at `ttlMs` otherwise.
 */
export interface Age {
  /** Above 0. */
  readonly ttlMs?: number;
  /** 0 or more. */
  readonly staleMs?: number;
}

/**
 * The answer to one lookup. For a group MAC an answer without ttlMs is for this frame alone, since the next frame to the
 * same MAC may be another kind of request. An answer with a ttlMs is used for every frame to that group MAC, of any kind.
 */
export type Answer =
  | ({ readonly kind: 'target'; readonly to: Destination } & Age)
  /** One copy of the frame goes to each destination, and none back to the sender of the frame. */
  | ({ readonly kind: 'flood'; readonly to: readonly Destination[] } & Age)
  /**
   * varpd reads the frame. If the frame is a valid request of that kind, varpd asks the instance for the one fact that is
   * missing and replies itself. Any other frame is dropped with a reason, or follows `otherwise`. varpd caches nothing of
   * this: the next such frame causes a lookup again. `proxy` is valid only for a lookup with a group `destinationMac`.
   *   arp    for EtherType 0x0806. varpd asks `neighbor` for the IPv4 address in the request.
   *   ndp    for EtherType 0x86dd. varpd asks `neighbor` for the IPv6 address in the solicitation.
   *   dhcp   for EtherType 0x0800, broadcast. For a message from a client varpd asks `dhcpServer` and sends the frame to
   *          that MAC alone. A message from a server goes to the client named in it, without a question.
   * varpd answers ARP and NDP out of the addresses of `Host.replaceAll`, without a question, if there are any.
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

/** A MAC and its destination, or its flood list. */
export interface Target extends Age {
  readonly mac: MacAddress;
  readonly to: Destination | readonly Destination[];
}

/** An address of the overlay, and the MAC that has it. */
export interface Address {
  readonly ip: IpText;
  readonly mac: MacAddress;
}

/**
 * Everything that is known of an overlay network, at one revision. A list may be any iterable, for example a generator that
 * makes the rows of a large network one by one: varpd reads it in slices until `replaceAll` settles.
 */
export interface Snapshot {
  readonly targets: Iterable<Target>;
  readonly addresses: Iterable<Address>;
  /** The store's own name for this state, for the log and `dladm show-overlay -f`. At most 255 characters. */
  readonly revision: string;
}

/** A change of the snapshot that is in force. A MAC or an address in both lists is set. */
export interface SnapshotChange {
  readonly targets?: readonly Target[];
  readonly removedMacs?: readonly MacAddress[];
  readonly addresses?: readonly Address[];
  readonly removedIps?: readonly IpText[];
  readonly revision: string;
}

/** The effect of a snapshot, or of a change of it. */
export interface Difference {
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
  /** Addresses that are at another MAC now. varpd has announced them to the local ports. */
  readonly moved: number;
}

/** The addresses that the VNIC with this MAC may send from. */
export interface AllowedIps {
  readonly mac: MacAddress;
  readonly ips: readonly IpText[];
}

/**
 * The overlay that an instance serves. The instance may call these methods at any time: before `start` resolves, during a
 * lookup, out of a timer. A method throws when an argument is invalid, and changes nothing then. After `stop` a call
 * changes nothing. varpd takes calls as fast as it can carry them out; a plugin that makes far more of them waits.
 */
export interface Host {
  /** Name of the overlay. */
  readonly overlay: string;
  readonly vnetid: number;
  /** Address and UDP port at which the overlay listens. All destinations must have the family of this address. For another
   * address or port varpd starts a new instance. */
  readonly listen: Endpoint;
  readonly log: PluginLog;
  /** Is aborted when `stop` is called, or when `start` has failed. */
  readonly signal: AbortSignal;
  /** A directory that this plugin alone uses, also after a restart. Instances share it. It exists, and is empty at first. */
  readonly stateDir: string;
  /** A monotonic clock, in milliseconds. */
  now(): number;
  /** Calls `fn` every `ms` milliseconds until `signal` is aborted, never twice at a time. An error degrades the overlay
   * until the next good call. */
  every(ms: number, fn: () => void | Promise<void>): void;
  /**
   * Reads a secret: the file of this name in the directory `secrets` of the configuration, or the systemd credential of
   * this name. It never appears in a listing or in a log of varpd. Rejects when there is none.
   */
  secret(name: string): Promise<string>;
  /** Sets targets before varpd asks for them, or again. Each row replaces what is known of its MAC. */
  setTargets(targets: readonly Target[]): void;
  /** Makes varpd forget the targets of these MACs, or all targets. The next frame to such a MAC causes a lookup. */
  invalidate(macs?: readonly MacAddress[]): void;
  /**
   * Replaces everything that is known: all or nothing, with one difference. From then on varpd answers lookups of unicast
   * MACs out of the snapshot, and ARP and NDP out of its addresses; an instance with `resolve` is asked about a MAC that
   * the snapshot lacks, and without `resolve` the frame is dropped. Flows to MACs that have not moved go on. Rejects when a
   * row is invalid, and keeps the snapshot before.
   */
  replaceAll(snapshot: Snapshot): Promise<Difference>;
  /** Changes the snapshot that is in force: all or nothing, as `replaceAll`. Rejects when there is none. */
  changeSnapshot(change: SnapshotChange): Promise<Difference>;
  /**
   * Tells the ports of this host that `ip` is now at `mac`, so that their neighbour caches are right at once. Call
   * `announce` when an address has moved to another MAC, and not for every known address.
   *
   * varpd sends one untagged frame to every local port, except the port that has `mac`. The frame is an ARP announcement
   * for IPv4 (a request, RFC 5227 2.3), and an unsolicited neighbour advertisement with the override flag for IPv6
   * (RFC 4861 7.2.6). No frame enters the tunnel: on every host the plugin tells the ports of that host. `announce` throws
   * unless `mac` and `ip` are addresses that one station can have (not zero, and no group).
   */
  announce(ip: IpText, mac: MacAddress): void;
  /**
   * Sets the peers: the underlay addresses that frames of this network may come from. The list replaces the one before.
   * varpd also accepts frames from every destination that the instance has answered, so these need not be in the list. A
   * plugin that never calls `setPeers` accepts frames from these destinations alone. The peers that are set before `start`
   * resolves determine the default MTU of the overlay.
   */
  setPeers(peers: readonly IpText[]): void;
  /**
   * Sets the addresses that the VNICs of this host may send from. The list replaces the one before. With a list, every
   * VNIC is protected (mac-nospoof, ip-nospoof) whatever its properties say: it may use the addresses in its row and the
   * link-local address made from its MAC, and without a row the latter alone. Without a list the plugin sets no rule. The
   * last list stays in force while the plugin is in trouble, and over restarts.
   */
  setAllowedIps(rows?: readonly AllowedIps[]): void;
  /** Makes the overlay degraded: it works on earlier answers. `dladm show-overlay -f` shows the sentence. */
  degrade(sentence: string): void;
  /** Ends the state that `degrade` has begun. */
  restore(): void;
  /**
   * Says which version of its data the plugin answers out of now, and how many entries that has. `dladm show-overlay --json`
   * shows both with the time of the call. At most 255 characters. varpd does the same for each `replaceAll` and
   * `changeSnapshot`, so only an instance that answers out of data of its own calls it.
   */
  inForce(revision: string, entries: number): void;
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
export interface Instance<P = Properties> {
  /**
   * Reads files, connects to servers. A rejection makes create-overlay fail, and create-overlay undoes its work. When
   * varpd itself starts and brings up a stored overlay, it tries again later with a new instance. A `code` of the error
   * that is the name of an errno (ENOENT, EINVAL) selects the status words of dladm. EAGAIN means that a file or server
   * which the instance needs does not answer.
   */
  start(properties: P, signal: AbortSignal): Promise<void>;
  /** Undoes `start`, within 500 ms. May be called twice, and after a failed start. */
  stop(): Promise<void>;
  /** Takes new values of `changeable` properties; `properties` has all values. A rejection leaves the values before in
   * force. Needed if a property is changeable. */
  change?(properties: P, signal: AbortSignal): Promise<void>;
  /**
   * Reads again the files that `start` has read. Called for SIGHUP and `dladm reload`. Calls may overlap. A rejection
   * means that the earlier contents stay in use, and dladm shows its sentence. varpd does not degrade the overlay for
   * it: the instance calls `degrade` where that is right.
   */
  reload?(signal: AbortSignal): Promise<void>;
  /** Returns the one destination of all frames. Needed in mode `point`, and not used in mode `dynamic`. Called once after
   * `start`, and once after each `change`. */
  defaultDestination?(): Destination | Promise<Destination>;
  /**
   * Answers where `destinationMac` lives. Not used in mode `point`; needed in mode `dynamic`, unless the instance calls
   * `replaceAll` before `start` resolves. When the station behind a local port has been silent for a while, varpd also
   * asks about the MAC of that port. Frames to that MAC stay at this host, unless the answer names another host.
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
  /** Tells the MACs of all ports of this host: after `start`, and whenever they change. For `setAllowedIps`. */
  ports?(macs: readonly MacAddress[]): void | Promise<void>;
  /**
   * Returns where the plugin places this MAC of a port of this host: null if it does not know the MAC, undefined if it
   * cannot tell. varpd asks every few seconds about each port. If the answer is null or another endpoint than `listen`,
   * other hosts do not reach the port, and the overlay has a note that says so.
   */
  placeOf?(
    mac: MacAddress,
    signal: AbortSignal,
  ): Destination | null | undefined | Promise<Destination | null | undefined>;
}

/** An error or warning at a place in a file. It may quote the file, since `check` runs with the rights of its user. */
export interface FileProblem {
  /** Line and column count from 1. A column is a character. */
  readonly line: number;
  readonly column: number;
  /** Stable name of the rule, for programs: NOT_JSON. */
  readonly code?: string;
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

/** For what all instances share. */
export interface PluginContext {
  readonly log: PluginLog;
  readonly stateDir: string;
  secret(name: string): Promise<string>;
}

/** The default export of a plugin. */
export interface LookupPlugin<
  Specs extends readonly PropertySpec[] = readonly PropertySpec[],
  Shared = unknown,
> {
  readonly apiVersion: 2;
  /** The name that `-s` takes, and the prefix of its properties: `files` owns `files/...`. At most 31 characters. */
  readonly name: string;
  /** `point`: one destination for all frames. `dynamic`: a lookup for each MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly properties: Specs;
  /** Opens what all instances share, for example a connection. Called before the first `create`. A rejection fails the
   * start of the overlay that needs it, and the next start tries again. */
  open?(context: PluginContext): Promise<Shared>;
  /** Undoes `open`, after the last `stop`. */
  close?(shared: Shared): Promise<void>;
  /** Makes the instance of one overlay. Does no I/O: that belongs in `start`. */
  create(host: Host, shared: Shared): Instance<Properties<Specs>>;
  /** Checks values that have their types and bounds. Returns undefined for good values, and otherwise a sentence that
   * names the property: `mine/url and mine/file exclude each other`. */
  refuse?(properties: Properties<Specs>): string | undefined | Promise<string | undefined>;
  /**
   * Checks whether an instance would accept this file. `dladm check-mapping` calls it in its own process, without a daemon
   * and without an overlay. Rejects with a sentence when the file cannot be read at all. `contents`: the bytes to check in
   * place of those of the file; `file` is their name in messages.
   */
  check?(file: string, contents?: AsyncIterable<Uint8Array>): Promise<CheckReport>;
  /** The store of mappings that the plugin reads. `dladm import-mapping` and `export-mapping` use it. */
  readonly store?: MappingStore;
}
