/** Targets on their way into the threads: a few rows as a command each, many as lists. */
import { packTargets, type TargetRow } from '../../../core/tables/target-list.js';
import type { Link } from './thread.js';

/** Rows of `setTargets` that are no list: a list is a message of its own, and a plugin may push one row at a time. */
const MAX_SINGLE_ROWS = 8;

export function pushTargets(links: readonly Link[], overlay: number, rows: readonly TargetRow[]): void {
  if (rows.length <= MAX_SINGLE_ROWS) {
    for (const row of rows) pushTarget(links, overlay, row);
    return;
  }
  for (const list of packTargets(rows)) {
    const command = { kind: 'set-targets', overlay, list, from: 0, end: list.macs.length } as const;
    for (const link of links) link.post(command);
  }
}

/** A row without a destination withdraws what the overlay knows. */
function pushTarget(links: readonly Link[], overlay: number, row: TargetRow): void {
  for (const link of links)
    if (row.to.length === 0) link.invalidate(overlay, row.mac);
    else link.post({ kind: 'set-target', overlay, ...row, origin: 'pushed' });
}
