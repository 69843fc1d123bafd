/** A port of an overlay, as the policy sees it. */
import type { Allowance } from './allowance.js';
import type { Counters } from './counters.js';
import type { LinkProtection } from './link-protection.js';
import type { OutputList } from './outputs.js';
import type { Presence } from './presence.js';

export interface Port {
  readonly name: string;
  /** Changed by `Overlay.setPortMac` alone. */
  macHigh: number;
  macLow: number;
  /** 0 = every VLAN, tags untouched. */
  readonly vid: number;
  /** Also takes unicast frames that no other port claims. */
  readonly own: boolean;
  readonly output: OutputList;
  /** To frames that are too big. */
  readonly answers: Allowance;
  /** What its frames may have asked. */
  readonly questions: Allowance;
  readonly counters: Counters;
  /** Whether a station with its MAC is behind it. */
  readonly presence: Presence;
  /** What its owner may send. Undefined = anything; may change at any time between two batches. */
  protection: LinkProtection | undefined;
}
