/** Reports the drops of an overlay, from the memory that its threads write: counters, and the last frame of each reason. */
import { type DropExample, type DropExamples, readDropExample } from '../../../core/counts/drop-examples.js';
import { TICK_MS } from '../../../core/tables/target-table.js';
import { type DropReason, DROPS } from '../../../model/drops.js';
import type { DroppedFrame, DropReport } from '../../contract.js';

/** One for each reason that has a frame, in the order of the documentation. `examples`: those of all threads, and of their
 * sockets. */
export function dropReports(
  counters: Readonly<Record<string, number>>,
  examples: readonly DropExamples[],
): DropReport[] {
  const now = nowTick();
  return (Object.keys(DROPS) as DropReason[])
    .filter((reason) => (counters[reason] ?? 0) > 0)
    .map((reason) => ({ reason, frames: counters[reason] ?? 0, last: newest(examples, reason, now) }));
}

/** The clock of the datapath threads: worker.ts. */
export function nowTick(): number {
  return Math.floor(Number(process.hrtime.bigint() / 1_000_000n) / TICK_MS) | 0;
}

function newest(
  examples: readonly DropExamples[],
  reason: DropReason,
  now: number,
): DroppedFrame | undefined {
  // Ticks wrap around: only their distance counts.
  const ageTicks = ({ tick }: DropExample): number => Math.max(0, (now - tick) | 0);
  const first = examples
    .map((memory) => readDropExample(memory, reason))
    .filter((example) => example !== undefined)
    .sort((a, b) => ageTicks(a) - ageTicks(b))
    .at(0);
  if (first === undefined) return undefined;
  const { from, port, lengthBytes, beginning } = first;
  return { ageMs: ageTicks(first) * TICK_MS, from, port, lengthBytes, beginning };
}
