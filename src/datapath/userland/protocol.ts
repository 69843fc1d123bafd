/**
 * Messages between the control side and a datapath thread. Commands are posted in lists and obeyed in order.
 * After posting, the control side signals the thread's eventfd. Descriptors in a command belong to the thread
 * until it replies to their removal or reports a `fault`; then the control side closes them.
 */
import type { AddressTable } from '../../core/tables/address-table.js';
import type { AskedLeases } from '../../core/protection/asked-leases.js';
import type { RingMemory } from '../../core/capture/capture-ring.js';
import type { CaptureRules } from '../../core/capture/capture-tap.js';
import type { Counters } from '../../core/counts/counters.js';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { Explained } from '../../core/dry-run/dry-facts.js';
import type { DryFrame } from '../../core/dry-run/dry-run.js';
import type { DropExamples } from '../../core/counts/drop-examples.js';
import type { ProtectionRules } from '../../core/protection/link-protection.js';
import type { Notice } from '../../core/notices.js';
import type { PathReport } from '../../core/overlay-options.js';
import type { OverlayOptions, Question } from '../../core/overlay.js';
import type { PeerPlaces } from '../../core/peers/peer-places.js';
import type { PeerMemory } from '../../core/peers/peer-records.js';
import type { PresenceMemory } from '../../core/presence.js';
import type { ProbeFrame, ProbeNews, ProbeRules } from '../../core/probe/probe.js';
import type { StationMemory } from '../../core/tables/stations.js';
import type { RestoredTarget, TargetList } from '../../core/tables/target-list.js';
import type { TargetDescription, TargetScan } from '../../core/tables/target-rows.js';
import type { Origin } from '../../core/tables/target-table.js';
import type { EncapsulationName } from '../../encap/contract.js';
import type { RouteFacts } from '../../model/underlay-state.js';
import type { Endpoint, IpAddress } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';
import type { LookupAnswer } from '../contract.js';

/** Number of a socket or a port, and its epoll token. */
export type Token = number;

/** The epoll token of the eventfd. */
export const WAKE: Token = 0;

export type Command =
  | {
      readonly kind: 'add-socket';
      readonly token: Token;
      readonly fd: number;
      /** As in OverlayOptions. */
      readonly encapsulation?: EncapsulationName;
      readonly counters: Counters;
      /** Without it no dropped frame is noted. */
      readonly examples?: DropExamples;
    }
  | { readonly kind: 'remove-socket'; readonly token: Token; readonly reply: number }
  /** A socket that overlays on `socket` send from. The thread reads its ICMP messages. It may be `socket`
   * itself. */
  | { readonly kind: 'add-sender'; readonly token: Token; readonly fd: number; readonly socket: Token }
  | { readonly kind: 'remove-sender'; readonly token: Token; readonly reply: number }
  | {
      readonly kind: 'add-overlay';
      readonly options: OverlayOptions;
      readonly socket: Token;
      /** One descriptor per source port. */
      readonly senderFds: readonly number[];
      /** Whether these sockets take several datagrams in one message. */
      readonly segmentation: boolean;
      /** The tunnel port. Undefined: no superframe leaves as a tunnel frame. */
      readonly tunnelFd?: number | undefined;
      /** Mode point: shared by all threads that carry the overlay. */
      readonly stations?: StationMemory;
      readonly counters: Counters;
      /** Without it no dropped frame is noted. */
      readonly examples?: DropExamples;
    }
  /** Other options and sockets for an overlay, from the next batch on. The sockets of before are no longer used when
   * this is replied to. */
  | {
      readonly kind: 'change-overlay';
      readonly options: OverlayOptions;
      readonly socket: Token;
      readonly senderFds: readonly number[];
      readonly segmentation: boolean;
      readonly tunnelFd?: number | undefined;
      readonly reply: number;
    }
  | { readonly kind: 'remove-overlay'; readonly overlay: number; readonly reply: number }
  | {
      readonly kind: 'add-port';
      readonly token: Token;
      readonly overlay: number;
      readonly name: string;
      readonly fd: number;
      /** Bytes of the virtio-net header of the TAP. */
      readonly headerBytes: number;
      readonly mac: MacAddress;
      readonly vid: number;
      readonly own: boolean;
      /** Undefined: its owner may send any frame. */
      readonly protection?: ProtectionRules | undefined;
      /** Shared by all queues of the port, if there are several. */
      readonly askedLeases?: AskedLeases;
      readonly presence?: PresenceMemory;
      readonly counters: Counters;
    }
  /** The port's device has another MAC, with rules for that MAC. */
  | {
      readonly kind: 'set-mac';
      readonly token: Token;
      readonly mac: MacAddress;
      readonly protection: ProtectionRules | undefined;
    }
  | { readonly kind: 'set-vid'; readonly token: Token; readonly vid: number }
  | { readonly kind: 'protect'; readonly token: Token; readonly protection: ProtectionRules | undefined }
  | { readonly kind: 'rename-port'; readonly token: Token; readonly name: string }
  | { readonly kind: 'remove-port'; readonly token: Token; readonly reply: number }
  | {
      readonly kind: 'answer';
      readonly overlay: number;
      readonly lookup: number;
      readonly answer: LookupAnswer;
    }
  | {
      readonly kind: 'set-target';
      readonly overlay: number;
      readonly mac: MacAddress;
      readonly to: readonly Endpoint[];
      readonly ttlMs: number;
      readonly staleMs?: number | undefined;
      readonly origin: Origin;
    }
  /** The answer to a question of another thread. */
  | {
      readonly kind: 'learn';
      readonly overlay: number;
      readonly mac: MacAddress;
      readonly answer: LookupAnswer;
    }
  /** Targets that the plugin pushes. */
  | {
      readonly kind: 'set-targets';
      readonly overlay: number;
      readonly list: TargetList;
      /** The rows to be set: those from `from` on and before `end`. */
      readonly from: number;
      readonly end: number;
    }
  /** `macs` undefined = all. */
  | { readonly kind: 'invalidate'; readonly overlay: number; readonly macs: Float64Array | undefined }
  /** The overlay is in mode point from now on. */
  | { readonly kind: 'set-destination'; readonly overlay: number; readonly destination: Endpoint }
  /** Replaces the peers that the plugin names. The table is not written any more. */
  | { readonly kind: 'set-peers'; readonly overlay: number; readonly table: AddressTable }
  /** Replaces the destinations with routes that lead back into the overlay. */
  | { readonly kind: 'set-loops'; readonly overlay: number; readonly destinations: readonly IpAddress[] }
  /** Replaces what is known of the overlay's routes. The name is that of earlier versions, which knew MTUs alone: a process
   * of another version may read the command. */
  | { readonly kind: 'set-route-mtus'; readonly overlay: number; readonly routes: readonly RouteFacts[] }
  /** Path news of another thread. */
  | { readonly kind: 'paths'; readonly news: readonly PathReport[] }
  | { readonly kind: 'announce'; readonly overlay: number; readonly frame: Uint8Array }
  | {
      readonly kind: 'delete-target';
      readonly overlay: number;
      readonly mac: MacAddress;
      readonly reply: number;
    }
  /** Scans some rows of the target table: target-rows.ts. */
  | {
      readonly kind: 'scan-targets';
      readonly overlay: number;
      readonly from: number;
      readonly after: MacAddress;
      readonly before: MacAddress;
      readonly reply: number;
    }
  | {
      readonly kind: 'scan-recent';
      readonly overlay: number;
      readonly from: number;
      readonly maxIdleTicks: number;
      readonly reply: number;
    }
  | {
      readonly kind: 'describe-targets';
      readonly overlay: number;
      readonly macs: Float64Array;
      readonly reply: number;
    }
  /** Says where frames to these peers go, and which MACs live there, out of some rows of the target table. */
  | {
      readonly kind: 'describe-peers';
      readonly overlay: number;
      readonly ips: readonly IpAddress[];
      readonly from: number;
      readonly reply: number;
    }
  /** Says what would be done with a frame. Nothing is done. */
  | {
      readonly kind: 'explain';
      readonly overlay: number;
      readonly frame: DryFrame;
      readonly reply: number;
    }
  | { readonly kind: 'count-targets'; readonly overlay: number; readonly reply: number }
  /** Targets from before a restart, to be confirmed when used. The latest used comes first. */
  | {
      readonly kind: 'restore-targets';
      readonly overlay: number;
      readonly targets: readonly RestoredTarget[];
    }
  /** For a thread that is held: it looks at its devices from now on. */
  | { readonly kind: 'begin'; readonly reply: number }
  /** Frames of the overlay are copied into the ring from now on; nothing if there is no such overlay. */
  | {
      readonly kind: 'start-capture';
      readonly capture: number;
      readonly overlay: number;
      readonly rules: CaptureRules;
      readonly ring: RingMemory;
    }
  /** Every record is in the ring when this is replied to. */
  | { readonly kind: 'stop-capture'; readonly capture: number; readonly reply: number }
  /** Replaces the probe before. */
  | { readonly kind: 'start-probe'; readonly overlay: number; readonly rules: ProbeRules }
  /** One thread sends. The replies may come to any, so each has the probe. */
  | {
      readonly kind: 'send-probe';
      readonly overlay: number;
      /** Name of the port. */
      readonly port: string;
      readonly frames: readonly ProbeFrame[];
    }
  | { readonly kind: 'stop-probe'; readonly overlay: number; readonly reply: number }
  | { readonly kind: 'ping'; readonly reply: number }
  | { readonly kind: 'stop' };

/** Entries of a list that a thread obeys in one slice: below 0.2 ms, even if all of them are to be
 * forgotten. */
export const LIST_SLICE = 64;

/** Commands to one overlay about its target table, which are obeyed in order (command-backlog.ts). */
export const TABLE_COMMANDS = [
  'answer',
  'learn',
  'set-target',
  'set-targets',
  'invalidate',
  'set-destination',
  'set-loops',
  'announce',
  'delete-target',
  'scan-targets',
  'scan-recent',
  'describe-targets',
  'describe-peers',
  'explain',
  'restore-targets',
] as const satisfies readonly Command['kind'][];
export type TableCommand = Extract<Command, { kind: (typeof TABLE_COMMANDS)[number] }>;

/** A command without counters, for another process: counters are memory of this one. */
export type BareCommand<C = Command> = C extends { readonly counters: Counters }
  ? Omit<C, 'counters' | 'examples'>
  : C;

export interface PeerChange {
  readonly overlay: number;
  readonly ip: IpAddress;
  readonly isPeer: boolean;
}

export type Report =
  | { readonly kind: 'lookups'; readonly questions: readonly Question[] }
  | { readonly kind: 'leases'; readonly news: readonly LeaseNews[] }
  | { readonly kind: 'peers'; readonly changes: readonly PeerChange[] }
  /** The records of an overlay's peers are in this memory from now on (core/peers/peer-records.ts). */
  | { readonly kind: 'peers-moved'; readonly overlay: number; readonly memory: PeerMemory }
  /** At most one a second of each overlay and kind. */
  | { readonly kind: 'notices'; readonly notices: readonly Notice[] }
  | { readonly kind: 'probes'; readonly news: readonly ProbeNews[] }
  /** For the other threads: path news that this thread believes, or would if it had used the destination
   * lately. */
  | { readonly kind: 'paths'; readonly news: readonly (PathReport & { readonly isBelieved: boolean })[] }
  /** The port's device no longer works, and the thread has released it. */
  | { readonly kind: 'fault'; readonly token: Token; readonly errno: number }
  | {
      readonly kind: 'reply';
      readonly reply: number;
      readonly value: boolean | number | TargetScan | TargetDescription | PeerPlaces | Explained | undefined;
    };
