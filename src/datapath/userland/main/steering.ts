/**
 * Which queue of a TAP gets a frame that the stack sends: the BPF program of steering-program.ts decides.
 *
 * Left alone, the kernel gives a flow to the queue that last wrote a frame of it, and forgets that after 3 s: the flow
 * moves whenever an answer comes, and what still waits in the old queue is overtaken.
 *
 * To load a program takes CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), which varpd gives up before it does anything else. So
 * the program is loaded first, and its descriptor is left to each process that this one becomes. Without a program one
 * queue gets all frames, and its thread sends them all: order comes before speed.
 */
import {
  isAnonymous,
  loadProgram,
  setInheritable,
  setTapQueue,
  setTapSteering,
} from '../../../dgram-extra/index.js';

let program: number | undefined;

/** What the process before has left (`leaveSteering`), or a program of our own, where this process may load one. */
export async function openSteering(left?: string): Promise<void> {
  const isLeft = left !== undefined && /^\d{1,9}$/.test(left) && isAnonymous(Number(left), 'bpf-prog');
  program = isLeft ? Number(left) : loadProgram((await import('./steering-program.js')).steeringProgram());
  if (program !== undefined) setInheritable(program, false);
}

/** For the process that this one is about to become, or starts to be the daemon: the descriptor of the program. Undefined where there is
 * none. */
export function leaveSteering(): string | undefined {
  if (program === undefined) return undefined;
  setInheritable(program, true);
  return String(program);
}

/** This kernel takes a program, and there is one. */
export function canSteer(): boolean {
  return program !== undefined;
}

/** One queue for each flow; all flows in the first queue where that cannot be had. False then. */
export function steerByFlow(queues: readonly number[], name: string): boolean {
  const [first, ...others] = queues;
  const isSteered = program !== undefined && setTapSteering(first, program, name);
  // A detached queue gets no frame, and what is written to it arrives as before.
  for (const fd of others) setTapQueue(fd, isSteered, name);
  return isSteered;
}
