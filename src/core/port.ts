/** A port of an overlay, as the policy sees it. */
import type { Counters } from './counters.js';
import type { LinkProtection } from './link-protection.js';
import type { OutputList } from './outputs.js';
import type { Presence } from './presence.js';
import type { AnswerLimit } from './too-big.js';

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
  readonly answers: AnswerLimit;
  readonly counters: Counters;
  /** Whether a station with its MAC is behind it. */
  readonly presence: Presence;
  /** What its owner may send. Undefined = anything; may change at any time between two batches. */
  protection: LinkProtection | undefined;
}
