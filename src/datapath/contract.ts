/**
 * The contract between control side and datapath: methods that the control side calls, and events that it
 * receives. `addOverlay` returns the handle of an overlay, and `addPort` that of a port. Methods about one of
 * them are on its handle, and its events go to the listener that it was added with.
 *
 * The control side (main thread) opens and closes descriptors, so that an operator's command gets the errors.
 * Datapath threads own the descriptors in between. Every method is called on the main thread. A handle may be
 * used after its end without harm: an answer may come late, and a device may vanish at any moment.
 */
import type { CaptureRules } from '../core/capture/capture-tap.js';
import type { LeaseNews } from '../core/protection/dhcp-leases.js';
import type { ProtectionRules } from '../core/protection/link-protection.js';
import type { Notice } from '../core/notices.js';
import type { PeerPlace } from '../core/peers/peer-places.js';
import type { RestoredTarget, TargetRow } from '../core/tables/target-list.js';
import type { TargetFacts } from '../core/tables/target-rows.js';
import type { LinkInfo, TunInfo } from '../dgram-extra/index.js';
import type { EncapsulationName } from '../encap/contract.js';
import type { ProxyDrop } from '../model/drops.js';
import type { DropReport } from '../model/drop-report.js';
import type { Offload } from '../model/offloads.js';
import type { PeerList, PeerReport, Sending } from '../model/peer-report.js';
import type { RouteFacts } from '../model/underlay-state.js';
import type { MacAddress } from '../plugin/contract.js';
import type { Destination, Endpoint, IpAddress } from '../wire/ip.js';
import type { FrameCapture } from './capture-contract.js';
import type { ExplainedDatapath } from './explain-contract.js';
import type { ProbedDatapath } from './probe-contract.js';
import type { WatchedDatapath } from './watch-contract.js';

/** Configuration of an overlay for the datapath. `id` is `varpd/id`: no two overlays have the same. */
export interface OverlayConfig {
  readonly id: number;
  readonly encapsulation: EncapsulationName;
  readonly vnetid: number;
  readonly mtuBytes: number;
  /** `point`: every frame that is not local goes to `destination`. `dynamic`: the plugin is asked about each MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly destination?: Destination;
  /** <encap>/listen_ip and <encap>/listen_port. */
  readonly listen: Endpoint;
  /** The listen address may be missing at first: the sockets are opened, and work once the address is there. */
  readonly mayLackAddress?: boolean;
  /** Threads that carry the overlay, each with a socket and a queue of every port. */
  readonly queues: number;
  /** <encap>/source_ports: 1 = always the listen port, else the size of the pool. */
  readonly sourcePorts: number;
  /** <encap>/udp_checksum */
  readonly udpChecksum: 'auto' | 'full' | 'zero';
  /** <encap>/accept: frames from any underlay source, or from peers and destinations only. */
  readonly accept: 'known' | 'any';
  /** <encap>/strict-source: an inner source must live at the VTEP that sent it. */
  readonly strictSource: boolean;
  /** <encap>/vlan: inner 802.1Q tags are carried, or tagged frames dropped. */
  readonly vlan: 'keep' | 'drop';
  /** <encap>/dscp: the outer DSCP is zero, or copied from the inner packet (RFC 2983 2.1: pipe, uniform). */
  readonly dscp: 'zero' | 'copy';
  /** The offloads that the overlay may use, where this kernel has them. */
  readonly offload: readonly Offload[];
  /** Duration of a drop without a ttl of its own. */
  readonly negativeTtlMs: number;
  /** <encap>/loopback: loopback messages to the MACs of ports are answered. */
  readonly answersLoopback: boolean;
  /** Entries of the target table; the least recently used one makes room. */
  readonly maxTargets: number;
  /** Peers and targets that an earlier varpd knew, in force before the first frame. */
  readonly known: KnownPlaces;
}

/** The configuration of an overlay that may change while it runs. */
export type OverlaySettings = Pick<
  OverlayConfig,
  | 'vnetid'
  | 'mtuBytes'
  | 'listen'
  | 'sourcePorts'
  | 'udpChecksum'
  | 'accept'
  | 'strictSource'
  | 'vlan'
  | 'dscp'
  | 'offload'
  | 'answersLoopback'
>;

export interface PortConfig {
  /** Name of the TAP. */
  readonly name: string;
  readonly mac: MacAddress;
  /** The port ends with this varpd, whatever happens to other ports. */
  readonly temporary: boolean;
  /** 0 = the port carries every VLAN, tags unchanged. Otherwise its frames are untagged, and have a tag with
   * this id on the overlay. */
  readonly vid: number;
  readonly mtuBytes: number;
  /** The MTU that an earlier varpd set. If the device has another MTU, another program has set it, and it stays. */
  readonly previousMtuBytes?: number | undefined;
  /** The overlay's own port also takes unicast frames for MACs that no VNIC has: a bridge may be behind it. */
  readonly own: boolean;
  /** Rules for the frames that its owner may send. Undefined = any frame. */
  readonly protection?: ProtectionRules | undefined;
}

/** The device of a port, as its descriptor describes it. */
export interface PortDeviceInfo {
  readonly name: string;
  readonly mac: MacAddress;
  /** Whether the device is in the network namespace of varpd. */
  readonly isHere: boolean;
  /** Asks the kernel about a device in another namespace. Returns as much as the kernel tells. */
  readonly elsewhere?: (() => LinkInfo | undefined) | undefined;
}

/** Settings that other programs have changed on the device of a port. Each is a few words that follow "its
 * interface", except in `mended`. */
export interface PortFindings {
  /** Settings that were wrong and have been restored. */
  readonly mended: readonly string[];
  /** Settings that have changed, stay, and are no trouble. */
  readonly noted: readonly string[];
  /** Settings that are wrong and stay. */
  readonly troubles: readonly string[];
}

/** A question about the destination of a frame that waits. The answer has the same `lookup` number. */
export interface LookupRequest {
  readonly lookup: number;
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  readonly etherType: number;
  readonly vlan: number;
  /** Only for a frame to a group MAC: its beginning, with all tags. The question is about this frame alone. */
  readonly frame?: Uint8Array;
}

/**
 * ttlMs Infinity = until it is flushed. For a request with a frame, ttlMs may be 0, or missing in a drop:
 * then the answer is for this frame alone. `reason` is the counter for the frames that waited.
 */
export type LookupAnswer =
  | {
      readonly kind: 'target';
      readonly to: readonly Destination[];
      readonly ttlMs: number;
      /** As `Age.staleMs` of the plugin contract. */
      readonly staleMs?: number | undefined;
    }
  | {
      readonly kind: 'drop';
      readonly reason: 'lookup_drop' | 'lookup_timeout' | 'lookup_failed' | ProxyDrop;
      readonly ttlMs?: number;
    }
  /** Only for a request with a frame: this reply goes to the port that sent it, and is counted as `counter`. */
  | { readonly kind: 'reply'; readonly frame: Uint8Array; readonly counter: 'proxy_arp' | 'proxy_ndp' }
  /** Only for a request with a frame: it goes on as if sent to this unicast MAC. */
  | { readonly kind: 'redirect'; readonly to: MacAddress };

export interface TargetEntry {
  readonly mac: MacAddress;
  readonly state: 'valid' | 'drop' | 'pending';
  /** More than one = flood. */
  readonly to: readonly Destination[];
  readonly facts?: TargetFacts | undefined;
}

export interface TargetEntries {
  readonly entries: readonly TargetEntry[];
  /** The MAC after which the next page begins; undefined if there is none. */
  readonly next: MacAddress | undefined;
}

export type { CapturedFrame, CapturePoint, FrameCapture } from './capture-contract.js';
export type { DroppedFrame, DropReport } from '../model/drop-report.js';

/** A target that the plugin pushes. Without destinations: the MAC is forgotten. */
export type PushedTarget = TargetRow;

/** A target from before a restart. */
export type KnownTarget = RestoredTarget;

/** Peers and targets from before a restart. */
export interface KnownPlaces {
  /** The list of `setPeers`. */
  readonly peers: readonly IpAddress[];
  /** Each target is used at once, and its use causes a question. The latest used come first. */
  readonly targets: readonly KnownTarget[];
}

/** An open TAP or socket, with the name by which another process finds it. */
export interface Descriptor {
  readonly name: string;
  readonly fd: number;
}

/** Lists of commands, one per thread, for a datapath that moves frames to known targets. Only the datapath
 * that made a list can read it. */
export type Lists = readonly (readonly unknown[])[];

/** The parts of the datapath that the next varpd can continue with. */
export interface Handover {
  readonly descriptors: readonly Descriptor[];
  /** Lists for a datapath on these descriptors. */
  readonly lists: Lists;
}

/** The parts that another process needs to move frames beside this one. */
export interface Retained {
  /** The descriptors of now. They stay open in this process until `release`, unless their overlay or port is
   * removed. */
  readonly descriptors: readonly number[];
  /** The descriptors at the time of the call with which the next varpd can continue if this one does not end
   * normally. */
  named(): readonly Descriptor[];
  readonly threads: number;
  /** The lists at the time of the call, without overlays and ports that have come or gone since `retain`. */
  lists(): Promise<Lists>;
}

/** Descriptors and devices that an earlier varpd left, and those for the next one. */
export interface Inherited {
  /** Takes an open descriptor, which then belongs to the caller; undefined if there is none of this name. */
  readonly take: (name: string) => number | undefined;
  /** Returns the descriptor without taking it. */
  readonly look: (name: string) => number | undefined;
  /** Gives back descriptors that were taken and cannot be used now, for the next attempt. */
  readonly giveBack: (descriptors: readonly Descriptor[]) => void;
  /** Keeps open descriptors for the next varpd, however this one ends. */
  readonly keep: (descriptors: readonly Descriptor[]) => void;
  /** Keeps these no longer. Resolves when no other process has them open. */
  readonly forget: (names: readonly string[]) => Promise<void>;
  /** Records of varpd's persistent devices, by the name of their port. */
  readonly links: {
    find(port: string): { readonly name: string } | undefined;
    record(port: string, number: number): void;
    forget(port: string): void;
    /** The device is found by either name, until one of them is recorded or forgotten. */
    rename(from: string, to: string, number: number): void;
  };
  /** Whether devices outlive this varpd, however it ends. */
  readonly persistTaps: boolean;
  /** Whether a stand-in moves frames until `begin`. */
  readonly hasStandIn: boolean;
}

/** A port of an overlay: the TAP that `addPort` opened. */
export interface PortHandle {
  readonly name: string;
  /** The device, in any namespace and with any settings; undefined if it is gone. */
  device(): PortDeviceInfo | undefined;
  /** Restores settings that other programs have changed on the device, as far as they belong to varpd.
   * `device`: its name, while it is in the network namespace of varpd. `tun`: the kernel's facts about it,
   * if they were just asked for. */
  check(device: string | undefined, tun: TunInfo | undefined): PortFindings;
  /** Notes whether the interface is down: then no station is behind it. */
  setDown(isDown: boolean): void;
  /** Sets the MTU of the device, unless it has another one than `before`: then another program has set it. A device in
   * another namespace keeps its MTU, since only a process there may set it. Returns whether it was set. Throws the
   * system's error. */
  setMtu(mtuBytes: number, before: number): boolean;
  /** Renames the device, and the port with it. Returns what is to be called when the new name is stored: until then the
   * next varpd finds the device by the stored name, whichever that is. Throws the system's error: EBUSY if the device is up
   * and the kernel older than 6.2, ENODEV if it is gone or in another network namespace. */
  rename(name: string): () => void;
  /** Gives the device another MAC. Throws the system's error: ENODEV as `rename`. */
  setAddress(mac: MacAddress): void;
  /** Sets the VLAN, as `PortConfig.vid`, from the next batch on. */
  setVid(vid: number): void;
  /** Sets the rules from the next batch on. Undefined = any frame may be sent. */
  setProtection(rules: ProtectionRules | undefined): void;
  /** Notes the device's new MAC and its rules, from the next batch on. */
  setMac(mac: MacAddress, rules: ProtectionRules | undefined): void;
  /** Counters by name, zeros included. */
  counters(): Record<string, number>;
  /** To be called after a portFault as well. Resolves when the device is closed. */
  remove(): Promise<void>;
}

/** The handle of an overlay. */
export interface OverlayDatapath extends ProbedDatapath, ExplainedDatapath, WatchedDatapath {
  /** Opens the TAP, sets MAC and MTU and brings it up. Throws the system's error. A TAP that an earlier varpd
   * left is taken over as it is: settings of other programs stay. */
  addPort(config: PortConfig): PortHandle;
  /** Sets the carrier that software sees on the overlay's ports, later ports included. */
  setCarrier(on: boolean): void;
  /** Puts other settings in force, all or nothing; frames go on. New sockets are opened before the old ones are closed. All
   * targets are forgotten, as by `invalidate`, if the overlay becomes another network or has another listen address.
   * Resolves when the old ones are closed. Rejects with the system's error or an OverlayError, and nothing has changed
   * then. An address of another family is not for a running overlay: its destinations are of the old one. */
  change(settings: OverlaySettings): Promise<void>;
  /** Mode point: sets the destination of every frame that is not local. */
  setDestination(destination: Destination): void;
  /** Sets the destinations with routes that lead back into the overlay. Frames to them are dropped. The list
   * replaces the one before. */
  setLoops(destinations: readonly IpAddress[]): void;
  /** Sets what has to be known of routes: frames to a destination that are larger than its route carries are dropped, and
   * superframes may leave as tunnel frames by the link that it names. The list replaces the one before. */
  setRoutes(routes: readonly RouteFacts[]): void;

  /** Answers a question. The answer is ignored if the MAC has been invalidated since. */
  answer(lookup: number, answer: LookupAnswer): void;
  /** Sets a target and sends the frames that wait for it. An empty list = drop. */
  setTarget(mac: MacAddress, to: readonly Destination[], ttlMs: number, origin: 'set' | 'pushed'): void;
  /** Sets targets that the plugin pushes, and sends the frames that wait for them. Costs this thread some 2 us a row,
   * so that a long list is to be handed over in parts. Datapath threads take a list in slices, and later commands
   * to the overlay after it. */
  setTargets(rows: readonly PushedTarget[]): void;
  /** Forgets these MACs, or all if `macs` is undefined, stale ones too. The plugin is asked again about MACs that
   * frames wait for. Long lists as for `setTargets`. */
  invalidate(macs?: readonly MacAddress[]): void;
  setPeers(peers: readonly IpAddress[]): void;
  /** The latest list of `setPeers`. */
  readonly namedPeers: readonly IpAddress[];
  /** Delivers a frame without tags to every port except the one that has its source MAC. It never enters the
   * tunnel. */
  announce(frame: Uint8Array): void;
  /** Resolves to whether the MAC was there. */
  deleteTarget(mac: MacAddress): Promise<boolean>;
  /** Returns entries with MACs above `after`, in ascending order. An entry that exists from the first page to
   * the last is returned once. */
  targets(after: MacAddress, limit: number): Promise<TargetEntries>;
  /** Returns at most `limit` unicast MACs that frames are sent to, the latest used first. */
  recentTargets(limit: number): Promise<readonly TargetEntry[]>;
  /** Returns the number of entries in the target table, in any state; with several threads, in the largest of their tables. */
  targetCount(): Promise<number>;
  peers(): PeerList;
  /** The peers that are destinations or that frames have come from: some thousands at most, however many the plugin names. */
  recordedPeers(): readonly PeerReport[];
  /** Says for each address where frames to it go, and which stations live there. */
  describePeers(ips: readonly IpAddress[]): Promise<readonly PeerPlace[]>;
  /** Copies frames by these rules: all frames that come after it has resolved. */
  capture(rules: CaptureRules): Promise<FrameCapture>;
  /** Counters by name, zeros included. Not to be called after the overlay's end. */
  counters(): Record<string, number>;
  /** Reasons for which frames were dropped, by these counters, with the last frame of each. Not after its end. */
  drops(counters: Readonly<Record<string, number>>): readonly DropReport[];
  readonly sending: Sending;
  /** The offloads in force: the overlay wants them, and this kernel has them. */
  readonly offloads: readonly Offload[];
  /** Stops events to the listener; frames to known targets are still moved. */
  mute(): void;
  /** Ends the overlay and its ports, and events to the listener. Resolves when every descriptor is closed. */
  remove(): Promise<void>;
  /** Does the same after a start that failed, but keeps open what an earlier varpd left, for the next
   * attempt. */
  withdraw(): Promise<void>;
}

/** Events of an overlay. None comes before `addOverlay` has resolved. */
export interface OverlayListener {
  /** Misses: one per unicast MAC in flight, one per frame to a group MAC. Each awaits an answer. */
  lookups(requests: readonly LookupRequest[]): void;
  /** The device of a port no longer works, and the datapath has released it. `code` is the errno name. */
  portFault(port: PortHandle, code: string): void;
  /** Leases that DHCP servers granted to ports with ip-nospoof, or that these have given up. */
  leased(news: readonly LeaseNews[]): void;
  /** Underlay addresses that frames are now sent to, and those that they no longer are. */
  peers(added: readonly IpAddress[], removed: readonly IpAddress[]): void;
  /** Packets to this underlay address that are larger are dropped from now on. */
  pathLearned(to: IpAddress, mtuBytes: number): void;
  /** Notices for the log, at most one a second of each kind and thread. */
  noticed(notices: readonly Notice[]): void;
}

export interface Datapath {
  /** Starts the threads that the overlay needs and binds its underlay sockets. Rejects with the system's
   * error if the address or the port cannot be had, and with an OverlayError if a thread does not start;
   * then nothing has changed. */
  addOverlay(config: OverlayConfig, listener: OverlayListener): Promise<OverlayDatapath>;
  /** Returns whether an earlier varpd left a device for this port. */
  hasLeft(port: string): boolean;
  /** Removes a device that an earlier varpd left, if there is one and no port has it. */
  discard(port: string): void;

  /** Returns the bytes of IP packet that the route from the listen address to `to` carries, without regard to
   * ICMP. Throws the system's error. */
  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number;
  /** Counters of frames that were dropped before their overlay was known, by listen address and port. The
   * counters of each overlay there include them. */
  socketCounters(): ReadonlyMap<string, Record<string, number>>;
  /** Kernel features, found by trying them. */
  readonly features: Readonly<Record<string, boolean>>;
  /** Resolves when every datapath thread has replied, which shows that it runs. */
  ping(): Promise<void>;
  /** Resolves when frames are moved here. Until then a stand-in has moved them, if there was one. Rejects
   * with an OverlayError if no datapath thread starts. */
  begin(): Promise<void>;
  /** Retains all that is not temporary. */
  retain(): Retained;
  /** Ends the datapath threads, and with them all traffic. The caller gets all that the next varpd can
   * continue with; other descriptors are closed. */
  release(): Promise<Handover>;
  /** Ends the datapath threads and closes every descriptor, unless `release` has done so. */
  close(): Promise<void>;
}
