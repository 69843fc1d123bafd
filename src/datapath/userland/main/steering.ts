/**
 * Assigns frames that the stack sends to queues of a TAP: the BPF program of steering-program.ts decides.
 *
 * By default the kernel gives a flow to the queue that last wrote a frame of it, and forgets that after 3 s.
 * So a flow moves when an answer comes, and frames that still wait in the old queue are overtaken.
 *
 * Loading a program takes CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), which varpd gives up before anything
 * else. So the program is loaded first, and its descriptor is inherited by each process that this one
 * becomes. Without a program one queue gets all frames, and its thread sends them all: order is more
 * important than speed.
 */
import {
  isAnonymous,
  loadProgram,
  setInheritable,
  setTapQueue,
  setTapSteering,
} from '../../../dgram-extra/index.js';

let program: number | undefined;

/** Takes the program that the previous process left (`leaveSteering`), or loads a new one if this process
 * may. */
export async function openSteering(left?: string): Promise<void> {
  const isLeft = left !== undefined && /^\d{1,9}$/.test(left) && isAnonymous(Number(left), 'bpf-prog');
  program = isLeft ? Number(left) : loadProgram((await import('./steering-program.js')).steeringProgram());
  if (program !== undefined) setInheritable(program, false);
}

/** Returns the descriptor of the program for the process that this one is about to become, or that it starts
 * as the daemon. Undefined if there is none. */
export function leaveSteering(): string | undefined {
  if (program === undefined) return undefined;
  setInheritable(program, true);
  return String(program);
}

/** Returns whether there is a program, and this kernel accepts it. */
export function canSteer(): boolean {
  return program !== undefined;
}

/** Assigns each flow to one queue. Returns false if that is not possible; then all flows are in the first
 * queue. */
export function steerByFlow(queues: readonly number[], name: string): boolean {
  const [first, ...others] = queues;
  const isSteered = program !== undefined && setTapSteering(first, program, name);
  // A detached queue gets no frame, and frames written to it arrive as before.
  for (const fd of others) setTapQueue(fd, isSteered, name);
  return isSteered;
}
