/** Reads the target table of a datapath engine, as the control side of varpd does. */
import type { TargetDescription, TableRow, TargetScan } from '../core/tables/target-rows.js';
import type { Command } from '../datapath/userland/protocol.js';
import type { MacAddress } from '../wire/mac.js';

export const withoutFacts = ({ mac, state, to }: TableRow): TableRow => ({ mac, state, to });

/** Reads a whole table. `ask` is replied to at once. */
export function readTable(
  ask: (command: Command) => unknown,
  overlay: number,
  after: MacAddress = -1,
): readonly TableRow[] {
  const found: MacAddress[] = [];
  for (let from: number | undefined = 0; from !== undefined;) {
    const scan = ask({ kind: 'scan-targets', overlay, from, after, before: 2 ** 48, reply: 1 }) as TargetScan;
    found.push(...scan.macs);
    from = scan.next;
  }
  return readRows(ask, overlay, Float64Array.from(found).sort());
}

/** Reads the rows of these MACs. */
export function readRows(
  ask: (command: Command) => unknown,
  overlay: number,
  macs: Float64Array,
): readonly TableRow[] {
  const rows: TableRow[] = [];
  for (let done = 0; done < macs.length;) {
    const request = { kind: 'describe-targets', overlay, macs: macs.slice(done), reply: 1 } as const;
    const description = ask(request) as TargetDescription;
    rows.push(...description.rows);
    done += description.count;
  }
  return rows;
}
