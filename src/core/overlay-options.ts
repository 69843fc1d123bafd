/** What an overlay is made with: what it shares with the others of its thread, and what the operator chose. */
import type { EncapsulationName } from '../encap/contract.js';
import type { FrameBatch } from '../wire/descriptor.js';
import type { Endpoint, IpAddress } from '../wire/ip.js';
import type { Destinations } from './destinations.js';
import type { DropContext } from './drops.js';
import type { Question } from './lookup.js';
import type { Notice } from './notices.js';
import type { Outputs } from './outputs.js';
import type { PendingBudget } from './pending-queue.js';

/** What the route and its device carry: bytes of IP packet, negative where there is no route. */
export type RouteMtuBytes = (from: IpAddress, to: IpAddress) => number;

/** What was believed here, or would be by a thread that has used the destination lately. */
export interface PathReport {
  /** Whose frame was quoted; undefined where that was too little to tell. */
  readonly overlay: number | undefined;
  readonly to: Endpoint;
  readonly mtuBytes: number;
}

/** What all overlays of a worker share. */
export interface Shared extends DropContext {
  readonly outputs: Outputs;
  readonly destinations: Destinations;
  readonly budget: PendingBudget;
  /** Frames that waited are sent from here. */
  readonly replay: FrameBatch;
  readonly ask: (question: Question) => void;
  readonly routeMtuBytes: RouteMtuBytes;
  /** What ICMP says of a path, and whether it is believed here; other threads may have a mind of their own. */
  readonly pathHeard: (report: PathReport, isBelieved: boolean) => void;
  /** An underlay address has become a destination of an overlay, or is none any more. */
  readonly peerChanged: (overlay: number, ip: IpAddress, isPeer: boolean) => void;
  readonly notice: (notice: Notice) => void;
  nowTick: number;
}

export interface OverlayOptions {
  readonly id: number;
  /** VXLAN where it is left out: by a varpd from before there were others. */
  readonly encapsulation?: EncapsulationName;
  readonly vnetid: number;
  readonly mtuBytes: number;
  /** The source of what is sent, and the destination of what lives at this host. */
  readonly listen: Endpoint;
  /** Mode point: where every frame that is not local goes. */
  readonly destination: Endpoint | undefined;
  readonly acceptAny: boolean;
  /** An inner source must live at the VTEP that sent it (strict-source.ts). */
  readonly strictSource: boolean;
  readonly carryTags: boolean;
  readonly copyDscp: boolean;
  /** Frames that arrived together go to a port one by one, not as superframes. */
  readonly keepApart: boolean;
  readonly negativeTtlMs: number;
  readonly maxTargets: number;
}
