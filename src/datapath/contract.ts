/**
 * What the control side asks of the datapath, and hears from it. `addOverlay` returns the handle of an overlay, `addPort`
 * that of a port: all that concerns one of them is said to its handle, and its news come to the listener it was added with.
 *
 * The control side (main thread) opens and closes descriptors, so that errors appear where the operator waits;
 * datapath threads own them in between. Everything here is called on the main thread. A handle is harmless after its end:
 * an answer may come late, a device may vanish at any moment.
 */
import type { CaptureRules } from '../core/capture-tap.js';
import type { LeaseNews } from '../core/dhcp-leases.js';
import type { ProtectionRules } from '../core/link-protection.js';
import type { Notice } from '../core/notices.js';
import type { LinkInfo, TunInfo } from '../dgram-extra/index.js';
import type { EncapsulationName } from '../encap/contract.js';
import type { DropReason, ProxyDrop } from '../model/drops.js';
import type { RouteMtu } from '../model/underlay-state.js';
import type { Destination, MacAddress } from '../plugin/contract.js';
import type { Endpoint, IpAddress } from '../wire/ip.js';

/** One overlay as the datapath needs it. `id` is `varpd/id`: no two overlays have the same. */
export interface OverlayConfig {
  readonly id: number;
  readonly encapsulation: EncapsulationName;
  readonly vnetid: number;
  readonly mtuBytes: number;
  /** `point`: every frame that is not local goes to `destination`. `dynamic`: asked per MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly destination?: Destination;
  /** <encap>/listen_ip and <encap>/listen_port. */
  readonly listen: Endpoint;
  /** The listen address need not be there yet: its links are, and go on when it comes. */
  readonly mayLackAddress?: boolean;
  /** Threads that carry it, each with a socket and a queue of every port. */
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
  /** Whether the stack hands over and takes superframes, which are cut and put together here; or frame by frame. */
  readonly offload: 'auto' | 'off';
  /** How long a drop without a ttl of its own lasts. */
  readonly negativeTtlMs: number;
  /** Entries of the target table; the least recently used one makes room. */
  readonly maxTargets: number;
  /** What an earlier daemon knew: in force before the first frame. */
  readonly known: KnownPlaces;
}

export interface PortConfig {
  /** Name of the TAP. */
  readonly name: string;
  readonly mac: MacAddress;
  /** Gone with this daemon, whatever happens to the others. */
  readonly temporary: boolean;
  /** 0 = carries every VLAN, tags untouched; else untagged here, tagged with this id on the overlay. */
  readonly vid: number;
  readonly mtuBytes: number;
  /** What an earlier daemon set; a device that has another MTU was set by somebody else, and keeps it. */
  readonly previousMtuBytes?: number | undefined;
  /** The overlay's own port also takes unicast frames that no VNIC claims (a bridge may stand behind it). */
  readonly own: boolean;
  /** What its owner may send; anything when left out. */
  readonly protection?: ProtectionRules | undefined;
}

/** What the descriptor of a port says of its device. */
export interface PortDeviceInfo {
  readonly name: string;
  readonly mac: MacAddress;
  /** In the network namespace of varpd. */
  readonly isHere: boolean;
  /** Asks the kernel what it is in another namespace, and is told as far as the kernel tells. */
  readonly elsewhere?: (() => LinkInfo | undefined) | undefined;
}

/** What others have set on the device of a port. Of each a few words, that follow "its interface" but in `mended`. */
export interface PortFindings {
  /** It was so, and has been set right. */
  readonly mended: readonly string[];
  /** It is so from now on, stays, and is no trouble. */
  readonly noted: readonly string[];
  /** It is so, and stays. */
  readonly troubles: readonly string[];
}

/** A frame waits: who is its destination? Answer with the same `lookup` number. */
export interface LookupRequest {
  readonly lookup: number;
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  readonly etherType: number;
  readonly vlan: number;
  /** Of a frame to a group MAC: its beginning, tags and all. The question is about this frame alone. */
  readonly frame?: Uint8Array;
}

/**
 * ttlMs Infinity = until it is flushed. For a request with a frame it may be 0: for this frame alone; a drop without
 * one is, too. `reason` says which counter the waiting frames go to.
 */
export type LookupAnswer =
  | { readonly kind: 'target'; readonly to: readonly Destination[]; readonly ttlMs: number }
  | {
      readonly kind: 'drop';
      readonly reason: 'lookup_drop' | 'lookup_timeout' | 'lookup_failed' | ProxyDrop;
      readonly ttlMs?: number;
    }
  /** Only for a request with a frame: this one goes to the port that sent it, which is counted as `counter`. */
  | { readonly kind: 'reply'; readonly frame: Uint8Array; readonly counter: 'proxy_arp' | 'proxy_ndp' }
  /** Only for a request with a frame: it goes on as if it had been sent to this unicast MAC. */
  | { readonly kind: 'redirect'; readonly to: MacAddress };

/**
 * checksum  the stack leaves checksums to us
 * tso, uso  and the cutting of TCP, of UDP
 * gso       many frames to one destination leave as one message, which the kernel cuts
 * gro       many frames of a flow arrive as one message, and go to the stack as one superframe
 */
export type Offload = 'checksum' | 'tso' | 'uso' | 'gso' | 'gro';

export interface TargetEntry {
  readonly mac: MacAddress;
  readonly state: 'valid' | 'drop' | 'pending';
  /** More than one = flood. */
  readonly to: readonly Destination[];
}

export interface TargetEntries {
  readonly entries: readonly TargetEntry[];
  /** What the next page comes after; undefined when there is none. */
  readonly next: MacAddress | undefined;
}

export type KnownTarget = Pick<TargetEntry, 'mac' | 'to'>;

/** Where peers and MACs were before a restart. */
export interface KnownPlaces {
  /** As `setPeers` was told. */
  readonly peers: readonly IpAddress[];
  /** Used at once, and looked up again when they are. Those used last come first. */
  readonly targets: readonly KnownTarget[];
}

/** An open TAP or socket, by a name under which another process finds it. */
export interface Descriptor {
  readonly name: string;
  readonly fd: number;
}

/** What a datapath that moves what is known is told: one list a thread. Only the datapath that made it can read it. */
export type Lists = readonly (readonly unknown[])[];

/** What the next daemon can go on with. */
export interface Handover {
  readonly descriptors: readonly Descriptor[];
  /** For a datapath on these descriptors. */
  readonly lists: Lists;
}

/** What another process needs to move frames beside this one. */
export interface Retained {
  /** Those of now: open in this process until `release`, unless what they belong to is removed. */
  readonly descriptors: readonly number[];
  /** What the next daemon can go on with, as things are then, should this one not come to an end. */
  named(): readonly Descriptor[];
  readonly threads: number;
  /** As things are then. What has come since `retain` is left out, and so is what has gone. */
  lists(): Promise<Lists>;
}

/** What an earlier daemon has left, and what is left to the next one. */
export interface Inherited {
  /** An open descriptor, which is then the caller's; undefined when there is none of this name. */
  readonly take: (name: string) => number | undefined;
  /** The same without taking it. */
  readonly look: (name: string) => number | undefined;
  /** They were taken and could not be used just now: they are kept for the next attempt. */
  readonly giveBack: (descriptors: readonly Descriptor[]) => void;
  /** These are open, and are to be there for the next daemon, however this one ends. */
  readonly keep: (descriptors: readonly Descriptor[]) => void;
  /** And these no longer. Resolves when nobody else has them open. */
  readonly forget: (names: readonly string[]) => Promise<void>;
  /** Persistent devices: which are ours, by the name of their port. */
  readonly links: {
    find(port: string): { readonly name: string } | undefined;
    record(port: string, number: number): void;
    forget(port: string): void;
  };
  /** Devices outlive this daemon, however it ends. */
  readonly persistTaps: boolean;
  /** Somebody else moves frames until `begin`. */
  readonly hasStandIn: boolean;
}

/** Where a captured frame was seen. `from-socket`: a datagram that was dropped before its overlay or its frame was known. */
export type CapturePoint = 'from-port' | 'to-port' | 'to-tunnel' | 'from-tunnel' | 'from-socket';

export interface CapturedFrame {
  readonly point: CapturePoint;
  /** Its name; empty in the tunnel. */
  readonly port: string;
  /** Since 1970. */
  readonly timeNs: bigint;
  /** Of the frame, however much of it was copied. Of a datagram without a frame: from the tunnel's header on. */
  readonly frameBytes: number;
  /** The header of the tunnel, where there is one, and the frame, or its beginning. */
  readonly data: Uint8Array;
  /** Bytes of that header. */
  readonly leadBytes: number;
  /** What is left to do for the frame, as in wire/descriptor.ts. */
  readonly descriptor: Int32Array;
  readonly dropped: DropReason | undefined;
  /** Between which underlay sockets it goes; undefined at a port. */
  readonly from: Endpoint | undefined;
  readonly to: Endpoint | undefined;
  /** Of the outer packet. */
  readonly trafficClass: number;
}

/** Frames of an overlay, copied. Whoever is slow to take them loses some, and the traffic none. */
export interface FrameCapture {
  /** The oldest frame that was not taken yet; undefined when there is none now. */
  next(): CapturedFrame | undefined;
  /** Packets that there was no room for, by port; those of the tunnel under the empty name. */
  lost(): ReadonlyMap<string, number>;
  /** Nothing more comes in: it was stopped, or the overlay is gone. */
  readonly isOver: boolean;
  /** Resolves when nothing more comes in. What is in it can still be taken. */
  stop(): Promise<void>;
}

/** A port of an overlay: the TAP that `addPort` opened. */
export interface PortHandle {
  readonly name: string;
  /** The device, wherever it is and whatever others have made of it; undefined when it is gone. */
  device(): PortDeviceInfo | undefined;
  /** Sets right what others have set on the device, as far as it is varpd's to set. `device`: its name, while it is in the
   * network namespace of varpd; `tun`: what the kernel says of it, if it was asked just now. */
  check(device: string | undefined, tun: TunInfo | undefined): PortFindings;
  /** Whether the interface is down: nobody is behind it then. */
  setDown(isDown: boolean): void;
  /** In force from the next batch on. Undefined = it may send anything. */
  setProtection(rules: ProtectionRules | undefined): void;
  /** The device has this MAC now: in force from the next batch on, and with it these rules. */
  setMac(mac: MacAddress, rules: ProtectionRules | undefined): void;
  /** By name, zero ones included. */
  counters(): Record<string, number>;
  /** After a portFault as well. Resolves when the device is closed. */
  remove(): Promise<void>;
}

/** An overlay as its owner has it. */
export interface OverlayDatapath {
  /** Opens the TAP, sets MAC and MTU and brings it up; throws the system's error. One that an earlier daemon has left is
   * taken over as it is: whatever others have set on it stays. */
  addPort(config: PortConfig): PortHandle;
  /** What software on top of the overlay's ports sees of their cable; those that come later too. */
  setCarrier(on: boolean): void;
  /** Of a point overlay: every frame that is not local goes there from now on. */
  setDestination(destination: Destination): void;
  /** The destinations whose routes lead back into the overlay: frames to them are dropped. All of them, each time. */
  setLoops(destinations: readonly IpAddress[]): void;
  /** The destinations whose routes carry less than their devices: larger frames to them are dropped. All of them, each time. */
  setRouteMtus(routes: readonly RouteMtu[]): void;

  /** Thrown away when the MAC was invalidated since the question. */
  answer(lookup: number, answer: LookupAnswer): void;
  /** Frames that wait for this MAC are sent. An empty list = drop. */
  setTarget(mac: MacAddress, to: readonly Destination[], ttlMs: number): void;
  /** Forgets one MAC, or all when left out. What is pending is asked for again. */
  invalidate(mac?: MacAddress): void;
  setPeers(peers: readonly IpAddress[]): void;
  /** What `setPeers` was told last. */
  readonly namedPeers: readonly IpAddress[];
  /** Delivers a frame without tags to every port but the one that has its source MAC. Nothing enters the tunnel. */
  announce(frame: Uint8Array): void;
  /** Resolves to whether the MAC was there. */
  deleteTarget(mac: MacAddress): Promise<boolean>;
  /** Entries with MACs above `after`, in ascending order. One that is there from the first page to the last is told once. */
  targets(after: MacAddress, limit: number): Promise<TargetEntries>;
  /** At most `limit` unicast MACs that frames are sent to, the one used last first. */
  recentTargets(limit: number): Promise<readonly TargetEntry[]>;
  /** Entries of the target table, whatever their state; of several threads, of the largest. */
  targetCount(): Promise<number>;

  /** Copies frames by these rules: all that come once it has resolved. */
  capture(rules: CaptureRules): Promise<FrameCapture>;
  /** By name, zero ones included. Not after its end. */
  counters(): Record<string, number>;
  /** Those in force: the overlay has asked for them, and this kernel can. */
  readonly offloads: readonly Offload[];
  /** The listener hears nothing any more; frames to known targets go on. */
  mute(): void;
  /** Ends it and its ports; the listener hears nothing any more. Resolves when every descriptor is closed. */
  remove(): Promise<void>;
  /** The same for a start that failed: what an earlier daemon had left stays open, for the next attempt. */
  withdraw(): Promise<void>;
}

/** The owner of an overlay. Nothing comes before `addOverlay` has resolved. */
export interface OverlayListener {
  /** Misses: one per unicast MAC in flight, one per frame to a group MAC. Each awaits an answer. */
  lookups(requests: readonly LookupRequest[]): void;
  /** The device of a port no longer works; the datapath has let go of it. `code` is the errno name. */
  portFault(port: PortHandle, code: string): void;
  /** Ports with ip-nospoof were granted addresses by DHCP, or have given some up. */
  leased(news: readonly LeaseNews[]): void;
  /** Frames go to these underlay addresses now, or to them no longer. */
  peers(added: readonly IpAddress[], removed: readonly IpAddress[]): void;
  /** Larger packets to this underlay address are dropped from now on. */
  pathLearned(to: IpAddress, mtuBytes: number): void;
  /** Something for the log, of each kind and thread once a second at most. */
  noticed(notices: readonly Notice[]): void;
}

export interface Datapath {
  /** Starts the threads that it needs and binds the underlay sockets. Rejects with the system's error when the address or the
   * port cannot be had, and with an OverlayError when a thread does not start; then nothing has changed. */
  addOverlay(config: OverlayConfig, listener: OverlayListener): Promise<OverlayDatapath>;
  /** Whether an earlier daemon has left a device for this port. */
  hasLeft(port: string): boolean;
  /** Removes a device that an earlier daemon has left, if there is one and no port has it. */
  discard(port: string): void;

  /** Bytes of IP packet that the route from the listen address to `to` carries, whatever ICMP says; throws the system's error. */
  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number;
  /** By listen address and port: of what was dropped before its overlay was known, which the counters of each overlay
   * there tell of as well. */
  socketCounters(): ReadonlyMap<string, Record<string, number>>;
  /** Kernel features, found out by trying. */
  readonly features: Readonly<Record<string, boolean>>;
  /** Resolves when every datapath thread has come round to it: they live. */
  ping(): Promise<void>;
  /** Resolves when frames are moved here. Until then a stand-in has moved them, if there was one. Rejects with an OverlayError
   * when no datapath thread starts. */
  begin(): Promise<void>;
  /** What is temporary stays out of it. */
  retain(): Retained;
  /** Ends the datapath threads: nothing moves any more. The caller then has all that a next daemon can go on with; the rest is
   * closed. */
  release(): Promise<Handover>;
  /** Ends the datapath threads and closes every descriptor, unless `release` has. */
  close(): Promise<void>;
}
