/** Reads the tables of a datapath thread: a target table a part at a time (core/tables/target-rows.ts), or what one
 * frame depends on (core/dry-run/dry-facts.ts). */
import { explain, type Explained } from '../../../core/dry-run/dry-facts.js';
import { describePeers, type PeerPlaces } from '../../../core/peers/peer-places.js';
import type { Overlay } from '../../../core/overlay.js';
import {
  describeTargets,
  scanRecent,
  scanTargets,
  type TargetDescription,
  type TargetScan,
} from '../../../core/tables/target-rows.js';
import type { Command } from '../protocol.js';

type Inspection = Extract<
  Command,
  { kind: 'scan-targets' | 'scan-recent' | 'describe-targets' | 'describe-peers' | 'explain' }
>;

/** The scan of an overlay that is gone. */
const NO_SCAN: TargetScan = { macs: new Float64Array(0), idleTicks: new Int32Array(0), next: undefined };

export function inspect(
  overlay: Overlay | undefined,
  command: Inspection,
): TargetScan | TargetDescription | PeerPlaces | Explained | undefined {
  switch (command.kind) {
    case 'scan-targets':
      return overlay ? scanTargets(overlay, command.from, command.after, command.before) : NO_SCAN;
    case 'scan-recent':
      return overlay ? scanRecent(overlay, command.from, command.maxIdleTicks) : NO_SCAN;
    case 'describe-peers':
      return overlay ? describePeers(overlay, command.ips, command.from) : { places: [], next: undefined };
    case 'describe-targets':
      return overlay ? describeTargets(overlay, command.macs) : { rows: [], count: command.macs.length };
    case 'explain':
      return overlay && explain(overlay, command.frame);
  }
}
