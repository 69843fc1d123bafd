/** The inputs of an overlay: the parts that it shares with the other overlays of its thread, and the
 * operator's choices. */
import type { EncapsulationName } from '../encap/contract.js';
import type { Alarms } from './queues/alarms.js';
import type { FrameBatch } from '../wire/descriptor.js';
import type { Endpoint, IpAddress } from '../wire/ip.js';
import type { Destinations } from './tables/destinations.js';
import type { DropContext } from './counts/drops.js';
import type { Question } from './lookup.js';
import type { LoopbackReplies } from './probe/loopback-replies.js';
import type { Notice } from './notices.js';
import type { Outputs } from './outputs.js';
import type { PeerMemory } from './peers/peer-records.js';
import type { PendingBudget } from './queues/pending-queue.js';
import type { ProbeNews } from './probe/probe.js';

/** Returns the bytes of an IP packet that the route and its device carry; negative if there is no route. */
export type RouteMtuBytes = (from: IpAddress, to: IpAddress) => number;

/** A path MTU that this thread has believed, or that a thread would believe that has used the destination
 * lately. */
export interface PathReport {
  /** Id of the overlay that sent the quoted frame; undefined if the quotation is too short to tell. */
  readonly overlay: number | undefined;
  readonly to: Endpoint;
  readonly mtuBytes: number;
}

/** The parts that all overlays of a thread share. */
export interface Shared extends DropContext {
  readonly outputs: Outputs;
  readonly destinations: Destinations;
  readonly budget: PendingBudget;
  /** The batch from which frames are sent that have waited. */
  readonly replay: FrameBatch;
  readonly alarms: Alarms;
  /** Random numbers from 0 to below 1. */
  readonly random: () => number;
  readonly ask: (question: Question) => void;
  readonly routeMtuBytes: RouteMtuBytes;
  /** Reports a path MTU from ICMP, and whether this thread believes it; another thread may decide otherwise. */
  readonly pathHeard: (report: PathReport, isBelieved: boolean) => void;
  /** Reports that an underlay address has become a destination of an overlay, or is none any more. */
  readonly peerChanged: (overlay: number, ip: IpAddress, isPeer: boolean) => void;
  /** The records of an overlay's peers are in this memory from now on. */
  readonly peersMoved: (overlay: number, memory: PeerMemory) => void;
  readonly notice: (notice: Notice) => void;
  /** Replies to loopback messages, which the next turn sends. */
  readonly replies: LoopbackReplies;
  readonly probed: (news: ProbeNews) => void;
  nowTick: number;
}

export interface OverlayOptions {
  readonly id: number;
  /** Undefined = VXLAN: a varpd of an older version has no other encapsulation and leaves this out. */
  readonly encapsulation?: EncapsulationName;
  readonly vnetid: number;
  readonly mtuBytes: number;
  /** The source of frames sent, and the destination of MACs that live at this host. */
  readonly listen: Endpoint;
  /** Mode point: the destination of every frame that is not local. Undefined in mode dynamic. */
  readonly destination: Endpoint | undefined;
  readonly acceptAny: boolean;
  /** An inner source must live at the VTEP that sent it (strict-source.ts). */
  readonly strictSource: boolean;
  readonly carryTags: boolean;
  readonly copyDscp: boolean;
  /** Frames that arrived as one run go to a port one by one, not as a superframe. */
  readonly keepApart: boolean;
  /** Frames inside a UDP tunnel of the stack are put together as other datagrams, not inside the tunnel. Undefined =
   * not: an older varpd leaves this out. */
  readonly keepTunnels?: boolean;
  readonly negativeTtlMs: number;
  readonly maxTargets: number;
  /** Loopback messages to the MACs of ports are answered (loopback.ts). Undefined = not: an older varpd leaves
   * this out. */
  readonly answersLoopback?: boolean;
}
