/** Monotonic time: the same for all threads of the process, and for the control side (`process.hrtime`). */
import { performance } from 'node:perf_hooks';

/** `performance.now` of each thread starts with it; what threads share has times in it. */
const startedMs = Number(process.hrtime.bigint() / 1000n) / 1000 - performance.now();

export const nowMs = (): number => startedMs + performance.now();
