/** The contract of explanations: each thread says what it would do with a frame (core/dry-run/dry-run.ts). */
import type { Explained } from '../core/dry-run/dry-facts.js';
import type { DryFrame } from '../core/dry-run/dry-run.js';

/** The explanations of the threads of an overlay. */
export interface FrameExplanation {
  /** One for each thread; none if the overlay is gone. */
  readonly threads: readonly Explained[];
  /** UDP ports of the sockets that a thread sends from, in their order. */
  readonly sourcePorts: readonly number[];
}

export interface ExplainedDatapath {
  /** Says what would be done with a frame now. Nothing is done. */
  explain(frame: DryFrame): Promise<FrameExplanation>;
}
