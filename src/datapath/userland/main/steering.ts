/**
 * Assigns frames that the stack sends to queues of a TAP: the BPF program of steering-program.ts decides.
 *
 * By default the kernel gives a flow to the queue that last wrote a frame of it, and forgets that after 3 s.
 * So a flow moves when an answer comes, and frames that still wait in the old queue are overtaken.
 *
 * Without a program (inherited-program.ts) one queue gets all frames, and its thread sends them all: order is more
 * important than speed.
 */
import { setTapQueue, setTapSteering } from '../../../dgram-extra/index.js';
import { InheritedProgram } from './inherited-program.js';

export const steering = new InheritedProgram('filter', async () =>
  (await import('./steering-program.js')).steeringProgram(),
);

/** Returns whether there is a program, and this kernel accepts it. */
export function canSteer(): boolean {
  return steering.fd !== undefined;
}

/** Assigns each flow to one queue. Returns false if that is not possible; then all flows are in the first
 * queue. */
export function steerByFlow(queues: readonly number[], name: string): boolean {
  const [first, ...others] = queues;
  const program = steering.fd;
  const isSteered = program !== undefined && setTapSteering(first, program, name);
  // A detached queue gets no frame, and frames written to it arrive as before.
  for (const fd of others) setTapQueue(fd, isSteered, name);
  return isSteered;
}
