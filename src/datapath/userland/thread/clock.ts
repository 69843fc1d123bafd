/** Monotonic time: one clock for all threads of the process and for its control thread (`process.hrtime`). */
import { performance } from 'node:perf_hooks';

/** Start of this thread's own clock, on the monotonic clock that all threads share: shared memory has times
 * in it. */
const startedMs = Number(process.hrtime.bigint() / 1000n) / 1000 - performance.now();

export const nowMs = (): number => startedMs + performance.now();
