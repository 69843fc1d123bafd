/** A port of an overlay, as the forwarding policy sees it. */
import type { Allowance } from './queues/allowance.js';
import type { Counters } from './counts/counters.js';
import type { LinkProtection } from './protection/link-protection.js';
import type { OutputList } from './outputs.js';
import type { Presence } from './presence.js';
import type { TunnelEnds } from './tables/tunnel-ends.js';

export interface Port {
  name: string;
  /** Changed by `Overlay.setPortMac` alone. */
  macHigh: number;
  macLow: number;
  /** 0 = every VLAN, tags untouched. */
  vid: number;
  /** The port also takes unicast frames for MACs that no other port has. */
  readonly own: boolean;
  readonly output: OutputList;
  /** Rate of ICMP answers to frames that are too big. */
  readonly answers: Allowance;
  /** Rate of questions about its frames. */
  readonly questions: Allowance;
  readonly counters: Counters;
  /** Says whether a station with the port's MAC is behind the port. */
  readonly presence: Presence;
  readonly tunnelEnds: TunnelEnds;
  /** Rules for the frames that its owner may send. Undefined = any frame. May change at any time between two
   * batches. */
  protection: LinkProtection | undefined;
}
